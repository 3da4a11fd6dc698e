//! The metrics of an order on disk, and of one in Redis. A server whose order is in memory has none of them.

use std::fmt::{Display, Write as _};
use std::sync::atomic::Ordering;

use crate::admin::histogram::{MICROS, put_histogram};
use crate::order::disk::committer::DiskStats;
use crate::upstream::redis::stats::{Fate, LinkStats, STATES};

/// Appends the metrics of an order on disk.
pub(super) fn put(out: &mut String, disk: &DiskStats) {
    let rows = [
        (
            "commits_total",
            "counter",
            "Writes to the order on disk, each with one fdatasync.",
            disk.commits.get(),
        ),
        (
            "entries_total",
            "counter",
            "Events, changes of access and probes in these writes.",
            disk.entries.get(),
        ),
        (
            "failures_total",
            "counter",
            "Writes to the order on disk that failed, so that what was in them was refused.",
            disk.failures.get(),
        ),
        ("bytes", "gauge", "Bytes of the order's segments on disk.", disk.bytes.load(Ordering::Relaxed)),
        ("segments", "gauge", "Segments of the order on disk.", disk.segments.load(Ordering::Relaxed)),
    ];
    for (name, kind, help, value) in rows {
        put_value(out, name, kind, help, value);
    }
    put_histogram(
        out,
        "tidegate_order_commit_seconds",
        "Time of one write to the order on disk, with its fdatasync.",
        MICROS,
        &[disk],
        |disk| &disk.times,
    );
}

/// Appends the metrics of the link to an order in Redis.
pub(super) fn put_link(out: &mut String, link: &LinkStats) {
    let state = |(at, word)| (word, u64::from(at == link.state()));
    let states = STATES.into_iter().enumerate().map(state);
    put_by(
        out,
        ("link_state", "gauge"),
        "state",
        "1 for what the link to Redis does, 0 for the rest.",
        states,
    );
    put_value(
        out,
        "echo_age_seconds",
        "gauge",
        "Time since something that this node sent to Redis came back: an event, or a tick a second.",
        link.echo_age_s(),
    );
    let fates = Fate::ALL.iter().map(|fate| (fate.as_str(), link.with(*fate)));
    let help = "Batches that this node was to append to the order in Redis, by what became of them.";
    put_by(out, ("batches_total", "counter"), "fate", help, fates);
    for (name, help, value) in [
        (
            "appended_events_total",
            "Events that this node has appended, and what it told the others: changes of access, members.",
            link.appended_events.get(),
        ),
        (
            "applied_batches_total",
            "Batches of all nodes that were read and applied.",
            link.applied_batches.get(),
        ),
        (
            "applied_events_total",
            "Events in them, changes of access, and what nodes told of members.",
            link.applied_events.get(),
        ),
        (
            "unconfirmed_total",
            "Publishes in Redis of which no replica, or no disk, was heard in time, as order_ack asks for.",
            link.unconfirmed.get(),
        ),
        ("attaches_total", "Times that the link found out where the order is.", link.attaches.get()),
        ("terms_total", "Terms of the order that began while this node followed.", link.terms.get()),
        (
            "losses_total",
            "Times that this node had lost a part of the order and started anew in the same process.",
            link.losses.get(),
        ),
    ] {
        put_value(out, name, "counter", help, value);
    }
    put_histogram(
        out,
        "tidegate_order_append_seconds",
        "Time of a batch from being submitted until it was read back from Redis, which its publish waits for.",
        MICROS,
        &[link],
        |link| &link.times,
    );
}

fn put_value(out: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    let name = format!("tidegate_order_{name}");
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        .expect("a String takes any text");
}

fn put_by(
    out: &mut String,
    (name, kind): (&str, &str),
    label: &str,
    help: &str,
    values: impl Iterator<Item = (&'static str, u64)>,
) {
    let name = format!("tidegate_order_{name}");
    let write = |out: &mut String| -> std::fmt::Result {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for (word, value) in values {
            writeln!(out, "{name}{{{label}=\"{word}\"}} {value}")?;
        }
        writeln!(out)
    };
    write(out).expect("a String takes any text");
}
