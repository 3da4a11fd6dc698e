//! HTTP: where a request ends, how it is answered, which connections get a place, and how a publish is accepted or
//! refused.
//!
//! One file for each promise. Each test has a server of its own in this process, and clients that send and see every
//! byte.

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod bad_requests;
mod client;
mod cors;
mod endings;
mod framing;
mod idempotency;
mod members;
mod pipelining;
mod places;
mod proxy_protocol;
mod publish;
mod rooms;
mod unix;
