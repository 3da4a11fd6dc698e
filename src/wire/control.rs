//! Events that the server itself sends: `connected`, `replayed`, `gap`, `overload`, `closing`, `expiring`, `muted`, `stale`, and the
//! heartbeat.
//!
//! An id never runs ahead of what was written before it, so each function says which id it writes.

use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::wire::frame::put_field;

/// What a heartbeat contains, fixed when a stream joins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Heartbeat {
    /// The comment [`COMMENT`] and nothing else.
    #[default]
    Comment,
    /// A comment, and the id up to which the stream has everything.
    Id,
}

/// A heartbeat without an id. There is no blank line: widely used parsers (fetch-event-source, httpx-sse, the decoders of
/// the `OpenAI` and Anthropic libraries) take one for the end of an empty message.
pub const COMMENT: &[u8] = b":\n";

/// Data of `event: connected`.
#[derive(Debug, Serialize)]
pub struct Connected<'a> {
    /// The connection's name in logs.
    pub connection: &'a str,
    /// The user; absent when the stream has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// The rooms it is in.
    pub rooms: &'a [&'a str],
}

/// Data of `event: gap`: events in `(from, to]` may be missing.
#[derive(Debug, Serialize)]
pub struct Gap<'a> {
    /// Rooms that may have lost events.
    pub rooms: &'a [&'a str],
    /// The id the subscriber had; empty when it could not be repeated safely.
    pub from: &'a str,
    /// The id from which on the stream has everything.
    pub to: &'a str,
    /// Why: `evicted`, `restart`, `slow` or `unknown`.
    pub reason: &'a str,
    /// Present when the subscriber's own inbox may have lost events.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inbox: bool,
    /// Present when broadcasts to everyone may be missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// Appends the stream's first event, with its reconnection time. `id` is where the stream starts.
pub fn put_connected(retry: Duration, id: Option<&str>, data: &Connected<'_>, out: &mut Vec<u8>) {
    put_retry(retry, out);
    put_field(out, "event", "connected");
    if let Some(id) = id {
        put_field(out, "id", id);
    }
    put_json(data, out);
}

/// Appends a gap. Its id is [`Gap::to`].
pub fn put_gap(data: &Gap<'_>, out: &mut Vec<u8>) {
    put_field(out, "event", "gap");
    put_field(out, "id", data.to);
    put_json(data, out);
}

/// Appends the end of what the policies of the rooms give to a newcomer: so many `events`, and how many were `left_out`
/// because all of them are too large. `id` is where the stream goes on; those before it have older ones.
pub fn put_replayed(id: &str, events: usize, left_out: usize, out: &mut Vec<u8>) {
    put_field(out, "event", "replayed");
    put_field(out, "id", id);
    put_json(&Replayed { events, left_out }, out);
}

/// Appends a refusal that may pass. It has no id: the subscriber keeps the id it has.
pub fn put_overload(retry: Duration, reason: &str, out: &mut Vec<u8>) {
    put_retry(retry, out);
    put_field(out, "event", "overload");
    put_json(&Reason { reason }, out);
}

/// Appends a closing event, at an event boundary. It has no id: everything before it has been written.
pub fn put_closing(retry: Duration, reason: &str, out: &mut Vec<u8>) {
    put_retry(retry, out);
    put_field(out, "event", "closing");
    put_json(&Reason { reason }, out);
}

/// Appends the warning that the subscriber's token expires in `left`. It has no id: everything before it has been
/// written.
pub fn put_expiring(left: Duration, out: &mut Vec<u8>) {
    put_field(out, "event", "expiring");
    put_json(&Expiring { expires_in_s: left.as_secs() }, out);
}

/// Appends the news that the stream's user may not publish to `room` until a time (RFC 3339), or until it is told
/// otherwise. It has no id: everything before it has been written.
pub fn put_muted(room: &str, until: Option<&str>, out: &mut Vec<u8>) {
    put_field(out, "event", "muted");
    put_json(&Muted { room, until }, out);
}

/// Appends the news that the order has not been heard of for `away`: what others publish may be missing, and comes when it
/// is back. It has no id: everything before it has been written.
pub fn put_stale(away: Duration, out: &mut Vec<u8>) {
    put_field(out, "event", "stale");
    put_json(&Stale { away_s: away.as_secs() }, out);
}

/// Appends a heartbeat of the kind [`Heartbeat::Id`]: a comment, and an id without data. Browsers dispatch nothing and
/// move `lastEventId` on (WHATWG HTML §9.2.6), so a quiet stream later resumes from a recent position. Firefox does not
/// move it.
pub fn put_heartbeat(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(COMMENT);
    put_field(out, "id", id);
    out.push(b'\n');
}

#[derive(Serialize)]
struct Stale {
    away_s: u64,
}

