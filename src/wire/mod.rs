//! The bytes of event streams. Uses no socket, no clock and no HTTP request.

pub mod control;
pub mod encoding;
pub mod frame;
pub mod gzip;
