//! Tokens: JWTs (RFC 7519) verified against the keys of the settings, as RFC 8725 advises.
//!
//! The cache holds good tokens by their hash, so that a crowd of reconnecting clients costs nothing: their times are
//! checked again each time, their signatures are not. Bad tokens are not cached, or strangers could fill the memory.

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

/// Good tokens in the cache. Their grants have a bound of their own: `grants::GRANTS_BYTES_MAX`.
pub const TOKENS_CACHED_MAX: usize = 65_536;

/// Names of unknown keys in the table. Clients can send any name; names that are sent again stay.
pub const NAMES_MISSING_MAX: usize = 1024;

/// The most keys one token is compared with: clients can send bad tokens, and each comparison costs as much as a good
/// token's.
pub const KEYS_TRIED_MAX: usize = 16;

/// Why the keys of the settings can't be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of keys cannot be read.
    Unreadable(&'static str, String, io::Error),
    /// The file or text is not a key.
    Key(&'static str, String, KeyError),
    /// The file is not a set of keys.
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

/// The keys that tokens are verified against.
pub struct Tokens {
    keys: Vec<Key>,
    key_sets: Vec<KeySet>,
    /// Fetches of the published sets that were begun. 0 if the sets are never fetched.
    fetches: AtomicU64,
    /// Names that no set had, by their SHA-256, with the number of fetches begun when a token first named the key.
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

/// A set of keys that is fetched from a URL.
struct KeySet {
    url: UpstreamUrl,
    keys: ArcSwapOption<Vec<Key>>,
    /// The number of the fetch that found them.
    fetch: AtomicU64,
}

/// A parsed token with the reason why it is refused, if it is.
#[derive(Debug)]
pub struct Checked {
    /// The identity it proves, if its claims are valid. The signature is right.
    pub identity: Result<Identity, TokenError>,
    /// Permissions in it that can't be parsed, by their index.
    pub misunderstood: Vec<(usize, PermissionError)>,
}

impl Tokens {
    /// Reads the keys that `config` names; `None` if it names none.
    ///
    /// # Errors
    ///
    /// The keys that can't be used.
    pub fn load(config: &Config, stats: Arc<TokenStats>) -> Result<Option<Self>, LoadError> {
        let mut keys = config.token_keys.iter().map(read_key).collect::<Result<Vec<_>, _>>()?;
        let mut published = Vec::new();
        for source in &config.token_jwks {
            match source {
                JwksSource::Url(url) => {
                    let (keys, fetch) = (ArcSwapOption::empty(), AtomicU64::new(0));
                    published.push(KeySet { url: url.clone(), keys, fetch });
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
            fetches: AtomicU64::new(0),
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

    /// The algorithm and the name of each key that is in force.
    #[must_use]
    pub fn keys(&self) -> Vec<(Algorithm, Option<String>)> {
        let published = self.key_sets.iter().filter_map(|published| published.keys.load_full());
        let published: Vec<_> = published.collect();
        let all = self.keys.iter().chain(published.iter().flat_map(|keys| keys.iter()));
        all.map(|key| (key.algorithm, key.kid.clone())).collect()
    }

    /// Begins another fetch of the URLs. It decides about the key names of all tokens that came before.
    pub fn begin_look(&self) {
        self.fetches.fetch_add(1, Ordering::AcqRel);
    }

    /// Puts the set that this fetch found at the URL with number `url` in force.
    ///
    /// # Errors
    ///
    /// If it is not a set of keys. The keys from before then stay in force.
    pub fn set_jwks(&self, url: usize, bytes: &[u8]) -> Result<usize, JwksError> {
        let keys = jwks::parse(bytes, false)?;
        let count = keys.len();
        let KeySet { keys: slot, fetch, .. } = &self.key_sets[url];
        let before = slot.swap(Some(Arc::new(keys)));
        fetch.store(self.fetches.load(Ordering::Acquire), Ordering::Release);
        // Cached tokens whose key was withdrawn would be refused, but would stay in the cache.
        if before.is_some_and(|before| before.iter().any(|key| !self.has_key(key.id))) {
            self.cache.retain(|_, identity| self.has_key(identity.key));
        }
        Ok(count)
    }

    /// Takes over the published keys that `other`, in force until now, has fetched from the same URLs.
    pub fn adopt(&self, other: &Self) {
        self.fetches.store(other.fetches.load(Ordering::Acquire), Ordering::Release);
        for published in &self.key_sets {
            if let Some(same) = other.key_sets.iter().find(|theirs| theirs.url == published.url) {
                published.keys.store(same.keys.load_full());
                published.fetch.store(same.fetch.load(Ordering::Acquire), Ordering::Release);
            }
        }
    }

    /// Whether, since the last call, a token came whose key may be in a newer version of the published sets. Clients
    /// can send such tokens at any rate: the caller must limit how often it fetches.
    pub fn take_wants_keys(&self) -> bool {
        self.wants_keys.swap(false, Ordering::Relaxed)
    }

    /// Whether tokens signed with this key are accepted.
    #[must_use]
    pub fn has_key(&self, id: KeyId) -> bool {
        let published = self.key_sets.iter().filter_map(|published| published.keys.load_full());
        self.keys.iter().any(|key| key.id == id)
            || published.into_iter().any(|keys| keys.iter().any(|key| key.id == id))
    }

    /// Returns the identity that `token` proves at `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// The reason why it is refused, which is counted.
    pub fn verify(&self, token: &str, now: u64) -> Result<Arc<Identity>, TokenError> {
        let result = self.find_or_verify(token, now);
        result.inspect_err(|err| self.stats.refuse(*err))
    }

    fn find_or_verify(&self, token: &str, now: u64) -> Result<Arc<Identity>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Form);
        }
        let hash = sha256(token);
        let found = match self.cached(&hash) {
            Some(known) => known,
            None => self.verify_once(hash, token, now)?,
        };
        if found.is_expired(now) { Err(TokenError::Expired) } else { Ok(found) }
    }

    /// The identity of a token in the cache.
    fn cached(&self, hash: &[u8; 32]) -> Option<Arc<Identity>> {
        let known = self.cache.get(hash)?;
        if !self.has_key(known.key) {
            // The key was withdrawn while the token was being verified, and the token was cached after that.
            self.cache.remove(hash);
            return None;
        }
        self.stats.cached.fetch_add(1, Ordering::Relaxed);
        Some(known)
    }

    /// Verifies a token that is not cached, unless another thread is verifying it.
    fn verify_once(&self, hash: [u8; 32], token: &str, now: u64) -> Verified {
        let verify = || match self.cached(&hash) {
            // Another thread has just verified it.
            Some(known) => Ok(known),
            None => self.verify_and_cache(hash, token, now),
        };
        let (verified, is_own) = self.under_way.once(hash, verify);
        if !is_own && verified.is_ok() {
            self.stats.cached.fetch_add(1, Ordering::Relaxed);
        }
        verified
    }

    fn verify_and_cache(&self, hash: [u8; 32], token: &str, now: u64) -> Verified {
        self.stats.verified.fetch_add(1, Ordering::Relaxed);
        let identity = self.look_at(token, now)?.identity?;
        let Some(grant) = self.grants.share(&identity.grant) else {
            // Its grant is too large to cache: it is verified each time.
            return Ok(Arc::new(identity));
        };
        let identity = Arc::new(Identity { grant, ..identity });
        // If the cache evicts it at once, it is verified again.
        self.cache.insert(hash, identity.clone());
        Ok(identity)
    }

    /// Verifies a token without the cache.
    ///
    /// # Errors
    ///
    /// The reason why its claims cannot be read or trusted.
    pub fn look_at(&self, token: &str, now: u64) -> Result<Checked, TokenError> {
        let parts = Parts::of(token)?;
        let key = self.signer(&parts)?;
        let claims = parts.claims()?;
        let permissions = claims.words(&self.permissions)?;
        let (grant, misunderstood) = Grant::parse(permissions);
        let identity = self.check(&claims, now).and_then(|()| self.identity(&claims, grant, key));
        Ok(Checked { identity, misunderstood })
    }

    /// Finds the key that signed a token: the one that it names, or one without a name, or any if it names none.
    fn signer(&self, parts: &Parts<'_>) -> Result<KeyId, TokenError> {
        let algorithm: Algorithm = parts.header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        let wanted = parts.header.kid.as_ref();
        // Read first: sets that a later fetch finds are for the next token.
        let fetched = self.key_sets.iter().map(|published| published.fetch.load(Ordering::Acquire)).min();
        let sets: Vec<_> = self.key_sets.iter().map(|published| published.keys.load_full()).collect();
        let published = || sets.iter().flatten().flat_map(|keys| keys.iter());
        let fits = |key: &&Key| {
            key.algorithm == algorithm
                && (wanted.is_none() || key.kid.is_none() || key.kid.as_ref() == wanted)
        };
        let mut candidates: Vec<&Key> = self.keys.iter().chain(published()).filter(fits).collect();
        // The named key is the likeliest.
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
        // The token was compared with the key that it names, so sets that cannot be read do not matter.
        let is_there = wanted.is_some() && candidates.first().is_some_and(|key| key.kid.as_ref() == wanted);
        let is_unread = || sets.iter().any(Option::is_none);
        let is_awaited = || is_missing && wanted.is_some_and(|name| self.awaits(name, fetched.unwrap_or(0)));
        if may_be_published && !is_there && (is_unread() || is_awaited()) {
            return Err(TokenError::NoKeys);
        }
        if !candidates.is_empty() {
            return Err(TokenError::Signature);
        }
        Err(without_candidate(&self.keys.iter().chain(published()), algorithm, wanted))
    }

    /// Whether a key called `name` may still be found: no fetch that began after a token first named the key has ended,
    /// as of the fetch `fetched`. A name that was not found is not awaited again.
    fn awaits(&self, name: &str, fetched: u64) -> bool {
        let fetches = self.fetches.load(Ordering::Acquire);
        if fetches == 0 {
            return false;
        }
        let Ok(since) = self.missing.get_or_insert_with(&sha256(name), || Ok::<_, Infallible>(fetches));
        fetched <= since
    }

    /// Checks the times, the issuer and the audience.
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
        let is_for_this_server = match &audience {
            Some(audience) => audience.iter().any(|name| self.audience.iter().any(|ours| ours == name)),
            // Without an `aud`, a token is for every server, unless `token_audience` requires one.
            None => self.audience.is_empty(),
        };
        if is_for_this_server { Ok(()) } else { Err(TokenError::Audience) }
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

/// The reason why none of `keys` may have signed a token with `algorithm` that names the key `wanted`. A named key is
/// not unknown if it is there for another algorithm, such as one of a set that does not say for which (`alg`).
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

/// A cache that grows as needed: most servers see few tokens.
fn cache<V: Clone>(items_max: usize) -> Cache<[u8; 32], V> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(CACHE_START)
        .weight_capacity(items_max as u64)
        .build()
        .expect("all required options are set");
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

/// Reads the material of a key that `setting` names, and returns it after a text that describes its place.
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

/// Removes the line end that editors and `echo` add to a text. Random bytes may end in the same way, and keep theirs.
fn without_line_end(secret: &mut Vec<u8>) {
    let text = secret.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
    if let Some(text) = text.filter(|text| text.iter().all(|byte| matches!(byte, b' '..=b'~'))) {
        let length = text.len();
        secret.truncate(length);
    }
}
