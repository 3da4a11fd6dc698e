//! Idempotency keys: where a request has them, and what it claims with them.
//!
//! A claim is two hashes (SHA-256, cut to 128 bits): one of who claims what, and one of what comes with it. They depend
//! on nothing but that, so every node makes the same. What is hashed has its kind and the length of each part in
//! front, so no two of them are alike.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use hyper::header::{HeaderMap, HeaderName};

use crate::answer::problem::{Code, Problem};
use crate::http::api::publish::media::Media;
use crate::hub::draft::{Claim, Draft, Target};
use crate::rights::grant::PermissionName;
use crate::types::name::{EventId, EventKey, EventName, OnceKey, UserName};

/// The header with the key of a request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header of an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The key of a request with these `headers`, if it has one.
///
/// # Errors
///
/// [`Code::IdempotencyKeyInvalid`] if there are two, or it is no key, or the body comes in lines: what of a stream of
/// lines was published before is known line by line only.
pub fn key(headers: &HeaderMap, media: Media) -> Result<Option<OnceKey>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if media == Media::Ndjson {
        let detail = "a stream of lines takes no Idempotency-Key; give each event a key of its own, as once";
        return Err(Problem::new(Code::IdempotencyKeyInvalid).with_detail(detail));
    }
    let text = std::str::from_utf8(value.as_bytes()).ok().filter(|_| values.next().is_none());
    let key = text.and_then(|text| OnceKey::new(text).ok());
    key.map(Some).ok_or_else(|| Code::IdempotencyKeyInvalid.into())
}

/// What a request with this `key` and `body` claims, if `principal` sends it.
#[must_use]
pub fn of_request(principal: &str, key: &OnceKey, body: &[u8], time: Duration) -> Claim {
    Claim {
        key: hash("request", &[Some(principal.as_bytes()), Some(key.as_str().as_bytes())]),
        content: hash("body", &[Some(body)]),
        time,
    }
}

/// What an event with this `key` claims, if `principal` sends it.
#[must_use]
pub fn of_event(principal: &str, key: &OnceKey, draft: &Draft, time: Duration) -> Claim {
    Claim {
        key: hash("event", &[Some(principal.as_bytes()), Some(key.as_str().as_bytes())]),
        content: content(draft),
        time,
    }
}

/// What an event claims in a room that refuses repeats for `time`, if `user` sends it.
#[must_use]
pub fn of_repeat(user: &UserName, draft: &Draft, time: Duration) -> Claim {
    let (kind, target) = target(draft);
    let name = draft.name.as_ref().map(|name| name.as_str().as_bytes());
    let parts = [
        Some(user.as_str().as_bytes()),
        Some(kind.as_bytes()),
        Some(target.as_bytes()),
        name,
        Some(draft.data.as_bytes()),
    ];
    Claim { key: hash("repeat", &parts), content: 0, time }
}

/// The hash of everything that an event says.
fn content(draft: &Draft) -> u128 {
    let (kind, target) = target(draft);
    let version = draft.version.map(u64::to_be_bytes);
    hash(
        "content",
        &[
            Some(kind.as_bytes()),
            Some(target.as_bytes()),
            draft.name.as_ref().map(EventName::as_str).map(str::as_bytes),
            draft.id.as_ref().map(EventId::as_str).map(str::as_bytes),
            Some(draft.data.as_bytes()),
            draft.exclude.as_ref().map(UserName::as_str).map(str::as_bytes),
            draft.require.as_ref().map(PermissionName::as_str).map(str::as_bytes),
            draft.key.as_ref().map(EventKey::as_str).map(str::as_bytes),
            version.as_ref().map(|version| &version[..]),
            draft.store.then_some(&b""[..]),
        ],
    )
}

fn target(draft: &Draft) -> (&'static str, &str) {
    match &draft.target {
        Target::Room(room) => ("room", room.as_str()),
        Target::User(user) => ("user", user.as_str()),
        Target::All => ("all", ""),
    }
}

