//! The three messages of presence, as the bytes of an event: `state`, `diff` and `count`.
//!
//! An event is `event: presence\nroom: <name>\ndata: <JSON in one line>\n\n`. It has no id: presence is state, not
//! history, and moves no cursor. Clients treat `join` and `update` as "is there, with exactly this data" and `leave` as
//! "is not there, if it was": a message may repeat what a `state` has shown already.

use std::io::Write as _;

use bytes::Bytes;

use crate::hub::presence::data::PresenceData;

/// The numbers in every message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Totals {
    /// Rises by one with each message of the room.
    pub(super) rev: u64,
    /// Members.
    pub(super) total: usize,
    /// Connections of members.
    pub(super) connections: u32,
}

/// A member in a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) user: &'a str,
    pub(super) data: Option<&'a PresenceData>,
}

/// A member in a `state`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'a> {
    pub(super) member: Named<'a>,
    pub(super) since_s: u64,
    pub(super) connections: u32,
}

/// The changes in a `diff`, each list in the order of names.
#[derive(Debug, Default)]
pub(super) struct Diff<'a> {
    pub(super) join: Vec<Named<'a>>,
    pub(super) leave: Vec<&'a str>,
    pub(super) update: Vec<Named<'a>>,
}

impl Diff<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.join.is_empty() && self.leave.is_empty() && self.update.is_empty()
    }

    /// Whether members came or left.
    pub(super) fn moves(&self) -> bool {
        !self.join.is_empty() || !self.leave.is_empty()
    }
}

/// How many members there are.
pub(super) fn count(room: &str, totals: Totals) -> Bytes {
    let mut out = begin(room, "count", totals);
    end(&mut out)
}

/// Everybody who is there.
pub(super) fn state<'a>(room: &str, totals: Totals, members: impl Iterator<Item = Listed<'a>>) -> Bytes {
    let mut out = begin(room, "state", totals);
    put_list(&mut out, "members", members, |out, Listed { member, since_s, connections }| {
        put_user(out, member.user);
        put(out, format_args!(",\"since_s\":{since_s},\"connections\":{connections}"));
        put_data(out, member.data);
    });
    end(&mut out)
}

/// Who came, who left, and whose data changed.
pub(super) fn diff(room: &str, totals: Totals, diff: &Diff<'_>) -> Bytes {
    let mut out = begin(room, "diff", totals);
    let put_member = |out: &mut Vec<u8>, member: &Named<'_>| {
        put_user(out, member.user);
        put_data(out, member.data);
    };
    put_list(&mut out, "join", diff.join.iter(), put_member);
    put(&mut out, format_args!(",\"leave\":"));
    put_json(&mut out, &diff.leave);
    put_list(&mut out, "update", diff.update.iter(), put_member);
    end(&mut out)
}

/// A room's name has no control characters, so it is one line.
fn begin(room: &str, kind: &str, totals: Totals) -> Vec<u8> {
    let Totals { rev, total, connections } = totals;
    let mut out = Vec::with_capacity(160);
    put(&mut out, format_args!("event: presence\nroom: {room}\ndata: {{\"type\":\"{kind}\",\"rev\":{rev}"));
    put(&mut out, format_args!(",\"total\":{total},\"connections\":{connections}"));
    out
}

fn end(out: &mut Vec<u8>) -> Bytes {
    out.extend_from_slice(b"}\n\n");
    Bytes::copy_from_slice(out)
}

/// Appends a list of objects; `put_item` writes what is between the braces.
fn put_list<T>(
    out: &mut Vec<u8>,
    name: &str,
    items: impl Iterator<Item = T>,
    put_item: impl Fn(&mut Vec<u8>, T),
) {
    put(out, format_args!(",\"{name}\":["));
    for (index, item) in items.enumerate() {
        out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        put_item(out, item);
        out.push(b'}');
    }
    out.push(b']');
}

fn put_user(out: &mut Vec<u8>, user: &str) {
    out.extend_from_slice(b"\"user\":");
    put_json(out, &user);
}

/// The data is one JSON value already ([`PresenceData`]), so it stays within its member.
fn put_data(out: &mut Vec<u8>, data: Option<&PresenceData>) {
    if let Some(data) = data {
        put(out, format_args!(",\"data\":{}", data.as_str()));
    }
}

fn put_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("text and lists of text always serialise");
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: Totals = Totals { rev: 41, total: 2, connections: 3 };

    #[test]
    fn a_state_lists_everybody() {
        let data = PresenceData::new("{\"status\":\"online\"}").expect("JSON");
        let me = Named { user: "me", data: Some(&data) };
        let you = Named { user: "y\"u", data: None };
        let members = [
            Listed { member: me, since_s: 0, connections: 2 },
            Listed { member: you, since_s: 12, connections: 1 },
        ];
        assert_eq!(
            state("lobby", TOTALS, members.into_iter()),
            "event: presence\nroom: lobby\ndata: {\"type\":\"state\",\"rev\":41,\"total\":2,\"connections\":3,\
             \"members\":[{\"user\":\"me\",\"since_s\":0,\"connections\":2,\"data\":{\"status\":\"online\"}},\
             {\"user\":\"y\\\"u\",\"since_s\":12,\"connections\":1}]}\n\n"
        );
    }

    #[test]
    fn a_diff_has_its_three_lists() {
        let data = PresenceData::new("{\"status\":\"away\"}").expect("JSON");
        let changes = Diff {
            join: vec![Named { user: "x", data: None }],
            leave: vec!["you"],
            update: vec![Named { user: "me", data: Some(&data) }],
        };
        assert_eq!(
            diff("lobby", TOTALS, &changes),
            "event: presence\nroom: lobby\ndata: {\"type\":\"diff\",\"rev\":41,\"total\":2,\"connections\":3,\
             \"join\":[{\"user\":\"x\"}],\"leave\":[\"you\"],\
             \"update\":[{\"user\":\"me\",\"data\":{\"status\":\"away\"}}]}\n\n"
        );
    }

    #[test]
    fn a_count_is_short() {
        assert_eq!(
            count("lobby", TOTALS),
            "event: presence\nroom: lobby\ndata: {\"type\":\"count\",\"rev\":41,\"total\":2,\"connections\":3}\n\n"
        );
    }
}
