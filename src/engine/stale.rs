//! Tells subscribers that the order in Redis has not been heard of for a while: what others publish does not reach them.

use std::time::Duration;

use crate::engine::Engine;
use crate::hub::mailbox::Command;

/// The order is away for so long before subscribers are told. A failover takes a few seconds.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches the order, if the settings say that subscribers are to be told. Tells each that is there then, once each time that it
/// is away.
pub async fn watch(engine: &Engine) {
    let Some(shared) = engine.shared.get().filter(|_| engine.config.order_stale) else {
        return std::future::pending().await;
    };
    let mut is_told = false;
    let mut interval = tokio::time::interval(LOOK_EVERY);
    loop {
        interval.tick().await;
        let away = Duration::from_secs_f64(shared.stats.echo_age_s());
        if away < STALE_AFTER {
            is_told = false;
        } else if !is_told {
            is_told = true;
            let told = engine.tell_shards(|reply| Command::Stale { away, reply }).await;
            tracing::warn!(
                streams = told.iter().sum::<u32>(),
                "subscribers are told that they may miss events"
            );
        }
    }
}
