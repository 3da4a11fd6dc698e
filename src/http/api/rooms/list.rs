//! `GET {base}/rooms`: the rooms that there are, the largest or busiest first, in pages.
//!
//! The thread composes one answer at a time and keeps a page of rooms, however many there are; for the others it allocates nothing. It goes through the table
//! a share at a time, holds no lock while it looks at a room, and lets its other work go on between two shares.
//! O(rooms) for each page.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use serde::Serialize;

use crate::answer::problem::{Code, Problem};
use crate::http::api::json;
use crate::http::api::query::{RoomsQuery, Sort};
use crate::http::call::{Call, Handled};
use crate::http::gate::caller::Caller;
use crate::hub::Hub;
use crate::hub::source::Source;
use crate::hub::table::Table;
use crate::rights::grant::Action;
use crate::types::moment::Moment;

/// Answers with a page.
///
/// # Errors
///
/// As [`Caller::may`]; any problem with the query; as [`json::large`].
pub async fn list(call: &Call<'_>, caller: &Caller) -> Handled {
    caller.may(Action::Administer)?;
    let query = RoomsQuery::parse(call.query())?;
    let _turn = call.context.places.turn().await;
    let engine = call.engine();
    let mut page = read(engine.hub.rooms(), &query).await?;
    // Only for those on the page: each takes a look-up.
    page.rooms
        .iter_mut()
        .for_each(|room| room.members = members(&engine.hub, &room.room, engine.clock.now()));
    json::large(call, &page)
}

/// How many members `room` has, if that is known.
fn members(hub: &Hub, room: &str, now: Moment) -> Option<usize> {
    let room = hub.rooms().get(room).filter(|room| room.with_policy(|policy| policy.presence.is_some()))?;
    Some(hub.presence().page(&room, None, 0, 0, now).total)
}

/// A page of rooms.
#[derive(Debug, Serialize)]
struct Page {
    rooms: Vec<Listed>,
    /// How many rooms there are.
    total: usize,
    /// Whether there are more after this page.
    has_more: bool,
    /// The `after` that returns them.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Box<str>>,
}

/// One room. Those without connections and events look like rooms that never existed, and are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Listed {
    room: Box<str>,
    /// The pattern of the table in the settings that is for this room.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Box<str>>,
    listeners: u32,
    /// Users who are present, if the room has presence.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<usize>,
    /// Events of its history.
    events: usize,
    bytes: usize,
    /// Events a second, lately.
    per_s: f64,
}

/// What a room is ranked by. Reading it allocates nothing: most rooms are not on the page.
#[derive(Clone, Copy, Debug)]
struct Figures {
    listeners: u32,
    events: usize,
    bytes: usize,
    per_s: f64,
}

impl Figures {
    /// Those of `source` now; `None` if it has neither connections nor events.
    fn of(source: &Source) -> Option<Self> {
        let listeners = source.connections();
        let (events, bytes, per_s) =
            source.log().get().map_or((0, 0, 0.0), |log| (log.held(), log.bytes(), log.per_s()));
        let per_s = (f64::from(per_s) * 1000.0).round() / 1000.0;
        (listeners > 0 || events > 0).then_some(Self { listeners, events, bytes, per_s })
    }

    /// What it is sorted by: the largest first.
    fn value(&self, sort: Sort) -> Reverse<u64> {
        Reverse(match sort {
            Sort::Listeners => self.listeners.into(),
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "to a thousandth")]
            Sort::Rate => (self.per_s * 1000.0).round() as u64,
            Sort::Bytes => self.bytes as u64,
            Sort::Name => 0,
        })
    }

    fn listed(self, source: &Source) -> Listed {
        let Self { listeners, events, bytes, per_s } = self;
        let policy = source.with_policy(|policy| policy.pattern.clone());
        Listed { room: source.name().into(), policy, listeners, members: None, events, bytes, per_s }
    }
}

/// A place in the list: rooms of the same value are in alphabetical order.
type Place<N> = (Reverse<u64>, N);

/// The first rooms of a list. The last of them is on top, and makes place for one that comes before it.
struct Best {
    sort: Sort,
    /// Only rooms after this place.
    after: Option<Place<Box<str>>>,
    count_max: usize,
    heap: BinaryHeap<Ranked>,
    total: usize,
    has_more: bool,
}

struct Ranked(Reverse<u64>, Listed);

impl Ranked {
    fn place(&self) -> Place<&str> {
        (self.0, &self.1.room)
    }
}
impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}
impl Eq for Ranked {}
impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

impl Best {
    /// Takes `source`, if it is among the first so far.
    fn offer(&mut self, source: &Source) {
        let Some(figures) = Figures::of(source) else {
            return;
        };
        self.total += 1;
        let place = (figures.value(self.sort), source.name());
        if self.after.as_ref().is_some_and(|(value, room)| place <= (*value, &**room)) {
            return;
        }
        let is_full = self.heap.len() == self.count_max;
        self.has_more |= is_full;
        if is_full && self.heap.peek().is_some_and(|last| last.place() < place) {
            return;
        }
        if is_full {
            self.heap.pop();
        }
        self.heap.push(Ranked(place.0, figures.listed(source)));
    }

