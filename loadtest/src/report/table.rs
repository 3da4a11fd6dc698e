//! The comparison as a table: a row for each question, a column for each server.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::results::{Results, Server};
use super::run_report::Report;
use crate::number::{grouped, number};
use crate::plan::scenario::{Scenario, Settings};

/// A question, and where its answer stands.
struct Row {
    /// Where it was measured; the first that was.
    scenarios: &'static [Scenario],
    key: &'static str,
    unit: &'static str,
    label: fn(&Settings) -> String,
}

/// The rows of the table, the most telling first. Memory and the cost of accepting are part of every run, so they need no
/// scenario of their own; in `fanout` every connection is a user of its own, and nothing was published yet.
const ROWS: [Row; 11] = [
    Row {
        scenarios: &[Scenario::Idle, Scenario::Fanout],
        key: "memory_each_kib",
        unit: "KiB",
        label: |settings| {
            format!("memory of an idle connection, {}, each its own user", subscribers(settings))
        },
    },
    cpu(&[Scenario::Fanout], |settings| {
        format!("CPU per delivery, {}, {}", subscribers(settings), rate(settings))
    }),
    same_p99(&[Scenario::Fanout]),
    cpu(&[Scenario::Dense], |settings| {
        format!("CPU per delivery, {}, {}", subscribers(settings), rate(settings))
    }),
    same_p99(&[Scenario::Dense]),
    cpu(&[Scenario::Burst], |settings| {
        let burst = settings.burst;
        format!("CPU per delivery, {}, bursts of {burst}, {}", subscribers(settings), rate(settings))
    }),
    same_p99(&[Scenario::Burst]),
    cpu(&[Scenario::Rooms], |settings| {
        let rooms = grouped(settings.rooms as u64);
        format!("CPU per delivery, {} in {rooms} rooms, {}", subscribers(settings), rate(settings))
    }),
    same_p99(&[Scenario::Rooms]),
    Row {
        scenarios: &[Scenario::Latency],
        key: "p99_ms",
        unit: "ms",
        label: |settings| format!("p99 latency, {}, {}", subscribers(settings), rate(settings)),
    },
    Row {
        scenarios: &[Scenario::Accept, Scenario::Fanout],
        key: "accept_cpu_us",
        unit: "µs",
        label: |_| "CPU per accepted connection".to_owned(),
    },
];

/// The cost of a delivery.
const fn cpu(scenarios: &'static [Scenario], label: fn(&Settings) -> String) -> Row {
    Row { scenarios, key: "cpu_us", unit: "µs", label }
}

/// The slow latencies of what the row before tells the cost of.
const fn same_p99(scenarios: &'static [Scenario]) -> Row {
    Row { scenarios, key: "p99_ms", unit: "ms", label: |_| "p99 latency of the same".to_owned() }
}

/// A table of text.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The comparison of everything in `results`.
    #[must_use]
    pub fn of(results: &Results) -> Self {
        let mut head = vec!["what".to_owned()];
        head.extend(results.servers.iter().map(|server| title(&server.name).to_owned()));
        let row = |row: &Row| {
            let scenario = *row.scenarios.iter().find(|one| results.scenarios().contains(one))?;
            let run = results.runs.iter().find(|run| run.scenario == scenario)?;
            let mut cells = vec![(row.label)(&run.settings)];
            cells.extend(results.servers.iter().map(|server| cell(results, scenario, server, row)));
            Some(cells)
        };
        Self { head, rows: ROWS.iter().filter_map(row).collect() }
    }

    /// For a README.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.head.len()));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{rule}{rows}", line(&self.head))
    }

    /// For a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for line in lines() {
            for (at, cell) in line.iter().enumerate() {
                let width = widths[at];
                // Writing to a string can't fail.
                let _ =
                    if at == 0 { write!(text, "  {cell:<width$}") } else { write!(text, "  {cell:>width$}") };
            }
            text.push('\n');
        }
        text
    }
}

/// The text between the markers of a README: how it was measured, the table, the versions.
#[must_use]
pub fn section(results: &Results) -> String {
    let machine = &results.machine;
    let commit = results.commit.as_ref().map(|commit| format!(", at commit `{commit}`")).unwrap_or_default();
    let seconds = results.runs.iter().map(|run| run.settings.seconds).max().unwrap_or(0);
    let base = results.base.as_deref().map(|base| format!("; in parentheses the ratio to the {base}"));
    let base = base.unwrap_or_default();
    let gib = machine.memory_mib.div_ceil(1_024);
    let versions: Vec<&str> = results.servers.iter().map(|server| server.version.as_str()).collect();
    let mut text = format!(
        "Measured {}{commit} on {} cores of {}, {gib} GiB, Linux {}, client and server on the same cores. Medians of {} \
         rounds in turns, {seconds} s each{base}.\n\n{}\nServers: {}.\n",
        results.date,
        machine.cores,
        machine.cpu,
        machine.kernel,
        results.rounds,
        Table::of(results).to_markdown(),
        versions.join("; "),
    );
    let shortfalls: Vec<String> =
        shortfalls(results).map(|(server, why)| format!("{server}: {why}")).collect();
    if !shortfalls.is_empty() {
        let _ = writeln!(text, "What could not be sustained: {}.", shortfalls.join("; "));
    }
    let losses: Vec<String> = losses(results).collect();
    if !losses.is_empty() {
        let _ = writeln!(text, "Lost, although few enough to have figures: {}.", losses.join("; "));
    }
    for left_out in &results.left_out {
        let _ = writeln!(text, "{} was left out: {}.", title(&left_out.name), left_out.why);
    }
    text
}

