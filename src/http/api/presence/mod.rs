//! `PUT` and `DELETE {base}/presence/{room}`: what a member shows, and its leaving without the end of its streams.

pub mod body;
pub mod members;

use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::http::api::json::json;
use crate::http::api::publish::publisher::on_behalf_of;
use crate::http::api::rooms::check_known;
use crate::http::call::{Call, Handled};
use crate::http::conn::response_body::ResponseBody;
use crate::http::gate::caller::Caller;
use crate::http::request_body;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::presence::Put;
use crate::rights::grant::Action;
use crate::types::name::{RoomName, UserName};

/// The answer to a change.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    room: &'a str,
    user: &'a str,
    /// The message from which on everybody has been told.
    rev: u64,
}

/// Replaces what the caller's user shows in `room`.
///
/// # Errors
///
/// As `may_be`; [`Code::PresenceOff`]; any problem with the body; [`Code::NotPresent`] if the user is no member;
/// [`Code::RateLimited`]; [`Code::MemoryExhausted`] if memory is short, or all members together show too much.
pub async fn put(call: Call<'_>, caller: &Caller, room: &RoomName) -> Handled {
    let user = may_be(&call, caller, room)?;
    let engine = call.engine();
    has_presence(engine, room)?;
    let data = {
        let whole = request_body::collect(call, caller, body::BODY_BYTES_MAX).await;
        body::parse(&whole.map_err(body::too_large)?.bytes)?
    };
    // Whoever shows nothing any more gives memory back.
    if let Some(data) = &data {
        engine.grew(data.as_str().len());
        engine.spare_memory(MemoryLevel::NoPublishes)?;
    }
    let (rooms, users) = (engine.hub.rooms(), engine.hub.users());
    let (Some(inside), Some(inbox)) = (rooms.get(room.as_str()), users.get(user.as_str())) else {
        return Err(Code::NotPresent.into());
    };
    let now = engine.clock.now();
    match engine.order.show(&inside, &inbox, data, now) {
        Put::Done { rev, wakers } => {
            wakers.into_iter().for_each(std::task::Waker::wake);
            Ok(json(&Shown { room: room.as_str(), user: user.as_str(), rev }))
        }
        Put::NotPresent => Err(Code::NotPresent.into()),
        Put::Full => Err(Code::MemoryExhausted.into()),
        Put::Limited(at) => {
            let seconds = u32::try_from(at.since(now).as_secs() + 1).unwrap_or(u32::MAX);
            Err(Problem::new(Code::RateLimited).retry_after_s(seconds))
        }
    }
}

/// Ends the membership of the caller's user in `room` now. Its streams stay, and are silent from then on. A user that
/// is no member gets the same answer, so that a request that is repeated does not fail.
///
/// # Errors
///
/// As `may_be`; [`Code::PresenceOff`]; [`Code::OrderUnavailable`] if the other nodes cannot be told. It is done on this one then.
pub async fn delete(call: &Call<'_>, caller: &Caller, room: &RoomName) -> Handled {
    let user = may_be(call, caller, room)?;
    let engine = call.engine();
    has_presence(engine, room)?;
    let (rooms, users) = (engine.hub.rooms(), engine.hub.users());
    let mut knew = false;
    if let (Some(inside), Some(inbox)) = (rooms.get(room.as_str()), users.get(user.as_str())) {
        knew = engine.hub.presence().has(&inside, user.as_str());
        let wakers = engine.order.withdraw(&inside, &inbox, engine.clock.now());
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
    if let Some(shared) = engine.shared.get()
        && !shared.withdraw(room, &user, knew).await
    {
        return Err(Code::OrderUnavailable.into());
    }
    let mut response = Response::new(ResponseBody::EMPTY);
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Returns the user for whom the caller acts in `room`: its token's. A backend with an API key names one in
/// `Tidegate-User` and needs the permission to listen as that user; so does anyone while no authentication is set up.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::Forbidden`] for a token without a user; [`Code::UserInvalid`] for a bad name in the
/// header; [`Code::PresenceInvalid`] if the header is needed and missing.
fn may_be(call: &Call<'_>, caller: &Caller, room: &RoomName) -> Result<UserName, Problem> {
    caller.may(Action::Read(room.as_str()))?;
    let named = || {
        let unnamed = Problem::new(Code::PresenceInvalid).with_detail(UNNAMED);
        on_behalf_of(call.headers())?.ok_or(unnamed)
    };
    match caller {
        Caller::Open => named(),
        Caller::Anonymous(_) => Err(Code::Unauthorized.into()),
        Caller::Known(_, identity) if identity.api_key.is_some() => {
            let user = named()?;
            caller.may(Action::ListenAs(user.as_str()))?;
            Ok(user)
        }
        Caller::Known(_, identity) => identity.user.clone().ok_or_else(|| Code::Forbidden.into()),
    }
}

const UNNAMED: &str = "without a token, the header Tidegate-User names the user";

/// Checks that `room` has presence by its policy, whether it is there or not.
///
/// # Errors
///
/// [`Code::RoomUnknown`]; [`Code::PresenceOff`].
fn has_presence(engine: &Engine, room: &RoomName) -> Result<(), Problem> {
    check_known(&engine.hub, room)?;
    match engine.hub.rooms().policy_of(room.as_str()).presence {
        Some(_) => Ok(()),
        None => Err(Code::PresenceOff.into()),
    }
}
