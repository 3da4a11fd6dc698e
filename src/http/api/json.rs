//! Answers as JSON.

use bytes::Bytes;
use hyper::Response;
use hyper::header::{self, HeaderValue};
use serde::Serialize;

use crate::engine::buffers::Holds;
use crate::http::call::{Call, Handled};
use crate::http::conn::held::Held;
use crate::http::conn::response_body::ResponseBody;

/// Returns `value` as an answer.
#[must_use]
pub fn json(value: &impl Serialize) -> Response<ResponseBody> {
    response(bytes(value).into())
}

/// Returns `value`, which may be large, as an answer. It takes its bytes from the shared budget and is written in
/// pieces.
///
/// # Errors
///
/// As [`Held::hold`].
pub fn large(call: &Call<'_>, value: &impl Serialize) -> Handled {
    let mut held = Held::new(&call.context.engine, call.exchange, Holds::Answer);
    let json = bytes(value);
    held.hold(json.len())?;
    Ok(response(ResponseBody::held(json, held)))
}

/// Whether a count is left out of an answer.
#[must_use]
pub fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Returns `body`, which is JSON, as an answer.
#[must_use]
pub fn response(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    set(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

/// Sets a header of `response`.
pub fn set(response: &mut Response<ResponseBody>, name: header::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("numbers, text and lists always serialise").into()
}
