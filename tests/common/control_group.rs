//! A control group with a memory limit, of either version of the hierarchy (cgroups(7)): a container is killed by the
//! same limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::process::{TIDEGATE, command_of};

/// A group below our own. Removed when dropped.
pub struct ControlGroup {
    path: PathBuf,
}

impl ControlGroup {
    /// Creates a group with room for so many bytes. `None` if groups cannot be made here.
    pub fn new(bytes_max: u64) -> Option<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tidegate-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent()?.join(name);
        fs::create_dir(&path).ok()?;
        let group = Self { path };
        let limited = ["memory.max", "memory.limit_in_bytes"].iter().any(|file| {
            group.path.join(file).exists() && fs::write(group.path.join(file), bytes_max.to_string()).is_ok()
        });
        limited.then_some(group)
    }

    /// Returns a command that runs the program in the group with `args`. A shell joins the group and becomes the
    /// program.
    pub fn command(&self, args: &[&str]) -> Command {
        let join = r#"echo $$ > "$0" && exec "$@""#;
        let procs = self.path.join("cgroup.procs");
        let procs = procs.to_str().expect("a plain path");
        command_of("sh", &[&["-c", join, procs, TIDEGATE], args].concat())
    }

    /// Returns how many processes were killed for want of memory.
    pub fn kills(&self) -> u64 {
        let count = |file: &str| {
            let text = fs::read_to_string(self.path.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
        };
        count("memory.events").or_else(|| count("memory.oom_control")).expect("a count of kills")
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Returns our own group, or the nearest existing one above it: inside a container the path may be the host's.
fn parent() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let of = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let root = match controllers {
            "" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => "/sys/fs/cgroup",
            "memory" => "/sys/fs/cgroup/memory",
            _ => return None,
        };
        Some((Path::new(root), path.trim_start_matches('/').to_owned()))
    };
    let (root, path) = groups.lines().find_map(of)?;
    let own = root.join(path);
    let mut up = own.ancestors().take_while(|path| path.starts_with(root));
    up.find(|path| path.is_dir() && may_limit(path)).map(Path::to_owned)
}

/// Returns whether groups below `path` can have a memory limit.
fn may_limit(path: &Path) -> bool {
    let subtree = path.join("cgroup.subtree_control");
    match fs::read_to_string(&subtree) {
        Ok(controllers) if controllers.split_whitespace().any(|controller| controller == "memory") => true,
        Ok(_) => fs::write(&subtree, "+memory").is_ok(),
        Err(_) => path.join("memory.limit_in_bytes").exists(),
    }
}
