//! A key that verifies tokens, and the one algorithm it is for (RFC 8725 §3.1). A key never serves another algorithm,
//! whatever a token's header says.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, crypto};

use crate::rights::identity::KeyId;

/// Least bits of an RSA key (RFC 7518 §3.3).
pub const RSA_BITS_MIN: usize = 2048;

/// Most bits of an RSA key: with larger ones, strangers could cause long computations.
pub const RSA_BITS_MAX: usize = 8192;

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

/// Why a key is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyError {
    /// A public key was given as a secret: everyone has it and could sign with it.
    PublicAsSecret,
    /// A secret shorter than the output of its algorithm's hash (RFC 7518 §3.2).
    SecretShort,
    /// A private key was given in place of a public one.
    Private,
    /// It is not a public key of the kind that the algorithm needs.
    Form,
    /// An RSA key of less than [`RSA_BITS_MIN`] or more than [`RSA_BITS_MAX`] bits.
    RsaBits,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PublicAsSecret => {
                "is a public key, not a secret: with HS256, HS384 and HS512 its readers could make tokens"
            }
            Self::SecretShort => "is too short: HS256 takes 32 bytes at least, HS384 48 and HS512 64",
            Self::Private => {
                "is a private key, which only the issuer of the tokens needs; wanted the public one"
            }
            Self::Form => "is not one public key for this algorithm, in PEM (BEGIN PUBLIC KEY)",
            Self::RsaBits => "is an RSA key of less than 2048 or more than 8192 bits",
        })
    }
}

impl std::error::Error for KeyError {}

impl Key {
    /// A secret for one of the HS algorithms.
    ///
    /// # Errors
    ///
    /// If it is too short, or is not a secret.
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

    /// A public key in PEM (RFC 7468 §13) for any of the other algorithms. The text must contain nothing else: a second
    /// key would be ignored, and so would the expiry date of a certificate.
    ///
    /// # Errors
    ///
    /// If it is not a public key, or not for that algorithm.
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, KeyError> {
        if has(pem, b"PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        if memchr::memmem::find_iter(pem, PEM_BEGIN).count() != 1 || has(pem, b"CERTIFICATE-----") {
            return Err(KeyError::Form);
        }
        let key = match algorithm.family() {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
            AlgorithmFamily::Hmac => return Err(KeyError::Form),
        };
        Self::checked(algorithm, None, key.map_err(|_| KeyError::Form)?)
    }

    /// A key of a JWKS (RFC 7517). `None` for a key that is not for signatures, or of a kind that is not used here.
    /// Secrets are accepted only `with_secrets`: a published secret is not secret.
    ///
    /// # Errors
    ///
    /// If it should be usable but is not.
    pub fn from_jwk(jwk: &Jwk, with_secrets: bool) -> Result<Option<Self>, KeyError> {
        let Some(algorithm) = algorithm_of(jwk).filter(|_| is_for_signatures(jwk)) else {
            return Ok(None);
        };
        if !is_of_its_curve(algorithm, jwk) {
            return Err(KeyError::Form);
        }
        let kid = jwk.common.key_id.clone();
        if let AlgorithmParameters::OctetKey(secret) = &jwk.algorithm {
            if !with_secrets {
                return Ok(None);
            }
            let secret = URL_SAFE_NO_PAD.decode(&secret.value).map_err(|_| KeyError::Form)?;
            return Self::from_secret(algorithm, &secret).map(|key| Some(Self { kid, ..key }));
        }
        if let AlgorithmParameters::RSA(key) = &jwk.algorithm {
            // Some issuers write a zero in front, as DER does; a JWK should have none (RFC 7518 §2).
            let number = |text: &str| {
                let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Form)?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                Ok(bytes[zeros..].to_vec())
            };
            let key = DecodingKey::from_rsa_raw_components(&number(&key.n)?, &number(&key.e)?);
            return Self::checked(algorithm, kid, key).map(Some);
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| KeyError::Form)?;
        Self::checked(algorithm, kid, key).map(Some)
    }

    fn checked(algorithm: Algorithm, kid: Option<String>, key: DecodingKey) -> Result<Self, KeyError> {
        if key.family() != algorithm.family() {
            return Err(KeyError::Form);
        }
        match key.family() {
            AlgorithmFamily::Rsa => {
                let bits = rsa_bits(algorithm, &key).ok_or(KeyError::Form)?;
                if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
                    return Err(KeyError::RsaBits);
                }
                if !is_rsa_key(&key) {
                    return Err(KeyError::Form);
                }
            }
            _ if is_point(algorithm, &key) => {}
            _ => return Err(KeyError::Form),
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

    /// Whether `signature`, in base64url, is this key's signature of `message`.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.material, self.algorithm).unwrap_or(false)
    }
}

