//! `tidegate check`: says whether the server would accept a token or an API key, what it allows, and why not.
//!
//! The decision is the server's own code; this file explains it.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, Error};

use crate::auth::api_keys::is_api_key;
use crate::auth::authority::Authority;
use crate::auth::claims::Parts;
use crate::auth::tokens::Tokens;
use crate::cli::tools::credential::Credential;
use crate::cli::tools::decide::{Asked, Required};
use crate::cli::tools::explain::{Case, LISTED_MAX};
use crate::cli::tools::time::when;
use crate::cli::tools::{NO, Output, misuse, quoted, with_cause};
use crate::config::{Config, read_file};
use crate::policy::Policy;
use crate::rights::grant::{Grant, Permission, PermissionName};
use crate::rights::identity::Identity;
use crate::types::name::{RoomName, UserName};
use crate::upstream::jwks::fetch_once;

pub(super) const NAME: &str = "check";

/// The question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    credential: Credential,
    asked: Option<Asked>,
    required: Option<Required>,
    jwks: Option<PathBuf>,
}

const ACTIONS: [&str; 6] = ["read", "publish", "publish-anywhere", "members", "disconnect", "administer"];

pub(super) fn command() -> Command {
    let arg = |id: &'static str, name: &'static str, help: &'static str| {
        Arg::new(id).long(id).value_name(name).help(help)
    };
    Command::new(NAME)
        .about("Say whether a token or an API key is accepted, what it allows, and why not")
        .after_help(
            "Exits with 0 for yes and with 1 for no. Also takes all flags of the server.\n\
             Revocations are not checked: only the running server has them.",
        )
        .next_line_help(true)
        .args([
            Credential::arg(
                "The token or the key. Without one, or for -, read from standard input, which other users cannot see",
            ),
            arg("room", "ROOM", "The room").value_parser(|text: &str| RoomName::new(text)),
            arg("user", "USER", "With read: the user to listen as")
                .value_parser(|text: &str| UserName::new(text)),
            arg(
                "require",
                "PERMISSION",
                "A permission that events require, in the room if one is given",
            )
            .value_parser(|text: &str| PermissionName::new(text)),
            arg("action", "ACTION", "The action to check; read, if a room is given")
                .value_parser(PossibleValuesParser::new(ACTIONS)),
            arg(
                "jwks",
                "FILE",
                "Keys to use instead of fetching the URLs of token_jwks",
            )
            .value_parser(clap::value_parser!(PathBuf)),
        ])
}

impl Check {
    pub(super) fn read(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            credential: Credential::read(matches)?,
            asked: asked(matches)?,
            required: matches
                .get_one::<PermissionName>("require")
                .cloned()
                .map(|name| Required { name, room: matches.get_one::<RoomName>("room").cloned() }),
            jwks: matches.get_one::<PathBuf>("jwks").cloned(),
        })
    }

    pub(super) fn run(&self, config: &Config, stdin: &mut dyn Read, now: u64) -> Output {
        if !config.authenticates() {
            return Output::by_settings(
                "token_keys, token_jwks and api_keys_file are empty: no authentication is set up, and tokens are not read",
            );
        }
        let policy = match Policy::new(config, &Arc::default()) {
            Ok(policy) => policy,
            Err(err) => return Output::by_settings(with_cause(&err)),
        };
        let authority = policy.authority.expect("something authenticates");
        let mut notes = String::new();
        let credential = self.credential.text(stdin);
        let credential =
            credential.and_then(|text| self.read_keys(&authority, config, &mut notes).map(|()| text));
        let credential = match credential {
            Ok(credential) => credential,
            Err(output) => return output,
        };
        let (mut lines, identity) = verify(&authority, config, &credential, now);
        let mut yes = identity.is_some();
        if let (Some(identity), Some(asked)) = (&identity, &self.asked) {
            let (allowed, why) = asked.decide(&authority, identity);
            lines.extend(why);
            yes &= allowed;
        }
        if let (Some(identity), Some(required)) = (&identity, &self.required) {
            let (gets, why) = required.decide(identity);
            lines.push(why);
            yes &= gets;
        }
        let code = if yes { 0 } else { NO };
        Output { out: lines.join("\n"), err: notes, code }
    }

    /// Reads the sets of keys that the server would fetch.
    fn read_keys(&self, authority: &Authority, config: &Config, notes: &mut String) -> Result<(), Output> {
        let urls = authority.tokens().into_iter().flat_map(Tokens::urls).enumerate();
        let given = self.jwks.as_deref().map(read_jwks).transpose().map_err(Output::misused)?;
        let mut asked = 0;
        for (index, url) in urls {
            asked += 1;
            let bytes = match &given {
                Some(bytes) => Ok(bytes.clone()),
                None => fetch_once(url, config.upstream_ca_file.as_deref()).map(Vec::from),
            };
            let tokens = authority.tokens().expect("they have URLs");
            let read = bytes.and_then(|bytes| tokens.set_jwks(index, &bytes).map_err(|err| err.to_string()));
            if let Err(reason) = read {
                let what =
                    if given.is_some() { "the set given by --jwks".to_owned() } else { url.to_string() };
                let _ =
                    writeln!(notes, "token_jwks: {what} can't be used: {reason}; pass --jwks FILE instead");
            }
        }
        if given.is_some() && asked == 0 {
            return Err(Output::misused("--jwks replaces the URLs of token_jwks, and there are none"));
        }
        Ok(())
    }
}

