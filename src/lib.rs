//! Tidegate: a push tier. An application hands it an event once; it fans the event out to every browser that listens,
//! over Server-Sent Events (WHATWG HTML §9.2). ARCHITECTURE.md tells the whole story.
//!
//! The modules below stand in the order of the floors: each uses those above it in this list, never those below it
//! (`tests/tidy.rs`).

pub mod types;

pub mod rights;

pub mod answer;

pub mod wire;

pub mod hub;

pub mod order;

pub mod shard;

pub mod config;

pub mod auth;

pub mod policy;

pub mod net;

pub mod upstream;

pub mod engine;

pub mod http;

pub mod admin;

pub mod server;

pub mod cli;
