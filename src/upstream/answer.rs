//! What the application answers.
//!
//! | answer | means |
//! |---|---|
//! | 2xx, without a body or with `{}` | allowed as asked: to listen in these rooms under this name |
//! | 2xx, `{"user":…,"permissions":[…],"expires_in":…}`, each optional | allowed, but so |
//! | 401, 403 | refused |
//! | anything else | no answer |
//!
//! Unknown members are no answer either: a misspelt `permissions` must not allow more than was meant.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;

use super::Denied;
use super::question::Question;
use super::stats::Outcome;
use crate::auth::grant::{Grant, Permission};
use crate::auth::identity::{Identity, KeyId};
use crate::hub::name::{RoomName, UserName};

/// Bytes an answer may have.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a 2xx says beyond yes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Refinement {
    /// Who the listener is.
    pub user: Option<UserName>,
    /// What it may do. Permissions that mean nothing are left out.
    pub grant: Option<Grant>,
    /// For how many seconds.
    pub expires_in: Option<NonZeroU64>,
}

/// An answer that means nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    permissions: Option<Vec<Cow<'a, str>>>,
    #[serde(default)]
    expires_in: Option<NonZeroU64>,
}

/// Reads the body of a 2xx.
///
/// # Errors
///
/// [`Malformed`] if it is neither empty nor a JSON object of the expected form.
pub fn parse(body: &[u8]) -> Result<Refinement, Malformed> {
    let text = body.trim_ascii();
    if text.is_empty() {
        return Ok(Refinement::default());
    }
    // An array of three would be read as well.
    if text[0] != b'{' {
        return Err(Malformed);
    }
    // All of it: ASCII has white space that JSON has not.
    let Body { user, permissions, expires_in } = serde_json::from_slice(body).map_err(|_| Malformed)?;
    let user = user.map(|user| UserName::new(&user)).transpose().map_err(|_| Malformed)?;
    let grant = permissions.map(|texts| {
        let (grant, errors) = Grant::parse(texts.iter().map(|text| &**text));
        for (index, err) in errors {
            tracing::debug!(index, %err, "a permission in the application's answer means nothing");
        }
        grant
    });
    Ok(Refinement { user, grant, expires_in })
}

/// When the application was asked and when it answered, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// It may have decided right then: what it says is as old as the question.
    pub(super) asked: u64,
    /// From here on counts the time for which it says so.
    pub(super) answered: u64,
}

/// What an answer to `question` decides.
///
/// # Errors
///
/// Why it is no answer.
pub(super) fn decide(
    question: &Question,
    status: StatusCode,
    body: &[u8],
    times: Times,
) -> Result<Result<Arc<Identity>, Denied>, Outcome> {
    match status {
        StatusCode::UNAUTHORIZED => return Ok(Err(Denied::Unauthorized)),
        StatusCode::FORBIDDEN => return Ok(Err(Denied::Forbidden)),
        status if !status.is_success() => return Err(Outcome::Status),
        _ => {}
    }
    let refinement = parse(body).map_err(|Malformed| Outcome::Malformed)?;
    let as_asked = || question.rooms.iter().map(RoomName::as_str).map(Permission::to_read).collect();
    Ok(Ok(Arc::new(Identity {
        user: refinement.user.or_else(|| question.user.clone()),
        token: None,
        issued: Some(times.asked),
        expires: refinement.expires_in.map(|seconds| times.answered.saturating_add(seconds.get())),
        grant: Arc::new(refinement.grant.unwrap_or_else(as_asked)),
        key: KeyId::APPLICATION,
        api_key: None,
    })))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderMap;

    use super::*;
    use crate::auth::grant::Action;

    const TIMES: Times = Times { asked: 990, answered: 1000 };

    fn question() -> Question {
        Question {
            user: Some(UserName::new("me").unwrap()),
            rooms: ["a", "b*"].map(|room| RoomName::new(room).unwrap()).into(),
            address: None,
            last_event_id: None,
            credentials: HeaderMap::new(),
        }
    }

    fn identity(body: &str) -> Arc<Identity> {
        decide(&question(), StatusCode::OK, body.as_bytes(), TIMES).expect("an answer").expect("a yes")
    }

    #[test]
    fn a_bare_yes_allows_what_was_asked_and_no_more() {
        for body in ["", " \r\n", "{}", " { } ", r#"{"user":null,"permissions":null,"expires_in":null}"#] {
            let identity = identity(body);
            assert_eq!(identity.user(), Some("me"), "{body:?}");
            assert!(identity.allows(Action::Read("a")) && identity.allows(Action::Read("b*")));
            for action in [
                Action::Read("c"),
                Action::Read("bc"),
                Action::Publish("a"),
                Action::Members("a"),
                Action::ListenAs("me"),
                Action::Administer,
            ] {
                assert!(!identity.allows(action), "{action:?}");
            }
            assert_eq!((identity.expires, identity.issued), (None, Some(990)));
        }
    }

    #[test]
    fn an_answer_can_name_user_permissions_and_end() {
        let identity =
            identity(r#"{"user":"you","permissions":["sse:read:c","nonsense:","vip"],"expires_in":60}"#);
        assert_eq!(identity.user(), Some("you"));
        assert!(identity.allows(Action::Read("c")) && !identity.allows(Action::Read("a")));
        assert!(identity.holds("vip", None) && !identity.holds("nonsense", None));
        assert_eq!(identity.expires, Some(1060));
        assert!(!identity.is_expired(1059) && identity.is_expired(1060));
    }

    #[test]
    fn no_permissions_allow_nothing() {
        assert!(!identity(r#"{"permissions":[]}"#).allows(Action::Read("a")));
    }

    #[test]
    fn what_is_not_understood_is_no_yes() {
        for body in [
            "ok",
            "true",
            "null",
            "[]",
            r#"["me",["sse:read"],60]"#,
            "{",
            "{} {}",
            "<html></html>",
            r#"{"permission":["sse:read:a"]}"#,
            r#"{"allowed":false}"#,
            r#"{"user":""}"#,
            r#"{"user":"a\nb"}"#,
            r#"{"user":7}"#,
            r#"{"user":"a","user":"b"}"#,
            r#"{"permissions":"sse:read"}"#,
            r#"{"permissions":[1]}"#,
            r#"{"expires_in":0}"#,
            r#"{"expires_in":-1}"#,
            r#"{"expires_in":1.5}"#,
            r#"{"expires_in":"60"}"#,
        ] {
            assert_eq!(parse(body.as_bytes()), Err(Malformed), "{body}");
        }
        assert_eq!(parse(b"{\"user\":\"\xff\"}"), Err(Malformed));
    }

    #[test]
    fn only_401_and_403_are_a_no() {
        let decided = |status: u16| decide(&question(), StatusCode::from_u16(status).unwrap(), b"", TIMES);
        assert_eq!(decided(401), Ok(Err(Denied::Unauthorized)));
        assert_eq!(decided(403), Ok(Err(Denied::Forbidden)));
        assert!(matches!(decided(204), Ok(Ok(_))));
        for status in [301, 302, 304, 307, 400, 404, 407, 418, 429, 500, 502, 503, 504] {
            assert_eq!(decided(status), Err(Outcome::Status), "{status}");
        }
    }

    #[test]
    fn the_furthest_end_does_not_wrap() {
        let identity = identity(&format!("{{\"expires_in\":{}}}", u64::MAX));
        assert_eq!(identity.expires, Some(u64::MAX));
    }
}
