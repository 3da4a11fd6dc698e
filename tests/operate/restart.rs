//! Promise: with sockets that outlive the process, a new version costs no connection, no publish and no event without a
//! gap. The test holds the sockets as systemd would, and notifies each process as systemd would.

use crate::common::{self, eventsource};

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tidegate::config::{Config, ListenAddr, Rate};
use tidegate::server::Server;
use tidegate::server::supervision::Supervision;
use tokio::task::JoinSet;

use self::common::conn::{Conn, chunk, request};
use self::common::process::{TIDEGATE, command_of};
use self::common::stream::Listener;
use self::common::{BASE, TempPath, assert_problem, config, eventually};
use self::eventsource::{Event, EventSource};

/// A socket as a manager opens it: with a queue that all clients fit into.
fn listening() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has free ports");
    socket.listen(4096).expect("a bound socket");
    socket
}

fn address(socket: &Socket) -> SocketAddr {
    socket.local_addr().ok().and_then(|addr| addr.as_socket()).expect("a TCP socket")
}

/// A server in this process on `socket`, which stays open after it.
fn activated(socket: &Socket, config: Config) -> Server {
    let sockets = vec![socket.try_clone().expect("a descriptor")];
    Server::start_supervised(config, Supervision { sockets, ..Supervision::default() }).expect("it listens")
}

fn publish(room: &str, data: &str) -> Vec<u8> {
    let body = json!({"room": room, "data": data}).to_string();
    request("POST", &format!("{BASE}/publish"), &[], body.as_bytes())
}

#[test]
fn newcomers_wait_for_the_next_server_while_this_one_drains() {
    let socket = listening();
    let addr = address(&socket);
    let drain_rate = Rate { events: 1, per: Duration::from_hours(1) };
    let slow = Config { drain: Duration::from_mins(10), drain_rate, shards: 2, ..config() };
    let first = activated(&socket, slow);
    assert_eq!(first.addresses(), [ListenAddr::Tcp(addr)], "`listen` does not count");
    let mut kept = Conn::tcp(addr);
    kept.send(publish("a", "before"));
    let answer = kept.response();
    assert_eq!((answer.status(), answer.header("connection")), (200, None));
    let mut held: Vec<Listener> =
        (0..20).map(|n| Listener::open(Conn::tcp(addr), &format!("/stream/a/u{n}"), &[])).collect();
    let draining = std::thread::spawn(move || first.drain());
    // The open connection is served, and then closed.
    eventually("a drain", || {
        kept.send(publish("a", "during"));
        let answer = kept.response();
        assert_eq!(answer.status(), 200);
        answer.header("connection") == Some("close")
    });
    assert!(kept.is_closed());
    assert!(!draining.is_finished());
    // No process accepts these connections, and none refuses them.
    let mut waiting: Vec<Conn> = (0..50).map(|_| Conn::tcp(addr)).collect();
    for (n, conn) in waiting.iter_mut().enumerate() {
        conn.send(publish("a", &n.to_string()));
    }
    let second = activated(&socket, config());
    for mut conn in waiting {
        let answer = conn.response();
        assert_eq!((answer.status(), answer.header("connection")), (200, None), "{}", answer.text());
    }
    second.drain().expect("it ran");
    // The first server has ten minutes, and ends once no stream is left.
    held.clear();
    draining.join().expect("no panic").expect("it ran");
}

#[test]
fn a_request_that_was_begun_is_answered_at_the_very_end() {
    // One queue, so that the first connection is accepted first.
    let server = Server::start(Config { shards: 1, ..config() }).expect("a free port");
    let ListenAddr::Tcp(addr) = server.addresses()[0].clone() else { panic!("a port") };
    let request = publish("a", "last");
    let (begin, rest) = request.split_at(request.len() - 5);
    let mut begun = Conn::tcp(addr);
    begun.send(begin);
    // The server accepted that connection before this one, and read from it.
    assert_eq!(Conn::tcp(addr).round(&publish("a", "first")).status(), 200);
    let (drained, at_end) = std::sync::mpsc::channel();
    let draining = std::thread::spawn(move || {
        let result = server.drain();
        drained.send(()).expect("this test waits");
        result
    });
    // Without a stream to close, the drain waits only for this request.
    eventually("the port is closed", || TcpStream::connect(addr).is_err());
    assert!(at_end.try_recv().is_err());
    begun.send(rest);
    let answer = begun.response();
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    draining.join().expect("no panic").expect("no error");
}

