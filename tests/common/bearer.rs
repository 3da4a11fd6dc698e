//! Tokens and API keys, as an issuer and an operator make them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use std::{fs, process};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tidegate::auth::api_keys;
use tidegate::config::{KeySource, Secret, TokenKey};

/// The secret that signs the server's tokens.
pub const SECRET: &str = "a secret of the tests, 32 bytes or more";

/// The secret of another issuer.
pub const FOREIGN_SECRET: &str = "a secret of somebody else, 32 bytes or more";

/// Returns `secret` as a setting has it.
pub fn key(secret: &str) -> TokenKey {
    TokenKey { algorithm: Algorithm::HS256, source: KeySource::Base64(Secret::new(STANDARD.encode(secret))) }
}

/// Returns the same as text.
pub fn key_text(secret: &str) -> String {
    format!("HS256:base64:{}", STANDARD.encode(secret))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Returns `claims`, signed with `secret`.
pub fn sign(secret: &str, claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("HS256 takes any key")
}

/// Returns a token of `user` for an hour.
pub fn token(user: &str, permissions: &[&str]) -> String {
    lasting(user, permissions, 3600)
}

/// Returns a token of `user` for so many seconds.
pub fn lasting(user: &str, permissions: &[&str], seconds: u64) -> String {
    sign(SECRET, &json!({"sub": user, "exp": now() + seconds, "iat": now(), "permissions": permissions}))
}

/// Returns a token without a user.
pub fn nameless(permissions: &[&str]) -> String {
    sign(SECRET, &json!({"exp": now() + 3600, "permissions": permissions}))
}

/// Returns a token that expired long ago.
pub fn expired(user: &str, permissions: &[&str]) -> String {
    sign(SECRET, &json!({"sub": user, "exp": now() - 3600, "permissions": permissions}))
}

/// Returns the value of `Authorization` for `token`.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A file that is removed when the value is dropped.
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(text: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tidegate-{}-{}.toml", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let file = Self(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    pub fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("a temporary file");
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("the folder of temporary files has a plain name")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns the entry of one key in the file of API keys: `more` are further lines.
pub fn api_key_entry(name: &str, key: &str, permissions: &[&str], more: &str) -> String {
    format!("[{name}]\nhash = \"{}\"\npermissions = {}\n{more}\n", api_keys::hash(key), json!(permissions))
}
