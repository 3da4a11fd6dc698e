//! The program itself as a process, with its settings in a file that can change while it runs, and all its output.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::eventually;
use super::metrics::Metrics;

/// The path of the program.
pub const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Arguments for listeners on ports that the kernel chooses.
pub const FREE_PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

/// The program, without the settings in the environment of the test run.
pub fn command(args: &[&str]) -> Command {
    command_of(TIDEGATE, args)
}

/// The same for a program that starts it, such as a shell.
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

/// A running process. Killed when dropped.
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
    /// Starts the program on [`FREE_PORTS`].
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn(command(&[&FREE_PORTS, args].concat()).envs(env.iter().copied()))
    }

    /// Starts `command` and reads up to and including the welcome.
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
            // Once the program has ended, its output is read completely.
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

    /// Returns its standard output so far, which begins with the welcome.
    pub fn welcome(&self) -> String {
        self.out.lock().expect("no reader panics").clone()
    }

    /// Returns its standard error so far, which has the log.
    pub fn logged(&self) -> String {
        self.err.lock().expect("no reader panics").clone()
    }

    /// Returns all its output so far.
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

    /// Sends SIGHUP and waits for one more line that contains `answer`.
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

    /// Waits for the process to end.
    pub fn exit_code(&mut self) -> Option<i32> {
        eventually("an end", || !self.is_running());
        self.child.wait().expect("our child").code()
    }

    /// Ends the process in order, and returns all its output.
    pub fn end(self) -> String {
        self.signal("-TERM");
        self.end_of_signalled()
    }

    /// Does the same for a process that already has its signal.
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

/// Reads lines until the end, in a thread of its own: a program whose output is not read blocks.
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

/// Returns the address that follows `after` in the welcome.
fn address(welcome: &str, after: &str) -> Option<SocketAddr> {
    let rest = welcome.split(after).nth(1)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
    Some(rest[..end.unwrap_or(rest.len())].parse().expect("an address"))
}
