//! The application that Pushpin asks what to do with a subscriber: hold the stream, on the channel of its room.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::Path;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// An origin on a free port, until dropped.
#[derive(Debug)]
pub struct Origin {
    addr: SocketAddr,
    /// Its one thread serves. `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Origin {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// No port or no thread.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let addr = listener.local_addr()?;
        let app = Router::new().route("/api/v1/sse/stream/{room}/{user}", get(hold));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Ok(Self { addr, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The GRIP instruction (pushpin.org/docs/protocols/grip), and what the subscriber reads at once.
async fn hold(Path((room, _user)): Path<(String, String)>) -> impl IntoResponse {
    let headers = [
        ("content-type", "text/event-stream".to_owned()),
        ("grip-hold", "stream".to_owned()),
        ("grip-channel", room),
    ];
    (headers, "event: connected\ndata: {}\n\n")
}
