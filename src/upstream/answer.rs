//! The application's answer.
//!
//! | answer | means |
//! |---|---|
//! | 2xx, without a body or with `{}` | allowed as asked: to listen in these rooms under this name |
//! | 2xx, `{"user":…,"permissions":[…],"expires_in":…}`, each optional | allowed with these values |
//! | 401, 403 | refused |
//! | anything else | invalid |
//!
//! An answer with unknown members is invalid too: a misspelt `permissions` must not allow more than was meant.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::rights::grant::{Grant, Permission, PermissionError};
use crate::rights::identity::{Identity, KeyId};
use crate::types::name::{RoomName, UserName};
use crate::upstream::client::Failed;
use crate::upstream::question::Question;
use crate::upstream::stats::Outcome;
use crate::upstream::{Denied, Verdict};

/// Bytes an answer may have.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The content of a 2xx answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Refinement {
    /// The subscriber's user.
    pub user: Option<UserName>,
    /// What it may do. Invalid permissions are left out.
    pub grant: Option<Grant>,
    /// The invalid permissions, by their index.
    pub misunderstood: Vec<(usize, PermissionError)>,
    /// For how many seconds the answer holds.
    pub expires_in: Option<NonZeroU64>,
}

/// An invalid answer, and the reason. Repeats nothing of the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed(pub &'static str);

/// The decision of an answer.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Decided {
    pub(super) verdict: Verdict,
    /// Invalid permissions in it.
    pub(super) misunderstood: Vec<(usize, PermissionError)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerBody<'a> {
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
    // Serde would also accept an array of three.
    if text[0] != b'{' {
        return Err(Malformed(NO_OBJECT));
    }
    // The whole body: ASCII white space includes bytes that JSON forbids.
    let read = serde_json::from_slice(body);
    let AnswerBody { user, permissions, expires_in } = read.map_err(|_| Malformed(wrong_with(body)))?;
    let user = user.map(|user| UserName::new(&user)).transpose().map_err(|_| Malformed(NO_USER))?;
    let (grant, misunderstood) = permissions
        .map(|texts| Grant::parse(texts.iter().map(|text| &**text)))
        .map_or_else(Default::default, |(grant, errors)| (Some(grant), errors));
    Ok(Refinement { user, grant, misunderstood, expires_in })
}

const NO_OBJECT: &str = "it is not a JSON object";
const NO_USER: &str = "its user is not a valid name";

/// The reason why `body` does not have the expected form.
fn wrong_with(body: &[u8]) -> &'static str {
    let Ok(members) = serde_json::from_slice::<Map<String, Value>>(body) else { return NO_OBJECT };
    let is_known = |name: &String| ["user", "permissions", "expires_in"].contains(&name.as_str());
    let is_wrong = |name: &str, is_right: fn(&Value) -> bool| {
        members.get(name).is_some_and(|value| !value.is_null() && !is_right(value))
    };
    if !members.keys().all(is_known) {
        "it has a member other than user, permissions and expires_in"
    } else if is_wrong("user", Value::is_string) {
        NO_USER
    } else if is_wrong("permissions", |value| {
        value.as_array().is_some_and(|entries| entries.iter().all(Value::is_string))
    }) {
        "its permissions are not a list of strings"
    } else if is_wrong("expires_in", |value| value.as_u64().is_some_and(|seconds| seconds > 0)) {
        "its expires_in is not a whole number of seconds, 1 or more"
    } else {
        "it has a member twice"
    }
}

/// When the application was asked and when it answered, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The application may have decided at this moment: its answer is as old as the question.
    pub(super) asked: u64,
    /// `expires_in` counts from here.
    pub(super) answered: u64,
}

