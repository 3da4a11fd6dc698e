//! Keys: conflation, the newest of each key, versions.

use super::{BOUNDS, check, entry, keyed, newest_of_keys, offsets, rules};
use crate::hub::log::entry::Entry;
use crate::hub::log::rules::{LogBounds, LogRules};
use crate::hub::log::{LOOSE_BYTES_KEPT, Log};
use crate::rights::grant::PermissionName;
use crate::types::name::EventKey;
use crate::types::position::Offset;

#[test]
fn a_log_that_conflates_has_the_newest_of_each_key_in_order() {
    let mut log = Log::default();
    for (offset, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "a"), (6, "b")] {
        log.append(keyed(offset, key), None, rules(true, false), 0);
        check(&log);
    }
    assert_eq!((offsets(&log, 0), offsets(&log, 4)), (vec![4, 5, 6], vec![5, 6]));
    assert_eq!((log.held(), log.expired_to(), log.conflated(0, 6), log.conflated(2, 6)), (3, 0, 3, 1));
    log.append(keyed(7, "d"), None, rules(true, false), 0);
    assert_eq!((log.held(), log.expired_to()), (3, 4), "a key more than may be held");
    log.append(entry(8), None, rules(true, false), 0);
    log.append(entry(9), None, rules(true, false), 9);
    check(&log);
    assert_eq!((offsets(&log, 0), log.evicted_to()), (vec![7, 8, 9], 6), "events without a key stay");
}

#[test]
fn a_key_that_changes_fast_takes_the_memory_of_few_events() {
    let mut log = Log::default();
    log.append(keyed(1, "quiet"), None, rules(true, false), 1);
    for offset in 2..10_000 {
        log.append(keyed(offset, "fast"), None, rules(true, false), offset - 1);
        assert!(log.bytes() < 2 * (log.bytes + LOOSE_BYTES_KEPT) + 1000, "at {offset}: {}", log.bytes());
    }
    check(&log);
    assert_eq!((offsets(&log, 0), log.expired_to(), log.keys.len()), (vec![1, 9_999], 0, 2));
}

#[test]
fn a_reload_that_turns_conflation_on_or_off_keeps_the_sums_right() {
    let mut log = Log::default();
    for (offset, key, conflates) in
        [(1, "a", false), (2, "a", false), (3, "a", true), (4, "b", true), (5, "b", false), (6, "b", true)]
    {
        log.append(keyed(offset, key), None, rules(conflates, false), 0);
        check(&log);
    }
    assert_eq!(offsets(&log, 0), [3, 6]);
}

/// A reader without the permission got neither the new event nor the old one.
#[test]
fn an_event_for_few_does_not_take_the_place_of_one_for_all() {
    let mut log = Log::default();
    let for_vips = |offset| Entry { require: PermissionName::new("vip").ok(), ..keyed(offset, "a") };
    log.append(keyed(1, "a"), None, rules(true, true), 0);
    log.append(for_vips(2), None, rules(true, true), 0);
    check(&log);
    assert_eq!((offsets(&log, 0), newest_of_keys(&log)), (vec![1, 2], vec![1, 2]));
    log.append(for_vips(3), None, rules(true, true), 0);
    check(&log);
    assert_eq!(offsets(&log, 0), [1, 3]);
}

/// They were evicted as ordinary events, but a resume from below them was taken to be exact.
#[test]
fn loose_events_that_wait_for_their_flush_expire_when_conflation_ends() {
    let mut log = Log::default();
    for offset in 1..4 {
        log.append(keyed(offset, "a"), None, rules(true, false), 0);
    }
    log.append(keyed(4, "a"), None, rules(false, false), 4);
    check(&log);
    assert_eq!((log.expired_to(), log.evicted_to(), offsets(&log, 0)), (2, 2, vec![3, 4]));
}

