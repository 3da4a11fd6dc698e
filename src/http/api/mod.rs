//! From a request to its answer: routes, CORS, and one shape for every error.

pub mod accept;
pub mod event_body;
pub mod lines;
pub mod malformed;
pub mod publish;
pub mod query;
pub mod rooms;
pub mod route;
pub mod session;
pub mod signpost;
pub mod stream;
pub mod try_page;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use serde::Serialize;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::engine::buffers::Holds;
use crate::engine::stats;
use crate::http::api::publish::publish;
use crate::http::api::query::{DisconnectQuery, HistoryQuery, StreamQuery};
use crate::http::api::route::Route;
use crate::http::api::stream::{log_refusal, refuse, subscribe};
use crate::http::conn::exchange::Exchange;
use crate::http::conn::held::Held;
use crate::http::conn::response_body::BodyOut;
use crate::http::context::Context;
use crate::http::gate::caller::Caller;
use crate::http::gate::client::Peer;
use crate::http::gate::identify;
use crate::http::gate::refusal::Sender;
use crate::http::gate::{self, Arrival};
use crate::hub::admission::Refusal;
use crate::order::change::Change;
use crate::policy::Policy;
use crate::rights::grant::Action;
use crate::types::name::{RoomName, UserName};

/// Answers one request that came from `peer`.
pub async fn answer(
    context: &Context,
    exchange: &Rc<Exchange>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<BodyOut> {
    let mut response = checked(context, exchange, request, peer).await;
    // Whoever keeps the connection would find it closed under its next request.
    let ends = context.engine.hub.is_draining() || exchange.leaves_body();
    if ends && response.body().is_whole() {
        set(&mut response, header::CONNECTION, "close");
    }
    response
}

/// Answers a request if it may be looked into, and says what browsers may know of the answer.
async fn checked(
    context: &Context,
    exchange: &Rc<Exchange>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<BodyOut> {
    let engine = &context.engine;
    let policy = engine.access.policy.load_full();
    let Arrival { address, access, verdict } = gate::receive(engine, &policy, exchange, &request, peer);
    if let Err(problem) = verdict {
        let mut response = problem_response(problem);
        access.apply(response.headers_mut());
        return response;
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut sender = Sender::default();
    // A preflight's answer says by itself who may ask what.
    let is_preflight = method == Method::OPTIONS;
    match route(context, exchange, &policy, request, address, &mut sender).await {
        Ok(response) if is_preflight => response,
        Ok(mut response) => {
            access.apply(response.headers_mut());
            response
        }
        Err(problem) => {
            engine.stats.count(stats::reason(problem.code));
            crate::http::gate::refusal::log(&problem, &method, &uri, &sender, address);
            let mut response = problem_response(problem);
            access.apply(response.headers_mut());
            response
        }
    }
}

async fn route(
    context: &Context,
    exchange: &Rc<Exchange>,
    policy: &Policy,
    request: Request<Incoming>,
    address: Option<IpAddr>,
    sender: &mut Sender,
) -> Result<Response<BodyOut>, Problem> {
    let engine = &context.engine;
    let uri = request.uri().clone();
    let query = uri.query();
    if uri.path() == "*" {
        return Ok(whole(policy.cors.preflight(crate::http::gate::host::ALLOW, request.headers())));
    }
    let route = Route::parse(&engine.config.base_path, request.method(), uri.path())?;
    if let Route::Preflight { allow } = route {
        return Ok(whole(policy.cors.preflight(allow, request.headers())));
    }
    match route {
        Route::Welcome => return Ok(welcome(engine, policy, request.headers())),
        Route::TryPage(file) if try_page::is_served(engine.config.try_page, policy) => {
            return Ok(file.response());
        }
        Route::TryPage(_) => return Err(signpost::outside(uri.path())),
        _ => {}
    }
    let caller = identify::caller(engine, policy, request.headers(), query);
    sender.identity = caller.as_ref().ok().and_then(Caller::identity).cloned();
    Ok(match route {
        Route::Preflight { .. } | Route::Welcome | Route::TryPage(_) => unreachable!("answered above"),
        Route::StreamPath { room, user } => {
            let query = StreamQuery::parse_with_path(query, room, user)?;
            let answer = stream(context, exchange, policy, caller, &query, &request, address).await;
            answer.inspect_err(|_| sender.user.clone_from(&query.user))?
        }
        Route::Stream => {
            let query = StreamQuery::parse(query)?;
            let answer = stream(context, exchange, policy, caller, &query, &request, address).await;
            answer.inspect_err(|_| sender.user.clone_from(&query.user))?
        }
        route => answer_caller(context, exchange, &caller?, route, request, address).await?,
    })
}

/// Answers a request for a stream. Whoever cannot be told from others now is asked to come back.
async fn stream(
    context: &Context,
    exchange: &Rc<Exchange>,
    policy: &Policy,
    caller: Result<Caller, Problem>,
    query: &StreamQuery,
    request: &Request<Incoming>,
    address: Option<IpAddr>,
) -> Result<Response<BodyOut>, Problem> {
    let headers = request.headers();
    let caller = match caller {
        Ok(caller) => identify::listener(context, exchange, policy, caller, query, request, address).await,
        unknown => unknown,
    };
    match caller {
        Ok(caller) => subscribe(context, exchange, &caller, query, request.version(), headers, address),
        Err(problem) => {
            let refusal = match problem.code {
                Code::AuthUnavailable => Refusal::Unidentified,
                Code::WaitingFull => Refusal::Waiting,
                _ => return Err(problem),
            };
            context.engine.stats.refused(refusal);
            let user = query.user.as_ref().map(UserName::as_str);
            log_refusal(refusal.as_str(), query, user, address);
            Ok(refuse(context, refusal, headers))
        }
    }
}

/// Answers a request for anything but a stream.
async fn answer_caller(
    context: &Context,
    exchange: &Rc<Exchange>,
    caller: &Caller,
    route: Route,
    request: Request<Incoming>,
    address: Option<IpAddr>,
) -> Result<Response<BodyOut>, Problem> {
    let engine = &context.engine;
    let uri = request.uri().clone();
    let query = uri.query();
    Ok(match route {
        Route::Preflight { .. }
        | Route::Welcome
        | Route::TryPage(_)
        | Route::StreamPath { .. }
        | Route::Stream => unreachable!("answered before"),
        Route::Publish => json(&publish(context, exchange, caller, request, address).await?),
        Route::Disconnect { room, user } => {
            caller.may(Action::Disconnect(room.as_str()))?;
            json(&disconnect(engine, room, user, DisconnectQuery::parse(query)?).await?)
        }
        Route::Refresh => json(&session::refresh(engine, exchange, caller, request).await?),
        Route::Revoke => json(&session::revoke(engine, exchange, caller, request).await?),
        Route::Info => {
            caller.may(Action::Administer)?;
            json(&rooms::info(engine))
        }
        Route::Room { room } => {
            caller.may(Action::Members(room.as_str()))?;
            let _turn = context.places.turn().await;
            let room = rooms::room(engine, room.as_str()).await?;
            let mut held = Held::new(engine, exchange, Holds::Answer);
            let json = json_bytes(&room);
            held.hold(json.len())?;
            json_response(BodyOut::held(json, held))
        }
        Route::History { room } => {
            caller.may(Action::Read(room.as_str()))?;
            let query = HistoryQuery::parse(query)?;
            let reader = caller.identity().map(Arc::as_ref);
            let _turn = context.places.turn().await;
            let mut held = Held::new(engine, exchange, Holds::Answer);
            let json = rooms::history(engine, room.as_str(), &query, reader, &mut held)?;
            json_response(BodyOut::held(json, held))
        }
    })
}

/// The answer to a disconnect.
#[derive(Debug, Serialize)]
struct Disconnected {
    /// Connections that were told to close.
    disconnected: u32,
    /// Seconds for which new ones are answered 204.
    stay_away_s: u64,
}

/// Tells a user to stay away, then closes its connections. If it cannot be told to stay away, it would be back at once: then
/// nothing is closed, and the answer is [`Code::StayAwayFull`] with the time until there is a place.
async fn disconnect(
    engine: &Engine,
    room: RoomName,
    user: UserName,
    query: DisconnectQuery,
) -> Result<Disconnected, Problem> {
    let stay_away = query.stay_away.unwrap_or(engine.config.stay_away);
    let disconnected = engine.propose(Change::Disconnect { user, room, stay_away }).await?;
    Ok(Disconnected { disconnected, stay_away_s: stay_away.as_secs() })
}

/// The answer to `GET /`: for a browser the page to try things on, for everyone else a text. Caches must tell the two apart.
fn welcome(engine: &Engine, policy: &Policy, headers: &HeaderMap) -> Response<BodyOut> {
    let base = &engine.config.base_path;
    let is_served = try_page::is_served(engine.config.try_page, policy);
    let page = is_served.then(|| try_page::page(base, policy, headers)).flatten();
    let mut response = page.unwrap_or_else(|| welcome_text(base, policy));
    set(&mut response, header::VARY, "accept");
    response
}

/// What there is here, in words. Whoever may not ask for `/info` does not get its version here.
fn welcome_text(base: &str, policy: &Policy) -> Response<BodyOut> {
    let version = if policy.authority.is_none() { concat!(" ", env!("CARGO_PKG_VERSION")) } else { "" };
    let text = format!(
        "Tidegate{version}\n\nlisten   GET  {base}/stream/ROOM/USER\npublish  POST {base}/publish\nstate    GET  {base}/info\n"
    );
    let mut response = Response::new(BodyOut::from(Bytes::from(text)));
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

fn json(value: &impl Serialize) -> Response<BodyOut> {
    json_response(json_bytes(value).into())
}

fn json_bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("numbers, text and lists always serialise").into()
}

fn json_response(body: BodyOut) -> Response<BodyOut> {
    let mut response = Response::new(body);
    set(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

fn set(response: &mut Response<BodyOut>, name: header::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

pub(crate) fn problem_response(problem: Problem) -> Response<BodyOut> {
    whole(problem.into_response())
}

fn whole(response: Response<Full<Bytes>>) -> Response<BodyOut> {
    response.map(|mut body| {
        use hyper::body::Body as _;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(&mut body).poll_frame(&mut cx) {
            std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default().into(),
            _ => BodyOut::EMPTY,
        }
    })
}
