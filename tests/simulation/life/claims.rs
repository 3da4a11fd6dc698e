//! Keys under which events and requests are published once, and data that may not be repeated: what the model expects
//! of a publish that claims something.

use std::collections::HashMap;
use std::time::Duration;

use tidegate::hub::Published;
use tidegate::hub::draft::{Claim, Claims};
use tidegate::hub::own_ids::Repeats;
use tidegate::order::refused::{Refused, Why};

use super::super::model::Event;
use super::Life;

/// Number of keys of each kind, and of contents that come with them: few, so that keys repeat and sometimes do not
/// match.
const KEYS: u128 = 5;
const CONTENTS: u32 = 3;

/// The first key of requests, and of data.
const REQUESTS: u128 = 100;
const DATA: u128 = 200;

/// Claims that were made, by key: what came with each, until when it is remembered, and the answer.
pub(super) type Held = HashMap<u128, (u128, u64, Published)>;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    New,
    /// It has an older version than the newest event of its key.
    Outdated,
    /// It was published before, with this answer.
    Old(Published),
}

/// What becomes of the events of a publish.
#[derive(Default)]
struct Judged {
    /// Of the events before the one that is refused.
    fates: Vec<Fate>,
    /// The claims that are made, by the events' indices, and whether each is of data.
    begun: Vec<(usize, Claim, bool)>,
    /// The event that is refused.
    stop: Option<(usize, Why)>,
}

impl Life<'_> {
    fn claim_of(&mut self, first: u128) -> Claim {
        let key = first + u128::from(self.rng.u64(..)) % KEYS;
        let content = self.rng.u32(0..CONTENTS).saturating_sub(1);
        let time = Duration::from_millis(self.rng.u64(1..200));
        Claim { key, content: content.into(), time }
    }

    /// The claims of an event, if it has some.
    pub(super) fn claims(&mut self, stored: bool) -> Claims {
        if !self.plan.claims {
            return Claims::default();
        }
        let once = self.one_in(4).then(|| self.claim_of(0));
        let repeat = (stored && self.one_in(6)).then(|| self.claim_of(DATA));
        Claims { once, repeat, ..Claims::default() }
    }

    /// The claim of a request, if it has one.
    pub(super) fn request(&mut self) -> Option<Claim> {
        (self.plan.claims && self.one_in(8)).then(|| self.claim_of(REQUESTS))
    }

    /// The answer to `claim` if it was made before, or else why it is refused.
    pub(super) fn held(&self, claim: &Claim) -> Option<Result<Published, Why>> {
        let (content, _, answer) = self.held.get(&claim.key).filter(|(_, until, _)| *until > self.now)?;
        Some(if *content == claim.content { Ok(*answer) } else { Err(Why::Mismatch) })
    }

    fn hold(&mut self, claim: &Claim, answer: Published) {
        let until = self.now + u64::try_from(claim.time.as_micros()).expect("short");
        self.held.insert(claim.key, (claim.content, until, answer));
    }

    /// Decides as the order has to: adds to the model those of `events` that are published, and returns the answer.
    pub(super) fn decide(
        &mut self,
        events: Vec<Event>,
        claims: &[Claims],
        request: Option<Claim>,
        repeats: Repeats,
    ) -> Result<Published, Refused> {
        match request.and_then(|request| self.held(&request)) {
            Some(Ok(first)) => return Ok(Published { is_repeat: true, ..first }),
            Some(Err(why)) => return Err(Refused::whole(why)),
            None => {}
        }
        let mut judged = self.judge_claims(claims);
        self.pass_outdated(&events, &mut judged.fates);
        if judged.stop.is_none() || repeats == Repeats::EndThere {
            let pairs = events.iter().zip(&judged.fates);
            let new = pairs.map(|(event, fate)| (*fate == Fate::New).then_some(event));
            if let Some(index) = self.order.first_repeat(new) {
                judged.stop = Some((index, Why::IdUsed));
                judged.fates.truncate(index);
            }
        }
        if let (Some((index, why)), Repeats::RefuseAll) = (judged.stop, repeats) {
            return Err(Refused::at(index, why));
        }
        self.carry_out(events, &judged, request)
    }

    /// Adds to the model what is published, and notes the answers.
    fn carry_out(
        &mut self,
        events: Vec<Event>,
        judged: &Judged,
        request: Option<Claim>,
    ) -> Result<Published, Refused> {
        let answers: Vec<Published> =
            events.into_iter().zip(&judged.fates).map(|(event, fate)| self.answer(event, fate)).collect();
        let mut published = Published::default();
        for one in &answers {
            published.add(one);
        }
        for (index, claim, is_of_data) in &judged.begun {
            // Data that did not go out was not said.
            let answer = answers.get(*index).filter(|answer| answer.events > 0 || !is_of_data);
            if let Some(answer) = answer {
                self.hold(claim, *answer);
            }
        }
        if let Some((index, why)) = judged.stop {
            let is_any = published.events + published.skipped + published.replayed > 0;
            return Err(Refused { before: is_any.then_some(published), ..Refused::at(index, why) });
        }
        if let Some(request) = request {
            self.hold(&request, published);
        }
        Ok(published)
    }

    /// Adds an event to the model if it is published. Returns the answer for it.
    fn answer(&mut self, event: Event, fate: &Fate) -> Published {
        match fate {
            Fate::Old(first) => Published { events: 0, skipped: 0, replayed: 1, is_repeat: false, ..*first },
            Fate::Outdated => Published { skipped: 1, ..Published::default() },
            Fate::New => {
                let subscribers = u32::try_from(self.listening(event.to)).expect("a few");
                self.push_version(event);
                Published::one(self.order.head(), subscribers)
            }
        }
    }

    /// What becomes of events with these claims.
    fn judge_claims(&self, claims: &[Claims]) -> Judged {
        let mut judged = Judged::default();
        for (index, Claims { once, repeat, .. }) in claims.iter().enumerate() {
            match once.map(|once| (once, self.known(&judged, &once))) {
                Some((_, Some(Ok(first)))) => {
                    judged.fates.push(Fate::Old(first));
                    continue;
                }
                Some((_, Some(Err(why)))) => {
                    judged.stop = Some((index, why));
                    break;
                }
                Some((once, None)) => judged.begun.push((index, once, false)),
                None => {}
            }
            if let Some(repeat) = repeat {
                if self.known(&judged, repeat).is_some() {
                    judged.stop = Some((index, Why::SameData));
                    break;
                }
                judged.begun.push((index, *repeat, true));
            }
            judged.fates.push(Fate::New);
        }
        judged
    }

    /// The same as `held`, where claims of the same publish count as well.
    fn known(&self, judged: &Judged, claim: &Claim) -> Option<Result<Published, Why>> {
        let own = judged.begun.iter().find(|(_, own, _)| own.key == claim.key);
        let of_own = |own: &Claim| {
            if own.content == claim.content { Ok(Published::default()) } else { Err(Why::Mismatch) }
        };
        own.map(|(_, own, _)| of_own(own)).or_else(|| self.held(claim))
    }
}
