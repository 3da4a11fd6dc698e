//! Who asks and what they may do: tokens, keys, permissions, and an application's answer.

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::Value;
use tidegate::answer::told::Told;
use tidegate::auth::api_keys::ApiKeys;
use tidegate::auth::claims::Parts;
use tidegate::auth::jwks::{self, JWKS_KEYS_MAX};
use tidegate::auth::key::Key;
use tidegate::auth::tokens::Tokens;
use tidegate::policy::credential::{self, COOKIES_MAX, Places};
use tidegate::rights::grant::{Action, Grant, Permission};
use tidegate::rights::pattern::Pattern;
use tidegate::types::name::UserName;
use tidegate::upstream::answer;
use tidegate::upstream::publishing::Said;

use super::settings::read_settings;

/// An application's answer grants access only if it is empty or an object with known members, and the result is what
/// they say.
pub(crate) fn answer(bytes: &[u8]) {
    let Ok(refinement) = answer::parse(bytes) else {
        return;
    };
    if bytes.trim_ascii().is_empty() {
        assert_eq!(refinement, answer::Refinement::default());
        return;
    }
    let value: Value = serde_json::from_slice(bytes).expect("a yes is JSON");
    let members = value.as_object().expect("a yes is an object");
    assert!(members.keys().all(|key| ["user", "permissions", "expires_in"].contains(&&**key)), "{value}");
    assert_eq!(refinement.user.as_ref().map(UserName::as_str), value["user"].as_str());
    assert_eq!(refinement.grant.is_some(), value["permissions"].is_array());
    assert_eq!(refinement.expires_in.map(Into::into), value["expires_in"].as_u64());
}

/// What the application says about an event: a yes is an object, and its data is what it says. A no has a code and a title
/// that can be passed on.
pub(crate) fn said(bytes: &[u8]) {
    if let Some(said) = Said::of_yes(bytes) {
        assert!(bytes.trim_ascii().starts_with(b"{"));
        // `Value` does not read all JSON: `1e999`, half surrogate pairs.
        if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
            let given = match said {
                Said::Yes => Value::Null,
                Said::With(data) => serde_json::from_str(data.get()).expect("it was read before"),
                Said::No(told) => panic!("{told:?}"),
            };
            assert_eq!(given, value["data"]);
        }
    }
    let told = Told::read(bytes);
    let is_code = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    assert!((1..=64).contains(&told.code().len()) && told.code().bytes().all(is_code), "{}", told.code());
    assert!((1..=128).contains(&told.title().len()) && !told.title().contains(char::is_control));
}

/// A file of API keys is read without panic; a text that is no key finds no entry, and no message contains a key.
pub(crate) fn api_keys(text: &str) {
    match ApiKeys::from_toml(Path::new("keys.toml"), text) {
        Ok(keys) => assert!(keys.find(text).is_none() && keys.find("").is_none()),
        Err(err) => {
            let told = format!("{err} {err:?}");
            assert!(told.starts_with("api_keys_file: keys.toml: ") && !told.contains("tgk_"), "{told}");
        }
    }
}

/// A credential is one that a request has in an allowed place, whole, and the only one, except for a cookie's few
/// values. A value of `Authorization` counts if it is a bearer's.
pub(crate) fn credential(authorization: Option<&[u8]>, cookie: Option<&[u8]>, query: Option<&str>) {
    let values = [(AUTHORIZATION, authorization), (COOKIE, cookie)];
    let values =
        values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(value?).ok()?)));
    let headers: HeaderMap = values.collect();
    let by_header = headers.get(AUTHORIZATION).is_some_and(credential::is_bearer);
    let places = Places { cookie: Some("t".into()), query: true };
    if let Ok(found) = credential::find(&places, &headers, query) {
        assert!(!by_header || found.is_some());
        let Some(found) = found else { return };
        assert!(!by_header || !found.is_cookie);
        assert!(found.others.len() < COOKIES_MAX && (found.is_cookie || found.others.is_empty()));
        let shown = headers.values().map(HeaderValue::as_bytes).chain(query.map(str::as_bytes));
        let shown = shown.collect::<Vec<_>>().concat();
        let is_encoded = query.is_some_and(|query| query.contains('%'));
        for text in found.text.iter().map(AsRef::as_ref).chain(found.others.iter().copied()) {
            let is_part = || shown.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(is_encoded || text.is_empty() || is_part());
        }
        assert!(!found.others.iter().any(|other| found.text.as_deref() == Some(*other)));
    }
    let by_header_alone = credential::find(&Places::default(), &headers, query).expect("it can't be two");
    assert_eq!(by_header_alone.is_some(), by_header);
}

