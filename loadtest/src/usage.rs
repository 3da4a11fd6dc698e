//! What a process uses, read from `/proc` (proc(5)).
//!
//! CPU time is the sum over its threads of `schedstat`, in nanoseconds. `stat` counts in ticks of 10 ms, which is too
//! coarse for a short window, but has the user/system split. A thread that ended inside the window takes its time along;
//! none of the servers measured here ends threads under load.

use std::fs;
use std::io;

/// CPU time used since the process began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cpu {
    /// All threads, nanoseconds.
    pub total_ns: u64,
    /// Ready to run but without a core, all threads, nanoseconds. Much of it means a crowded machine.
    pub wait_ns: u64,
    /// In user mode, nanoseconds in steps of a tick.
    pub user_ns: u64,
    /// In the kernel, nanoseconds in steps of a tick.
    pub system_ns: u64,
}

impl Cpu {
    /// CPU time of process `pid` so far.
    ///
    /// # Errors
    ///
    /// The process is gone, or `/proc` can't be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        let (mut total_ns, mut wait_ns) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between listing and reading.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            total_ns += nth_number(&text, 0).unwrap_or(0);
            wait_ns += nth_number(&text, 1).unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold spaces; the fields after it are fixed.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        Ok(Self {
            total_ns,
            wait_ns,
            user_ns: nth_number(fields, 11).unwrap_or(0) * TICK_NS,
            system_ns: nth_number(fields, 12).unwrap_or(0) * TICK_NS,
        })
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
        }
    }
}

/// Resident memory of `pid` in KiB. Exact (`smaps_rollup`) where the kernel has it; walks the page tables, so not for
/// a measured window.
///
/// # Errors
///
/// The process is gone, or `/proc` can't be read.
pub fn resident_kib(pid: u32) -> io::Result<u64> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        && let Some(kib) = labelled_kib(&text, "Rss:")
    {
        return Ok(kib);
    }
    status_kib(pid, "VmRSS:")
}

/// Highest resident memory since the start or the last [`reset_peak`], in KiB.
///
/// # Errors
///
/// The process is gone, or `/proc` can't be read.
pub fn peak_kib(pid: u32) -> io::Result<u64> {
    status_kib(pid, "VmHWM:")
}

/// Starts [`peak_kib`] anew. Without the right to do so the peak covers the whole life of the process.
pub fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn status_kib(pid: u32, label: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    labelled_kib(&text, label).ok_or_else(|| io::Error::other(format!("no {label} in status")))
}

fn labelled_kib(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    nth_number(line, 0)
}

fn nth_number(text: &str, index: usize) -> Option<u64> {
    text.split_whitespace().nth(index)?.parse().ok()
}

/// One tick of `stat`: `USER_HZ` is 100 on every Linux platform this runs on.
const TICK_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_usage_can_be_read_and_grows() {
        let pid = std::process::id();
        let before = Cpu::of(pid).expect("own process");
        let mut sum = 0_u64;
        while Cpu::of(pid).expect("own process").since(&before).total_ns < 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_kib(pid).expect("own process") > 100);
        assert!(peak_kib(pid).expect("own process") > 100);
    }
}
