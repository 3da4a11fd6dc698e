//! Tidegate: a push tier. An application hands it an event once; it fans the event out to every browser that listens,
//! over Server-Sent Events (WHATWG HTML §9.2). ARCHITECTURE.md describes its parts.
//!
//! The modules below are in the order of the floors: each uses only those above it in this list (`tests/tidy.rs`).

pub mod types;

pub mod rights;

pub mod answer;

pub mod wire;

pub mod hub;

pub mod order;

pub mod shard;
pub mod store;

pub mod config;

pub mod auth;

pub mod policy;

pub mod net;

pub mod upstream;

pub mod engine;

pub mod http;

pub mod admin;

pub mod cli;

pub mod server;