/// Computes a name for a key from its material.
pub(super) fn fingerprint(material: &[u8]) -> KeyId {
    let hash = digest(&SHA256, material);
    let first: [u8; 8] = hash.as_ref()[..8].try_into().expect("a hash of 32 bytes");
    KeyId(u64::from_be_bytes(first))
}

/// The algorithm a JWK is for: the one it names, or else the only one of its curve. An RSA key could be for any of six;
/// if it names none, it is for RS256 only.
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

/// Whether the curve that a JWK names is the one of `algorithm` (RFC 7518 §3.4, RFC 8037 §3.1). The point alone does
/// not show it: a program that reads `crv` would use another curve.
fn is_of_its_curve(algorithm: Algorithm, jwk: &Jwk) -> bool {
    let curve = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => &key.curve,
        AlgorithmParameters::OctetKeyPair(key) => &key.curve,
        _ => return true,
    };
    match algorithm {
        Algorithm::ES256 => *curve == EllipticCurve::P256,
        Algorithm::ES384 => *curve == EllipticCurve::P384,
        Algorithm::EdDSA => *curve == EllipticCurve::Ed25519,
        _ => false,
    }
}

/// Whether the set allows this key to verify signatures (RFC 7517 §4.2, §4.3).
fn is_for_signatures(jwk: &Jwk) -> bool {
    let operations = jwk.common.key_operations.as_ref();
    !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)))
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

/// Whether the key is an uncompressed point on the curve of `algorithm`: 4, x, y (SEC 1 §2.3.3), or the form of
/// Ed25519.
fn is_point(algorithm: Algorithm, key: &DecodingKey) -> bool {
    let DecodingKeyKind::SecretOrDer(bytes) = key.kind() else { return false };
    let parsed = match algorithm {
        Algorithm::ES256 if bytes.len() == 1 + 2 * 32 => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes)
        }
        Algorithm::ES384 if bytes.len() == 1 + 2 * 48 => {
            ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes)
        }
        Algorithm::EdDSA if bytes.len() == 32 => ParsedPublicKey::new(&ED25519, bytes),
        _ => return false,
    };
    parsed.is_ok()
}

/// Whether the numbers can be an RSA key: with an exponent of 1, every text would be its own signature.
fn is_rsa_key(key: &DecodingKey) -> bool {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).is_ok(),
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
            let parsed = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
            is_odd(n) && is_odd(e) && e[..] != [1] && parsed.is_ok()
        }
    }
}

fn rsa_bits(algorithm: Algorithm, key: &DecodingKey) -> Option<usize> {
    let jwk = Jwk::from_decoding_key(key, Some(algorithm)).ok()?;
    let AlgorithmParameters::RSA(parameters) = &jwk.algorithm else { return None };
    let modulus = URL_SAFE_NO_PAD.decode(&parameters.n).ok()?;
    let modulus = &modulus[modulus.iter().position(|byte| *byte != 0)?..];
    Some(modulus.len() * 8 - modulus[0].leading_zeros() as usize)
}

/// Whether `secret` has the form of a public key, plain or in base64.
fn looks_public(secret: &[u8]) -> bool {
    let text: Vec<u8> = secret.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let unpadded = text.iter().rposition(|byte| *byte != b'=').map_or(&text[..0], |last| &text[..=last]);
    let decoded = STANDARD_NO_PAD.decode(unpadded).or_else(|_| URL_SAFE_NO_PAD.decode(unpadded));
    is_public_form(secret) || decoded.is_ok_and(|decoded| is_public_form(&decoded))
}

/// PEM and the like, OpenSSH, a JWK, XML, or DER.
fn is_public_form(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    let is_ssh =
        [&b"ssh-"[..], b"ecdsa-", b"sk-ssh-", b"sk-ecdsa-"].iter().any(|word| text.starts_with(word));
    is_der(bytes)
        || is_ssh
        || has(bytes, PEM_BEGIN)
        || has(bytes, b"---- BEGIN")
        || has(bytes, b"<RSAKeyValue>")
        || (text.starts_with(b"{") && has(bytes, b"\"kty\""))
}

/// Whether the bytes are one DER sequence that begins with a number or another sequence, as all keys and certificates
/// do.
fn is_der(bytes: &[u8]) -> bool {
    let (length, inside) = match bytes {
        [0x30, 0x82, high, low, inside @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), inside),
        [0x30, 0x81, length, inside @ ..] | [0x30, length @ 0..=0x7f, inside @ ..] => {
            (usize::from(*length), inside)
        }
        _ => return false,
    };
    inside.len() == length && matches!(inside.first(), Some(0x02 | 0x30))
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

const PEM_BEGIN: &[u8] = b"-----BEGIN";
