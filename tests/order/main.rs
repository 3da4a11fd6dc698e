//! Orders that outlive a process. On disk: what a restart, a kill, damage and a full disk leave of it. In Redis: the link of a
//! node against real servers and against a model of them, and nodes as processes.
//!
//! One file for each promise.

#[path = "../common/mod.rs"]
mod common;

mod copy;
mod damage;
mod failing;
mod full;
mod inspect;
mod metrics;
mod node;
mod nodes;
mod presence;
mod real;
mod restart;
mod retention;
mod simulation;
mod start;
