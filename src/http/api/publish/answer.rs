//! The answer to a publish.

use hyper::Response;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::engine::Engine;
use crate::http::api::json::json;
use crate::http::api::publish::idempotency::REPLAYED;
use crate::http::conn::response_body::ResponseBody;
use crate::hub::Published;
use crate::types::position::Offset;

/// The answer to a publish.
#[derive(Debug, Default, Serialize)]
pub(super) struct PublishAnswer {
    /// Id of the newest event; absent if none was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Connections the events were addressed to, summed over events.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribers: Option<u64>,
    /// What the events survive: `memory` is lost with the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<&'static str>,
    /// Events published now; absent for a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<u64>,
    /// Events left out, because there is a newer version of what they are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<Skipped>,
    /// Events left out, because they were published before.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<u64>,
    /// Whether the answer is that of an earlier publish.
    #[serde(skip)]
    is_repeat: bool,
}

/// How an answer says that events were skipped.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Skipped {
    /// `true`, for a single event.
    This(bool),
    /// How many, for several.
    Of(u64),
}

/// What became of the events of a batch, or of the lines so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    offset: Offset,
    subscribers: u64,
    pub(super) published: u64,
    skipped: u64,
    replayed: u64,
    is_repeat: bool,
}

impl Tally {
    pub(super) fn add(&mut self, more: &Published) {
        self.offset = self.offset.max(more.offset);
        self.subscribers += more.subscribers;
        self.published += u64::from(more.events);
        self.skipped += u64::from(more.skipped);
        self.replayed += u64::from(more.replayed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.published + self.skipped + self.replayed == 0
    }
}

impl From<Published> for Tally {
    fn from(published: Published) -> Self {
        let mut tally = Self { is_repeat: published.is_repeat, ..Self::default() };
        tally.add(&published);
        tally
    }
}

impl PublishAnswer {
    /// The answer to a single event. If it was published before, the answer is that of the first time.
    pub(super) fn of_one(engine: &Engine, published: Published) -> Self {
        let is_repeat = published.is_repeat || published.replayed > 0;
        if published.offset == 0 {
            return Self { skipped: Some(Skipped::This(true)), is_repeat, ..Self::default() };
        }
        Self {
            id: id(engine, published.offset),
            subscribers: Some(published.subscribers),
            durability: Some(engine.durability()),
            is_repeat,
            ..Self::default()
        }
    }

    /// The answer to a batch, or to lines.
    pub(super) fn of_many(engine: &Engine, tally: &Tally) -> Self {
        Self {
            id: id(engine, tally.offset),
            subscribers: Some(tally.subscribers),
            durability: Some(engine.durability()),
            published: Some(tally.published),
            skipped: (tally.skipped > 0).then_some(Skipped::Of(tally.skipped)),
            replayed: (tally.replayed > 0).then_some(tally.replayed),
            is_repeat: tally.is_repeat,
        }
    }

    /// The response.
    pub(super) fn response(&self) -> Response<ResponseBody> {
        let mut response = json(self);
        if self.is_repeat {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The id of the event at `offset`, if there is one.
fn id(engine: &Engine, offset: Offset) -> Option<String> {
    (offset > 0).then(|| engine.hub.position(offset).as_str().to_owned())
}
