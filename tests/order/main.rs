//! The order in Redis: the link of a node, against real servers and against a model of them.

#[path = "../common/mod.rs"]
mod common;

mod nodes;
mod real;
mod simulation;
