//! The program itself, with its settings in a file that can change under it, and all it prints.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::eventually;
use super::metrics::Metrics;

/// Where it is.
pub const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Listeners on ports of the kernel's choice.
pub const FREE_PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

/// The program, without settings from the environment of whoever runs the tests.
pub fn command(args: &[&str]) -> Command {
    command_of(TIDEGATE, args)
}

/// The same for a program that leads to it, such as a shell.
pub fn command_of(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(key);
        }
    }
    command.stdin(Stdio::null()).args(args);
    command
}

/// A running one. Killed when dropped.
pub struct Process {
    child: Child,
    pub addr: SocketAddr,
    /// All zeroes without an admin listener.
    pub admin: SocketAddr,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// On [`FREE_PORTS`].
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn(command(&[&FREE_PORTS, args].concat()).envs(env.iter().copied()))
    }

    /// As `command` says, up to and including the welcome.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![
            keep(child.stdout.take().expect("piped"), &out),
            keep(child.stderr.take().expect("piped"), &err),
        ];
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut process = Self { child, addr: nowhere, admin: nowhere, out, err, readers };
        eventually("the welcome", || {
            // All that is ever printed is read once whoever prints is gone.
            let is_over = process.readers.iter().all(JoinHandle::is_finished);
            let is_there = process.welcome().contains("EventSource");
            assert!(is_there || !is_over, "it ended after: {}", process.printed());
            is_there
        });
        let welcome = process.welcome();
        process.addr = address(&welcome, " is listening on ").expect("an address");
        process.admin = address(&welcome, "Metrics: http://").unwrap_or(nowhere);
        process
    }

    /// What it has said on standard output, which begins with the welcome.
    pub fn welcome(&self) -> String {
        self.out.lock().expect("no reader panics").clone()
    }

    /// What it has said on standard error, which is where it logs.
    pub fn logged(&self) -> String {
        self.err.lock().expect("no reader panics").clone()
    }

    /// All it has printed so far.
    pub fn printed(&self) -> String {
        self.welcome() + &self.logged()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin)
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

    /// Waits for its end.
    pub fn exit_code(&mut self) -> Option<i32> {
        eventually("an end", || !self.is_running());
        self.child.wait().expect("our child").code()
    }

    /// Ends it in order, and gives all it ever printed.
    pub fn end(self) -> String {
        self.signal("-TERM");
        self.end_of_signalled()
    }

    /// The same of one that was told to end already.
    pub fn end_of_signalled(mut self) -> String {
        assert_eq!(self.exit_code(), Some(0), "{}", self.printed());
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
        let mut line = String::new();
        while lines.read_line(&mut line).expect("what it prints is UTF-8") > 0 {
            printed.lock().expect("no reader panics").push_str(&line);
            line.clear();
        }
    })
}

/// The address that comes `after` something in what it says.
fn address(welcome: &str, after: &str) -> Option<SocketAddr> {
    let rest = welcome.split(after).nth(1)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
    Some(rest[..end.unwrap_or(rest.len())].parse().expect("an address"))
}
