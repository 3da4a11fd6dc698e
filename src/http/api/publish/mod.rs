//! `POST {base}/publish`: one event, a batch, or a stream of lines that are published as they arrive.

pub mod compact;
pub mod event_body;
mod fault;
mod line_stream;
pub mod lines;
pub mod malformed;
pub mod media;
pub(in crate::http::api) mod publisher;

use hyper::Response;
use serde::Serialize;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::http::api::json::json;
use crate::http::api::publish::event_body::EventBody;
use crate::http::api::publish::media::Media;
use crate::http::api::publish::publisher::Publisher;
use crate::http::call::Call;
use crate::http::conn::response_body::ResponseBody;
use crate::http::gate::caller::Caller;
use crate::http::request_body;
use crate::hub::Published;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::own_ids::Repeats;

/// The answer to a publish.
#[derive(Debug, Serialize)]
struct PublishAnswer {
    /// Id of the (last) event.
    id: String,
    /// Connections the events were addressed to, summed over events.
    subscribers: u64,
    /// What the events survive: `memory` is lost with the process.
    durability: &'static str,
    /// Events published; absent for a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<u64>,
}

/// Publishes the events in the body of `call`.
///
/// # Errors
///
/// Any problem with the request. In a stream of lines, what came before the problem stays published, and the answer
/// says how much.
pub async fn publish(call: Call<'_>, caller: &Caller) -> Result<Response<ResponseBody>, Problem> {
    // Both are checked before the body, which takes memory.
    caller.may_publish_something()?;
    call.engine().spare_memory(MemoryLevel::NoPublishes)?;
    let publisher = Publisher::new(&call, caller)?;
    let answer = match Media::from_headers(call.headers())? {
        Media::Json => publish_body(call, &publisher).await?,
        Media::Ndjson => line_stream::publish(call, &publisher).await?,
    };
    Ok(json(&answer))
}

async fn publish_body(call: Call<'_>, publisher: &Publisher<'_>) -> Result<PublishAnswer, Problem> {
    let engine = call.engine();
    let config = &engine.config;
    let whole = request_body::collect(call, publisher.caller, config.max_body_bytes).await?;
    match event_body::parse_body(&whole.bytes, config.max_event_bytes)? {
        EventBody::One(draft) => {
            publisher.caller.may_publish(&draft)?;
            publisher.take(engine, 1)?;
            let published = engine.publish([draft], Repeats::RefuseAll).map_err(|_| Code::EventIdRepeated)?;
            Ok(PublishAnswer::new(engine, published, None))
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
            Ok(PublishAnswer::new(engine, published, Some(count as u64)))
        }
    }
}

impl PublishAnswer {
    fn new(engine: &Engine, published: Published, count: Option<u64>) -> Self {
        Self {
            id: engine.hub.epoch().position(published.offset).as_str().to_owned(),
            subscribers: published.subscribers,
            durability: "memory",
            published: count,
        }
    }
}
