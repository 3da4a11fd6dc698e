//! Tokens: JWTs (RFC 7519) held against the keys of the settings, as RFC 8725 advises.
//!
//! A token that was found good is remembered by its hash, so that a crowd that comes back costs nothing: its times are
//! looked at again each time, its signature is not. Bad ones are not remembered, or strangers could fill the memory.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

use crate::auth::claims::{Claims, Parts, TOKEN_BYTES_MAX};
use crate::auth::jwks::{self, JwksError};
use crate::auth::key::{Key, KeyError};
use crate::auth::single_flight::{SingleFlight, Verified};
use crate::auth::token_error::{TokenError, TokenStats};
use crate::config::{Config, JwksSource, KeySource, TokenKey, UpstreamUrl, read_file};
use crate::rights::grant::{Grant, PermissionError};
use crate::rights::grants::Grants;
use crate::rights::identity::{Identity, KeyId};
use crate::rights::revocation::TOKEN_NAME_BYTES_MAX;
use crate::types::name::UserName;

/// Good tokens that are remembered. Their grants have a bound of their own: `grants::GRANTS_BYTES_MAX`.
pub const TOKENS_CACHED_MAX: usize = 65_536;

/// Names of keys that are looked for at once. Anybody can make one up; those that come again stay.
pub const NAMES_MISSING_MAX: usize = 1024;

/// Keys one token is held against at most: anybody can send one, and each costs as much as a good one does.
pub const KEYS_TRIED_MAX: usize = 16;

