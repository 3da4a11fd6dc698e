//! Invariants for any input from a peer or an operator. Each fuzz target calls one of these checks,
//! `tests/parsers/parsers.rs` all of them.

#![allow(dead_code, reason = "each program that includes these files calls only some")]

mod access;
mod peer;
mod presence;
pub(crate) mod publish;
pub(crate) mod request;
mod settings;
mod stream;

use std::net::Ipv6Addr;

pub(crate) use self::access::{answer, api_keys, changed_token, credential, jwks, permission, said, token};
pub(crate) use self::peer::{forwarded, proxy_header};
pub(crate) use self::presence::presence_body;
pub(crate) use self::publish::{compact, idempotency_key, lines, publish_body};
pub(crate) use self::request::{guard, headers, online, path, query};
pub(crate) use self::settings::{room_tables, settings};
pub(crate) use self::stream::{cursor, encode_then_parse};

/// What a target does with one input.
pub(crate) type Run = fn(&[u8]);

/// Every target by its name, with the function that splits its input. Inputs are plain bytes, so that a test can read
/// the corpus again without the fuzzer.
pub(crate) const TARGETS: &[(&str, Run)] = &[
    ("answer", answer),
    ("api_keys", |input| api_keys(text(input))),
    ("compact", |input| compact(text(input))),
    ("credential", |input| {
        // `Authorization`, `Cookie` and the query, a line each.
        let mut lines = input.splitn(3, |byte| *byte == b'\n');
        let mut line = || lines.next().filter(|line| !line.is_empty());
        credential(line(), line(), line().map(text));
    }),
    ("cursor", |input| cursor(text(input))),
    ("encode", |input| {
        // Name, id and data; the name before an RS may be missing.
        let (event, name) = match text(input).split_once('\x1e') {
            Some((name, event)) => (event, Some(name)),
            None => (text(input), None),
        };
        let (id, data) = event.split_once('\x1f').unwrap_or(("k-1", event));
        encode_then_parse(name, id, data);
    }),
    ("forwarded", |input| {
        // The peer, in the bytes of an IPv6 address; empty for a Unix socket.
        let (peer, lines) = input.split_at(input.len().min(16));
        let peer = <[u8; 16]>::try_from(peer).map(|peer| Ipv6Addr::from(peer).into());
        forwarded(peer.ok(), &lines.split(|byte| *byte == b'\n').collect::<Vec<_>>());
    }),
    ("guard", |input| {
        let (step, requests) = input.split_first().unwrap_or((&1, &[]));
        guard(requests, (*step).into());
    }),
    ("headers", headers),
    ("idempotency_key", |input| {
        // Each line is a header; without any, there is none.
        let lines = input.split(|byte| *byte == b'\n').filter(|_| !input.is_empty());
        idempotency_key(&lines.collect::<Vec<_>>());
    }),
    ("jwks", jwks),
    ("lines", |input| {
        let (sizes, body) = input.split_at(input.len().min(8));
        lines(body, sizes, 20);
    }),
    ("online", online),
    ("path", |input| path(text(input))),
    ("permission", |input| {
        // The permission, then the room it is asked about, and the user, who may be missing.
        let mut parts = text(input).splitn(3, '\x1f');
        let permission_text = parts.next().unwrap_or_default();
        permission(permission_text, parts.next().unwrap_or("lobby"), parts.next());
    }),
    ("presence_body", presence_body),
    ("proxy_header", proxy_header),
    ("publish_body", publish_body),
    ("query", |input| query(text(input))),
    ("room_tables", |input| {
        // A room, then what follows the first `[[room]]`.
        let (room, tables) = text(input).split_once('\x1f').unwrap_or(("lobby", text(input)));
        room_tables(room, tables);
    }),
    ("said", said),
    ("settings", |input| settings(text(input))),
    ("token", |input| {
        token(text(input));
        // Where to cut the good token, how much of it to leave out, and what to insert.
        let (at, rest) = input.split_first().unwrap_or((&0, &[]));
        let (cut, put) = rest.split_first().unwrap_or((&0, &[]));
        changed_token((*at).into(), (*cut).into(), text(put));
    }),
];

/// Runs the target called `name`.
pub(crate) fn run(name: &str, input: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of the table");
    run(input);
}

/// Returns the valid text at the beginning of `input`.
fn text(input: &[u8]) -> &str {
    let valid = std::str::from_utf8(input).map_or_else(|err| err.valid_up_to(), str::len);
    std::str::from_utf8(&input[..valid]).expect("valid up to there")
}
