//! A key that tokens are held against, and the one algorithm it is for (RFC 8725 §3.1). A key never serves another
//! algorithm, whatever a token says of itself.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, crypto};

use super::identity::KeyId;

/// Bits an RSA key has at least (RFC 7518 §3.3).
pub const RSA_BITS_MIN: usize = 2048;

/// A key with its algorithm.
pub struct Key {
    /// The only algorithm it is for.
    pub algorithm: Algorithm,
    /// Its name, if it has one.
    pub kid: Option<String>,
    /// Its fingerprint.
    pub id: KeyId,
    material: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Why something is no key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyError {
    /// Somebody's public key was given as a secret: whoever has it, and that is everyone, could sign with it.
    PublicAsSecret,
    /// A secret shorter than what its algorithm's hash gives (RFC 7518 §3.2).
    SecretShort,
    /// A private key was given where a public one belongs.
    Private,
    /// It is not a public key of the kind that the algorithm takes.
    Form,
    /// An RSA key of less than [`RSA_BITS_MIN`] bits.
    RsaShort,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PublicAsSecret => {
                "is a public key and no secret: with HS256, HS384 and HS512 whoever has it can make tokens"
            }
            Self::SecretShort => "is too short: HS256 takes 32 bytes at least, HS384 48 and HS512 64",
            Self::Private => {
                "is a private key, which belongs with whoever makes the tokens; wanted the public one"
            }
            Self::Form => "is not a public key for this algorithm, in PEM (BEGIN PUBLIC KEY)",
            Self::RsaShort => "is an RSA key of less than 2048 bits",
        })
    }
}

impl std::error::Error for KeyError {}

impl Key {
    /// A secret for one of the HS algorithms.
    ///
    /// # Errors
    ///
    /// If it is too short, or anything but a secret.
    pub fn from_secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        if looks_public(secret) {
            return Err(KeyError::PublicAsSecret);
        }
        let least = match algorithm {
            Algorithm::HS256 => 32,
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => return Err(KeyError::Form),
        };
        if secret.len() < least {
            return Err(KeyError::SecretShort);
        }
        Ok(Self::new(algorithm, None, DecodingKey::from_secret(secret)))
    }

    /// A public key in PEM (RFC 7468 §13) for any of the other algorithms.
    ///
    /// # Errors
    ///
    /// If it is none, or not for that algorithm.
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, KeyError> {
        if pem.windows(PRIVATE.len()).any(|window| window == PRIVATE) {
            return Err(KeyError::Private);
        }
        let key = match algorithm.family() {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
            AlgorithmFamily::Hmac => return Err(KeyError::Form),
        };
        Self::checked(algorithm, None, key.map_err(|_| KeyError::Form)?)
    }

    /// A key of a JWKS (RFC 7517). `None` for one that is not for signatures, or of a kind that is not used here. Secrets
    /// are taken only `with_secrets`: what is published somewhere is none.
    ///
    /// # Errors
    ///
    /// If it should be usable and is not.
    pub fn from_jwk(jwk: &Jwk, with_secrets: bool) -> Result<Option<Self>, KeyError> {
        let is_for_signatures =
            !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)));
        let Some(algorithm) = algorithm_of(jwk).filter(|_| is_for_signatures) else {
            return Ok(None);
        };
        let kid = jwk.common.key_id.clone();
        if let AlgorithmParameters::OctetKey(secret) = &jwk.algorithm {
            if !with_secrets {
                return Ok(None);
            }
            let secret = URL_SAFE_NO_PAD.decode(&secret.value).map_err(|_| KeyError::Form)?;
            return Self::from_secret(algorithm, &secret).map(|key| Some(Self { kid, ..key }));
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| KeyError::Form)?;
        Self::checked(algorithm, kid, key).map(Some)
    }

    fn checked(algorithm: Algorithm, kid: Option<String>, key: DecodingKey) -> Result<Self, KeyError> {
        let length = match key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => bytes.len(),
            DecodingKeyKind::RsaModulusExponent { n, .. } => n.len(),
        };
        let fits = match algorithm {
            // A point in full: 4, x, y (SEC 1 §2.3.3).
            Algorithm::ES256 => length == 1 + 2 * 32,
            Algorithm::ES384 => length == 1 + 2 * 48,
            Algorithm::EdDSA => length == 32,
            _ => key.family() == algorithm.family(),
        };
        if !fits {
            return Err(KeyError::Form);
        }
        if key.family() == AlgorithmFamily::Rsa
            && rsa_bits(algorithm, &key).is_none_or(|bits| bits < RSA_BITS_MIN)
        {
            return Err(KeyError::RsaShort);
        }
        Ok(Self::new(algorithm, kid, key))
    }

    fn new(algorithm: Algorithm, kid: Option<String>, key: DecodingKey) -> Self {
        let mut bytes = format!("{algorithm:?}:").into_bytes();
        match key.kind() {
            DecodingKeyKind::SecretOrDer(material) => bytes.extend_from_slice(material),
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                bytes.extend_from_slice(n);
                bytes.extend_from_slice(e);
            }
        }
        Self { algorithm, kid, id: fingerprint(&bytes), material: key }
    }

    /// Whether `signature`, in base64url, is this key's over `message`.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.material, self.algorithm).unwrap_or(false)
    }
}

