//! The order of one process, in memory: the next number is the next position, without agreement between nodes.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use crate::hub::apply::{Counts, Planned, Prepared};
use crate::hub::draft::{Claim, Draft};
use crate::hub::own_ids::Repeats;
use crate::hub::source::Source;
use crate::hub::{Hub, Published};
use crate::order::claims::{Claimed, Found, Kind, RequestClaim, Turn};
use crate::order::decide::{Proposed, Verdict};
use crate::order::refused::{Refused, Why};
use crate::types::count::Count;
use crate::types::moment::Moment;

/// The order in memory. Its positions are those of the hub to which it applies.
#[derive(Clone)]
pub struct MemoryOrder {
    hub: Arc<Hub>,
    /// Locked before the hub's history, and only by publishes that claim something.
    claims: Arc<Mutex<Claimed>>,
    stats: Arc<OrderStats>,
}

/// Counters of the order.
#[derive(Debug, Default)]
pub struct OrderStats {
    /// Events and requests that were answered with what an earlier one was answered.
    pub replayed: Count,
    /// Events that were not published, because there is a newer version of what they are about.
    pub skipped: Count,
}

impl MemoryOrder {
    /// The order that `hub` follows. It remembers no claims.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Self::remembering(hub, 0)
    }

    /// The order that `hub` follows. It remembers so many claims of each kind.
    #[must_use]
    pub fn remembering(hub: Arc<Hub>, claims_max: usize) -> Self {
        let claims = Arc::new(Mutex::new(Claimed::new(claims_max)));
        Self { hub, claims, stats: Arc::default() }
    }

    /// The hub that follows it.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Publishes `drafts` next to each other.
    ///
    /// # Errors
    ///
    /// If one of them is refused. Then none is published.
    ///
    /// # Panics
    ///
    /// If `drafts` is empty.
    pub fn publish(
        &self,
        drafts: impl IntoIterator<Item = Draft>,
        now: Moment,
    ) -> Result<Published, Refused> {
        self.propose(drafts, Repeats::RefuseAll, now, |_, _, waker| waker.wake())
    }

    /// Publishes `drafts` next to each other, and calls `wake` for each sleeping shard that has news now. Events that
    /// were published before are left out.
    ///
    /// # Errors
    ///
    /// If one of them is refused. `repeats` says whether the events before it are published.
    ///
    /// # Panics
    ///
    /// If there are no drafts.
    pub fn propose(
        &self,
        drafts: impl IntoIterator<Item = Draft>,
        repeats: Repeats,
        now: Moment,
        wake: impl FnMut(&Published, usize, Waker),
    ) -> Result<Published, Refused> {
        self.decide(drafts.into_iter().collect(), None, repeats, now, wake)
    }

    /// Publishes the `drafts` of a request once: if that was done before, returns the answer of that time.
    ///
    /// # Errors
    ///
    /// If one of them is refused, or the request's claim. Then none is published, and the claim is free again.
    ///
    /// # Panics
    ///
    /// If there are no drafts.
    pub fn propose_once(
        &self,
        request: RequestClaim,
        drafts: impl IntoIterator<Item = Draft>,
        now: Moment,
        wake: impl FnMut(&Published, usize, Waker),
    ) -> Result<Published, Refused> {
        self.decide(drafts.into_iter().collect(), Some(request), Repeats::RefuseAll, now, wake)
    }

    /// Decides about `drafts`, and publishes those that are new. `request` is the claim of the whole, if it makes one.
    ///
    /// # Errors
    ///
    /// If one of them is refused, or the request's claim.
    ///
    /// # Panics
    ///
    /// If there are no drafts.
    pub fn decide(
        &self,
        drafts: Vec<Draft>,
        request: Option<RequestClaim>,
        repeats: Repeats,
        now: Moment,
        mut wake: impl FnMut(&Published, usize, Waker),
    ) -> Result<Published, Refused> {
        let proposed = Proposed::new(&self.hub, drafts, request, repeats);
        let mut claimed = (!proposed.is_plain()).then(|| self.claims.lock());
        let mut applying = self.hub.applying(Counts::Yes);
        let first = applying.newest() + 1;
        let mut planned = Planned::from(first);
        let mut decided = match proposed.decide(claimed.as_deref_mut(), &mut applying, &mut planned, now)? {
            Verdict::Apply(decided) => decided,
            Verdict::Again(first) => return Ok(self.again(first)),
        };
        let published = decided.apply(&mut applying, first, now);
        if let Some(claimed) = claimed.as_deref_mut() {
            decided.finish(claimed, &published);
        }
        let wakers = applying.finish(now);
        drop(claimed);
        self.count(&published);
        for (shard, waker) in wakers {
            wake(&published, shard, waker);
        }
        decided.result(published)
    }

    /// Counts what became of events.
    pub fn count(&self, published: &Published) {
        self.stats.replayed.add_many(published.replayed.into());
        self.stats.skipped.add_many(published.skipped.into());
    }

    /// What was claimed.
    pub(super) fn claimed(&self) -> MutexGuard<'_, Claimed> {
        self.claims.lock()
    }

    /// The answer of an earlier request that made the same claim with the same content, if there was one.
    ///
    /// # Errors
    ///
    /// If the same was claimed for something else, or has no answer yet.
    pub fn answer_to(&self, claim: &Claim, now: Moment) -> Result<Option<Published>, Refused> {
        let found = self.claims.lock().of(Kind::Key).find(claim, now);
        match found {
            Found::New => Ok(None),
            Found::Done(first) => Ok(Some(self.again(first))),
            Found::Running(_) => Err(Refused::whole(Why::Running)),
            Found::Other => Err(Refused::whole(Why::Mismatch)),
        }
    }

    /// Whether an event with this claim was published before.
    #[must_use]
    pub fn knows(&self, claim: &Claim, now: Moment) -> bool {
        matches!(self.claims.lock().of(Kind::Key).find(claim, now), Found::Done(_))
    }

    /// Claims for a request that is not published at once. The claim is free again when the value is dropped.
    ///
    /// # Errors
    ///
    /// If the same was claimed for something else, or has no answer yet.
    pub fn begin(&self, claim: &Claim, now: Moment) -> Result<First<'_>, Refused> {
        let mut claimed = self.claims.lock();
        let turn = claimed.next_turn();
        match claimed.of_mut(Kind::Key).claim(claim, turn, now) {
            Found::New => Ok(First::Now(Begun { order: self, claim: *claim, turn })),
            Found::Done(first) => Ok(First::Before(self.again(first))),
            Found::Running(_) => Err(Refused::whole(Why::Running)),
            Found::Other => Err(Refused::whole(Why::Mismatch)),
        }
    }

    /// Counts a request that was published before, whose answer was `first`.
    pub(super) fn again(&self, first: Published) -> Published {
        self.stats.replayed.add();
        Published { is_repeat: true, ..first }
    }

    /// How many claims of a kind there are.
    #[must_use]
    pub fn claims(&self, kind: Kind) -> ClaimCounts {
        let claimed = self.claims.lock();
        let table = claimed.of(kind);
        ClaimCounts { held: table.len(), max: table.claims_max(), dropped: table.dropped() }
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &OrderStats {
        &self.stats
    }

    /// Forgets the claims whose time is over.
    pub fn tidy(&self, now: Moment) {
        self.claims.lock().sweep(now);
    }

    /// Publishes the readiness probe's event to `source`. It is not counted, and not kept after its delivery.
    #[must_use]
    pub fn publish_probe(&self, source: &Arc<Source>, data: &str, now: Moment) -> Published {
        let event = Prepared::own(source, data);
        let mut applying = self.hub.applying(Counts::No);
        let offset = applying.newest() + 1;
        let published = Published::one(offset, applying.apply(offset, event, now));
        for (_, waker) in applying.finish(now) {
            waker.wake();
        }
        published
    }
}

