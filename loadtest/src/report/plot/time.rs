//! Latency and memory, second by second.

use std::path::{Path, PathBuf};

use super::canvas::{Axis, Curve, curve, lines, picture};
use crate::number::count;
use crate::report::measured::Second;
use crate::report::results::Results;
use crate::report::run_report::Report;

/// One plot a scenario that kept a series.
pub(super) fn draw(results: &Results, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for scenario in results.scenarios() {
        // Rounds are alike; the first has what there is to see.
        let mut runs: Vec<&Report> = Vec::new();
        for run in &results.runs {
            let is_new = !runs.iter().any(|known| known.target == run.target);
            if run.scenario == scenario && !run.series.is_empty() && is_new {
                runs.push(run);
            }
        }
        if runs.is_empty() {
            continue;
        }
        let mut p99 = curves(&runs, |second| second.p99_ms);
        let memory = curves(&runs, |second| Some(count(second.resident_kib?) / 1_024.0));
        let seconds = p99.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
        let across = Axis::linear("seconds", seconds);
        let up = Axis::up("p99 latency, ms", &mut p99);
        let amounts = memory.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
        let amount = Axis::linear("memory, MiB", amounts);
        let headline = format!("Latency and memory over time, {scenario}");
        let file = folder.join(format!("time-{scenario}"));
        files.extend(picture(&file, &headline, &p99, 760, |area| {
            let (upper, lower) = area.split_vertically(330);
            lines(&upper, &across, &up, &p99)?;
            lines(&lower, &across, &amount, &memory)
        })?);
    }
    Ok(files)
}

/// A curve a run, without the seconds that nothing is known of.
fn curves(runs: &[&Report], value: impl Fn(&Second) -> Option<f64>) -> Vec<Curve> {
    let points = |run: &Report| -> Vec<(f64, f64)> {
        run.series.iter().filter_map(|second| Some((second.seconds, value(second)?))).collect()
    };
    runs.iter().map(|run| curve(&run.target, points(run))).collect()
}
