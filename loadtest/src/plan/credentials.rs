//! The credentials of subscribers and the publisher, for servers that require them.
//!
//! For a server that is started here, the load test is the issuer: it starts the server with its key. For one that runs
//! already (`--url`) it is given the server's key, or a token and an API key. With a key, each subscriber has a token of
//! its own, which stays the same when that subscriber comes back.

use std::fmt;
use std::fs;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};

/// The key of servers that are started to be measured. It guards nothing else.
const SECRET: &[u8] = b"the load test's own key, 32 bytes or more";

/// Longer than any run, so that no token expires in it.
const LIFE: Duration = Duration::from_hours(14 * 24);

/// The permission that every subscriber's token has, for events that require it.
pub const PERMISSION: &str = "vip";

/// The credentials of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Credentials {
    /// Of the subscribers.
    subscribers: Proof,
    /// Of the publisher.
    publisher: Proof,
}

/// One kind of credential.
#[derive(Clone, Deserialize, Serialize)]
enum Proof {
    /// Nothing.
    Nothing,
    /// A token or an API key, the same for all.
    Text(String),
    /// A token made for each.
    Made(Issuer),
}

/// Which kind of proof, and never the proof itself.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subscribers showed {:?}, the publisher {:?}", self.subscribers, self.publisher)
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Text(_) => "one token or key",
            Self::Made(_) => "a token of its own",
        })
    }
}

impl Credentials {
    /// For a server that is started with [`Issuer::setting`].
    #[must_use]
    pub fn own() -> Self {
        let issuer = Issuer::own();
        Self { subscribers: Proof::Made(issuer.clone()), publisher: Proof::Made(issuer) }
    }

    /// For a server that runs already. `key` is one of its token keys. Without it all use `token`. The publisher uses
    /// `api_key` if there is one. `None` if all three are `None`.
    #[must_use]
    pub fn given(key: Option<Issuer>, token: Option<Text>, api_key: Option<Text>) -> Option<Self> {
        let subscribers = match (key, token) {
            (Some(key), _) => Proof::Made(key),
            (None, Some(token)) => Proof::Text(token.0),
            (None, None) => Proof::Nothing,
        };
        let publisher = api_key.map_or_else(|| subscribers.clone(), |key| Proof::Text(key.0));
        let is_nothing = matches!((&subscribers, &publisher), (Proof::Nothing, Proof::Nothing));
        (!is_nothing).then_some(Self { subscribers, publisher })
    }

    /// The header of a subscriber's request.
    #[must_use]
    pub fn subscriber(&self, user: &str) -> String {
        self.subscribers.header(Some(user), &["sse:read", PERMISSION])
    }

    /// The header of the publisher's.
    #[must_use]
    pub fn publisher(&self) -> String {
        self.publisher.header(None, &["sse:publish"])
    }
}

impl Proof {
    fn header(&self, sub: Option<&str>, permissions: &[&str]) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => format!("Authorization: Bearer {text}\r\n"),
            Self::Made(issuer) => format!("Authorization: Bearer {}\r\n", issuer.token(sub, permissions)),
        }
    }
}

/// Makes tokens.
#[derive(Clone, Deserialize, Serialize)]
pub struct Issuer {
    algorithm: Algorithm,
    secret: Vec<u8>,
    /// When all tokens expire, in seconds since 1970. Fixed, so that a subscriber's token is always the same.
    expires: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    exp: u64,
    permissions: &'a [&'a str],
}

impl Issuer {
    /// The `token_keys` of a server that is started to be measured.
    #[must_use]
    pub fn setting() -> String {
        format!("HS256:base64:{}", STANDARD.encode(SECRET))
    }

    fn own() -> Self {
        Self::new(Algorithm::HS256, SECRET.to_vec())
    }

    fn new(algorithm: Algorithm, secret: Vec<u8>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { algorithm, secret, expires: (now + LIFE).as_secs() }
    }

    fn token(&self, sub: Option<&str>, permissions: &[&str]) -> String {
        let claims = Claims { sub, exp: self.expires, permissions };
        let token = encode(&Header::new(self.algorithm), &claims, &EncodingKey::from_secret(&self.secret));
        token.expect("HS takes any key and these claims")
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:***", self.algorithm)
    }
}

