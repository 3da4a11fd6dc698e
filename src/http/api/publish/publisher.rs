//! The publisher of a request, and the rates that limit it.

use hyper::header::HeaderMap;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::http::call::Call;
use crate::http::gate::caller::Caller;
use crate::types::name::UserName;
use crate::types::rate::Rate;

/// The publisher of a request, and the rates that limit it.
pub(super) struct Publisher<'c> {
    pub(super) caller: &'c Caller,
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
        // Only a backend publishes for its users.
        let spoken_for =
            if identity.is_none() || key.is_some() { on_behalf_of(call.headers())? } else { None };
        let user = spoken_for.as_ref().or_else(|| identity?.user.as_ref());
        let name = || match user {
            Some(user) => Some(format!("user {user}")),
            None if key.is_some() => None,
            None => Some(address.map_or_else(|| "unix".into(), |address| address.to_string())),
        };
        let of_user = call.engine().access.policy.load().publish_rate.and_then(|rate| Some((name()?, rate)));
        let of_key = key.and_then(|key| key.publish_rate.map(|rate| (format!("key {}", key.name), rate)));
        Ok(Self { caller, rates: of_user.into_iter().chain(of_key).collect() })
    }

    /// Takes `events` from its rates.
    pub(super) fn take(&self, engine: &Engine, events: usize) -> Result<(), Problem> {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        let taken = engine.publish_limit.take(&self.rates, events, engine.clock.now());
        taken.map_err(|seconds| Problem::new(Code::RateLimited).retry_after_s(seconds))
    }
}

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
