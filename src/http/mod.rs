//! The HTTP surface: from a request's bytes to a call on the hub, and back.

pub mod admin;
pub mod always;
pub mod body;
pub mod body_out;
pub mod checks;
pub mod client;
pub mod connection;
pub mod context;
pub mod cors;
pub mod exchange;
pub mod gate;
pub mod guard;
pub mod host;
pub mod inspect;
pub mod limit;
pub mod lines;
pub mod problem;
pub mod proxy_header;
pub mod publish;
pub mod query;
pub mod route;
pub mod service;
pub mod stats;
pub mod subscribe;
