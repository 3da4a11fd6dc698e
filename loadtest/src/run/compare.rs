//! Runs several servers in turns and sets their medians side by side.
//!
//! In turns, because a machine drifts: frequency, memory and other programs are then nearly the same for all. A peer that
//! can't sustain a load is shown as such; the comparison goes on. Every run is bounded in time, and a peer that fell short
//! twice in a scenario is not run a third time.

use std::collections::BTreeMap;

use super::run;
use crate::client::clock::Clock;
use crate::number::number;
use crate::plan::job::{Job, Plan};
use crate::plan::scenario::Scenario;
use crate::plan::source::Source;
use crate::report::figure::Figure;
use crate::report::print;
use crate::report::results::{LeftOut, Outcome, Results, Server};
use crate::report::run_report::Report;
use crate::report::table::{Table, shortfalls, title};
use crate::target::version::version;

/// Runs every job `rounds` times in turns, one scenario after the other. `keep` gets the results so far after each.
///
/// # Errors
///
/// The server under test could not be measured, no server can be, or `keep` failed.
pub fn compare(
    plan: &Plan,
    clock: Clock,
    mut keep: impl FnMut(&Results) -> Result<(), String>,
) -> Result<Results, Box<dyn std::error::Error>> {
    let mut results = Results::new(plan.name.clone(), plan.rounds, plan.base.clone());
    let jobs = present(&plan.jobs, &mut results)?;
    let mut scenarios: Vec<Scenario> = Vec::new();
    for job in &jobs {
        if !scenarios.contains(&job.scenario) {
            scenarios.push(job.scenario);
        }
    }
    for scenario in scenarios {
        let turns: Vec<&Job> = jobs.iter().filter(|job| job.scenario == scenario).collect();
        rounds(&turns, plan.rounds, clock, &mut results)?;
        keep(&results)?;
    }
    Ok(results)
}

/// The jobs whose servers are there. Each missing server is named and left out.
fn present(jobs: &[Job], results: &mut Results) -> Result<Vec<Job>, Box<dyn std::error::Error>> {
    let mut present = Vec::new();
    for job in jobs {
        let is_known = |name: &String| *name == job.label;
        if results.servers.iter().map(|server| &server.name).any(is_known) {
            present.push(job.clone());
        } else if !results.left_out.iter().map(|left_out| &left_out.name).any(is_known) {
            match version(&job.source) {
                Ok(version) => {
                    results.servers.push(Server { name: job.label.clone(), version });
                    present.push(job.clone());
                }
                // Without the server under test there is nothing to compare.
                Err(err) if !matches!(job.source, Source::Peer(_)) || jobs.len() == 1 => {
                    return Err(err.into());
                }
                Err(err) => {
                    eprintln!("{} is left out: {err}", job.label);
                    results.left_out.push(LeftOut { name: job.label.clone(), why: err.to_string() });
                }
            }
        }
    }
    if present.is_empty() { Err("nothing to run".into()) } else { Ok(present) }
}

/// One scenario: all rounds, then the medians.
fn rounds(
    turns: &[&Job],
    rounds: u32,
    clock: Clock,
    results: &mut Results,
) -> Result<(), Box<dyn std::error::Error>> {
    let is_alone = turns.len() == 1;
    let mut shortfalls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let first = results.runs.len();
    for round in 1..=rounds {
        for job in turns {
            let is_peer = matches!(job.source, Source::Peer(_)) && !is_alone;
            let short = shortfalls.entry(&job.label).or_default();
            if is_peer && short.len() >= SHORT_MAX {
                continue;
            }
            match run(job, round, clock) {
                Ok(report) => {
                    if rounds > 1 || !is_alone {
                        tell(&report);
                    }
                    short.extend(report.shortfall());
                    results.runs.push(report);
                }
                Err(err) if is_peer => {
                    // It would fail as slowly again.
                    eprintln!("{} #{round} {}: given up: {err}", job.scenario.name(), job.label);
                    short.resize(SHORT_MAX, format!("could not be measured: {err}"));
                }
                Err(err) => return Err(err),
            }
        }
    }
    for job in turns {
        let runs: Vec<&Report> = results.runs[first..].iter().filter(|run| run.target == job.label).collect();
        let short = shortfalls.remove(job.label.as_str()).unwrap_or_default();
        let outcome = outcome(job, &runs, short);
        results.outcomes.push(outcome);
    }
    Ok(())
}

