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

/// Returns the sender of a request with `headers` and `query`.
///
/// # Errors
///
/// [`Code::TokenAmbiguous`], also for good cookies of different users; [`Code::OriginForbidden`] for a cookie that came
/// with a foreign page's request; [`Code::Unauthorized`] for a bad credential, whatever the request is for;
/// [`Code::AuthUnavailable`] if the credential cannot be verified now.
pub fn caller(
    engine: &Engine,
    policy: &Policy,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Caller, Problem> {
    let Some(authority) = &policy.authority else {
        return Ok(Caller::Open);
    };
    let Some(credential) = credential::find(&policy.places, headers, query)? else {
        return Ok(Caller::Anonymous(authority.clone()));
    };
    // The browser attached the cookie by itself, perhaps for a page that may not use it.
    if credential.is_cookie && !policy.cors.cookie_is_safe(headers) {
        return Err(Code::OriginForbidden.into());
    }
    let texts = credential.text.as_deref().into_iter().chain(credential.others);
    let mut judged = texts.filter(|text| authority.judges(text)).peekable();
    if judged.peek().is_none() {
        // The application may accept it.
        return if policy.asks {
            Ok(Caller::Anonymous(authority.clone()))
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

/// Returns the identity of the credential `text`.
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

/// Chooses among several values of a cookie: the good one, and of several good ones of the same user the one that
/// expires last.
///
/// # Errors
///
/// [`Code::TokenAmbiguous`] for good ones of different users, or without a user: another page of the same site may have
/// set one of them. [`Code::AuthUnavailable`] if one of them may be good and cannot be verified now.
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

/// Returns the caller for the stream of `query`. If `caller` has no identity and the callback is set up, the
/// application is asked.
///
/// # Errors
///
/// The application's answer: [`Code::Unauthorized`] or [`Code::Forbidden`]; [`Code::AuthUnavailable`] if it could not
/// be asked, or answered before the user was revoked;
/// [`Code::OriginForbidden`] for cookies that came with a foreign page's request, which it is not asked about;
/// [`Code::WaitingFull`] if too many requests already wait for an answer.
pub async fn subscriber(call: &Call<'_>, caller: Caller, query: &StreamQuery) -> Result<Caller, Problem> {
    let (engine, policy, headers) = (call.engine(), call.policy, call.headers());
    let (Caller::Anonymous(authority), Some(callback)) = (&caller, &engine.upstream.callback) else {
        return Ok(caller);
    };
    // Which cookie the application uses is unknown here, so none can be left out of the question.
    if headers.contains_key(COOKIE) && !policy.cors.cookie_is_safe(headers) {
        return Err(Code::OriginForbidden.into());
    }
    let in_url = call.query();
    let in_query = credential::in_query(&policy.places, in_url)?;
    // A credential that no header can carry is useless to the application.
    let credentials = Question::credentials(headers, in_query.as_deref()).ok_or(Code::Unauthorized)?;
    let is_open = query.user.is_none() && query.rooms.iter().all(|room| authority.is_public(room.as_str()));
    if is_open && credentials.is_empty() {
        // The request has no credential and asks only for what is public.
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
        // The headers may be for a proxy in front, and mean nothing to the application.
        return Ok(caller);
    }
    let identity = asked.map_err(|denied| match denied {
        Denied::Unauthorized => Code::Unauthorized,
        Denied::Forbidden => Code::Forbidden,
        Denied::Down | Denied::Busy => Code::AuthUnavailable,
    })?;
    if is_revoked(&identity) {
        // Only an answer given after the revocation counts, and this one may be older.
        return Err(Code::AuthUnavailable.into());
    }
    Ok(Caller::Known(authority.clone(), identity))
}