/// As the server's `token_keys` has it: `HS256:base64:SECRET` or `HS256:file:PATH`, a file with the secret as it is.
impl FromStr for Issuer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "wanted a secret as in token_keys: HS256:base64:SECRET or HS256:file:PATH".to_owned();
        let (algorithm, source) = text.split_once(':').ok_or_else(wanted)?;
        let algorithm = match algorithm {
            "HS256" => Algorithm::HS256,
            "HS384" => Algorithm::HS384,
            "HS512" => Algorithm::HS512,
            _ => return Err(wanted()),
        };
        let secret = match source.split_once(':') {
            Some(("base64", secret)) => decode(secret).ok_or_else(wanted)?,
            Some(("file", path)) => secret_of(fs::read(path).map_err(|err| format!("{path}: {err}"))?),
            _ => return Err(wanted()),
        };
        Ok(Self::new(algorithm, secret))
    }
}

/// As the server reads it: either alphabet, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
    GeneralPurpose::new(&alphabet, lenient).decode(text).ok().filter(|bytes| !bytes.is_empty())
}

/// As the server reads it: the end of a line of text is not part of the secret.
fn secret_of(mut bytes: Vec<u8>) -> Vec<u8> {
    let text = bytes.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
    if let Some(text) = text.filter(|text| text.iter().all(|byte| matches!(byte, b' '..=b'~'))) {
        let length = text.len();
        bytes.truncate(length);
    }
    bytes
}

/// A token or key of the command line: the text itself, or `file:PATH`, which keeps it out of the list of processes.
#[derive(Clone)]
pub struct Text(String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Text {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = match text.strip_prefix("file:") {
            Some(path) => fs::read_to_string(path).map_err(|err| format!("{path}: {err}"))?,
            None => text.to_owned(),
        };
        let text = text.trim();
        // It goes into a header as it is.
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("wanted a token or key: text without spaces, or file:PATH".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        text.parse().expect("a token")
    }

    #[test]
    fn a_subscribers_token_is_its_own_and_stays_the_same() {
        let own = Credentials::own();
        assert_eq!(own.subscriber("u1"), own.subscriber("u1"));
        assert_ne!(own.subscriber("u1"), own.subscriber("u2"));
        assert_ne!(own.subscriber("u1"), own.publisher());
    }

    #[test]
    fn credentials_go_to_the_subscribers_and_the_publisher() {
        let shown = |key, token, api_key| {
            let given = Credentials::given(key, token, api_key).expect("something was given");
            (given.subscriber("u"), given.publisher())
        };
        let bearer = |text: &str| format!("Authorization: Bearer {text}\r\n");
        assert_eq!(shown(None, Some(text("t")), None), (bearer("t"), bearer("t")));
        assert_eq!(shown(None, Some(text("t")), Some(text("k"))), (bearer("t"), bearer("k")));
        // Rooms may be public while publishing requires a key.
        assert_eq!(shown(None, None, Some(text("k"))), (String::new(), bearer("k")));
        let (subscriber, publisher) = shown(Issuer::setting().parse().ok(), None, Some(text("k")));
        assert!(subscriber.starts_with("Authorization: Bearer ey"), "{subscriber}");
        assert_eq!(publisher, bearer("k"));
        assert!(Credentials::given(None, None, None).is_none());
    }

    #[test]
    fn what_is_no_credential_is_refused_and_none_is_shown() {
        for text in
            ["HS256:base64:!", "HS256:hex:00", "RS256:file:/a.pem", "secret", "HS256:file:/nowhere/key"]
        {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
        for text in ["", " ", "a b", "a\r\nx: y", "file:/nowhere/token"] {
            assert!(text.parse::<Text>().is_err(), "{text:?}");
        }
        let given = Credentials::given(Issuer::setting().parse().ok(), None, Some(text("hunter2")));
        let secret = STANDARD.encode(SECRET);
        let shown = format!("{given:?} {:?} {:?}", text("hunter2"), Issuer::own());
        assert!(
            !shown.contains("hunter2") && !shown.contains(&secret) && !shown.contains("116, 104"),
            "{shown}"
        );
    }
}
