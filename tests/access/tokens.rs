//! Promise: a token is accepted only if its issuer made it, for this server and for the present time; a token that
//! anyone else changes or writes is refused. Every row of these tables gives the exact reason.

use crate::common;

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::signer::{
    ALGORITHMS, Folder, ISSUER, NOW, SECRET, STRANGER, believer, claims, claims_with, settings_for,
    settings_hs256, tokens, tokens_counting,
};
use jsonwebtoken::Algorithm::{ES256, ES384, EdDSA, HS256, HS512, PS256, RS256};
use jsonwebtoken::{EncodingKey, crypto};
use serde_json::{Value, json};
use tidegate::auth::claims::TOKEN_BYTES_MAX;
use tidegate::auth::token_error::TokenError;
use tidegate::auth::tokens::Tokens;
use tidegate::config::Config;
use tidegate::rights::grant::Action;

/// Returns why `token` is refused; `None` if it is accepted.
fn refusal(tokens: &Tokens, token: &str) -> Option<TokenError> {
    tokens.verify(token, NOW).err()
}

#[test]
fn tokens_of_every_algorithm_are_believed() {
    let folder = Folder::new();
    let all = tokens(&settings_for(&folder, &ALGORITHMS));
    let mut keys = HashSet::new();
    for algorithm in ALGORITHMS {
        let claims = claims_with(&json!({"jti": "t-1", "iat": NOW - 1, "permissions": ["sse:read:a"]}));
        let token = ISSUER.token(algorithm, &claims);
        let alone = believer(algorithm).verify(&token, NOW).expect("it is good");
        assert_eq!((alone.user(), alone.token.as_deref()), (Some("ann"), Some("t-1")));
        assert_eq!((alone.issued, alone.expires), (Some(NOW - 1), Some(NOW + 605)));
        assert!(alone.allows(Action::Read("a")) && !alone.allows(Action::Read("b")));
        let among_all = all.verify(&token, NOW).expect("it is good");
        assert_eq!(among_all, alone);
        assert!(all.has_key(alone.key) && keys.insert(alone.key), "{algorithm:?}");
    }
}

/// Six algorithms share an RSA key and three a secret; still, each key counts for its own algorithm only.
#[test]
fn a_key_is_for_one_algorithm_only() {
    for ours in ALGORITHMS {
        let tokens = believer(ours);
        for theirs in ALGORITHMS.into_iter().filter(|theirs| *theirs != ours) {
            let honest = ISSUER.token(theirs, &claims());
            assert_eq!(refusal(&tokens, &honest), Some(TokenError::Algorithm), "{ours:?} {theirs:?}");
            let header = format!("{{\"alg\":\"{ours:?}\"}}");
            let lying = ISSUER.raw(theirs, header, claims().to_string());
            assert_eq!(refusal(&tokens, &lying), Some(TokenError::Signature), "{ours:?} {theirs:?}");
        }
    }
}

/// CVE-2015-9235 and similar ones.
#[test]
fn a_public_key_is_no_secret() {
    for ours in ALGORITHMS.into_iter().skip(3) {
        let pair = ISSUER.pair(ours);
        let body = pair.public_body();
        let secrets = [&pair.public[..], pair.public.trim_ascii(), &pair.public_der, body.as_bytes()];
        let folder = Folder::new();
        let beside_a_secret = tokens(&settings_for(&folder, &[ours, HS256]));
        for secret in secrets {
            for (algorithm, name) in [(HS256, "HS256"), (HS512, "HS512")] {
                let header = json!({"alg": name, "typ": "JWT"}).to_string();
                let message = format!(
                    "{}.{}",
                    URL_SAFE_NO_PAD.encode(header),
                    URL_SAFE_NO_PAD.encode(claims().to_string())
                );
                let key = EncodingKey::from_secret(secret);
                let signature = crypto::sign(message.as_bytes(), &key, algorithm).expect("a signature");
                let token = format!("{message}.{signature}");
                assert_eq!(refusal(&believer(ours), &token), Some(TokenError::Algorithm));
                let why = if algorithm == HS256 { TokenError::Signature } else { TokenError::Algorithm };
                assert_eq!(refusal(&beside_a_secret, &token), Some(why));
            }
        }
    }
}

