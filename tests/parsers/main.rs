//! Parsers of bytes from peers and operators: they never panic, and what they accept is what they document.
//!
//! The checks are those of the fuzz targets, here on generated inputs and on inputs that fuzzing has found.

#[path = "../../fuzz/checks/mod.rs"]
mod checks;

mod parsers;
mod pieces;