/// What the runs of one server in one scenario come to. It sustains the load if most runs did.
fn outcome(job: &Job, runs: &[&Report], short: Vec<String>) -> Outcome {
    let is_short = short.len() >= SHORT_MAX || short.len() * 2 > runs.len();
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for run in runs {
        let counts = run.shortfall().is_none();
        let is_open = run.opening.failed == 0;
        for figure in run.figures() {
            let is_valid = if OPENING.contains(&figure.key) { is_open } else { counts && !is_short };
            if is_valid && figure.value.is_finite() {
                values.entry(figure.key).or_default().push(figure.value);
            }
        }
    }
    let medians = values.into_iter().map(|(key, values)| (key.to_owned(), median(values))).collect();
    let shortfall = short.into_iter().next().filter(|_| is_short);
    Outcome { scenario: job.scenario, server: job.label.clone(), medians, shortfall }
}

/// One line a run, since a suite takes a while.
fn tell(report: &Report) {
    let Report { scenario, target, round, .. } = report;
    let text = match (report.shortfall(), &report.traffic) {
        (Some(why), _) => format!("can't sustain it: {why}"),
        (None, Some(traffic)) => {
            let (cpu, p99) = (number(traffic.cpu_us_each), number(traffic.latency_p99_ms));
            format!("{cpu} us per delivery, p99 {p99} ms")
        }
        (None, None) => format!("{} KiB per connection", number(report.memory.each_kib)),
    };
    eprintln!("{} #{round} {target}: {text}", scenario.name());
}

/// Prints what was found: one report, the figures of one scenario, or the table of several.
pub fn print(results: &Results) {
    if let [only] = results.runs.as_slice() {
        return print::print(only);
    }
    let rounds = results.rounds;
    if let [only] = results.scenarios().as_slice() {
        println!("{only}, medians of {rounds} round(s)");
        print_figures(results, *only);
    } else {
        println!("{}, medians of {rounds} round(s)\n", results.name);
        print!("{}", Table::of(results).to_text());
    }
    for (server, why) in shortfalls(results) {
        println!("  {server} can't sustain it: {why}");
    }
    for left_out in &results.left_out {
        println!("  {} was left out: {}", title(&left_out.name), left_out.why);
    }
    for run in &results.runs {
        print::print_remarks(run);
    }
}

/// The runs that count: those of the server under test, or all if there is none.
#[must_use]
pub fn counted<'a>(results: &'a Results, jobs: &[Job]) -> Vec<&'a Report> {
    let is_tested =
        |label: &str| jobs.iter().any(|job| job.label == label && !matches!(job.source, Source::Peer(_)));
    let is_any_tested = jobs.iter().any(|job| is_tested(&job.label));
    results.runs.iter().filter(|run| !is_any_tested || is_tested(&run.target)).collect()
}

/// Every figure of one scenario, a column a server, then the ratios to the base.
fn print_figures(results: &Results, scenario: Scenario) {
    let labels: Vec<&str> = results.servers.iter().map(|server| server.name.as_str()).collect();
    let base = results.base.as_deref().unwrap_or_default();
    let rated: Vec<&str> =
        labels.iter().copied().filter(|label| !base.is_empty() && *label != base).collect();
    print!("  {:<34}", "");
    for label in &labels {
        print!("{label:>16}");
    }
    for label in &rated {
        print!("{:>22}", format!("{label}/{base}"));
    }
    println!();
    for figure in figures(results) {
        print!("  {:<34}", figure.label);
        let median = |label: &str| results.median(scenario, label, figure.key);
        for label in &labels {
            print!("{:>16}", number(median(label)));
        }
        for label in &rated {
            let ratio = median(label) / median(base);
            let is_shown = figure.has_ratio && ratio.is_finite();
            print!("{:>22}", if is_shown { format!("{ratio:.2}x") } else { "-".to_owned() });
        }
        println!();
    }
}

/// Every figure any server has, in the order of the report that has most.
fn figures(results: &Results) -> Vec<Figure> {
    results.runs.iter().map(Report::figures).max_by_key(Vec::len).unwrap_or_default()
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

/// Figures that stand before anything is published.
const OPENING: [&str; 4] = ["memory_each_kib", "accept_cpu_us", "accept_per_s", "connect_p99_ms"];
/// A peer that fell short so often in a scenario is not run again in it.
const SHORT_MAX: usize = 2;

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