#[derive(Serialize)]
struct Replayed {
    events: usize,
    #[serde(skip_serializing_if = "is_zero")]
    left_out: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
struct Reason<'a> {
    reason: &'a str,
}

/// Data of `event: expiring`.
#[derive(Serialize)]
struct Expiring {
    expires_in_s: u64,
}

/// Data of `event: muted`.
#[derive(Serialize)]
struct Muted<'a> {
    room: &'a str,
    until: Option<&'a str>,
}

fn put_retry(retry: Duration, out: &mut Vec<u8>) {
    writeln!(out, "retry: {}", retry.as_millis()).expect("a Vec takes every write");
}

/// JSON text has no raw line breaks, so it is always one `data:` line.
fn put_json(data: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *out, data).expect("strings, lists of strings and flags always serialise");
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn connected_starts_the_stream() {
        let data = Connected { connection: "c", user: Some("u"), rooms: &["a", "b\"\n"] };
        assert_eq!(
            text(|out| put_connected(Duration::from_millis(3127), Some("k-1"), &data, out)),
            "retry: 3127\nevent: connected\nid: k-1\n\
             data: {\"connection\":\"c\",\"user\":\"u\",\"rooms\":[\"a\",\"b\\\"\\n\"]}\n\n"
        );
    }

    #[test]
    fn a_gap_carries_the_position_after_it() {
        let data = Gap { rooms: &["a"], from: "k-1", to: "k-9", reason: "evicted", inbox: false, all: false };
        assert_eq!(
            text(|out| put_gap(&data, out)),
            "event: gap\nid: k-9\ndata: {\"rooms\":[\"a\"],\"from\":\"k-1\",\"to\":\"k-9\",\"reason\":\"evicted\"}\n\n"
        );
    }

    #[test]
    fn a_replay_says_how_much_it_was_and_what_did_not_fit() {
        let replayed = |left_out| text(|out| put_replayed("k-9", 3, left_out, out));
        assert_eq!(replayed(0), "event: replayed\nid: k-9\ndata: {\"events\":3}\n\n");
        assert_eq!(replayed(2), "event: replayed\nid: k-9\ndata: {\"events\":3,\"left_out\":2}\n\n");
    }

    #[test]
    fn an_end_is_told_in_whole_seconds() {
        let left = Duration::from_millis(29_900);
        assert_eq!(text(|out| put_expiring(left, out)), "event: expiring\ndata: {\"expires_in_s\":29}\n\n");
    }

    #[test]
    fn a_mute_says_where_and_until_when() {
        assert_eq!(
            text(|out| put_muted("r\n", Some("2026-11-29T08:00:00Z"), out)),
            "event: muted\ndata: {\"room\":\"r\\n\",\"until\":\"2026-11-29T08:00:00Z\"}\n\n"
        );
        let forever = "event: muted\ndata: {\"room\":\"r\",\"until\":null}\n\n";
        assert_eq!(text(|out| put_muted("r", None, out)), forever);
    }

    #[test]
    fn a_stale_stream_is_told_since_when() {
        let away = Duration::from_millis(10_900);
        assert_eq!(text(|out| put_stale(away, out)), "event: stale\ndata: {\"away_s\":10}\n\n");
    }

    #[test]
    fn a_heartbeat_dispatches_nothing() {
        assert_eq!(text(|out| put_heartbeat("k-1", out)), ":\nid: k-1\n\n");
    }

    #[test]
    fn no_blank_line_without_data_but_in_a_browsers_heartbeat() {
        let retry = Duration::from_secs(1);
        let connected = Connected { connection: "c", user: None, rooms: &[] };
        let gap = Gap { rooms: &[], from: "", to: "k-9", reason: "slow", inbox: false, all: false };
        let frames = [
            text(|out| put_connected(retry, None, &connected, out)),
            text(|out| put_gap(&gap, out)),
            text(|out| put_overload(retry, "full", out)),
            text(|out| put_closing(retry, "drain", out)),
            text(|out| put_expiring(retry, out)),
            text(|out| put_replayed("k-9", 3, 0, out)),
            text(|out| put_muted("r", None, out)),
            text(|out| put_stale(retry, out)),
        ];
        for frame in frames {
            assert!(frame.contains("\nevent: ") || frame.starts_with("event: "), "{frame}");
            assert!(frame.contains("\ndata: {") && frame.matches("\n\n").count() == 1, "{frame}");
        }
        assert_eq!(COMMENT, b":\n");
    }

    #[test]
    fn closings_and_refusals_leave_the_id_alone() {
        let retry = Duration::from_secs(1);
        assert_eq!(
            text(|out| put_overload(retry, "full", out)),
            "retry: 1000\nevent: overload\ndata: {\"reason\":\"full\"}\n\n"
        );
        assert_eq!(
            text(|out| put_closing(retry, "drain", out)),
            "retry: 1000\nevent: closing\ndata: {\"reason\":\"drain\"}\n\n"
        );
    }
}
