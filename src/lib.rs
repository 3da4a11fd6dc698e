//! Tidegate.
pub mod config;
pub mod http;
pub mod hub;
pub mod shard;
pub mod wire;