fn read_jwks(path: &Path) -> Result<Vec<u8>, String> {
    read_file(path).map_err(|err| format!("--jwks: cannot read {}: {err}", path.display()))
}

/// The action asked for. With only a room or a user, the action is to read.
fn asked(matches: &ArgMatches) -> Result<Option<Asked>, Error> {
    let room = matches.get_one::<RoomName>("room").cloned();
    let user = matches.get_one::<UserName>("user").cloned();
    let action = matches.get_one::<String>("action").map(String::as_str);
    let action = action.or_else(|| (room.is_some() || user.is_some()).then_some("read"));
    let Some(action) = action else { return Ok(None) };
    if user.is_some() && action != "read" {
        return Err(misuse(format!("--user is for read, not for {action}")));
    }
    Ok(Some(match (action, room) {
        ("publish-anywhere", None) => Asked::PublishAnywhere,
        ("administer", None) => Asked::Administer,
        ("publish-anywhere" | "administer", Some(_)) => {
            return Err(misuse(format!("{action} takes no --room")));
        }
        (_, None) => return Err(misuse(format!("{action} needs a room: wanted --room"))),
        ("read", Some(room)) => Asked::Read(room, user),
        ("publish", Some(room)) => Asked::Publish(room),
        ("members", Some(room)) => Asked::Members(room),
        (_, Some(room)) => Asked::Disconnect(room),
    }))
}

/// Returns the credential's identity, and what to print about it.
fn verify(
    authority: &Authority,
    config: &Config,
    credential: &str,
    now: u64,
) -> (Vec<String>, Option<Arc<Identity>>) {
    let refused = |why: &str| (vec![format!("refused: {why}")], None);
    if is_api_key(credential) {
        return match (authority.identify(credential, now), &config.api_keys_file) {
            (Ok(identity), _) => (by_api_key(&identity), Some(identity)),
            (Err(_), Some(path)) => refused(&format!("it is none of the API keys in {}", path.display())),
            (Err(_), None) => refused("it is an API key, and api_keys_file is off"),
        };
    }
    let Some(tokens) = authority.tokens() else {
        return refused(if config.auth_callback.is_some() {
            "token_keys and token_jwks name no keys; subscribers' credentials go to the application (auth_callback)"
        } else {
            "token_keys and token_jwks name no keys"
        });
    };
    match tokens.look_at(credential, now).and_then(|verdict| verdict.identity) {
        Ok(identity) => (by_token(config, credential, &identity, now), Some(Arc::new(identity))),
        Err(err) => {
            let case = Case { token: credential, tokens, config, now };
            (vec![format!("refused ({}): {}", err.as_str(), case.explain(err))], None)
        }
    }
}

fn by_api_key(identity: &Identity) -> Vec<String> {
    let name = identity.api_key.as_ref().map_or("", |key| &*key.name);
    let words: Vec<String> = identity.grant.permissions().map(Permission::to_string).collect();
    let mut lines = vec![format!("accepted: the API key {name}")];
    if let Some(rate) = identity.api_key.as_ref().and_then(|key| key.publish_rate) {
        lines.push(format!("publishes: {} events in {}", rate.events, humantime::format_duration(rate.per)));
    }
    lines.extend(permissions(words.iter().map(String::as_str)));
    lines
}

fn by_token(config: &Config, token: &str, identity: &Identity, now: u64) -> Vec<String> {
    // The token was parsed before, or there would be no identity.
    let Ok(parts) = Parts::of(token) else { return Vec::new() };
    let claims = parts.claims().unwrap_or_default();
    let kid = parts.header.kid.map_or_else(String::new, |kid| format!(", kid {}", quoted(&kid)));
    let mut lines = vec![format!("accepted: signed with {}{kid}", parts.header.alg)];
    lines
        .push(format!("user: {}", identity.user().map_or_else(|| "none (it has no sub)".to_owned(), quoted)));
    lines.extend(identity.token.as_ref().map(|name| format!("token: {}", quoted(name))));
    for (name, claim) in [("issued", "iat"), ("expires", "exp")] {
        let at = claims.time(claim).ok().flatten();
        lines.extend(at.map(|at| format!("{name}: {}", when(at, now))));
    }
    let claim = config.token_permissions_claim.as_str();
    if claims.get(claim).is_none() {
        let names: Vec<String> = claims.names().take(LISTED_MAX).map(quoted).collect();
        let more = if claims.names().count() > LISTED_MAX { ", …" } else { "" };
        let names = names.join(", ");
        lines.push(format!(
            "it has no claim {} (token_permissions_claim); it has {names}{more}",
            quoted(claim)
        ));
    }
    lines.extend(permissions(claims.words(claim).unwrap_or_default()));
    lines
}

/// The permissions among `words`, and the words that are none.
fn permissions<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let words: Vec<&str> = words.into_iter().collect();
    let (grant, misunderstood) = Grant::parse(words.iter().copied());
    let none = if grant.permissions().next().is_none() { " none" } else { "" };
    let mut lines = vec![format!("permissions:{none}")];
    lines.extend(grant.permissions().map(|permission| format!("  {permission}")));
    let told = misunderstood.iter().map(|(index, err)| {
        format!("not understood: permission {}, {}, {err}", index + 1, quoted(words[*index]))
    });
    lines.extend(told);
    lines
}
