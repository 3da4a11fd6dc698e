//! From a request to its answer: routes, CORS, and one shape for every error.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use serde::Serialize;

use super::body_out::BodyOut;
use super::buffers::{Held, Holds};
use super::caller::Caller;
use super::client::Peer;
use super::context::{Context, Shared};
use super::exchange::Exchange;
use super::gate::{self, Arrival};
use super::host;
use super::identify;
use super::inspect;
use super::policy::Policy;
use super::problem::{Code, Problem};
use super::publish::publish;
use super::query::{DisconnectQuery, HistoryQuery, StreamQuery};
use super::refusal::{self, Sender};
use super::route::Route;
use super::session;
use super::signpost;
use super::stats;
use super::subscribe::{log_refusal, refuse, subscribe};
use super::try_page;
use crate::auth::grant::Action;
use crate::hub::Refusal;
use crate::hub::mailbox::Command;
use crate::hub::name::{RoomName, UserName};

/// Answers one request that came from `peer`.
pub async fn answer(
    context: &Context,
    exchange: &Rc<Exchange>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<BodyOut> {
    let mut response = checked(context, exchange, request, peer).await;
    // Whoever keeps the connection would find it closed under its next request.
    let ends = context.shared.hub.is_draining() || exchange.leaves_body();
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
    let shared = &context.shared;
    let policy = shared.policy.load_full();
    let Arrival { address, access, verdict } = gate::receive(shared, &policy, exchange, &request, peer);
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
            shared.stats.refused_as(stats::reason(problem.code));
            refusal::log(&problem, &method, &uri, &sender, address);
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
    let shared = &context.shared;
    let uri = request.uri().clone();
    let query = uri.query();
    if uri.path() == "*" {
        return Ok(whole(policy.cors.preflight(host::ALLOW, request.headers())));
    }
    let route = Route::parse(&shared.config.base_path, request.method(), uri.path())?;
    if let Route::Preflight { allow } = route {
        return Ok(whole(policy.cors.preflight(allow, request.headers())));
    }
    match route {
        Route::Welcome => return Ok(welcome(shared, policy, request.headers())),
        Route::TryPage(file) if try_page::is_served(shared.config.try_page, policy) => {
            return Ok(file.response());
        }
        Route::TryPage(_) => return Err(signpost::outside(uri.path())),
        _ => {}
    }
    let caller = identify::caller(shared, policy, request.headers(), query);
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
            context.shared.stats.refused(refusal);
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
    let shared = &context.shared;
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
            json(&disconnect(shared, &room, &user, DisconnectQuery::parse(query)?).await?)
        }
        Route::Refresh => json(&session::refresh(shared, exchange, caller, request).await?),
        Route::Revoke => json(&session::revoke(shared, exchange, caller, request).await?),
        Route::Info => {
            caller.may(Action::Administer)?;
            json(&inspect::info(shared))
        }
        Route::Room { room } => {
            caller.may(Action::Members(room.as_str()))?;
            let _turn = context.places.turn().await;
            let room = inspect::room(shared, room.as_str()).await?;
            let mut held = Held::new(shared, exchange, Holds::Answer);
            let json = json_bytes(&room);
            held.hold(json.len())?;
            json_response(BodyOut::held(json, held))
        }
        Route::History { room } => {
            caller.may(Action::Read(room.as_str()))?;
            let query = HistoryQuery::parse(query)?;
            let reader = caller.identity().map(Arc::as_ref);
            let _turn = context.places.turn().await;
            let mut held = Held::new(shared, exchange, Holds::Answer);
            let json = inspect::history(shared, room.as_str(), &query, reader, &mut held)?;
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
    shared: &Shared,
    room: &RoomName,
    user: &UserName,
    query: DisconnectQuery,
) -> Result<Disconnected, Problem> {
    let (hub, now) = (&shared.hub, shared.clock.now());
    let (room, user) = (room.as_str(), user.as_str());
    let stay_away = query.stay_away.unwrap_or(shared.config.stay_away);
    // First, or the browser could be back before it is told not to be.
    if !stay_away.is_zero() {
        hub.send_away(user, room, stay_away, now).map_err(|wait| {
            let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
            Problem::new(Code::StayAwayFull).retry_after_s(seconds)
        })?;
    }
    let mut disconnected = 0;
    if let (Some(room), Some(user)) = (hub.rooms().get(room), hub.users().get(user)) {
        let command = |done| Command::Disconnect { user: user.clone(), room: room.clone(), done };
        disconnected = inspect::ask_shards(shared, command).await?.iter().sum();
    }
    Ok(Disconnected { disconnected, stay_away_s: stay_away.as_secs() })
}

/// The answer to `GET /`: for a browser the page to try things on, for everyone else a text. Caches must tell the two apart.
fn welcome(shared: &Shared, policy: &Policy, headers: &HeaderMap) -> Response<BodyOut> {
    let base = &shared.config.base_path;
    let is_served = try_page::is_served(shared.config.try_page, policy);
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

pub(super) fn problem_response(problem: Problem) -> Response<BodyOut> {
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
