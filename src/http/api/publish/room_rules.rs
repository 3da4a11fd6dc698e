//! What the policy of a room says about an event that is to be published there.

use std::sync::Arc;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::http::api::publish::idempotency;
use crate::http::gate::caller::Caller;
use crate::hub::draft::{Draft, Target};
use crate::hub::room_policy::{Publishers, RoomPolicies, RoomPolicy};
use crate::types::name::UserName;
use crate::types::rate::Rate;

/// The policies in force when a request, or the next lines of it, are looked at.
pub(super) struct RoomRules {
    /// `None` if no room has a policy of its own: then nothing is looked up for an event.
    policies: Option<Arc<RoomPolicies>>,
    /// Bytes that the data of an event may have, where no policy says otherwise.
    server_bytes_max: usize,
}

impl RoomRules {
    /// The policies as of now.
    pub(super) fn now(engine: &Engine) -> Self {
        let policies = engine.hub.rooms().policies();
        let policies = (policies.listed || !policies.tables.is_empty()).then_some(policies);
        Self { policies, server_bytes_max: engine.config.max_event_bytes }
    }

    /// Bytes that the data of an event may have in any room.
    pub(super) fn event_bytes_max(&self) -> usize {
        let tables = self.policies.iter().flat_map(|policies| &policies.tables);
        let rooms = tables.filter_map(|(_, policy)| policy.event_bytes_max);
        rooms.max().unwrap_or(0).max(self.server_bytes_max)
    }

    /// Checks that the policy of its room takes `draft` from `caller`, who publishes for `user`, and adds the claim that
    /// the policy wants. Returns the rate of the room, if it has one.
    ///
    /// # Errors
    ///
    /// [`Code::RoomUnknown`], [`Code::PublishKeysOnly`], [`Code::EventNameForbidden`] or [`Code::EventTooLarge`].
    pub(super) fn check(
        &self,
        caller: &Caller,
        user: Option<&UserName>,
        draft: &mut Draft,
    ) -> Result<Option<Rate>, Problem> {
        let Some(policies) = &self.policies else {
            return Ok(None);
        };
        let policy = match &draft.target {
            Target::Room(room) => policies.of(room.as_str()),
            Target::User(_) | Target::All => None,
        };
        let Some(policy) = policy else {
            let is_unknown = policies.listed && matches!(draft.target, Target::Room(_));
            if is_unknown {
                return Err(Code::RoomUnknown.into());
            }
            return self.fits(draft, None).map(|()| None);
        };
        takes(policy, caller, draft)?;
        self.fits(draft, policy.event_bytes_max)?;
        // Typing notices and the like are the same again and again.
        let is_compared = draft.store && policy.store;
        if let (Some(time), Some(user), true) = (policy.refuse_repeats, user, is_compared) {
            draft.claims.repeat = Some(idempotency::of_repeat(user, draft, time));
        }
        Ok(policy.publish_rate)
    }

    /// Whether the application is asked about `draft`, if a user publishes it. An event that was published before does
    /// not go out again, so nobody is asked.
    pub(super) fn asks(&self, draft: &Draft) -> bool {
        !draft.claims.is_known && self.policy(draft).is_some_and(|policy| policy.callbacks.publish)
    }

    /// Bytes that data may have in the room of `draft`.
    pub(super) fn bytes_max(&self, draft: &Draft) -> usize {
        let of_room = self.policy(draft).and_then(|policy| policy.event_bytes_max);
        of_room.unwrap_or(self.server_bytes_max)
    }

    /// Checks the size of the data again, which the application has replaced.
    ///
    /// # Errors
    ///
    /// [`Code::EventTooLarge`].
    pub(super) fn fits_room(&self, draft: &Draft) -> Result<(), Problem> {
        self.fits(draft, self.policy(draft).and_then(|policy| policy.event_bytes_max))
    }

    /// The policy of the table that matches the room of `draft`.
    fn policy(&self, draft: &Draft) -> Option<&RoomPolicy> {
        match &draft.target {
            Target::Room(room) => self.policies.as_ref()?.of(room.as_str()).map(AsRef::as_ref),
            Target::User(_) | Target::All => None,
        }
    }

    /// Checks the size of the data.
    fn fits(&self, draft: &Draft, of_room: Option<usize>) -> Result<(), Problem> {
        let problem = match of_room {
            Some(max) if draft.data.len() > max => {
                Problem::new(Code::EventTooLarge).with_detail("this room takes smaller events only")
            }
            None if draft.data.len() > self.server_bytes_max => Code::EventTooLarge.into(),
            _ => return Ok(()),
        };
        Err(problem)
    }
}

fn takes(policy: &RoomPolicy, caller: &Caller, draft: &Draft) -> Result<(), Problem> {
    let is_key = |caller: &Caller| caller.identity().is_some_and(|identity| identity.api_key.is_some());
    // Where nobody shows who asks, everybody is trusted as a backend is.
    let is_backend = matches!(caller, Caller::Open) || is_key(caller);
    if policy.publishers == Publishers::Keys && !is_backend {
        return Err(Code::PublishKeysOnly.into());
    }
    if !policy.takes_event(draft.name.as_ref()) {
        return Err(Code::EventNameForbidden.into());
    }
    Ok(())
}