/// Why the keys of the settings can't be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of keys cannot be read.
    Unreadable(&'static str, String, io::Error),
    /// What is there is no key.
    Key(&'static str, String, KeyError),
    /// What is there is no set of keys.
    Jwks(String, JwksError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(setting, what, _) => write!(f, "{setting}: cannot read {what}"),
            Self::Key(setting, what, err) => write!(f, "{setting}: {what} {err}"),
            Self::Jwks(what, err) => write!(f, "token_jwks: {what} {err}"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(_, _, err) => Some(err),
            Self::Key(..) | Self::Jwks(..) => None,
        }
    }
}

/// What a token is held against.
pub struct Tokens {
    keys: Vec<Key>,
    key_sets: Vec<KeySet>,
    /// Looks at the published sets that were begun. None, where nobody looks again.
    looks: AtomicU64,
    /// Names that no set had, by their SHA-256, and how many looks were begun when a token first came with one.
    missing: Cache<[u8; 32], u64>,
    wants_keys: AtomicBool,
    issuer: Option<String>,
    audience: Vec<String>,
    leeway_s: u64,
    permissions: String,
    cache: Cache<[u8; 32], Arc<Identity>>,
    under_way: SingleFlight,
    grants: Grants,
    stats: Arc<TokenStats>,
}

/// A set of keys that is published somewhere.
struct KeySet {
    url: UpstreamUrl,
    keys: ArcSwapOption<Vec<Key>>,
    /// Which look found them.
    look: AtomicU64,
}

/// A token that was taken apart, for those who want to know why it is not believed.
#[derive(Debug)]
pub struct Checked {
    /// Who it says it is, if its signature is right.
    pub identity: Result<Identity, TokenError>,
    /// Permissions in it that can't be understood, by their place.
    pub misunderstood: Vec<(usize, PermissionError)>,
}

impl Tokens {
    /// Reads the keys that `config` names; `None` if it names none.
    ///
    /// # Errors
    ///
    /// Which of them can't be used.
    pub fn load(config: &Config, stats: Arc<TokenStats>) -> Result<Option<Self>, LoadError> {
        let mut keys = config.token_keys.iter().map(read_key).collect::<Result<Vec<_>, _>>()?;
        let mut published = Vec::new();
        for source in &config.token_jwks {
            match source {
                JwksSource::Url(url) => {
                    let (keys, look) = (ArcSwapOption::empty(), AtomicU64::new(0));
                    published.push(KeySet { url: url.clone(), keys, look });
                }
                JwksSource::File(path) => {
                    let what = path.display().to_string();
                    let bytes = read_file(path);
                    let bytes =
                        bytes.map_err(|err| LoadError::Unreadable("token_jwks", what.clone(), err))?;
                    keys.extend(jwks::parse(&bytes, true).map_err(|err| LoadError::Jwks(what, err))?);
                }
            }
        }
        if keys.is_empty() && published.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            keys,
            key_sets: published,
            looks: AtomicU64::new(0),
            missing: cache(NAMES_MISSING_MAX),
            wants_keys: AtomicBool::new(false),
            issuer: config.token_issuer.clone(),
            audience: config.token_audience.clone(),
            leeway_s: config.token_leeway.as_secs(),
            permissions: config.token_permissions_claim.clone(),
            cache: cache(TOKENS_CACHED_MAX),
            under_way: SingleFlight::default(),
            grants: Grants::default(),
            stats,
        }))
    }

    /// The URLs at which keys are published.
    pub fn urls(&self) -> impl Iterator<Item = &UpstreamUrl> {
        self.key_sets.iter().map(|published| &published.url)
    }

    /// The algorithm and the name of each key there is by now.
    #[must_use]
    pub fn keys(&self) -> Vec<(Algorithm, Option<String>)> {
        let published = self.key_sets.iter().filter_map(|published| published.keys.load_full());
        let published: Vec<_> = published.collect();
        let all = self.keys.iter().chain(published.iter().flat_map(|keys| keys.iter()));
        all.map(|key| (key.algorithm, key.kid.clone())).collect()
    }

    /// Begins another look at the URLs. What is found from here on answers for names that tokens came with before.
    pub fn begin_look(&self) {
        self.looks.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes over what this look found at the URL with this number.
    ///
    /// # Errors
    ///
    /// If it is no set of keys. Then those from before stay in force.
    pub fn set_jwks(&self, url: usize, bytes: &[u8]) -> Result<usize, JwksError> {
        let keys = jwks::parse(bytes, false)?;
        let count = keys.len();
        let KeySet { keys: slot, look, .. } = &self.key_sets[url];
        let before = slot.swap(Some(Arc::new(keys)));
        look.store(self.looks.load(Ordering::Acquire), Ordering::Release);
        // Those whose key was withdrawn would not be believed any more, but stay.
        if before.is_some_and(|before| before.iter().any(|key| !self.has_key(key.id))) {
            self.cache.retain(|_, identity| self.has_key(identity.key));
        }
        Ok(count)
    }

    /// Takes over the published keys that `other`, in force until now, has read from the same URLs.
    pub fn adopt(&self, other: &Self) {
        self.looks.store(other.looks.load(Ordering::Acquire), Ordering::Release);
        for published in &self.key_sets {
            if let Some(same) = other.key_sets.iter().find(|theirs| theirs.url == published.url) {
                published.keys.store(same.keys.load_full());
                published.look.store(same.look.load(Ordering::Acquire), Ordering::Release);
            }
        }
    }

    /// Whether a token came, since this was last asked, that a newer version of the published sets might have the key for.
    /// Anybody can send one: whoever asks keeps a distance between two looks at the sets.
    pub fn take_wants_keys(&self) -> bool {
        self.wants_keys.swap(false, Ordering::Relaxed)
    }

    /// Whether tokens by this key are believed.
    #[must_use]
    pub fn has_key(&self, id: KeyId) -> bool {
        let published = self.key_sets.iter().filter_map(|published| published.keys.load_full());
        self.keys.iter().any(|key| key.id == id)
            || published.into_iter().any(|keys| keys.iter().any(|key| key.id == id))
    }

    /// Whose token this is, at `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Why it is not believed. That is counted.
    pub fn verify(&self, token: &str, now: u64) -> Result<Arc<Identity>, TokenError> {
        let result = self.look_up(token, now);
        result.inspect_err(|err| self.stats.refuse(*err))
    }

    fn look_up(&self, token: &str, now: u64) -> Result<Arc<Identity>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Form);
        }
        let hash = sha256(token);
        let found = match self.remembered(&hash) {
            Some(known) => known,
            None => self.look_once(hash, token, now)?,
        };
        if found.is_expired(now) { Err(TokenError::Expired) } else { Ok(found) }
    }

    /// Whose the token is, if it is known to be good.
    fn remembered(&self, hash: &[u8; 32]) -> Option<Arc<Identity>> {
        let known = self.cache.get(hash)?;
        if !self.has_key(known.key) {
            // Withdrawn while the token was being looked at, which was remembered only then.
            self.cache.remove(hash);
            return None;
        }
        self.stats.cached.fetch_add(1, Ordering::Relaxed);
        Some(known)
    }

    /// Looks at a token that is not remembered, unless another thread is at it.
    fn look_once(&self, hash: [u8; 32], token: &str, now: u64) -> Verified {
        let look = || match self.remembered(&hash) {
            // By somebody who was at it a moment ago.
            Some(known) => Ok(known),
            None => self.look_and_remember(hash, token, now),
        };
        let (looked, is_own) = self.under_way.once(hash, look);
        if !is_own && looked.is_ok() {
            self.stats.cached.fetch_add(1, Ordering::Relaxed);
        }
        looked
    }

    fn look_and_remember(&self, hash: [u8; 32], token: &str, now: u64) -> Verified {
        self.stats.verified.fetch_add(1, Ordering::Relaxed);
        let identity = self.look_at(token, now)?.identity?;
        let Some(grant) = self.grants.share(&identity.grant) else {
            // Too much to remember: it is looked at each time.
            return Ok(Arc::new(identity));
        };
        let identity = Arc::new(Identity { grant, ..identity });
        // If it is pushed out at once, it is looked at again.
        self.cache.insert(hash, identity.clone());
        Ok(identity)
    }

    /// Looks at a token in full.
    ///
    /// # Errors
    ///
    /// Why its claims are not worth reading.
    pub fn look_at(&self, token: &str, now: u64) -> Result<Checked, TokenError> {
        let parts = Parts::of(token)?;
        let key = self.signer(&parts)?;
        let claims = parts.claims()?;
        let permissions = claims.words(&self.permissions)?;
        let (grant, misunderstood) = Grant::parse(permissions);
        let identity = self.check(&claims, now).and_then(|()| self.identity(&claims, grant, key));
        Ok(Checked { identity, misunderstood })
    }

    /// The key that signed a token: one that it names, or one that has no name, or any if it names none.
    fn signer(&self, parts: &Parts<'_>) -> Result<KeyId, TokenError> {
        let algorithm: Algorithm = parts.header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        let wanted = parts.header.kid.as_ref();
        // First: what a look finds from here on is for the next token.
        let looked = self.key_sets.iter().map(|published| published.look.load(Ordering::Acquire)).min();
        let sets: Vec<_> = self.key_sets.iter().map(|published| published.keys.load_full()).collect();
        let published = || sets.iter().flatten().flat_map(|keys| keys.iter());
        let fits = |key: &&Key| {
            key.algorithm == algorithm
                && (wanted.is_none() || key.kid.is_none() || key.kid.as_ref() == wanted)
        };
        let mut candidates: Vec<&Key> = self.keys.iter().chain(published()).filter(fits).collect();
        // The one that is named is the likeliest.
        candidates.sort_by_key(|key| key.kid.as_ref() != wanted);
        candidates.truncate(KEYS_TRIED_MAX);
        let signed = |key: &&&Key| key.signed(parts.message.as_bytes(), parts.signature);
        if let Some(key) = candidates.iter().find(signed) {
            return Ok(key.id);
        }
        // Secrets are not published: no set can have the key for such a token.
        let may_be_published = !self.key_sets.is_empty() && algorithm.family() != AlgorithmFamily::Hmac;
        let is_missing = may_be_published && !published().any(|key| key.kid.as_ref() == wanted);
        if is_missing {
            self.wants_keys.store(true, Ordering::Relaxed);
        }
        // Whose key is there, by the name it gives, was held against it, whatever cannot be read.
        let is_there = wanted.is_some() && candidates.first().is_some_and(|key| key.kid.as_ref() == wanted);
        let is_unread = || sets.iter().any(Option::is_none);
        let is_awaited = || is_missing && wanted.is_some_and(|name| self.awaits(name, looked.unwrap_or(0)));
        if may_be_published && !is_there && (is_unread() || is_awaited()) {
            return Err(TokenError::NoKeys);
        }
        if !candidates.is_empty() {
            return Err(TokenError::Signature);
        }
        Err(without_candidate(&self.keys.iter().chain(published()), algorithm, wanted))
    }

    /// Whether a key called `name` may be found yet: no look that began after a token first came with that name is over, as
    /// of the one called `looked`. A name that was looked for in vain is not awaited again.
    fn awaits(&self, name: &str, looked: u64) -> bool {
        let looks = self.looks.load(Ordering::Acquire);
        if looks == 0 {
            return false;
        }
        let Ok(since) = self.missing.get_or_insert_with(&sha256(name), || Ok::<_, Infallible>(looks));
        looked <= since
    }

    /// Looks at when, by whom and for whom it was issued.
    fn check(&self, claims: &Claims, now: u64) -> Result<(), TokenError> {
        let not_before = claims.time("nbf")?.unwrap_or(0).max(claims.time("iat")?.unwrap_or(0));
        if not_before > now.saturating_add(self.leeway_s) {
            return Err(TokenError::NotYet);
        }
        if self.end(claims)? <= now {
            return Err(TokenError::Expired);
        }
        let issuer = claims.text("iss")?;
        if self.issuer.as_deref().is_some_and(|wanted| issuer != Some(wanted)) {
            return Err(TokenError::Issuer);
        }
        let audience = claims.texts("aud")?;
        let is_for_us = match &audience {
            Some(audience) => audience.iter().any(|name| self.audience.iter().any(|ours| ours == name)),
            // Where nobody in particular is meant, everyone is, unless we want to be named.
            None => self.audience.is_empty(),
        };
        if is_for_us { Ok(()) } else { Err(TokenError::Audience) }
    }

    fn end(&self, claims: &Claims) -> Result<u64, TokenError> {
        Ok(claims.time("exp")?.ok_or(TokenError::Claims)?.saturating_add(self.leeway_s))
    }

    fn identity(&self, claims: &Claims, grant: Grant, key: KeyId) -> Result<Identity, TokenError> {
        let user = claims.text("sub")?.map(UserName::new).transpose().map_err(|_| TokenError::Claims)?;
        let token = claims.text("jti")?;
        if token.is_some_and(|token| token.len() > TOKEN_NAME_BYTES_MAX) {
            return Err(TokenError::Claims);
        }
        Ok(Identity {
            user,
            token: token.map(Into::into),
            issued: claims.time("iat")?,
            expires: Some(self.end(claims)?),
            grant: Arc::new(grant),
            key,
            api_key: None,
        })
    }
}

