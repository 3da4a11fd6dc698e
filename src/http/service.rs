//! From a request to its answer: routes, CORS, and one shape for every error.

use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use serde::Serialize;

use super::body_out::BodyOut;
use super::client;
use super::context::{Context, Shared};
use super::cors::Access;
use super::exchange::Exchange;
use super::host;
use super::inspect;
use super::problem::{Code, Problem};
use super::publish::publish;
use super::query::{DisconnectQuery, HistoryQuery, StreamQuery};
use super::route::Route;
use super::subscribe::subscribe;
use crate::hub::mailbox::Command;
use crate::hub::name::{RoomName, UserName};

/// Answers one request that came from `peer`; `None` on a Unix socket.
pub async fn answer(
    context: &Context,
    exchange: &Rc<Exchange>,
    request: Request<Incoming>,
    peer: Option<IpAddr>,
) -> Response<BodyOut> {
    let shared = &context.shared;
    if let Err(problem) = host::check(request.method(), request.version(), request.uri(), request.headers()) {
        shared.stats.refused_as("bad_request");
        return problem_response(problem);
    }
    let address = client::address(&shared.config.trusted_proxies, peer, request.headers());
    let access = match shared.cors.check(request.method(), request.headers()) {
        Ok(access) => access,
        Err(problem) => {
            shared.stats.refused_as("origin");
            return problem_response(problem);
        }
    };
    let mut response = match route(context, exchange, request, address, &access).await {
        Ok(response) => response,
        Err(problem) => {
            match problem.code {
                Code::RateLimited => shared.stats.refused_as("rate_limited"),
                code if code.status().is_client_error() => shared.stats.refused_as("bad_request"),
                // Refused subscriptions were counted by their reason.
                _ => {}
            }
            tracing::debug!(code = problem.code.as_str(), "request refused");
            let mut response = problem_response(problem);
            access.apply(response.headers_mut());
            response
        }
    };
    // Whoever keeps the connection would find it closed under its next request.
    if shared.hub.is_draining() && matches!(response.body(), BodyOut::Full(_)) {
        set(&mut response, header::CONNECTION, "close");
    }
    response
}

async fn route(
    context: &Context,
    exchange: &Rc<Exchange>,
    request: Request<Incoming>,
    address: Option<IpAddr>,
    access: &Access,
) -> Result<Response<BodyOut>, Problem> {
    let shared = &context.shared;
    let (uri, version) = (request.uri().clone(), request.version());
    let query = uri.query();
    if request.method() == Method::GET && uri.path() == "/" {
        return Ok(welcome(shared));
    }
    if uri.path() == "*" {
        return Ok(whole(shared.cors.preflight(host::ALLOW, request.headers())));
    }
    let mut response = match Route::parse(&shared.config.base_path, request.method(), uri.path())? {
        Route::Preflight { allow } => {
            return Ok(whole(shared.cors.preflight(allow, request.headers())));
        }
        Route::StreamPath { room, user } => {
            let query = StreamQuery::parse_with_path(query, room, user)?;
            subscribe(context, exchange, &query, version, request.headers(), address)?
        }
        Route::Stream => {
            let query = StreamQuery::parse(query)?;
            subscribe(context, exchange, &query, version, request.headers(), address)?
        }
        Route::Publish => json(&publish(shared, exchange, request, address).await?),
        Route::Disconnect { room, user } => {
            json(&disconnect(shared, &room, &user, DisconnectQuery::parse(query)?).await?)
        }
        Route::Info => json(&inspect::info(shared)),
        Route::Room { room } => json(&inspect::room(shared, room.as_str()).await?),
        Route::History { room } => {
            json(&inspect::history(shared, room.as_str(), &HistoryQuery::parse(query)?)?)
        }
    };
    access.apply(response.headers_mut());
    Ok(response)
}

/// The answer to a disconnect.
#[derive(Debug, Serialize)]
struct Disconnected {
    /// Connections that were told to close.
    disconnected: u32,
    /// Seconds for which new ones are answered 204.
    stay_away_s: u64,
}

async fn disconnect(
    shared: &Shared,
    room: &RoomName,
    user: &UserName,
    query: DisconnectQuery,
) -> Result<Disconnected, Problem> {
    let (hub, now) = (&shared.hub, shared.clock.now());
    let (room, user) = (room.as_str(), user.as_str());
    let mut stay_away = query.stay_away.unwrap_or(shared.config.stay_away);
    // First, or the browser could be back before it is told not to be.
    if !stay_away.is_zero() && !hub.send_away(user, room, stay_away, now) {
        stay_away = std::time::Duration::ZERO;
    }
    let mut disconnected = 0;
    if let (Some(room), Some(user)) = (hub.rooms().get(room), hub.users().get(user)) {
        let command = |done| Command::Disconnect { user: user.clone(), room: room.clone(), done };
        disconnected = inspect::ask_shards(shared, command).await?.iter().sum();
    }
    Ok(Disconnected { disconnected, stay_away_s: stay_away.as_secs() })
}

/// What a person who opens the server's address in a browser is told.
fn welcome(shared: &Shared) -> Response<BodyOut> {
    let base = &shared.config.base_path;
    let text = format!(
        "Tidegate {}\n\nlisten   GET  {base}/stream/ROOM/USER\npublish  POST {base}/publish\nstate    GET  {base}/info\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut response = Response::new(BodyOut::from(Bytes::from(text)));
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

fn json(value: &impl Serialize) -> Response<BodyOut> {
    let text = serde_json::to_vec(value).expect("numbers, text and lists always serialise");
    let mut response = Response::new(BodyOut::from(Bytes::from(text)));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn set(response: &mut Response<BodyOut>, name: header::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn problem_response(problem: Problem) -> Response<BodyOut> {
    whole(problem.into_response())
}

fn whole(response: Response<Full<Bytes>>) -> Response<BodyOut> {
    response.map(|mut body| {
        use hyper::body::Body as _;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(&mut body).poll_frame(&mut cx) {
            std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default().into(),
            _ => BodyOut::Full(None),
        }
    })
}
