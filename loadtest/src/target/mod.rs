//! The servers that are measured: how they are started, how they are published to, what they use.

pub mod dialect;
pub mod error;
pub mod launch;
pub mod meter;
pub mod origin;
pub mod peers;
pub mod program;
pub mod request;
pub mod server;
pub mod usage;
pub mod version;