#[test]
fn no_algorithm_is_none() {
    let tokens = believer(HS256);
    let claims = URL_SAFE_NO_PAD.encode(claims().to_string());
    for name in
        ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", " HS256", "HS257", "ES512", "ES256K", "dir"]
    {
        let header = json!({"alg": name, "typ": "JWT"}).to_string();
        let message = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(&header));
        let signed = ISSUER.signed(HS256, &message);
        assert_eq!(refusal(&tokens, &signed), Some(TokenError::Algorithm), "{name:?}");
        for unsigned in [message.clone(), format!("{message}."), format!("{message}..")] {
            assert_eq!(refusal(&tokens, &unsigned), Some(TokenError::Form), "{name:?}");
        }
    }
    for header in ["{}", "{\"alg\":null}", "{\"alg\":[\"HS256\"]}", "{\"alg\":1}", "{\"ALG\":\"HS256\"}"] {
        let token = ISSUER.raw(HS256, header, common::signer::claims().to_string());
        assert_eq!(refusal(&tokens, &token), Some(TokenError::Form), "{header}");
    }
}

#[test]
fn a_signature_is_the_keys_own_and_whole() {
    for algorithm in ALGORITHMS {
        let tokens = believer(algorithm);
        let good = ISSUER.token(algorithm, &claims());
        let (message, signature) = good.rsplit_once('.').expect("a token");
        let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let with = |bytes: &[u8]| format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(refusal(&tokens, &with(&bytes)), None);
        let mut bad = vec![
            STRANGER.token(algorithm, &claims()),
            with(&bytes[1..]),
            with(&bytes[..bytes.len() - 1]),
            with(&bytes[..1]),
            with(&[&bytes[..], &[0]].concat()),
            with(&[&[0], &bytes[..]].concat()),
            // Some libraries took zeros for a valid signature of any text (CVE-2022-21449).
            with(&vec![0; bytes.len()]),
            with(&vec![0xff; bytes.len()]),
        ];
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            bad.push(with(&flipped));
        }
        for token in bad {
            assert_eq!(refusal(&tokens, &token), Some(TokenError::Signature), "{algorithm:?} {token}");
        }
        // The signature covers the text, so it is valid with no other text.
        for other in [claims_with(&json!({"sub": "bob"})), claims_with(&json!({"exp": NOW + 601}))] {
            let other = ISSUER.token(algorithm, &other);
            let (other, _) = other.rsplit_once('.').expect("a token");
            assert_eq!(refusal(&tokens, &format!("{other}.{signature}")), Some(TokenError::Signature));
        }
    }
}

