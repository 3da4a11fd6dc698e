//! Promise: a key is taken only if it fits its use; a set of keys follows its issuer's set, also when that changes; and
//! no message shows a secret.

use crate::common;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::signer::{
    ALGORITHMS, Folder, ISSUER, NOW, SECRET, STRANGER, at_url, claims, from_file, inline, pem, settings,
    settings_hs256, tokens, tokens_counting,
};
use jsonwebtoken::Algorithm::{
    self, ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
};
use serde_json::{Value, json};
use tidegate::auth::jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, JwksError, LeftOut};
use tidegate::auth::key::KeyError;
use tidegate::auth::token_error::{TokenError, TokenStats};
use tidegate::auth::tokens::{LoadError, Tokens};
use tidegate::config::{Config, JwksSource, TokenKey};

/// An RSA key of 1,024 bits; its private half is lost.
const WEAK_RSA: &str = include_str!("keys/rsa1024.pem");

fn load(config: &Config) -> Result<Option<Tokens>, LoadError> {
    Tokens::load(config, TokenStats::default().into())
}

/// Returns why `key` cannot be used. The message names the setting and the place.
fn key_error(key: TokenKey, place: &str) -> KeyError {
    let config = Config { token_keys: vec![inline(HS256, SECRET), key], ..settings() };
    let Err(err) = load(&config) else { panic!("it was taken: {config:?}") };
    let LoadError::Key("token_keys", what, reason) = &err else { panic!("{err:?}") };
    assert_eq!((what.as_str(), err.to_string()), (place, format!("token_keys: {place} {reason}")));
    *reason
}

/// Returns the same for a key in a file.
fn file_error(algorithm: Algorithm, bytes: &[u8]) -> KeyError {
    let folder = Folder::new();
    let path = folder.file("key", bytes);
    let place = path.display().to_string();
    key_error(from_file(algorithm, path), &place)
}

#[test]
fn without_keys_there_are_no_tokens() {
    assert!(load(&settings()).expect("nothing can be wrong").is_none());
}

#[test]
fn what_is_published_is_no_secret() {
    for algorithm in ALGORITHMS.into_iter().skip(3) {
        let pair = ISSUER.pair(algorithm);
        let text = String::from_utf8(pair.public.clone()).expect("PEM");
        let body = pair.public_body();
        let jwk = pair.jwk.to_string();
        let set = json!({"keys": [pair.jwk]}).to_string();
        let in_base64 = STANDARD.encode(&text);
        let forms: [&[u8]; 9] = [
            text.as_bytes(),
            pair.private_pem.as_bytes(),
            &pair.public_der,
            body.as_bytes(),
            in_base64.as_bytes(),
            jwk.as_bytes(),
            set.as_bytes(),
            b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2kqfh0H2QfUqv0o0x1c3l6c2VjcmV0 ann@example",
            b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAAB3NzaC1yc2EAAAADAQABAAABAQ\n---- END SSH2 PUBLIC KEY ----",
        ];
        for form in forms {
            for algorithm in [HS256, HS384, HS512] {
                assert_eq!(file_error(algorithm, form), KeyError::PublicAsSecret);
                let told = key_error(inline(algorithm, form), "the secret in base64");
                assert_eq!(told, KeyError::PublicAsSecret);
            }
        }
    }
}

#[test]
fn secrets_are_long_enough() {
    for (algorithm, least) in [(HS256, 32), (HS384, 48), (HS512, 64)] {
        for length in [1, 16, least - 1] {
            assert_eq!(file_error(algorithm, &SECRET[..length]), KeyError::SecretShort);
            let told = key_error(inline(algorithm, &SECRET[..length]), "the secret in base64");
            assert_eq!(told, KeyError::SecretShort);
        }
        assert!(
            load(&Config { token_keys: vec![inline(algorithm, &SECRET[..least])], ..settings() }).is_ok()
        );
    }
    assert_eq!(file_error(HS256, b""), KeyError::SecretShort);
    // The line end is no part of the secret.
    assert_eq!(file_error(HS256, &[&SECRET[..31], b"\n"].concat()), KeyError::SecretShort);
}

