//! The resources that the process may use, read once at the start.
//!
//! A container sees the whole machine and is killed at its own limit, so control groups come first (`cgroups(7)`).

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::available_parallelism;

use procfs::process::Process;
use procfs::{Current as _, Meminfo, ProcessCGroup};

/// Where systemd and container runtimes mount the hierarchies.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The resources of the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Machine {
    /// Bytes of memory. `None` if unknown.
    pub memory_max: Option<u64>,
    /// Cores.
    pub cpus: usize,
}

impl Machine {
    /// Reads them from the system.
    #[must_use]
    pub fn read() -> Self {
        let groups = Process::myself().and_then(|process| process.cgroups()).map(|groups| groups.0);
        let installed = Meminfo::current().ok().map(|memory| memory.mem_total);
        let allowed = group_memory_max(Path::new(CGROUPS), &groups.unwrap_or_default());
        Self {
            memory_max: [installed, allowed].into_iter().flatten().min(),
            cpus: available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }
}

/// The least memory limit of `groups` and their parents. Inside a container, a group's path may be the host's and not
/// exist; the walk up then ends at the container's own group.
fn group_memory_max(root: &Path, groups: &[ProcessCGroup]) -> Option<u64> {
    let limits = groups.iter().flat_map(|group| {
        // In version 2 there is one hierarchy for all controllers.
        let (folder, file) = if group.controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if group.controllers.iter().any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            return Vec::new();
        };
        let path = folder.join(group.pathname.trim_start_matches('/'));
        let up = path.ancestors().take_while(|path| path.starts_with(&folder));
        // "max" is not a number; then the limit of the parent counts.
        up.filter_map(|path| fs::read_to_string(path.join(file)).ok()?.trim().parse().ok()).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A made-up hierarchy, removed when the test ends.
    struct Hierarchy(PathBuf);

    impl Hierarchy {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("tidegate-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
                fs::write(path, text).expect("a file");
            }
            Self(root)
        }
    }

    impl Drop for Hierarchy {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn group(controllers: &[&str], pathname: &str) -> ProcessCGroup {
        let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        ProcessCGroup { hierarchy: 0, controllers, pathname: pathname.to_owned() }
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = Hierarchy::new(
            "v2",
            &[("a/memory.max", "4096\n"), ("a/b/memory.max", "max\n"), ("a/b/c/memory.max", "8192\n")],
        );
        assert_eq!(group_memory_max(&root.0, &[group(&[], "/a/b/c")]), Some(4096));
        assert_eq!(group_memory_max(&root.0, &[group(&[], "/a/b/c/not/here")]), Some(4096));
        assert_eq!(group_memory_max(&root.0, &[group(&[], "/b")]), None);
    }

    #[test]
    fn the_older_version_has_a_hierarchy_for_memory() {
        let root = Hierarchy::new(
            "v1",
            &[
                ("memory/memory.limit_in_bytes", "9223372036854771712"),
                ("memory/a/memory.limit_in_bytes", "77"),
            ],
        );
        let groups = [group(&["cpu", "cpuacct"], "/"), group(&["memory"], "/a"), group(&[], "/")];
        assert_eq!(group_memory_max(&root.0, &groups), Some(77));
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::read();
        assert!(machine.cpus >= 1);
        assert!(machine.memory_max.is_some_and(|bytes| bytes > 1 << 20), "{machine:?}");
    }
}
