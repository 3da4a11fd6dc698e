//! What changes who is present, as data.

use std::num::NonZeroU64;

use crate::hub::presence::data::PresenceData;
use crate::hub::presence::report::By;

/// A number that a stream gets when it enters a room, larger than those of all streams that entered the room before. A
/// stream that leaves shows its seat, so that one from before a withdrawal is not taken for one that came after it.
///
/// It is not the time at which the stream began. A thread reads the clock before it has the room, so of two streams the
/// one that enters after a withdrawal may show the earlier time. The end of the other, which is silent since, would then
/// end its membership.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Seat(pub NonZeroU64);

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
        /// Its seat. If the member's is larger, the stream does not count.
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
    Withdraw {
        /// Where that was asked.
        by: By,
    },
}