/// Names a key by what it is made of.
pub(super) fn fingerprint(material: &[u8]) -> KeyId {
    let hash = digest(&SHA256, material);
    let first: [u8; 8] = hash.as_ref()[..8].try_into().expect("a hash of 32 bytes");
    KeyId(u64::from_be_bytes(first))
}

/// The algorithm a JWK is for: what it says itself, or else the only one its curve is for, or the most common one.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let fits = |algorithm: Algorithm| {
        let family = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa,
            AlgorithmParameters::EllipticCurve(_) => AlgorithmFamily::Ec,
            AlgorithmParameters::OctetKeyPair(_) => AlgorithmFamily::Ed,
            AlgorithmParameters::OctetKey(_) => AlgorithmFamily::Hmac,
            _ => return None,
        };
        (algorithm.family() == family).then_some(algorithm)
    };
    if let Some(named) = &jwk.common.key_algorithm {
        return named.to_string().parse().ok().and_then(fits);
    }
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Some(Algorithm::ES256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Some(Algorithm::ES384),
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(Algorithm::EdDSA)
        }
        _ => None,
    }
}

fn rsa_bits(algorithm: Algorithm, key: &DecodingKey) -> Option<usize> {
    let jwk = Jwk::from_decoding_key(key, Some(algorithm)).ok()?;
    let AlgorithmParameters::RSA(parameters) = &jwk.algorithm else { return None };
    let modulus = URL_SAFE_NO_PAD.decode(&parameters.n).ok()?;
    let modulus = &modulus[modulus.iter().position(|byte| *byte != 0)?..];
    Some(modulus.len() * 8 - modulus[0].leading_zeros() as usize)
}

/// Whether this is what public keys look like: PEM, OpenSSH, a JWK, a certificate, or DER.
fn looks_public(secret: &[u8]) -> bool {
    let text = secret.trim_ascii_start();
    let has = |needle: &[u8]| secret.windows(needle.len()).any(|window| window == needle);
    let is_der = match secret {
        [0x30, 0x82, high, low, rest @ ..] => rest.len() == usize::from(u16::from_be_bytes([*high, *low])),
        [0x30, 0x81, length, rest @ ..] | [0x30, length @ 0..=0x80, rest @ ..] => {
            rest.len() == usize::from(*length)
        }
        _ => false,
    };
    is_der
        || has(b"-----BEGIN")
        || text.starts_with(b"ssh-")
        || text.starts_with(b"ecdsa-")
        || (text.starts_with(b"{") && has(b"\"kty\""))
}

const PRIVATE: &[u8] = b"PRIVATE KEY-----";
