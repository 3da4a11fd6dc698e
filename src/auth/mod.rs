//! Who may do what. Knows no socket, no HTTP and no connection; what it decides is enforced in `http` and `shard`.
//!
//! A *credential* (a token, or the key of an application's backend) proves an [`identity`], which has a [`grant`]: a list
//! of permissions with room [`pattern`]s.

pub mod api_keys;
pub mod authority;
pub mod claims;
pub mod jwks;
pub mod key;
pub mod revocation;
pub mod single_flight;
pub mod token_error;
pub mod tokens;
