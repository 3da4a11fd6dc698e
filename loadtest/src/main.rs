//! `tidegate-loadtest`: opens listeners, publishes, checks every event, reports.
//!
//! Exits with 0 when all was right, 1 when a server did something wrong, 2 when nothing could be measured.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use tidegate_loadtest::args::Work;
use tidegate_loadtest::clock::Clock;
use tidegate_loadtest::compare::{Comparison, compare};

fn main() -> ExitCode {
    let outcome = Work::from_args().map_err(Into::into).and_then(|work| measure(&work));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("FAILED: see the faults above");
            ExitCode::FAILURE
        }
        Err(err) => {
            eprintln!("tidegate-loadtest: {err}");
            ExitCode::from(2)
        }
    }
}

/// Runs everything and returns whether it was free of faults.
fn measure(work: &Work) -> Result<bool, Box<dyn std::error::Error>> {
    let open_files_max = raise_open_files()?;
    let connections = work.jobs.iter().map(|job| job.settings.connections).max().unwrap_or(0);
    if connections as u64 + OPEN_FILES_RESERVE > open_files_max {
        let fit = open_files_max.saturating_sub(OPEN_FILES_RESERVE);
        return Err(format!("--connections {connections}: wanted at most {fit} here").into());
    }
    let comparison = compare(&work.jobs, work.rounds, work.base.clone(), Clock::start())?;
    comparison.print(&work.jobs);
    if let Some(path) = &work.json {
        write_json(path, &comparison)?;
    }
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