/// A set of keys is read without panic, has no more keys than its bound, and no secrets unless they are allowed.
pub(crate) fn jwks(bytes: &[u8]) {
    let published = jwks::parse(bytes, false);
    let own = jwks::parse(bytes, true);
    for key in published.iter().flatten() {
        assert!(!format!("{:?}", key.algorithm).starts_with("HS"));
    }
    for keys in [published, own].into_iter().flatten() {
        assert!((1..=JWKS_KEYS_MAX).contains(&keys.len()));
        for (index, key) in keys.iter().enumerate() {
            let is_twin = |other: &&Key| other.kid == key.kid && other.algorithm == key.algorithm;
            assert!(key.kid.is_none() || !keys[..index].iter().any(|other| is_twin(&other)));
            assert!(!key.signed(b"", "") && !key.signed(bytes, "AAAA"));
        }
    }
}

/// A permission is read without panic. Only the plain `admin` makes an administrator, and only the plain `sse:publish`
/// reaches beyond rooms; `{user}` is the token's user, and matches nothing without one.
pub(crate) fn permission(text: &str, room: &str, user: Option<&str>) {
    let parsed = Permission::parse(text);
    let (grant, errors) = Grant::parse([text]);
    assert_eq!(parsed.as_ref().err(), errors.first().map(|(_, err)| err));
    assert_eq!(grant.allows(user, Action::Administer), text == "admin");
    assert_eq!(grant.allows(user, Action::PublishAnywhere), text == "sse:publish");
    let may_read = grant.allows(user, Action::Read(room));
    assert!(!may_read || text == "sse:read" || text.starts_with("sse:read:"));
    if let Some(Ok(pattern)) = text.strip_prefix("sse:read:").map(Pattern::parse) {
        assert_eq!(pattern.covers(room, user), may_read);
        assert!(!text.contains("{user}") || !pattern.covers(room, None));
    }
    assert!(Pattern::exactly(room).covers(room, user));
    assert_eq!(Pattern::exactly(text).covers(room, user), text == room);
    if let Ok(encoded) = Pattern::parse(&utf8_percent_encode(room, NON_ALPHANUMERIC).to_string()) {
        assert!(encoded.covers(room, user));
        assert_eq!(encoded.covers(text, user), text == room);
    }
}

/// No text but the good token itself is accepted, either alone or in place of a part of the token.
pub(crate) fn token(text: &str) {
    let coded = URL_SAFE_NO_PAD.encode(text);
    let parts: Vec<&str> = GOOD_TOKEN.split('.').collect();
    let [header, claims, signature] = parts[..] else { unreachable!("it has three") };
    for shown in [
        text.to_owned(),
        format!("{text}.{claims}.{signature}"),
        format!("{coded}.{claims}.{signature}"),
        format!("{header}.{text}.{signature}"),
        format!("{header}.{coded}.{signature}"),
        format!("{header}.{claims}.{text}"),
        format!("{header}.{claims}.{coded}"),
    ] {
        believed_if_good(&shown);
    }
    let unsigned = format!("{header}.{coded}.AAAA");
    if let Ok(claims) = Parts::of(&unsigned).and_then(|parts| parts.claims()) {
        for name in ["exp", "nbf", "iat", "sub", "aud", "permissions"] {
            match claims.time(name) {
                Ok(Some(time)) => assert!(time <= YEAR_9999_S, "{name} is {time}"),
                Ok(None) => assert_eq!(claims.get(name), None, "{name} is passed over"),
                Err(_) => assert!(claims.get(name).is_some(), "{name} is refused and not there"),
            }
            assert_eq!(claims.text(name) == Ok(None), claims.get(name).is_none());
            assert!(claims.text(name).is_err() || claims.texts(name).is_ok());
        }
    }
}

/// A changed good token is not accepted either.
pub(crate) fn changed_token(at: usize, cut: usize, put: &str) {
    let at = at.min(GOOD_TOKEN.len());
    let after = (at + cut).min(GOOD_TOKEN.len());
    believed_if_good(&format!("{}{put}{}", &GOOD_TOKEN[..at], &GOOD_TOKEN[after..]));
}

fn believed_if_good(token: &str) {
    // A secret, and a set of keys that was not read yet: no token may be accepted because the set is missing.
    static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
        let text = format!(
            "token_keys = [\"HS256:base64:{}\"]\ntoken_jwks = [\"https://issuer.example/jwks\"]",
            STANDARD.encode(TOKEN_SECRET)
        );
        let config = read_settings(&text).expect("these settings are right");
        Tokens::load(&config, std::sync::Arc::default()).expect("a good secret").expect("a secret")
    });
    let found = TOKENS.verify(token, 1_999_999_999);
    assert_eq!(found.is_ok(), token == GOOD_TOKEN, "{token:?}");
}

const TOKEN_SECRET: &str = "a secret that everybody may know: it is for checks";

/// Signed with that secret, HS256.
const GOOD_TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjIwMDAwMDAwMDAsInBlcm1pc3Npb25zIjpbInNzZTpyZWFkIl19.5qdNE8fwv8qqvMVyjh7LUdooAWAlfysXUaNoFYfG27w";

/// The last second that a time may have.
const YEAR_9999_S: u64 = 253_402_300_800;
