//! Streams: the right events, in order, once, or a gap; however a subscriber joins, reconnects, reads or fails to read.
//!
//! One file for each promise. Each test has a server of its own in this process, and clients that see every byte.

#[path = "../common/mod.rs"]
mod common;

mod full_history;
mod gzip;
mod heartbeat;
mod inbox;
mod limits;
mod notices;
mod own_ids;
mod poll;
mod presence;
mod resume;
mod slow;
mod stream;
