//! What it costs to know who asks: tokens of each kind, new ones and those that were seen before, and what a grant allows.
//!
//! `cargo bench --bench auth`. Absolute times are for people; compare two runs on one machine.

#[path = "../tests/common/signer.rs"]
mod signer;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jsonwebtoken::Algorithm::{ES256, EdDSA, HS256, RS256};
use serde_json::json;
use signer::{ISSUER, NOW, believer, claims_with};
use tidegate::auth::grant::{Action, Grant};

fn verify(c: &mut Criterion) {
    let claims =
        claims_with(&json!({"jti": "t-1", "permissions": ["sse:read:chat-*", "sse:read:inbox-{user}"]}));
    let mut group = c.benchmark_group("token");
    for algorithm in [HS256, RS256, ES256, EdDSA] {
        let token = ISSUER.token(algorithm, &claims);
        let name = format!("{algorithm:?}");
        group.bench_function(format!("{name}, new"), |b| {
            // One that has seen nothing, each time.
            b.iter_batched(
                || believer(algorithm),
                |tokens| black_box(tokens.verify(&token, NOW).is_ok()),
                BatchSize::PerIteration,
            );
        });
        let tokens = believer(algorithm);
        group.bench_function(format!("{name}, seen before"), |b| {
            b.iter(|| black_box(tokens.verify(black_box(&token), NOW).is_ok()));
        });
    }
    group.finish();
}

fn allows(c: &mut Criterion) {
    let (usual, _) = Grant::parse(["sse:read:chat-*", "sse:read:inbox-{user}"]);
    let texts: Vec<String> = (0..256).map(|n| format!("sse:read:room-{n}")).collect();
    let (large, _) = Grant::parse(texts.iter().map(String::as_str));
    let mut group = c.benchmark_group("grant");
    group.bench_function("of two", |b| {
        b.iter(|| black_box(usual.allows(Some("ann"), Action::Read(black_box("inbox-ann")))));
    });
    group.bench_function("of 256, the last", |b| {
        b.iter(|| black_box(large.allows(Some("ann"), Action::Read(black_box("room-255")))));
    });
    group.finish();
}

criterion_group!(benches, verify, allows);
criterion_main!(benches);
