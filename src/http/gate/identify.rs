//! From a request's credential to its [`Caller`].

use std::pin::pin;
use std::sync::Arc;

use hyper::header::{COOKIE, HeaderMap};

use crate::answer::problem::{Code, Problem};
use crate::auth::authority::{AuthError, Authority};
use crate::auth::token_error::TokenError;
use crate::auth::tokens::Tokens;
use crate::engine::Engine;
use crate::http::api::query::StreamQuery;
use crate::http::call::Call;
use crate::http::conn::places::{Wait, at_once};
use crate::http::gate::caller::Caller;
use crate::policy::Policy;
use crate::policy::credential;
use crate::rights::identity::Identity;
use crate::upstream::Denied;
use crate::upstream::question::Question;

/// Who sends a request with `headers` and `query`.
///
/// # Errors
///
/// [`Code::TokenAmbiguous`], also for good cookies of different users; [`Code::OriginForbidden`] for a cookie that came with
/// a foreign page's request; [`Code::Unauthorized`] for a credential that is no good, whatever the request is for;
/// [`Code::AuthUnavailable`] if that cannot be known now.
pub fn caller(
    engine: &Engine,
    policy: &Policy,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Caller, Problem> {
    let Some(authority) = &policy.authority else {
        return Ok(Caller::Anyone);
    };
    let Some(credential) = credential::find(&policy.places, headers, query)? else {
        return Ok(Caller::Nobody(authority.clone()));
    };
    // The browser attached it by itself: perhaps for a page that may not use it.
    if credential.is_cookie && !policy.cors.cookie_is_safe(headers) {
        return Err(Code::OriginForbidden.into());
    }
    let texts = credential.text.as_deref().into_iter().chain(credential.others);
    let mut judged = texts.filter(|text| authority.judges(text)).peekable();
    if judged.peek().is_none() {
        // Perhaps the application knows.
        return if policy.asks {
            Ok(Caller::Nobody(authority.clone()))
        } else {
            Err(Code::Unauthorized.into())
        };
    }
    let identified = one_of(judged.map(|text| identify(engine, authority, text)));
    if authority.tokens().is_some_and(Tokens::take_wants_keys) {
        engine.access.keys_wanted.notify_one();
    }
    Ok(Caller::Known(authority.clone(), identified?))
}

/// Whose `text` is.
///
/// # Errors
///
/// [`Code::Unauthorized`] or [`Code::AuthUnavailable`].
fn identify(engine: &Engine, authority: &Authority, text: &str) -> Result<Arc<Identity>, Code> {
    let now = engine.clock.unix_s();
    let identity = authority.identify(text, now).map_err(|err| match err {
        AuthError::Invalid => Code::Unauthorized,
        AuthError::Unavailable => Code::AuthUnavailable,
    })?;
    if engine.access.revocations.cover(&identity, now) {
        engine.access.token_stats.refuse(TokenError::Revoked);
        return Err(Code::Unauthorized);
    }
    Ok(identity)
}

/// The one that is meant where a cookie has several values: the good one, and of several good ones of the same user the
/// one that lasts longest.
///
/// # Errors
///
/// [`Code::TokenAmbiguous`] for good ones of different users, or of nobody in particular: another page of the same site may
/// have set one of them. [`Code::AuthUnavailable`] if one of them may be good, and that cannot be known now.
fn one_of(all: impl Iterator<Item = Result<Arc<Identity>, Code>>) -> Result<Arc<Identity>, Code> {
    let are_of_one = |one: &Arc<Identity>, other: &Arc<Identity>| {
        let of = |identity: &Identity| (identity.user.clone(), identity.api_key.clone());
        Arc::ptr_eq(one, other) || (of(one) == of(other) && of(one) != (None, None))
    };
    let lasts = |identity: &Identity| identity.expires.unwrap_or(u64::MAX);
    let mut best: Result<Arc<Identity>, Code> = Err(Code::Unauthorized);
    for found in all {
        best = match (best, found) {
            (Ok(best), Ok(other)) if !are_of_one(&best, &other) => return Err(Code::TokenAmbiguous),
            (Ok(best), Ok(other)) if lasts(&best) >= lasts(&other) => Ok(best),
            (Err(Code::AuthUnavailable), _) | (_, Err(Code::AuthUnavailable)) => Err(Code::AuthUnavailable),
            (Ok(best), Err(_)) => Ok(best),
            (_, other) => other,
        };
    }
    best
}

/// Who wants the stream of `query`, if nothing else speaks for `caller`: the application is asked, if it is to be.
///
/// # Errors
///
/// What it said: [`Code::Unauthorized`] or [`Code::Forbidden`]; [`Code::AuthUnavailable`] if it could not be asked, or
/// answered as it was before the user was revoked;
/// [`Code::OriginForbidden`] for cookies that came with a foreign page's request, which it is not asked about;
/// [`Code::WaitingFull`] if as many wait for an answer as may.
pub async fn listener(call: &Call<'_>, caller: Caller, query: &StreamQuery) -> Result<Caller, Problem> {
    let (engine, policy, headers) = (call.engine(), call.policy, call.headers());
    let (Caller::Nobody(authority), Some(callback)) = (&caller, &engine.upstream.callback) else {
        return Ok(caller);
    };
    // Which of them the application knows somebody by is not known here, and without them the question would be another.
    if headers.contains_key(COOKIE) && !policy.cors.cookie_is_safe(headers) {
        return Err(Code::OriginForbidden.into());
    }
    let in_url = call.query();
    let in_query = credential::in_query(&policy.places, in_url)?;
    // One that no header can have is no good to anyone.
    let credentials = Question::credentials(headers, in_query.as_deref()).ok_or(Code::Unauthorized)?;
    let is_open = query.user.is_none() && query.rooms.iter().all(|room| authority.is_public(room.as_str()));
    if is_open && credentials.is_empty() {
        // Whoever shows nothing and wants nothing but what anyone may have.
        return Ok(caller);
    }
    let question = Question {
        user: query.user.clone(),
        rooms: query.rooms.clone(),
        address: call.address,
        last_event_id: query.presented(headers),
        credentials,
    };
    let is_revoked = |identity: &Identity| engine.access.revocations.cover(identity, engine.clock.unix_s());
    let mut asking = pin!(callback.ask(question, |identity| !is_revoked(identity)));
    let asked = if let Some(decided) = at_once(asking.as_mut()).await {
        decided
    } else {
        let _waiting = call.context.places.wait(call.exchange, Wait::Question)?;
        asking.await
    };
    if is_open && asked == Err(Denied::Unauthorized) && !credential::is_shown(&policy.places, headers, in_url)
    {
        // The application knows nothing of what a proxy in front has looked at.
        return Ok(caller);
    }
    let identity = asked.map_err(|denied| match denied {
        Denied::Unauthorized => Code::Unauthorized,
        Denied::Forbidden => Code::Forbidden,
        Denied::Down | Denied::Busy => Code::AuthUnavailable,
    })?;
    if is_revoked(&identity) {
        // What the application says after the revocation is what counts, and this may be from before.
        return Err(Code::AuthUnavailable.into());
    }
    Ok(Caller::Known(authority.clone(), identity))
}
