//! Events, their order and their history. Knows no socket and no clock: time is an argument.

pub mod draft;
pub mod name;
