//! A node as a process that is killed, ended, stopped and started again on the same address.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::target::launch::Launch;

/// One node.
pub(super) struct Node {
    launch: Launch,
    child: Option<Child>,
}

impl Node {
    /// A node whose order is found by `route`.
    pub(super) fn new(
        program: &Path,
        args: &[String],
        route: &Path,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut launch = Launch::listening(program)?;
        launch.command.args(["--admin-listen", "off", "--log-level", "warn", "--drain", "0s"]);
        launch.command.args(["--order", &format!("unix:{}", route.display())]);
        // No subscriber is away for that many events.
        launch.command.args(["--history-events", "100000", "--history-bytes", "64MiB"]);
        launch.command.args(args);
        Ok(Self { launch, child: None })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.launch.addr
    }

    /// Starts it. It does not listen yet.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.launch.folder.path().join(LOG))?;
        let command = self.launch.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.child.as_ref().map(Pid::from_child).ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until it has ended.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.wait().map(drop))
    }

    /// How it ended, if it did by itself.
    pub(super) fn obituary(&mut self) -> io::Result<Option<String>> {
        let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() else {
            return Ok(None);
        };
        Ok(Some(format!("a node ended ({status}): {}", self.log())))
    }

    /// What it logged last.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(self.launch.folder.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(4).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // There is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const LOG: &str = "log";
