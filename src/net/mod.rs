//! Sockets: opening them, and the connections that remain after hyper has done its part.

pub mod accept;
pub mod holder;
pub mod listen;
pub mod sockets;
pub mod stream;
