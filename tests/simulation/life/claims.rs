//! Keys under which events are published once: what the model expects of a publish whose events have some.

use std::collections::HashMap;
use std::time::Duration;

use tidegate::hub::Published;
use tidegate::hub::draft::{Claim, Claims};
use tidegate::hub::own_ids::Repeats;
use tidegate::order::refused::{Refused, Why};

use super::super::model::Event;
use super::Life;

/// Number of keys, and of contents that come with them: few, so that keys repeat and sometimes do not match.
const KEYS: u32 = 5;
const CONTENTS: u32 = 3;

/// Claims that were made, by key: what came with each, until when it is remembered, and the answer.
pub(super) type Held = HashMap<u128, (u128, u64, Published)>;

/// What becomes of an event.
enum Fate {
    New,
    Old(Published),
}

impl Life<'_> {
    /// The claim of an event, if it has one.
    pub(super) fn claims(&mut self) -> Claims {
        if !self.plan.claims || !self.one_in(4) {
            return Claims::default();
        }
        let (key, content) = (self.rng.u32(0..KEYS), self.rng.u32(0..CONTENTS).saturating_sub(1));
        let time = Duration::from_millis(self.rng.u64(1..200));
        Claims { once: Some(Claim { key: key.into(), content: content.into(), time }), ..Claims::default() }
    }

    /// Decides as the order has to: adds to the model those of `events` that are published, and returns the answer.
    pub(super) fn decide(
        &mut self,
        events: Vec<Event>,
        claims: &[Claims],
        repeats: Repeats,
    ) -> Result<Published, Refused> {
        let (mut fates, begun, mut stop) = self.judge_claims(claims);
        let is_new: Vec<bool> = fates.iter().map(|fate| matches!(fate, Fate::New)).collect();
        if stop.is_none() || repeats == Repeats::EndThere {
            let new = events.iter().zip(&is_new).map(|(event, is_new)| is_new.then_some(event));
            if let Some(index) = self.order.first_repeat(new) {
                stop = Some((index, Why::IdUsed));
                fates.truncate(index);
            }
        }
        if let (Some((index, why)), Repeats::RefuseAll) = (stop, repeats) {
            return Err(Refused::at(index, why));
        }
        let mut published = Published::default();
        let mut answers = Vec::new();
        for (event, fate) in events.into_iter().zip(fates) {
            let one = match fate {
                Fate::Old(first) => Published { events: 0, skipped: 0, replayed: 1, ..first },
                Fate::New => {
                    let subscribers = u32::try_from(self.listening(event.to)).expect("a few");
                    self.push(event);
                    Published::one(self.order.head(), subscribers)
                }
            };
            published.add(&one);
            answers.push(one);
        }
        for (index, claim) in begun {
            if let Some(answer) = answers.get(index) {
                let until = self.now + u64::try_from(claim.time.as_micros()).expect("short");
                self.held.insert(claim.key, (claim.content, until, *answer));
            }
        }
        let before = (published.events + published.replayed > 0).then_some(published);
        match stop {
            Some((index, why)) => Err(Refused { before, ..Refused::at(index, why) }),
            None => Ok(published),
        }
    }

    /// What becomes of events with these claims, the claims that they make, and the first that is refused.
    #[expect(clippy::type_complexity, reason = "three lists of one function")]
    fn judge_claims(&self, claims: &[Claims]) -> (Vec<Fate>, Vec<(usize, Claim)>, Option<(usize, Why)>) {
        let (mut fates, mut begun) = (Vec::new(), Vec::<(usize, Claim)>::new());
        for (index, claims) in claims.iter().enumerate() {
            let Some(claim) = claims.once else {
                fates.push(Fate::New);
                continue;
            };
            let own = begun.iter().find(|(_, own)| own.key == claim.key);
            let own = own.map(|(_, own)| (own.content, Published::default()));
            let held = self.held.get(&claim.key).filter(|(_, until, _)| *until > self.now);
            match own.or(held.map(|(content, _, answer)| (*content, *answer))) {
                Some((content, answer)) if content == claim.content => fates.push(Fate::Old(answer)),
                Some(_) => return (fates, begun, Some((index, Why::Mismatch))),
                None => {
                    begun.push((index, claim));
                    fates.push(Fate::New);
                }
            }
        }
        (fates, begun, None)
    }
}
