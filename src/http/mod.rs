//! The HTTP surface: from a request's bytes to a call on the engine, and back.

pub mod api;
pub mod call;
pub mod conn;
pub mod context;
pub mod gate;
pub mod request_body;
pub mod serve;
