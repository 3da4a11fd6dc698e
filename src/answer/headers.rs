//! Headers that every answer has.

use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};

/// `no-store`, because an answer is true only now and may be for one user only; `nosniff`, so that no browser shows
/// published data as a page.
const HEADERS: [(HeaderName, &str); 2] = [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];

/// Headers that every event stream has.
///
/// - `no-transform`: proxies that compress (those of development servers, nearly all with the npm package `compression`)
///   would otherwise hold events back until their compressor has enough of them (RFC 9111 §5.2.2.6).
/// - `x-accel-buffering`: nginx would otherwise collect events until its buffer is full.
const OF_STREAMS: [(HeaderName, &str); 3] = [
    (CONTENT_TYPE, "text/event-stream"),
    (CACHE_CONTROL, "no-store, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// Adds the headers that every answer has. A header that the answer has already stays.
pub fn add(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Adds the headers that every event stream has.
pub fn add_of_stream(headers: &mut HeaderMap) {
    for (name, value) in OF_STREAMS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
