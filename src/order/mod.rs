//! The order: where positions come from.
//!
//! What happens is an entry of one total order: an event ([`Draft`](crate::hub::draft::Draft)) or a [`Change`](change::Change) of who
//! may be here. Both are data. An entry is *proposed*; the order decides its position; there it is *applied*, to the same effect
//! wherever that is done ([`Applying`](crate::hub::apply::Applying) for events). In memory all of that is one step. An order that
//! outlives the process, or spans several, has its own way from the one to the other, and nothing above it changes.

pub mod change;
pub mod memory;
