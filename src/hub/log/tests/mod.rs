//! What the tests of the log share.

mod history;
mod keyed;
mod loose;

use crate::hub::log::Log;
use crate::hub::log::entry::Entry;
use crate::hub::log::rules::{LogBounds, LogRules};
use crate::types::moment::Moment;
use crate::types::name::EventKey;
use crate::types::position::Offset;
use crate::wire::frame::Unsealed;

const BOUNDS: LogBounds = LogBounds { events_max: 3, bytes_max: 100_000 };

fn entry(offset: Offset) -> Entry {
    let frame = Unsealed::new(None, "x", 20).seal(b"1");
    Entry::plain(offset, frame, Moment(offset))
}

fn offsets(log: &Log, after: Offset) -> Vec<Offset> {
    log.range(after, Offset::MAX).map(|entry| entry.offset).collect()
}

fn keyed(offset: Offset, key: &str) -> Entry {
    Entry { key: EventKey::new(key).ok(), ..entry(offset) }
}

fn rules(conflates: bool, keeps_newest: bool) -> LogRules {
    LogRules { bounds: BOUNDS, conflates, keeps_newest }
}

fn newest_of_keys(log: &Log) -> Vec<Offset> {
    log.newest_of_keys(Offset::MAX).map(|entry| entry.offset).collect()
}

/// The sums, counted anew.
fn check(log: &Log) {
    let (mut held, mut bytes, mut other) = (0, 0, 0);
    for (at, entry) in log.entries.iter().enumerate() {
        if at < log.expired || log.is_loose(entry) {
            other += entry.cost();
        } else {
            held += 1;
            bytes += entry.cost();
        }
    }
    bytes += log.kept.values().map(Entry::cost).sum::<usize>();
    assert_eq!((log.held, log.bytes, log.other_bytes), (held, bytes, other));
    assert!(log.entries.get(log.expired).is_none_or(|entry| !log.is_loose(entry)));
    assert!(log.keys.len() <= log.entries.len() + log.kept.len());
    assert!(log.lost_to <= log.evicted_to && log.evicted_to <= log.expired_to);
}
