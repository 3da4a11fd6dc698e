//! How latency is distributed: which share of deliveries took at most so long, stretched towards the slowest.

use std::path::{Path, PathBuf};

use super::canvas::{Axis, Curve, curve, lines, picture};
use crate::plan::scenario::Scenario;
use crate::report::results::Results;
use crate::report::run_report::Report;

/// One plot a scenario that recorded latencies.
pub(super) fn draw(results: &Results, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for scenario in results.scenarios() {
        let mut curves = curves(results, scenario);
        if curves.is_empty() {
            continue;
        }
        let settings = results.runs.iter().find(|run| run.scenario == scenario).map(|run| &run.settings);
        let headline = settings.map_or(String::new(), |settings| {
            let (connections, rate) = (settings.connections, settings.rate_per_s);
            format!("Publish to read, {scenario}: {connections} subscribers, {rate} events/s")
        });
        let across = Axis {
            title: "percent of deliveries".to_owned(),
            range: 0.0..END,
            ticks: [0.0, 50.0, 90.0, 99.0, 99.9, 99.99].map(|one| (stretched(one), one.to_string())).to_vec(),
        };
        let up = Axis::up("milliseconds", &mut curves);
        let file = folder.join(format!("latency-{scenario}"));
        files.extend(picture(&file, &headline, &curves, 560, |area| lines(area, &across, &up, &curves))?);
    }
    Ok(files)
}

/// Each server's median over its rounds, percentile by percentile.
fn curves(results: &Results, scenario: Scenario) -> Vec<Curve> {
    let of_server = |server: &str| {
        let is_of = |run: &&Report| run.scenario == scenario && run.target == server;
        let runs: Vec<&Report> =
            results.runs.iter().filter(is_of).filter(|run| !run.latency_percentiles.is_empty()).collect();
        let first = runs.first()?;
        let points = first.latency_percentiles.iter().enumerate().filter_map(|(at, (percentile, _))| {
            let mut values: Vec<f64> = runs
                .iter()
                .filter_map(|run| run.latency_percentiles.get(at))
                .map(|(_, milliseconds)| *milliseconds)
                .collect();
            values.sort_by(f64::total_cmp);
            Some((stretched(*percentile), *values.get(values.len() / 2)?))
        });
        let mut curve = curve(server, points.collect());
        if results.outcome(scenario, server).is_some_and(|outcome| outcome.shortfall.is_some()) {
            curve.label += " (can't sustain it)";
        }
        Some(curve)
    };
    results.servers.iter().filter_map(|server| of_server(&server.name)).collect()
}

/// The number of nines.
fn stretched(percentile: f64) -> f64 {
    (-(1.0 - percentile / 100.0).log10()).clamp(0.0, END)
}

/// Up to 99.99 %, and the slowest a little beyond.
const END: f64 = 4.4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nine_takes_the_same_room() {
        let places = [0.0, 90.0, 99.0, 99.9].map(stretched);
        for (place, wanted) in places.into_iter().zip([0.0, 1.0, 2.0, 3.0]) {
            assert!((place - wanted).abs() < 1e-9, "{place}, wanted {wanted}");
        }
        assert!((stretched(100.0) - END).abs() < 1e-9, "the slowest stays on the paper");
    }
}