/// The decision of an answer to `question`.
///
/// # Errors
///
/// The reason why the answer is invalid.
pub(super) fn decide(
    question: &Question,
    status: StatusCode,
    body: &[u8],
    times: Times,
) -> Result<Decided, Failed> {
    let denied = |denied| Ok(Decided { verdict: Err(denied), misunderstood: Vec::new() });
    match status {
        StatusCode::UNAUTHORIZED => return denied(Denied::Unauthorized),
        StatusCode::FORBIDDEN => return denied(Denied::Forbidden),
        status if !status.is_success() => return Err(Failed::by_status(status)),
        _ => {}
    }
    let refinement = parse(body).map_err(|Malformed(why)| Failed::new(Outcome::Malformed, why))?;
    let as_asked = || question.rooms.iter().map(RoomName::as_str).map(Permission::to_read).collect();
    let identity = Identity {
        user: refinement.user.or_else(|| question.user.clone()),
        token: None,
        issued: Some(times.asked),
        expires: refinement.expires_in.map(|seconds| times.answered.saturating_add(seconds.get())),
        grant: Arc::new(refinement.grant.unwrap_or_else(as_asked)),
        key: KeyId::APPLICATION,
        api_key: None,
    };
    Ok(Decided { verdict: Ok(Arc::new(identity)), misunderstood: refinement.misunderstood })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderMap;

    use super::*;
    use crate::rights::grant::Action;

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
        let decided = decide(&question(), StatusCode::OK, body.as_bytes(), TIMES).expect("an answer");
        decided.verdict.expect("a yes")
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

    /// A misspelt permission used to be a refusal without an explanation.
    #[test]
    fn permissions_that_mean_nothing_are_told_by_their_place() {
        let body = r#"{"permissions":["vip","sse:reed:a"]}"#;
        let misunderstood = parse(body.as_bytes()).expect("an answer").misunderstood;
        assert_eq!(misunderstood, [(1, PermissionError::Unknown)]);
    }

    #[test]
    fn no_permissions_allow_nothing() {
        assert!(!identity(r#"{"permissions":[]}"#).allows(Action::Read("a")));
    }

    #[test]
    fn what_is_not_understood_is_no_yes() {
        let permissions = "its permissions are not a list of strings";
        let expires_in = "its expires_in is not a whole number of seconds, 1 or more";
        for (body, why) in [
            ("ok", NO_OBJECT),
            ("true", NO_OBJECT),
            ("null", NO_OBJECT),
            ("[]", NO_OBJECT),
            (r#"["me",["sse:read"],60]"#, NO_OBJECT),
            ("{", NO_OBJECT),
            ("{} {}", NO_OBJECT),
            ("<html></html>", NO_OBJECT),
            (
                r#"{"permission":["sse:read:a"]}"#,
                "it has a member other than user, permissions and expires_in",
            ),
            (r#"{"allowed":false}"#, "it has a member other than user, permissions and expires_in"),
            (r#"{"user":""}"#, NO_USER),
            (r#"{"user":"a\nb"}"#, NO_USER),
            (r#"{"user":7}"#, NO_USER),
            (r#"{"user":"a","user":"b"}"#, "it has a member twice"),
            (r#"{"permissions":"sse:read"}"#, permissions),
            (r#"{"permissions":[1]}"#, permissions),
            (r#"{"expires_in":0}"#, expires_in),
            (r#"{"expires_in":-1}"#, expires_in),
            (r#"{"expires_in":1.5}"#, expires_in),
            (r#"{"expires_in":"60"}"#, expires_in),
        ] {
            assert_eq!(parse(body.as_bytes()), Err(Malformed(why)), "{body}");
        }
        assert_eq!(parse(b"{\"user\":\"\xff\"}"), Err(Malformed(NO_OBJECT)));
    }

    #[test]
    fn only_401_and_403_are_a_no() {
        let decided = |status: u16| decide(&question(), StatusCode::from_u16(status).unwrap(), b"", TIMES);
        assert_eq!(decided(401).expect("a no").verdict, Err(Denied::Unauthorized));
        assert_eq!(decided(403).expect("a no").verdict, Err(Denied::Forbidden));
        assert!(decided(204).expect("a yes").verdict.is_ok());
        for status in [301, 302, 304, 307, 400, 404, 407, 418, 429, 500, 502, 503, 504] {
            assert_eq!(decided(status), Err(Failed::new(Outcome::Status, format!("status {status}"))));
        }
    }

    #[test]
    fn the_furthest_end_does_not_wrap() {
        let identity = identity(&format!("{{\"expires_in\":{}}}", u64::MAX));
        assert_eq!(identity.expires, Some(u64::MAX));
    }
}
