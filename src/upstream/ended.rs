//! What the application is told of streams that ended (`disconnect_callback`).

use serde::Serialize;

use crate::shard::notice::Notice;
use crate::types::moment::Moment;
use crate::types::position::Epoch;
use crate::upstream::notices::Told;
use crate::upstream::stats::Purpose;

/// A batch as JSON.
#[derive(Serialize)]
struct Batch<'a> {
    /// The epoch of this server. Names of connections are unique only within one.
    epoch: &'a str,
    events: Vec<Ended<'a>>,
}

#[derive(Serialize)]
struct Ended<'a> {
    user: Option<&'a str>,
    rooms: Vec<&'a str>,
    reason: &'static str,
    /// The same name as in its `connected` event.
    connection: String,
    /// Counted from the time the batch is sent.
    opened_s_ago: f64,
    closed_s_ago: f64,
}

impl Told for Notice {
    const SETTING: &'static str = "disconnect_callback";
    const PURPOSE: Purpose = Purpose::Notice;

    fn body(batch: &[Self], epoch: Epoch, now: Moment) -> Vec<u8> {
        let ago = |moment| now.since(moment).as_secs_f64();
        let events = batch.iter().map(|notice| Ended {
            user: notice.user.as_ref().map(|user| user.name()),
            rooms: notice.rooms.iter().map(|room| room.name()).collect(),
            reason: notice.reason.as_str(),
            connection: notice.key.name(notice.shard),
            opened_s_ago: ago(notice.opened),
            closed_s_ago: ago(notice.closed),
        });
        let body = Batch { epoch: epoch.as_str(), events: events.collect() };
        serde_json::to_vec(&body).expect("text, numbers and lists always serialise")
    }
}