#[test]
fn a_token_is_three_parts_of_base64url_and_nothing_more() {
    let tokens = believer(HS256);
    // Its header ends in a character with four unused bits, as the signature does with two.
    let header = r#"{"alg":"HS256" }"#;
    let good = ISSUER.raw(HS256, header, claims().to_string());
    assert_eq!(refusal(&tokens, &good), None);
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    let last_changed = |part: &str| {
        let (rest, last) = part.split_at(part.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = alphabet.find(last).expect("base64url");
        format!("{rest}{}", &alphabet[at + 1..at + 2])
    };
    let standard = format!("{}.{payload}.{signature}", STANDARD.encode(r#"{"alg":"HS256","a":"?>?>?>"}"#));
    let rows = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        header.into(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!(".{payload}.{signature}"),
        ISSUER.signed(HS256, &format!("{header}.")),
        format!("{good}.{signature}"),
        format!("{header}.{good}"),
        format!("{good}."),
        format!(".{good}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        ISSUER.signed(HS256, &format!("{header}. {payload}")),
        ISSUER.signed(HS256, &format!("{header}.{payload}\t")),
        ISSUER.signed(HS256, &format!("{header}.{payload}=")),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}==.{payload}.{signature}"),
        format!("{good}="),
        format!("{header}.{payload}.{}", last_changed(signature)),
        ISSUER.signed(HS256, &format!("{}.{payload}", last_changed(header))),
        ISSUER.signed(HS256, &format!("{header}==.{payload}")),
        format!("{good}\0"),
        format!("{good}é"),
        standard,
        good.replace('.', "%2E"),
        format!("Bearer {good}"),
    ];
    for token in rows {
        assert_eq!(refusal(&tokens, &token), Some(TokenError::Form), "{token:?}");
    }
}

#[test]
fn a_token_is_bounded() {
    let tokens = believer(HS256);
    let of_length = |length: usize| {
        let sizes = (0..3).flat_map(|header| (length / 2..length).map(move |claims| (header, claims)));
        let mut sizes = sizes.filter(|(header, claims)| {
            let coded = |bytes: usize| (bytes * 4).div_ceil(3);
            coded(r#"{"alg":"HS256"}"#.len() + header) + coded(*claims) + coded(32) + 2 == length
        });
        let (header, claims_bytes) = sizes.next().expect("one of them fits");
        let empty = claims_with(&json!({"pad": ""})).to_string();
        let claims = claims_with(&json!({"pad": "x".repeat(claims_bytes - empty.len())}));
        ISSUER.raw(HS256, format!("{{{}\"alg\":\"HS256\"}}", " ".repeat(header)), claims.to_string())
    };
    let longest = of_length(TOKEN_BYTES_MAX);
    assert_eq!((longest.len(), refusal(&tokens, &longest)), (TOKEN_BYTES_MAX, None));
    let longer = of_length(TOKEN_BYTES_MAX + 1);
    assert_eq!((longer.len(), refusal(&tokens, &longer)), (TOKEN_BYTES_MAX + 1, Some(TokenError::Form)));
}

/// The issuer signed each token correctly: only the header is wrong.
#[test]
fn a_header_sets_no_terms() {
    let tokens = believer(RS256);
    let cases: [(Value, Option<TokenError>); 35] = [
        (json!({}), None),
        (json!({"typ": "jwt"}), None),
        (json!({"typ": "at+jwt"}), None),
        (json!({"typ": "application/at+JWT"}), None),
        (json!({"cty": "text/plain", "x5t": "abc", "b64": true, "unknown": {"a": [1]}}), None),
        (json!({"kid": "any"}), None),
        (json!({"kid": "../../dev/null"}), None),
        (json!({"kid": "' or 1=1"}), None),
        (json!({"typ": "JOSE"}), Some(TokenError::Header)),
        (json!({"typ": "JOSE+JSON"}), Some(TokenError::Header)),
        (json!({"typ": "dpop+jwt"}), Some(TokenError::Header)),
        (json!({"typ": "logout+jwt"}), Some(TokenError::Header)),
        (json!({"typ": "secevent+jwt"}), Some(TokenError::Header)),
        (json!({"typ": "application/dpop+jwt"}), Some(TokenError::Header)),
        (json!({"typ": ""}), Some(TokenError::Header)),
        (json!({"typ": "JWT "}), Some(TokenError::Header)),
        (json!({"typ": null}), Some(TokenError::Form)),
        (json!({"typ": ["JWT"]}), Some(TokenError::Form)),
        (json!({"kid": 1}), Some(TokenError::Form)),
        (json!({"kid": null}), Some(TokenError::Form)),
        (json!({"crit": ["exp"]}), Some(TokenError::Header)),
        (json!({"crit": ["b64"], "b64": false}), Some(TokenError::Header)),
        (json!({"crit": ["b64"], "b64": true}), Some(TokenError::Header)),
        (json!({"crit": []}), Some(TokenError::Header)),
        (json!({"crit": null}), Some(TokenError::Header)),
        (json!({"crit": "exp"}), Some(TokenError::Header)),
        (json!({"enc": "A256GCM"}), Some(TokenError::Header)),
        (json!({"zip": "DEF"}), Some(TokenError::Header)),
        (json!({"jku": "https://evil.example/jwks"}), Some(TokenError::Header)),
        (json!({"x5u": "https://evil.example/cert"}), Some(TokenError::Header)),
        (json!({"x5c": ["MIIB"]}), Some(TokenError::Header)),
        (json!({"x5c": []}), Some(TokenError::Header)),
        (json!({"jwk": {}}), Some(TokenError::Header)),
        (json!({"jwk": null}), Some(TokenError::Header)),
        (json!({"jku": ""}), Some(TokenError::Header)),
    ];
    for (header, wanted) in cases {
        let token = ISSUER.token_with(RS256, &header, &claims());
        assert_eq!(refusal(&tokens, &token), wanted, "{header}");
    }
    for header in [
        r#"{"alg":"RS256","alg":"RS256"}"#,
        r#"{"alg":"none","alg":"RS256"}"#,
        r#"{"alg":"RS256","\u0061lg":"RS256"}"#,
        r#"{"alg":"RS256","kid":"a","kid":"b"}"#,
        r#"{"alg":"RS256","other":1,"other":1}"#,
        r#"["RS256",null,null]"#,
        r#""RS256""#,
        "",
        "{",
        r#"{"alg":"RS256"}{}"#,
        r#"{"alg":"RS256",}"#,
        "{'alg':'RS256'}",
        "\u{feff}{\"alg\":\"RS256\"}",
    ] {
        let token = ISSUER.raw(RS256, header, claims().to_string());
        assert_eq!(refusal(&tokens, &token), Some(TokenError::Form), "{header}");
    }
    let token = ISSUER.raw(RS256, b"{\"alg\":\"RS256\",\"a\":\"\xff\"}", claims().to_string());
    assert_eq!(refusal(&tokens, &token), Some(TokenError::Form));
}

/// CVE-2018-0114: a stranger's token that contains the stranger's key, and is valid by it.
#[test]
fn a_token_brings_no_key_along() {
    for algorithm in [RS256, PS256, ES256, ES384, EdDSA, HS256] {
        let tokens = believer(algorithm);
        let theirs = STRANGER.pair(algorithm).jwk(&json!({"kid": "k"}));
        let chain = STANDARD.encode(&STRANGER.pair(algorithm).public_der);
        for header in [json!({"jwk": theirs, "kid": "k"}), json!({"x5c": [chain]})] {
            let token = STRANGER.token_with(algorithm, &header, &claims());
            assert_eq!(refusal(&tokens, &token), Some(TokenError::Header), "{header}");
        }
        let unsaid = STRANGER.token_with(algorithm, &json!({"JWK": theirs}), &claims());
        assert_eq!(refusal(&tokens, &unsaid), Some(TokenError::Signature));
    }
}

/// A leeway of 5 s, the default.
#[test]
fn a_token_has_its_time() {
    let tokens = believer(HS256);
    let cases: [(Value, Option<TokenError>); 38] = [
        (json!({"exp": null}), Some(TokenError::Claims)),
        (json!({"exp": NOW}), None),
        (json!({"exp": NOW - 4}), None),
        (json!({"exp": NOW - 5}), Some(TokenError::Expired)),
        (json!({"exp": NOW - 600}), Some(TokenError::Expired)),
        (json!({"exp": 0}), Some(TokenError::Expired)),
        (json!({"exp": -0.0}), Some(TokenError::Expired)),
        (json!({"exp": 1.5}), Some(TokenError::Expired)),
        (json!({"exp": -1}), Some(TokenError::Claims)),
        (json!({"exp": -0.5}), Some(TokenError::Claims)),
        (json!({"exp": 1_800_000_600.75}), None),
        (json!({"exp": 1_799_999_995.75}), Some(TokenError::Expired)),
        (json!({"exp": 253_402_300_800_u64}), None),
        (json!({"exp": 253_402_300_801_u64}), Some(TokenError::Claims)),
        (json!({"exp": u64::MAX}), Some(TokenError::Claims)),
        (json!({"exp": i64::MIN}), Some(TokenError::Claims)),
        (json!({"exp": 1e300}), Some(TokenError::Claims)),
        (json!({"exp": (NOW + 600).to_string()}), Some(TokenError::Claims)),
        (json!({"exp": "2099-01-01T00:00:00Z"}), Some(TokenError::Claims)),
        (json!({"exp": true}), Some(TokenError::Claims)),
        (json!({"exp": [NOW + 600]}), Some(TokenError::Claims)),
        (json!({"exp": {"$date": NOW + 600}}), Some(TokenError::Claims)),
        (json!({"exp": "NaN"}), Some(TokenError::Claims)),
        (json!({"nbf": NOW}), None),
        (json!({"nbf": NOW + 5}), None),
        (json!({"nbf": NOW + 6}), Some(TokenError::NotYet)),
        (json!({"nbf": 1_800_000_005.9}), None),
        (json!({"nbf": "0"}), Some(TokenError::Claims)),
        (json!({"nbf": -1}), Some(TokenError::Claims)),
        (json!({"nbf": 1e300}), Some(TokenError::Claims)),
        (json!({"iat": NOW - 100_000_000}), None),
        (json!({"iat": NOW + 5}), None),
        (json!({"iat": NOW + 6}), Some(TokenError::NotYet)),
        (json!({"iat": NOW * 1000}), Some(TokenError::Claims)),
        (json!({"iat": "now"}), Some(TokenError::Claims)),
        (json!({"iat": 0}), None),
        (json!({"iat": NOW + 6, "exp": NOW - 600}), Some(TokenError::NotYet)),
        (json!({"iat": NOW, "nbf": NOW + 6}), Some(TokenError::NotYet)),
    ];
    for (more, wanted) in cases {
        let token = ISSUER.token(HS256, &claims_with(&more));
        assert_eq!(refusal(&tokens, &token), wanted, "{more}");
    }
    // JSON has no such numbers, and null is none.
    for exp in ["NaN", "Infinity", "1e999", "0x7fffffff", "01", "+1", "1."] {
        let token = ISSUER.raw(HS256, r#"{"alg":"HS256"}"#, format!(r#"{{"exp":{exp}}}"#));
        assert_eq!(refusal(&tokens, &token), Some(TokenError::Form), "{exp}");
    }
    let token = ISSUER.raw(HS256, r#"{"alg":"HS256"}"#, r#"{"exp":null}"#);
    assert_eq!(refusal(&tokens, &token), Some(TokenError::Claims));
}

#[test]
fn leeway_is_as_it_was_set() {
    for leeway in [0, 60] {
        let config = Config { token_leeway: std::time::Duration::from_secs(leeway), ..settings_hs256() };
        let tokens = tokens(&config);
        let refusal = |claim: &str, time: u64| {
            refusal(&tokens, &ISSUER.token(HS256, &claims_with(&json!({ claim: time }))))
        };
        assert_eq!(refusal("exp", NOW - leeway), Some(TokenError::Expired));
        assert_eq!(refusal("exp", NOW - leeway + 1), None);
        for claim in ["nbf", "iat"] {
            assert_eq!(refusal(claim, NOW + leeway), None);
            assert_eq!(refusal(claim, NOW + leeway + 1), Some(TokenError::NotYet));
        }
        let token = ISSUER.token(HS256, &claims());
        let found = tokens.verify(&token, NOW).expect("it is good");
        assert_eq!(found.expires, Some(NOW + 600 + leeway));
        // Far in the future nothing wraps around.
        assert_eq!(tokens.verify(&token, u64::MAX).err(), Some(TokenError::Expired));
    }
}

#[test]
fn a_token_is_by_whom_and_for_whom_it_has_to_be() {
    let issuer = || Some("https://issuer.example".to_owned());
    let audience = || vec!["tidegate".to_owned(), "push".to_owned()];
    let open = tokens(&settings_hs256());
    let by = tokens(&Config { token_issuer: issuer(), ..settings_hs256() });
    let for_us = tokens(&Config { token_audience: audience(), ..settings_hs256() });
    let (iss, aud) = (Some(TokenError::Issuer), Some(TokenError::Audience));
    let odd = Some(TokenError::Claims);
    // By a server that requires neither issuer nor audience, an issuer, an audience.
    let cases: [(Value, [Option<TokenError>; 3]); 18] = [
        (json!({}), [None, iss, aud]),
        (json!({"iss": "https://issuer.example"}), [None, None, aud]),
        (json!({"iss": "https://issuer.example/"}), [None, iss, aud]),
        (json!({"iss": "https://ISSUER.example"}), [None, iss, aud]),
        (json!({"iss": "https://issuer.example.evil.example"}), [None, iss, aud]),
        (json!({"iss": ""}), [None, iss, aud]),
        (json!({"iss": ["https://issuer.example"]}), [odd, odd, odd]),
        (json!({"iss": 1}), [odd, odd, odd]),
        (json!({"aud": "push"}), [aud, iss, None]),
        (json!({"aud": "Push"}), [aud, iss, aud]),
        (json!({"aud": "tidegate push"}), [aud, iss, aud]),
        (json!({"aud": ["other", "tidegate"]}), [aud, iss, None]),
        (json!({"aud": ["other"]}), [aud, iss, aud]),
        (json!({"aud": []}), [aud, iss, aud]),
        (json!({"aud": ["push", 1]}), [odd, iss, odd]),
        (json!({"aud": 1}), [odd, iss, odd]),
        (json!({"aud": {"push": true}}), [odd, iss, odd]),
        (json!({"iss": "https://issuer.example", "aud": "push"}), [aud, aud, None]),
    ];
    for (more, wanted) in cases {
        let token = ISSUER.token(HS256, &claims_with(&more));
        assert_eq!([&open, &by, &for_us].map(|tokens| refusal(tokens, &token)), wanted, "{more}");
    }
    let both = tokens(&Config { token_issuer: issuer(), token_audience: audience(), ..settings_hs256() });
    let token = ISSUER.token(HS256, &claims_with(&json!({"iss": issuer(), "aud": ["push", "x"]})));
    assert_eq!(refusal(&both, &token), None);
}

#[test]
fn a_user_is_a_name() {
    let tokens = believer(HS256);
    let odd = Some(TokenError::Claims);
    let cases = [
        (json!({"sub": null}), None),
        (json!({"sub": "a"}), None),
        (json!({"sub": "*"}), None),
        (json!({"sub": "{user}"}), None),
        (json!({"sub": "é".repeat(64)}), None),
        (json!({"sub": ""}), odd),
        (json!({"sub": "é".repeat(65)}), odd),
        (json!({"sub": "a".repeat(129)}), odd),
        (json!({"sub": "a\nb"}), odd),
        (json!({"sub": "a\0"}), odd),
        (json!({"sub": "\u{7f}"}), odd),
        (json!({"sub": "\u{85}"}), odd),
        (json!({"sub": 7}), odd),
        (json!({"sub": ["ann"]}), odd),
        (json!({"sub": true}), odd),
        (json!({"jti": "j".repeat(256)}), None),
        (json!({"jti": "j".repeat(257)}), odd),
        (json!({"jti": 7}), odd),
    ];
    for (more, wanted) in cases {
        let token = ISSUER.token(HS256, &claims_with(&more));
        assert_eq!(refusal(&tokens, &token), wanted, "{more}");
        if wanted.is_none() {
            let found = tokens.verify(&token, NOW).expect("it is good");
            let sub = more.get("sub").map_or(Some("ann"), Value::as_str);
            assert_eq!((found.user(), found.token.as_deref()), (sub, more["jti"].as_str()));
        }
    }
    let null = ISSUER.raw(HS256, r#"{"alg":"HS256"}"#, format!(r#"{{"sub":null,"exp":{}}}"#, NOW + 1));
    assert_eq!(refusal(&tokens, &null), odd, "nobody is no user's name");
}

#[test]
fn permissions_are_a_list_or_words() {
    let scope = Config { token_permissions_claim: "scope".into(), ..settings_hs256() };
    let url = Config { token_permissions_claim: "https://app.example/push".into(), ..settings_hs256() };
    let (usual, scope, url) = (tokens(&settings_hs256()), tokens(&scope), tokens(&url));
    let may = |tokens: &Tokens, more: &Value| {
        let found = tokens.verify(&ISSUER.token(HS256, &claims_with(more)), NOW)?;
        Ok((found.allows(Action::Read("a")), found.allows(Action::Publish("a"))))
    };
    let cases = [
        (json!({}), Ok((false, false))),
        (json!({"permissions": []}), Ok((false, false))),
        (json!({"permissions": ""}), Ok((false, false))),
        (json!({"permissions": ["sse:read:a"]}), Ok((true, false))),
        (json!({"permissions": "sse:read:a"}), Ok((true, false))),
        (json!({"permissions": "  sse:publish  sse:read:* "}), Ok((true, true))),
        // In a list each member is one permission: a space is no separator, and no permission contains one.
        (json!({"permissions": ["sse:read:a sse:publish"]}), Ok((false, false))),
        (json!({"permissions": "sse:read:a,sse:publish"}), Ok((false, false))),
        (json!({"permissions": "sse:read:a\tsse:publish"}), Ok((false, false))),
        (json!({"permissions": ["sse:reed", "sse:read:a*b", "", "sse:publish:a"]}), Ok((false, true))),
        (
            json!({"Permissions": ["sse:read"], "permission": ["sse:read"], "scope": "sse:read"}),
            Ok((false, false)),
        ),
        (json!({"permissions": 7}), Err(TokenError::Claims)),
        (json!({"permissions": {"sse:read": true}}), Err(TokenError::Claims)),
        (json!({"permissions": ["sse:read", 7]}), Err(TokenError::Claims)),
        (json!({"permissions": ["sse:read", ["sse:publish"]]}), Err(TokenError::Claims)),
        (json!({"permissions": true}), Err(TokenError::Claims)),
    ];
    for (more, wanted) in cases {
        assert_eq!(may(&usual, &more), wanted, "{more}");
    }
    assert_eq!(
        may(&scope, &json!({"scope": "openid sse:read", "permissions": ["sse:publish"]})),
        Ok((true, false))
    );
    assert_eq!(may(&url, &json!({"https://app.example/push": ["sse:publish"]})), Ok((false, true)));
}

#[test]
fn claims_are_one_object_without_repeated_names() {
    let tokens = believer(HS256);
    let exp = NOW + 600;
    let nested = |depth: usize| format!(r#"{{"exp":{exp},"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let cases: [(Vec<u8>, Option<TokenError>); 18] = [
        (nested(100).into(), None),
        (nested(4_000 / 2).into(), Some(TokenError::Form)),
        (format!(r#" {{"exp":{exp}}} "#).into(), None),
        (format!(r#"{{"exp":{exp},"exp":{exp}}}"#).into(), Some(TokenError::Form)),
        (format!(r#"{{"exp":1,"\u0065xp":{exp}}}"#).into(), Some(TokenError::Form)),
        (format!(r#"{{"sub":"ann","exp":{exp},"sub":"bob"}}"#).into(), Some(TokenError::Form)),
        (format!(r#"{{"exp":{exp},"x":1,"x":2}}"#).into(), Some(TokenError::Form)),
        (format!(r#"[{{"exp":{exp}}}]"#).into(), Some(TokenError::Form)),
        (format!(r#"{{"exp":{exp}}}{{}}"#).into(), Some(TokenError::Form)),
        (format!(r#"{{"exp":{exp},}}"#).into(), Some(TokenError::Form)),
        (format!(r#"{{"exp":{exp}"#).into(), Some(TokenError::Form)),
        (format!("\u{feff}{{\"exp\":{exp}}}").into(), Some(TokenError::Form)),
        (b"\"text\"".into(), Some(TokenError::Form)),
        (b"null".into(), Some(TokenError::Form)),
        (b"7".into(), Some(TokenError::Form)),
        (b"not json".into(), Some(TokenError::Form)),
        ([format!(r#"{{"exp":{exp},"sub":""#).as_bytes(), b"a\xff\"}"].concat(), Some(TokenError::Form)),
        (format!(r#"{{"exp":{exp},"sub":"\ud800"}}"#).into(), Some(TokenError::Form)),
    ];
    for (payload, wanted) in cases {
        let token = ISSUER.raw(HS256, r#"{"alg":"HS256"}"#, &payload);
        assert_eq!(refusal(&tokens, &token), wanted, "{}", String::from_utf8_lossy(&payload));
    }
    // A token whose claims are another token is malformed.
    let inner = ISSUER.token(HS256, &claims());
    assert_eq!(
        refusal(&tokens, &ISSUER.raw(HS256, r#"{"alg":"HS256","cty":"JWT"}"#, inner)),
        Some(TokenError::Form)
    );
}

/// Of a token without a valid signature, only what is needed to find the key is read.
#[test]
fn the_signature_comes_before_the_claims() {
    for claims in ["", "{", "null", r#"{"exp":1}"#, r#"{"exp":"x"}"#, r#"{"a":1,"a":1}"#] {
        let token = STRANGER.raw(HS256, r#"{"alg":"HS256"}"#, claims);
        assert_eq!(refusal(&believer(HS256), &token), Some(TokenError::Signature), "{claims}");
    }
}

#[test]
fn what_a_token_says_is_not_repeated() {
    let tokens = believer(HS256);
    let claims = claims_with(&json!({"jti": "canary-jti", "permissions": ["canary:a*b"]}));
    let token = ISSUER.token(HS256, &claims);
    let verdict = tokens.look_at(&token, NOW).expect("it is signed");
    let (message, signature) = token.rsplit_once('.').expect("a token");
    let shown = format!("{verdict:?}");
    for secret in [message, signature, std::str::from_utf8(SECRET).expect("text")] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(verdict.misunderstood.len(), 1);
}

#[test]
fn refusals_are_counted_by_reason() {
    let (tokens, stats) = tokens_counting(&settings_hs256());
    let names: HashSet<&str> = TokenError::ALL.iter().map(|error| error.as_str()).collect();
    assert_eq!(names.len(), TokenError::ALL.len());
    let expired = ISSUER.token(HS256, &claims_with(&json!({"exp": 1})));
    let odd = ISSUER.token(HS256, &claims_with(&json!({"exp": null})));
    for token in
        ["x", &expired, &expired, &odd, &STRANGER.token(HS256, &claims()), &ISSUER.token(HS256, &claims())]
    {
        let _ = tokens.verify(token, NOW);
    }
    let counts: Vec<_> = stats.refused().filter(|(_, count)| *count > 0).collect();
    let wanted = [
        (TokenError::Form, 1),
        (TokenError::Signature, 1),
        (TokenError::Claims, 1),
        (TokenError::Expired, 2),
    ];
    assert_eq!((counts, stats.verified(), stats.cached()), (wanted.to_vec(), 6, 0));
}
