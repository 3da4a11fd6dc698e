//! What was found: the report of each run, results as they are kept, tables, plots and the verdict.

pub mod figure;
mod figures;
pub mod found;
pub mod measured;
pub mod plot;
pub mod print;
pub mod results;
pub mod run_report;
pub mod special;
pub mod table;
pub mod verdict;
