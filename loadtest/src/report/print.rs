//! Prints a report.

use super::found::Found;
use super::run_report::Report;
use crate::number::number;

/// Prints one report for people.
pub fn print(report: &Report) {
    println!("{} against {}", report.scenario.name(), report.target);
    for figure in report.figures() {
        println!("  {:<34}{:>14}", figure.label, number(figure.value));
    }
    if let Some(drain) = &report.drain {
        println!("  closes by second after the signal: {:?}", drain.closes_by_second);
    }
    for line in report.found.iter().flat_map(Found::lines) {
        println!("  {line}");
    }
    print_remarks(report);
}

/// Prints faults and notes of `report`, if there are any.
pub fn print_remarks(report: &Report) {
    let Report { target, round, .. } = report;
    for note in &report.notes {
        println!("  note ({target}, round {round}): {note}");
    }
    for fault in &report.faults {
        println!("  FAULT ({target}, round {round}): {fault}");
    }
}
