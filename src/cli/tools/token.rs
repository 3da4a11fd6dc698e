//! `tidegate token`: makes a token for development. In production, the service that has the users makes tokens.

use clap::{Arg, ArgAction, ArgMatches, Command, Error};
use jsonwebtoken::{AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value, json};

use crate::auth::claims::TOKEN_BYTES_MAX;
use crate::auth::key::Key;
use crate::auth::tokens::read_material;
use crate::cli::tools::credential::Credential;
use crate::cli::tools::{Output, When, inspect, misuse, with_cause};
use crate::config::{Config, EX_CONFIG, EX_USAGE, TokenKey, parse_token_key};
use crate::rights::grant::{PERMISSIONS_MAX, Permission, PermissionError};
use crate::rights::revocation::TOKEN_NAME_BYTES_MAX;
use crate::types::name::UserName;

pub(super) const NAME: &str = "token";

/// The token to make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewToken {
    user: Option<UserName>,
    allow: Vec<String>,
    expires: When,
    not_before: Option<When>,
    id: Option<String>,
    issuer: Option<String>,
    audience: Vec<String>,
    key: Option<TokenKey>,
    kid: Option<String>,
}

pub(super) fn command() -> Command {
    let one = |id: &'static str, name: &'static str, help: &'static str| {
        Arg::new(id).long(id).value_name(name).conflicts_with(inspect::FLAG).help(help)
    };
    let several = |id, name, help| one(id, name, help).action(ArgAction::Append);
    let user = |text: &str| UserName::new(text);
    Command::new(NAME)
        .about("Make a token for development, or show the content of one")
        .after_help(
            "It is signed with the first HS key of `token_keys`, or with --key. Also takes all flags\n\
             of the server.",
        )
        .next_line_help(true)
        .args([
            one("user", "USER", "The user (sub)").value_parser(user),
            allow().conflicts_with(inspect::FLAG),
            one("expires", "WHEN", "When it expires (exp): 10m, -5m, or 2026-11-21T10:00:00Z")
                .default_value("1h")
                .allow_hyphen_values(true)
                .value_parser(When::parse),
            one("not-before", "WHEN", "When it becomes valid (nbf)")
                .allow_hyphen_values(true)
                .value_parser(When::parse),
            one("id", "JTI", "The token's id (jti), by which it can be revoked").value_parser(id),
            one("issuer", "TEXT", "The issuer (iss) [default: token_issuer]"),
            several("audience", "TEXT", "The audience (aud) [default: the first of token_audience]"),
            one(
                "key",
                "ALG:SOURCE",
                "The key to sign with: ALG:file:/PATH, a secret or a private key in PEM",
            ),
            one("kid", "KID", "The name of that key"),
            inspect::flag(),
            Credential::arg("With --inspect: the token. Without one, or for -, read from standard input")
                .requires(inspect::FLAG),
        ])
}

/// `--allow`, which another subcommand also has.
pub(super) fn allow() -> Arg {
    Arg::new("allow")
        .long("allow")
        .value_name("PERMISSION")
        .action(ArgAction::Append)
        .value_parser(permission)
        .help("A permission, such as sse:read:lobby; may be repeated")
}

fn permission(text: &str) -> Result<String, PermissionError> {
    Permission::parse(text).map(|_| text.to_owned())
}

fn id(text: &str) -> Result<String, String> {
    let fits = (1..=TOKEN_NAME_BYTES_MAX).contains(&text.len());
    fits.then(|| text.to_owned()).ok_or_else(|| format!("wanted 1 to {TOKEN_NAME_BYTES_MAX} bytes"))
}

/// All values given for `id`.
pub(super) fn texts(matches: &ArgMatches, id: &str) -> Vec<String> {
    matches.get_many::<String>(id).into_iter().flatten().cloned().collect()
}