/// The hash of `parts`, which are of this `kind`. A part that is missing is not one that is empty.
fn hash(kind: &str, parts: &[Option<&[u8]>]) -> u128 {
    let mut context = Context::new(&SHA256);
    for part in [Some(kind.as_bytes())].iter().chain(parts) {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        context.update(&length.to_be_bytes());
        context.update(part.unwrap_or_default());
    }
    let digest = context.finish();
    let half: [u8; 16] = digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes");
    u128::from_be_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::name::RoomName;

    fn once(text: &str) -> OnceKey {
        OnceKey::new(text).expect("a key")
    }

    fn draft() -> Draft {
        Draft::to(Target::Room(RoomName::new("r").expect("a name")), "x")
    }

    #[test]
    fn a_request_has_one_key_and_lines_have_none() {
        let headers = |values: &[&[u8]]| {
            let pair = |value: &&[u8]| (IDEMPOTENCY_KEY, value.to_vec().try_into().expect("a value"));
            values.iter().map(pair).collect::<HeaderMap>()
        };
        let json = |values: &[&[u8]]| key(&headers(values), Media::Json).map_err(|problem| problem.code);
        assert_eq!((json(&[]), json(&[b"k-1"])), (Ok(None), Ok(Some(once("k-1")))));
        assert_eq!(json(&["\"caf\u{e9}\"".as_bytes()]), Ok(Some(once("\"café\""))));
        let long = [b'k'; 129];
        for values in [&[&b""[..]][..], &[b"a", b"a"], &[&long], &[b"\xff"], &[b"a\tb"]] {
            assert_eq!(json(values), Err(Code::IdempotencyKeyInvalid), "{values:?}");
        }
        assert_eq!(key(&headers(&[]), Media::Ndjson), Ok(None));
        let refused = key(&headers(&[b"k"]), Media::Ndjson).expect_err("lines");
        assert!(refused.code == Code::IdempotencyKeyInvalid && refused.detail.is_some());
    }

    /// Other nodes must make the same claims, so the hashes are written here.
    #[test]
    fn a_claim_is_the_same_everywhere() {
        let time = Duration::from_mins(5);
        let of = |principal, key, body| of_request(principal, &once(key), body, time);
        let claim = of("user me", "k", b"{}");
        assert_eq!(claim, of("user me", "k", b"{}"));
        assert_ne!(claim.key, of("user you", "k", b"{}").key);
        assert_ne!(claim.key, of("user mek", " ", b"{}").key);
        assert_ne!(claim.key, of_event("user me", &once("k"), &draft(), time).key);
        assert_ne!(claim.content, of("user me", "k", b"{ }").content);
        assert_eq!(claim.time, time);
        let plain = b"\0\0\0\0\0\0\0\x04body\0\0\0\0\0\0\0\x02{}";
        let digest = aws_lc_rs::digest::digest(&SHA256, plain);
        assert_eq!(claim.content.to_be_bytes(), digest.as_ref()[..16]);
    }

    #[test]
    fn every_member_of_an_event_makes_another_content() {
        let user = UserName::new("r").expect("a name");
        let variants = [
            draft(),
            Draft { target: Target::All, ..draft() },
            Draft { target: Target::User(user.clone()), ..draft() },
            Draft { name: EventName::new("n").ok(), ..draft() },
            Draft { id: EventId::new("n").ok(), ..draft() },
            Draft { data: "y".into(), ..draft() },
            Draft { data: String::new(), ..draft() },
            Draft { exclude: Some(user), ..draft() },
            Draft { require: PermissionName::new("n").ok(), ..draft() },
            Draft { key: EventKey::new("n").ok(), ..draft() },
            Draft { version: Some(0), ..draft() },
            Draft { version: Some(1), ..draft() },
            Draft { store: false, ..draft() },
        ];
        let contents: std::collections::BTreeSet<u128> = variants.iter().map(content).collect();
        assert_eq!(contents.len(), variants.len());
    }

    #[test]
    fn equal_data_is_a_repeat_of_the_same_user_room_and_name_only() {
        let time = Duration::from_secs(30);
        let [me, you] = ["me", "you"].map(|name| UserName::new(name).expect("a name"));
        let first = of_repeat(&me, &draft(), time);
        let named = Draft { name: EventName::new("n").ok(), ..draft() };
        let elsewhere = Draft::to(Target::Room(RoomName::new("s").expect("a name")), "x");
        assert_eq!(first, of_repeat(&me, &Draft { id: EventId::new("i").ok(), ..draft() }, time));
        for other in [of_repeat(&you, &draft(), time), of_repeat(&me, &named, time)] {
            assert_ne!(first.key, other.key);
        }
        assert_ne!(first.key, of_repeat(&me, &elsewhere, time).key);
    }
}
