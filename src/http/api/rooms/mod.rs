//! `GET {base}/rooms/{room}`: one room, its members, and how far its history reaches.

pub mod history;
pub mod list;

use serde::Serialize;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::http::api::json;
use crate::http::call::{Call, Handled};
use crate::http::gate::caller::Caller;
use crate::hub::Hub;
use crate::hub::mailbox::Command;
use crate::order::report::{Answer, Question};
use crate::rights::grant::Action;
use crate::types::name::RoomName;
use crate::types::position::Offset;

/// Describes `room`. The thread composes one answer at a time.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::RoomUnknown`]; [`Code::Full`] if a shard's mailbox is full; as [`json::large`].
pub async fn room(call: &Call<'_>, caller: &Caller, room: &RoomName) -> Handled {
    caller.may(Action::Members(room.as_str()))?;
    check_known(&call.engine().hub, room)?;
    let _turn = call.context.places.turn().await;
    let mut info = read(call.engine(), room.as_str()).await?;
    if call.engine().shared.get().is_some() {
        let asked = call.engine().ask(Question::Subscribers(room.clone())).await;
        info.subscribers_total = Some(asked.answers.iter().map(subscribers).sum());
        info.missing_nodes = asked.missing;
    }
    json::large(call, &info)
}

/// The streams that a node has in the room.
fn subscribers(answer: &Answer) -> u64 {
    if let Answer::Subscribers(count) = answer { *count } else { 0 }
}

/// Checks that the settings know `room`.
///
/// # Errors
///
/// [`Code::RoomUnknown`] if they list the rooms that there are (`rooms = "listed"`), and this is none of them.
pub fn check_known(hub: &Hub, room: &RoomName) -> Result<(), Problem> {
    if hub.rooms().knows(room.as_str()) { Ok(()) } else { Err(Code::RoomUnknown.into()) }
}

/// Users a room lists by name.
pub const MEMBERS_MAX: usize = 1000;

/// One room. A room without members and events looks like one that never existed.
#[derive(Debug, Serialize)]
struct RoomInfo {
    room: String,
    /// The pattern of the table in the settings that is for this room.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Box<str>>,
    connections: u32,
    /// The same on all nodes, if several share an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribers_total: Option<u64>,
    /// Nodes that did not say how many they have.
    #[serde(skip_serializing_if = "json::is_zero")]
    missing_nodes: usize,
    /// Users with a connection here, in alphabetical order, at most [`MEMBERS_MAX`] of them.
    members: Vec<String>,
    /// How many members there are.
    members_total: usize,
    /// Users who may not publish here for now.
    muted: usize,
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
    let hub = &engine.hub;
    let policy = hub.rooms().policy_of(name);
    let mut history = RoomHistory {
        events_max: policy.log.events_max,
        bytes_max: policy.log.bytes_max,
        age_max_s: policy.age_max.as_secs(),
        ..RoomHistory::default()
    };
    let mut info = RoomInfo {
        room: name.into(),
        policy: policy.pattern.clone(),
        connections: 0,
        subscribers_total: None,
        missing_nodes: 0,
        members: Vec::new(),
        members_total: 0,
        muted: hub.mutes().count(name, engine.clock.now()),
        history,
    };
    let Some(room) = hub.rooms().get(name) else {
        return Ok(info);
    };
    history = info.history;
    {
        let log = room.log();
        let id = |offset: Offset| hub.position(offset).to_string();
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
