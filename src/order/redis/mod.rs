//! The order in Redis: one stream that every node follows and appends to.
//!
//! Here is what decides, without a socket, a clock or chance: the [`scripts`] that run inside Redis, the shape of
//! [entries](entry) and [calls](call), and the [`link`] of one node, a state machine. `upstream::redis` runs it over real
//! connections, `tests/order` over simulated ones.
//!
//! Three rules make it exact, whatever Redis forgets:
//!
//! - **An append is fenced.** The script appends only if the order is where the node believes it to be: the same
//!   replication id, the same term, nothing gone back. Otherwise the node attaches first, and only attaching begins terms.
//!   So a command of a closed connection that runs late, in a newer term, changes nothing.
//! - **An entry names the one before it.** A follower applies an entry only behind the one that it applied last, so a
//!   history that was exchanged under it shows with the next entry, at the latest after a second (by a tick).
//! - **What was applied is compared where the orders part.** The newest term that both know says how far a node and the
//!   order are the same, and the tag there proves it.

pub mod call;
pub mod copy;
pub mod entry;
pub mod link;
pub mod marks;
pub mod parts;
pub mod scripts;
pub mod terms;
