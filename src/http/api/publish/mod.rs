//! `POST {base}/publish`: one event, a batch, or a stream of lines that are published as they arrive.

mod answer;
pub mod asking;
pub mod compact;
pub mod event_body;
mod fault;
pub mod fields;
pub mod idempotency;
mod line_stream;
pub mod lines;
pub mod malformed;
pub mod media;
pub(in crate::http::api) mod publisher;
mod room_rules;

use std::rc::Rc;

use crate::answer::problem::Problem;
use crate::http::api::publish::answer::PublishAnswer;
use crate::http::api::publish::asking::Asking;
use crate::http::api::publish::event_body::EventBody;
use crate::http::api::publish::fields::Event;
use crate::http::api::publish::media::Media;
use crate::http::api::publish::publisher::{Publisher, Uses};
use crate::http::api::publish::room_rules::RoomRules;
use crate::http::call::{Call, Handled};
use crate::http::conn::exchange::Exchange;
use crate::http::context::Context;
use crate::http::gate::caller::Caller;
use crate::http::request_body;
use crate::hub::Published;
use crate::hub::draft::{Claim, Draft};
use crate::hub::memory_level::MemoryLevel;
use crate::hub::own_ids::Repeats;
use crate::order::claims::RequestClaim;
use crate::order::memory::First;
use crate::order::refused::Refused;
use crate::types::name::OnceKey;

/// Publishes the events in the body of `call`.
///
/// # Errors
///
/// Any problem with the request. In a stream of lines, what came before the problem stays published, and the answer
/// says how much.
pub async fn publish(call: Call<'_>, caller: &Caller) -> Handled {
    // All of this is checked before the body, which takes memory.
    caller.may_publish_something()?;
    call.engine().spare_memory(MemoryLevel::NoPublishes)?;
    let publisher = Publisher::new(&call, caller)?;
    let media = Media::from_headers(call.headers())?;
    let key = idempotency::key(call.headers(), media)?;
    let answer = match media {
        Media::Json => publish_body(call, &publisher, key).await?,
        Media::Ndjson => line_stream::publish(call, &publisher).await?,
    };
    Ok(answer.response())
}

async fn publish_body(
    call: Call<'_>,
    publisher: &Publisher<'_>,
    key: Option<OnceKey>,
) -> Result<PublishAnswer, Problem> {
    let (engine, context, exchange) = (call.engine(), call.context, call.exchange);
    let config = &engine.config;
    let whole = request_body::collect(call, publisher.caller, config.max_body_bytes).await?;
    let rules = RoomRules::now(engine);
    let (events, is_batch) = match event_body::parse_body(&whole.bytes, rules.event_bytes_max())? {
        EventBody::One(event) => (vec![*event], false),
        EventBody::Batch(events) => (events, true),
    };
    let place = |problem: Problem, index| if is_batch { problem.at_index(index) } else { problem };
    let claim = key.map(|key| publisher.claim(engine, &key, &whole.bytes));
    let work = Work { context, exchange, publisher, rules: &rules };
    let published = publish_events(&work, events, claim, place).await?;
    Ok(if is_batch {
        PublishAnswer::of_many(engine, &published.into())
    } else {
        PublishAnswer::of_one(engine, published)
    })
}

/// What the events of one body are published with.
struct Work<'w> {
    context: &'w Context,
    exchange: &'w Rc<Exchange>,
    publisher: &'w Publisher<'w>,
    rules: &'w RoomRules,
}

/// Publishes the events of one body, all or none of them.
async fn publish_events(
    work: &Work<'_>,
    events: Vec<Event>,
    claim: Option<Claim>,
    place: impl Fn(Problem, usize) -> Problem,
) -> Result<Published, Problem> {
    let Work { context, exchange, publisher, rules } = *work;
    let engine = &context.engine;
    let drafts = events.into_iter().enumerate();
    let drafts =
        drafts.map(|(index, event)| publisher.draft(engine, event).map_err(|problem| place(problem, index)));
    let mut drafts: Vec<Draft> = drafts.collect::<Result<_, _>>()?;
    let refused = |Refused { index, why, .. }: Refused| {
        let problem = Problem::new(why.into());
        match index {
            Some(index) => place(problem, index),
            None => problem,
        }
    };
    // A repeat is answered although its sender may be above its rate by now.
    if let Some(claim) = &claim {
        let first = engine.order.answer_to(claim, engine.clock.now()).map_err(&refused)?;
        if let Some(first) = first {
            engine.confirm().await.map_err(&refused)?;
            return Ok(first);
        }
    }
    let mut uses = Uses::default();
    for (index, draft) in drafts.iter_mut().enumerate() {
        let checked = publisher.check(engine, rules, draft, &mut uses);
        checked.map_err(|problem| place(problem, index))?;
    }
    let asked = asking::count(publisher, rules, &drafts);
    if asked == 0 {
        publisher.take(engine, &uses)?;
        let published = match claim {
            Some(claim) => engine.publish_once(RequestClaim { claim, turn: None }, drafts).await,
            None => engine.publish(drafts, Repeats::RefuseAll).await,
        };
        return published.map_err(refused);
    }
    // Before it waits: whoever sends it again meanwhile is told at once, and pays nothing.
    let first = claim.map(|claim| engine.order.begin(&claim, engine.clock.now()));
    let begun = match first.transpose().map_err(&refused)? {
        Some(First::Before(first)) => {
            engine.confirm().await.map_err(&refused)?;
            return Ok(first);
        }
        Some(First::Now(begun)) => Some(begun),
        None => None,
    };
    publisher.take(engine, &uses)?;
    let mut asking = Asking::begin(context, exchange, publisher, false, asked).await?;
    for (index, draft) in drafts.iter_mut().enumerate() {
        asking.ask(rules, draft).await.map_err(|problem| place(problem, index))?;
    }
    for (index, draft) in drafts.iter().enumerate() {
        publisher.may_still(engine, draft).map_err(|problem| place(problem, index))?;
    }
    let published = match &begun {
        Some(begun) => engine.publish_once(begun.request(), drafts).await,
        None => engine.publish(drafts, Repeats::RefuseAll).await,
    };
    published.map_err(refused)
}
