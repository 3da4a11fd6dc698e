//! Cost as connections grow, and as rooms and with them the rate do: plain traffic at one point after the other.
//!
//! Every point has a server of its own, unless one runs already. Along the rooms each room keeps its rate, so deliveries a
//! second stay the same while publishes grow.

use super::one::run_one;
use crate::client::clock::Clock;
use crate::number::add_counts;
use crate::plan::job::Job;
use crate::plan::scenario::{Scenario, Settings};
use crate::report::found::{Found, Point, Scale};
use crate::report::measured::Traffic;
use crate::report::run_report::Report;

/// Runs every point; the report has the last point's figures besides.
pub(super) fn run(job: &Job, round: u32, clock: Clock) -> Result<Report, Box<dyn std::error::Error>> {
    let mut scale = Scale::default();
    let mut all = Report::new(job.scenario, job.label.clone(), round, job.settings.clone());
    for (along, settings) in points(&job.settings) {
        let (connections, rooms) = (settings.connections, settings.rooms);
        let point = Job { scenario: Scenario::Rooms, settings, ..job.clone() };
        let report = run_one(&point, round, clock)?;
        let at = |text: &String| format!("{connections} connections, {rooms} rooms: {text}");
        all.faults.extend(report.faults.iter().map(at));
        all.notes.extend(report.notes.iter().map(at));
        scale.points.push(point_of(along, &report));
        all.usage_from = report.usage_from;
        all.opening = report.opening;
        all.memory = report.memory;
        all.traffic = Some(sum(all.traffic.take(), report.traffic.unwrap_or_default()));
    }
    all.found = Some(Found::Scale(scale));
    Ok(all)
}

/// What is counted is of all points; what is measured of the last one.
fn sum(before: Option<Traffic>, mut last: Traffic) -> Traffic {
    let Some(before) = before else {
        return last;
    };
    add_counts!(
        last, before;
        events_offered, events_sent, events_accepted, requests_refused, deliveries_expected, deliveries, lost,
        lost_inside, duplicated, reordered, damaged, gaps, disconnects,
    );
    last.lost_first = before.lost_first.or(last.lost_first);
    last
}

/// The points, and what grows along them.
fn points(settings: &Settings) -> Vec<(&'static str, Settings)> {
    let connections = CONNECTIONS.map(|part| (settings.connections * part / CONNECTIONS_ALL).max(1));
    let mut points: Vec<(&'static str, Settings)> = Vec::new();
    for connections in connections {
        points.push(("connections", Settings { connections, rooms: 1, ..settings.clone() }));
    }
    points.dedup_by_key(|(_, settings)| settings.connections);
    let connections = (settings.connections * ROOMS_AT / CONNECTIONS_ALL).max(1);
    let mut rooms = 1;
    while rooms <= settings.rooms.min(connections) {
        let rate = settings.rate_per_s.saturating_mul(u32::try_from(rooms).unwrap_or(u32::MAX));
        let rate_per_s = rate.min(RATE_MAX);
        points.push(("rooms", Settings { connections, rooms, rate_per_s, ..settings.clone() }));
        rooms *= 10;
    }
    points
}

fn point_of(along: &'static str, report: &Report) -> Point {
    let traffic = report.traffic.clone().unwrap_or_default();
    Point {
        along: along.to_owned(),
        connections: report.settings.connections,
        rooms: report.settings.rooms,
        rate_per_s: report.settings.rate_per_s,
        deliveries_per_s: traffic.deliveries_per_s,
        cpu_us_each: traffic.cpu_us_each,
        cpu_percent: traffic.cpu_percent,
        p50_ms: traffic.latency_p50_ms,
        p99_ms: traffic.latency_p99_ms,
        resident_kib: report.memory.open_kib,
        memory_each_kib: report.memory.each_kib,
    }
}

/// Parts of the most connections: 1,000 to 19,000 by default.
const CONNECTIONS: [usize; 5] = [1, 2, 5, 10, 19];
const CONNECTIONS_ALL: usize = 19;
/// Rooms grow at 10,000 connections by default.
const ROOMS_AT: usize = 10;
const RATE_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_round_by_default() {
        let points = points(&Scenario::Scale.defaults());
        let of = |wanted: &str| -> Vec<(usize, usize, u32)> {
            let those = points.iter().filter(|(along, _)| *along == wanted);
            those.map(|(_, one)| (one.connections, one.rooms, one.rate_per_s)).collect()
        };
        let connections = [1_000, 2_000, 5_000, 10_000, 19_000].map(|connections| (connections, 1, 10));
        assert_eq!(of("connections"), connections);
        let rooms =
            [(1, 10), (10, 100), (100, 1_000), (1_000, 10_000)].map(|(rooms, rate)| (10_000, rooms, rate));
        assert_eq!(of("rooms"), rooms);
    }

    #[test]
    fn few_connections_make_few_points() {
        let points = points(&Settings { connections: 3, rooms: 1_000, ..Scenario::Scale.defaults() });
        assert!(points.iter().all(|(_, one)| (1..=3).contains(&one.connections) && one.rooms == 1));
        assert_eq!(points.len(), 3);
    }
}
