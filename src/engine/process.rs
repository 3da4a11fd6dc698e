//! The kernel's figures of this process: processor time by thread, and resident memory (`proc(5)`).

use std::fs;

/// The kernel's number of the calling thread. `None` without `/proc`.
#[must_use]
pub fn thread_id() -> Option<u32> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// Processor time of every running thread, in nanoseconds. Threads are few: one per shard and two more.
#[must_use]
pub fn threads() -> Vec<(u32, u64)> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let used = |thread: u32| {
        // The first of three numbers: time on a core, time spent waiting for one, time slices.
        let schedstat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        Some((thread, schedstat.split(' ').next()?.parse().ok()?))
    };
    let numbers = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(used).collect()
}

/// Resident memory in bytes.
#[must_use]
pub fn memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_finds_itself_and_its_work() {
        let me = thread_id().expect("Linux");
        let before = threads().iter().find(|(thread, _)| *thread == me).expect("this thread runs").1;
        let mut used = before;
        while used == before {
            used = threads().iter().find(|(thread, _)| *thread == me).expect("this thread runs").1;
        }
        assert!(used > before);
        assert!(memory().expect("Linux") > 1 << 20);
    }
}
