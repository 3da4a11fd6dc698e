//! Asks sentinels which Redis is the master. The first that knows one is believed: whether it really is one shows when the
//! node attaches, and its replication id says what is shared.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, cmd};

/// The longest that one sentinel may take. It is asked within the time for connecting.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// Returns the host and port of the master called `name`.
pub(super) async fn master(sentinels: &[Client], name: &str) -> Option<(String, u16)> {
    for sentinel in sentinels {
        if let Ok(Some((host, port))) = ask(sentinel, name).await
            && let Ok(port) = port.parse()
        {
            return Some((host, port));
        }
    }
    None
}

async fn ask(sentinel: &Client, name: &str) -> redis::RedisResult<Option<(String, String)>> {
    let within = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    let mut conn = sentinel.get_multiplexed_async_connection_with_config(&within).await?;
    cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query_async(&mut conn).await
}
