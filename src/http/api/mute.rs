//! `POST` and `DELETE {base}/rooms/{room}/mute/{user}`: whether a user may publish to a room.

use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::engine::change::rfc3339;
use crate::http::api::json::json;
use crate::http::api::query::MuteQuery;
use crate::http::call::{Call, Handled};
use crate::http::conn::response_body::ResponseBody;
use crate::http::gate::caller::Caller;
use crate::order::change::Change;
use crate::rights::grant::Action;
use crate::types::clock::since_1970;
use crate::types::name::{RoomName, UserName};

/// The answer to a mute.
#[derive(Debug, Serialize)]
struct Muted<'a> {
    room: &'a str,
    user: &'a str,
    /// Until when (RFC 3339); `null` until it is undone.
    until: Option<String>,
}

/// Refuses what `user` publishes to `room`, for a time or until it is undone, and tells the user's streams there.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::QueryInvalid`](crate::answer::problem::Code::QueryInvalid);
/// [`Code::MutesFull`](crate::answer::problem::Code::MutesFull) with the time until there is a place. Once it is in
/// force there is no error, also if a stream cannot be told.
pub async fn mute(call: &Call<'_>, caller: &Caller, room: RoomName, user: UserName) -> Handled {
    caller.may(Action::Disconnect(room.as_str()))?;
    let time = MuteQuery::parse(call.query())?.time;
    // Rounded up: a second is at least a second.
    let until = time.map(|time| (since_1970() + time).as_nanos().div_ceil(NANOS_PER_S));
    let until = until.map(|until| u64::try_from(until).unwrap_or(u64::MAX));
    let change = Change::Mute { user: user.clone(), room: room.clone(), until };
    call.engine().propose(change).await?;
    Ok(json(&Muted { room: room.as_str(), user: user.as_str(), until: until.map(rfc3339) }))
}

const NANOS_PER_S: u128 = 1_000_000_000;

/// Lets `user` publish to `room` again. The answer is the same if it was not muted.
///
/// # Errors
///
/// As [`Caller::may`].
pub async fn unmute(call: &Call<'_>, caller: &Caller, room: RoomName, user: UserName) -> Handled {
    caller.may(Action::Disconnect(room.as_str()))?;
    call.engine().propose(Change::Unmute { user, room }).await?;
    let mut response = Response::new(ResponseBody::EMPTY);
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
