//! Parsers of what peers send and operators write: they never panic, and what they take is what they say they take.
//!
//! The checks are those of the fuzz targets, here on generated inputs and on what fuzzing has found.

#[path = "../../fuzz/checks.rs"]
mod checks;

mod parsers;