    fn into_page(self) -> Page {
        let rooms: Vec<Listed> =
            self.heap.into_sorted_vec().into_iter().map(|Ranked(_, room)| room).collect();
        let last = rooms.last().map(|room| room.room.clone());
        Page { rooms, total: self.total, has_more: self.has_more, after: last.filter(|_| self.has_more) }
    }
}

/// Reads one page of `table`.
///
/// # Errors
///
/// [`Code::QueryInvalid`] if the list is sorted by a figure and the room that the page comes after is gone: with it, its
/// place is.
async fn read(table: &Table, query: &RoomsQuery) -> Result<Page, Problem> {
    let after = query.after.as_ref().map(|room| place_of(table, room.as_str(), query.sort)).transpose()?;
    let mut best = Best {
        sort: query.sort,
        after,
        count_max: query.limit,
        heap: BinaryHeap::with_capacity(query.limit + 1),
        total: 0,
        has_more: false,
    };
    let mut sources: Vec<Arc<Source>> = Vec::new();
    for share in 0..Table::shares() {
        table.visit(share, |source| sources.push(source.clone()));
        sources.drain(..).for_each(|source| best.offer(&source));
        tokio::task::yield_now().await;
    }
    Ok(best.into_page())
}

/// Where `room` is in the list now.
fn place_of(table: &Table, room: &str, sort: Sort) -> Result<Place<Box<str>>, Problem> {
    if sort == Sort::Name {
        return Ok((Reverse(0), room.into()));
    }
    let found = table.get(room).and_then(|source| Figures::of(&source));
    found.map(|found| (found.value(sort), room.into())).ok_or_else(|| {
        let gone = "this room is gone, and its place in the list with it; begin again, or sort by name";
        Problem::new(Code::QueryInvalid).with_detail(gone).about("after")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::room_policy::RoomPolicy;
    use crate::hub::source::SourceKind;
    use crate::types::name::RoomName;

    fn table(rooms: &[(&str, u32)]) -> Table {
        let table = Table::new(SourceKind::Room, 1, RoomPolicy::example());
        for (name, listeners) in rooms {
            let room = table.get_or_create(name);
            (0..*listeners).for_each(|_| assert!(room.enter(u32::MAX).is_some()));
        }
        table
    }

    fn page(table: &Table, sort: Sort, limit: usize, after: Option<&str>) -> Result<Page, Problem> {
        let after = after.map(|room| RoomName::new(room).expect("a name"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(read(table, &RoomsQuery { sort, limit, after }))
    }

    fn names(page: &Page) -> Vec<&str> {
        page.rooms.iter().map(|room| &*room.room).collect()
    }

    #[test]
    fn pages_follow_one_another_without_a_room_twice() {
        let rooms: Vec<(String, u32)> = (1..=40).map(|n| (format!("room {n:02}"), 1 + n % 7)).collect();
        let rooms: Vec<(&str, u32)> = rooms.iter().map(|(name, n)| (&**name, *n)).collect();
        let table = table(&rooms);
        for sort in [Sort::Listeners, Sort::Rate, Sort::Bytes, Sort::Name] {
            let mut wanted = rooms.clone();
            wanted.sort_by_key(|(name, n)| (Reverse(if sort == Sort::Listeners { *n } else { 0 }), *name));
            let (mut found, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = page(&table, sort, 7, after.as_deref()).expect("no room is gone");
                assert_eq!((page.total, page.has_more), (40, found.len() + 7 < 40), "{sort:?}");
                found.extend(page.rooms.iter().map(|room| (room.room.to_string(), room.listeners)));
                let Some(next) = page.after else { break };
                after = Some(next.into());
            }
            let wanted: Vec<(String, u32)> =
                wanted.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
            assert_eq!(found, wanted, "{sort:?}");
        }
    }

    #[test]
    fn a_page_that_takes_all_rooms_is_the_last() {
        let table = table(&[("a", 1), ("b", 2), ("empty", 0)]);
        let all = page(&table, Sort::Listeners, 2, None).expect("a page");
        assert_eq!((names(&all), all.total, all.has_more, &all.after), (vec!["b", "a"], 2, false, &None));
        let first = page(&table, Sort::Listeners, 1, None).expect("a page");
        assert_eq!((names(&first), first.has_more, first.after.as_deref()), (vec!["b"], true, Some("b")));
    }

    #[test]
    fn the_place_of_a_room_that_is_gone_is_known_by_its_name_only() {
        let table = table(&[("a", 1), ("c", 1), ("d", 1)]);
        let gone = page(&table, Sort::Listeners, 9, Some("b")).expect_err("it has no place");
        assert_eq!(
            (gone.code, gone.field.map(|field| field.to_string())),
            (Code::QueryInvalid, Some("\"after\"".into()))
        );
        assert_eq!(names(&page(&table, Sort::Name, 9, Some("b")).expect("a page")), ["c", "d"]);
    }
}
