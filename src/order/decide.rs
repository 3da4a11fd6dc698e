//! What becomes of proposed events, and then their positions: the two steps of every order.
//!
//! To *decide* is to find out which events are new, which were published before, and which are refused. It needs what was
//! published so far, and what else was decided about since. To *apply* is to give those that are new their positions. In
//! memory, one step follows the other under the same lock. An order on disk commits the events in between.

use crate::hub::apply::{Applying, Fate, Planned, Prepared};
use crate::hub::draft::{Claim, Claims, Draft};
use crate::hub::own_ids::Repeats;
use crate::hub::{Hub, Published};
use crate::order::claims::{Claimed, RequestClaim};
use crate::order::refused::Refused;
use crate::order::round::Round;
use crate::types::moment::Moment;
use crate::types::position::Offset;

/// The events of one publish, ready to be decided about.
pub(super) struct Proposed {
    pub(super) events: Vec<Prepared>,
    /// What the events claim, in their order. Empty if nothing is claimed.
    claims: Vec<Claims>,
    request: Option<RequestClaim>,
    repeats: Repeats,
}

/// What was decided about the events of one publish.
pub(super) struct Decided {
    /// Those that are published, with those that are passed over in between.
    pub(super) events: Vec<Prepared>,
    round: Round,
    request: Option<Claim>,
    is_spread: bool,
}

/// The result of a decision.
pub(super) enum Verdict {
    /// To be applied.
    Apply(Decided),
    /// The same request was published before, with this answer.
    Again(Published),
}

impl Proposed {
    /// Prepares `drafts`: no publisher waits while an event is encoded.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub(super) fn new(
        hub: &Hub,
        drafts: Vec<Draft>,
        request: Option<RequestClaim>,
        repeats: Repeats,
    ) -> Self {
        assert!(!drafts.is_empty(), "at least one event was given");
        let claims_none = |draft: &Draft| draft.claims == Claims::default();
        let is_plain = request.is_none() && drafts.iter().all(claims_none);
        let claims = if is_plain { Vec::new() } else { drafts.iter().map(|draft| draft.claims).collect() };
        let events = drafts.into_iter().map(|draft| hub.prepare(draft)).collect();
        Self { events, claims, request, repeats }
    }

    /// Whether nothing is claimed, so that the table of claims need not be locked.
    pub(super) fn is_plain(&self) -> bool {
        self.claims.is_empty()
    }

    /// The keys of all that is claimed.
    pub(super) fn keys(&self) -> impl Iterator<Item = u128> {
        let request = self.request.iter().map(|request| request.claim.key);
        let events = self.claims.iter().flat_map(|claims| [claims.once, claims.repeat]);
        request.chain(events.flatten().map(|claim| claim.key))
    }

    /// Decides. `claimed` is there unless nothing is claimed. The positions that [`Planned::take`] gave are those of the
    /// events that are new.
    ///
    /// # Errors
    ///
    /// If the request is refused, or one of its events and with it all.
    pub(super) fn decide(
        self,
        claimed: Option<&mut Claimed>,
        applying: &mut Applying<'_>,
        planned: &mut Planned,
        now: Moment,
    ) -> Result<Verdict, Refused> {
        let Self { mut events, claims, request, repeats } = self;
        let mut round = Round::default();
        if let Some(claimed) = claimed {
            if let Some(first) = round.begin(claimed, request, now)? {
                return Ok(Verdict::Again(first));
            }
            round.claim(claimed, &claims, &mut events, repeats, now)?;
        }
        applying.pass_outdated(&mut events, planned);
        if let Some(index) = applying.claim(&mut events, repeats, planned) {
            round.stop_at(index);
        }
        let (request, is_spread) = (request.map(|request| request.claim), planned.is_spread());
        Ok(Verdict::Apply(Decided { events, round, request, is_spread }))
    }
}

/// What becomes of an event. If it is published, that is at `position`, and for as many connections as `publish` returns.
fn outcome(fate: Fate, position: Offset, publish: impl FnOnce() -> u32) -> Published {
    match fate {
        Fate::Published => Published::one(position, publish()),
        Fate::Outdated => Published { skipped: 1, ..Published::default() },
        Fate::Replayed(first) => Published { events: 0, skipped: 0, replayed: 1, is_repeat: false, ..first },
    }
}

impl Decided {
    /// How many events are new.
    pub(super) fn count(&self) -> u32 {
        let new = self.events.iter().filter(|event| event.fate() == Fate::Published).count();
        u32::try_from(new).expect("far fewer than 2^32")
    }

    /// Applies the events, those that are new from position `first` on, and adds up what became of them.
    pub(super) fn apply(&mut self, applying: &mut Applying<'_>, first: Offset, now: Moment) -> Published {
        let mut published = Published::default();
        let mut next = first;
        for event in std::mem::take(&mut self.events) {
            let (fate, position) = (event.fate(), next);
            next += u64::from(self.is_spread || fate == Fate::Published);
            let one = outcome(fate, position, || applying.apply(position, event, now));
            published.add(&one);
            self.round.answer(one);
        }
        published
    }

    /// Gives the claims their answers.
    pub(super) fn finish(&self, claimed: &mut Claimed, published: &Published) {
        self.round.finish(claimed, published);
    }

    /// Undoes the decision: nothing is published, and all claims are free again.
    pub(super) fn undo(self, claimed: &mut Claimed, applying: &mut Applying<'_>) {
        applying.release(self.events);
        self.round.undo(claimed);
    }

    /// What becomes of the events if the first that is new is applied at `first`, as far as is known before: the number of
    /// connections may change until then.
    pub(super) fn expected(&self, first: Offset) -> Published {
        let mut published = Published::default();
        let mut next = first;
        for event in &self.events {
            published.add(&outcome(event.fate(), next, || event.connections()));
            next += u64::from(self.is_spread || event.fate() == Fate::Published);
        }
        published
    }

    /// The claim of the request, if it made one and nothing of it was refused.
    pub(super) fn request(&self) -> Option<Claim> {
        self.request.filter(|_| !self.round.is_stopped())
    }

    /// The result, if `published` is what became of the events.
    ///
    /// # Errors
    ///
    /// If one of them is refused.
    pub(super) fn result(&self, published: Published) -> Result<Published, Refused> {
        self.round.result(published)
    }
}
