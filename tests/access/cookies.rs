//! Promise: a token in a cookie counts for pages that may use it, and of several the good one does.

use serde_json::json;
use tidegate::config::CorsOrigins;

use crate::common::bearer::{FOREIGN_SECRET, bearer, expired, lasting, now, sign, token};
use crate::common::{TestServer, assert_problem};
use crate::guarded::{ask, guarded, start};

/// Checks the pages listed in the settings, with `cors_credentials` and without.
#[test]
fn a_cookie_counts_only_for_pages_that_may_use_it() {
    for credentials in [true, false] {
        assert_cookies_count_for_own_pages_and(credentials);
    }
}

/// `credentials`: whether listed pages may use cookies.
fn assert_cookies_count_for_own_pages_and(credentials: bool) {
    let server = TestServer::with(|config| {
        guarded(config);
        config.cors_origins =
            CorsOrigins::Only(vec!["https://app.example".into(), "https://b.example".into()]);
        config.cors_credentials = credentials;
    });
    let token = token("ann", &["sse:read", "sse:publish"]);
    let cookie = format!("t={token}");
    let event = r#"{"room":"a","data":1}"#;
    let status = |credential: (&str, &str), headers: &[(&str, &str)]| {
        let headers = [&[credential], headers].concat();
        let by = |method, path, body| {
            let answer = ask(&server, method, path, &headers, body);
            if answer.status() == 403 {
                assert_problem(&answer, 403, "origin_forbidden");
            }
            answer.status()
        };
        [by("GET", "/stream?room=a", ""), by("GET", "/rooms/a/history", ""), by("POST", "/publish", event)]
    };
    let by_cookie = ("cookie", &*cookie);
    for foreign in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "")],
        &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        &[("origin", "http://localhost"), ("sec-fetch-site", "cross-site")],
        &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
    ] {
        assert_eq!(status(by_cookie, foreign), [403; 3], "{foreign:?}");
    }
    for own in [
        &[][..],
        &[("origin", "http://localhost")],
        &[("origin", "http://localhost"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        assert_eq!(status(by_cookie, own), [200; 3], "{own:?}");
    }
    for listed in [
        &[("origin", "https://app.example")][..],
        &[("origin", "https://app.example"), ("sec-fetch-site", "cross-site")],
        &[("origin", "https://b.example"), ("sec-fetch-site", "same-site")],
    ] {
        let wanted = if credentials { [200; 3] } else { [403; 3] };
        assert_eq!(status(by_cookie, listed), wanted, "{listed:?} {credentials}");
    }
    // Only a script sets `Authorization`, so the page's origin does not matter.
    let by_hand = bearer(&token);
    assert_eq!(status(("authorization", &by_hand), &[("sec-fetch-site", "cross-site")]), [200; 3]);
}

/// A browser sends one cookie for each path and domain for which it was set. With a stale one beside the fresh one, the
/// answer was once 400, and no retry helped until the stale one was gone.
#[test]
fn of_several_cookies_the_good_one_counts() {
    let server = start();
    let fresh = token("ann", &["sse:read"]);
    let longer = lasting("ann", &["sse:read", "sse:members"], 7200);
    let stale = expired("ann", &["sse:read"]);
    let foreign = sign(FOREIGN_SECRET, &json!({"sub": "eve", "exp": now() + 900, "permissions": ["admin"]}));
    let of_bob = token("bob", &["sse:read"]);
    let listen = |cookies: &[&str]| {
        let line = cookies.iter().map(|token| format!("t={token}")).collect::<Vec<_>>().join("; ");
        ask(&server, "GET", "/stream?room=vip", &[("cookie", &line)], "")
    };
    for good in [
        &[&*stale, &fresh][..],
        &[&fresh, &stale],
        &[&stale, &foreign, "x", &fresh],
        &["", &fresh],
        &[&fresh, &longer],
        &[&stale, &stale, &stale, &stale, &stale, &fresh],
    ] {
        let answer = listen(good);
        assert_eq!(answer.status(), 200, "{good:?}: {}", answer.text());
        assert!(answer.text().contains("\"user\":\"ann\""), "{}", answer.text());
    }
    for bad in [&[&*stale, &foreign][..], &["x", "y", "", &stale]] {
        assert_problem(&listen(bad), 401, "unauthorized");
    }
    // The server cannot tell which of two users is meant, and a page of the same site may have set one of the cookies.
    for unclear in [&[&*fresh, &of_bob][..], &[&of_bob, &stale, &fresh], &["1", "2", "3", "4", &fresh]] {
        assert_problem(&listen(unclear), 400, "token_ambiguous");
    }
    // Of two tokens of one user, the one that lasts longest counts.
    let both = format!("t={fresh}; t={longer}");
    assert_eq!(ask(&server, "GET", "/rooms/vip", &[("cookie", &both)], "").status(), 200);
    let other_way = format!("t={longer}; t={fresh}");
    assert_eq!(ask(&server, "GET", "/rooms/vip", &[("cookie", &other_way)], "").status(), 200);
}
