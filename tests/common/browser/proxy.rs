//! A bad network between browser and server: a TCP proxy that records, cuts and refuses connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::common::neighbours::url;

/// How the proxy cuts a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// It is closed: bytes that were sent arrive, and then the end.
    Close,
    /// It is reset: bytes that were sent may be lost, too.
    Reset,
}

/// The bytes that went over one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire {
    /// Bytes from the browser.
    pub(crate) request: String,
    /// Bytes from the server, as far as the proxy passed them on.
    pub(crate) response: Vec<u8>,
}

impl Wire {
    /// Returns the value of a header of the request.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.request.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns the response, chunk framing included.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.response).into_owned()
    }
}

/// The proxy. It lives as long as the test's runtime.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    cut: watch::Sender<Option<Cut>>,
}

#[derive(Default)]
struct Shared {
    refusing: bool,
    refused: usize,
    /// For each of the next connections, after how many bytes of response it ends, and how.
    plan: VecDeque<(usize, Cut)>,
    /// Connections, oldest first.
    wires: Vec<Wire>,
}

impl Proxy {
    /// Starts a proxy in front of `server`.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (cut, cuts) = watch::channel(None);
        let for_task = shared.clone();
        tokio::spawn(async move {
            while let Ok((browser, _)) = listener.accept().await {
                accept(browser, server, &for_task, cuts.clone());
            }
        });
        Self { address, shared, cut }
    }

    /// Returns the URL of `path` below the server's base path.
    pub(crate) fn url(&self, path: &str) -> String {
        url(self.address, path)
    }

    /// Cuts every connection that is open now.
    pub(crate) fn cut(&self, how: Cut) {
        self.cut.send_replace(Some(how));
    }

    /// Cuts each of the next connections after so many bytes of response.
    pub(crate) fn plan(&self, cuts: impl IntoIterator<Item = (usize, Cut)>) {
        self.lock().plan.extend(cuts);
    }

    /// Sets whether connections are refused from now on.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.lock().refusing = refusing;
    }

    /// Returns how many connections were refused.
    pub(crate) fn refused(&self) -> usize {
        self.lock().refused
    }

    /// Returns how many planned cuts have not met a connection yet.
    pub(crate) fn planned(&self) -> usize {
        self.lock().plan.len()
    }

    /// Returns what went over each connection so far, oldest first.
    pub(crate) fn wires(&self) -> Vec<Wire> {
        self.lock().wires.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("nothing panics while it is held")
}

fn accept(
    browser: TcpStream,
    server: SocketAddr,
    shared: &Arc<Mutex<Shared>>,
    mut cuts: watch::Receiver<Option<Cut>>,
) {
    cuts.mark_unchanged();
    let mut state = lock(shared);
    if state.refusing {
        state.refused += 1;
        let _ = browser.set_zero_linger();
        return;
    }
    let planned = state.plan.pop_front();
    let index = state.wires.len();
    state.wires.push(Wire::default());
    drop(state);
    let shared = shared.clone();
    tokio::spawn(async move {
        let Ok(server) = TcpStream::connect(server).await else { return };
        let mut pair = Pair { browser, server };
        let planned = planned.map(|(bytes, cut)| (bytes, Some(cut)));
        let (bytes_max, at_max) = planned.unwrap_or((usize::MAX, None));
        let cut = tokio::select! {
            () = pair.pass_on(bytes_max, &shared, index) => at_max,
            _ = cuts.changed() => *cuts.borrow(),
        };
        if matches!(cut, Some(Cut::Reset)) {
            let _ = pair.browser.set_zero_linger();
        }
    });
}

struct Pair {
    browser: TcpStream,
    server: TcpStream,
}

impl Pair {
    /// Passes bytes on, both ways, until one side closes or `bytes_max` bytes of response have been passed on.
    ///
    /// If it is dropped at an await, it leaves a connection that broke there, which is its purpose.
    async fn pass_on(&mut self, bytes_max: usize, shared: &Mutex<Shared>, index: usize) {
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        let mut left = bytes_max;
        while left > 0 {
            let down_max = left.min(down.len());
            tokio::select! {
                count = self.browser.read(&mut up) => {
                    let Ok(1..) = count else { return };
                    let bytes = &up[..count.unwrap_or(0)];
                    lock(shared).wires[index].request.push_str(&String::from_utf8_lossy(bytes));
                    if self.server.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                count = self.server.read(&mut down[..down_max]) => {
                    let Ok(1..) = count else { return };
                    let bytes = &down[..count.unwrap_or(0)];
                    left -= bytes.len();
                    if self.browser.write_all(bytes).await.is_err() {
                        return;
                    }
                    lock(shared).wires[index].response.extend_from_slice(bytes);
                }
            }
        }
    }
}
