//! The order: where positions come from.
//!
//! The order has three kinds of entries: events ([`Draft`](crate::hub::draft::Draft)), [`Change`](change::Change)s of
//! the right to be connected, and changes of who is [present](presence). All are data. An entry is *proposed*; the order decides its position; there it is
//! *applied*, with the same effect on every node ([`Applying`](crate::hub::apply::Applying) for events). In memory,
//! this is one step. An order that outlives the process, or spans several, has more steps between proposing and
//! applying; the modules above it do not change.

pub mod change;
pub mod claims;
mod decide;
pub mod disk;
pub mod entry;
pub mod memory;
pub mod nodes;
pub mod presence;
pub mod proposals;
pub mod redis;
pub mod refused;
pub mod report;
pub mod restore;
mod round;
pub mod shared;
