//! What goes over the wire, as bytes. Knows no socket, no clock and no HTTP request.

pub mod control;
pub mod encoding;
pub mod frame;
pub mod gzip;
