//! The publisher of a request: whom it publishes for, what it may publish now, and the rates that limit it.

use hashbrown::HashMap;
use hyper::header::HeaderMap;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::engine::publish_limit::{Use, Whose};
use crate::http::api::publish::fields::Event;
use crate::http::api::publish::idempotency;
use crate::http::api::publish::room_rules::RoomRules;
use crate::http::call::Call;
use crate::http::gate::caller::Caller;
use crate::hub::draft::{Claim, Draft, Target};
use crate::rights::identity::Identity;
use crate::types::name::{OnceKey, UserName};
use crate::types::rate::Rate;

/// The publisher of a request, and the rates that limit it.
pub(super) struct Publisher<'c> {
    pub(super) caller: &'c Caller,
    /// The user who publishes, or for whom a backend does.
    user: Option<UserName>,
    /// Whose idempotency keys it uses: those of the token's user, of the API key, of the token if it has a name, or of
    /// all others.
    principal: String,
    /// The names that [`PublishLimit`](crate::engine::publish_limit::PublishLimit) uses, with their rates.
    rates: Vec<(String, Rate)>,
}

impl<'c> Publisher<'c> {
    /// Returns the publisher of `call`.
    ///
    /// # Errors
    ///
    /// [`Code::UserInvalid`] if the request names a user whose name is invalid.
    pub(super) fn new(call: &Call<'_>, caller: &'c Caller) -> Result<Self, Problem> {
        let address = call.address;
        let identity = caller.identity();
        let key = identity.and_then(|identity| identity.api_key.as_ref());
        let own = identity.and_then(|identity| identity.user.as_ref());
        // Only a backend publishes for its users.
        let spoken_for =
            if identity.is_none() || key.is_some() { on_behalf_of(call.headers())? } else { None };
        let user = spoken_for.or_else(|| own.cloned());
        let name = || match &user {
            Some(user) => Some(format!("user {user}")),
            None if key.is_some() => None,
            None => Some(address.map_or_else(|| "unix".into(), |address| address.to_string())),
        };
        let of_user = call.engine().access.policy.load().publish_rate.and_then(|rate| Some((name()?, rate)));
        let of_key = key.and_then(|key| key.publish_rate.map(|rate| (format!("key {}", key.name), rate)));
        let principal = match (own, key) {
            (Some(user), _) => format!("user {user}"),
            (None, Some(key)) => format!("key {}", key.name),
            (None, None) => identity
                .and_then(|identity| identity.token.as_ref())
                .map_or_else(|| ANYBODY.into(), |token| format!("token {token}")),
        };
        let rates = of_user.into_iter().chain(of_key).collect();
        Ok(Self { caller, user, principal, rates })
    }

    /// The token with which a user publishes. `None` for a backend, and where nobody shows who asks.
    pub(super) fn token(&self) -> Option<&Identity> {
        let identity = self.caller.identity().filter(|identity| identity.api_key.is_none())?;
        Some(identity)
    }

    /// What the request claims with its `key`.
    pub(super) fn claim(&self, engine: &Engine, key: &OnceKey, body: &[u8]) -> Claim {
        idempotency::of_request(&self.principal, key, body, engine.config.idempotency_time)
    }

    /// The event with the claim it makes, if the caller has the right to publish it.
    ///
    /// # Errors
    ///
    /// As [`Caller::may_publish`].
    pub(super) fn draft(&self, engine: &Engine, event: Event) -> Result<Draft, Problem> {
        let Event { mut draft, once } = event;
        self.caller.may_publish(&draft)?;
        let time = engine.config.idempotency_time;
        draft.claims.once = once.map(|once| idempotency::of_event(&self.principal, &once, &draft, time));
        Ok(draft)
    }

