//! What is measured: the command line, the scenarios with their numbers, and the servers by name.

pub mod args;
pub mod credentials;
pub mod job;
pub mod peer;
pub mod scenario;
pub mod source;
pub mod special;
mod special_args;
