//! Asks sentinels which Redis is the master. The first that knows one is believed: whether it really is one shows when the
//! node attaches, and its replication id says what is shared.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ErrorKind, cmd};

use crate::upstream::redis::address::Sentinel;

/// The longest that one sentinel may take. It is asked within the time for connecting.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// Returns the host and port of the master called `name`.
///
/// # Errors
///
/// What the last sentinel said instead.
pub(super) async fn master(sentinels: &[Sentinel], name: &str) -> Result<(String, u16), String> {
    let mut cause = format!("no sentinel knows a master {name:?}");
    for sentinel in sentinels {
        match ask(sentinel, name).await {
            Ok(Some((host, port))) => {
                return port.parse().map(|port| (host, port)).map_err(|_| "a port is a number".into());
            }
            Ok(None) => {}
            Err(err) => cause = format!("a sentinel: {err}"),
        }
    }
    Err(cause)
}

type Place = Option<(String, String)>;

async fn ask(sentinel: &Sentinel, name: &str) -> redis::RedisResult<Place> {
    let Some(with) = &sentinel.with else { return ask_by(&sentinel.without, name).await };
    match ask_by(with, name).await {
        // It has no such password, and perhaps none at all.
        Err(err) if err.kind() == ErrorKind::AuthenticationFailed => {
            ask_by(&sentinel.without, name).await.map_err(|_| err)
        }
        answer => answer,
    }
}

async fn ask_by(client: &Client, name: &str) -> redis::RedisResult<Place> {
    let within = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    let mut conn = client.get_multiplexed_async_connection_with_config(&within).await?;
    cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query_async(&mut conn).await
}
