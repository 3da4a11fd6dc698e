//! What every answer has, whatever it is and whoever gave it.

use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};

/// `no-store`, because everything here is about now and maybe for one person only; `nosniff`, so that no browser takes
/// what somebody published for a page.
pub const HEADERS: [(hyper::header::HeaderName, &str); 2] =
    [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];

/// Adds them.
pub fn add(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
