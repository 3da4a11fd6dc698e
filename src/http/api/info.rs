//! `GET {base}/info`: the server as a whole.

use serde::Serialize;

use crate::engine::Engine;
use crate::http::api::json::json;
use crate::http::call::{Call, Handled};
use crate::http::gate::caller::Caller;
use crate::order::report::NodeInfo;
use crate::rights::grant::Action;
use crate::shard::stats::Stats;
use crate::types::histogram::Tally;
use crate::types::node::NodeId;

/// Describes the server to an administrator.
///
/// # Errors
///
/// As [`Caller::may`].
pub fn info(call: &Call<'_>, caller: &Caller) -> Handled {
    caller.may(Action::Administer)?;
    Ok(json(&read(call.engine())))
}

/// The server as a whole.
#[derive(Debug, Serialize)]
struct Info {
    version: &'static str,
    epoch: String,
    /// Id of the newest event.
    head: String,
    /// Where the order is kept.
    order: &'static str,
    uptime_s: u64,
    draining: bool,
    rooms: usize,
    users: usize,
    connections: u64,
    events_published: u64,
    history: History,
    shards: Vec<ShardInfo>,
    /// The nodes that share the order; absent if there is one process only.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<Node>>,
    limits: Limits,
}

/// A node as it said what it is, two seconds ago at most.
#[derive(Debug, Serialize)]
struct Node {
    id: String,
    /// Whether it is the one that answers.
    is_this: bool,
    address: String,
    /// When it started, in seconds since 1970.
    started_s: u64,
    connections: u64,
}

#[derive(Debug, Serialize)]
struct History {
    events: usize,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct ShardInfo {
    index: usize,
    connections: u64,
    lagging: u64,
    events_delivered: u64,
    bytes_sent: u64,
}

#[derive(Debug, Serialize)]
struct Limits {
    max_connections: usize,
    max_connections_per_user: Option<usize>,
    max_connections_per_address: Option<usize>,
    history_events: usize,
    history_bytes: usize,
    history_age_s: u64,
    history_total_bytes: usize,
    http_total_bytes: usize,
    max_requests: usize,
    max_waiting_requests: usize,
    max_event_bytes: usize,
    max_body_bytes: usize,
}

/// Reads all fields.
fn read(engine: &Engine) -> Info {
    let (hub, config) = (&engine.hub, &engine.config);
    let (events, bytes) = hub.history();
    let shard = |(index, stats): (usize, &Stats)| ShardInfo {
        index,
        connections: stats.connections.get(),
        lagging: stats.lagging.get(),
        events_delivered: stats.delivered.get(),
        bytes_sent: stats.bytes.iter().map(Tally::get).sum(),
    };
    let shards: Vec<ShardInfo> = engine.shard_stats().enumerate().map(shard).collect();
    Info {
        version: env!("CARGO_PKG_VERSION"),
        epoch: hub.epoch().to_string(),
        head: hub.position(hub.head()).to_string(),
        order: engine.config.order.as_str(),
        uptime_s: engine.clock.uptime().as_secs(),
        draining: hub.is_draining(),
        rooms: hub.rooms().len(),
        users: hub.users_connected(),
        connections: shards.iter().map(|shard| shard.connections).sum(),
        events_published: hub.events_published(),
        history: History { events, bytes },
        shards,
        nodes: nodes(engine),
        limits: Limits {
            max_connections: config.max_connections,
            max_connections_per_user: config.max_connections_per_user,
            max_connections_per_address: config.max_connections_per_address,
            history_events: config.history_events,
            history_bytes: config.history_bytes,
            history_age_s: config.history_age.as_secs(),
            history_total_bytes: hub.settings().history.bytes_max,
            http_total_bytes: engine.buffers.bytes_max(),
            max_requests: config.max_requests,
            max_waiting_requests: config.max_waiting_requests,
            max_event_bytes: config.max_event_bytes,
            max_body_bytes: config.max_body_bytes,
        },
    }
}

fn nodes(engine: &Engine) -> Option<Vec<Node>> {
    let peers = engine.shared.get()?.peers();
    let node = |(id, info): (NodeId, NodeInfo)| Node {
        id: id.to_string(),
        is_this: id == peers.me,
        address: info.address,
        started_s: info.started_s,
        connections: info.connections,
    };
    Some(peers.all().into_iter().map(node).collect())
}
