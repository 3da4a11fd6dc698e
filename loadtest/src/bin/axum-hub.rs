//! A peer to compare with: what one writes with axum and `tokio::sync::broadcast` in an afternoon.
//!
//! Idiomatic and fairly tuned (multi-thread runtime, mimalloc, `TCP_NODELAY`, one broadcast channel a room). It has no
//! history, no resume and no bounds, and a subscriber that falls 1,024 events behind loses events without being told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use clap::Parser;
use tidegate_loadtest::target::request::{Batch, Publish};
use tokio::net::TcpSocket;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The axum and broadcast-channel reference server.
#[derive(Parser)]
struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

#[derive(Default)]
struct Hub {
    rooms: RwLock<HashMap<String, broadcast::Sender<Arc<str>>>>,
}

impl Hub {
    fn subscribe(&self, room: String) -> broadcast::Receiver<Arc<str>> {
        if let Some(sender) = self.rooms.read().expect("never poisoned").get(&room) {
            return sender.subscribe();
        }
        let mut rooms = self.rooms.write().expect("never poisoned");
        rooms.entry(room).or_insert_with(|| broadcast::channel(CHANNEL_EVENTS).0).subscribe()
    }

    fn publish(&self, event: Publish) {
        let rooms = self.rooms.read().expect("never poisoned");
        let data: Arc<str> = event.data.into();
        // A room without subscribers is no error: sending fails then, and nothing is lost.
        if event.all {
            for sender in rooms.values() {
                let _ = sender.send(Arc::clone(&data));
            }
        } else if let Some(sender) = event.room.and_then(|room| rooms.get(&room)) {
            let _ = sender.send(data);
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse().listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("axum-hub: {err}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(listen: SocketAddr) -> std::io::Result<()> {
    let app = Router::new()
        .route("/api/v1/sse/stream/{room}/{user}", get(stream))
        .route("/api/v1/sse/publish", post(publish))
        .with_state(Arc::new(Hub::default()));
    // `TcpListener::bind` asks for a backlog that ten thousand arrivals overflow: each would wait a second for a second SYN.
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    let listener = socket.listen(4_096)?.tap_io(|socket| {
        // Failing only costs latency.
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

async fn stream(
    State(hub): State<Arc<Hub>>,
    Path((room, _user)): Path<(String, String)>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let connected = Event::default().event("connected").data("{}");
    let events = BroadcastStream::new(hub.subscribe(room))
        .filter_map(Result::ok)
        .map(|data| Event::default().data(data));
    Sse::new(tokio_stream::once(connected).chain(events).map(Ok)).keep_alive(KeepAlive::default())
}

async fn publish(State(hub): State<Arc<Hub>>, Json(batch): Json<Batch>) -> Json<Accepted> {
    let events = batch.into_events();
    let accepted = events.len();
    for event in events {
        hub.publish(event);
    }
    Json(Accepted { accepted })
}

#[derive(serde::Serialize)]
struct Accepted {
    accepted: usize,
}

const CHANNEL_EVENTS: usize = 1_024;
