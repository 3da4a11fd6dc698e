//! Opens the order that the settings name: on disk, or in Redis.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::config::Config;
use crate::config::kinds::order::{Ack, OrderPlace};
use crate::engine::{Engine, shared};
use crate::order::memory::MemoryOrder;
use crate::order::redis::call::Beyond;
use crate::order::redis::link::Settings as LinkSettings;
use crate::order::redis::scripts::Keep;
use crate::server::start_error::StartError;
use crate::store::disk;
use crate::types::clock::Clock;
use crate::upstream::redis;
use crate::upstream::redis::stats::LinkStats;

/// How long before its start an order on disk has moments for: longer than anything may be kept in memory.
pub(super) const PAST: Duration = Duration::from_hours(31 * 24);

/// Opens the order on disk, if the settings name one.
pub(super) fn open_disk(
    config: &Config,
    order: &MemoryOrder,
    clock: Clock,
) -> Result<Option<disk::Opened>, StartError> {
    let OrderPlace::Disk(path) = &config.order else {
        return Ok(None);
    };
    let bytes_max = config.order_bytes as u64;
    let epoch = order.hub().epoch();
    disk::open(path, bytes_max, config.order_age, order, clock, epoch).map(Some).map_err(StartError::Disk)
}

/// Follows the order in Redis, if the settings name one. Returns once everything that is there has been read.
pub(super) fn follow_redis(engine: &Arc<Engine>) -> Result<Option<redis::Running>, StartError> {
    let config = &engine.config;
    let OrderPlace::Redis(url) = &config.order else {
        return Ok(None);
    };
    let address = redis::Address::parse(url.as_str()).map_err(StartError::Redis)?;
    let address = address.with_password_file(config.order_password_file.clone());
    let bytes = config.order_bytes as u64;
    let age_ms = u64::try_from(config.order_age.as_millis()).unwrap_or(u64::MAX);
    let life: String = std::iter::repeat_with(fastrand::alphanumeric).take(LIFE_CHARS).collect();
    let settings = LinkSettings::new(life.to_lowercase());
    let (unanswered_bytes_max, unanswered_max) = (UNANSWERED_BYTES_MAX, settings.waiting_max);
    let beyond = match config.ack() {
        Ack::RedisAndReplica => Some(Beyond::Replica),
        Ack::RedisDisk => Some(Beyond::Disk),
        Ack::Memory | Ack::Disk | Ack::Redis => None,
    };
    let stats = Arc::<LinkStats>::default();
    stats.losses.add_many(losses_before());
    let setup = redis::Setup {
        address: address.with_ca_file(config.order_ca_file.clone()),
        keep: Keep { prefix: config.order_prefix.clone(), bytes, age_ms },
        settings,
        beyond,
        stats: stats.clone(),
        unanswered_bytes_max,
        unanswered_max,
    };
    engine.hub.share();
    engine.hub.presence().report();
    let state = shared::State::new(bytes, config.order_age);
    let (caught_up, waiting) = mpsc::channel();
    let following = shared::Following::new(engine.clone(), state.clone(), caught_up);
    let (handle, running) = redis::start(setup, following)?;
    let _ = engine.shared.set(shared::Shared::new(handle, state, beyond.is_some(), stats));
    loop {
        match waiting.recv_timeout(CATCH_UP_REPORT) {
            Ok(()) => {
                meet(engine)?;
                return Ok(Some(running));
            }
            Err(_) if *engine.lifecycle.lost.borrow() => return Err(StartError::Lost),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(StartError::Lost),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let link = engine.shared.get().map_or("", |shared| shared.link().as_str());
                tracing::warn!(link, "nothing listens until the order in Redis has been read");
            }
        }
    }
}

/// Says hello to the other nodes, and waits for what they tell.
fn meet(engine: &Engine) -> Result<(), StartError> {
    say(engine, async |shared| shared.hello(engine).await)?;
    Ok(())
}

/// Says to the other nodes that this one ends.
pub(super) fn part(engine: &Engine) -> io::Result<()> {
    say(engine, shared::Shared::bye)
}

fn say(engine: &Engine, say: impl AsyncFnOnce(&shared::Shared)) -> io::Result<()> {
    let Some(shared) = engine.shared.get() else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(say(shared));
    Ok(())
}

/// In the environment of a process that starts anew: how often it has.
pub const LOSSES: &str = "tidegate_order_losses";

/// How often this process has lost a part of the order and started anew.
#[must_use]
pub fn losses_before() -> u64 {
    std::env::var(LOSSES).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// How often a start says that it waits for Redis.
const CATCH_UP_REPORT: Duration = Duration::from_secs(5);

/// Characters of the name of a node's life.
const LIFE_CHARS: usize = 12;

/// Bytes of events that wait for Redis.
const UNANSWERED_BYTES_MAX: u32 = 16 << 20;
