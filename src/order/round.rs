//! One publish and its claims: which of its events are new, which were published before, and which is refused.
//!
//! The claims are made before the events have positions, and have their answers afterwards, all under one hold of the
//! table's lock. Whatever is not published in the end is claimed by nobody.

use crate::hub::Published;
use crate::hub::apply::Prepared;
use crate::hub::draft::{Claim, Claims};
use crate::hub::own_ids::Repeats;
use crate::order::claims::{Claimed, Found, Kind, RequestClaim, Turn};
use crate::order::refused::{Refused, Why};
use crate::types::moment::Moment;

/// What was decided about the events of one publish. A publish that claims nothing has no turn.
#[derive(Debug, Default)]
pub(super) struct Round {
    turn: Option<Turn>,
    /// The key that the request itself has claimed.
    request: Option<u128>,
    /// What events have claimed.
    begun: Vec<Begun>,
    /// Answers of the events, in their order; with a turn only.
    answers: Vec<Published>,
    /// The event that is refused. Those after it are not looked at.
    stop: Option<(usize, Why)>,
}

/// A claim of one event.
#[derive(Debug)]
struct Begun {
    /// The event's index.
    index: usize,
    key: u128,
    kind: Kind,
}

/// What becomes of an event by its claims.
enum Verdict {
    New,
    /// The same turn has claimed it before, and there is no answer yet.
    Own,
    Old(Published),
}

impl Round {
    /// Makes the claim of the request. Returns the answer of the first request with this claim, if there was one.
    ///
    /// # Errors
    ///
    /// If the request is refused.
    pub(super) fn begin(
        &mut self,
        claimed: &mut Claimed,
        request: Option<RequestClaim>,
        now: Moment,
    ) -> Result<Option<Published>, Refused> {
        let turn = request.and_then(|request| request.turn).unwrap_or_else(|| claimed.next_turn());
        self.turn = Some(turn);
        let Some(RequestClaim { claim, .. }) = request else {
            return Ok(None);
        };
        match look(claimed, Kind::Key, &claim, turn, now).map_err(Refused::whole)? {
            // Its own, if it was claimed for this turn before the body was decided about.
            Verdict::New | Verdict::Own => self.request = Some(claim.key),
            Verdict::Old(first) => return Ok(Some(first)),
        }
        Ok(None)
    }

    /// Makes the claims of the events, decides which of `events` were published before, and leaves out those from the
    /// first that is refused.
    ///
    /// # Errors
    ///
    /// If one of them is refused, and with it all others.
    pub(super) fn claim(
        &mut self,
        claimed: &mut Claimed,
        claims: &[Claims],
        events: &mut Vec<Prepared>,
        repeats: Repeats,
        now: Moment,
    ) -> Result<(), Refused> {
        for (index, (claims, event)) in claims.iter().zip(&mut *events).enumerate() {
            match self.decide(claimed, index, claims, now) {
                Ok(Verdict::New) => {}
                Ok(Verdict::Own) => event.replay(Published::default()),
                Ok(Verdict::Old(first)) => event.replay(first),
                Err(why) => {
                    self.stop = Some((index, why));
                    break;
                }
            }
        }
        let Some((index, why)) = self.stop else {
            return Ok(());
        };
        events.truncate(index);
        if repeats == Repeats::EndThere {
            return Ok(());
        }
        self.finish(claimed, &Published::default());
        Err(Refused::at(index, why))
    }

    fn decide(
        &mut self,
        claimed: &mut Claimed,
        index: usize,
        claims: &Claims,
        now: Moment,
    ) -> Result<Verdict, Why> {
        let Some(turn) = self.turn else {
            return Ok(Verdict::New);
        };
        if let Some(once) = &claims.once {
            match look(claimed, Kind::Key, once, turn, now)? {
                // It was there when the event came, and its time has ended since. Sent again, it is an ordinary event.
                Verdict::New if claims.is_known => {
                    claimed.of_mut(Kind::Key).forget(once.key, turn);
                    return Err(Why::Running);
                }
                Verdict::New => self.begun.push(Begun { index, key: once.key, kind: Kind::Key }),
                repeat @ (Verdict::Own | Verdict::Old(_)) => return Ok(repeat),
            }
        }
        if let Some(repeat) = &claims.repeat {
            match look(claimed, Kind::Data, repeat, turn, now) {
                Ok(Verdict::New) => self.begun.push(Begun { index, key: repeat.key, kind: Kind::Data }),
                _ => return Err(Why::SameData),
            }
        }
        Ok(Verdict::New)
    }

    /// Notes that the event at `index` has an id that was used before.
    pub(super) fn stop_at(&mut self, index: usize) {
        self.stop = Some((index, Why::IdUsed));
    }

    /// Notes the answer of the next event.
    pub(super) fn answer(&mut self, answer: Published) {
        if self.turn.is_some() {
            self.answers.push(answer);
        }
    }

    /// Gives the claims their answers, and frees those that came to nothing.
    pub(super) fn finish(&self, claimed: &mut Claimed, published: &Published) {
        let Some(turn) = self.turn else {
            return;
        };
        for Begun { index, key, kind } in &self.begun {
            let table = claimed.of_mut(*kind);
            // Only an event that goes out says its data.
            let counts = |answer: &&Published| *kind == Kind::Key || answer.events > 0;
            match self.answers.get(*index).filter(counts) {
                Some(answer) => table.finish(*key, turn, *answer),
                None => table.forget(*key, turn),
            }
        }
        if let Some(key) = self.request {
            let keys = claimed.of_mut(Kind::Key);
            match self.stop {
                None => keys.finish(key, turn, *published),
                Some(_) => keys.forget(key, turn),
            }
        }
    }

    /// Frees all claims: nothing is published.
    pub(super) fn undo(&self, claimed: &mut Claimed) {
        let Some(turn) = self.turn else {
            return;
        };
        for Begun { key, kind, .. } in &self.begun {
            claimed.of_mut(*kind).forget(*key, turn);
        }
        if let Some(key) = self.request {
            claimed.of_mut(Kind::Key).forget(key, turn);
        }
    }

    /// Whether an event is refused.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// The result, if `published` is what became of the events.
    ///
    /// # Errors
    ///
    /// If one of them is refused.
    pub(super) fn result(&self, published: Published) -> Result<Published, Refused> {
        let Some((index, why)) = self.stop else {
            return Ok(published);
        };
        let is_any = published.events + published.skipped + published.replayed > 0;
        Err(Refused { index: Some(index), why, before: is_any.then_some(published) })
    }
}

/// Claims for `turn`.
fn look(claimed: &mut Claimed, kind: Kind, claim: &Claim, turn: Turn, now: Moment) -> Result<Verdict, Why> {
    match claimed.of_mut(kind).claim(claim, turn, now) {
        Found::New => Ok(Verdict::New),
        Found::Done(first) => Ok(Verdict::Old(first)),
        Found::Running(its) if its == turn => Ok(Verdict::Own),
        Found::Running(_) => Err(Why::Running),
        Found::Other => Err(Why::Mismatch),
    }
}
