//! Events that are not stored.

use super::{BOUNDS, check, entry, offsets, rules};
use crate::hub::log::entry::Entry;
use crate::hub::log::{LOOSE_BYTES_KEPT, Log, UNFLUSHED_BYTES_MAX, UNFLUSHED_EVENTS_MAX};
use crate::types::moment::Moment;
use crate::types::position::Offset;

#[test]
fn an_event_that_is_not_stored_is_delivered_and_no_history() {
    let mut log = Log::default();
    log.append(entry(1), None, BOUNDS.into(), 0);
    log.append(Entry { stored: false, ..entry(2) }, None, BOUNDS.into(), 0);
    log.append(entry(3), None, BOUNDS.into(), 1);
    check(&log);
    assert_eq!((offsets(&log, 0), log.held()), (vec![1, 2, 3], 2));
    assert_eq!(log.newest_first().map(|entry| entry.offset).collect::<Vec<_>>(), [3, 1]);
    log.append(entry(4), None, BOUNDS.into(), 3);
    log.append(entry(5), None, BOUNDS.into(), 5);
    check(&log);
    assert_eq!((offsets(&log, 0), log.expired_to(), log.evicted_to()), (vec![3, 4, 5], 1, 1));
}

#[test]
fn where_nothing_is_stored_nothing_is_lost_and_nothing_stays() {
    let mut log = Log::default();
    for offset in 1..100 {
        log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), offset - 1);
        check(&log);
        assert_eq!(
            (offsets(&log, 0), log.held(), log.expired_to(), log.evicted_to()),
            (vec![offset], 0, 0, 0)
        );
    }
    log.evict(Offset::MAX, 0);
    assert!(log.is_empty() && log.bytes() == 0);
}

/// They went as if they had been flushed: a shard that was behind sent nothing in their place.
#[test]
fn what_is_not_stored_and_goes_before_its_flush_is_a_gap() {
    let mut log = Log::default();
    let last = UNFLUSHED_EVENTS_MAX as u64 + 3;
    for offset in 1..=last {
        log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), 0);
    }
    check(&log);
    assert_eq!((log.evicted_to(), log.expired_to(), log.lost_to()), (3, 3, 3));
    log.evict(0, 5);
    assert_eq!((log.evicted_to(), offsets(&log, 0)[0]), (5, 6));
    log.evict(last, 0);
    assert_eq!((log.evicted_to(), log.is_empty()), (5, true), "the rest was flushed");
}

/// Only a newer event of its key takes an event's place, and this one has no key.
#[test]
fn what_is_not_stored_and_goes_before_its_flush_is_a_gap_where_others_conflate() {
    let mut log = Log::default();
    for offset in 1..4 {
        log.append(Entry { stored: false, ..entry(offset) }, None, rules(true, false), 0);
    }
    log.evict(0, 2);
    check(&log);
    assert_eq!((log.evicted_to(), log.expired_to(), log.lost_to()), (2, 2, 2));
}

#[test]
fn many_loose_events_between_two_that_are_held_are_removed() {
    let mut log = Log::default();
    log.append(entry(1), None, BOUNDS.into(), 0);
    for offset in 2..10_000 {
        log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), offset - 1);
        assert!(log.bytes() < 2 * (log.bytes + LOOSE_BYTES_KEPT) + 1000, "at {offset}: {}", log.bytes());
    }
    check(&log);
    assert_eq!((log.held(), log.oldest()), (1, Some((1, Moment(1)))));
    assert_eq!((log.expired_to(), log.evicted_to()), (0, 0), "they were flushed: nobody misses them");
    for offset in 10_000..400_000 {
        log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), 9_999);
    }
    assert!(log.bytes() < 3 * UNFLUSHED_BYTES_MAX, "a shard that hangs: {}", log.bytes());
    assert!(log.evicted_to() > 100_000, "what it lost is told: {}", log.evicted_to());
    assert!(log.before(400_000) >= log.evicted_to(), "a batch does not pass over it");
    check(&log);
}

#[test]
fn few_loose_events_are_kept_once_a_burst_of_them_is_over() {
    let mut log = Log::default();
    log.append(entry(1), None, BOUNDS.into(), 0);
    for offset in 2..1_000 {
        log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), 0);
    }
    assert!(log.bytes() > 20 * LOOSE_BYTES_KEPT, "they wait for their flush: {}", log.bytes());
    for offset in 1_000..1_004 {
        log.append(entry(offset), None, BOUNDS.into(), 1_003);
    }
    assert_eq!(offsets(&log, 0), [1_001, 1_002, 1_003]);
    for offset in 1_004..2_000 {
        log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), offset - 1);
        assert!(log.bytes() < 2 * (log.bytes + LOOSE_BYTES_KEPT) + 1000, "at {offset}: {}", log.bytes());
    }
    check(&log);
}
