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

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All of it.
    pub resident: u64,
    /// The part of it that was allocated: without the program's own pages, which the kernel loads as they are used. Older
    /// kernels do not tell.
    pub allocated: Option<u64>,
}

/// Memory as of now.
#[must_use]
pub fn memory() -> Option<Memory> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |label: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(label))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    Some(Memory { resident: bytes("VmRSS:")?, allocated: bytes("RssAnon:") })
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
        let memory = memory().expect("Linux");
        assert!(memory.resident > 1 << 20);
        assert!(memory.allocated.is_some_and(|allocated| allocated > 0 && allocated < memory.resident));
    }
}
