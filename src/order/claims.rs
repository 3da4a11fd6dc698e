//! What was claimed a moment ago: idempotency keys, and data that may not be repeated.
//!
//! A claim is two hashes: of who claims what, and of what comes with it. The first one with a claim gets it; whoever
//! comes later with the same claim gets the first one's answer. Time is an argument, and nothing here depends on the
//! process, so every node that decides the same entries in the same order decides alike.
//!
//! Bounded: a table holds so many claims. One more takes the place of the oldest, which is counted. It takes memory for
//! the claims that it holds. Keys and data have a table each: whoever may publish can fill the one for data, and what
//! others have made safe with keys must not make room for it.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::hub::Published;
use crate::hub::draft::Claim;
use crate::types::moment::Moment;

/// The number of a publish, by which it knows its own claims.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turn(u64);

/// A request that is published once.
#[derive(Clone, Copy, Debug)]
pub struct RequestClaim {
    /// What it claims.
    pub claim: Claim,
    /// The turn that has the claim already; `None` if it is claimed when the request is published.
    pub turn: Option<Turn>,
}

/// What the table knows of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Found {
    /// Nothing: whoever asks is the first.
    New,
    /// The first one's answer.
    Done(Published),
    /// The first one has no answer yet. This is its turn.
    Running(Turn),
    /// The same key came with something else.
    Other,
}

/// What can be claimed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An idempotency key, of a request or of an event.
    Key,
    /// Data that may not be repeated.
    Data,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Key, Self::Data];

    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Data => "data",
        }
    }
}

/// The claims of the last minutes.
#[derive(Debug)]
pub struct Claimed {
    /// By [`Kind`].
    tables: [ClaimTable; 2],
    turns: u64,
}

impl Claimed {
    /// Tables of at most `claims_max` claims each. With 0, everyone is the first.
    #[must_use]
    pub fn new(claims_max: usize) -> Self {
        Self { tables: [ClaimTable::new(claims_max), ClaimTable::new(claims_max)], turns: 0 }
    }

    /// The turn of the next publish that claims something.
    pub fn next_turn(&mut self) -> Turn {
        self.turns += 1;
        Turn(self.turns)
    }

    /// The claims of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &ClaimTable {
        &self.tables[kind as usize]
    }

    /// The claims of one kind.
    pub fn of_mut(&mut self, kind: Kind) -> &mut ClaimTable {
        &mut self.tables[kind as usize]
    }

    /// Forgets the claims whose time is over.
    pub fn sweep(&mut self, now: Moment) {
        self.tables.iter_mut().for_each(|table| table.sweep(now));
    }
}

/// The claims of one kind.
#[derive(Debug)]
pub struct ClaimTable {
    claims: HashMap<u128, Held>,
    /// The keys of the same claims, oldest first. Each claim has an age of its own, which grows.
    by_age: BTreeMap<u64, u128>,
    /// The ages of the same claims, by when they are forgotten.
    by_end: BTreeSet<(Moment, u64)>,
    next_age: u64,
    claims_max: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Held {
    content: u128,
    until: Moment,
    age: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(Turn),
    Done(Published),
}

impl ClaimTable {
    /// A table of at most `claims_max` claims. With 0, everyone is the first.
    #[must_use]
    pub fn new(claims_max: usize) -> Self {
        let (claims, by_age, by_end) = Default::default();
        Self { claims, by_age, by_end, next_age: 0, claims_max, dropped: 0 }
    }

    /// What is known of `claim`.
    pub fn find(&self, claim: &Claim, now: Moment) -> Found {
        match self.claims.get(&claim.key).filter(|held| held.until > now) {
            None => Found::New,
            Some(held) if held.content != claim.content => Found::Other,
            Some(Held { state: State::Running(turn), .. }) => Found::Running(*turn),
            Some(Held { state: State::Done(answer), .. }) => Found::Done(*answer),
        }
    }

    /// Claims for `turn`, if nobody did before. Returns what was known.
    pub fn claim(&mut self, claim: &Claim, turn: Turn, now: Moment) -> Found {
        let found = self.find(claim, now);
        if found == Found::New && self.claims_max > 0 {
            self.remove(claim.key);
            self.make_room(now);
            let (age, until) = (self.next_age, now + claim.time);
            self.next_age += 1;
            self.by_age.insert(age, claim.key);
            self.by_end.insert((until, age));
            let held = Held { content: claim.content, until, age, state: State::Running(turn) };
            self.claims.insert(claim.key, held);
        }
        found
    }

    /// Remembers a claim of an earlier life, which was made at `then` and got this `answer`.
    pub fn restore(&mut self, claim: &Claim, turn: Turn, then: Moment, answer: Published) {
        // One that is there already is newer.
        if self.claim(claim, turn, then) == Found::New {
            self.finish(claim.key, turn, answer);
        }
    }

