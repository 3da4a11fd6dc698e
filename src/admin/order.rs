//! The metrics of an order on disk. A server whose order is in memory has none of them.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use crate::admin::histogram::{MICROS, put_histogram};
use crate::order::disk::committer::DiskStats;

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
        let name = format!("tidegate_order_{name}");
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
            .expect("a String takes any text");
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
