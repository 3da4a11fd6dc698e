//! `POST {base}/publish`: one event, a batch, or a stream of lines that go out as they arrive.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderMap;
use serde::Serialize;
use tokio::time::timeout;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::engine::buffers::Holds;
use crate::engine::lifecycle::Stage;
use crate::http::api::event_body::{self, EventBody, Media};
use crate::http::api::lines::Lines;
use crate::http::conn::exchange::{Awaits, Exchange};
use crate::http::conn::held::Held;
use crate::http::conn::places::{Wait, Waiting, at_once};
use crate::http::context::Context;
use crate::http::gate::caller::Caller;
use crate::hub::draft::Draft;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::own_ids::{Repeated, Repeats};
use crate::hub::{Hub, Published};
use crate::types::name::UserName;
use crate::types::rate_limiter::Rate;

/// What an NDJSON line may have beyond its event's data: names, keys and escapes. Data that is mostly control
/// characters may need six times its size in JSON and does not fit; it does in an ordinary body.
const LINE_EXTRA_BYTES: usize = 64 << 10;

/// Lines published under one hold of the order's lock.
const LINES_PER_PUBLISH: usize = 256;

/// The answer to a publish.
#[derive(Debug, Serialize)]
pub struct PublishAnswer {
    /// Id of the (last) event.
    id: String,
    /// Connections the events were addressed to, summed over events.
    subscribers: u64,
    /// What a publish survives: `memory` is gone with the process.
    durability: &'static str,
    /// Events published; absent for a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<u64>,
}

/// Publishes what `request` carries.
///
/// # Errors
///
/// What is wrong with it. In a stream of lines, what came before the problem stays published, and is told.
pub async fn publish(
    context: &Context,
    exchange: &Rc<Exchange>,
    caller: &Caller,
    request: Request<Incoming>,
    address: Option<IpAddr>,
) -> Result<PublishAnswer, Problem> {
    let engine = &context.engine;
    // Both before the body, which takes memory.
    caller.may_publish_something()?;
    engine.spare_memory(MemoryLevel::NoPublishes)?;
    let publisher = Publisher::new(engine, caller, request.headers(), address)?;
    match Media::from_headers(request.headers())? {
        Media::Json => publish_body(engine, exchange, &publisher, request.into_body()).await,
        Media::Ndjson => publish_lines(context, exchange, &publisher, request.into_body()).await,
    }
}

/// Who publishes, and whose rates that counts for.
struct Publisher<'c> {
    caller: &'c Caller,
    /// By the names under which [`PublishLimit`](crate::engine::publish_limit::PublishLimit) knows them.
    rates: Vec<(String, Rate)>,
}

impl<'c> Publisher<'c> {
    /// # Errors
    ///
    /// [`Code::UserInvalid`] if it says that it publishes for somebody whom nobody can be.
    fn new(
        engine: &Engine,
        caller: &'c Caller,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<Self, Problem> {
        let identity = caller.identity();
        let key = identity.and_then(|identity| identity.api_key.as_ref());
        // Only a backend speaks for its users.
        let spoken_for = if identity.is_none() || key.is_some() { on_behalf_of(headers)? } else { None };
        let user = spoken_for.as_ref().or_else(|| identity?.user.as_ref());
        let name = || match user {
            Some(user) => Some(format!("user {user}")),
            None if key.is_some() => None,
            None => Some(address.map_or_else(|| "unix".into(), |address| address.to_string())),
        };
        let of_user = engine.access.policy.load().publish_rate.and_then(|rate| Some((name()?, rate)));
        let of_key = key.and_then(|key| key.publish_rate.map(|rate| (format!("key {}", key.name), rate)));
        Ok(Self { caller, rates: of_user.into_iter().chain(of_key).collect() })
    }

    /// Takes `events` from its rates.
    fn take(&self, engine: &Engine, events: usize) -> Result<(), Problem> {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        let taken = engine.publish_limit.take(&self.rates, events, engine.clock.now());
        taken.map_err(|seconds| Problem::new(Code::RateLimited).retry_after_s(seconds))
    }
}

/// The header by which a backend, or a proxy that is asked nothing, names the user for whom it publishes.
const ON_BEHALF_OF: &str = "tidegate-user";

/// The user whom `headers` name.
fn on_behalf_of(headers: &HeaderMap) -> Result<Option<UserName>, Problem> {
    let Some(name) = headers.get(ON_BEHALF_OF) else {
        return Ok(None);
    };
    // A name is remembered for as long as its rate counts. Checked, it is a small one.
    let user = std::str::from_utf8(name.as_bytes()).ok().and_then(|name| UserName::new(name).ok());
    user.map(Some).ok_or_else(|| Code::UserInvalid.into())
}

