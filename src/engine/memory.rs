//! Measures resident memory and sets the engine's memory level (`hub::pressure`).
//!
//! The admin thread measures at regular times. Threads that take in much memory measure in between ([`Engine::grew`]):
//! one measurement costs tens of microseconds, once for some megabytes. Shards and requests read the level as one
//! number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use procfs::process::Process;

use crate::config::MemoryLimit;
use crate::engine::Engine;
use crate::engine::machine::Machine;
use crate::hub::Hub;
use crate::hub::memory_level::MemoryLevel;

/// The time between two measurements, when little memory is taken.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The limit that `setting` means on this machine. `None` if it is off or unknown.
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
/// mimalloc keeps freed memory for a second, and returns it only when a thread allocates or frees a large piece. An
/// idle server does neither, and would keep the size of its busiest hour and refuse requests for want of memory that is
/// not in use. So one such piece is allocated, left untouched, and freed. mimalloc's own functions for this are
/// `unsafe`, and its options are read before `main`.
pub fn give_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE_PIECE)));
}

/// Larger than any piece that mimalloc keeps for a thread.
const LARGE_PIECE: usize = 4 << 20;

/// Makes the allocator find memory of this thread's pages that other threads have freed.
///
/// A page belongs to the thread that allocated it. When another thread frees the last piece in it, mimalloc keeps the
/// page until its own thread checks, once in 10,000 pieces of more than a kibibyte (`mi_option_generic_collect`). An
/// idle thread allocates none. So some pieces are allocated and freed, at fifty nanoseconds each.
pub fn give_back_own() {
    for _ in 0..PIECES {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(PIECE)));
    }
}

/// Pieces a thread allocates every [`LOOK_INTERVAL`]: it checks its pages every five seconds.
const PIECES: usize = 500;

/// Larger than the pieces that mimalloc serves without counting.
const PIECE: usize = 2 << 10;

/// Calls [`give_back_own`] at regular times. Runs until its future is dropped.
pub async fn keep_giving_back() -> std::convert::Infallible {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        give_back_own();
    }
}

/// Resident memory of this process, and the limit it should stay below.
#[derive(Debug)]
pub struct Memory {
    limit: Option<u64>,
    /// Bytes taken since the last measurement.
    grown: AtomicUsize,
    /// The most bytes that are taken between two measurements.
    stride: usize,
    /// Held by the thread that measures.
    looking: Mutex<()>,
}

/// The values of `auto` for settings that bound bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AutoBytes {
    /// For history.
    pub history: usize,
    /// For bodies and answers.
    pub http: usize,
}

impl Memory {
    /// Memory with `limit`; `None` is no limit.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Self {
        let stride = limit.map_or(usize::MAX, |limit| share(limit, 64).clamp(1 << 20, 64 << 20));
        Self { limit, grown: AtomicUsize::new(0), stride, looking: Mutex::new(()) }
    }

    /// The limit. `None` if it is off or unknown.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Bounds that leave room for the rest.
    #[must_use]
    pub fn auto_bytes(&self) -> AutoBytes {
        let share = |of: u64| self.limit.map_or(usize::MAX, |limit| share(limit, of));
        AutoBytes { history: share(2).min(256 << 20), http: share(8).min(64 << 20) }
    }

    /// Counts `bytes` as taken. Returns whether it is time to measure.
    pub fn grew(&self, bytes: usize) -> bool {
        if self.limit.is_none() {
            return false;
        }
        // Two threads may both find it is time. Only one of them measures.
        self.grown.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= self.stride
    }

    /// Measures, and sets the memory level of `hub`.
    pub fn look(&self, hub: &Hub) {
        let (Some(limit), Some(_looking)) = (self.limit, self.looking.try_lock()) else { return };
        self.grown.store(0, Ordering::Relaxed);
        // If the measurement fails, the level stays.
        if let Some(resident) = resident() {
            take_level(hub, resident, limit);
        }
    }
}

/// One part in `of` of `limit`.
fn share(limit: u64, of: u64) -> usize {
    usize::try_from(limit / of).unwrap_or(usize::MAX)
}

/// Measures four times a second. Runs until its future is dropped.
pub async fn watch(engine: &Engine) {
    let Some(limit) = engine.memory.limit() else { return std::future::pending().await };
    let history = engine.hub.settings().history.bytes_max as u64;
    let replays_until = MemoryLevel::NoReplays.begins_at(limit);
    if history > replays_until {
        tracing::warn!(
            limit,
            "history_total_bytes is {history}, but from {replays_until} bytes of memory on replays stop: part of the \
             history could never be replayed"
        );
    }
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        engine.memory.look(&engine.hub);
    }
}

fn take_level(hub: &Hub, resident: u64, limit: u64) {
    let before = hub.memory_level();
    let level = MemoryLevel::at(resident, limit, before);
    if level == before {
        return;
    }
    hub.set_memory_level(level);
    let (number, name) = (level.number(), level.as_str());
    if level > before {
        tracing::warn!(level = number, resident, limit, "memory is short: {name}");
    } else {
        tracing::info!(level = number, resident, limit, "memory recovers: {name}");
    }
}

/// Resident memory of this process in bytes (`proc_pid_statm(5)`).
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
    fn much_that_comes_in_is_a_reason_to_look() {
        let memory = Memory::new(Some(384 << 20));
        assert!(!memory.grew(3 << 20) && !memory.grew((3 << 20) - 1) && memory.grew(1));
        assert!(!Memory::new(None).grew(usize::MAX));
    }

    #[test]
    fn bounds_that_are_left_to_us_fit_a_small_machine() {
        let auto = |limit| Memory::new(limit).auto_bytes();
        let large = AutoBytes { history: 256 << 20, http: 64 << 20 };
        assert_eq!([auto(None), auto(Some(24 << 30)), auto(Some(512 << 20))], [large; 3]);
        assert_eq!(auto(Some(384 << 20)), AutoBytes { history: 192 << 20, http: 48 << 20 });
    }

    #[test]
    fn a_limit_that_is_set_is_the_limit() {
        assert_eq!(limit(MemoryLimit::Bytes(7)), Some(7));
        assert_eq!(limit(MemoryLimit::Off), None);
        assert_eq!(limit(MemoryLimit::Auto), Machine::read().memory_max);
    }
}