#[test]
fn a_secrets_line_end_is_left_out_and_its_bytes_are_not() {
    let folder = Folder::new();
    let token = ISSUER.token(HS256, &claims());
    for end in ["", "\n", "\r\n"] {
        let path = folder.file("secret", &[SECRET, end.as_bytes()].concat());
        let tokens = tokens(&Config { token_keys: vec![from_file(HS256, path)], ..settings() });
        assert!(tokens.verify(&token, NOW).is_ok(), "{end:?}");
    }
    // Random bytes may end in a line end.
    let random = [&[0xf1; 31][..], b"\n"].concat();
    let path = folder.file("random", &random);
    assert!(load(&Config { token_keys: vec![from_file(HS256, path)], ..settings() }).is_ok());
}

#[test]
fn public_keys_are_public_ones_of_the_right_kind() {
    for ours in ALGORITHMS.into_iter().skip(3) {
        let pair = ISSUER.pair(ours);
        assert_eq!(file_error(ours, pair.private_pem.as_bytes()), KeyError::Private);
        let both = [&pair.public[..], pair.private_pem.as_bytes()].concat();
        assert_eq!(file_error(ours, &both), KeyError::Private);
        let two = [&pair.public[..], &STRANGER.pair(ours).public].concat();
        let certificate =
            String::from_utf8(pair.public.clone()).expect("PEM").replace("PUBLIC KEY", "CERTIFICATE");
        let cut = &pair.public[..pair.public.len() / 2];
        let forms =
            [&two[..], certificate.as_bytes(), &pair.public_der, cut, b"", b"garbage", b"\xff\x00", SECRET];
        for form in forms {
            assert_eq!(file_error(ours, form), KeyError::Form, "{ours:?} {}", String::from_utf8_lossy(form));
        }
        for theirs in
            ALGORITHMS.into_iter().skip(3).filter(|theirs| pair.public != ISSUER.pair(*theirs).public)
        {
            let told = file_error(ours, &ISSUER.pair(theirs).public);
            assert_eq!(told, KeyError::Form, "{theirs:?} for {ours:?}");
        }
    }
    assert_eq!(file_error(RS256, WEAK_RSA.as_bytes()), KeyError::RsaBits);
    // Right in every length, but no point of the curve; a point of another curve of that size is none either.
    let mut off_the_curve = ISSUER.pair(ES256).public_der.clone();
    *off_the_curve.last_mut().expect("bytes") ^= 1;
    assert_eq!(file_error(ES256, pem("PUBLIC KEY", &off_the_curve).as_bytes()), KeyError::Form);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = Folder::new();
    let path = folder.path().join("missing");
    let what = path.display().to_string();
    let key = Config { token_keys: vec![from_file(RS256, path.clone())], ..settings() };
    let set = Config { token_jwks: vec![JwksSource::File(path)], ..settings() };
    let folder_itself = Config { token_keys: vec![from_file(HS256, folder.path().into())], ..settings() };
    for (config, told) in [
        (key, format!("token_keys: cannot read {what}")),
        (set, format!("token_jwks: cannot read {what}")),
        (folder_itself, format!("token_keys: cannot read {}", folder.path().display())),
    ] {
        let Err(err) = load(&config) else { panic!("nothing is there") };
        assert_eq!(err.to_string(), told);
        assert!(std::error::Error::source(&err).is_some());
    }
}

#[test]
fn no_message_shows_a_secret() {
    let folder = Folder::new();
    let short = &SECRET[..31];
    let mut shown = Vec::new();
    for (name, bytes) in [("short", short), ("pem", ISSUER.pair(RS256).private_pem.as_bytes())] {
        let path = folder.file(name, bytes);
        for algorithm in [HS256, RS256] {
            let config = Config { token_keys: vec![from_file(algorithm, path.clone())], ..settings() };
            let Err(err) = load(&config) else { panic!("{name} is no good") };
            shown.push(format!("{err} {err:?} {config:?}\n"));
        }
        let config = Config { token_keys: vec![inline(HS256, bytes)], ..settings() };
        let Err(err) = load(&config) else { panic!("{name} is no good") };
        shown.push(format!("{err} {err:?} {config:?} {:?}\n", config.token_keys[0].source));
    }
    let text = format!("token_keys = [\"HS256:base64:{}\", \"HS256:base64:!{}\"]", secret64(), secret64());
    let errors = Config::from_toml(Path::new("t.toml"), &text, 4096).expect_err("not base64");
    shown.push(format!("{errors} {errors:?}"));
    let path = folder.file("set", json!({"keys": [{"kty": "oct", "k": secret64()}]}).to_string().as_bytes());
    let Err(err) = load(&Config { token_jwks: vec![JwksSource::File(path)], ..settings() }) else {
        panic!("it has no alg");
    };
    shown.push(format!("{err} {err:?}"));
    let shown = shown.concat();
    let body = ISSUER.pair(RS256).private_pem.lines().nth(3).expect("many lines").to_owned();
    for secret in ["a secret of", &secret64()[..16], &STANDARD.encode(short)[..16], &body] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("HS256:base64:***") && shown.contains("token_keys"), "{shown}");
}