async fn publish_body(
    engine: &Arc<Engine>,
    exchange: &Rc<Exchange>,
    publisher: &Publisher<'_>,
    body: Incoming,
) -> Result<PublishAnswer, Problem> {
    let config = &engine.config;
    let whole = collect_in_time(engine, exchange, publisher.caller, body, config.max_body_bytes).await?;
    match event_body::parse_body(&whole.bytes, config.max_event_bytes)? {
        EventBody::One(draft) => {
            publisher.caller.may_publish(&draft)?;
            publisher.take(engine, 1)?;
            let published = engine.publish([draft], Repeats::RefuseAll).map_err(|_| Code::EventIdRepeated)?;
            Ok(answer(&engine.hub, published, None))
        }
        EventBody::Batch(drafts) => {
            let count = drafts.len();
            for (index, draft) in drafts.iter().enumerate() {
                publisher.caller.may_publish(draft).map_err(|problem| problem.at_index(index))?;
            }
            publisher.take(engine, count)?;
            let published = engine.publish(drafts, Repeats::RefuseAll);
            let published =
                published.map_err(|repeated| Problem::new(Code::EventIdRepeated).at_index(repeated.index))?;
            Ok(answer(&engine.hub, published, Some(count as u64)))
        }
    }
}

/// All of a body of `caller`'s, if it has no more than `bytes_max` and comes in time: before `caller` is over.
///
/// # Errors
///
/// [`Code::BodyTooLarge`], [`Code::RequestTimeout`], [`Code::RequestMalformed`] if it ends early, [`Code::BuffersFull`] or
/// [`Code::MemoryExhausted`] if it cannot be held, or [`Code::Unauthorized`] if the caller was believed before, and would not
/// be any more.
pub(crate) async fn collect_in_time(
    engine: &Arc<Engine>,
    exchange: &Rc<Exchange>,
    caller: &Caller,
    body: Incoming,
    bytes_max: usize,
) -> Result<Whole, Problem> {
    exchange.awaits(Awaits::Body);
    let held = Held::new(engine, exchange, Holds::Body);
    let whole = timeout(engine.config.request_timeout, collect(body, bytes_max, held)).await;
    exchange.awaits(Awaits::Nothing);
    let whole = whole.map_err(|_| Code::RequestTimeout)??;
    exchange.has_read();
    // Whoever sends it slowly chooses when it is there.
    caller.is_still_known(&engine.access)?;
    Ok(whole)
}

/// A body, and what it holds of the budget for all.
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    _held: Held,
}

async fn collect(mut body: Incoming, bytes_max: usize, mut held: Held) -> Result<Whole, Problem> {
    let declared = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Code::BodyTooLarge.into());
    }
    let bytes_max = declared.unwrap_or(bytes_max);
    let mut bytes = Vec::new();
    while let Some(data) = next_data(&mut body).await? {
        let wanted = bytes.len() + data.len();
        if wanted > bytes_max {
            return Err(Code::BodyTooLarge.into());
        }
        if wanted > bytes.capacity() {
            // What has come, not what is announced: a head alone takes nothing.
            let capacity = wanted.max(2 * bytes.capacity()).min(bytes_max);
            held.hold(capacity)?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Whole { bytes, _held: held })
}

async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        // A body cut short or framed wrongly; a peer that is gone will not read the answer.
        let frame = frame.map_err(|_| Code::RequestMalformed)?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// What has gone out of a stream of lines.
#[derive(Default)]
struct Progress {
    published: u64,
    subscribers: u64,
    last: Option<Published>,
}

impl Progress {
    /// Publishes the next lines, up to one with an id that was used before.
    ///
    /// # Errors
    ///
    /// [`Code::EventIdRepeated`] with that line. Those before it are published.
    fn publish(&mut self, engine: &Engine, lines: Vec<Numbered>) -> Result<(), Problem> {
        let (numbers, drafts): (Vec<u64>, Vec<Draft>) = lines.into_iter().unzip();
        match engine.publish(drafts, Repeats::EndThere) {
            Ok(published) => {
                self.note(published, numbers.len());
                Ok(())
            }
            Err(Repeated { index, before }) => {
                if let Some(before) = before {
                    self.note(before, index);
                }
                Err(Problem::new(Code::EventIdRepeated).at_line(numbers[index]))
            }
        }
    }

    fn note(&mut self, published: Published, events: usize) {
        self.published += events as u64;
        self.subscribers += published.subscribers;
        self.last = Some(published);
    }
}

