//! The admin listener: `/metrics`, `/livez`, `/readyz`. Its own thread, so that it answers while the shards are busy.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use super::context::Shared;
use super::problem::{Code, Problem};
use crate::hub::source::Source;
use crate::server::worker::Listener;
use crate::telemetry::Telemetry;

/// Connections served at once. A scraper needs one; the rest wait in the backlog.
const CONNECTIONS_MAX: usize = 8;

/// How long the readiness probe waits for its event.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the admin listener works with.
pub struct Admin {
    shared: Arc<Shared>,
    telemetry: Telemetry,
    probe: Mutex<Probe>,
}

/// The far ends of the server's own connections, one a shard.
pub struct Probe {
    /// The room they are in.
    pub room: Arc<Source>,
    /// What arrives on them.
    pub streams: Vec<std::os::unix::net::UnixStream>,
}

impl Admin {
    /// Serves `shared`'s state.
    #[must_use]
    pub fn new(shared: Arc<Shared>, probe: Probe) -> Arc<Self> {
        Arc::new(Self { shared, telemetry: Telemetry::new(), probe: Mutex::new(probe) })
    }

    /// Serves requests on `listener` for as long as the runtime lives.
    ///
    /// # Errors
    ///
    /// If the runtime does not take the listener.
    pub async fn serve(self: Arc<Self>, listener: Listener) -> std::io::Result<()> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let listener = match listener {
            Listener::Tcp(socket) => Accepting::Tcp(TcpListener::from_std(socket.into())?),
            Listener::Unix(socket) => Accepting::Unix(UnixListener::from_std(socket.into())?),
        };
        loop {
            let place = places.clone().acquire_owned().await.expect("never closed");
            while connections.try_join_next().is_some() {}
            let admin = self.clone();
            match &listener {
                Accepting::Tcp(listener) => match listener.accept().await {
                    Ok((stream, _)) => drop(connections.spawn(admin.connection(TokioIo::new(stream), place))),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                Accepting::Unix(listener) => match listener.accept().await {
                    Ok((stream, _)) => drop(connections.spawn(admin.connection(TokioIo::new(stream), place))),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    }

    async fn connection<S>(self: Arc<Self>, io: TokioIo<S>, place: tokio::sync::OwnedSemaphorePermit)
    where
        TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin,
    {
        let service = service_fn(|request| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.answer(&request).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.shared.config.request_timeout);
        if let Err(err) = builder.serve_connection(io, service).await {
            tracing::debug!(%err, "admin connection ended");
        }
        drop(place);
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/livez" | "/readyz") {
            return Problem::new(Code::NotFound).into_response();
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Problem::method_not_allowed("GET, HEAD").into_response();
        }
        match path {
            "/metrics" => text(StatusCode::OK, PROMETHEUS_TEXT, self.telemetry.render(&self.shared)),
            "/livez" => text(StatusCode::OK, PLAIN, "alive\n".into()),
            _ => match self.readiness().await {
                Ok(()) => text(StatusCode::OK, PLAIN, "ready\n".into()),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("not ready: {reason}\n")),
            },
        }
    }

    /// Whether a newcomer would be served: there is room, and an event published now comes out of every shard.
    async fn readiness(&self) -> Result<(), &'static str> {
        let hub = &self.shared.hub;
        if hub.is_draining() {
            return Err("draining");
        }
        if hub.connections() >= hub.settings().caps.connections_max {
            return Err("full");
        }
        self.is_delivering().await
    }

    /// Whether an event published now comes out of every shard. Taken for granted in a drain, which ends the probe's own
    /// connections, too.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn is_delivering(&self) -> Result<(), &'static str> {
        if self.shared.hub.is_draining() {
            return Ok(());
        }
        let mut probe = self.probe.lock().await;
        let probed = tokio::time::timeout(PROBE_TIMEOUT, probe.run(&self.shared)).await;
        probed.unwrap_or(Err("an event was not delivered in time"))
    }
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How long accepting pauses when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

impl Probe {
    /// Publishes an event and waits until every shard has written it.
    async fn run(&mut self, shared: &Shared) -> Result<(), &'static str> {
        let published = shared.hub.publish_probe(&self.room, "probe", shared.clock.now());
        let id = shared.hub.epoch().position(published.offset);
        let marker = format!("id: {id}\n");
        for stream in &self.streams {
            let stream = stream.try_clone().and_then(UnixStream::from_std);
            let mut stream = stream.map_err(|_| "no descriptor for the probe")?;
            let (mut seen, mut buf) = (Vec::new(), [0; 1024]);
            while !seen.windows(marker.len()).any(|window| window == marker.as_bytes()) {
                match stream.read(&mut buf).await {
                    Ok(count @ 1..) => seen.extend_from_slice(&buf[..count]),
                    _ => return Err("a shard has ended"),
                }
            }
        }
        Ok(())
    }
}

fn text(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
