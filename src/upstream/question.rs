//! The question to the application: may this subscriber have this stream?

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use serde::Serialize;

use crate::policy::credential::is_bearer;
use crate::types::name::{RoomName, UserName};

/// A hash of everything that is sent, credentials included. They cannot be computed from it.
pub(super) type Key = [u8; 32];

/// Bytes of a presented event id that are passed on. Longer ones are left out: Tidegate's own are shorter.
pub const LAST_EVENT_ID_BYTES_MAX: usize = 256;

/// A subscriber that requests a stream.
pub struct Question {
    /// The user it wants to be.
    pub user: Option<UserName>,
    /// The rooms it wants to listen to.
    pub rooms: Vec<RoomName>,
    /// Its address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The id it presents to resume from.
    pub last_event_id: Option<String>,
    /// `Authorization` and `Cookie`, each as often as they came, `?token=` as a bearer token, and nothing else. If
    /// there is a bearer token, `Authorization` of other schemes is left out: many servers refuse two.
    pub credentials: HeaderMap,
}

impl fmt::Debug for Question {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, rooms, address, .. } = self;
        let mut out = f.debug_struct("Question");
        out.field("user", user).field("rooms", rooms).field("address", address).finish_non_exhaustive()
    }
}

/// The question as JSON.
#[derive(Serialize)]
struct QuestionBody<'a> {
    user: Option<&'a str>,
    rooms: Vec<&'a str>,
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event_id: Option<&'a str>,
}

impl Question {
    /// Collects the credentials in the headers of a request, and the one in its query. `None` if that one cannot be put
    /// into a header.
    #[must_use]
    pub fn credentials(headers: &HeaderMap, in_query: Option<&str>) -> Option<HeaderMap> {
        let mut credentials = HeaderMap::new();
        if let Some(token) = in_query {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            credentials.append(AUTHORIZATION, value);
        }
        let has_bearer = in_query.is_some() || headers.get_all(AUTHORIZATION).iter().any(is_bearer);
        let schemes = headers.get_all(AUTHORIZATION).iter().filter(|value| !has_bearer || is_bearer(value));
        let cookies = headers.get_all(COOKIE).iter();
        for (name, value) in
            schemes.map(|value| (AUTHORIZATION, value)).chain(cookies.map(|value| (COOKIE, value)))
        {
            let mut value = value.clone();
            // From here on, printing the headers shows a placeholder.
            value.set_sensitive(true);
            credentials.append(name, value);
        }
        Some(credentials)
    }

    pub(super) fn body(&self) -> Bytes {
        let id = self.last_event_id.as_deref().filter(|id| id.len() <= LAST_EVENT_ID_BYTES_MAX);
        let body = QuestionBody {
            user: self.user.as_ref().map(UserName::as_str),
            rooms: self.rooms.iter().map(RoomName::as_str).collect(),
            address: self.address,
            last_event_id: id,
        };
        serde_json::to_vec(&body).expect("text, addresses and lists always serialise").into()
    }

    /// The key of this question, whose [`body`](Self::body) is given.
    pub(super) fn key(&self, body: &[u8]) -> Key {
        let mut context = digest::Context::new(&digest::SHA256);
        // Each length comes first, so that bytes cannot move from one part to the next.
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(body);
        for (name, value) in &self.credentials {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn question(user: &str, rooms: &[&str], headers: &[(&'static str, &str)]) -> Question {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Question {
            user: Some(UserName::new(user).unwrap()),
            rooms: rooms.iter().map(|room| RoomName::new(room).unwrap()).collect(),
            address: Some(Ipv4Addr::LOCALHOST.into()),
            last_event_id: None,
            credentials: Question::credentials(&map, None).unwrap(),
        }
    }

    fn key(question: &Question) -> Key {
        question.key(&question.body())
    }

    #[test]
    fn the_application_is_told_who_wants_what_from_where() {
        let mut asked = question("me", &["a", "b\"c"], &[]);
        assert_eq!(asked.body(), r#"{"user":"me","rooms":["a","b\"c"],"address":"127.0.0.1"}"#);
        asked.user = None;
        asked.address = None;
        asked.last_event_id = Some("k3v9q2-7".into());
        let body = r#"{"user":null,"rooms":["a","b\"c"],"address":null,"last_event_id":"k3v9q2-7"}"#;
        assert_eq!(asked.body(), body);
        asked.last_event_id = Some("x".repeat(LAST_EVENT_ID_BYTES_MAX + 1));
        assert!(!String::from_utf8_lossy(&asked.body()).contains("last_event_id"));
    }

    #[test]
    fn only_credentials_are_passed_on() {
        let headers = [("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "Bearer x"), ("x-admin", "1")];
        let credentials = question("me", &["a"], &headers).credentials;
        assert_eq!(credentials.len(), 3);
        assert!(!credentials.contains_key("x-admin"));
        assert_eq!(credentials.get_all("cookie").iter().count(), 2);
    }

    #[test]
    fn a_token_of_the_query_is_passed_on_as_a_bearers() {
        let credentials = |token| Question::credentials(&HeaderMap::new(), Some(token));
        let passed_on = credentials("x.y").unwrap();
        assert_eq!(passed_on.get(AUTHORIZATION).unwrap(), "Bearer x.y");
        assert!(!format!("{passed_on:?}").contains("x.y"));
        for no_header in ["x\r\ny: z", "x\0"] {
            assert!(credentials(no_header).is_none(), "{no_header:?}");
        }
    }

    /// The header for a proxy in front is passed on only if there is no other: many servers refuse two.
    #[test]
    fn another_scheme_is_passed_on_where_there_is_no_bearer() {
        let passed_on = |schemes: &[&'static str], in_query: Option<&str>| -> Vec<String> {
            let lines = schemes.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
            let credentials = Question::credentials(&lines.collect(), in_query).unwrap();
            let values = credentials.get_all(AUTHORIZATION).iter();
            values.map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(passed_on(&["Basic dTpw"], None), ["Basic dTpw"]);
        assert_eq!(passed_on(&["Basic dTpw", "Bearer x"], None), ["Bearer x"]);
        assert_eq!(passed_on(&["Basic dTpw"], Some("x")), ["Bearer x"]);
    }

    #[test]
    fn questions_that_differ_anywhere_have_different_keys() {
        let questions = [
            question("me", &["a"], &[]),
            question("you", &["a"], &[]),
            question("me", &["a", "b"], &[]),
            question("me", &["a"], &[("cookie", "s=1")]),
            question("me", &["a"], &[("cookie", "s=2")]),
            question("me", &["a"], &[("authorization", "s=1")]),
            question("me", &["a"], &[("cookie", "s=1"), ("cookie", "t=1")]),
            question("me", &["a"], &[("cookie", "s=1cookiet=1")]),
        ];
        let keys: std::collections::BTreeSet<_> = questions.iter().map(key).collect();
        assert_eq!(keys.len(), questions.len());
        assert_eq!(key(&questions[0]), key(&question("me", &["a"], &[])));
    }

    #[test]
    fn credentials_are_not_printed() {
        let asked = question("me", &["a"], &[("cookie", "canary"), ("authorization", "Bearer canary")]);
        assert!(!format!("{asked:?} {:?}", asked.credentials).contains("canary"));
    }
}
