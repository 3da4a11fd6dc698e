//! Where an order is kept: the folder of an order on disk, and the thread that writes it.

pub mod disk;
pub mod folder;