fn secret64() -> String {
    STANDARD.encode(SECRET)
}

/// A set with these members.
fn set(members: &[Value]) -> Vec<u8> {
    json!({ "keys": members }).to_string().into_bytes()
}

/// Returns the tokens that accept a set in a file.
fn of_file(members: &[Value]) -> Result<Tokens, JwksError> {
    let folder = Folder::new();
    let path = folder.file("jwks.json", &set(members));
    match load(&Config { token_jwks: vec![JwksSource::File(path.clone())], ..settings() }) {
        Ok(tokens) => Ok(tokens.expect("a set")),
        Err(LoadError::Jwks(what, reason)) => {
            assert_eq!(what, path.display().to_string());
            Err(reason)
        }
        Err(err) => panic!("{err}"),
    }
}

/// Returns the tokens that accept a set read from a URL.
fn of_url(members: &[Value]) -> Result<Tokens, JwksError> {
    let tokens = tokens(&Config { token_jwks: vec![at_url("jwks")], ..settings() });
    tokens.set_jwks(0, &set(members)).map(|_| tokens)
}

/// Returns why the issuer's token is refused.
fn refusal(tokens: &Tokens, algorithm: Algorithm, kid: Option<&str>) -> Option<TokenError> {
    let header = kid.map_or(json!({}), |kid| json!({ "kid": kid }));
    tokens.verify(&ISSUER.token_with(algorithm, &header, &claims()), NOW).err()
}

fn jwk(algorithm: Algorithm, more: &Value) -> Value {
    ISSUER.pair(algorithm).jwk(more)
}

#[test]
fn sets_have_keys_of_every_kind() {
    let named = |algorithm: Algorithm| {
        let name = format!("{algorithm:?}");
        jwk(algorithm, &json!({"kid": name, "alg": name, "use": "sig"}))
    };
    let members: Vec<Value> = ALGORITHMS.into_iter().map(named).collect();
    let (file, url) = (of_file(&members).expect("a set"), of_url(&members).expect("a set"));
    for algorithm in ALGORITHMS {
        let name = format!("{algorithm:?}");
        // Published keys are no secrets.
        let is_secret = matches!(algorithm, HS256 | HS384 | HS512);
        for kid in [Some(name.as_str()), None] {
            assert_eq!(refusal(&file, algorithm, kid), None, "{name}");
            let unknown = if kid.is_some() { TokenError::UnknownKey } else { TokenError::Algorithm };
            assert_eq!(refusal(&url, algorithm, kid), is_secret.then_some(unknown), "{name}");
        }
        assert_eq!(refusal(&file, algorithm, Some("other")), Some(TokenError::UnknownKey));
        // The key of that name is known, but for another algorithm.
        let other = if algorithm == RS256 { "RS384" } else { "RS256" };
        assert_eq!(refusal(&file, algorithm, Some(other)), Some(TokenError::Algorithm));
    }
}

#[test]
fn a_key_without_alg_is_for_the_usual_one() {
    let tokens =
        of_url(&[RS256, ES256, ES384, EdDSA].map(|algorithm| jwk(algorithm, &json!({})))).expect("a set");
    for algorithm in ALGORITHMS {
        let is_usual = [RS256, ES256, ES384, EdDSA].contains(&algorithm);
        let wanted = (!is_usual).then_some(TokenError::Algorithm);
        assert_eq!(refusal(&tokens, algorithm, None), wanted, "{algorithm:?}");
        // Keys without a name match any key name.
        let is_secret = [HS256, HS384, HS512].contains(&algorithm);
        let wanted = if is_secret { Some(TokenError::UnknownKey) } else { wanted };
        assert_eq!(refusal(&tokens, algorithm, Some("any")), wanted, "{algorithm:?}");
    }
    // The error once was "unknown key", although the set has the key by its name.
    let named = of_url(&[jwk(RS256, &json!({"kid": "k"})), jwk(ES256, &json!({"kid": "e"}))]).expect("a set");
    for algorithm in [RS384, RS512, PS256, PS384, PS512] {
        assert_eq!(refusal(&named, algorithm, Some("k")), Some(TokenError::Algorithm), "{algorithm:?}");
        assert_eq!(refusal(&named, algorithm, Some("other")), Some(TokenError::UnknownKey), "{algorithm:?}");
    }
    assert_eq!(refusal(&named, ES256, Some("other")), Some(TokenError::UnknownKey));
    assert_eq!(refusal(&named, RS256, Some("k")), None);
    let alone = of_file(&[jwk(HS256, &json!({}))]);
    assert!(matches!(alone.err(), Some(JwksError::Empty(_))), "for a secret nothing is usual");
}

