//! Results as they are kept: every run raw, the medians, the machine and the versions.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use super::run_report::Report;
use crate::plan::scenario::Scenario;
use crate::target::program::{find, first_line};

/// One measurement of one or several servers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Results {
    /// `2026-11-20`, by UTC.
    pub date: String,
    /// What it is called: a scenario's name, `suite` or what was asked for.
    pub name: String,
    /// Where it ran.
    pub machine: Machine,
    /// The sources, if it ran among them; `+` for changes not committed.
    pub commit: Option<String>,
    /// How often every server was run.
    pub rounds: u32,
    /// The server that ratios refer to.
    pub base: Option<String>,
    /// The servers, in the order of tables.
    pub servers: Vec<Server>,
    /// Servers that could not take part, and why.
    pub left_out: Vec<LeftOut>,
    /// What each server came to in each scenario.
    pub outcomes: Vec<Outcome>,
    /// Each run, in the order they were made.
    pub runs: Vec<Report>,
}

/// The machine, which client and server share.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Machine {
    /// The processor's name for itself.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Of Linux.
    pub kernel: String,
    /// In all.
    pub memory_mib: u64,
}

/// A server that was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Server {
    /// In tables.
    pub name: String,
    /// What it was exactly.
    pub version: String,
}

/// A server that was not measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeftOut {
    /// The server.
    pub name: String,
    /// Why.
    pub why: String,
}

/// One server in one scenario.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: Scenario,
    /// The server.
    pub server: String,
    /// Medians by figure. Figures of traffic are missing if the load could not be sustained, figures of opening if a
    /// connection failed.
    pub medians: BTreeMap<String, f64>,
    /// Why the load could not be sustained.
    pub shortfall: Option<String>,
}

impl Results {
    /// Empty results of this machine and this day.
    #[must_use]
    pub fn new(name: String, rounds: u32, base: Option<String>) -> Self {
        Self {
            date: today(),
            name,
            machine: Machine::this(),
            commit: commit(),
            rounds,
            base,
            servers: Vec::new(),
            left_out: Vec::new(),
            outcomes: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// What `server` came to in `scenario`.
    #[must_use]
    pub fn outcome(&self, scenario: Scenario, server: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.scenario == scenario && outcome.server == server)
    }

    /// The median `key`, or NaN.
    #[must_use]
    pub fn median(&self, scenario: Scenario, server: &str, key: &str) -> f64 {
        let median = self.outcome(scenario, server).and_then(|outcome| outcome.medians.get(key));
        median.copied().unwrap_or(f64::NAN)
    }

    /// The scenarios measured, in order.
    #[must_use]
    pub fn scenarios(&self) -> Vec<Scenario> {
        let mut scenarios: Vec<Scenario> = Vec::new();
        for run in &self.runs {
            if !scenarios.contains(&run.scenario) {
                scenarios.push(run.scenario);
            }
        }
        scenarios
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It can't be read, or holds something else.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|err| format!("{}: {err}", path.display()))?;
        serde_json::from_str(&text).map_err(|err| format!("{}: {err}", path.display()))
    }

    /// Writes a file, and the folder if that is missing.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let wrong = |err: io::Error| format!("{}: {err}", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(wrong)?;
        }
        let mut text = Vec::new();
        let lines = Lines { depth: 0, inner: CompactFormatter };
        self.serialize(&mut Serializer::with_formatter(&mut text, lines))
            .map_err(|err| format!("{}: {err}", path.display()))?;
        text.push(b'\n');
        fs::write(path, text).map_err(wrong)
    }

    /// Where it is kept in `folder`: `<date>-<name>.json`.
    #[must_use]
    pub fn place(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{}.json", self.date, self.name))
    }
}

/// The newest results called `name` in `folder`, if there are any: their names begin with the date.
///
/// # Errors
///
/// The folder can't be read.
pub fn newest(folder: &Path, name: &str) -> Result<Option<PathBuf>, String> {
    let entries = match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|err| format!("{}: {err}", folder.display()))?,
    };
    let tail = format!("-{name}.json");
    let is_wanted = |path: &PathBuf| {
        path.file_name().and_then(|file| file.to_str()).is_some_and(|file| file.ends_with(&tail))
    };
    Ok(entries.flatten().map(|entry| entry.path()).filter(is_wanted).max())
}

impl Machine {
    /// This one.
    fn this() -> Self {
        let field = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let memory_kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            memory_mib: memory_kib / 1_024,
        }
    }
}

fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.chars().take_while(|letter| *letter != 'T').collect()
}

fn commit() -> Option<String> {
    let git = find("git", "git").ok()?;
    let commit = first_line(&git, &["rev-parse", "--short", "HEAD"])?;
    let is_commit = !commit.is_empty() && commit.chars().all(|letter| letter.is_ascii_hexdigit());
    let is_changed = first_line(&git, &["status", "--porcelain", "--untracked-files=no"]).is_some();
    is_commit.then(|| if is_changed { format!("{commit}+") } else { commit })
}

/// One line for each run: results are kept for years, and their differences are read.
struct Lines {
    depth: usize,
    inner: CompactFormatter,
}

impl Lines {
    fn break_line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        if self.depth <= DEPTH_MAX { writer.write_all(b"\n") } else { Ok(()) }
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.inner.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.inner.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        self.inner.begin_array_value(writer, is_first)?;
        self.break_line(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.inner.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.inner.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        self.inner.begin_object_key(writer, is_first)?;
        self.break_line(writer)
    }
}

/// The results and their lists; what is in a list stays on its line.
const DEPTH_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_can_be_read_again_and_the_newest_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut results = Results::new("suite".to_owned(), 3, Some("floor".to_owned()));
        assert_eq!((results.date.len(), results.date.as_bytes()[4]), (10, b'-'), "{}", results.date);
        assert!(results.machine.cores > 0 && results.machine.memory_mib > 0);
        results.servers.push(Server { name: "floor".to_owned(), version: "floor 1".to_owned() });
        for date in ["2026-02-01", "2026-11-20", "2025-12-31"] {
            date.clone_into(&mut results.date);
            results.save(&results.place(folder.path())).expect("writes");
        }
        fs::write(folder.path().join("2027-01-01-scale.json"), "{}").expect("writes");
        let newest = newest(folder.path(), "suite").expect("reads").expect("there are three");
        let again = Results::load(&newest).expect("reads");
        assert_eq!((again.date.as_str(), again.servers[0].version.as_str()), ("2026-11-20", "floor 1"));
        assert!(super::newest(&folder.path().join("none"), "suite").expect("no folder").is_none());
    }
}
