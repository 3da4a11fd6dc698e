//! `POST {base}/disconnect/{room}/{user}`: ends a user's streams in a room, and refuses new ones for a time.

use serde::Serialize;

use crate::http::api::json::json;
use crate::http::api::query::DisconnectQuery;
use crate::http::call::{Call, Handled};
use crate::http::gate::caller::Caller;
use crate::order::change::Change;
use crate::rights::grant::Action;
use crate::types::name::{RoomName, UserName};

/// The answer to a disconnect.
#[derive(Debug, Serialize)]
struct Disconnected {
    /// Connections that were told to close.
    disconnected: u32,
    /// Seconds for which new connections are answered 204.
    stay_away_s: u64,
}

/// Refuses new streams of `user` in `room` for a time, then closes the open ones. If the table of refused users is
/// full, nothing is closed: the user would reconnect at once.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::StayAwayFull`](crate::answer::problem::Code::StayAwayFull) with the time until there is
/// a place.
pub async fn disconnect(call: &Call<'_>, caller: &Caller, room: RoomName, user: UserName) -> Handled {
    caller.may(Action::Disconnect(room.as_str()))?;
    let query = DisconnectQuery::parse(call.query())?;
    let stay_away = query.stay_away.unwrap_or(call.engine().config.stay_away);
    let disconnected = call.engine().propose(Change::Disconnect { user, room, stay_away }).await?;
    Ok(json(&Disconnected { disconnected, stay_away_s: stay_away.as_secs() }))
}
