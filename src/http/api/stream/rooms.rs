//! Whether a caller may have a stream of some rooms, and watch who is in them.

use crate::answer::problem::Problem;
use crate::http::api::query::StreamQuery;
use crate::http::api::rooms::check_known;
use crate::http::gate::caller::Caller;
use crate::hub::Hub;
use crate::rights::grant::Action;
use crate::shard::join::Presence;
use crate::types::name::RoomName;

/// Checks the rooms of `query`, and whether `caller` may watch them silently.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::RoomUnknown`](crate::answer::problem::Code::RoomUnknown).
pub(super) fn may_have_rooms(hub: &Hub, caller: &Caller, query: &StreamQuery) -> Result<(), Problem> {
    query.rooms.iter().try_for_each(|room| caller.may(Action::Read(room.as_str())))?;
    // Later, so that whoever may not listen anyway does not find out which rooms there are.
    query.rooms.iter().try_for_each(|room| check_known(hub, room))?;
    if query.presence != Presence::Silent {
        // What a stream sees is asked with each of its states: names with `sse:members`, counts without.
        return Ok(());
    }
    // To watch without being seen takes more than to be there.
    let silent = |room| caller.may(Action::Members(room)).map_err(|problem| problem.about("silent"));
    query.rooms.iter().map(RoomName::as_str).try_for_each(silent)
}
