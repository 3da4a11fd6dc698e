//! Runs several servers in turns and sets their medians side by side.
//!
//! In turns, because a machine drifts: neighbours, frequency and memory are then nearly the same for all.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::Clock;
use crate::report::{self, Figure, Report, number};
use crate::run::{Job, run};

/// Every run of a comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Each run, in the order they were made.
    pub runs: Vec<Report>,
    /// Medians over the rounds by server, then by figure.
    pub medians: BTreeMap<String, BTreeMap<&'static str, f64>>,
    /// The server that ratios refer to.
    pub base: Option<String>,
}

/// Runs every job `rounds` times in turns.
///
/// # Errors
///
/// The first run that could not be made.
pub fn compare(
    jobs: &[Job],
    rounds: u32,
    base: Option<String>,
    clock: Clock,
) -> Result<Comparison, Box<dyn std::error::Error>> {
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for job in jobs {
            runs.push(run(job, round, clock)?);
        }
    }
    let mut medians = BTreeMap::new();
    for job in jobs {
        medians.insert(job.label.clone(), medians_of(&runs, &job.label));
    }
    Ok(Comparison { runs, medians, base })
}

impl Comparison {
    /// Prints the table: medians, and ratios to the base where they mean something.
    pub fn print(&self, jobs: &[Job]) {
        if let [only] = self.runs.as_slice() {
            return report::print(only);
        }
        let rounds = self.runs.len() / jobs.len().max(1);
        let name = self.runs.first().map_or("", |run| run.scenario.name());
        println!("{name}, medians of {rounds} round(s)");
        let labels: Vec<&str> = jobs.iter().map(|job| job.label.as_str()).collect();
        self.print_head(&labels);
        for figure in self.figures() {
            self.print_row(&figure, &labels);
        }
        for run in &self.runs {
            report::print_remarks(run);
        }
    }

    /// Whether every run was free of faults.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| run.faults.is_empty())
    }

    fn print_head(&self, labels: &[&str]) {
        print!("  {:<34}", "");
        for label in labels {
            print!("{label:>14}");
        }
        for label in self.rated(labels) {
            print!("{:>22}", format!("{label}/{}", self.base.as_deref().unwrap_or_default()));
        }
        println!();
    }

    fn print_row(&self, figure: &Figure, labels: &[&str]) {
        print!("  {:<34}", figure.label);
        for label in labels {
            print!("{:>14}", number(self.median(label, figure.key)));
        }
        if figure.has_ratio {
            for label in self.rated(labels) {
                let base = self.median(self.base.as_deref().unwrap_or_default(), figure.key);
                let ratio = self.median(label, figure.key) / base;
                let text = if ratio.is_finite() { format!("{ratio:.2}x") } else { "-".to_owned() };
                print!("{text:>22}");
            }
        }
        println!();
    }

    /// The labels that get a ratio.
    fn rated<'a>(&'a self, labels: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        let base = self.base.as_deref();
        labels.iter().copied().filter(move |label| base.is_some_and(|base| base != *label))
    }

    fn median(&self, label: &str, key: &str) -> f64 {
        let median = self.medians.get(label).and_then(|figures| figures.get(key));
        median.copied().unwrap_or(f64::NAN)
    }

    /// Every figure any server has, in the order of the report that has most.
    fn figures(&self) -> Vec<Figure> {
        self.runs.iter().map(Report::figures).max_by_key(Vec::len).unwrap_or_default()
    }
}

fn medians_of(runs: &[Report], label: &str) -> BTreeMap<&'static str, f64> {
    let mut values: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.target == label) {
        for figure in run.figures() {
            values.entry(figure.key).or_default().push(figure.value);
        }
    }
    values.into_iter().map(|(key, values)| (key, median(values))).collect()
}

/// The middle value, or the mean of the two middle ones.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}
