//! For operators: settings, starting, reloading, draining and restarting, logs, subcommands, units and the image.
//!
//! One file for each promise. Most tests run the program itself.

#[path = "../common/mod.rs"]
mod common;

mod compose;
mod config;
mod container;
mod drain;
mod logs;
mod process;
mod reload;
mod reload_guard;
mod restart;
mod room_tables;
mod settings;
mod systemd;
mod tools;
