//! What was claimed a moment ago: idempotency keys, and data that may not be repeated.
//!
//! A claim is two hashes: of who claims what, and of what comes with it. The first one with a claim gets it; whoever
//! comes later with the same claim gets the first one's answer. Time is an argument, and nothing here depends on the
//! process, so every node that decides the same entries in the same order decides alike.
//!
//! Bounded: the table holds so many claims. One more takes the place of the claim that would be forgotten next, which
//! is counted. It takes memory for the claims that it holds.

use std::collections::BTreeSet;

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

/// The claims of the last minutes.
#[derive(Debug)]
pub struct ClaimTable {
    claims: HashMap<u128, Held>,
    /// The same claims, by when they are forgotten.
    by_end: BTreeSet<(Moment, u128)>,
    claims_max: usize,
    turns: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Held {
    content: u128,
    until: Moment,
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
        Self { claims: HashMap::new(), by_end: BTreeSet::new(), claims_max, turns: 0, dropped: 0 }
    }

    /// The turn of the next publish that claims something.
    pub fn next_turn(&mut self) -> Turn {
        self.turns += 1;
        Turn(self.turns)
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
            let until = now + claim.time;
            self.by_end.insert((until, claim.key));
            let held = Held { content: claim.content, until, state: State::Running(turn) };
            self.claims.insert(claim.key, held);
        }
        found
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

    /// Forgets the claims whose time is over, and gives back the memory that a crowd of them has left unused.
    pub fn sweep(&mut self, now: Moment) {
        while self.by_end.first().is_some_and(|(until, _)| *until <= now) {
            self.drop_first();
        }
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
        while self.by_end.first().is_some_and(|(until, _)| *until <= now) {
            self.drop_first();
        }
        while self.claims.len() >= self.claims_max {
            self.drop_first();
            self.dropped += 1;
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, key)) = self.by_end.pop_first() {
            self.claims.remove(&key);
        }
    }

    fn remove(&mut self, key: u128) {
        if let Some(held) = self.claims.remove(&key) {
            self.by_end.remove(&(held.until, key));
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
        let mut table = ClaimTable::new(claims_max);
        let turn = table.next_turn();
        (table, turn)
    }

    #[test]
    fn the_first_one_has_the_claim_and_the_others_its_answer() {
        let (mut table, first) = table(10);
        let second = table.next_turn();
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
        assert!(table.is_empty() && table.by_end.is_empty());
        let second = table.next_turn();
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
        assert_eq!((table.len(), table.by_end.len(), table.dropped()), (0, 0, 0));
    }

    #[test]
    fn the_one_that_ends_first_makes_room() {
        let (mut table, turn) = table(2);
        let short = Claim { time: Duration::from_secs(1), ..claim(1) };
        for claim in [claim(2), short, claim(3)] {
            assert_eq!(table.claim(&claim, turn, NOW), Found::New);
        }
        assert_eq!((table.len(), table.dropped()), (2, 1));
        assert_eq!([1, 2, 3].map(|key| table.find(&claim(key), NOW) == Found::New), [true, false, false]);
    }

    #[test]
    fn a_million_claims_take_the_places_of_a_few() {
        let count = if cfg!(miri) { 1_000 } else { 1_000_000 };
        let (mut table, turn) = table(100);
        for key in 0..count {
            assert_eq!(table.claim(&claim(key), turn, NOW), Found::New);
            table.finish(key, turn, Published::one(5, 2));
        }
        assert_eq!((table.len(), table.by_end.len()), (100, 100));
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
        let bytes = place * (CLAIMS * 8 / 7).next_power_of_two() + 2 * size_of::<(Moment, u128)>() * CLAIMS;
        assert!(bytes <= 20 << 20, "{bytes}");
    }
}
