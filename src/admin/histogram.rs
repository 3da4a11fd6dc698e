//! Histograms in the text exposition format, and numbers as Prometheus has them.

use std::fmt::Write as _;

use crate::types::histogram::Histogram;

/// Microseconds in a second.
pub(super) const MICROS: f64 = 1e6;

#[allow(clippy::cast_precision_loss, reason = "Prometheus has only floating-point numbers")]
pub(super) fn count(n: u64) -> f64 {
    n as f64
}

/// Appends a histogram, summed over threads, in the text exposition format. Threads record in parts of the metric's
/// unit, `unit` parts to one.
pub(super) fn put_histogram<S, const N: usize>(
    out: &mut String,
    name: &str,
    help: &str,
    unit: f64,
    threads: &[&S],
    of: impl Fn(&S) -> &Histogram<N>,
) {
    let mut bounds = [(0, 0); N];
    let (mut above, mut total) = (0, 0);
    for stats in threads {
        let (buckets, more, sum) = of(stats).read();
        for (bound, (upto, count)) in bounds.iter_mut().zip(buckets) {
            *bound = (upto, bound.1 + count);
        }
        above += more;
        total += sum;
    }
    let write = |out: &mut String| -> std::fmt::Result {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram")?;
        let mut count = 0;
        for (upto, in_bucket) in bounds {
            count += in_bucket;
            let upto = self::count(upto) / unit;
            writeln!(out, "{name}_bucket{{le=\"{upto}\"}} {count}")?;
        }
        count += above;
        let total = self::count(total) / unit;
        writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {total}\n{name}_count {count}\n")
    };
    write(out).expect("a String takes any text");
}
