//! Access: which tokens, keys and cookies are accepted, what they allow, and when a right ends.
//!
//! One file for each promise. The tests of tokens call the library; the others ask a server, as a caller does.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod callback;
mod canary;
mod cookies;
mod grants;
mod guarded;
mod jwks;
mod mute;
mod publish_callback;
mod publishing;
mod revocation;
mod room_rules;
mod rotation;
mod sessions;
mod token_cache;
mod token_keys;
mod token_metrics;
mod tokens;