/// Servers that can't sustain a scenario, each with the first run's reason.
pub fn shortfalls(results: &Results) -> impl Iterator<Item = (String, String)> {
    results.outcomes.iter().filter_map(|outcome| {
        let server = format!("{} in `{}`", title(&outcome.server), outcome.scenario.name());
        let kept = outcome.shortfall.clone()?;
        let is_of = |run: &&Report| run.scenario == outcome.scenario && run.target == outcome.server;
        let seen = results.runs.iter().filter(is_of).find_map(Report::shortfall);
        Some((server, seen.unwrap_or(kept)))
    })
}

/// Servers that lost events in scenarios that count as sustained.
fn losses(results: &Results) -> impl Iterator<Item = String> {
    let sustained = results.outcomes.iter().filter(|outcome| outcome.shortfall.is_none());
    sustained.filter_map(|outcome| {
        let is_of = |run: &&Report| run.scenario == outcome.scenario && run.target == outcome.server;
        let traffic = results.runs.iter().filter(is_of).filter_map(|run| run.traffic.as_ref());
        let (lost, expected) = traffic.fold((0, 0), |(lost, expected), traffic| {
            (lost + traffic.lost, expected + traffic.deliveries_expected)
        });
        let server = title(&outcome.server);
        let scenario = outcome.scenario.name();
        let (lost_text, expected_text) = (grouped(lost), grouped(expected));
        (lost > 0).then(|| format!("{server} {lost_text} of {expected_text} deliveries in `{scenario}`"))
    })
}

/// Replaces what stands between the markers in the file `readme`; with `is_check` only says whether it is up to date.
///
/// # Errors
///
/// The file can't be read or written, has no markers, or is out of date.
pub fn update(readme: &Path, results: &Results, is_check: bool) -> Result<(), String> {
    let wrong = |err: std::io::Error| format!("{}: {err}", readme.display());
    let text = fs::read_to_string(readme).map_err(wrong)?;
    let Some((head, _, tail)) = split(&text) else {
        return Err(format!("{}: wanted the lines {BEGIN:?} and {END:?}", readme.display()));
    };
    let fresh = format!("{head}\n{}{tail}", section(results));
    match (fresh == text, is_check) {
        (true, _) => Ok(()),
        (false, true) => Err(format!("{}: the figures are out of date", readme.display())),
        (false, false) => fs::write(readme, fresh).map_err(wrong),
    }
}

/// A README up to and with the first marker's line, the figures, and what follows from the second marker on.
#[must_use]
pub fn split(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find(BEGIN)?;
    let line = begin + text[begin..].find('\n')?;
    let end = line + text[line..].find(END)?;
    Some((&text[..line], &text[line + 1..end], &text[end..]))
}

/// The name of a server as its authors write it.
#[must_use]
pub fn title(name: &str) -> &str {
    match name {
        "tidegate" => "Tidegate",
        "go" => "Go",
        "node" => "Node",
        "pushpin" => "Pushpin",
        "nchan" => "nginx + nchan",
        other => other,
    }
}

fn cell(results: &Results, scenario: Scenario, server: &Server, row: &Row) -> String {
    let Some(outcome) = results.outcome(scenario, &server.name) else {
        return "–".to_owned();
    };
    let Some(value) = outcome.medians.get(row.key).copied() else {
        return if outcome.shortfall.is_some() { "can't sustain it" } else { "–" }.to_owned();
    };
    let text = format!("{} {}", significant(value), row.unit);
    let base = results.base.as_deref().filter(|base| *base != server.name);
    let ratio = base.map_or(f64::NAN, |base| value / results.median(scenario, base, row.key));
    if ratio.is_finite() { format!("{text} ({}×)", significant(ratio)) } else { text }
}

/// Two significant digits; more would be noise.
fn significant(value: f64) -> String {
    let size = value.abs();
    match () {
        () if value.is_nan() => number(value),
        () if size < 1.0 => format!("{value:.2}"),
        () if size < 9.95 => format!("{value:.1}"),
        () => format!("{value:.0}"),
    }
}

fn subscribers(settings: &Settings) -> String {
    format!("{} subscribers", grouped(settings.connections as u64))
}

fn rate(settings: &Settings) -> String {
    format!("{} events/s", grouped(u64::from(settings.rate_per_s)))
}

/// The marker before the figures in a README. The rest of its line is a remark.
pub const BEGIN: &str = "<!-- figures:";
/// The marker after them.
pub const END: &str = "<!-- end of figures -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_two_digits_that_count() {
        let texts = [0.434, 4.52, 9.96, 97.3, 1_234.5].map(significant);
        assert_eq!(texts, ["0.43", "4.5", "10", "97", "1234"]);
        assert_eq!([0, 999, 1_000, 19_000_000].map(grouped), ["0", "999", "1,000", "19,000,000"]);
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let readme = folder.path().join("README.md");
        let results = Results::new("suite".to_owned(), 3, None);
        fs::write(&readme, format!("before\n{BEGIN} by a command -->\nold\n{END}\nafter\n")).expect("writes");
        assert!(update(&readme, &results, true).expect_err("old").ends_with("the figures are out of date"));
        update(&readme, &results, false).expect("writes");
        update(&readme, &results, true).expect("is up to date now");
        let text = fs::read_to_string(&readme).expect("reads");
        assert!(text.starts_with(&format!("before\n{BEGIN} by a command -->\nMeasured ")), "{text}");
        assert!(text.ends_with(&format!("\n{END}\nafter\n")), "{text}");
        fs::write(&readme, "no markers").expect("writes");
        assert!(update(&readme, &results, false).is_err());
    }
}
