//! The order on disk: a log of batches in segments, with the same terms as everywhere.
//!
//! A [`DiskLog`](log::DiskLog) writes *segments*, files of one size that are named by their numbers. A segment is a list of
//! [records](record): first a header that says where it begins and in which terms, then batches, and perhaps the mark of a
//! clean end. What a batch contains is not known here.
//!
//! What holds, whatever is lost or damaged:
//! - A batch whose commit was answered is read back, and at its position.
//! - A batch whose commit failed may be read back. Its position is given to no other batch within a term.
//! - After any end but a clean one, the order goes on in a new term. Its offsets are far above those that may have been
//!   given out, so an id never means two events.
//! - Damage inside the log raises its floor: what is above the damage stays, what is below is given up, and a reader from
//!   below is told.

pub mod committer;
pub mod files;
pub mod kept;
pub mod log;
pub mod record;
pub mod scan;
mod unwritten;

#[cfg(test)]
mod answers;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
