//! What may be done, and by whom: patterns, permissions, grants and identities. Decides nothing by itself.

pub mod grant;
pub mod grants;
pub mod identity;
pub mod pattern;
pub mod revocation;
