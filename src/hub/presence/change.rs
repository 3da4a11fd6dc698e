//! What changes who is present, as data.

use crate::hub::presence::data::PresenceData;

/// When a stream entered a room, as a number that grows. A stream that leaves shows the seat with which it entered, so
/// that one from before a withdrawal is not taken for one that came after it. In memory, a seat is the microsecond in
/// which the stream began.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Seat(pub u64);

/// A change of one user's presence in one room. Plain data: together with the two names it can be stored, sent to
/// another node, and applied there with the same effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PresenceChange {
    /// A stream of the user has begun.
    Enter {
        /// Its seat.
        seat: Seat,
    },
    /// A stream of the user has ended.
    Leave {
        /// The seat with which it entered. If the member is younger, the stream does not count.
        seat: Seat,
        /// Whether the member leaves without grace, if this was its last stream.
        at_once: bool,
    },
    /// The member shows other data.
    Put {
        /// The data; `None` for no data.
        data: Option<PresenceData>,
    },
    /// The member leaves, although streams may stay. They are silent from then on.
    Withdraw,
}
