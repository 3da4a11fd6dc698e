//! An application that Tidegate asks: a real HTTP/1.1 server on threads of this process, which gives the answers it is
//! given and records the requests.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;

/// A request that the application received.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The request line without its version, such as `POST /auth`.
    pub line: String,
    /// By name in lower case, each with all its values.
    pub headers: HashMap<String, Vec<String>>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.first().map(String::as_str)
    }
}

/// What the application does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers, and keeps the connection.
    With(u16, String),
    /// Sends these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Answers once it is [released](Application::release).
    Held(u16, String),
}

/// A running application. Ends when dropped.
pub struct Application {
    pub addr: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Seen>,
    released: (Mutex<bool>, Condvar),
    ended: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    under_way: usize,
    most: usize,
}

/// Either kind of connection.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

type Respond = dyn Fn(&Asked) -> Reply + Send + Sync;

impl Application {
    /// Starts an application that answers every request with `reply`.
    pub fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone())
    }

    pub fn start(respond: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::open(None, respond)
    }

    /// Starts the same behind TLS.
    pub fn with_tls(
        tls: rustls::ServerConfig,
        respond: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::open(Some(Arc::new(tls)), respond)
    }

    fn open(
        tls: Option<Arc<rustls::ServerConfig>>,
        respond: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let state = Arc::<State>::default();
        let respond: Arc<Respond> = Arc::new(respond);
        let for_thread = state.clone();
        let acceptor = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for socket in listener.incoming().map_while(Result::ok) {
                if for_thread.ended.load(Ordering::Acquire) {
                    break;
                }
                let (state, respond, tls) = (for_thread.clone(), respond.clone(), tls.clone());
                state.sockets.lock().expect("no panic").push(socket.try_clone().expect("a descriptor"));
                threads.push(std::thread::spawn(move || serve(socket, tls, &state, &*respond)));
            }
            for thread in threads {
                thread.join().expect("the application does not panic");
            }
        });
        Self { addr, state, acceptor: Some(acceptor) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Releases every [`Reply::Held`], now and from now on.
    pub fn release(&self) {
        *self.state.released.0.lock().expect("no panic") = true;
        self.state.released.1.notify_all();
    }

    /// Returns all requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.seen.lock().expect("no panic").asked.clone()
    }

    pub fn count(&self) -> usize {
        self.state.seen.lock().expect("no panic").asked.len()
    }

    /// Returns how many requests are not answered yet, and the most there ever were at once.
    pub fn under_way(&self) -> (usize, usize) {
        let seen = self.state.seen.lock().expect("no panic");
        (seen.under_way, seen.most)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Release);
        self.release();
        let _ = TcpStream::connect(self.addr);
        for socket in self.state.sockets.lock().expect("no panic").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let joined = self.acceptor.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(joined, Some(Ok(()))), "the application does not panic");
        }
    }
}

fn serve(socket: TcpStream, tls: Option<Arc<rustls::ServerConfig>>, state: &State, respond: &Respond) {
    let closer = socket.try_clone().expect("a descriptor");
    match tls {
        Some(tls) => {
            let session = rustls::ServerConnection::new(tls).expect("a TLS configuration");
            converse(&mut rustls::StreamOwned::new(session, socket), state, respond);
        }
        None => converse(&mut { socket }, state, respond),
    }
    let _ = closer.shutdown(Shutdown::Both);
}

fn converse(stream: &mut dyn Stream, state: &State, respond: &Respond) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        {
            let mut seen = state.seen.lock().expect("no panic");
            seen.asked.push(asked.clone());
            seen.under_way += 1;
            seen.most = seen.most.max(seen.under_way);
        }
        let (bytes, keep) = match respond(&asked) {
            Reply::With(status, body) => (response(status, &body), true),
            Reply::Raw(bytes) => (bytes, false),
            Reply::Held(status, body) => {
                let (released, changed) = &state.released;
                let guard = released.lock().expect("no panic");
                drop(changed.wait_while(guard, |released| !*released).expect("no panic"));
                (response(status, &body), true)
            }
        };
        // Before the answer: a client that has the answer may send the next request at once.
        state.seen.lock().expect("no panic").under_way -= 1;
        let sent = reader.get_mut().write_all(&bytes).and_then(|()| reader.get_mut().flush());
        if sent.is_err() || !keep {
            return;
        }
    }
}

fn response(status: u16, body: &str) -> Vec<u8> {
    let location = if (300..400).contains(&status) { "location: /elsewhere\r\n" } else { "" };
    let length = body.len();
    format!("HTTP/1.1 {status} Said\r\n{location}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// Reads the next request, if the peer sends one.
fn read(reader: &mut BufReader<&mut dyn Stream>) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut lines = head.lines();
    let line = lines.next()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let mut headers = HashMap::<String, Vec<String>>::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |values| values[0].parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { line, headers, body, at: Instant::now() })
}
