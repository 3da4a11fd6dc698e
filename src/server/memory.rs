//! Measures resident memory and moves the engine along the ladder (`hub::pressure`).
//!
//! On the admin thread: a look costs tens of microseconds, which no delivery should wait for. Shards and requests read the
//! rung as one number.

use std::time::Duration;

use procfs::process::Process;

use super::machine::Machine;
use crate::config::MemoryLimit;
use crate::http::context::Shared;
use crate::hub::pressure::Rung;

/// Time between two looks. A server that takes in a gigabyte a second moves a quarter of one meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The limit that `setting` means on this machine. `None` for none, or if nobody knows one.
#[must_use]
pub fn limit(setting: MemoryLimit) -> Option<u64> {
    match setting {
        MemoryLimit::Off => None,
        MemoryLimit::Auto => Machine::read().memory_max,
        MemoryLimit::Bytes(bytes) => Some(bytes as u64),
    }
}

/// Makes the allocator give freed memory back to the system.
///
/// mimalloc keeps what was freed for a second, and looks at what is due only when a thread takes a large piece from it or
/// gives one back. A server that has fallen silent does neither, and would stay as large as its largest hour, refusing for
/// want of memory that nobody uses. So one such piece is taken, left untouched, and given back. Its own calls for that are
/// `unsafe`, and its options are read before `main`.
pub fn give_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE_PIECE)));
}

/// Larger than any piece that mimalloc keeps in a thread's reach.
const LARGE_PIECE: usize = 4 << 20;

/// Keeps the engine on the rung that its resident memory puts it on.
pub async fn watch(shared: &Shared) {
    let Some(limit) = shared.memory_limit else { return std::future::pending().await };
    let (history, replays_until) = (shared.config.history_total_bytes as u64, Rung::Replays.begins_at(limit));
    if history > replays_until {
        tracing::warn!(
            limit,
            "history_total_bytes is {history}, and from {replays_until} bytes of memory on there are no replays: what \
             is kept could not be had"
        );
    }
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // Without a figure, what was known last stands.
        if let Some(resident) = resident() {
            take_rung(shared, resident, limit);
        }
    }
}

fn take_rung(shared: &Shared, resident: u64, limit: u64) {
    let before = shared.hub.rung();
    let rung = Rung::at(resident, limit, before);
    if rung == before {
        return;
    }
    shared.hub.set_rung(rung);
    let (level, given_up) = (rung.number(), rung.as_str());
    if rung > before {
        tracing::warn!(level, resident, limit, "memory runs short: {given_up}");
    } else {
        tracing::info!(level, resident, limit, "memory comes back: {given_up}");
    }
}

/// Bytes of the process that are in memory (`proc_pid_statm(5)`).
fn resident() -> Option<u64> {
    let pages = Process::myself().and_then(|process| process.statm()).ok()?.resident;
    Some(pages * procfs::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_some_memory() {
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_limit_that_is_set_is_the_limit() {
        assert_eq!(limit(MemoryLimit::Bytes(7)), Some(7));
        assert_eq!(limit(MemoryLimit::Off), None);
        assert_eq!(limit(MemoryLimit::Auto), Machine::read().memory_max);
    }
}
