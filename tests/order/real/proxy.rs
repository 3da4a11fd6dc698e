//! A proxy in front of a Redis that can keep its answers back, and cut all connections.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

#[derive(Default)]
struct State {
    keeps_answers: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::<State>::default();
        let shared = state.clone();
        // Ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                shared.join(client, server);
            }
        });
        Self { port, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on answers are read and dropped, or not.
    pub(crate) fn keep_answers(&self, keep: bool) {
        self.state.keeps_answers.store(keep, Ordering::SeqCst);
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        let mut open = self.state.open.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in open.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let clone = |socket: &TcpStream| socket.try_clone().expect("a socket has copies");
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend([clone(&client), clone(&server)]);
        let (commands, to_server) = (clone(&client), clone(&server));
        thread::spawn(move || pump(commands, to_server, &AtomicBool::new(false)));
        let state = self.clone();
        thread::spawn(move || pump(server, client, &state.keeps_answers));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, drops: &AtomicBool) {
    let mut buffer = [0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !drops.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
