//! Tidegate.
pub mod http;
pub mod hub;
pub mod wire;
