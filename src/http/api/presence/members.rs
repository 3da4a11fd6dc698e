//! `GET {base}/rooms/{room}/members`: who is present in a room, in pages, in the order of their names.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::engine::Engine;
use crate::http::api::json;
use crate::http::api::presence::has_presence;
use crate::http::api::query::MembersQuery;
use crate::http::call::{Call, Handled};
use crate::http::gate::caller::Caller;
use crate::hub::presence::{MemberInfo, Page};
use crate::rights::grant::Action;
use crate::types::name::{RoomName, UserName};

/// Bytes of members with which a page is full, whatever limit was asked for. A page has at least one member.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// Answers with a page. The thread composes one answer at a time.
///
/// # Errors
///
/// As [`Caller::may`]; any problem with the query; [`Code::PresenceOff`](crate::answer::problem::Code::PresenceOff); as
/// [`json::large`].
pub async fn members(call: &Call<'_>, caller: &Caller, room: &RoomName) -> Handled {
    caller.may(Action::Members(room.as_str()))?;
    let query = MembersQuery::parse(call.query())?;
    has_presence(call.engine(), room)?;
    let _turn = call.context.places.turn().await;
    let page = read(call.engine(), room, &query);
    json::large(call, &Answer::new(room.as_str(), &page))
}

fn read(engine: &Engine, room: &RoomName, query: &MembersQuery) -> Page {
    let Some(room) = engine.hub.rooms().get(room.as_str()) else {
        return Page::default();
    };
    let after = query.after.as_ref().map(UserName::as_str);
    engine.hub.presence().page(&room, after, query.limit, PAGE_BYTES_MAX, engine.clock.now())
}

/// A page of members. A room that does not exist looks like an empty one.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    room: &'a str,
    /// Number of the newest message about the room.
    rev: u64,
    total: usize,
    /// Connections of members.
    connections: u32,
    members: Vec<Member<'a>>,
    /// Whether there are more. The last name of this page is the `after` that returns them.
    has_more: bool,
}

#[derive(Debug, Serialize)]
struct Member<'a> {
    user: &'a str,
    since_s: u64,
    /// None within the grace.
    connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    fn new(room: &'a str, page: &'a Page) -> Self {
        let Page { rev, total, connections, ref members, has_more } = *page;
        Self { room, rev, total, connections, members: members.iter().map(Member::new).collect(), has_more }
    }
}

impl<'a> Member<'a> {
    fn new(info: &'a MemberInfo) -> Self {
        let data = info.data.as_ref();
        Self {
            user: info.user.name(),
            since_s: info.since.as_secs(),
            connections: info.connections,
            data: data.map(|data| serde_json::from_str(data.as_str()).expect("it was checked to be JSON")),
        }
    }
}
