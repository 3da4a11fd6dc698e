//! The order in Redis over real connections: runs the commands of [`order::redis`](crate::order::redis) on a thread of its
//! own, tells a [`Follower`] what is in the order, and takes batches from any thread through a [`Handle`].
//!
//! It knows nothing of the contents of batches. A batch that was appended here is answered after the follower was given it.

mod address;
mod conn;
mod copy;
mod handle;
mod run;
mod sentinel;
pub mod stats;
mod work;

pub use self::address::{Address, AddressError};
pub use self::copy::{CopyError, Target};
pub use self::handle::{AppendError, Appended, Follower, Handle, Setup};
pub use self::run::{Running, start};