    /// Checks that its room takes `draft` now, and notes in `uses` what it takes from rates. An event that was published
    /// before takes nothing, and is not checked: it does not go out again.
    ///
    /// # Errors
    ///
    /// As [`RoomRules::check`]; [`Code::Muted`].
    pub(super) fn check(
        &self,
        engine: &Engine,
        rules: &RoomRules,
        draft: &mut Draft,
        uses: &mut Uses,
    ) -> Result<(), Problem> {
        note_known(engine, draft);
        if draft.claims.is_known {
            return Ok(());
        }
        let rate = rules.check(self.caller, self.user.as_ref(), draft)?;
        self.is_heard(engine, draft)?;
        uses.events += 1;
        if let (Target::Room(room), Some(rate)) = (&draft.target, rate) {
            uses.rooms.entry_ref(room.as_str()).or_insert((rate, 0)).1 += 1;
        }
        Ok(())
    }

    /// Checks that its user is not muted in the room of `draft`.
    ///
    /// # Errors
    ///
    /// [`Code::Muted`].
    fn is_heard(&self, engine: &Engine, draft: &Draft) -> Result<(), Problem> {
        match (&draft.target, &self.user) {
            (Target::Room(room), Some(user))
                if engine.hub.mutes().cover(user.as_str(), room.as_str(), engine.clock.now()) =>
            {
                Err(Code::Muted.into())
            }
            _ => Ok(()),
        }
    }

    /// Checks again what may have changed while the application was asked about `draft`: a moderator may have muted the
    /// user, or revoked the token, because of that very event. One that was published before does not go out again.
    ///
    /// # Errors
    ///
    /// [`Code::Muted`]; as [`Caller::is_still_known`].
    pub(super) fn may_still(&self, engine: &Engine, draft: &Draft) -> Result<(), Problem> {
        self.caller.is_still_known(&engine.access)?;
        if draft.claims.is_known { Ok(()) } else { self.is_heard(engine, draft) }
    }

    /// Takes `uses` from its rates and those of the rooms.
    ///
    /// # Errors
    ///
    /// [`Code::RateLimited`], with the time to wait. Then nothing is taken.
    pub(super) fn take(&self, engine: &Engine, uses: &Uses) -> Result<(), Problem> {
        if uses.events == 0 {
            return Ok(());
        }
        let own = self.rates.iter().map(|(name, rate)| {
            let (whose, events) = (Whose::Publisher, uses.events);
            Use { whose, name, rate: *rate, events }
        });
        let rooms = uses.rooms.iter().map(|(name, (rate, events))| {
            let (whose, events) = (Whose::Room, *events);
            Use { whose, name, rate: *rate, events }
        });
        let taken = engine.publish_limit.take(&own.chain(rooms).collect::<Vec<_>>(), engine.clock.now());
        taken.map_err(|seconds| Problem::new(Code::RateLimited).retry_after_s(seconds))
    }
}

/// Notes in `draft` whether it was published before.
pub(super) fn note_known(engine: &Engine, draft: &mut Draft) {
    let now = engine.clock.now();
    draft.claims.is_known = draft.claims.once.is_some_and(|once| engine.order.knows(&once, now));
}

/// What the events of a request take from rates.
#[derive(Default)]
pub(super) struct Uses {
    events: u32,
    /// Rates of rooms by their names, with the events for them.
    rooms: HashMap<String, (Rate, u32)>,
}

/// The principal of requests that show nothing which tells them from others.
const ANYBODY: &str = "anybody";

/// The header in which a backend, or a proxy of a server without authentication, names the user for whom it publishes.
const ON_BEHALF_OF: &str = "tidegate-user";

/// The user that `headers` name.
pub(in crate::http::api) fn on_behalf_of(headers: &HeaderMap) -> Result<Option<UserName>, Problem> {
    let Some(name) = headers.get(ON_BEHALF_OF) else {
        return Ok(None);
    };
    // The name is stored for as long as its rate counts. A checked name is short.
    let user = std::str::from_utf8(name.as_bytes()).ok().and_then(|name| UserName::new(name).ok());
    user.map(Some).ok_or_else(|| Code::UserInvalid.into())
}
