//! Answers that need no credential: `GET /`, the page to try things on, and signposts for paths that are not served.

pub mod accept;
pub mod signpost;
pub mod try_page;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{self};

use crate::http::api::json::set;
use crate::http::call::Call;
use crate::http::conn::response_body::ResponseBody;
use crate::policy::Policy;

/// The answer to `GET /`: for a browser the page to try things on, for other clients a text. `Vary` keeps the two apart
/// in caches.
#[must_use]
pub fn welcome(call: &Call<'_>) -> Response<ResponseBody> {
    let (base, policy) = (&call.engine().config.base_path, call.policy);
    let page = try_page::is_served(call.engine().config.try_page, policy)
        .then(|| try_page::page(base, policy, call.headers()))
        .flatten();
    let mut response = page.unwrap_or_else(|| welcome_text(base, policy));
    set(&mut response, header::VARY, "accept");
    response
}

/// The welcome as text. It has the version only if `/info` is open to the client.
fn welcome_text(base: &str, policy: &Policy) -> Response<ResponseBody> {
    let version = if policy.authority.is_none() { concat!(" ", env!("CARGO_PKG_VERSION")) } else { "" };
    let text = format!(
        "Tidegate{version}\n\nlisten   GET  {base}/stream/ROOM/USER\npublish  POST {base}/publish\nstate    GET  {base}/info\n"
    );
    let mut response = Response::new(ResponseBody::from(Bytes::from(text)));
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}
