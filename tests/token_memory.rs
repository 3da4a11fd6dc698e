//! Promise: a cached token takes no more than 250 bytes. Measured by the kernel's figures for this process, with the
//! allocator that ships; a file of its own, because no other test may run beside it.

mod common;

use common::signer::{ISSUER, NOW, claims_with, settings_hs256, tokens};
use jsonwebtoken::Algorithm::HS256;
use procfs::process::Process;
use serde_json::json;
use tidegate::auth::tokens::TOKENS_CACHED_MAX;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BYTES_EACH: u64 = 250;

/// Returns the resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = Process::myself().and_then(|process| process.statm()).expect("/proc/self/statm").resident;
    pages * procfs::page_size()
}

#[test]
fn a_remembered_token_takes_little() {
    let tokens = tokens(&settings_hs256());
    let remember = |numbers: std::ops::Range<usize>| {
        for n in numbers {
            let more = json!({"sub": format!("user-{n}"), "jti": format!("token-{n}"), "permissions": ["sse:read:chat-*"]});
            assert!(tokens.verify(&ISSUER.token(HS256, &claims_with(&more)), NOW).is_ok());
        }
    };
    // Memory that is needed once, for any number.
    remember(0..1000);
    let before = resident();
    let count = TOKENS_CACHED_MAX * 9 / 10;
    remember(1000..1000 + count);
    let each = (resident().saturating_sub(before)) / count as u64;
    assert!(each <= BYTES_EACH, "{each} bytes each");
    // Less than the minimum would mean a wrong measurement: the hash, user and name alone take more.
    assert!(each >= 64, "{each} bytes each");
}
