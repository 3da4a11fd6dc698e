//! Promise: a good token is verified once however often it comes, also when all requests come at once; its time is
//! checked every time; and neither bad tokens nor many good ones make the cache grow without bound.

use crate::common;

use std::sync::Barrier;
use std::thread;

use common::signer::{
    Folder, ISSUER, NOW, STRANGER, claims, claims_with, settings_for, settings_hs256, tokens_counting,
};
use jsonwebtoken::Algorithm::{HS256, RS256};
use serde_json::json;
use tidegate::auth::token_error::TokenError;
use tidegate::auth::tokens::TOKENS_CACHED_MAX;
use tidegate::rights::grants::GRANTS_BYTES_MAX;

#[test]
fn a_storm_of_one_token_costs_one_look() {
    const THREADS: usize = 8;
    let (tokens, stats) = tokens_counting(&settings_for(&Folder::new(), &[RS256]));
    for round in 1..=50 {
        let token = ISSUER.token(RS256, &claims_with(&json!({ "jti": format!("t{round}") })));
        let start = Barrier::new(THREADS);
        let come = || {
            start.wait();
            tokens.verify(&token, NOW).expect("it is good")
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(come)).collect();
            for thread in threads {
                assert_eq!(thread.join().expect("it is done").user(), Some("ann"));
            }
        });
        assert_eq!((stats.verified(), stats.cached()), (round, round * (THREADS as u64 - 1)));
    }
}

#[test]
fn a_token_that_is_remembered_ends_all_the_same() {
    let (tokens, stats) = tokens_counting(&settings_hs256());
    let token = ISSUER.token(HS256, &claims());
    // `exp` is NOW + 600, and there are 5 s of leeway.
    for (now, wanted) in [
        (NOW, None),
        (NOW + 604, None),
        (NOW + 605, Some(TokenError::Expired)),
        (u64::MAX, Some(TokenError::Expired)),
    ] {
        assert_eq!(tokens.verify(&token, now).err(), wanted, "{now}");
    }
    assert_eq!((stats.verified(), stats.cached()), (1, 3));
}

#[test]
fn bad_tokens_are_not_remembered_and_push_no_good_one_out() {
    let (tokens, stats) = tokens_counting(&settings_hs256());
    let good = ISSUER.token(HS256, &claims());
    let early = ISSUER.token(HS256, &claims_with(&json!({"nbf": NOW + 60})));
    assert!(tokens.verify(&good, NOW).is_ok());
    // The token becomes valid; that it was refused before does not matter.
    assert_eq!(tokens.verify(&early, NOW).err(), Some(TokenError::NotYet));
    assert!(tokens.verify(&early, NOW + 60).is_ok());
    let forged = STRANGER.token(HS256, &claims());
    let looked = stats.verified();
    let bad = TOKENS_CACHED_MAX + 1000;
    for n in 0..bad {
        let token = format!("{forged}{}", ["AAAA", "BBBB", "CCCC"][n % 3].repeat(n % 100));
        assert!(tokens.verify(&token, NOW).is_err());
        assert!(tokens.verify(&format!("{n}.x.x"), NOW).is_err());
    }
    assert_eq!(stats.verified(), looked + 2 * bad as u64, "each is looked at each time");
    let cached = stats.cached();
    assert!(tokens.verify(&good, NOW).is_ok());
    assert_eq!(stats.cached(), cached + 1, "the good one is still remembered");
}

#[test]
fn no_more_than_the_bound_are_remembered() {
    const COUNT: usize = TOKENS_CACHED_MAX + 5000;
    let (tokens, stats) = tokens_counting(&settings_hs256());
    let token = |n: usize| ISSUER.token(HS256, &claims_with(&json!({ "jti": n.to_string() })));
    let remembered = |tokens: &mut dyn Iterator<Item = String>, verify: &dyn Fn(&str)| {
        let before = stats.cached();
        tokens.for_each(|token| verify(&token));
        stats.cached() - before
    };
    let verify = |token: &str| assert!(tokens.verify(token, NOW).is_ok());
    assert_eq!(remembered(&mut (0..COUNT).map(token), &verify), 0);
    // Backwards, so that the entries that this check evicts are not those that it reads next.
    let found = remembered(&mut (0..COUNT).rev().map(token), &verify);
    assert!(found <= TOKENS_CACHED_MAX as u64, "{found} of {COUNT}");
    assert!(found >= TOKENS_CACHED_MAX as u64 / 2, "{found} of {COUNT}: then why remember any?");
}

fn with_grant(n: usize, permissions: &[String]) -> String {
    ISSUER.token(HS256, &claims_with(&json!({ "jti": n.to_string(), "permissions": permissions })))
}

/// The permissions of a token take memory as well, and have a bound of their own.
#[test]
fn many_large_grants_are_not_all_remembered() {
    let (tokens, stats) = tokens_counting(&settings_hs256());
    let token = |n: usize| {
        let permissions: Vec<String> = (0..200).map(|m| format!("sse:read:r{n}-{m}")).collect();
        with_grant(n, &permissions)
    };
    // Each takes more than 14 KiB.
    let count = GRANTS_BYTES_MAX / (8 << 10);
    for n in (0..count).chain(0..count) {
        assert!(tokens.verify(&token(n), NOW).is_ok());
    }
    let found = stats.cached();
    assert!((1..=GRANTS_BYTES_MAX as u64 / (14 << 10)).contains(&found), "{found} of {count}");
}

/// Many users with the same permissions come back: the cost of each token does not depend on the size of its grant. It
/// once did: each token was counted as if its grant were its own, and of ten thousand with 256 permissions six thousand
/// were dropped.
#[test]
fn a_large_grant_that_all_share_counts_once() {
    const COUNT: usize = 10_000;
    let (tokens, stats) = tokens_counting(&settings_hs256());
    let permissions: Vec<String> = (0..256).map(|m| format!("sse:read:r{m}")).collect();
    let all: Vec<String> = (0..COUNT).map(|n| with_grant(n, &permissions)).collect();
    for token in all.iter().chain(&all) {
        assert!(tokens.verify(token, NOW).is_ok());
    }
    assert_eq!((stats.verified(), stats.cached()), (COUNT as u64, COUNT as u64));
}
