//! Whether a caller may have a stream of some rooms, and be told who is in them.

use crate::answer::problem::Problem;
use crate::http::api::query::StreamQuery;
use crate::http::api::rooms::check_known;
use crate::http::gate::caller::Caller;
use crate::hub::Hub;
use crate::hub::room_policy::RoomPolicy;
use crate::rights::grant::Action;
use crate::shard::join::Presence;
use crate::types::name::RoomName;

/// Checks the rooms of `query`, and whether `caller` may be told who is in them.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::RoomUnknown`](crate::answer::problem::Code::RoomUnknown).
pub(super) fn may_have_rooms(hub: &Hub, caller: &Caller, query: &StreamQuery) -> Result<(), Problem> {
    query.rooms.iter().try_for_each(|room| caller.may(Action::Read(room.as_str())))?;
    // Later, so that whoever may not listen anyway does not find out which rooms there are.
    query.rooms.iter().try_for_each(|room| check_known(hub, room))?;
    if query.presence == Presence::Off {
        return Ok(());
    }
    query.rooms.iter().map(RoomName::as_str).try_for_each(|room| {
        // A room without presence may get it by a reload, while the stream is open.
        if is_counted_only(&hub.rooms().policy_of(room)) {
            return Ok(());
        }
        caller.may(Action::Members(room)).map_err(|problem| problem.about("presence"))
    })
}

/// Whether members are told their number and no names. To see that, it takes no more than to listen.
fn is_counted_only(policy: &RoomPolicy) -> bool {
    policy.presence.is_some_and(|presence| !presence.names)
}
