//! Sockets: opening them, and what is left of a connection once hyper has done its part.

pub mod accept;
pub mod holder;
pub mod listen;
pub mod sockets;
pub mod stream;
