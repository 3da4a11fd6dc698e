//! The load test: what it opens, publishes, checks and reports.
//!
//! Correctness comes before numbers. Every connection checks its own sequence of events, and a run that lost, repeated
//! or reordered anything is a failure whatever its figures were. `README.md` says what each figure means.

pub mod client;
pub mod number;
pub mod plan;
pub mod report;
pub mod run;
pub mod target;
