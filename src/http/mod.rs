//! The HTTP surface: from a request's bytes to a call on the hub, and back.

pub mod admin;
pub mod body;
pub mod body_out;
pub mod caller;
pub mod client;
pub mod connection;
pub mod context;
pub mod cors;
pub mod credential;
pub mod exchange;
pub mod guard;
pub mod host;
pub mod identify;
pub mod inspect;
pub mod limit;
pub mod lines;
pub mod policy;
pub mod problem;
pub mod publish;
pub mod query;
pub mod route;
pub mod service;
pub mod session;
pub mod stats;
pub mod subscribe;
