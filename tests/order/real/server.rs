//! A real Redis as a process, in a folder of its own, on a port and a socket of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use redis::{Client, Connection, FromRedisValue, cmd};
use socket2::{Domain, Socket, Type};

use crate::common::eventually;
use crate::common::neighbours::{Folder, find};

/// Starts a server, or skips the test.
macro_rules! redis_or_skip {
    ($($option:expr),*) => {
        match $crate::real::server::RedisServer::start(&[$($option),*]) {
            Some(server) => server,
            None => return,
        }
    };
}
pub(crate) use redis_or_skip;

pub(crate) struct RedisServer {
    program: PathBuf,
    options: Vec<String>,
    folder: Folder,
    port: u16,
    /// Keeps the port while no process listens on it.
    _reserved: Socket,
    child: Option<Child>,
}

impl RedisServer {
    /// A server with these options. It keeps nothing on disk if they do not say so.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        let program = find("redis-server")?;
        let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        reserved.set_reuse_address(true).expect("Linux has it");
        reserved.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has free ports");
        let address = reserved.local_addr().ok().and_then(|address| address.as_socket());
        let port = address.expect("it is bound").port();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let folder = Folder::new();
        let mut server = Self { program, options, folder, port, _reserved: reserved, child: None };
        server.run();
        Some(server)
    }

    /// Starts the process, and waits until it answers.
    pub(crate) fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let _ = fs::remove_file(self.socket());
        let socket = self.socket().display().to_string();
        let port = self.port.to_string();
        let child = Command::new(&self.program)
            .args(["--port", &port, "--bind", "127.0.0.1", "--unixsocket", &socket])
            .args(["--dir", &self.folder.path().display().to_string()])
            .args(["--enable-debug-command", "local", "--repl-diskless-sync-delay", "0"])
            .args(["--save", ""])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program is there");
        self.child = Some(child);
        eventually("Redis answers", || {
            let conn = self.try_connect();
            conn.is_some_and(|mut conn| cmd("PING").query::<String>(&mut conn).is_ok())
        });
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours to kill");
            child.wait().expect("it was killed");
        }
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().expect("every system has it");
        assert!(sent.success());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.file("redis.sock")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn try_connect(&self) -> Option<Connection> {
        Client::open(("127.0.0.1", self.port)).ok()?.get_connection().ok()
    }

    pub(crate) fn connect(&self) -> Connection {
        self.try_connect().expect("it runs")
    }

    /// Runs a command given as words.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split_whitespace();
        let mut asked = cmd(words.next().expect("a command"));
        words.for_each(|word| {
            asked.arg(word);
        });
        asked.query(&mut self.connect()).unwrap_or_else(|err| panic!("{asked:?}: {err}"))
    }

    /// What `INFO` says about `name`.
    pub(crate) fn info(&self, name: &str) -> String {
        let info: String = self.ask("INFO everything");
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name} in {info}")).to_owned()
    }

    /// Becomes a replica of `master`, and waits until it has everything.
    pub(crate) fn replicate(&self, master: &Self) {
        let _: () = self.ask(&format!("REPLICAOF 127.0.0.1 {}", master.port));
        eventually("the replica is in step", || {
            self.info("master_link_status") == "up"
                && self.info("slave_repl_offset") == master.info("master_repl_offset")
        });
    }

    /// Gets nothing more from its master, and stays a replica.
    pub(crate) fn lag(&self) {
        let _: () = self.ask("REPLICAOF 127.0.0.1 1");
    }

    pub(crate) fn promote(&self) {
        let _: () = self.ask("REPLICAOF NO ONE");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A place that leads to one server, or to another, or nowhere.
pub(crate) struct Route {
    folder: Folder,
}

impl Route {
    pub(crate) fn to(server: &RedisServer) -> Self {
        let route = Self { folder: Folder::new() };
        route.lead(&server.socket());
        route
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("route.sock")
    }

    pub(crate) fn lead(&self, target: &Path) {
        let next = self.folder.path().join("next");
        symlink(target, &next).expect("a link");
        fs::rename(next, self.path()).expect("it takes the place of the other");
    }

    pub(crate) fn lead_nowhere(&self) {
        self.lead(&self.folder.path().join("nowhere"));
    }
}
