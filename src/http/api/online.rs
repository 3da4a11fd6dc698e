//! `POST {base}/users/online`: which of some users have a stream.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer::problem::{Code, Problem};
use crate::http::api::json::{self, json};
use crate::http::api::publish::malformed;
use crate::http::call::{Call, Handled};
use crate::http::gate::caller::Caller;
use crate::http::request_body;
use crate::order::report::{Answer, Question};
use crate::rights::grant::Action;
use crate::types::name::{NAME_BYTES_MAX, UserName};

/// Users one request may ask about.
pub const USERS_MAX: usize = 1_000;

/// Bytes the body may have: so many users of the longest names. Where each byte is written as an escape, fewer.
const BODY_BYTES_MAX: usize = USERS_MAX * (NAME_BYTES_MAX + 16);

/// The answer.
#[derive(Debug, Serialize)]
struct Online<'a> {
    /// Those who are online, in the order in which they were asked for.
    online: Vec<&'a str>,
    /// Nodes that did not say who is online there.
    #[serde(rename = "missing_nodes", skip_serializing_if = "json::is_zero")]
    missing: usize,
}

/// Answers which of the users in the body are online.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::UsersInvalid`] with the place or the index if the body is no list of users;
/// [`Code::BodyMalformed`] if it is no JSON.
pub async fn online(call: Call<'_>, caller: &Caller) -> Handled {
    caller.may(Action::Online)?;
    let engine = call.engine();
    let whole = request_body::collect(call, caller, BODY_BYTES_MAX).await?;
    let users = parse(&whole.bytes)?;
    let asked = engine.ask(Question::Online(users.clone())).await;
    let found: BTreeSet<usize> = asked.answers.iter().flat_map(indices).collect();
    let online = found.into_iter().filter_map(|index| users.get(index)).map(UserName::as_str).collect();
    // No larger than the body, whose bytes are still held.
    Ok(json(&Online { online, missing: asked.missing }))
}

/// The users that a node has.
fn indices(answer: &Answer) -> impl Iterator<Item = usize> {
    let online = if let Answer::Online(online) = answer { &online[..] } else { &[] };
    online.iter().copied().map(usize::from)
}

/// The body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    users: &'a RawValue,
}

/// Reads `{"users":["a","b"]}`.
///
/// # Errors
///
/// [`Code::UsersInvalid`] or [`Code::BodyMalformed`].
pub fn parse(body: &[u8]) -> Result<Vec<UserName>, Problem> {
    let body: Body<'_> = malformed::object(body, Code::UsersInvalid, NOT_USERS)?;
    let fault = Cell::new(None);
    let mut json = serde_json::Deserializer::from_str(body.users.get());
    let users = json.deserialize_seq(Users(&fault));
    // The text is JSON, so all that can be wrong is that it is no list, or one of its elements.
    users.map_err(|_| {
        let problem = Problem::new(Code::UsersInvalid).about("users");
        match fault.get() {
            Some(index) => problem.at_index(index),
            None => problem,
        }
    })
}

const NOT_USERS: &str = "the body is an object with a list of users: {\"users\":[\"a\",\"b\"]}";

/// Reads the list. serde's errors are text for people, so the index at fault is returned through the cell.
struct Users<'f>(&'f Cell<Option<usize>>);

impl<'de> Visitor<'de> for Users<'_> {
    type Value = Vec<UserName>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of users")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut users = Vec::new();
        while users.len() < USERS_MAX {
            let Some(raw) = seq.next_element::<&RawValue>()? else { return Ok(users) };
            let name: Option<String> = serde_json::from_str(raw.get()).ok();
            let Some(user) = name.and_then(|name| UserName::new(&name).ok()) else {
                return Err(self.refuse(users.len()));
            };
            users.push(user);
        }
        if seq.next_element::<IgnoredAny>()?.is_some() { Err(self.refuse(USERS_MAX)) } else { Ok(users) }
    }
}

impl Users<'_> {
    fn refuse<E: de::Error>(&self, index: usize) -> E {
        self.0.set(Some(index));
        E::custom("refused")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<String>, Problem> {
        let users = parse(body.as_bytes())?;
        Ok(users.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn users_are_read_in_their_order() {
        assert_eq!(read(r#"{"users":["b","a","b","café","\u00e9"]}"#).unwrap(), ["b", "a", "b", "café", "é"]);
        assert_eq!(read(" {\"users\" : [ ] } ").unwrap(), [""; 0]);
        let most = format!(r#"{{"users":[{}"u"]}}"#, r#""u","#.repeat(USERS_MAX - 1));
        assert_eq!(read(&most).unwrap().len(), USERS_MAX);
    }

    #[test]
    fn the_place_of_a_fault_is_named() {
        let crowd = format!(r#"{{"users":[{}"u"]}}"#, r#""u","#.repeat(USERS_MAX));
        for (body, index) in [
            (r#"{"users":["a",""]}"#, Some(1)),
            (r#"{"users":[7]}"#, Some(0)),
            (r#"{"users":["a",["b"]]}"#, Some(1)),
            (r#"{"users":["a\n"]}"#, Some(0)),
            (r#"{"users":["\ud800"]}"#, Some(0)),
            (r#"{"users":"a"}"#, None),
            (r#"{"users":null}"#, None),
            (&crowd, Some(1000)),
        ] {
            let refused = parse(body.as_bytes()).expect_err(body);
            let field = refused.field.map(|field| field.to_string());
            assert_eq!(
                (refused.code, refused.index, field.as_deref()),
                (Code::UsersInvalid, index, Some("\"users\"")),
                "{body}"
            );
        }
        for (body, code, place) in [
            ("{}", Code::UsersInvalid, (1, 2)),
            ("null", Code::UsersInvalid, (1, 4)),
            (r#"{"user":["a"]}"#, Code::UsersInvalid, (1, 7)),
            (r#"{"users":[],"users":[]}"#, Code::UsersInvalid, (1, 19)),
            (r#"{"users":["a",]}"#, Code::BodyMalformed, (1, 15)),
            ("", Code::BodyMalformed, (1, 1)),
            (r#"{"users":[]} x"#, Code::BodyMalformed, (1, 14)),
        ] {
            let refused = parse(body.as_bytes()).expect_err(body);
            let found = (refused.line.expect("a line"), refused.column.expect("a column"));
            assert_eq!((refused.code, found), (code, place), "{body}");
        }
    }
}
