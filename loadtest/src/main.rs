//! `tidegate-loadtest`: opens listeners, publishes, checks every event, reports.
//!
//! Exits with 0 when all was right, 1 when a server did something wrong, 2 when nothing could be measured.
//! Called as `tidegate-loadtest listeners` it is one of the processes that hold connections for another one.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use tidegate_loadtest::args::{Asked, Work};
use tidegate_loadtest::clock::Clock;
use tidegate_loadtest::compare::{Comparison, compare};
use tidegate_loadtest::fleet;
use tidegate_loadtest::target::Source;
use tidegate_loadtest::verdict::verdict;

fn main() -> ExitCode {
    let outcome = match Asked::from_args() {
        Ok(Asked::Work(work)) => measure(*work),
        Ok(Asked::Listeners) => raise_open_files().and_then(|_| Ok(fleet::serve()?)).map(|()| true),
        Err(err) => Err(err.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("tidegate-loadtest: {err}");
            ExitCode::from(2)
        }
    }
}

/// Runs everything and returns whether it was free of faults.
fn measure(mut work: Work) -> Result<bool, Box<dyn std::error::Error>> {
    let fit = raise_open_files()?.saturating_sub(OPEN_FILES_RESERVE).max(1);
    for job in &mut work.jobs {
        let connections = job.settings.connections as u64;
        if connections > fit && !matches!(job.source, Source::Running { .. }) {
            // One process can't, but any number of them; a server started here is one process.
            return Err(format!(
                "--connections {connections}: a server started here takes at most {fit}; \
                 raise the open files limit, or measure one that runs elsewhere by --url"
            )
            .into());
        }
        let needed = usize::try_from(connections.div_ceil(fit))?;
        job.settings.processes = job.settings.processes.max(needed);
    }
    let comparison = compare(&work.jobs, work.rounds, work.base.clone(), Clock::start())?;
    comparison.print(&work.jobs);
    if let Some(path) = &work.json {
        write_json(path, &comparison)?;
    }
    println!("{}", verdict(&comparison.runs));
    Ok(comparison.is_clean())
}

/// Takes as many descriptors as the hard limit allows; started servers inherit that.
fn raise_open_files() -> Result<u64, Box<dyn std::error::Error>> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

fn write_json(path: &Path, comparison: &Comparison) -> Result<(), Box<dyn std::error::Error>> {
    let text = serde_json::to_string_pretty(comparison)?;
    std::fs::write(path, text).map_err(|err| format!("{}: {err}", path.display()).into())
}

const OPEN_FILES_RESERVE: u64 = 64;
