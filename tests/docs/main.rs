//! The documents: what they show is correct, and they are complete.
//!
//! `TIDEGATE_BLESS=1 cargo test --test docs` rewrites the generated tables.

#[path = "../common/mod.rs"]
mod common;

mod documents;
mod guides;
mod operations;
mod publishing;
mod readme;
mod tutorial;
