//! The load test: what it opens, publishes, checks and reports.
//!
//! Correctness comes before numbers. Every connection checks its own sequence of events, and a run that lost, repeated
//! or reordered anything is a failure whatever its figures were. `README.md` says what each figure means.

pub mod args;
pub mod clock;
pub mod compare;
pub mod fleet;
pub mod found;
pub mod meter;
pub mod peers;
pub mod plot;
pub mod publisher;
pub mod report;
pub mod request;
pub mod results;
pub mod run;
pub mod scenario;
pub mod table;
pub mod target;
pub mod tokens;
pub mod track;
pub mod ui;
pub mod usage;
pub mod verdict;
pub mod wire;
