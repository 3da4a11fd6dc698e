//! Rights as data: patterns, permissions, grants and identities. The modules above decide what to refuse.

pub mod grant;
pub mod grants;
pub mod identity;
pub mod pattern;
pub mod revocation;
