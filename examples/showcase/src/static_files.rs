//! The pages, as they are in the folder `pages`, and the headers that guard them.
//!
//! They are read from disk, so a page that you change is there after a reload.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use tower_http::services::ServeDir;
use tower_http::set_header::{SetResponseHeader, SetResponseHeaderLayer};

const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pages");

/// Everything comes from here, and no page has a script or a style in its HTML. Should a text of a user ever become HTML by
/// mistake, it still runs nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Adds the pages to `router`.
pub(crate) fn with(router: Router) -> Router {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        // What the application answers is for one user.
        (header::CACHE_CONTROL, "no-store"),
    ];
    // The browser keeps a page and asks each time whether there is a newer one.
    let fresh = HeaderValue::from_static("no-cache");
    let pages = SetResponseHeader::if_not_present(ServeDir::new(PAGES), header::CACHE_CONTROL, fresh);
    let set = |router: Router, (name, value): (HeaderName, &'static str)| {
        router.layer(SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value)))
    };
    headers.into_iter().fold(router.fallback_service(pages), set)
}