#[test]
fn newcomers_get_the_newest_of_keys_that_others_drove_out() {
    let mut log = Log::default();
    for (offset, key) in [(1, "quiet"), (2, "a"), (3, "b"), (4, "a"), (5, "b"), (6, "a")] {
        log.append(keyed(offset, key), None, rules(false, true), offset);
        check(&log);
    }
    assert_eq!((newest_of_keys(&log), log.held(), log.expired_to()), (vec![1, 5, 6], 3, 3));
    assert_eq!(offsets(&log, 3), [4, 5, 6], "a resume gets all of them");
    log.append(keyed(7, "quiet"), None, rules(false, true), 7);
    assert_eq!(newest_of_keys(&log), [5, 6, 7]);
    for offset in 8..20 {
        log.append(keyed(offset, &offset.to_string()), None, rules(false, true), offset);
        check(&log);
    }
    assert_eq!(newest_of_keys(&log), [14, 15, 16, 17, 18, 19], "as many again as the history");
    while log.expire_oldest() {
        check(&log);
    }
    log.evict(Offset::MAX, 0);
    assert_eq!((log.is_empty(), log.bytes(), log.keys.len()), (true, 0, 0));
}

#[test]
fn an_older_version_of_a_key_is_known_for_as_long_as_its_newest_event_is_here() {
    let mut log = Log::default();
    let [a, b] = ["a", "b"].map(|key| EventKey::new(key).unwrap());
    log.append(keyed(1, "a"), Some(5), BOUNDS.into(), 0);
    assert_eq!([4, 5, 6].map(|version| log.is_outdated(&a, version)), [true, true, false]);
    assert!(!log.is_outdated(&b, 0));
    log.append(keyed(2, "a"), None, BOUNDS.into(), 0);
    assert!(log.is_outdated(&a, 5), "an event without a version does not reset it");
    for offset in 3..6 {
        log.append(entry(offset), None, BOUNDS.into(), 0);
    }
    assert!(log.is_outdated(&a, 5), "it waits for its flush");
    log.evict(2, 0);
    assert!(!log.is_outdated(&a, 5) && log.keys.len() == 0);
}

/// An event that was driven out of the history took its key along before it was flushed. A newer event of the key then
/// found nothing to take the place of, and both went out in one flush; without a history, that was every event.
#[test]
fn what_waits_for_its_flush_conflates_however_short_the_history_is() {
    for events_max in 0..3 {
        let mut log = Log::default();
        let bounds = LogBounds { events_max, ..BOUNDS };
        let rules = LogRules { bounds, ..rules(true, false) };
        for (offset, key) in [(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "b"), (6, "a")] {
            log.append(keyed(offset, key), None, rules, 0);
            check(&log);
        }
        assert_eq!((offsets(&log, 0), log.held()), (vec![3, 5, 6], events_max));
        log.evict(6, 0);
        check(&log);
        assert_eq!(log.keys.len(), events_max);
    }
}

/// It was lost to slow readers although they could still have it.
#[test]
fn the_newest_of_a_key_is_not_lost_before_it_is_flushed() {
    let mut log = Log::default();
    for offset in 1..20 {
        log.append(keyed(offset, &offset.to_string()), None, rules(false, true), 0);
        check(&log);
    }
    assert_eq!((newest_of_keys(&log), log.lost_to()), ((14..20).collect(), 0));
    log.evict(Offset::MAX, 0);
    check(&log);
    assert_eq!((newest_of_keys(&log), log.lost_to()), ((14..20).collect(), 13));
}

#[test]
fn an_event_that_is_not_stored_does_not_take_the_place_of_one_that_is() {
    let mut log = Log::default();
    log.append(keyed(1, "a"), None, rules(true, true), 0);
    log.append(Entry { stored: false, ..keyed(2, "a") }, Some(7), rules(true, true), 0);
    check(&log);
    assert_eq!((offsets(&log, 0), newest_of_keys(&log)), (vec![1, 2], vec![1]));
    assert!(log.is_outdated(&EventKey::new("a").unwrap(), 7));
}
