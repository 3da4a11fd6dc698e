//! Publishes: events that are made up, and what must become of them.

use std::task::Waker;

use tidegate::hub::Published;
use tidegate::hub::draft::{Claim, Claims, Draft, Target};
use tidegate::hub::own_ids::Repeats;
use tidegate::order::claims::RequestClaim;
use tidegate::order::memory::First;
use tidegate::order::refused::Refused;
use tidegate::rights::grant::PermissionName;
use tidegate::types::name::{EventId, EventKey, EventName, NameError, RoomName, UserName};

use super::super::model::{Event, To};
use super::super::plan::USERS;
use super::expect::is_position;
use super::{Life, room_name, user_name};

/// Number of names for keys.
pub(super) const KEYS: u8 = 3;

/// What says what an event is the newest of, and whether it is kept.
struct Keyed {
    key: Option<u8>,
    version: Option<u64>,
    store: bool,
}

impl Life<'_> {
    pub(super) fn publish(&mut self) {
        let count = if self.one_in(4) { self.rng.usize(2..8) } else { 1 };
        let (mut drafts, mut events) = (Vec::new(), Vec::new());
        let to_one = self.one_in(2).then(|| self.target());
        for number in self.drawn..self.drawn + count as u64 {
            let to = to_one.unwrap_or_else(|| self.target());
            let (draft, event) = self.draft(to, number);
            drafts.push(draft);
            events.push(event);
        }
        self.drawn += count as u64;
        let repeats = if self.rng.bool() { Repeats::RefuseAll } else { Repeats::EndThere };
        let claims: Vec<Claims> = drafts.iter().map(|draft| draft.claims).collect();
        let request = self.request();
        if let Some(claim) = request.filter(|_| self.rng.u32(0..6) == 0) {
            return self.give_up(&claim);
        }
        let repeats = if request.is_some() { Repeats::RefuseAll } else { repeats };
        self.say(|| format!("publishes {events:?} with {claims:?}, {request:?}, {repeats:?}"));
        self.check_versions();
        let expected = self.decide(events, &claims, request, repeats);
        let answer = self.propose(drafts, request, repeats);
        self.say(|| format!("{answer:?}"));
        assert_eq!(answer, expected, "offsets have no holes, subscribers are counted, no id comes twice");
        assert_eq!(self.hub.head(), self.order.head());
        assert_eq!(self.hub.events_published(), self.order.head());
        let (_, bytes) = self.hub.history();
        assert!(bytes <= self.plan.history.bytes_max, "history takes {bytes} bytes");
    }

    fn propose(
        &mut self,
        drafts: Vec<Draft>,
        request: Option<Claim>,
        repeats: Repeats,
    ) -> Result<Published, Refused> {
        let (now, wake) = (self.moment(), |_: &Published, _: usize, waker: Waker| waker.wake());
        let Some(claim) = request else {
            return self.publisher.propose(drafts, repeats, now, wake);
        };
        if self.rng.bool() {
            return self.publisher.propose_once(RequestClaim { claim, turn: None }, drafts, now, wake);
        }
        match self.publisher.begin(&claim, now)? {
            First::Now(begun) => self.publisher.propose_once(begun.request(), drafts, now, wake),
            First::Before(first) => Ok(first),
        }
    }

    /// Begins a request that is never published: its claim is free again.
    fn give_up(&mut self, claim: &Claim) {
        self.say(|| format!("gives up {claim:?}"));
        let begun = self.publisher.begin(claim, self.moment()).map(drop);
        let expected = self.held(claim).map_or(Ok(()), |held| held.map(drop));
        assert_eq!(begun, expected.map_err(Refused::whole), "{claim:?}");
    }

    /// Adds an event to the model.
    pub(super) fn push(&mut self, event: Event) {
        let rules = if let To::Room(room) = event.to { Some(self.kinds[room].rules()) } else { None };
        self.order.push(event, rules);
    }

    fn target(&mut self) -> To {
        match self.rng.u32(0..10) {
            0..7 => To::Room(self.rng.usize(0..self.plan.rooms)),
            7..9 => To::User(self.rng.usize(0..USERS)),
            _ => To::All,
        }
    }

    /// Makes up the event with this number, as it is published and as the model stores it.
    fn draft(&mut self, to: To, number: u64) -> (Draft, Event) {
        let mut data = match self.rng.u32(0..8) {
            0 => format!("{number}\nb\rc\r\n"),
            1 => format!("{number}\r\r: id: 7"),
            2 => format!("\n {number} é"),
            3 => format!("{number}{}", "x".repeat(self.rng.usize(0..600))),
            _ => format!("{number}"),
        };
        if self.plan.fat {
            data.push_str(&"y".repeat(self.rng.usize(30_000..150_000)));
        }
        let Keyed { key, version, store } = self.keyed(to);
        let stored = store && !matches!(to, To::Room(room) if !self.kinds[room].stores);
        // Its own id would be forgotten with an event that is left out.
        let lasts = stored && key.is_none();
        let id = if lasts { self.own_id(number) } else { None };
        let name = self.one_in(3).then(|| "price".to_owned());
        let exclude = (self.rng.u32(0..100) < self.plan.excluding).then(|| self.rng.usize(0..USERS));
        let is_for_vips = self.rng.u32(0..100) < self.plan.requiring;
        let target = match to {
            To::Room(room) => Target::Room(RoomName::new(&room_name(room)).unwrap()),
            To::User(user) => Target::User(UserName::new(&user_name(user)).unwrap()),
            To::All => Target::All,
        };
        let draft = Draft {
            name: name.as_deref().map(|name| EventName::new(name).unwrap()),
            id: id.as_deref().map(|id| EventId::new(id).unwrap()),
            exclude: exclude.map(|user| UserName::new(&user_name(user)).unwrap()),
            key: key.map(|key| EventKey::new(&format!("key-{key}")).unwrap()),
            version,
            store,
            require: is_for_vips.then(|| PermissionName::new("vip").unwrap()),
            claims: self.claims(stored),
            ..Draft::to(target, data.clone())
        };
        let text = data.replace("\r\n", "\n").replace('\r', "\n");
        (draft, Event { to, exclude, is_for_vips, name, id, key, version, stored, text, at: self.now })
    }

    /// What says what an event to `to` is the newest of, and whether it asks to be stored.
    fn keyed(&mut self, to: To) -> Keyed {
        let is_room = matches!(to, To::Room(_));
        if !is_room || self.plan.kinds.is_none() {
            return Keyed { key: None, version: None, store: true };
        }
        let key = (!self.one_in(3)).then(|| self.rng.u8(0..KEYS));
        let version = match self.rng.u32(0..32) {
            0..10 => Some(self.rng.u64(0..8)),
            10 => Some(*self.rng.choice(&[u64::MAX - 1, u64::MAX]).expect("some")),
            _ => None,
        };
        Keyed { key, version: version.filter(|_| key.is_some()), store: !self.one_in(6) }
    }

    /// Returns an id that a publisher may choose: a new one, one that may be there already, or one that subscribers got
    /// in any life. Ids that are positions cannot be chosen.
    fn own_id(&mut self, number: u64) -> Option<String> {
        let id = match self.rng.u32(0..40) {
            0..6 => format!("c{number}"),
            6 => format!("twin{}", self.rng.u32(0..2)),
            7 => format!("c{}", self.rng.u64(0..=number)),
            8 => self.rng.choice(&*self.ids)?.clone(),
            9 => format!("{}-{}", self.hub.epoch(), self.rng.u64(0..=number + 5)),
            _ => return None,
        };
        let chosen = EventId::new(&id);
        assert_eq!(chosen == Err(NameError::Reserved), is_position(&id), "{id}");
        chosen.is_ok().then_some(id)
    }
}
