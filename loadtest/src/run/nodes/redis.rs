//! A Redis that is started, killed and asked, and the place by which nodes find the one that counts.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{LOOK_AGAIN, PATIENCE};
use crate::target::launch::free_address;

/// What Redis answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    /// Nothing.
    Nil,
    /// A text, or bytes.
    Text(Vec<u8>),
    /// Several.
    List(Vec<Value>),
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> &[Value] {
        match self {
            Self::List(values) => values,
            _ => &[],
        }
    }
}

/// One Redis, in a folder of its own. It keeps everything in an append-only file.
pub(super) struct RedisServer {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl RedisServer {
    pub(super) fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir(&folder)?;
        Ok(Self { folder, port: free_address()?.port(), child: None })
    }

    /// Starts it, and waits until it has read its file.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let _ = fs::remove_file(self.socket());
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--unixsocket"]);
        command.arg(self.socket()).arg("--dir").arg(&self.folder);
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "no"]);
        command.args(["--auto-aof-rewrite-percentage", "0", "--repl-diskless-sync-delay", "0"]);
        command.args(["--enable-debug-command", "local"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        self.child = Some(child);
        self.until("answers", |server| server.ask(&["PING"]).is_ok())
    }

    /// Waits until `is_so`.
    pub(super) fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("Redis never {what}")));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.child.as_ref().map(Pid::from_child).ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, signal)?)
    }

    /// Forgets what it has kept.
    pub(super) fn forget(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.kept()) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }

    /// Where it keeps what it has.
    pub(super) fn kept(&self) -> PathBuf {
        self.folder.join("appendonlydir")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// Becomes a replica of `master`, and waits until it has begun to follow.
    pub(super) fn replicate(&self, master: &Self) -> io::Result<()> {
        self.ask(&["REPLICAOF", "127.0.0.1", &master.port.to_string()])?;
        self.until("follows", |server| {
            let info = server.ask(&["INFO", "replication"]);
            info.is_ok_and(|info| info.text().is_some_and(|info| info.contains("master_link_status:up")))
        })
    }

    /// Runs a command on a connection of its own.
    pub(super) fn ask(&self, words: &[&str]) -> io::Result<Value> {
        let mut socket = UnixStream::connect(self.socket())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let words_of = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let asked = format!("*{}\r\n{}", words.len(), words_of.collect::<String>());
        socket.write_all(asked.as_bytes())?;
        answer(&mut BufReader::new(socket))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.kill();
    }
}

/// Reads one answer. An error that Redis tells is one.
fn answer(from: &mut impl BufRead) -> io::Result<Value> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    let length = |text: &str| text.parse::<i64>().map_err(io::Error::other);
    match line.split_at_checked(1) {
        Some(("+" | ":", text)) => Ok(Value::Text(text.into())),
        Some(("$", text)) => match usize::try_from(length(text)?) {
            Err(_) => Ok(Value::Nil),
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                from.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Ok(Value::Text(bytes))
            }
        },
        Some(("*", text)) => match usize::try_from(length(text)?) {
            Err(_) => Ok(Value::Nil),
            Ok(length) => Ok(Value::List((0..length).map(|_| answer(from)).collect::<io::Result<_>>()?)),
        },
        _ => Err(io::Error::other(format!("Redis says {line:?}"))),
    }
}

/// A place that leads to one of several servers.
pub(super) fn lead(route: &Path, to: &Path) -> io::Result<()> {
    let next = route.with_extension("next");
    symlink(to, &next)?;
    fs::rename(next, route)
}

/// Copies the files of a folder into a new one.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// What a stop may take before those who wait for it are told.
pub(super) fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let read = |text: &str| answer(&mut text.as_bytes());
        let text = |text: &str| Value::Text(text.into());
        let list = Value::List(vec![text("7"), Value::Nil, text("a\r\nb"), Value::List(Vec::new())]);
        assert_eq!(read("*4\r\n:7\r\n$-1\r\n$4\r\na\r\nb\r\n*0\r\n").expect("an answer"), list);
        assert!(read("-ERR no\r\n").is_err() && read("").is_err() && read("$5\r\nab").is_err());
    }
}
