//! The HTTP surface: from a request's bytes to a call on the hub, and back.
