//! An issuer of tokens, good and bad: a key of every kind, generated for each run, and tokens in any form, signed with
//! these keys.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a program of its own and uses its part of this"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, crypto};
use serde_json::{Value, json};
use tidegate::auth::token_error::TokenStats;
use tidegate::auth::tokens::Tokens;
use tidegate::config::{Config, JwksSource, KeySource, Secret, TokenKey, UpstreamUrl};

/// The time in these tests, in seconds since 1970.
pub const NOW: u64 = 1_800_000_000;

/// Every algorithm there is.
pub const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A secret, long enough for every algorithm.
pub const SECRET: &[u8] = b"a secret of sixty-four bytes is long enough for all three of HS.";

/// A key with both its halves.
pub struct Pair {
    pub private: EncodingKey,
    /// The key as the settings take it; the secret itself for HS.
    pub public: Vec<u8>,
    pub public_der: Vec<u8>,
    pub private_pem: String,
    pub jwk: Value,
}

impl Pair {
    fn secret(secret: &[u8]) -> Self {
        Self {
            private: EncodingKey::from_secret(secret),
            public: secret.to_vec(),
            public_der: Vec::new(),
            private_pem: String::new(),
            jwk: json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret)}),
        }
    }

    fn rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let private: Pkcs8V1Der<'_> = pair.as_der().expect("PKCS #8");
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
        let private = pem("PRIVATE KEY", private.as_ref());
        let encoding = EncodingKey::from_rsa_pem(private.as_bytes()).expect("an RSA key");
        Self::of(encoding, private, public.as_ref(), |pem| {
            DecodingKey::from_rsa_pem(pem).expect("an RSA key")
        })
    }

    fn ec(is_p256: bool) -> Self {
        let curve = if is_p256 { &ECDSA_P256_SHA256_FIXED_SIGNING } else { &ECDSA_P384_SHA384_FIXED_SIGNING };
        let pair = EcdsaKeyPair::generate(curve).expect("a key");
        let private = pair.to_pkcs8v1().expect("PKCS #8");
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
        Self::of_der(private.as_ref(), public.as_ref(), EncodingKey::from_ec_der, |pem| {
            DecodingKey::from_ec_pem(pem).expect("a curve's key")
        })
    }

    fn ed() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let private = pair.to_pkcs8v1().expect("PKCS #8");
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
        Self::of_der(private.as_ref(), public.as_ref(), EncodingKey::from_ed_der, |pem| {
            DecodingKey::from_ed_pem(pem).expect("an Ed25519 key")
        })
    }

    fn of_der(
        private: &[u8],
        public: &[u8],
        encode: fn(&[u8]) -> EncodingKey,
        read: fn(&[u8]) -> DecodingKey,
    ) -> Self {
        Self::of(encode(private), pem("PRIVATE KEY", private), public, read)
    }

    fn of(private: EncodingKey, private_pem: String, der: &[u8], read: fn(&[u8]) -> DecodingKey) -> Self {
        let public = pem("PUBLIC KEY", der).into_bytes();
        let jwk = Jwk::from_decoding_key(&read(&public), None).expect("a JWK");
        let jwk = serde_json::to_value(jwk).expect("JSON");
        Self { private, public, public_der: der.to_vec(), private_pem, jwk }
    }

    /// Returns the lines between the marks of its public half in PEM, joined.
    pub fn public_body(&self) -> String {
        let text = str::from_utf8(&self.public).expect("PEM");
        text.lines().filter(|line| !line.starts_with('-')).collect()
    }

    /// Returns its public half as a member of a set, with `more` members.
    pub fn jwk(&self, more: &Value) -> Value {
        let mut jwk = self.jwk.clone();
        let more = more.as_object().expect("members").clone();
        jwk.as_object_mut().expect("a JWK").extend(more);
        jwk
    }
}

/// All keys of one issuer.
pub struct Issuer {
    secret: Pair,
    rsa: Pair,
    p256: Pair,
    p384: Pair,
    ed: Pair,
}

impl Issuer {
    fn new(secret: &[u8]) -> Self {
        Self {
            secret: Pair::secret(secret),
            rsa: Pair::rsa(),
            p256: Pair::ec(true),
            p384: Pair::ec(false),
            ed: Pair::ed(),
        }
    }

