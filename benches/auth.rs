//! The cost of a token: verified in full, by algorithm, and from the cache; and of an API key among as many as there
//! may be.
//!
//! `cargo bench --bench auth`. Uses a token of the usual size.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fmt::Write as _, fs, process};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tidegate::auth::api_keys::{self, API_KEYS_MAX, ApiKeys};
use tidegate::auth::token_error::TokenStats;
use tidegate::auth::tokens::Tokens;
use tidegate::config::{Config, KeySource, TokenKey};

/// The middle of 2025.
const NOW: u64 = 1_750_000_000;

/// A file that is removed when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, contents: &[u8]) -> Self {
        let path = env::temp_dir().join(format!("tidegate-bench-{}-{name}", process::id()));
        fs::write(&path, contents).expect("the folder takes files");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("nobody else removes it");
    }
}

fn pem(der: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN PUBLIC KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        out.push('\n');
    }
    (out + "-----END PUBLIC KEY-----\n").into_bytes()
}

/// Returns a new key for `algorithm`: the signing key, and the file for verifiers.
fn new_key(algorithm: Algorithm) -> (EncodingKey, Vec<u8>) {
    let public = |der: PublicKeyX509Der<'_>| pem(der.as_ref());
    match algorithm {
        Algorithm::RS256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
            let pkcs8: Pkcs8V1Der<'_> = AsDer::as_der(&pair).expect("it can be written");
            // jsonwebtoken takes PEM in either form, DER only without the wrapping.
            let private = format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                STANDARD.encode(pkcs8.as_ref())
            );
            let signing = EncodingKey::from_rsa_pem(private.as_bytes()).expect("it was just written");
            (signing, public(pair.public_key().as_der().expect("it can be written")))
        }
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
            let private = pair.to_pkcs8v1().expect("it can be written");
            let signing = EncodingKey::from_ec_der(private.as_ref());
            (signing, public(pair.public_key().as_der().expect("it can be written")))
        }
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().expect("a key");
            let private = pair.to_pkcs8().expect("it can be written");
            let signing = EncodingKey::from_ed_der(private.as_ref());
            (signing, public(pair.public_key().as_der().expect("it can be written")))
        }
        _ => {
            let mut secret = vec![0; 32];
            aws_lc_rs::rand::fill(&mut secret).expect("random numbers");
            (EncodingKey::from_secret(&secret), secret)
        }
    }
}

fn tokens(path: &Path, algorithm: Algorithm) -> Tokens {
    let token_keys = vec![TokenKey { algorithm, source: KeySource::File(path.to_owned()) }];
    let config = Config { token_keys, ..Config::default_for(4096) };
    let stats = Arc::new(TokenStats::default());
    Tokens::load(&config, stats).expect("the key can be used").expect("there is one")
}

fn verify(c: &mut Criterion) {
    let claims = json!({
        "iss": "https://issuer.example", "sub": "user-123456", "jti": "5f1d7a36-8a3e-4a6f-9d5c-0c1f5a3b7e21",
        "iat": NOW, "nbf": NOW, "exp": NOW + 3600, "name": "Somebody With A Name",
        "permissions": ["sse:read:lobby", "sse:read:inbox-{user}", "sse:publish:lobby"],
    });
    for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let (signing, verifying) = new_key(algorithm);
        let file = TempFile::new(&format!("{algorithm:?}"), &verifying);
        let tokens = tokens(&file.0, algorithm);
        let token = encode(&Header::new(algorithm), &claims, &signing).expect("a token");
        let looked_at = tokens.look_at(&token, NOW).expect("it is signed");
        assert!(looked_at.identity.is_ok(), "{looked_at:?}");
        c.bench_function(&format!("{algorithm:?} in full"), |b| b.iter(|| tokens.look_at(&token, NOW)));
        c.bench_function(&format!("{algorithm:?} remembered"), |b| b.iter(|| tokens.verify(&token, NOW)));
    }
}

fn find_api_key(c: &mut Criterion) {
    let keys: Vec<String> = (0..API_KEYS_MAX).map(|_| api_keys::generate()).collect();
    let mut text = String::new();
    for (n, key) in keys.iter().enumerate() {
        let hash = api_keys::hash(key);
        write!(text, "[k{n}]\nhash = \"{hash}\"\npermissions = [\"sse:publish\"]\n")
            .expect("a String takes any text");
    }
    let file = TempFile::new("keys.toml", text.as_bytes());
    let all = ApiKeys::load(&file.0).expect("the file is right");
    assert!(all.find(&keys[0]).is_some());
    c.bench_function(&format!("an API key among {API_KEYS_MAX}"), |b| b.iter(|| all.find(&keys[0])));
}

criterion_group!(benches, verify, find_api_key);
criterion_main!(benches);
