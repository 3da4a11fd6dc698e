//! `GET {base}/rooms/{room}`: one room, its members, and how far its history reaches.

pub mod history;

use hyper::Response;
use serde::Serialize;

use crate::answer::problem::Problem;
use crate::engine::Engine;
use crate::http::api::json;
use crate::http::call::Call;
use crate::http::conn::response_body::ResponseBody;
use crate::http::gate::caller::Caller;
use crate::hub::mailbox::Command;
use crate::rights::grant::Action;
use crate::types::name::RoomName;
use crate::types::position::Offset;

/// Describes `room`. The thread composes one answer at a time.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::Full`](crate::answer::problem::Code::Full) if a shard's mailbox is full; as
/// [`json::large`].
pub async fn room(
    call: &Call<'_>,
    caller: &Caller,
    room: &RoomName,
) -> Result<Response<ResponseBody>, Problem> {
    caller.may(Action::Members(room.as_str()))?;
    let _turn = call.context.places.turn().await;
    json::large(call, &read(call.engine(), room.as_str()).await?)
}

/// Users a room lists by name.
pub const MEMBERS_MAX: usize = 1000;

/// One room. A room without members and events looks like one that never existed.
#[derive(Debug, Serialize)]
struct RoomInfo {
    room: String,
    connections: u32,
    /// Users with a connection here, in alphabetical order, at most [`MEMBERS_MAX`] of them.
    members: Vec<String>,
    /// How many members there are.
    members_total: usize,
    history: RoomHistory,
}

#[derive(Debug, Default, Serialize)]
struct RoomHistory {
    events: usize,
    bytes: usize,
    /// The id from which on a resume is exact; absent if nothing was ever lost.
    complete_after: Option<String>,
    /// Id of the newest event.
    newest: Option<String>,
    events_max: usize,
    bytes_max: usize,
    age_max_s: u64,
}

/// Reads one room, asking every shard for its members.
///
/// # Errors
///
/// [`Code::Full`] if a shard's mailbox is full.
async fn read(engine: &Engine, name: &str) -> Result<RoomInfo, Problem> {
    let (hub, config) = (&engine.hub, &engine.config);
    let mut history = RoomHistory {
        events_max: config.history_events,
        bytes_max: config.history_bytes,
        age_max_s: config.history_age.as_secs(),
        ..RoomHistory::default()
    };
    let mut info =
        RoomInfo { room: name.into(), connections: 0, members: Vec::new(), members_total: 0, history };
    let Some(room) = hub.rooms().get(name) else {
        return Ok(info);
    };
    history = info.history;
    {
        let log = room.log();
        let id = |offset: Offset| hub.epoch().position(offset).to_string();
        history.complete_after = Some(log.expired_to()).filter(|offset| *offset > 0).map(id);
        if let Some(log) = log.get() {
            history.events = log.held();
            history.bytes = log.bytes();
            history.newest = log.last().map(id);
        }
    }
    info.connections = room.connections();
    let mut members =
        engine.ask_shards(|reply| Command::Members { room: room.clone(), reply }).await?.concat();
    members.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    members.dedup_by(|a, b| a.name() == b.name());
    info.members_total = members.len();
    info.members = members.iter().take(MEMBERS_MAX).map(|user| user.name().to_owned()).collect();
    info.history = history;
    Ok(info)
}
