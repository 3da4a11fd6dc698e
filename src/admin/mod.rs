//! The admin listener: `/metrics`, `/livez`, `/readyz`, `/dashboard`. It has its own thread, so that it answers while
//! the shards are busy, and its own places, so that other connections cannot take them.

mod histogram;
pub mod live;
pub mod metrics;
mod order;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;

use crate::admin::live::{Dashboard, STREAMS_MAX, StreamBody, page};
use crate::admin::metrics::Telemetry;
use crate::answer::headers;
use crate::answer::problem::Problem;
use crate::config::ADMIN_RESERVE;
use crate::engine::Engine;
use crate::engine::stats::Refused;
use crate::http::api::welcome::signpost;
use crate::http::conn::drive::drive;
use crate::http::conn::exchange::{Exchange, Times};
use crate::http::conn::places::{Place, Places};
use crate::http::gate::host;
use crate::hub::mailbox::Command;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::source::Source;
use crate::net::accept::Listener;
use crate::net::stream::Stream;
use crate::order::redis::link::LinkState;

/// Connections served at once, streams of the dashboard apart. A scraper needs one; for a new one, connections that
/// wait for their peers are shed.
const CONNECTIONS_MAX: usize = 7;

// Descriptors are reserved for all of them, and for one that waits for a place.
const _: () = assert!((CONNECTIONS_MAX + 1 + STREAMS_MAX) as u64 <= ADMIN_RESERVE);

/// How long the readiness probe waits for its event.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of the admin listener.
pub struct Admin {
    engine: Arc<Engine>,
    telemetry: Telemetry,
    probe: Mutex<Probe>,
    dashboard: Arc<Dashboard>,
}

/// An answer, with its two kinds of body.
type AdminResponse = Response<Either<Full<Bytes>, StreamBody>>;

/// The connection of a request, as its handler needs it.
struct Link {
    /// Its peer's address; `None` on a Unix socket.
    peer: Option<IpAddr>,
    /// Its place among [`CONNECTIONS_MAX`], until it carries a stream.
    place: RefCell<Option<Place>>,
    /// Closes it at once.
    cut: Arc<Notify>,
}

/// The far ends of the server's own connections, one for each shard.
pub struct Probe {
    /// The room they listen in.
    pub room: Arc<Source>,
    /// The sockets to read from.
    pub streams: Vec<std::os::unix::net::UnixStream>,
}