#[test]
fn a_publisher_of_lines_is_told_how_far_it_got() {
    let server = Server::start(config()).expect("a free port");
    let ListenAddr::Tcp(addr) = server.addresses()[0].clone() else { panic!("a port") };
    let mut listener = Listener::open(Conn::tcp(addr), "/stream/a/u", &[]);
    let mut lines = Conn::tcp(addr);
    let head = "host: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked";
    lines.send(format!("POST {BASE}/publish HTTP/1.1\r\n{head}\r\n\r\n"));
    for n in 0..3 {
        lines.send(chunk(&format!("{}\n", json!({"room": "a", "data": n}))));
        assert_eq!(listener.data(), n.to_string());
    }
    server.drain().expect("it ran");
    let answer = lines.response();
    assert_problem(&answer, 503, "draining");
    assert_eq!((&answer.json()["published"], answer.header("connection")), (&json!(3), Some("close")));
}

#[test]
fn what_the_manager_opened_is_its_own_to_remove() {
    let path = TempPath::new();
    let listener = UnixListener::bind(&path.0).expect("a path");
    let sockets = vec![listener.try_clone().expect("a descriptor").into()];
    let supervision = Supervision { sockets, ..Supervision::default() };
    let server = Server::start_supervised(config(), supervision).expect("it listens");
    assert_eq!(server.addresses(), [path.listen()]);
    assert_eq!(Conn::unix(&path.0).round(&publish("a", "x")).status(), 200);
    server.drain().expect("it ran");
    assert!(path.0.exists());
    UnixStream::connect(&path.0).expect("the manager's socket takes connections");
}

#[test]
fn a_socket_that_others_reach_is_not_served_unless_told() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into()).expect("a free port");
    socket.listen(1).expect("a bound socket");
    let started = |insecure| {
        let sockets = vec![socket.try_clone().expect("a descriptor")];
        let supervision = Supervision { sockets, ..Supervision::default() };
        Server::start_supervised(Config { insecure, ..config() }, supervision)
    };
    let err = started(false).err().expect("refused").to_string();
    assert!(err.starts_with("ListenStream=0.0.0.0:") && err.ends_with("or insecure=true"), "{err}");
    assert!(started(true).is_ok());
}

const SWAPS: usize = 20;
const LISTENERS: usize = 5_000;
const ROOMS: usize = 250;
const PUBLISHERS: usize = 10;
const PUBLISHES_PER_S: u64 = 500;

/// Subscribers that connect at once in the beginning.
const ARRIVALS: usize = 250;

/// Short, with a longer `retry`, so that no client reconnects before the next process has started.
const DRAIN: &str = "300ms";
const RETRY: &str = "1s";

/// Takes the part of systemd: holds the sockets, starts the processes and receives their notices.
struct Manager {
    folder: PathBuf,
    tcp: Socket,
    unix: UnixListener,
    notify: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("tidegate-restart-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let unix = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let path = socket2::SockAddr::unix(folder.join("http.sock")).expect("a short path");
        unix.bind(&path).expect("our folder");
        unix.listen(4096).expect("a bound socket");
        let notify = UnixDatagram::bind(folder.join("notify")).expect("our folder");
        notify.set_read_timeout(Some(common::PATIENCE)).expect("a time above zero");
        Self { folder, tcp: listening(), unix: unix.into(), notify }
    }

    /// Starts the next process, and waits until it says that it is ready.
    fn start(&self) -> Process {
        let fd = |child_fd, parent_fd| FdMapping { parent_fd, child_fd };
        let mut command = command_of("sh", &["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\"", TIDEGATE]);
        command
            .args(["--admin-listen", "off", "--drain", DRAIN, "--retry", RETRY, "--log-level", "warn"])
            .env("LISTEN_FDS", "2")
            .env("NOTIFY_SOCKET", self.folder.join("notify"))
            .stdout(Stdio::null())
            .fd_mappings(vec![
                fd(3, self.tcp.try_clone().expect("a descriptor").into()),
                fd(4, self.unix.try_clone().expect("a descriptor").into()),
            ])
            .expect("two descriptors");
        let process = Process(command.spawn().expect("sh(1)"));
        self.until_said("READY=1");
        process
    }

