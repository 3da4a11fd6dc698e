//! The documents: what they show is so, and they leave nothing out.
//!
//! `TIDEGATE_BLESS=1 cargo test --test docs` writes the generated tables anew.

#[path = "../common/mod.rs"]
mod common;

mod documents;
mod guides;
mod operations;
mod readme;
