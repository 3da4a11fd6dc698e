//! What a server uses, read from `/proc` (proc(5)): the process and everything it started.
//!
//! CPU time is the sum over all threads of `schedstat`, in nanoseconds. `stat` counts in ticks of 10 ms, which is too
//! coarse for a short window, but has the user/system split. A thread or process that ended inside the window takes its
//! time along; none of the servers measured here ends any under load.
//!
//! Memory of one process is its resident memory. For several it is the sum of their proportional shares (`Pss`): pages
//! that workers have in common would otherwise count once for each. The load test itself counts alone, since what it
//! started are the servers.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// `pid` and its descendants, parents first. Of this process, only itself.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut members = vec![pid];
    if pid == std::process::id() {
        return members;
    }
    let children = children();
    let mut at = 0;
    while let Some(member) = members.get(at) {
        members.extend(children.get(member).into_iter().flatten());
        at += 1;
    }
    members
}

/// The children of every process, from each `stat`: `task/TID/children` is not in every kernel.
fn children() -> BTreeMap<u32, Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        // Most names are no process; and one may end between listing and reading.
        let Some(pid) = pid else { continue };
        let parent = stat_fields(pid).ok().and_then(|fields| nth_number(&fields, 1));
        if let Some(parent) = parent.and_then(|parent| u32::try_from(parent).ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

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
    /// CPU time of process `pid` and its descendants so far.
    ///
    /// # Errors
    ///
    /// The process is gone, or `/proc` can't be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut sum = Self::of_one(pid)?;
        for member in family(pid).into_iter().skip(1) {
            // A descendant may end any time.
            let used = Self::of_one(member).unwrap_or_default();
            sum.total_ns += used.total_ns;
            sum.wait_ns += used.wait_ns;
            sum.user_ns += used.user_ns;
            sum.system_ns += used.system_ns;
        }
        Ok(sum)
    }

    fn of_one(pid: u32) -> io::Result<Self> {
        let (mut total_ns, mut wait_ns) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between listing and reading.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            total_ns += nth_number(&text, 0).unwrap_or(0);
            wait_ns += nth_number(&text, 1).unwrap_or(0);
        }
        let fields = stat_fields(pid)?;
        Ok(Self {
            total_ns,
            wait_ns,
            user_ns: nth_number(&fields, 11).unwrap_or(0) * TICK_NS,
            system_ns: nth_number(&fields, 12).unwrap_or(0) * TICK_NS,
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

/// Resident memory of `pid` in KiB; of several processes the sum of their proportional shares. Exact (`smaps_rollup`)
/// where the kernel has it; walks the page tables, so not for a measured window.
///
/// # Errors
///
/// The process is gone, or `/proc` can't be read.
pub fn resident_kib(pid: u32) -> io::Result<u64> {
    match family(pid).as_slice() {
        [_] => rollup_kib(pid, "Rss:").or_else(|_| status_kib(pid, "VmRSS:")),
        // A descendant may end any time; the others still count.
        members => Ok(members.iter().filter_map(|member| rollup_kib(*member, "Pss:").ok()).sum()),
    }
}

/// Highest resident memory since the start or the last [`reset_peak`], in KiB. For several processes the sum of their
/// peaks, which counts shared pages more than once: the kernel keeps no peak of shares.
///
/// # Errors
///
/// The process is gone, or `/proc` can't be read.
pub fn peak_kib(pid: u32) -> io::Result<u64> {
    let own = status_kib(pid, "VmHWM:")?;
    let others = family(pid).into_iter().skip(1);
    Ok(own + others.filter_map(|member| status_kib(member, "VmHWM:").ok()).sum::<u64>())
}

/// Starts [`peak_kib`] anew. Without the right to do so the peak covers the whole life of the process.
pub fn reset_peak(pid: u32) {
    for member in family(pid) {
        let _ = fs::write(format!("/proc/{member}/clear_refs"), "5");
    }
}

/// `stat` after the name, which stands in parentheses and may hold spaces: state, parent, ...
fn stat_fields(pid: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat.rsplit_once(')').map_or("", |(_, fields)| fields).to_owned())
}

fn rollup_kib(pid: u32, label: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    labelled_kib(&text, label).ok_or_else(|| io::Error::other(format!("no {label} in smaps_rollup")))
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
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

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

    #[test]
    fn a_family_is_a_process_and_what_it_started() {
        let shell = "sleep 60 & sleep 60 & echo ready; wait";
        let mut parent = Command::new("sh")
            .args(["-c", shell])
            .stdout(Stdio::piped())
            .spawn()
            .expect("every machine has a shell");
        let mut ready = String::new();
        let output = parent.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut ready).expect("the shell speaks");
        let members = family(parent.id());
        let alone = rollup_kib(parent.id(), "Pss:").expect("it waits for its children");
        let all = resident_kib(parent.id()).expect("it waits for its children");
        let own = family(std::process::id());
        for member in members.iter().rev() {
            let pid = i32::try_from(*member).ok().and_then(Pid::from_raw).expect("a process has a number");
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = parent.wait();
        assert_eq!((ready.as_str(), members.len(), members[0]), ("ready\n", 3, parent.id()));
        assert!(all > alone, "{all} KiB for all, {alone} KiB for the first");
        assert_eq!(own, [std::process::id()], "what the load test starts are the servers");
    }
}
