//! From a request to its answer. Each resource has one handler; a new surface is a folder beside these and an arm of
//! `respond`.

pub mod client;
pub mod disconnect;
pub mod info;
pub mod json;
pub mod mute;
pub mod online;
pub mod presence;
pub mod publish;
pub mod query;
pub mod rooms;
pub mod route;
pub mod session;
pub mod stream;
pub mod welcome;

use std::rc::Rc;

use hyper::body::Incoming;
use hyper::header;
use hyper::{Method, Request, Response};

use crate::answer::problem::Problem;
use crate::engine::stats;
use crate::http::api::json::set;
use crate::http::api::query::StreamQuery;
use crate::http::api::route::Route;
use crate::http::api::welcome::{signpost, try_page};
use crate::http::call::{Call, Handled};
use crate::http::conn::exchange::Exchange;
use crate::http::conn::response_body::ResponseBody;
use crate::http::context::Context;
use crate::http::gate::caller::Caller;
use crate::http::gate::client::Peer;
use crate::http::gate::refusal::{self, Requester};
use crate::http::gate::{self, Arrival, host, identify};

/// Answers one request that came from `peer`.
pub async fn answer(
    context: &Context,
    exchange: &Rc<Exchange>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<ResponseBody> {
    let mut response = checked(context, exchange, request, peer).await;
    // Without this header, a client that reuses the connection would find it closed during its next request.
    let ends = context.engine.hub.is_draining() || exchange.leaves_body();
    if ends && response.body().is_whole() {
        set(&mut response, header::CONNECTION, "close");
    }
    response
}

/// Answers a request if its checks pass, and adds the headers that say which pages may read the answer.
async fn checked(
    context: &Context,
    exchange: &Rc<Exchange>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<ResponseBody> {
    let engine = &context.engine;
    let policy = engine.access.policy.load_full();
    let Arrival { address, access, verdict } = gate::receive(&policy, exchange, &request, peer);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut requester = Requester::default();
    let answered = match verdict {
        Ok(()) => {
            let call = Call { context, exchange, policy: &policy, request, address };
            respond(call, &mut requester).await
        }
        Err(problem) => Err(problem),
    };
    let mut response = answered.unwrap_or_else(|problem| {
        engine.stats.count(stats::reason(problem.code));
        refusal::log(&problem, &method, &uri, &requester, address);
        problem.into_response()
    });
    // A preflight's answer has its own CORS headers.
    if method != Method::OPTIONS || !response.status().is_success() {
        access.apply(response.headers_mut());
    }
    response
}

async fn respond(call: Call<'_>, requester: &mut Requester) -> Handled {
    let config = &call.engine().config;
    if call.path() == "*" {
        return Ok(call.policy.cors.preflight(host::ALLOW, call.headers()));
    }
    Ok(match Route::parse(&config.base_path, call.request.method(), call.path())? {
        Route::Preflight { allow } => call.policy.cors.preflight(allow, call.headers()),
        Route::Welcome => welcome::welcome(&call),
        Route::TryPage(file) if try_page::is_served(config.try_page, call.policy) => file.response(),
        Route::TryPage(_) => return Err(signpost::outside(call.path())),
        Route::Client { module, has_version } => module.response(has_version, call.headers()),
        Route::StreamPath { room, user } => {
            let caller = caller(&call, requester);
            let query = StreamQuery::parse_with_path(call.query(), vec![room], Some(user))?;
            stream::stream(&call, caller, &query, requester).await?
        }
        Route::StreamRooms { rooms } => {
            let caller = caller(&call, requester);
            let query = StreamQuery::parse_with_path(call.query(), rooms, None)?;
            stream::stream(&call, caller, &query, requester).await?
        }
        Route::Stream => {
            let caller = caller(&call, requester);
            let query = StreamQuery::parse(call.query())?;
            stream::stream(&call, caller, &query, requester).await?
        }
        Route::Publish => {
            let caller = caller(&call, requester)?;
            publish::publish(call, &caller).await?
        }
        Route::Refresh => {
            let caller = caller(&call, requester)?;
            session::refresh(call, &caller).await?
        }
        Route::Revoke => {
            let caller = caller(&call, requester)?;
            session::revoke(call, &caller).await?
        }
        Route::Disconnect { room, user } => {
            disconnect::disconnect(&call, &caller(&call, requester)?, room, user).await?
        }
        Route::Mute { room, user } => mute::mute(&call, &caller(&call, requester)?, room, user).await?,
        Route::Unmute { room, user } => mute::unmute(&call, &caller(&call, requester)?, room, user).await?,
        Route::Info => info::info(&call, &caller(&call, requester)?)?,
        Route::Online => {
            let caller = caller(&call, requester)?;
            online::online(call, &caller).await?
        }
        Route::Rooms => rooms::list::list(&call, &caller(&call, requester)?).await?,
        Route::Room { room } => rooms::room(&call, &caller(&call, requester)?, &room).await?,
        Route::Members { room } => {
            presence::members::members(&call, &caller(&call, requester)?, &room).await?
        }
        Route::PutPresence { room } => {
            let caller = caller(&call, requester)?;
            presence::put(call, &caller, &room).await?
        }
        Route::EndPresence { room } => presence::delete(&call, &caller(&call, requester)?, &room).await?,
        Route::History { room } => rooms::history::history(&call, &caller(&call, requester)?, &room).await?,
    })
}

/// Returns the caller, and records it in `requester` for the log.
fn caller(call: &Call<'_>, requester: &mut Requester) -> Result<Caller, Problem> {
    let caller = identify::caller(call.engine(), call.policy, call.headers(), call.query());
    requester.identity = caller.as_ref().ok().and_then(Caller::identity).cloned();
    caller
}
