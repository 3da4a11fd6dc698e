//! The scenarios as they run, and the turns that servers take.

mod churn;
pub mod compare;
mod conflate;
mod drain;
mod judge;
mod kill;
mod live;
mod nodes;
mod one;
mod poll;
mod presence;
mod progress;
mod resume;
mod retry;
mod saturate;
mod scale;
mod series;
mod soak;
mod storm;
mod traffic;
mod window;

use crate::client::clock::Clock;
use crate::plan::job::Job;
use crate::plan::scenario::Scenario;
use crate::report::run_report::Report;

/// Runs `job` once.
///
/// # Errors
///
/// The server can't be started, or this process ran out of something. What the server did wrong is not an error but a
/// fault in the report.
pub fn run(job: &Job, round: u32, clock: Clock) -> Result<Report, Box<dyn std::error::Error>> {
    match job.scenario {
        Scenario::Scale => scale::run(job, round, clock),
        Scenario::Presence => presence::run(job, round, clock),
        Scenario::Kill => kill::run(job, round),
        Scenario::Nodes => nodes::run(job, round),
        _ => one::run_one(job, round, clock),
    }
}
