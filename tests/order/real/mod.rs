//! Promise: whatever happens to a real Redis, a node is told what of its history is lost, and nothing else is lost, doubled
//! or moved. One file for each kind of trouble; each test is a row of the table of failures.

mod node;
mod proxy;
pub(crate) mod server;

mod append;
mod away;
mod confirm;
mod fork;
mod full;
mod gone;
mod places;
mod secure;
mod unfit;
