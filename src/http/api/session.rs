//! `POST {base}/refresh` and `POST {base}/revoke`: extend or end the right of open streams.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::answer::problem::{Code, Problem};
use crate::http::api::json::json;
use crate::http::api::publish::malformed;
use crate::http::call::{Call, Handled};
use crate::http::gate::caller::Caller;
use crate::http::request_body;
use crate::hub::mailbox::{Command, Refresh, Refreshed};
use crate::order::change::Change;
use crate::rights::grant::Action;
use crate::rights::revocation::{Revoked, TOKEN_NAME_BYTES_MAX, When, Whose};
use crate::shard::conn::ConnKey;
use crate::types::name::UserName;

/// Bytes the body of such a request may have.
const BODY_BYTES_MAX: usize = 4 << 10;

/// Which streams to keep.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshBody {
    /// The stream's key from its `connected` event. If absent, all of the user's streams.
    connection: Option<String>,
}

/// The answer to a refresh.
#[derive(Debug, Serialize)]
struct RefreshAnswer {
    /// Streams that may stay as long as the new token is valid.
    refreshed: u32,
    /// Streams in rooms that the new token does not allow. They end with the old token.
    refused: u32,
    /// Seconds until the new token expires; absent if it never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_s: Option<u64>,
}

/// Extends the caller's streams by the token of this request.
///
/// # Errors
///
/// [`Code::Unauthorized`] without a token; [`Code::Forbidden`] if it has no user, or allows none of the streams;
/// [`Code::ConnectionUnknown`] if there are no streams.
pub async fn refresh(call: Call<'_>, caller: &Caller) -> Handled {
    let engine = call.engine();
    let identity = match caller {
        Caller::Known(_, identity) => identity.clone(),
        Caller::Anonymous(_) => return Err(Code::Unauthorized.into()),
        // Without authentication there are no tokens, so no stream ends with one.
        Caller::Open => return Err(Code::ConnectionUnknown.into()),
    };
    let user = identity.user().ok_or(Code::Forbidden)?;
    let body: RefreshBody = read(call, caller, Code::BodyMalformed).await?;
    let connection = body.connection.as_deref().map(connection).transpose()?;
    let user = engine.hub.users().get(user).ok_or(Code::ConnectionUnknown)?;
    let session = engine.access.session(identity.clone());
    let asker = caller.clone();
    let may_read: Arc<dyn Fn(&str) -> bool + Send + Sync> =
        Arc::new(move |room| asker.may(Action::Read(room)).is_ok());
    let mut shard = 0;
    let command = |reply| {
        // The other shards are asked about a key that no connection has.
        let key = connection.map(|(at, key)| if at == shard { key } else { u64::MAX });
        shard += 1;
        Command::Refresh(Box::new(Refresh {
            user: user.clone(),
            connection: key,
            session: session.clone(),
            may_read: may_read.clone(),
            reply,
        }))
    };
    let answers = engine.ask_shards(command).await?;
    if !engine.access.trusts(&identity) {
        // The token was revoked before any stream had it, so the revocation did not close these streams.
        engine.end_streams(Whose::Identity(identity)).await?;
        return Err(Code::Unauthorized.into());
    }
    let mut sum = Refreshed::default();
    for refreshed in answers {
        sum.connections += refreshed.connections;
        sum.refused += refreshed.refused;
    }
    match sum {
        Refreshed { connections: 0, refused: 0 } => Err(Code::ConnectionUnknown.into()),
        Refreshed { connections: 0, .. } => Err(Code::Forbidden.into()),
        Refreshed { connections, refused } => Ok(json(&RefreshAnswer {
            refreshed: connections,
            refused,
            expires_in_s: identity.expires.map(|expires| expires.saturating_sub(engine.clock.unix_s())),
        })),
    }
}

/// Parses `shard.slot.generation`, as `connected` has it, into the shard and the key.
fn connection(text: &str) -> Result<(usize, u64), Problem> {
    let mut numbers = text.splitn(3, '.').map(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().flatten().ok_or(Code::BodyMalformed);
    let mut key =
        || Ok::<_, Code>((next()? as usize, ConnKey { slot: next()?, generation: next()? }.to_u64()));
    key().map_err(|code| Problem::new(code).with_detail(NOT_A_REFRESH).about("connection"))
}

/// What to revoke: exactly one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    user: Option<String>,
    token: Option<String>,
}

/// The answer to a revocation.
#[derive(Debug, Serialize)]
struct RevokeAnswer {
    /// Streams that are being closed.
    closed: u32,
}

/// Revokes a user's tokens, or one token by its `jti`, and closes the streams they opened.
///
/// # Errors
///
/// [`Code::RevocationInvalid`] unless the body names exactly one of the two; [`Code::RevocationsFull`]. Then nothing is
/// revoked.
pub async fn revoke(call: Call<'_>, caller: &Caller) -> Handled {
    let engine = call.engine();
    caller.may(Action::Administer)?;
    let body: RevokeBody = read(call, caller, Code::RevocationInvalid).await?;
    let revoked = match (body.user, body.token) {
        (Some(user), None) => Revoked::User(UserName::new(&user).map_err(|_| Code::TargetUserInvalid)?),
        (None, Some(token)) if (1..=TOKEN_NAME_BYTES_MAX).contains(&token.len()) => {
            Revoked::Token(token.into())
        }
        _ => return Err(Code::RevocationInvalid.into()),
    };
    let when =
        When { at: engine.clock.unix_s(), leeway_s: engine.access.policy.load().token_leeway.as_secs() };
    let closed = engine.propose(Change::Revoke { revoked, when }).await?;
    Ok(json(&RevokeAnswer { closed }))
}

const NOT_A_REFRESH: &str =
    "the body is empty, or names one stream by the key in its connected event: {\"connection\":\"1.2.0\"}";

/// Reads the body as JSON; an empty body counts as `{}`. JSON of another form is `wrong`.
async fn read<T: for<'de> Deserialize<'de>>(
    call: Call<'_>,
    caller: &Caller,
    wrong: Code,
) -> Result<T, Problem> {
    let whole = request_body::collect(call, caller, BODY_BYTES_MAX).await?;
    let text = malformed::text(&whole.bytes)?;
    let text = if text.trim_ascii().is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|err| {
        let is_other = err.is_data() && wrong != Code::BodyMalformed;
        if is_other { wrong.into() } else { malformed::from_json(text, &err, NOT_A_REFRESH) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_named_as_it_was_told() {
        let key = ConnKey { slot: 7, generation: 2 };
        assert_eq!(connection("1.7.2"), Ok((1, key.to_u64())));
        for text in ["", "1", "1.7", "1.7.2.3", "1.7.x", "-1.7.2", "1.7.4294967296", "1.7. 2"] {
            let problem = connection(text).expect_err(text);
            assert_eq!(
                (problem.code, problem.detail),
                (Code::BodyMalformed, Some(NOT_A_REFRESH)),
                "{text:?}"
            );
        }
    }
}
