//! What is true of an order that several nodes share, so far as it can be known without asking a node.
//!
//! Redis says which terms there were ([`terms`]) and what the log has ([`book`]). Subscribers say what they got ([`heard`]), and
//! publishers what they were answered. [`verdict`] compares all four. All events are in one room, and nothing else is in the order:
//! so between two gaps each subscriber must have every offset, one after the other.

pub mod book;
pub mod heard;
pub mod terms;
pub mod verdict;