    /// Returns the key for `algorithm`. RS and PS share one, which real issuers should not do.
    pub fn pair(&self, algorithm: Algorithm) -> &Pair {
        match algorithm.family() {
            AlgorithmFamily::Hmac => &self.secret,
            AlgorithmFamily::Rsa => &self.rsa,
            AlgorithmFamily::Ec if algorithm == Algorithm::ES256 => &self.p256,
            AlgorithmFamily::Ec => &self.p384,
            AlgorithmFamily::Ed => &self.ed,
        }
    }

    /// Returns a token with the usual header.
    pub fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        self.token_with(algorithm, &json!({}), claims)
    }

    /// Returns a token with `more` in its header.
    pub fn token_with(&self, algorithm: Algorithm, more: &Value, claims: &Value) -> String {
        let mut header = json!({"alg": format!("{algorithm:?}"), "typ": "JWT"});
        header.as_object_mut().expect("members").extend(more.as_object().expect("members").clone());
        self.raw(algorithm, header.to_string(), claims.to_string())
    }

    /// Returns any header and claims, signed correctly.
    pub fn raw(&self, algorithm: Algorithm, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        self.signed(algorithm, &message)
    }

    /// Returns any text, signed correctly.
    pub fn signed(&self, algorithm: Algorithm, message: &str) -> String {
        let signature = crypto::sign(message.as_bytes(), &self.pair(algorithm).private, algorithm);
        format!("{message}.{}", signature.expect("a signature"))
    }
}

/// The issuer that the tests accept.
pub static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new(SECRET));

/// Another issuer, whose secret differs only in its last byte.
pub static STRANGER: LazyLock<Issuer> = LazyLock::new(|| {
    let secret = [&SECRET[..SECRET.len() - 1], b"!"].concat();
    Issuer::new(&secret)
});

/// Returns claims that suffice.
pub fn claims() -> Value {
    json!({"sub": "ann", "exp": NOW + 600})
}

/// Returns [`claims`] with `more`; members that are null are left out.
pub fn claims_with(more: &Value) -> Value {
    changed(claims(), more)
}

/// Returns `claims` with `more` added or replaced; members that are null are left out.
pub fn changed(mut claims: Value, more: &Value) -> Value {
    let members = claims.as_object_mut().expect("members");
    for (name, value) in more.as_object().expect("members") {
        match value {
            Value::Null => members.remove(name),
            value => members.insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// Returns `-----BEGIN label-----` and the rest.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A folder for files of keys, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-keys-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in the folder.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a key from a file.
pub fn from_file(algorithm: Algorithm, path: PathBuf) -> TokenKey {
    TokenKey { algorithm, source: KeySource::File(path) }
}

/// Returns a secret in the settings.
pub fn inline(algorithm: Algorithm, secret: &[u8]) -> TokenKey {
    TokenKey { algorithm, source: KeySource::Base64(Secret::new(STANDARD.encode(secret))) }
}

/// Returns the default settings.
pub fn settings() -> Config {
    Config::default_for(4096)
}

/// Returns settings with the issuer's key for each of `algorithms`, and no others.
pub fn settings_for(folder: &Folder, algorithms: &[Algorithm]) -> Config {
    let key = |algorithm: &Algorithm| {
        let name = format!("{algorithm:?}");
        from_file(*algorithm, folder.file(&name, &ISSUER.pair(*algorithm).public))
    };
    Config { token_keys: algorithms.iter().map(key).collect(), ..settings() }
}

/// Returns settings with the issuer's secret.
pub fn settings_hs256() -> Config {
    Config { token_keys: vec![inline(Algorithm::HS256, SECRET)], ..settings() }
}

/// Returns a set at a URL that is fetched only when the test asks for it.
pub fn at_url(name: &str) -> JwksSource {
    JwksSource::Url(UpstreamUrl::parse(&format!("https://issuer.example/{name}")).expect("a URL"))
}

/// Returns the tokens that the keys of `config` accept.
pub fn tokens(config: &Config) -> Tokens {
    tokens_counting(config).0
}

/// Returns the same, with its counters.
pub fn tokens_counting(config: &Config) -> (Tokens, Arc<TokenStats>) {
    let stats = Arc::new(TokenStats::default());
    let tokens = Tokens::load(config, stats.clone()).expect("good keys").expect("keys");
    (tokens, stats)
}

/// Returns the tokens that accept only the issuer's key for `algorithm`.
pub fn believer(algorithm: Algorithm) -> Tokens {
    tokens(&settings_for(&Folder::new(), &[algorithm]))
}