    fn until_said(&self, line: &str) {
        loop {
            let mut buf = [0; 4096];
            let count = self.notify.recv(&mut buf).unwrap_or_else(|err| panic!("waited for {line}: {err}"));
            if String::from_utf8_lossy(&buf[..count]).lines().any(|said| said == line) {
                return;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Killed when dropped.
struct Process(Child);

impl Process {
    /// Asks for the end and waits for it.
    fn end(mut self, manager: &Manager) {
        let sent = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        assert!(sent.expect("kill(1)").success());
        manager.until_said("STOPPING=1");
        assert_eq!(self.0.wait().expect("our child").code(), Some(0));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Counts that all threads of this test share.
#[derive(Default)]
struct Tally {
    /// Streams that began.
    connected: AtomicUsize,
    gaps: AtomicUsize,
    overloads: AtomicUsize,
    published: AtomicUsize,
    stop: AtomicBool,
}

/// A socket of either kind.
trait Wire: Read + Write + Send {
    /// Whether the peer has closed it without sending anything; a connection pool checks the same before it reuses one.
    fn is_closed(&self) -> bool;
}

impl Wire for TcpStream {
    fn is_closed(&self) -> bool {
        socket2::SockRef::from(self).peek_end()
    }
}

impl Wire for UnixStream {
    fn is_closed(&self) -> bool {
        socket2::SockRef::from(self).peek_end()
    }
}

trait PeekEnd {
    fn peek_end(&self) -> bool;
}

impl PeekEnd for socket2::SockRef<'_> {
    fn peek_end(&self) -> bool {
        self.set_nonblocking(true).expect("a socket");
        let peeked = self.peek(&mut [std::mem::MaybeUninit::uninit(); 1]);
        self.set_nonblocking(false).expect("a socket");
        matches!(peeked, Ok(0))
    }
}

/// Publishes to its share of the rooms, each event with its number in its room, at its share of the rate. Every publish
/// must be answered with 200, at the first attempt.
fn publisher(number: usize, connect: &dyn Fn() -> Box<dyn Wire>, tally: &Tally) {
    let rooms: Vec<usize> = (0..ROOMS).filter(|room| room % PUBLISHERS == number).collect();
    let pause = Duration::from_secs(PUBLISHERS as u64) / u32::try_from(PUBLISHES_PER_S).expect("few");
    let (mut wire, started) = (connect(), Instant::now());
    for n in 0_u32.. {
        let round = n as usize / rooms.len();
        // Whole rounds only, so that all rooms have the same last number.
        let at_start = (n as usize).is_multiple_of(rooms.len());
        if at_start && tally.stop.load(Ordering::Relaxed) {
            return;
        }
        // After a wait it catches up: the schedule sets the rate.
        std::thread::sleep((started + pause * n).saturating_duration_since(Instant::now()));
        if wire.is_closed() {
            wire = connect();
        }
        let room = rooms[n as usize % rooms.len()];
        wire.write_all(&publish(&format!("r{room}"), &round.to_string())).expect("a publish is taken");
        let head = answer(&mut *wire);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        tally.published.fetch_add(1, Ordering::Relaxed);
        if head.contains("connection: close\r\n") {
            wire = connect();
        }
    }
}

/// Reads an answer with a length and returns its head.
fn answer(wire: &mut dyn Wire) -> String {
    let (mut answer, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let count = wire.read(&mut buf).expect("a publish is answered");
        assert!(count > 0, "a publish is answered, not dropped after {answer:?}");
        answer.extend_from_slice(&buf[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
        if body.len() == length {
            return format!("{head}\r\n");
        }
    }
}

/// Subscribes until "end", and checks every step: no attempt fails, every end is announced, and numbers follow each
/// other except for a gap.
async fn listener(number: usize, mut source: EventSource, tally: Arc<Tally>) {
    let room = number % ROOMS;
    let (mut last, mut gap, mut told) = (None::<u64>, true, false);
    loop {
        match source.next().await {
            Event::Open => told = false,
            Event::End => assert!(told, "listener {number}: the stream was cut"),
            Event::Unreached(err) => panic!("listener {number} was refused: {err}"),
            Event::Fatal(head) => panic!("listener {number}: {head}"),
            Event::Message(message) => match message.kind.as_str() {
                "connected" => drop(tally.connected.fetch_add(1, Ordering::Relaxed)),
                "closing" => told = true,
                "overload" => {
                    told = true;
                    assert_eq!(message.data, r#"{"reason":"draining"}"#);
                    tally.overloads.fetch_add(1, Ordering::Relaxed);
                }
                "gap" => {
                    gap = true;
                    tally.gaps.fetch_add(1, Ordering::Relaxed);
                }
                "end" => return,
                _ => {
                    let next = message.data.parse().expect("a number");
                    let in_order = last.is_none_or(|last| if gap { next > last } else { next == last + 1 });
                    assert!(in_order, "listener {number} in r{room}: {next} after {last:?}, gap {gap}");
                    (last, gap) = (Some(next), false);
                }
            },
        }
    }
}

/// Runs all subscribers in a thread of its own, which ends once all have received "end".
fn crowd(addr: SocketAddr, tally: Arc<Tally>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut listeners = JoinSet::new();
            for n in 0..LISTENERS {
                // At the start, too, not all in the same millisecond.
                if n.is_multiple_of(ARRIVALS) {
                    let before = n.saturating_sub(ARRIVALS);
                    while tally.connected.load(Ordering::Relaxed) < before {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                let source = EventSource::new(n, addr, &format!("{BASE}/stream/r{}/u{n}", n % ROOMS));
                listeners.spawn(listener(n, source, tally.clone()));
            }
            while let Some(ended) = listeners.join_next().await {
                ended.expect("no listener found anything wrong");
            }
        });
    })
}

/// Starts all publishers, one half over TCP, the other on the Unix socket at `path`.
fn publishers(addr: SocketAddr, path: &Path, tally: &Arc<Tally>) -> Vec<JoinHandle<()>> {
    let start = |number: usize| {
        let (tally, path) = (tally.clone(), path.to_owned());
        std::thread::spawn(move || {
            let connect = || -> Box<dyn Wire> {
                if number.is_multiple_of(2) {
                    Box::new(TcpStream::connect(addr).expect("nobody is refused"))
                } else {
                    Box::new(UnixStream::connect(&path).expect("nobody is refused"))
                }
            };
            publisher(number, &connect, &tally);
        })
    };
    (0..PUBLISHERS).map(start).collect()
}

#[test]
fn twenty_new_versions_cost_nobody_anything() {
    let open_files = rlimit::increase_nofile_limit(20_000).expect("a limit");
    assert!(open_files >= 6_000, "this test needs 6,000 descriptors, ulimit -Hn is {open_files}");
    let manager = Manager::new();
    let addr = address(&manager.tcp);
    let tally = Arc::new(Tally::default());
    let mut process = manager.start();

    let listeners = crowd(addr, tally.clone());
    let everyone = |times: usize| {
        eventually(&format!("everyone connected {times} times"), || {
            assert!(!listeners.is_finished(), "a listener found something wrong");
            tally.connected.load(Ordering::Relaxed) >= times * LISTENERS
        });
    };
    everyone(1);
    let publishers = publishers(addr, &manager.folder.join("http.sock"), &tally);
    for swap in 1..=SWAPS {
        process.end(&manager);
        process = manager.start();
        assert!(!publishers.iter().any(JoinHandle::is_finished), "a publish failed");
        everyone(swap + 1);
    }
    tally.stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.join().expect("every publish was answered");
    }
    let end = request("POST", &format!("{BASE}/publish"), &[], br#"{"all":true,"event":"end","data":"x"}"#);
    assert_eq!(Conn::tcp(addr).round(&end).status(), 200);
    listeners.join().expect("no listener found anything wrong");
    process.end(&manager);

    let [published, gaps, overloads] =
        [&tally.published, &tally.gaps, &tally.overloads].map(|count| count.load(Ordering::Relaxed));
    println!("{published} published, {gaps} gaps told, {overloads} asked to come back later");
    // A client of a new process gets a gap for the events in the old one's memory, and meanwhile no client was refused.
    assert_eq!((gaps, overloads), (SWAPS * LISTENERS, 0));
    assert!(published >= SWAPS * 50, "there was something to lose: {published}");
}