impl NewToken {
    pub(super) fn read(matches: &ArgMatches) -> Result<Self, Error> {
        let text = |id: &str| matches.get_one::<String>(id).cloned();
        // Not parsed by clap, whose error would repeat it.
        let key = text("key").map(|text| parse_token_key(&text)).transpose();
        let allow = texts(matches, "allow");
        if allow.len() > PERMISSIONS_MAX {
            return Err(misuse(format!("--allow: wanted at most {PERMISSIONS_MAX} permissions")));
        }
        Ok(Self {
            user: matches.get_one::<UserName>("user").cloned(),
            allow,
            expires: matches.get_one::<When>("expires").copied().expect("it has a default"),
            not_before: matches.get_one::<When>("not-before").copied(),
            id: text("id"),
            issuer: text("issuer"),
            audience: texts(matches, "audience"),
            key: key.map_err(|wanted| misuse(format!("--key: {wanted}")))?,
            kid: text("kid"),
        })
    }

    pub(super) fn run(&self, config: &Config, now: u64) -> Output {
        let by_settings =
            || config.token_keys.iter().find(|key| key.algorithm.family() == AlgorithmFamily::Hmac);
        let (key, setting, code) = match (&self.key, by_settings()) {
            (Some(key), _) => (key, "--key", EX_USAGE),
            (None, Some(key)) => (key, "token_keys", EX_CONFIG),
            (None, None) => {
                return Output::by_settings(
                    "token_keys: wanted a secret to sign with, such as HS256:file:/etc/tidegate/token.key; or give --key",
                );
            }
        };
        match self.sign(key, setting, &Value::Object(self.claims(config, now))) {
            Err(err) => Output { err, code, ..Output::default() },
            Ok(token) if token.len() > TOKEN_BYTES_MAX => Output::misused(format!(
                "the token would have {} bytes, and the server accepts {TOKEN_BYTES_MAX} at most",
                token.len()
            )),
            Ok(token) => Output { out: token, ..Output::default() },
        }
    }

    fn claims(&self, config: &Config, now: u64) -> Map<String, Value> {
        let mut claims = Map::new();
        claims.insert(config.token_permissions_claim.clone(), json!(self.allow));
        let audience = match &self.audience[..] {
            [] => config.token_audience.first().map(|one| json!(one)),
            [one] => Some(json!(one)),
            several => Some(json!(several)),
        };
        let rest = [
            ("sub", self.user.as_ref().map(|user| json!(user.as_str()))),
            ("iat", Some(json!(now))),
            ("nbf", self.not_before.map(|when| json!(when.seconds(now)))),
            ("exp", Some(json!(self.expires.seconds(now)))),
            ("jti", self.id.as_ref().map(|id| json!(id))),
            ("iss", self.issuer.as_ref().or(config.token_issuer.as_ref()).map(|issuer| json!(issuer))),
            ("aud", audience),
        ];
        claims.extend(rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        claims
    }

    fn sign(&self, key: &TokenKey, setting: &'static str, claims: &Value) -> Result<String, String> {
        let (what, bytes) = read_material(setting, key).map_err(|err| with_cause(&err))?;
        let algorithm = key.algorithm;
        let wrong_key = || {
            format!(
                "{setting}: {what} is not a private key for {algorithm:?} in PEM (BEGIN PRIVATE KEY, as openssl genpkey \
                 writes it)"
            )
        };
        let signer = match algorithm.family() {
            AlgorithmFamily::Hmac => {
                Key::from_secret(algorithm, &bytes).map_err(|err| format!("{setting}: {what} {err}"))?;
                EncodingKey::from_secret(&bytes)
            }
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(&bytes).map_err(|_| wrong_key())?,
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(&bytes).map_err(|_| wrong_key())?,
            AlgorithmFamily::Ed => EncodingKey::from_ed_pem(&bytes).map_err(|_| wrong_key())?,
        };
        let header = Header { kid: self.kid.clone(), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, claims, &signer).map_err(|_| wrong_key())
    }
}