/// Why none of `keys` may have signed a token with that `algorithm` which names the key `wanted`. A key that it names is there
/// for another algorithm, such as one of a set that does not say for which (`alg`), is not unknown.
fn without_candidate<'k>(
    keys: &(impl Iterator<Item = &'k Key> + Clone),
    algorithm: Algorithm,
    wanted: Option<&String>,
) -> TokenError {
    let Some(wanted) = wanted else { return TokenError::Algorithm };
    let has = |test: &dyn Fn(&Key) -> bool| keys.clone().any(test);
    let is_named = has(&|key| key.kid.as_ref() == Some(wanted));
    let is_like_it = |key: &Key| key.kid.is_none() && key.algorithm.family() == algorithm.family();
    let may_be_named = !has(&|key| key.algorithm == algorithm) && has(&is_like_it);
    if is_named || may_be_named { TokenError::Algorithm } else { TokenError::UnknownKey }
}

fn sha256(text: &str) -> [u8; 32] {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("32 bytes")
}

/// Grows as it is needed: most servers see few tokens.
fn cache<V: Clone>(items_max: usize) -> Cache<[u8; 32], V> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(CACHE_START)
        .weight_capacity(items_max as u64)
        .build()
        .expect("all that is needed is set");
    Cache::with_options(options, UnitWeighter, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

const CACHE_START: usize = 256;

fn read_key(entry: &TokenKey) -> Result<Key, LoadError> {
    let setting = "token_keys";
    let (what, bytes) = read_material(setting, entry)?;
    let key = if entry.algorithm.family() == AlgorithmFamily::Hmac {
        Key::from_secret(entry.algorithm, &bytes)
    } else {
        Key::from_pem(entry.algorithm, &bytes)
    };
    key.map_err(|err| LoadError::Key(setting, what, err))
}

/// What a key that `setting` names is made of, and what to call it where people look.
///
/// # Errors
///
/// [`LoadError::Unreadable`].
pub(crate) fn read_material(setting: &'static str, entry: &TokenKey) -> Result<(String, Vec<u8>), LoadError> {
    let path = match &entry.source {
        KeySource::Base64(_) => {
            return Ok(("the secret in base64".to_owned(), entry.inline().unwrap_or_default()));
        }
        KeySource::File(path) => path,
    };
    let what = path.display().to_string();
    let bytes = read_file(path);
    let mut bytes = bytes.map_err(|err| LoadError::Unreadable(setting, what.clone(), err))?;
    if entry.algorithm.family() == AlgorithmFamily::Hmac {
        without_line_end(&mut bytes);
    }
    Ok((what, bytes))
}

/// Editors and `echo` end a text with one; nobody means it. Random bytes may end so, and mean it.
fn without_line_end(secret: &mut Vec<u8>) {
    let text = secret.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
    if let Some(text) = text.filter(|text| text.iter().all(|byte| matches!(byte, b' '..=b'~'))) {
        let length = text.len();
        secret.truncate(length);
    }
}
