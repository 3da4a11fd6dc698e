//! The runs to make.

use clap::ValueEnum;

use super::scenario::{Scenario, Settings};
use super::source::Source;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the results are called.
    pub name: String,
    /// One for each server and scenario, in the order they take turns.
    pub jobs: Vec<Job>,
    /// How often.
    pub rounds: u32,
    /// The label that ratios refer to.
    pub base: Option<String>,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario.
    pub scenario: Scenario,
    /// Its numbers.
    pub settings: Settings,
    /// The server.
    pub source: Source,
    /// What tables call it.
    pub label: String,
    /// How progress is shown.
    pub progress: Mode,
}

/// How progress is shown, always on stderr.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Mode {
    /// Bars if stderr is a terminal, else nothing.
    #[default]
    Auto,
    /// A line every two seconds.
    Plain,
    /// Nothing.
    Quiet,
}
