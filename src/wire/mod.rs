//! What goes over the wire, as bytes. Knows no socket, no clock and no HTTP request.