async fn publish_lines(
    context: &Context,
    exchange: &Rc<Exchange>,
    publisher: &Publisher<'_>,
    body: Incoming,
) -> Result<PublishAnswer, Problem> {
    let engine = &context.engine;
    let mut stream = LineStream {
        context,
        exchange,
        body,
        lines: Lines::new(engine.config.max_event_bytes + LINE_EXTRA_BYTES),
        held: Held::new(engine, exchange, Holds::Body),
        waiting: None,
    };
    let mut progress = Progress::default();
    let result = read_lines(&mut stream, publisher, &mut progress).await;
    result.map_err(|problem| problem.after_publishing(progress.published))?;
    let Some(last) = progress.last else {
        return Err(Code::BatchEmpty.into());
    };
    let total = Published { offset: last.offset, subscribers: progress.subscribers };
    Ok(answer(&engine.hub, total, Some(progress.published)))
}

/// A body in lines that is being read.
struct LineStream<'c> {
    context: &'c Context,
    exchange: &'c Rc<Exchange>,
    body: Incoming,
    lines: Lines,
    held: Held,
    /// Its right to wait for its peer, from the first time on that it had to.
    waiting: Option<Waiting>,
}

impl LineStream<'_> {
    /// Reads more of the body. False at its end.
    async fn read_more(&mut self) -> Result<bool, Problem> {
        let Some(data) = self.next_data().await? else {
            self.exchange.has_read();
            return Ok(false);
        };
        // The line that goes on in it is copied, behind what has come of it.
        self.held.hold(self.lines.buffered() + 2 * data.len())?;
        self.lines.push(data);
        Ok(true)
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>, Problem> {
        let mut coming = pin!(next_data(&mut self.body));
        if let Some(data) = at_once(coming.as_mut()).await {
            return data;
        }
        if self.waiting.is_none() {
            self.waiting = Some(self.context.places.wait(self.exchange, Wait::Lines)?);
        }
        let engine = &self.context.engine;
        let mut stage = engine.lifecycle.stage.subscribe();
        tokio::select! {
            // Nothing is lost: what was read is in `lines`.
            data = timeout(engine.config.publish_idle, coming) => data.map_err(|_| Code::RequestTimeout)?,
            // A publisher that may go on for hours is told how far it got.
            _ = stage.wait_for(|stage| *stage >= Stage::Ending) => Err(Code::Draining.into()),
            () = self.exchange.asked_to_end() => Err(Code::RequestTimeout.into()),
        }
    }
}

async fn read_lines(
    stream: &mut LineStream<'_>,
    publisher: &Publisher<'_>,
    progress: &mut Progress,
) -> Result<(), Problem> {
    let (engine, exchange) = (&stream.context.engine, stream.exchange);
    loop {
        exchange.awaits(if progress.published > 0 { Awaits::Lines } else { Awaits::Body });
        let ended = !stream.read_more().await?;
        exchange.awaits(Awaits::Nothing);
        loop {
            engine.spare_memory(MemoryLevel::NoPublishes)?;
            // A request may go on for longer than its token.
            publisher.caller.is_still_known(&engine.access)?;
            let (drafts, problem) = next_drafts(engine, publisher, &mut stream.lines, ended);
            if !drafts.is_empty() {
                progress.publish(engine, drafts)?;
                exchange.took_lines();
            }
            match problem {
                Some(Ok(())) => {}
                Some(Err(problem)) => return Err(problem),
                None => break,
            }
            // Thousands of lines may have come at once: let the flushes they cause begin.
            tokio::task::yield_now().await;
        }
        if ended {
            return Ok(());
        }
        stream.held.hold(stream.lines.buffered())?;
    }
}

/// A line's number, and its event.
type Numbered = (u64, Draft);

/// The next few lines as drafts, each with its number; then whether there may be more of them, none, or why not.
fn next_drafts(
    engine: &Engine,
    publisher: &Publisher<'_>,
    lines: &mut Lines,
    ended: bool,
) -> (Vec<Numbered>, Option<Result<(), Problem>>) {
    let mut drafts = Vec::new();
    while drafts.len() < LINES_PER_PUBLISH {
        let line = if ended { lines.finish() } else { lines.next_line() };
        let draft = match line {
            None => return (drafts, None),
            Some(Err(problem)) => return (drafts, Some(Err(problem))),
            Some(Ok(line)) => event_body::parse_event(&line.bytes, engine.config.max_event_bytes)
                .and_then(|draft| publisher.caller.may_publish(&draft).map(|()| draft))
                .and_then(|draft| publisher.take(engine, 1).map(|()| (line.number, draft)))
                .map_err(|problem| problem.at_line(line.number)),
        };
        match draft {
            Ok(draft) => drafts.push(draft),
            Err(problem) => return (drafts, Some(Err(problem))),
        }
    }
    (drafts, Some(Ok(())))
}

fn answer(hub: &Hub, published: Published, count: Option<u64>) -> PublishAnswer {
    PublishAnswer {
        id: hub.epoch().position(published.offset).as_str().to_owned(),
        subscribers: published.subscribers,
        durability: "memory",
        published: count,
    }
}