impl Admin {
    /// Makes the admin listener's state for `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, probe: Probe) -> Arc<Self> {
        let dashboard = Dashboard::new(&engine);
        Arc::new(Self { engine, telemetry: Telemetry::new(), probe: Mutex::new(probe), dashboard })
    }

    /// The live page's data.
    #[must_use]
    pub fn dashboard(&self) -> &Arc<Dashboard> {
        &self.dashboard
    }

    /// Serves requests on `listener` for as long as it is polled, within a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    ///
    /// If the runtime cannot register the listener.
    pub async fn serve(self: Arc<Self>, listener: Listener) -> std::io::Result<()> {
        let listener = listener.into_async()?;
        let places = Places::new(self.engine.clone(), CONNECTIONS_MAX, false);
        let mut connections = JoinSet::new();
        let watching = places.clone();
        connections.spawn_local(async move { match watching.expire().await {} });
        loop {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok(opened) => {
                    let place = places.take().await;
                    connections.spawn_local(self.clone().connection(places.clone(), opened, place));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn connection(
        self: Arc<Self>,
        places: Rc<Places>,
        (stream, peer): (Stream, Option<IpAddr>),
        place: Place,
    ) {
        let exchange = Exchange::new(Times::of(&self.engine));
        let _watched = places.watch(exchange.clone());
        let link = Link { peer, place: RefCell::new(Some(place)), cut: Arc::default() };
        let service = service_fn(|request: Request<Incoming>| {
            exchange.handling(&request);
            // Each connection has one answer.
            exchange.closes();
            let (admin, link, exchange) = (&self, &link, &exchange);
            async move {
                let mut answer = admin.answer(exchange, &request, link).await;
                headers::add(answer.headers_mut());
                // A stream's answer has no end.
                if matches!(answer.body(), Either::Left(_)) {
                    exchange.answered();
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut http = http1::Builder::new();
        // A client that asks now and then can reconnect. An open connection would hold a place.
        http.keep_alive(false);
        tokio::select! {
            _ = drive(&places, &exchange, (stream, Bytes::new()), http, service) => {}
            () = link.cut.notified() => {}
        }
    }

    async fn answer(&self, exchange: &Exchange, request: &Request<Incoming>, link: &Link) -> AdminResponse {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let framed =
            exchange.check_body().and_then(|()| host::check(method, request.version(), uri, headers));
        if let Err(problem) = framed {
            self.engine.stats.count(Refused::BadRequest);
            return problem.into_response().map(Either::Left);
        }
        // The page has names of rooms. A foreign page could show it under its own host name (DNS rebinding).
        let named =
            self.engine.access.policy.load().checks.check_page(link.peer, request.uri(), request.headers());
        if let Err(problem) = named {
            self.engine.stats.count(Refused::Host);
            return problem.into_response().map(Either::Left);
        }
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/livez" | "/readyz" | STREAM) && !page::is_file(path) {
            return signpost::at_admin().into_response().map(Either::Left);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Problem::method_not_allowed("GET, HEAD").into_response().map(Either::Left);
        }
        let answer = match path {
            "/metrics" => text(StatusCode::OK, PROMETHEUS_TEXT, self.telemetry.render(&self.engine)),
            "/livez" => text(StatusCode::OK, PLAIN, "alive\n".into()),
            "/readyz" => match self.readiness().await {
                Ok(()) => text(StatusCode::OK, PLAIN, "ready\n".into()),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("not ready: {reason}\n")),
            },
            STREAM => match self.stream(request, link) {
                Ok(stream) => return stream,
                Err(problem) => problem.into_response(),
            },
            _ => page::file(path, live::has_rules(&self.engine))
                .unwrap_or_else(|| signpost::at_admin().into_response()),
        };
        answer.map(Either::Left)
    }

    /// The dashboard's stream. It takes a place of its own and gives the connection's place back.
    fn stream(&self, request: &Request<Incoming>, link: &Link) -> Result<AdminResponse, Problem> {
        let mut answer = Response::new(Either::Left(Full::default()));
        if *request.method() == Method::GET {
            let body = self.dashboard.open(last_event_id(request), link.cut.clone())?;
            link.place.take();
            *answer.body_mut() = Either::Right(body);
        }
        let headers = answer.headers_mut();
        headers::add_of_stream(headers);
        // The connection has no place any more, so it may have no other request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        Ok(answer)
    }

    /// Whether a new stream would be served: there is room, and an event published now is written by every shard.
    async fn readiness(&self) -> Result<(), &'static str> {
        let hub = &self.engine.hub;
        if hub.is_draining() {
            return Err("draining");
        }
        if hub.connections() >= hub.settings().caps.connections_max {
            return Err("full");
        }
        if hub.memory_level() >= MemoryLevel::NoNewcomers {
            return Err("memory");
        }
        // A drain that begins meanwhile ends the probe's own connections.
        let delivered = self.is_delivering().await;
        let ordered = async {
            let probe = self.probe.lock().await;
            let ordered = tokio::time::timeout(PROBE_TIMEOUT, probe.order(&self.engine)).await;
            ordered.unwrap_or(Err("the order takes nothing in time"))
        };
        let delivered = match delivered {
            Ok(()) => ordered.await,
            Err(reason) => Err(reason),
        };
        delivered.map_err(|reason| if hub.is_draining() { "draining" } else { reason })
    }

    /// Whether an event published now is written by every shard; whether the order takes it is another question, which a
    /// restart does not answer. In a drain the answer is always yes, because a drain
    /// ends the probe's own connections.
    ///
    /// # Errors
    ///
    /// The reason, if it is not.
    pub async fn is_delivering(&self) -> Result<(), &'static str> {
        if self.engine.hub.is_draining() {
            return Ok(());
        }
        let mut probe = self.probe.lock().await;
        let probed = tokio::time::timeout(PROBE_TIMEOUT, probe.run(&self.engine)).await;
        probed.unwrap_or(Err("an event was not delivered in time"))
    }
}

/// How long accepting pauses when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The path of the page's stream.
const STREAM: &str = "/dashboard/stream";

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

impl Probe {
    /// Asks every shard for something, and waits for the answers. For an order whose positions are not this process's to give.
    async fn ask(&self, engine: &Engine) -> Result<(), &'static str> {
        let ask = |reply| Command::Members { room: self.room.clone(), reply };
        let answers = engine.ask_shards(ask).await.map_err(|_| "a shard has too much to do")?;
        if answers.len() == engine.shards.len() { Ok(()) } else { Err("a shard has ended") }
    }

    /// Whether the order takes events.
    async fn order(&self, engine: &Engine) -> Result<(), &'static str> {
        if let Some(shared) = engine.shared.get() {
            let is_live = matches!(shared.link(), LinkState::Live | LinkState::Late);
            return if is_live { Ok(()) } else { Err("the order in Redis cannot be reached") };
        }
        let Some(proposals) = &engine.proposals else { return Ok(()) };
        proposals.probe(self.room.clone()).await.map(drop).map_err(|_| "the order cannot be written")
    }

    /// Publishes an event and waits until every shard has written it.
    async fn run(&mut self, engine: &Engine) -> Result<(), &'static str> {
        if engine.proposals.is_some() || engine.shared.get().is_some() {
            return self.ask(engine).await;
        }
        let published = engine.order.publish_probe(&self.room, "probe", engine.clock.now());
        let id = engine.hub.position(published.offset);
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

/// The header wins over the query: a browser that reconnects repeats the URL it was first given.
fn last_event_id(request: &Request<Incoming>) -> Option<String> {
    let header = request.headers().get("last-event-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let in_query =
        || form_urlencoded::parse(query).find(|(name, _)| name == "last_event_id").map(|(_, id)| id);
    header.filter(|id| !id.is_empty()).or_else(in_query).filter(|id| !id.is_empty()).map(Into::into)
}

fn text(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