    /// Notes the answer to what `turn` claimed under `key`. Nothing happens if it is forgotten already.
    pub fn finish(&mut self, key: u128, turn: Turn, answer: Published) {
        if let Some(held) = self.claims.get_mut(&key).filter(|held| held.is_running(turn)) {
            held.state = State::Done(answer);
        }
    }

    /// Forgets what `turn` claimed under `key` and did not finish, so that it can be tried again.
    pub fn forget(&mut self, key: u128, turn: Turn) {
        if self.claims.get(&key).is_some_and(|held| held.is_running(turn)) {
            self.remove(key);
        }
    }

    /// Forgets the claim of `key` if it has no answer yet, whose turn ever it is.
    pub fn free_running(&mut self, key: u128) {
        if self.claims.get(&key).is_some_and(|held| matches!(held.state, State::Running(_))) {
            self.remove(key);
        }
    }

    /// Forgets the claims whose time is over, and gives back the memory that a crowd of them has left unused.
    pub fn sweep(&mut self, now: Moment) {
        self.drop_ended(now);
        if self.claims.len() < self.claims.capacity() / 4 {
            self.claims.shrink_to(2 * self.claims.len());
        }
    }

    /// Number of claims that are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether no claim is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// The most claims that may be held.
    #[must_use]
    pub fn claims_max(&self) -> usize {
        self.claims_max
    }

    /// Number of claims that were forgotten before their time, because others needed their places.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Makes room for one more claim.
    fn make_room(&mut self, now: Moment) {
        self.drop_ended(now);
        while self.claims.len() >= self.claims_max {
            let Some((_, oldest)) = self.by_age.first_key_value() else { return };
            self.remove(*oldest);
            self.dropped += 1;
        }
    }

    fn drop_ended(&mut self, now: Moment) {
        while let Some((_, age)) = self.by_end.first().filter(|(until, _)| *until <= now) {
            let key = self.by_age.get(age).copied().expect("each claim is in all three");
            self.remove(key);
        }
    }

