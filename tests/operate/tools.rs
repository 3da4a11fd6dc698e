//! Promise: `tidegate token`, `check` and `key` make what the server accepts; for a token that it refuses, they report
//! the reason and what is wanted; and they never repeat a token or a secret.

use crate::common;

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use self::common::application::{Application, Reply};
use self::common::bearer::now;
use self::common::conn::request;
use self::common::process::command;
use self::common::signer::{ISSUER, STRANGER};
use self::common::{BASE, TempPath, TestServer};

/// 32 bytes that the tests look for in all output.
const SECRET: &str = "the canary's secret, never shown";

/// Runs the program with these settings.
#[derive(Default)]
struct Tools {
    settings: Vec<(&'static str, String)>,
}

/// The output of one run.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: i32,
}

impl Tools {
    fn with(settings: &[(&'static str, &str)]) -> Self {
        Self { settings: settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect() }
    }

    /// Uses [`SECRET`] as the key, and other settings.
    fn with_secret(settings: &[(&'static str, &str)]) -> Self {
        let mut tools = Self::with(settings);
        tools.settings.push(("TOKEN_KEYS", format!("HS256:base64:{}", STANDARD.encode(SECRET))));
        tools
    }

    fn run(&self, args: &[&str], input: &str) -> Said {
        let settings = self.settings.iter().map(|(key, value)| (format!("TIDEGATE_{key}"), value));
        let mut child = command(args)
            .envs(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built with the tests");
        // A program that reads no input may have ended already.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let said = Said {
            out: text(output.stdout),
            err: text(output.stderr),
            code: output.status.code().expect("no signal"),
        };
        let all = format!("{}{}", said.out, said.err);
        let hidden = [SECRET.to_owned(), STANDARD.encode(SECRET), signature(input).to_owned()];
        // Shorter ones are no secrets, and may be part of any word.
        for secret in hidden.iter().filter(|secret| secret.len() >= 8) {
            assert!(!all.contains(secret.as_str()), "{args:?} shows a secret: {all}");
        }
        said
    }

    /// Returns a token that was made.
    fn token(&self, args: &[&str]) -> String {
        let said = self.run(&[&["token"], args].concat(), "");
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{args:?}");
        said.out.trim().to_owned()
    }

    /// Checks `token`, given on standard input, and returns the status and the line that begins with `begins`.
    fn check(&self, token: &str, args: &[&str], begins: &str) -> (i32, String) {
        let said = self.run(&[&["check"], args].concat(), token);
        let line = said.out.lines().find(|line| line.starts_with(begins));
        (said.code, line.unwrap_or_else(|| panic!("no {begins}: {said:?}")).to_owned())
    }
}

/// Returns the part of a token that only its signer can write.
fn signature(token: &str) -> &str {
    token.trim().rsplit_once('.').map_or("", |(_, signature)| signature)
}

/// Returns a file with these contents.
fn file(contents: impl AsRef<[u8]>) -> TempPath {
    let path = TempPath::new();
    fs::write(&path.0, contents).expect("a temporary file");
    path
}

/// Returns a token with exactly these claims, signed with [`SECRET`].
fn signed(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

/// Returns a token with these parts and no good signature.
fn crafted(header: &str, claims: &str) -> String {
    format!("{}.{}.AAAAAAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn a_token_is_made_believed_and_served() {
    let key = file(SECRET);
    let source = format!("HS256:file:{}", key.0.display());
    let tools =
        Tools::with(&[("TOKEN_KEYS", &source), ("TOKEN_ISSUER", "dev"), ("TOKEN_AUDIENCE", "push,other")]);
    let all = ["--allow", "sse:read:lobby", "--allow", "sse:publish:lobby", "--allow", "admin"];
    let token = tools.token(&[&["--user", "ann", "--id", "t1"], &all[..]].concat());
    let (code, line) = tools.check(&token, &["--room", "lobby", "--user", "ann"], "accepted");
    assert_eq!((code, line.as_str()), (0, "accepted: signed with HS256"));

    let server = TestServer::with(|config| {
        config.token_keys = vec![tidegate::config::parse_token_key(&source).expect("a key")];
        config.token_issuer = Some("dev".to_owned());
        config.token_audience = vec!["push".to_owned()];
    });
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let _listener = server.listen_with("/stream/lobby/ann", &headers);
    let event = json!({"room": "lobby", "data": 1}).to_string();
    assert_eq!(server.post("/publish", &headers, &event).status(), 200);
    let over = format!("Bearer {}", tools.token(&["--expires=-5m"]));
    assert_eq!(server.post("/publish", &[("authorization", &over)], &event).status(), 401);
    let metrics = server.metrics();
    metrics.assert("tidegate_token_verifications_total", 2.0);
    metrics.assert("tidegate_token_cache_hits_total", 1.0);
    metrics.assert("tidegate_tokens_refused_total{reason=\"expired\"}", 1.0);
    metrics.assert("tidegate_tokens_refused_total{reason=\"signature\"}", 0.0);
    metrics.assert("tidegate_revocations", 0.0);
    assert_eq!(server.post("/revoke", &headers, json!({"token": "other"}).to_string()).status(), 200);
    server.metrics().assert("tidegate_revocations", 1.0);
}

#[test]
fn every_kind_of_private_key_makes_what_its_public_key_believes() {
    for algorithm in [
        Algorithm::RS256,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ] {
        let (ours, others) = (ISSUER.pair(algorithm), STRANGER.pair(algorithm));
        let (private, public, others) = (file(&ours.private_pem), file(&ours.public), file(&others.public));
        let algorithm = format!("{algorithm:?}");
        let source = |path: &TempPath| format!("{algorithm}:file:{}", path.0.display());
        let token = Tools::default().token(&["--key", &source(&private), "--kid", "k", "--user", "u"]);
        let believing = Tools::with(&[("TOKEN_KEYS", &source(&public))]);
        let (code, line) = believing.check(&token, &[], "accepted");
        assert_eq!((code, line), (0, format!("accepted: signed with {algorithm}, kid \"k\"")));
        let other = Tools::with(&[("TOKEN_KEYS", &source(&others))]);
        let (code, line) = other.check(&token, &[], "refused (signature): ");
        assert!(code == 1 && line.contains(&format!("none of the keys for {algorithm}")), "{line}");
        // A public key signs nothing.
        let said = Tools::default().run(&["token", "--key", &source(&public)], "");
        assert!(
            said.code == 64 && said.err.contains(&format!("is not a private key for {algorithm}")),
            "{said:?}"
        );
    }
}

/// Returns tokens that are refused where `good` ones are accepted, each with the reason and a part of the message.
fn not_believed(good: &Value) -> Vec<(String, &'static str, &'static str)> {
    let now = now();
    let hs256 = Header::new(Algorithm::HS256);
    let changed = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signed(&hs256, &claims)
    };
    let wanted = |text: &str| text.to_owned();
    vec![
        (wanted("session-id-17"), "form", "1 part(s)"),
        (wanted("a.b.c.d.e"), "form", "encrypted (JWE)"),
        (wanted("Bearer a.b.c"), "form", "white space"),
        (format!("{}.x.y", "a".repeat(9000)), "form", "9004 bytes"),
        (wanted("e30.e30."), "form", "no signature"),
        (wanted("e30.e30.AA"), "form", "algorithm (alg)"),
        (
            crafted(r#"{"alg":"HS256"}"#, "{}").replace(".e30.", ".!."),
            "signature",
            "none of the keys for HS256",
        ),
        (
            crafted(r#"{"alg":"HS256","jku":"https://evil.example","crit":[]}"#, "{}"),
            "header",
            "has jku, crit",
        ),
        (crafted(r#"{"alg":"HS256","typ":"secevent+jwt"}"#, "{}"), "header", "\"secevent+jwt\""),
        (
            crafted(r#"{"alg":"none"}"#, "{}"),
            "algorithm",
            "its alg is \"none\", and the keys are for HS256, HS384",
        ),
        (crafted(r#"{"alg":"RS256"}"#, "{}"), "algorithm", "its alg is \"RS256\""),
        (crafted(r#"{"alg":"HS384","kid":"x"}"#, "{}"), "unknown_key", "its kid is \"x\""),
        (crafted(r#"{"alg":"HS384","kid":"x"}"#, "{}"), "unknown_key", "HS384: \"a\", \"b\""),
        (changed("exp", json!(now - 200)), "expired", "3 minutes ago (token_leeway is 5s)"),
        (changed("nbf", json!(now + 1810)), "not_yet", "its nbf is "),
        (changed("nbf", json!(now + 1810)), "not_yet", "in 30 minutes"),
        (changed("iat", json!(now + 1810)), "not_yet", "its iat is "),
        (changed("iss", json!("evil")), "issuer", "its iss is \"evil\", and token_issuer is \"idp\""),
        (
            changed("aud", json!(["x", "y"])),
            "audience",
            "its aud is \"x\", \"y\"; wanted one of token_audience: \"push\"",
        ),
        (changed("exp", json!("soon")), "claims", "its exp is \"soon\"; wanted a time"),
        (changed("exp", Value::Null), "claims", "its exp is null; wanted a time"),
        (changed("sub", json!(7)), "claims", "its sub is 7; wanted a user's name"),
        (changed("jti", json!("j".repeat(300))), "claims", "at most 256 bytes"),
        (changed("permissions", json!({"a": 1})), "claims", "its permissions is an object; wanted a list"),
        (changed("iss", json!("a\n\u{1b}[2J")), "issuer", r#"its iss is "a\n\u{1b}[2J""#),
    ]
}

#[test]
fn each_reason_says_what_was_found_and_what_would_be_right() {
    let jwk = |kid: &str| {
        let secret = URL_SAFE_NO_PAD.encode([kid.as_bytes()[0]; 48]);
        json!({"kty": "oct", "kid": kid, "alg": "HS384", "k": secret})
    };
    let jwks = file(json!({"keys": [jwk("a"), jwk("b")]}).to_string());
    let jwks = jwks.0.display().to_string();
    let settings = [("TOKEN_JWKS", jwks.as_str()), ("TOKEN_ISSUER", "idp"), ("TOKEN_AUDIENCE", "push")];
    let tools = Tools::with_secret(&settings);
    let good = json!({"exp": now() + 3600, "iss": "idp", "aud": "push", "sub": "ann"});
    let hs256 = Header::new(Algorithm::HS256);
    for (token, reason, told) in &not_believed(&good) {
        let (code, line) = tools.check(token, &[], "refused");
        let begins = format!("refused ({reason}): ");
        assert!(
            code == 1 && line.starts_with(&begins) && line.contains(told),
            "wanted {reason}, {told}: {line}"
        );
    }
    assert_eq!(tools.check(&signed(&hs256, &good), &[], "accepted").0, 0);
    let nobody_meant = Tools::with_secret(&[]);
    let (code, line) = nobody_meant.check(&signed(&hs256, &good), &[], "refused (audience)");
    assert!(code == 1 && line.contains("token_audience is empty"), "{line}");
}

#[test]
fn what_a_token_allows_is_said_with_the_permission_that_decides() {
    let tools = Tools::with_secret(&[("PUBLIC_ROOMS", "public-*")]);
    let token = tools.token(&[
        "--user",
        "ann",
        "--allow=sse:read:inbox-{user}",
        "--allow=sse:publish:chat-*",
        "--allow=sse:members:chat-1",
        "--allow=sse:user:bot*",
    ]);
    for (args, code, told) in [
        (&["--room=inbox-ann"][..], 0, "allowed: listen in \"inbox-ann\", by sse:read:inbox-{user}"),
        (&["--room=public-1"], 0, "allowed: listen in \"public-1\", which is one of public_rooms"),
        (
            &["--room=inbox-bob"],
            1,
            "not allowed: listen in \"inbox-bob\", which needs sse:read:inbox-bob, or a pattern such as sse:read:inbox-* (it \
             has sse:read:inbox-{user})",
        ),
        (&["--room=inbox-ann", "--user=ann"], 0, "allowed: listen as \"ann\", which is its sub"),
        (&["--room=inbox-ann", "--user=bot7"], 0, "allowed: listen as \"bot7\", by sse:user:bot*"),
        (
            &["--room=inbox-ann", "--user=bob"],
            1,
            "not allowed: listen as \"bob\", which needs sse:user:bob, or a pattern such as sse:user:bo* (it has \
             sse:user:bot*); its sub is \"ann\"",
        ),
        (&["--room=chat-1", "--action=publish"], 0, "allowed: publish to \"chat-1\", by sse:publish:chat-*"),
        (
            &["--action=publish-anywhere"],
            1,
            "not allowed: publish to users and to everyone, which needs sse:publish without a pattern (it has sse:publish:chat-*)",
        ),
        (
            &["--room=chat-1", "--action=members"],
            0,
            "allowed: see the members of \"chat-1\", by sse:members:chat-1",
        ),
        (
            &["--room=chat-2", "--action=members"],
            1,
            "not allowed: see the members of \"chat-2\", which needs sse:members:chat-2 or admin:chat-2, or a pattern such as \
             sse:members:chat-* (it has sse:members:chat-1)",
        ),
        (
            &["--room=chat-1", "--action=disconnect"],
            1,
            "not allowed: disconnect users from \"chat-1\", which needs admin:chat-1, or a pattern such as admin:chat-* (it has \
             none)",
        ),
        (
            &["--action=administer"],
            1,
            "not allowed: see the server's state and revoke tokens, which needs admin without a pattern (it has none)",
        ),
    ] {
        assert_eq!(tools.check(&token, args, told), (code, told.to_owned()), "{args:?}");
    }
    let nobody = tools.token(&["--allow", "sse:read"]);
    let (code, line) = tools.check(&nobody, &["--room=a", "--user=bob"], "not allowed: listen as");
    assert!(code == 1 && line.ends_with("it has no sub"), "{line}");
}

#[test]
fn permissions_that_mean_nothing_are_told_where_they_are_written_and_where_they_are_read() {
    let tools = Tools::with_secret(&[]);
    for (permission, told) in
        [("sse:reed:a", "is none of sse:read"), ("sse:read:a*b", "a * that is not at its end")]
    {
        let said = tools.run(&["token", "--allow", permission], "");
        assert!(said.code == 64 && said.err.contains(told) && said.out.is_empty(), "{said:?}");
    }
    let claims = json!({"exp": 4_000_000_000_u64, "permissions": ["vip", "sse:reed:a", "sse:read:a*b"]});
    let token = signed(&Header::new(Algorithm::HS256), &claims);
    let said = tools.run(&["check"], &token);
    assert!(said.code == 0 && said.out.contains("\npermissions:\n  vip\n"), "{said:?}");
    assert!(
        said.out.contains("not understood: permission 2, \"sse:reed:a\", is none of sse:read"),
        "{said:?}"
    );
    assert!(said.out.contains("not understood: permission 3, \"sse:read:a*b\", has a * "), "{said:?}");
}

#[test]
fn a_token_is_looked_into_without_being_believed() {
    let token = crafted(r#"{"alg":"none","kid":"k"}"#, r#"{"sub":"ann","exp":1000000000}"#);
    for (args, input) in [
        (&["token", "--inspect"][..], token.as_str()),
        (&["token", "--inspect", "-"], &token),
        (&["token", "--inspect", &token], ""),
    ] {
        let said = Tools::default().run(args, input);
        let shown: Value = serde_json::from_str(&said.out).expect("JSON");
        assert_eq!(
            shown,
            json!({"header": {"alg": "none", "kid": "k"}, "claims": {"sub": "ann", "exp": 1_000_000_000}})
        );
        assert!(said.code == 0 && said.err.contains("exp is 2001-09-09T01:46:40Z, "), "{said:?}");
        assert!(said.err.contains("Nothing was verified"), "{said:?}");
        assert!(!said.out.contains(signature(&token)), "{said:?}");
    }
    assert_eq!(Tools::default().run(&["token", "--inspect"], "nonsense").code, 1);
}

#[test]
fn an_api_key_is_made_once_pasted_and_believed() {
    let said =
        Tools::default().run(&["key", "orders", "--allow", "sse:publish:orders-*", "--rate", "100/s"], "");
    let key = said.err.lines().last().expect("a key").to_owned();
    assert!(said.code == 0 && key.starts_with("tgk_") && !said.out.contains(&key), "{said:?}");
    let keys = file(&said.out);
    let tools = Tools::with(&[("API_KEYS_FILE", keys.0.to_str().expect("UTF-8"))]);
    let said = tools.run(&["check", "--room", "orders-7", "--action", "publish"], &key);
    let told = "accepted: the API key orders\npublishes: 100 events in 1s\npermissions:\n  sse:publish:orders-*\n\
                allowed: publish to \"orders-7\", by sse:publish:orders-*\n";
    assert_eq!((said.code, said.out.as_str()), (0, told));
    let (code, line) = tools.check(&format!("{key}A"), &[], "refused");
    assert!(code == 1 && line.contains("none of the API keys in /"), "{line}");
    let (code, line) = tools.check("a.b.c", &[], "refused");
    assert!(code == 1 && line.contains("token_keys and token_jwks name no keys"), "{line}");
    let (code, line) = Tools::with_secret(&[]).check(&key, &[], "refused");
    assert!(code == 1 && line.contains("api_keys_file is off"), "{line}");

    let server = TestServer::with(|config| config.api_keys_file = Some(keys.0.clone()));
    let headers = [("authorization", format!("Bearer {key}"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let publish = |room: &str| {
        let body = json!({"room": room, "data": 1}).to_string();
        server
            .connect()
            .round(&request("POST", &format!("{BASE}/publish"), &headers, body.as_bytes()))
            .status()
    };
    assert_eq!([publish("orders-7"), publish("other")], [200, 403]);
}

#[test]
fn keys_at_a_url_are_fetched_or_stood_in_for() {
    let pair = ISSUER.pair(Algorithm::EdDSA);
    let private = file(&pair.private_pem);
    let set = json!({"keys": [pair.jwk(&json!({"alg": "EdDSA"}))]}).to_string();
    let token = Tools::default().token(&["--key", &format!("EdDSA:file:{}", private.0.display())]);

    let answering = Application::always(Reply::With(200, set.clone()));
    let tools = Tools::with(&[("TOKEN_JWKS", &answering.url("/jwks"))]);
    assert_eq!(tools.check(&token, &[], "accepted").0, 0);
    assert_eq!(answering.count(), 1);

    let failing = Application::always(Reply::With(500, String::new()));
    let tools = Tools::with(&[("TOKEN_JWKS", &failing.url("/jwks"))]);
    let said = tools.run(&["check"], &token);
    assert!(said.code == 1 && said.out.starts_with("refused (no_keys): "), "{said:?}");
    assert!(said.err.contains("can't be used: status 500") && said.err.contains("--jwks FILE"), "{said:?}");
    let (stand_in, asked) = (file(&set), failing.count());
    let stand_in = stand_in.0.to_str().expect("UTF-8");
    assert_eq!(tools.check(&token, &["--jwks", stand_in], "accepted").0, 0);
    assert_eq!(failing.count(), asked);
    let said = Tools::with_secret(&[]).run(&["check", "--jwks", stand_in], &token);
    assert!(said.code == 64 && said.err.contains("there are none"), "{said:?}");
}

#[test]
fn what_cannot_be_answered_says_so_by_its_status() {
    let secret = Tools::with_secret(&[]);
    let none = Tools::default();
    let short = ["token", "--key", "HS256:base64:c2hvcnQ="];
    for (tools, args, code, told) in [
        (&none, &["check"][..], 78, "token_keys, token_jwks and api_keys_file are empty"),
        (&none, &["token"], 78, "token_keys: wanted a secret to sign with"),
        (&none, &["--port", "1", "check"], 64, "unexpected argument '--port'"),
        (&none, &["--port", "1"], 64, "unexpected argument '--port'"),
        (&none, &["key"], 64, "<NAME>"),
        (&none, &["key", "a"], 64, "--allow <PERMISSION>"),
        (&none, &["key", "a b", "--allow", "vip"], 64, "[a b]: wanted a name"),
        (&none, &["key", "a", "--allow", "vip", "--rate", "fast"], 64, "publish_rate: wanted"),
        (
            &none,
            &["key", "a", "--allow", "vip", "--listen", "127.0.0.1:1"],
            64,
            "unexpected argument '--listen'",
        ),
        (&none, &short, 64, "--key: the secret in base64 is too short"),
        (&none, &["token", "--key", "HS256:base64:!!"], 64, "--key: wanted base64 after HS256:base64:"),
        (&none, &["token", "--key", "ES256:file:/nowhere"], 64, "--key: cannot read /nowhere"),
        (&secret, &["check"], 64, "there is no token"),
        (&secret, &["check", "eyJ", "eyK"], 64, "wanted one token"),
        (&secret, &["check", "--action", "publish"], 64, "wanted --room"),
        (&secret, &["check", "--action", "administer", "--room", "a"], 64, "administer takes no --room"),
        (&secret, &["check", "--action", "publish", "--room", "a", "--user", "u"], 64, "--user is for read"),
        (&secret, &["check", "--jwks", "/nowhere"], 64, "cannot read /nowhere"),
        (&secret, &["token", "--expires", "soon"], 64, "wanted a span such as 1h"),
        (&secret, &["--drain", "long", "token"], 78, "--drain"),
        (&secret, &["--token-permissions-claim", "scope", "token", "--id", ""], 64, "wanted 1 to 256 bytes"),
    ] {
        let said = tools.run(args, if args.contains(&"--jwks") { "a.b.c" } else { "" });
        assert!(
            said.code == code && said.err.contains(told) && said.out.is_empty(),
            "{args:?} {told}: {said:?}"
        );
        assert!(!said.err.contains("eyK") && !said.err.contains("c2hvcnQ="), "{said:?}");
    }
    let help = none.run(&["--help"], "");
    assert!(["  token  ", "  check  ", "  key  "].iter().all(|name| help.out.contains(name)), "{}", help.out);
}

#[test]
fn settings_come_from_everywhere_they_do_for_the_server() {
    let settings = file(format!("token_keys = [\"HS256:base64:{}\"]\n", STANDARD.encode(SECRET)));
    let path = settings.0.to_str().expect("UTF-8");
    let none = Tools::default();
    let token = none.token(&["--config", path, "--user", "ann"]);
    for args in [&["--config", path, "check"][..], &["check", "--config", path]] {
        assert_eq!(none.run(args, &token).code, 0, "{args:?}");
    }
    let scope = ["--config", path, "--token-permissions-claim", "scope"];
    let made = none.run(&[&scope[..], &["token", "--allow", "vip"]].concat(), "");
    let said = none.run(&[&scope[..], &["check"]].concat(), &made.out);
    assert!(said.code == 0 && said.out.ends_with("permissions:\n  vip\n"), "{said:?}");
}

/// Flags once had to come before the word, and the message said to leave them out.
#[test]
fn settings_may_stand_behind_the_word_as_well() {
    let key = file(SECRET);
    let keys = format!("--token-keys=HS256:file:{}", key.0.display());
    let none = Tools::default();
    let token = none.token(&["--user", "ann", &keys]);
    assert_eq!(none.run(&["check", &keys, "--token-audience", ""], &token).code, 0);
    // The last one counts.
    let said = none.run(&["--token-audience=push", "check", &keys, "--token-audience="], &token);
    assert_eq!(said.code, 0, "{said:?}");
    let said = none.run(&["check", &keys, "--token-audience=push"], &token);
    assert!(said.code == 1 && said.out.contains("refused (audience)"), "{said:?}");
    for help in [&["help"][..], &["--help"], &["help", "check"], &["check", "--help"]] {
        let said = none.run(help, "");
        assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
        let is_of_all = !help.contains(&"check");
        assert_eq!(said.out.contains("--history-events"), is_of_all, "{}", said.out);
    }
}

/// The same characters make two secrets, and no message said which of them was wanted.
#[test]
fn a_secret_that_was_read_another_way_is_recognised() {
    let text = STANDARD.encode(SECRET);
    let in_file = file(format!("{text}\n"));
    let by_file = Tools::with(&[("TOKEN_KEYS", &format!("HS256:file:{}", in_file.0.display()))]);
    let by_text = Tools::with(&[("TOKEN_KEYS", &format!("HS256:base64:{text}"))]);
    let (of_file, of_text) = (by_file.token(&[]), by_text.token(&[]));
    let (code, line) = by_file.check(&of_text, &[], "refused (signature)");
    assert!(code == 1 && line.contains("is in base64, and HS256:file: takes the text as it is"), "{line}");
    let (code, line) = by_text.check(&of_file, &[], "refused (signature)");
    assert!(code == 1 && line.contains("as it is, and that is decoded here"), "{line}");
    let other = Tools::with(&[("TOKEN_KEYS", &format!("HS256:base64:{}", STANDARD.encode([7; 32])))]);
    let (code, line) = by_file.check(&other.token(&[]), &[], "refused (signature)");
    assert!(code == 1 && line.contains("it was signed with another, or changed afterwards"), "{line}");
}

#[test]
fn permissions_under_another_name_are_told() {
    let tools = Tools::with_secret(&[]);
    let claims = json!({"exp": 4_000_000_000_u64, "scope": "sse:read", "sub": "ann"});
    let token = signed(&Header::new(Algorithm::HS256), &claims);
    let told =
        "it has no claim \"permissions\" (token_permissions_claim); it has \"exp\", \"scope\", \"sub\"";
    assert_eq!(tools.check(&token, &[], "it has no"), (0, told.to_owned()));
    let said = Tools::with_secret(&[("TOKEN_PERMISSIONS_CLAIM", "scope")]).run(&["check"], &token);
    assert!(said.code == 0 && !said.out.contains("it has no claim"), "{said:?}");
}

#[test]
fn who_gets_an_event_that_requires_something_is_said() {
    let tools = Tools::with_secret(&[]);
    let token = tools.token(&["--user=ann", "--allow=sse:read", "--allow=vip:room-r", "--allow=staff"]);
    for (args, code, told) in [
        (
            &["--require=staff"][..],
            0,
            "allowed: get events for users and for everyone that require staff, by staff",
        ),
        (
            &["--require=vip", "--room=room-r"],
            0,
            "allowed: get events in \"room-r\" that require vip, by vip:room-r",
        ),
        (
            &["--require=vip", "--room=room-s"],
            1,
            "not allowed: get events in \"room-s\" that require vip, which needs vip:room-s, or a pattern such as vip:room-* \
             (it has vip:room-r)",
        ),
        (
            &["--require=vip"],
            1,
            "not allowed: get events for users and for everyone that require vip, which needs vip without a pattern (it has \
             vip:room-r)",
        ),
    ] {
        assert_eq!(tools.check(&token, args, told), (code, told.to_owned()), "{args:?}");
    }
    let said = tools.run(&["check", "--require=sse:read"], &token);
    assert!(said.code == 64 && said.err.contains("--require"), "{said:?}");
}
