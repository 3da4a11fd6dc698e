//! `tidegate-loadtest`: opens subscribers, publishes, checks every event, reports.
//!
//! Exits with 0 if all was right, 1 if a server did something wrong, 2 if nothing could be measured.
//! As `tidegate-loadtest listeners` it holds connections for another process of this program.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use tidegate_loadtest::client::clock::Clock;
use tidegate_loadtest::client::fleet;
use tidegate_loadtest::plan::args::{Task, Work};
use tidegate_loadtest::plan::source::Source;
use tidegate_loadtest::report::results::{Results, newest};
use tidegate_loadtest::report::verdict::{verdict, warnings};
use tidegate_loadtest::report::{plot, table};
use tidegate_loadtest::run::compare::{self, compare};

fn main() -> ExitCode {
    match Task::from_args().map_err(Into::into).and_then(perform) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("tidegate-loadtest: {err}");
            ExitCode::from(2)
        }
    }
}

/// Does what was asked for, and returns whether it was free of faults.
fn perform(task: Task) -> Result<bool, Box<dyn std::error::Error>> {
    match task {
        Task::Measure(work) => return measure(*work),
        Task::Listeners => {
            raise_open_files()?;
            fleet::serve()?;
        }
        Task::Table { results, readme, is_check } => {
            let results = Results::load(&suite_in(&results)?)?;
            match readme {
                Some(readme) => table::update(&readme, &results, is_check)?,
                None => print!("{}", table::section(&results)),
            }
        }
        Task::Plot { results, out } => draw(&Results::load(&results)?, &out)?,
    }
    Ok(true)
}

/// `path`, or the newest suite in it.
fn suite_in(path: &Path) -> Result<std::path::PathBuf, String> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    newest(path, "suite")?.ok_or_else(|| format!("{}: no <date>-suite.json there", path.display()))
}

/// Runs everything and returns whether it was free of faults.
fn measure(mut work: Work) -> Result<bool, Box<dyn std::error::Error>> {
    let fit = raise_open_files()?.saturating_sub(OPEN_FILES_RESERVE).max(1);
    for job in &mut work.plan.jobs {
        let connections = job.settings.connections as u64;
        if connections > fit && !matches!(job.source, Source::Running { .. }) {
            // Several processes could hold them, but a server started here is one process.
            return Err(format!(
                "--connections {connections}: a server started here takes at most {fit}; \
                 raise the open files limit, or measure one that runs elsewhere by --url"
            )
            .into());
        }
        let needed = usize::try_from(connections.div_ceil(fit))?;
        job.settings.processes = job.settings.processes.max(needed);
    }
    // Results are saved after every scenario, so that a later failure does not lose them.
    let keep = |results: &Results| match &work.results {
        Some(folder) => results.save(&results.place(folder)),
        None => Ok(()),
    };
    let results = compare(&work.plan, Clock::start(), keep)?;
    compare::print(&results);
    if let Some(folder) = &work.results {
        println!("kept in {}", results.place(folder).display());
    }
    if let Some(path) = &work.json {
        results.save(path)?;
        println!("kept in {}", path.display());
    }
    if let Some(folder) = &work.plots {
        draw(&results, folder)?;
    }
    let counted = compare::counted(&results, &work.plan.jobs);
    for warning in warnings(&counted) {
        println!("{warning}");
    }
    println!("{}", verdict(&counted));
    Ok(counted.iter().all(|run| run.faults.is_empty()))
}

fn draw(results: &Results, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for file in plot::draw(results, folder)? {
        println!("drawn: {}", file.display());
    }
    Ok(())
}

/// Takes as many descriptors as the hard limit allows; started servers inherit that.
fn raise_open_files() -> Result<u64, Box<dyn std::error::Error>> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

const OPEN_FILES_RESERVE: u64 = 64;
