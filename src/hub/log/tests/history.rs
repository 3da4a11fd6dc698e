//! The history: its bounds, what waits for a flush, counts.

use super::{BOUNDS, entry, offsets};
use crate::hub::log::entry::Entry;
use crate::hub::log::rules::LogBounds;
use crate::hub::log::{LOG_OVERHEAD, Log, UNFLUSHED_BYTES_MAX, UNFLUSHED_EVENTS_MAX};
use crate::hub::own_ids::OWN_ID_OVERHEAD;
use crate::types::moment::Moment;
use crate::types::name::EventId;
use crate::types::position::Offset;
use crate::wire::frame::Unsealed;

#[test]
fn the_bound_by_count_is_exact_for_a_resume() {
    let mut log = Log::default();
    for offset in [10, 20, 30, 40] {
        log.append(entry(offset), None, BOUNDS.into(), Offset::MAX);
    }
    assert_eq!(log.held(), 3);
    assert_eq!(log.expired_to(), 10);
    assert_eq!(offsets(&log, 10), [20, 30, 40]);
}

#[test]
fn a_burst_past_the_history_still_reaches_those_connected() {
    let mut log = Log::default();
    for offset in 1..=10 {
        log.append(entry(offset), None, BOUNDS.into(), 0);
    }
    assert_eq!(log.expired_to(), 7, "a resume from below 7 is a gap");
    assert_eq!(log.evicted_to(), 0, "but no connected stream has lost anything");
    assert_eq!(offsets(&log, 0).len(), 10);
    log.evict(10, 0);
    assert_eq!(log.evicted_to(), 7);
    assert_eq!(offsets(&log, 0), [8, 9, 10]);
}

#[test]
fn waiting_for_a_flush_is_bounded_too() {
    let mut log = Log::default();
    let last = UNFLUSHED_EVENTS_MAX as u64 + 10;
    for offset in 1..=last {
        log.append(entry(offset), None, BOUNDS.into(), 0);
    }
    assert_eq!(log.evicted_to(), last - 3 - UNFLUSHED_EVENTS_MAX as u64);
}

#[test]
fn waiting_for_a_flush_is_bounded_in_bytes_as_well() {
    let none_held = LogBounds { events_max: 0, bytes_max: usize::MAX };
    // A kibibyte each, with what is charged besides the data: the head of its chunk is two digits longer.
    let data = "x".repeat((1 << 10) - (entry(1).cost() - "x".len()) - 2);
    let frame = Unsealed::new(None, &data, 20).seal(b"1");
    let entry = |offset| Entry { frame: frame.clone(), ..entry(offset) };
    let fit = (16 << 20) / (1 << 10);
    assert_eq!((entry(1).cost(), fit * entry(1).cost()), (1 << 10, UNFLUSHED_BYTES_MAX));
    let mut log = Log::default();
    for offset in 1..=fit as u64 {
        log.append(entry(offset), None, none_held.into(), 0);
    }
    assert_eq!((log.evicted_to(), log.bytes()), (0, UNFLUSHED_BYTES_MAX), "what fits may wait");
    log.append(entry(fit as u64 + 1), None, none_held.into(), 0);
    assert_eq!((log.evicted_to(), log.bytes()), (1, UNFLUSHED_BYTES_MAX), "one in, one out");
}

#[test]
fn a_burst_does_not_keep_its_peak() {
    let capacity_after = |burst: u64, held: usize| {
        let mut log = Log::default();
        for offset in 1..=burst {
            log.append(entry(offset), None, LogBounds { events_max: held, ..BOUNDS }.into(), 0);
        }
        log.evict(Offset::MAX, 0);
        assert_eq!(log.held(), held);
        log.entries.capacity()
    };
    assert_eq!(capacity_after(1000, 20), 40, "room for as many again");
    assert_eq!(capacity_after(100, 31), 62);
    assert_eq!(capacity_after(100, 32), 128, "a quarter is still enough to keep it");
    assert_eq!(capacity_after(40, 3), 64, "a small log is not shrunk");
}

