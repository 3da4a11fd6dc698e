//! The other end of a server: thousands of subscribers that check every event, and one publisher.

pub mod caller;
pub mod clock;
pub mod fleet;
pub mod herd;
pub mod order;
pub mod published;
pub mod publisher;
pub mod retrier;
pub mod survivor;
pub mod track;
pub mod watcher;
pub mod wire;
