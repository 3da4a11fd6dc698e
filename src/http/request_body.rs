//! Reads whole bodies of requests, within their bounds and in time.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use crate::answer::problem::{Code, Problem};
use crate::engine::buffers::Holds;
use crate::http::call::Call;
use crate::http::conn::exchange::Awaits;
use crate::http::conn::held::Held;
use crate::http::gate::caller::Caller;

/// Reads the whole body of `caller`'s request, if it has at most `bytes_max` bytes and arrives in time.
///
/// # Errors
///
/// [`Code::BodyTooLarge`], [`Code::RequestTimeout`], [`Code::RequestMalformed`] if it ends early, [`Code::BuffersFull`]
/// or [`Code::MemoryExhausted`] if it cannot be held, or [`Code::Unauthorized`] if the caller is no longer accepted at
/// its end.
pub async fn collect(call: Call<'_>, caller: &Caller, bytes_max: usize) -> Result<Whole, Problem> {
    let Call { context, exchange, request, .. } = call;
    let engine = &context.engine;
    exchange.awaits(Awaits::Body);
    let held = Held::new(engine, exchange, Holds::Body);
    let whole = timeout(engine.config.request_timeout, read(request.into_body(), bytes_max, held)).await;
    exchange.awaits(Awaits::Nothing);
    let whole = whole.map_err(|_| Code::RequestTimeout)??;
    exchange.has_read();
    // A client that sends slowly chooses when its body is complete.
    caller.is_still_known(&engine.access)?;
    Ok(whole)
}

/// A body, and its share of the shared budget.
pub struct Whole {
    /// Its bytes.
    pub bytes: Vec<u8>,
    _held: Held,
}

async fn read(mut body: Incoming, bytes_max: usize, mut held: Held) -> Result<Whole, Problem> {
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
            // By the bytes that have come, not by `Content-Length`: a head alone takes nothing.
            let capacity = wanted.max(2 * bytes.capacity()).min(bytes_max);
            held.hold(capacity)?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Whole { bytes, _held: held })
}

/// The next piece of a body; `None` at its end.
///
/// # Errors
///
/// [`Code::RequestMalformed`] if it is cut short or framed wrongly.
pub async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        // The body is cut short or framed wrongly; if the peer is gone, the answer is not read.
        let frame = frame.map_err(|_| Code::RequestMalformed)?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