#[test]
fn bytes_are_what_is_there() {
    let mut log = Log::default();
    let cost = entry(1).cost();
    let bounds = LogBounds { events_max: 100, bytes_max: cost * 2 };
    for offset in 1..=5 {
        log.append(entry(offset), None, bounds.into(), Offset::MAX);
    }
    assert_eq!((log.held(), log.bytes(), log.is_empty()), (2, cost * 2, false));
    assert_eq!(log.cost(), cost * 2 + LOG_OVERHEAD);
    while log.expire_oldest() {}
    assert_eq!(log.bytes(), cost * 2, "unflushed events still take memory");
    log.evict(Offset::MAX, 0);
    assert_eq!((log.bytes(), log.cost(), log.is_empty()), (0, 0, true));
}

#[test]
fn an_own_id_is_charged_until_its_event_expires() {
    let mut log = Log::default();
    let (plain, id) = (entry(1).cost(), EventId::new("order-17").expect("an id"));
    log.append(Entry { id: Some(id.clone()), ..entry(1) }, None, BOUNDS.into(), 0);
    assert_eq!(log.bytes(), plain + 8 + OWN_ID_OVERHEAD);
    log.append(entry(2), None, BOUNDS.into(), 0);
    log.append(entry(3), None, BOUNDS.into(), 0);
    assert_eq!(log.take_expired_ids(), []);
    log.append(entry(4), None, BOUNDS.into(), 0);
    assert_eq!(
        (log.take_expired_ids(), log.bytes()),
        (vec![id], 4 * plain),
        "it waits for a flush without its id"
    );
    assert_eq!(log.take_expired_ids(), []);
    log.evict(Offset::MAX, 0);
    assert_eq!((log.take_expired_ids(), log.bytes()), (vec![], 3 * plain));
}

#[test]
fn neighbours_and_numbers_survive_eviction() {
    let mut log = Log::starting_after(5);
    assert_eq!((log.before(100), log.expired_to(), log.last(), log.oldest()), (5, 5, None, None));
    for offset in [10, 20, 30, 40, 50] {
        log.append(entry(offset), None, BOUNDS.into(), Offset::MAX);
    }
    assert_eq!(log.before(30), 20, "evicted, but its offset is known");
    assert_eq!(log.before(45), 40);
    assert_eq!(log.count_to(20), 2);
    assert_eq!(log.count_to(40), 4);
    assert_eq!((log.last(), log.oldest()), (Some(50), Some((30, Moment(30)))));
}

#[test]
fn what_may_have_been_before_a_log_is_a_gap_for_every_reader() {
    let log = Log::starting_after(5);
    assert_eq!((log.expired_to(), log.evicted_to(), log.lost_to()), (5, 5, 5));
}

#[test]
fn the_newest_come_first_and_only_those_a_resume_could_have() {
    let mut log = Log::default();
    for offset in [10, 20, 30, 40, 50] {
        log.append(entry(offset), None, BOUNDS.into(), 0);
    }
    assert_eq!(log.newest_first().map(|entry| entry.offset).collect::<Vec<_>>(), [50, 40, 30]);
    assert_eq!((log.oldest(), log.evicted_to()), (Some((30, Moment(30))), 0));
    assert_eq!(log.range(20, 40).map(|entry| entry.offset).collect::<Vec<_>>(), [30, 40]);
}

#[test]
fn each_shard_has_a_count_of_its_own() {
    let mut log = Log::default();
    for offset in [10, 20, 30, 40, 50] {
        log.append(entry(offset), None, BOUNDS.into(), Offset::MAX);
    }
    let counts = |log: &Log| [0, 1, 2].map(|shard| log.flushed_count(shard));
    log.note_flushed_count(1, 40);
    assert_eq!(counts(&log), [0, 4, 0]);
    log.note_flushed_count(0, log.evicted_to());
    log.note_flushed_count(2, 50);
    log.note_flushed_count(1, log.evicted_to() - 1);
    assert_eq!(counts(&log), [2, 4, 5], "below what is gone there is nothing to count by");
}

#[test]
fn a_look_tells_what_came_since_the_last() {
    let mut log = Log::default();
    for (offsets, new, per_s) in [(1..6, 5, "2.5"), (6..9, 3, "1.5"), (9..9, 0, "0")] {
        for offset in offsets {
            log.append(entry(offset), None, BOUNDS.into(), Offset::MAX);
        }
        assert_eq!((log.look(2.0), log.per_s().to_string()), (new, per_s.to_owned()));
    }
    assert_eq!((log.look(0.0), log.per_s().to_string()), (0, "0".to_owned()));
}
