//! From a request's credential to its [`Caller`].

use hyper::header::HeaderMap;

use super::caller::Caller;
use super::context::Shared;
use super::credential;
use super::policy::Policy;
use super::problem::{Code, Problem};
use crate::auth::authority::Disbelief;

/// Who sends a request with `headers` and `query`.
///
/// # Errors
///
/// [`Code::TokenAmbiguous`]; [`Code::OriginForbidden`] for a cookie that came with a foreign page's request; [`Code::Unauthorized`] for a credential that is no good, whatever the request is for;
/// [`Code::AuthUnavailable`] if that cannot be known now.
pub fn caller(
    shared: &Shared,
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
    let text = credential.text.ok_or(Code::Unauthorized)?;
    let now = shared.clock.unix_s();
    let identity = authority.identify(&text, now).map_err(|disbelief| match disbelief {
        Disbelief::Invalid => Code::Unauthorized,
        Disbelief::Unavailable => Code::AuthUnavailable,
    })?;
    if shared.revocations.cover(&identity, now) {
        return Err(Code::Unauthorized.into());
    }
    Ok(Caller::Known(authority.clone(), identity))
}
