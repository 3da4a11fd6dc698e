//! Tidegate: a push tier. An application hands it an event once; it fans the event out to every browser that listens,
//! over Server-Sent Events (WHATWG HTML §9.2). ARCHITECTURE.md tells the whole story.

pub mod auth;
pub mod config;
pub mod dashboard;
pub mod health;
pub mod http;
pub mod hub;
pub mod logs;
pub mod server;
pub mod shard;
pub mod telemetry;
pub mod tools;
pub mod upstream;
pub mod welcome;
pub mod wire;
