//! Authentication: which identity a credential proves, and what it may do. Uses no sockets, HTTP or connections; `http`
//! and `shard` enforce the decisions.
//!
//! A *credential* (a token, or the key of an application's backend) proves an [identity](crate::rights::identity), which has a [grant](crate::rights::grant): a list
//! of permissions with room [pattern](crate::rights::pattern)s.

pub mod api_keys;
pub mod authority;
pub mod claims;
pub mod jwks;
pub mod key;
pub mod revocation;
pub mod single_flight;
pub mod token_error;
pub mod tokens;