/// How many claims of one kind there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClaimCounts {
    /// Claims that are held.
    pub held: usize,
    /// The most that may be.
    pub max: usize,
    /// Claims that were forgotten before their time, because others needed their places.
    pub dropped: u64,
}

/// Whether a request is the first with its claim.
pub enum First<'o> {
    /// It is, and has the claim.
    Now(Begun<'o>),
    /// The answer of the first one.
    Before(Published),
}

/// A claim that is held until the request is published, or given up.
pub struct Begun<'o> {
    order: &'o MemoryOrder,
    claim: Claim,
    turn: Turn,
}

impl Begun<'_> {
    /// The claim, for [`MemoryOrder::propose_once`].
    #[must_use]
    pub fn request(&self) -> RequestClaim {
        RequestClaim { claim: self.claim, turn: Some(self.turn) }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // Nothing happens if the request was published.
        self.order.claims.lock().of_mut(Kind::Key).forget(self.claim.key, self.turn);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hub::HubSettings;
    use crate::hub::admission::Caps;
    use crate::hub::draft::Claims;
    use crate::hub::draft::Target;
    use crate::hub::history::HistoryBounds;
    use crate::hub::log::rules::LogBounds;
    use crate::hub::memory_level::MemoryLevel;
    use crate::types::name::{EventId, EventKey, RoomName};
    use crate::types::position::Epoch;

    fn hub() -> Arc<Hub> {
        let log = LogBounds { events_max: 1000, bytes_max: 1 << 20 };
        Hub::new(HubSettings {
            shards: 1,
            epoch: Epoch::new(1),
            history: HistoryBounds { log, bytes_max: 1 << 30, age_max: Duration::from_hours(1) },
            caps: Caps { connections_max: 1, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        })
    }

    fn claim(key: u128) -> Claim {
        Claim { key, content: 1, time: Duration::from_mins(5) }
    }

    /// An event that is published once, with an id of its own.
    fn once(key: u128, id: &str) -> Draft {
        let claims = Claims { once: Some(claim(key)), ..Claims::default() };
        Draft { claims, id: EventId::new(id).ok(), ..Draft::to(Target::All, "x") }
    }

    fn propose(order: &MemoryOrder, drafts: Vec<Draft>, repeats: Repeats) -> Result<Published, Refused> {
        order.propose(drafts, repeats, Moment(1), |_, _, waker| waker.wake())
    }

    #[test]
    fn what_is_published_again_is_answered_before_its_id_is_looked_at() {
        let order = MemoryOrder::remembering(hub(), 10);
        let first = propose(&order, vec![once(1, "a")], Repeats::RefuseAll).expect("it is new");
        assert_eq!((first.offset, first.events, first.replayed), (1, 1, 0));
        let both = propose(&order, vec![once(2, "b"), once(1, "a"), once(2, "b")], Repeats::RefuseAll);
        let both = both.expect("the others were published before");
        assert_eq!((both.offset, both.events, both.replayed), (2, 1, 2));
        let again = propose(&order, vec![once(1, "a")], Repeats::RefuseAll).expect("a repeat");
        assert_eq!((again.offset, again.events, again.replayed), (1, 0, 1));
        assert_eq!((order.hub.head(), order.stats().replayed.get()), (2, 3));
    }

    /// Its mutes and rates were not checked, because the key was known a moment ago.
    #[test]
    fn an_event_whose_key_was_known_does_not_go_out_when_the_key_is_forgotten() {
        let order = MemoryOrder::remembering(hub(), 10);
        let known = |key| {
            let mut draft = once(key, "a");
            draft.claims.is_known = true;
            draft
        };
        let refused = propose(&order, vec![known(1)], Repeats::RefuseAll);
        assert_eq!((refused, order.claims(Kind::Key).held), (Err(Refused::at(0, Why::Running)), 0));
        propose(&order, vec![once(1, "a")], Repeats::RefuseAll).expect("it is new");
        let again = propose(&order, vec![known(1)], Repeats::RefuseAll).expect("a repeat");
        assert_eq!((again.replayed, order.hub.head()), (1, 1));
    }

    #[test]
    fn what_is_not_published_claims_nothing() {
        let order = MemoryOrder::remembering(hub(), 10);
        propose(&order, vec![once(1, "a")], Repeats::RefuseAll).expect("it is new");
        // The second has a used id, so the first does not go out either.
        let refused = propose(&order, vec![once(2, "b"), once(3, "a")], Repeats::RefuseAll);
        assert_eq!(refused, Err(Refused::at(1, Why::IdUsed)));
        assert_eq!(order.claims(Kind::Key).held, 1);
        let mismatch = Draft {
            claims: Claims { once: Some(Claim { content: 2, ..claim(1) }), ..Claims::default() },
            ..once(1, "c")
        };
        let refused = propose(&order, vec![once(2, "b"), mismatch.clone()], Repeats::RefuseAll);
        assert_eq!(refused, Err(Refused::at(1, Why::Mismatch)));
        assert_eq!((order.claims(Kind::Key).held, order.hub.head()), (1, 1));
        // Lines stop there: the one before goes out, and those after it are free.
        let lines = vec![once(1, "a"), once(2, "b"), mismatch, once(4, "d")];
        let refused = propose(&order, lines, Repeats::EndThere).expect_err("a mismatch");
        let before = refused.before.expect("two were good");
        assert_eq!((refused.index, before.events, before.replayed), (Some(2), 1, 1));
        assert_eq!((order.claims(Kind::Key).held, order.hub.head()), (2, 2));
        let rest = propose(&order, vec![once(4, "d")], Repeats::EndThere).expect("it is new");
        assert_eq!((rest.events, rest.replayed), (1, 0));
    }

    #[test]
    fn a_request_that_is_given_up_can_be_sent_again() {
        let order = MemoryOrder::remembering(hub(), 10);
        let once = |request| {
            let draft = Draft::to(Target::All, "x");
            order.propose_once(request, [draft], Moment(1), |_, _, waker| waker.wake())
        };
        let fresh = RequestClaim { claim: claim(1), turn: None };
        let Ok(First::Now(begun)) = order.begin(&claim(1), Moment(1)) else { panic!("it is free") };
        assert_eq!(once(fresh), Err(Refused::whole(Why::Running)));
        assert_eq!(order.answer_to(&claim(1), Moment(1)), Err(Refused::whole(Why::Running)));
        assert_eq!(order.begin(&claim(1), Moment(1)).err(), Some(Refused::whole(Why::Running)));
        drop(begun);
        let Ok(First::Now(begun)) = order.begin(&claim(1), Moment(1)) else { panic!("it is free again") };
        let first = once(begun.request()).expect("it is new");
        drop(begun);
        let again = Published { is_repeat: true, ..first };
        assert_eq!(once(fresh), Ok(again));
        assert_eq!(order.answer_to(&claim(1), Moment(1)), Ok(Some(again)));
        assert!(matches!(order.begin(&claim(1), Moment(1)), Ok(First::Before(before)) if before == again));
        assert_eq!(order.hub.head(), 1);
    }

    /// The data of an event that was skipped for its version counted as said: with a newer version, it was refused.
    #[test]
    fn what_is_skipped_has_not_said_its_data() {
        let order = MemoryOrder::remembering(hub(), 10);
        let propose = |version, data| {
            let draft = Draft {
                key: EventKey::new("k").ok(),
                version: Some(version),
                claims: Claims { repeat: Some(claim(data)), ..Claims::default() },
                ..Draft::to(Target::All, "x")
            };
            propose(&order, vec![draft], Repeats::RefuseAll).map(|published| published.skipped)
        };
        assert_eq!([propose(5, 1), propose(4, 2), propose(6, 2)], [Ok(0), Ok(1), Ok(0)]);
        assert_eq!(propose(7, 2), Err(Refused::at(0, Why::SameData)));
    }

    /// With publishes refused, nothing new drove old events out: the engine stayed on the last level until they were too old.
    #[test]
    fn on_the_last_rung_an_eighth_of_the_history_goes_at_a_time() {
        let hub = hub();
        let order = MemoryOrder::new(hub.clone());
        for n in 0..800 {
            let target = Target::Room(RoomName::new(&format!("{}", n % 8)).expect("a name"));
            let data = "x".repeat(500);
            let draft = Draft::to(target, data);
            order.publish([draft], Moment(1)).expect("no id");
        }
        let events_after = |level| {
            hub.set_memory_level(level);
            hub.tidy(Moment(1));
            hub.history().0
        };
        assert_eq!(events_after(MemoryLevel::NoNewcomers), 800);
        let (once, twice) = (events_after(MemoryLevel::NoPublishes), events_after(MemoryLevel::NoPublishes));
        assert!((690..=710).contains(&once) && (600..=620).contains(&twice), "{once} {twice}");
        assert_eq!(events_after(MemoryLevel::Normal), twice);
    }
}