#[test]
fn members_that_are_no_use_are_left_out() {
    let weak = |n: &[u8]| json!({"kty": "RSA", "alg": "RS256", "n": URL_SAFE_NO_PAD.encode(n), "e": "AQAB"});
    let n = ISSUER.pair(RS256).jwk["n"].clone();
    let x = ISSUER.pair(ES256).jwk["x"].clone();
    let useless = [
        jwk(RS256, &json!({"use": "enc"})),
        jwk(RS256, &json!({"use": "other"})),
        jwk(RS256, &json!({"key_ops": ["encrypt"]})),
        jwk(RS256, &json!({"key_ops": ["sign"]})),
        jwk(RS256, &json!({"key_ops": []})),
        jwk(RS256, &json!({"alg": "RSA-OAEP"})),
        jwk(RS256, &json!({"alg": "none"})),
        jwk(RS256, &json!({"alg": "HS256"})),
        jwk(RS256, &json!({"alg": "ES256"})),
        jwk(ES256, &json!({"alg": "RS256"})),
        jwk(ES256, &json!({"alg": "ES384"})),
        jwk(ES384, &json!({"alg": "ES256"})),
        jwk(EdDSA, &json!({"alg": "ES256"})),
        // The point is right, but the curve is another's. It was once accepted if `alg` was right.
        jwk(ES256, &json!({"alg": "ES256", "crv": "P-384"})),
        jwk(ES256, &json!({"alg": "ES256", "crv": "P-521"})),
        jwk(ES256, &json!({"alg": "ES256", "crv": "Ed25519"})),
        jwk(ES384, &json!({"alg": "ES384", "crv": "P-256"})),
        jwk(EdDSA, &json!({"alg": "EdDSA", "crv": "P-256"})),
        jwk(EdDSA, &json!({"alg": "EdDSA", "crv": "P-384"})),
        jwk(EdDSA, &json!({"alg": "EdDSA", "crv": "X25519"})),
        jwk(ES256, &json!({"crv": "P-384"})),
        jwk(ES384, &json!({"crv": "P-256"})),
        jwk(ES256, &json!({"crv": "secp256k1"})),
        jwk(ES256, &json!({"crv": "P-521"})),
        jwk(ES256, &json!({"y": x})),
        jwk(ES256, &json!({"x": "AAAA"})),
        jwk(ES256, &json!({"x": 7})),
        jwk(EdDSA, &json!({"crv": "Ed448"})),
        jwk(EdDSA, &json!({"x": "AAAA"})),
        jwk(RS256, &json!({"n": "!"})),
        jwk(RS256, &json!({"n": ""})),
        jwk(RS256, &json!({"e": "AQ"})),
        jwk(RS256, &json!({"e": "Ag"})),
        jwk(RS256, &json!({"e": ""})),
        jwk(RS256, &json!({"d": n})),
        jwk(RS256, &json!({"kid": 7})),
        weak(&[0xc1; 128]),
        weak(&[0xc1; 255]),
        weak(&[0xc1; 1025]),
        json!({"kty": "oct", "alg": "HS256", "k": "c2hvcnQ"}),
        json!({"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(&ISSUER.pair(RS256).public)}),
        json!({"kty": "oct", "alg": "RS256", "k": n}),
        json!({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA"}),
        json!({"kty": "none"}),
        json!({}),
        json!(null),
        json!("key"),
        json!([]),
    ];
    for member in useless {
        for read in [of_file, of_url] {
            assert!(
                matches!(read(std::slice::from_ref(&member)).err(), Some(JwksError::Empty(_))),
                "{member}"
            );
            let tokens = read(&[member.clone(), jwk(EdDSA, &json!({"kid": "good"}))]).expect("a set");
            assert_eq!(refusal(&tokens, EdDSA, Some("good")), None, "{member}");
            for algorithm in [RS256, ES256, ES384, HS256] {
                assert_eq!(refusal(&tokens, algorithm, None), Some(TokenError::Algorithm), "{member}");
            }
        }
    }
    // Some issuers write numbers as DER does.
    let n = URL_SAFE_NO_PAD.decode(n.as_str().expect("text")).expect("base64url");
    let padded = jwk(RS256, &json!({"n": URL_SAFE_NO_PAD.encode([&[0], &n[..]].concat()), "e": "AAEAAQ"}));
    assert_eq!(refusal(&of_url(&[padded]).expect("a set"), RS256, None), None);
    let for_both =
        jwk(RS256, &json!({"key_ops": ["verify", "sign"], "use": "sig", "x5c": ["MIIB"], "other": 1}));
    assert_eq!(refusal(&of_url(&[for_both]).expect("a set"), RS256, None), None);
}

#[test]
fn what_is_no_set_is_refused() {
    let tokens = tokens(&Config { token_jwks: vec![at_url("jwks")], ..settings() });
    assert_eq!(tokens.set_jwks(0, &set(&[jwk(RS256, &json!({}))])), Ok(1));
    let good = set(&[jwk(ES256, &json!({}))]);
    let large = [&good[..], &vec![b' '; JWKS_BYTES_MAX + 1 - good.len()]].concat();
    let twice = [&good[..good.len() - 1], b",\"keys\":[]}"].concat();
    let rows: [(&[u8], JwksError); 12] = [
        (b"", JwksError::Form),
        (b"{}", JwksError::Form),
        (b"[]", JwksError::Form),
        (b"[[]]", JwksError::Form),
        (b"null", JwksError::Form),
        (b"<html>", JwksError::Form),
        (b"{\"keys\":{}}", JwksError::Form),
        (b"{\"keys\":null}", JwksError::Form),
        (&good[..good.len() - 1], JwksError::Form),
        (&twice, JwksError::Form),
        (b"{\"keys\":[]}", JwksError::Empty(LeftOut::default())),
        (&large, JwksError::TooLarge),
    ];
    for (bytes, wanted) in rows {
        assert_eq!(
            tokens.set_jwks(0, bytes),
            Err(wanted),
            "{}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
        );
        assert_eq!(refusal(&tokens, RS256, None), None, "those from before stay in force");
    }
    assert_eq!(tokens.set_jwks(0, &large[..JWKS_BYTES_MAX]), Ok(1));
    let deep = format!("{{\"keys\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(tokens.set_jwks(0, deep.as_bytes()), Err(JwksError::Form));
}

#[test]
fn a_set_is_bounded_and_clear() {
    let secret =
        |n: usize| json!({"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(format!("{n:064}"))});
    let many: Vec<Value> = (0..=JWKS_KEYS_MAX).map(secret).collect();
    assert_eq!(of_file(&many).err(), Some(JwksError::TooLarge));
    assert!(of_file(&many[1..]).is_ok());
    let useless = vec![json!({"kty": "AKP"}); 2 * JWKS_KEYS_MAX];
    assert!(of_url(&[useless, vec![jwk(RS256, &json!({}))]].concat()).is_ok(), "those are not kept");

    let (ours, theirs) = (jwk(RS256, &json!({"kid": "k"})), STRANGER.pair(RS256).jwk(&json!({"kid": "k"})));
    assert_eq!(of_url(&[ours.clone(), theirs]).err(), Some(JwksError::Twins));
    // The same key twice, or one for each of two algorithms, is unambiguous.
    for other in
        [ours.clone(), jwk(RS256, &json!({"kid": "k", "alg": "RS512"})), jwk(ES256, &json!({"kid": "k"}))]
    {
        let tokens = of_url(&[ours.clone(), other.clone()]).expect("a set");
        assert_eq!(refusal(&tokens, RS256, Some("k")), None);
        let has_rs512 = other["alg"] == "RS512";
        assert_eq!(refusal(&tokens, RS512, Some("k")).is_none(), has_rs512);
    }
}

#[test]
fn a_key_that_is_withdrawn_takes_its_tokens_along() {
    let (tokens, stats) = tokens_counting(&Config { token_jwks: vec![at_url("jwks")], ..settings() });
    let old = ISSUER.token_with(RS256, &json!({"kid": "old"}), &claims());
    let new = STRANGER.token_with(RS256, &json!({"kid": "new"}), &claims());
    let old_key = jwk(RS256, &json!({"kid": "old"}));
    let new_key = STRANGER.pair(RS256).jwk(&json!({"kid": "new"}));
    let why = |token: &str| tokens.verify(token, NOW).err();

    assert_eq!((why(&old), why(&new)), (Some(TokenError::NoKeys), Some(TokenError::NoKeys)));
    assert_eq!(tokens.set_jwks(0, &set(std::slice::from_ref(&old_key))), Ok(1));
    assert_eq!((why(&old), why(&old), why(&new)), (None, None, Some(TokenError::UnknownKey)));
    let key = tokens.verify(&old, NOW).expect("it is good").key;
    assert_eq!(tokens.set_jwks(0, &set(&[old_key.clone(), new_key.clone()])), Ok(2));
    let verified = stats.verified();
    assert_eq!((why(&old), why(&new)), (None, None));
    assert_eq!(stats.verified(), verified + 1, "the old one is remembered as long as its key is there");
    assert_eq!(tokens.set_jwks(0, &set(std::slice::from_ref(&new_key))), Ok(1));
    assert_eq!((why(&old), why(&new)), (Some(TokenError::UnknownKey), None));
    assert!(!tokens.has_key(key));
    // The key is not accepted under another name, or once another key has its name.
    assert_eq!(tokens.set_jwks(0, &set(&[STRANGER.pair(RS256).jwk(&json!({"kid": "old"}))])), Ok(1));
    assert_eq!(why(&old), Some(TokenError::Signature));
    // The other token stays in the cache: its key is still there, under another name.
    assert_eq!(why(&new), None);
    // A set that cannot be read changes nothing.
    assert!(tokens.set_jwks(0, b"<html>").is_err());
    assert_eq!(why(&old), Some(TokenError::Signature));
}

#[test]
fn two_sets_vouch_for_themselves_alone() {
    let config = Config { token_jwks: vec![at_url("a"), at_url("b")], ..settings() };
    let tokens = tokens(&config);
    let token = ISSUER.token_with(ES256, &json!({"kid": "a1"}), &claims());
    let key = set(&[jwk(ES256, &json!({"kid": "a1"}))]);
    tokens.set_jwks(0, &key).expect("a set");
    assert!(tokens.verify(&token, NOW).is_ok(), "the other set is not needed");
    tokens.set_jwks(1, &key).expect("a set");
    let other = set(&[STRANGER.pair(ES256).jwk(&json!({"kid": "b1"}))]);
    tokens.set_jwks(0, &other).expect("a set");
    assert!(tokens.verify(&token, NOW).is_ok(), "one of them still has its key");
    tokens.set_jwks(1, &other).expect("a set");
    assert_eq!(tokens.verify(&token, NOW).err(), Some(TokenError::UnknownKey));
}

/// A client without a key learns nothing about the time before the first read, and clients with good tokens are asked
/// to come back.
#[test]
fn before_the_first_read_nobody_is_believed_and_only_those_it_could_help_are_asked_back() {
    let config = Config { token_jwks: vec![at_url("a"), at_url("b")], ..settings_hs256() };
    let tokens = tokens(&config);
    let token = ISSUER.token(ES256, &claims());
    assert_eq!(tokens.verify(&token, NOW).err(), Some(TokenError::NoKeys));
    assert!(ISSUER.token(HS256, &claims()).len() < 8192 && refusal(&tokens, HS256, None).is_none());
    // A set never has a secret or an unknown algorithm, and no set makes a non-token valid.
    let forged = STRANGER.token(HS256, &claims());
    assert_eq!(tokens.verify(&forged, NOW).err(), Some(TokenError::Signature));
    assert_eq!(refusal(&tokens, HS512, None), Some(TokenError::Algorithm));
    assert_eq!(
        tokens.verify(&ISSUER.raw(ES256, r#"{"alg":"none"}"#, "{}"), NOW).err(),
        Some(TokenError::Algorithm)
    );
    assert_eq!(tokens.verify("a.b.c", NOW).err(), Some(TokenError::Form));
    // The set that was not read yet may be the one the token needs.
    tokens.set_jwks(0, &set(&[STRANGER.pair(ES256).jwk(&json!({"kid": "s"}))])).expect("a set");
    assert_eq!(tokens.verify(&token, NOW).err(), Some(TokenError::NoKeys));
    tokens.set_jwks(1, &set(&[jwk(ES256, &json!({}))])).expect("a set");
    assert!(tokens.verify(&token, NOW).is_ok());
}

#[test]
fn a_name_that_no_set_has_asks_for_a_look() {
    let folder = Folder::new();
    let public = folder.file("key.pem", &STRANGER.pair(RS256).public);
    let config = Config {
        token_keys: vec![from_file(RS256, public), inline(HS256, SECRET)],
        token_jwks: vec![at_url("a")],
        ..settings()
    };
    let tokens = tokens(&config);
    tokens.set_jwks(0, &set(&[jwk(ES256, &json!({"kid": "known"}))])).expect("a set");
    let asks = |token: String| {
        let _ = tokens.verify(&token, NOW);
        tokens.take_wants_keys()
    };
    let named = |algorithm, kid: &str| ISSUER.token_with(algorithm, &json!({ "kid": kid }), &claims());
    assert!(!tokens.take_wants_keys());
    assert!(asks(named(ES256, "unknown")));
    assert!(!tokens.take_wants_keys(), "once");
    assert!(asks(named(RS256, "unknown")), "even where a key without a name was tried");
    assert!(asks(ISSUER.token(PS256, &claims())), "and where the token names none");
    assert!(!asks(named(ES256, "known")));
    let forged = STRANGER.token_with(ES256, &json!({"kid": "known"}), &claims());
    assert!(!asks(forged), "the set was read and has that key");
    assert!(!asks(named(HS256, "unknown")) && !asks(STRANGER.token(HS256, &claims())), "no set has secrets");
    assert!(!asks("a.b.c".to_owned()) && !asks(String::new()));

    let without_sets = tokens_counting(&settings_hs256()).0;
    let _ = without_sets.verify(&named(ES256, "unknown"), NOW);
    assert!(!without_sets.take_wants_keys(), "there is nothing to look at");
}

/// A stranger's token costs no more than a bounded number of good ones.
#[test]
fn a_token_is_held_against_few_keys() {
    let named = |n: usize| STRANGER.pair(ES256).jwk(&json!({ "kid": format!("k{n}") }));
    let mut members: Vec<Value> = (0..JWKS_KEYS_MAX - 1).map(named).collect();
    members.push(jwk(ES256, &json!({"kid": "last"})));
    let tokens = of_url(&members).expect("a set");
    assert_eq!(refusal(&tokens, ES256, Some("last")), None, "the one that is named is found");
    assert_eq!(refusal(&tokens, ES256, None), Some(TokenError::Signature), "there are too many to try");
    members.rotate_right(1);
    let tokens = of_url(&members).expect("a set");
    assert_eq!(refusal(&tokens, ES256, None), None);
}

#[test]
fn a_reload_keeps_what_was_read() {
    let running = tokens(&Config { token_jwks: vec![at_url("a"), at_url("b")], ..settings() });
    running.set_jwks(0, &set(&[jwk(ES256, &json!({"kid": "a"}))])).expect("a set");
    running.set_jwks(1, &set(&[jwk(RS256, &json!({"kid": "b"}))])).expect("a set");
    // In another order, with a new URL, without the other.
    let next = tokens(&Config { token_jwks: vec![at_url("c"), at_url("a")], ..settings() });
    assert_eq!(refusal(&next, ES256, Some("a")), Some(TokenError::NoKeys));
    next.adopt(&running);
    assert_eq!(refusal(&next, ES256, Some("a")), None);
    assert_eq!(refusal(&next, RS256, Some("b")), Some(TokenError::NoKeys), "it may be in the new one");
    next.set_jwks(0, &set(&[jwk(EdDSA, &json!({}))])).expect("a set");
    assert_eq!(
        refusal(&next, RS256, Some("b")),
        Some(TokenError::UnknownKey),
        "what was left out is not believed"
    );
    assert_eq!(
        next.urls().map(ToString::to_string).collect::<Vec<_>>(),
        ["https://issuer.example/c", "https://issuer.example/a"]
    );
}
