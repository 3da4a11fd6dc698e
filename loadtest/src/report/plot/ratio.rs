//! How much more each server needs than the base, question by question.

use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Area, Axis, Curve, Frame, INK, Outcome, SOFT, color, curve, picture, text, write};
use crate::plan::scenario::Scenario;
use crate::report::results::Results;
use crate::report::table::title;

/// What is asked, and the lines it takes under the bars.
const QUESTIONS: [(Scenario, &str, [&str; 2]); 7] = [
    (Scenario::Fanout, "memory_each_kib", ["memory of an", "idle connection"]),
    (Scenario::Fanout, "accept_cpu_us", ["CPU to accept", "a connection"]),
    (Scenario::Fanout, "cpu_us", ["CPU per delivery", "fanout"]),
    (Scenario::Dense, "cpu_us", ["CPU per delivery", "dense"]),
    (Scenario::Burst, "cpu_us", ["CPU per delivery", "burst"]),
    (Scenario::Rooms, "cpu_us", ["CPU per delivery", "rooms"]),
    (Scenario::Latency, "p99_ms", ["p99 latency", "small room"]),
];

/// One plot, if several servers were measured against a base.
pub(super) fn draw(results: &Results, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let Some(base) = &results.base else {
        return Ok(Vec::new());
    };
    let curves = curves(results, base);
    let values: Vec<f64> = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1)).collect();
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let up = Axis::powers(
        &format!("times the {}", title(base)),
        values.into_iter().chain([0.0]).collect::<Vec<_>>().into_iter(),
    );
    let headline = format!("What each server needs, compared with the {} (less is better)", title(base));
    picture(&folder.join("ratios"), &headline, &curves, 560, |area| bars(area, &up, &curves))
}

/// One for each server but the base: question and logarithm of the ratio.
fn curves(results: &Results, base: &str) -> Vec<Curve> {
    let others = results.servers.iter().filter(|server| server.name != base);
    let of_server = |server: &str| {
        let ratio = |(at, (scenario, key, _)): (usize, &(Scenario, &str, [&str; 2]))| {
            let ratio = results.median(*scenario, server, key) / results.median(*scenario, base, key);
            (ratio.is_finite() && ratio > 0.0).then(|| (place(at), ratio.log10()))
        };
        curve(server, QUESTIONS.iter().enumerate().filter_map(ratio).collect())
    };
    others.map(|server| of_server(&server.name)).filter(|curve| !curve.points.is_empty()).collect()
}

fn bars(area: &Area, up: &Axis, curves: &[Curve]) -> Outcome {
    // Questions without an answer take no room.
    let mut asked: Vec<f64> =
        curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0)).collect();
    asked.sort_by(f64::total_cmp);
    asked.dedup();
    let is_all = curves.iter().all(|curve| curve.points.len() == asked.len());
    let across = Axis { title: String::new(), range: 0.0..place(asked.len()), ticks: Vec::new() };
    let frame = Frame::draw(area, &across, up)?;
    if !is_all {
        let (right, _) = frame.at(across.range.end, 0.0);
        write(area, "× could not sustain it", (right, 8), (14, SOFT), HPos::Right)?;
    }
    let width = 0.84 / place(curves.len());
    for (nth, question) in asked.iter().enumerate() {
        let left = place(nth);
        for (line, words) in words(*question).into_iter().enumerate() {
            let (x, y) = frame.at(left + 0.5, up.range.start);
            let y = y + 8 + 18 * i32::try_from(line).unwrap_or(0);
            write(area, words, (x, y), (13, SOFT), HPos::Center)?;
        }
        for (at, curve) in curves.iter().enumerate() {
            let from = left + 0.08 + width * place(at);
            let value = curve.points.iter().find(|point| (point.0 - question).abs() < 0.5);
            let Some((_, value)) = value else {
                let (x, y) = frame.at(from + width / 2.0, 0.0);
                write(area, "×", (x, y - 18), (14, color(&curve.server)), HPos::Center)?;
                continue;
            };
            let (begin, end) = (frame.at(from, 0.0), frame.at(from + width * 0.9, *value));
            area.draw(&Rectangle::new([begin, end], color(&curve.server).filled())).map_err(text)?;
            let beyond = if *value < 0.0 { 2 } else { -14 };
            let place = (i32::midpoint(begin.0, end.0), end.1 + beyond);
            write(area, &label(10_f64.powf(*value)), place, (10, INK), HPos::Center)?;
        }
    }
    // Where the base itself stands.
    let (from, to) = (frame.at(0.0, 0.0), frame.at(across.range.end, 0.0));
    area.draw(&PathElement::new(vec![from, to], SOFT.stroke_width(2))).map_err(text)
}

fn words(question: f64) -> [&'static str; 2] {
    let found = QUESTIONS.iter().enumerate().find(|(at, _)| (place(*at) - question).abs() < 0.5);
    found.map_or(["", ""], |(_, (_, _, words))| *words)
}

/// Short enough to stand over a bar.
fn label(ratio: f64) -> String {
    if ratio < 9.95 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
}

fn place(nth: usize) -> f64 {
    u32::try_from(nth).map_or(0.0, f64::from)
}