    fn remove(&mut self, key: u128) {
        if let Some(held) = self.claims.remove(&key) {
            self.by_age.remove(&held.age);
            self.by_end.remove(&(held.until, held.age));
        }
    }
}

impl Held {
    fn is_running(&self, turn: Turn) -> bool {
        matches!(self.state, State::Running(its) if its == turn)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Moment = Moment(7);
    const MINUTE: Duration = Duration::from_mins(1);

    fn claim(key: u128) -> Claim {
        Claim { key, content: 10 * key, time: MINUTE }
    }

    fn table(claims_max: usize) -> (ClaimTable, Turn) {
        (ClaimTable::new(claims_max), Turn(1))
    }

    #[test]
    fn the_first_one_has_the_claim_and_the_others_its_answer() {
        let (mut table, first) = table(10);
        let second = Turn(2);
        assert_eq!(table.claim(&claim(1), first, NOW), Found::New);
        assert_eq!(table.claim(&claim(1), second, NOW), Found::Running(first));
        table.finish(1, second, Published::one(5, 2));
        assert_eq!(table.find(&claim(1), NOW), Found::Running(first), "it was not the second one's");
        table.finish(1, first, Published::one(5, 2));
        assert_eq!(table.claim(&claim(1), second, NOW), Found::Done(Published::one(5, 2)));
        assert_eq!(table.find(&claim(2), NOW), Found::New);
    }

    #[test]
    fn the_same_key_with_something_else_is_told_apart() {
        let (mut table, turn) = table(10);
        assert_eq!(table.claim(&claim(1), turn, NOW), Found::New);
        let other = Claim { content: 11, ..claim(1) };
        assert_eq!(table.claim(&other, turn, NOW), Found::Other);
        table.finish(1, turn, Published::one(5, 2));
        assert_eq!(table.find(&other, NOW), Found::Other);
    }

    #[test]
    fn a_claim_that_came_to_nothing_is_free_and_one_with_an_answer_is_not() {
        let (mut table, turn) = table(10);
        assert_eq!(table.claim(&claim(1), turn, NOW), Found::New);
        table.forget(1, turn);
        assert!(table.is_empty() && table.by_age.is_empty() && table.by_end.is_empty());
        let second = Turn(2);
        assert_eq!(table.claim(&claim(1), second, NOW), Found::New);
        table.forget(1, turn);
        table.finish(1, second, Published::one(5, 2));
        table.forget(1, second);
        assert_eq!(table.find(&claim(1), NOW), Found::Done(Published::one(5, 2)));
    }

    #[test]
    fn each_is_remembered_for_its_own_time() {
        let (mut table, turn) = table(10);
        let short = Claim { time: Duration::from_secs(1), ..claim(1) };
        for claim in [short, claim(2)] {
            assert_eq!(table.claim(&claim, turn, NOW), Found::New);
            table.finish(claim.key, turn, Published::one(5, 2));
        }
        let soon = NOW + Duration::from_secs(1);
        assert_eq!(table.find(&short, soon), Found::New);
        assert!(matches!(table.find(&claim(2), soon), Found::Done(_)));
        // Claimed again before it was swept.
        assert_eq!(table.claim(&claim(1), turn, soon), Found::New);
        table.sweep(soon + MINUTE);
        assert_eq!((table.len(), table.by_age.len(), table.by_end.len(), table.dropped()), (0, 0, 0, 0));
    }

    /// The one that would have ended first used to make room: a room that refuses repeats for an hour filled the table,
    /// and in another, which refuses them for some seconds, each was forgotten at once.
    #[test]
    fn the_oldest_makes_room_whenever_it_ends() {
        let (mut table, turn) = table(2);
        let short = Claim { time: Duration::from_secs(1), ..claim(2) };
        for claim in [claim(1), short, claim(3)] {
            assert_eq!(table.claim(&claim, turn, NOW), Found::New);
        }
        assert_eq!((table.len(), table.dropped()), (2, 1));
        assert_eq!([1, 2, 3].map(|key| table.find(&claim(key), NOW) == Found::New), [true, false, false]);
        // What has ended makes room first, and is not counted.
        assert_eq!(table.claim(&claim(4), turn, NOW + short.time), Found::New);
        assert_eq!((table.len(), table.dropped()), (2, 1));
        assert!(matches!(table.find(&claim(3), NOW + short.time), Found::Running(_)));
    }

    /// Both had the same places, and those that ended first went first. Data that may not be repeated for an hour drove
    /// out each new key: some dozens of messages a second, by anyone who may publish, and retries published twice.
    #[test]
    fn data_does_not_take_the_places_of_keys() {
        let mut claimed = Claimed::new(10);
        let turn = claimed.next_turn();
        let hour = |key| Claim { time: Duration::from_hours(1), ..claim(key) };
        for key in 0..100 {
            assert_eq!(claimed.of_mut(Kind::Data).claim(&hour(key), turn, NOW), Found::New);
        }
        assert_eq!(claimed.of_mut(Kind::Key).claim(&claim(1), turn, NOW), Found::New);
        for key in 100..200 {
            assert_eq!(claimed.of_mut(Kind::Data).claim(&hour(key), turn, NOW), Found::New);
        }
        assert_eq!(claimed.of(Kind::Key).find(&claim(1), NOW), Found::Running(turn));
        assert_eq!([Kind::Key, Kind::Data].map(|kind| claimed.of(kind).dropped()), [0, 190]);
    }

    #[test]
    fn a_million_claims_take_the_places_of_a_few() {
        let count = if cfg!(miri) { 1_000 } else { 1_000_000 };
        let (mut table, turn) = table(100);
        for key in 0..count {
            assert_eq!(table.claim(&claim(key), turn, NOW), Found::New);
            table.finish(key, turn, Published::one(5, 2));
        }
        assert_eq!((table.len(), table.by_age.len(), table.by_end.len()), (100, 100, 100));
        assert_eq!(u128::from(table.dropped()), count - 100);
        assert!(table.claims.capacity() <= 448, "{} places", table.claims.capacity());
        assert!(matches!(table.find(&claim(count - 1), NOW), Found::Done(_)));
        table.sweep(NOW + MINUTE);
        assert_eq!((table.len(), table.claims.capacity()), (0, 0));
    }

    #[test]
    fn a_table_without_places_remembers_nothing() {
        let (mut table, turn) = table(0);
        for _ in 0..2 {
            assert_eq!(table.claim(&claim(1), turn, NOW), Found::New);
            table.finish(1, turn, Published::one(5, 2));
        }
        assert_eq!((table.len(), table.dropped()), (0, 0));
    }

    /// SECURITY.md says how much memory claims take.
    #[test]
    fn a_claim_takes_no_more_than_is_said() {
        const CLAIMS: usize = 100_000;
        // A place and its byte of control; half of the places may be empty. A tree's nodes are half full at worst.
        let place = size_of::<(u128, Held)>() + 1;
        let in_trees = size_of::<u64>() + size_of::<u128>() + size_of::<(Moment, u64)>();
        let bytes = place * (CLAIMS * 8 / 7).next_power_of_two() + 2 * in_trees * CLAIMS;
        assert!(bytes <= 20 << 20, "{bytes}");
    }
}
