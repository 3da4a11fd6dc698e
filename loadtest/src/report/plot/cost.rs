//! How cost grows with connections, and with rooms and the rate of events: the points of `scale`.

use std::path::{Path, PathBuf};

use super::canvas::{Axis, Curve, curve, lines, picture};
use crate::number::count;
use crate::report::found::{Found, Point};
use crate::report::results::Results;
use crate::report::run_report::Report;

/// A title, and what is drawn under it.
type Panel = (&'static str, fn(&Point) -> f64);

/// What grows, and what is looked at while it does.
struct Growth {
    along: &'static str,
    headline: &'static str,
    across: &'static str,
    /// Whether it grows tenfold from point to point.
    is_tenfold: bool,
    value: fn(&Point) -> f64,
    panels: [Panel; 3],
}

const GROWTHS: [Growth; 2] = [
    Growth {
        along: "connections",
        headline: "How cost grows with connections",
        across: "connections",
        is_tenfold: false,
        value: |point| count(point.connections as u64),
        panels: [
            ("CPU per delivery, µs", |point| point.cpu_us_each),
            ("p99 latency, ms", |point| point.p99_ms),
            ("memory, MiB", |point| count(point.resident_kib.unwrap_or(0)) / 1_024.0),
        ],
    },
    Growth {
        along: "rooms",
        headline: "How cost grows with rooms and events",
        across: "events/s over all rooms",
        is_tenfold: true,
        value: |point| f64::from(point.rate_per_s),
        panels: [
            ("CPU per delivery, µs", |point| point.cpu_us_each),
            ("CPU, % of a core", |point| point.cpu_percent),
            ("p99 latency, ms", |point| point.p99_ms),
        ],
    },
];

/// One plot for each kind of growth that was measured.
pub(super) fn draw(results: &Results, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut servers: Vec<(&str, &[Point])> = Vec::new();
    for run in &results.runs {
        let points = points(run);
        // Rounds are alike; the first has what there is to see.
        if !points.is_empty() && !servers.iter().any(|(server, _)| *server == run.target) {
            servers.push((&run.target, points));
        }
    }
    let mut files = Vec::new();
    for growth in &GROWTHS {
        let panels = growth.panels.map(|(title, value)| (title, curves(&servers, growth, value)));
        if panels[0].1.is_empty() {
            continue;
        }
        let reached = || panels[0].1.iter().flat_map(|curve| &curve.points).map(|point| point.0);
        let across = if growth.is_tenfold {
            Axis::powers(growth.across, reached())
        } else {
            Axis::linear(growth.across, reached())
        };
        let file = folder.join(format!("cost-{}", growth.along));
        files.extend(picture(&file, growth.headline, &panels[0].1, 860, |area| {
            for (panel, (title, curves)) in area.split_evenly((panels.len(), 1)).iter().zip(&panels) {
                let values = curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
                lines(panel, &across, &Axis::linear(title, values), curves)?;
            }
            Ok(())
        })?);
    }
    Ok(files)
}

/// The points of a run of `scale`.
fn points(run: &Report) -> &[Point] {
    match &run.found {
        Some(Found::Scale(scale)) => &scale.points,
        _ => &[],
    }
}

fn curves(servers: &[(&str, &[Point])], growth: &Growth, value: fn(&Point) -> f64) -> Vec<Curve> {
    let of_server = |(server, points): &(&str, &[Point])| {
        let along = points.iter().filter(|point| point.along == growth.along);
        let place = |point: &Point| {
            let across = (growth.value)(point);
            (if growth.is_tenfold { across.max(1.0).log10() } else { across }, value(point))
        };
        curve(server, along.map(place).collect())
    };
    servers.iter().map(of_server).filter(|curve| !curve.points.is_empty()).collect()
}
