//! The program itself, with its settings in a file that can change under it, and all it prints.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::eventually;

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// The program, without settings from the environment of whoever runs the tests.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(TIDEGATE);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(key);
        }
    }
    command.stdin(Stdio::null()).args(args);
    command
}

/// A running one, on ports of the kernel's choice. Killed when dropped.
pub struct Process {
    child: Child,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    printed: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut command = command(&[&ports, args].concat());
        command.envs(env.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let printed = Arc::<Mutex<String>>::default();
        let stdout = keep(child.stdout.take().expect("piped"), &printed);
        let stderr = keep(child.stderr.take().expect("piped"), &printed);
        let mut process = Self {
            child,
            addr: ([0, 0, 0, 0], 0).into(),
            admin: ([0, 0, 0, 0], 0).into(),
            printed,
            readers: vec![stdout, stderr],
        };
        eventually("the welcome", || process.printed().contains("EventSource"));
        let welcome = process.printed();
        process.addr = address(&welcome, "-N http://");
        process.admin = address(&welcome, "Metrics: http://");
        process
    }

    /// All it has printed so far, logs included.
    pub fn printed(&self) -> String {
        self.printed.lock().expect("no reader panics").clone()
    }

    /// Sends SIGHUP and waits for a line that has `answer`, which no line had before that often.
    pub fn reload(&self, answer: &str) {
        let count = || self.printed().matches(answer).count();
        let before = count();
        self.signal("-HUP");
        eventually(answer, || count() > before);
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill(1)").success());
    }

    /// Ends it in order, and gives all it ever printed.
    pub fn end(mut self) -> String {
        self.signal("-TERM");
        assert!(self.child.wait().expect("our child").success(), "{}", self.printed());
        for reader in self.readers.drain(..) {
            reader.join().expect("it reads to the end");
        }
        self.printed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines until there are no more, as a thread of its own: a program whose output nobody takes stands still.
fn keep(output: impl Read + Send + 'static, printed: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let printed = printed.clone();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            printed.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

fn address(welcome: &str, after: &str) -> SocketAddr {
    let rest = welcome.split(after).nth(1).unwrap_or_else(|| panic!("{after} in {welcome}"));
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
    rest[..end.unwrap_or(rest.len())].parse().expect("an address")
}
