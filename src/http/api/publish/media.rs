//! How a publish body is to be read, by its headers. Pure.

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};

use crate::answer::problem::{Code, Problem};

/// How to read a publish body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Media {
    /// One JSON value: [`parse_body`](crate::http::api::publish::event_body::parse_body).
    Json,
    /// JSON values in lines, published as they arrive: [`Lines`](crate::http::api::publish::lines::Lines) and [`parse_event`](crate::http::api::publish::event_body::parse_event).
    Ndjson,
}

impl Media {
    /// Decides by `Content-Type` and `Content-Encoding`.
    ///
    /// No type, and those that `curl -d` and a bare `fetch` send (`application/x-www-form-urlencoded`, `text/plain`),
    /// count as JSON. Browsers let any page send these without a preflight, which is why
    /// [`Cors`](crate::policy::cors::Cors) refuses foreign origins by itself.
    ///
    /// # Errors
    ///
    /// [`Code::ContentEncodingUnsupported`] for anything but `identity`; [`Code::MediaTypeUnsupported`] for other
    /// types, several of them, or a charset other than UTF-8.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        for value in headers.get_all(CONTENT_ENCODING) {
            let mut codings = value.as_bytes().split(|byte| *byte == b',');
            let plain = |coding: &[u8]| matches_any(coding, &["identity", ""]);
            if !codings.all(plain) {
                return Err(Code::ContentEncodingUnsupported.into());
            }
        }
        let value = single(headers, &CONTENT_TYPE).ok_or(Code::MediaTypeUnsupported)?;
        let mut parts = value.split(|byte| *byte == b';');
        let essence = parts.next().unwrap_or_default();
        if !parts.all(is_utf8_or_no_charset) {
            return Err(Code::MediaTypeUnsupported.into());
        }
        if matches_any(essence, &JSON_TYPES) {
            Ok(Self::Json)
        } else if matches_any(essence, &NDJSON_TYPES) {
            Ok(Self::Ndjson)
        } else {
            Err(Code::MediaTypeUnsupported.into())
        }
    }
}

/// Types that mean one JSON value. The empty one stands for a request without `Content-Type`.
const JSON_TYPES: [&str; 4] = ["application/json", "", "application/x-www-form-urlencoded", "text/plain"];

/// Types that mean JSON values in lines. None is registered; these are in use.
const NDJSON_TYPES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];

/// The only value of a header: empty if it is absent, `None` if it comes more than once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map_or(&b""[..], |value| value.as_bytes());
    values.next().is_none().then_some(first)
}

/// Whether a media type's parameter leaves the text UTF-8. Other parameters are ignored.
fn is_utf8_or_no_charset(parameter: &[u8]) -> bool {
    let Some(at) = parameter.iter().position(|byte| *byte == b'=') else {
        return true;
    };
    let (name, value) = (&parameter[..at], &parameter[at + 1..]);
    !matches_any(name, &["charset"]) || matches_any(value, &["utf-8", "\"utf-8\"", "utf8", "us-ascii"])
}

/// Whether `text`, without spaces around it, is one of `known` in any case.
fn matches_any(text: &[u8], known: &[&str]) -> bool {
    let text = text.trim_ascii();
    known.iter().any(|known| text.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn what_curl_and_fetch_send_is_json() {
        let table = [
            ("application/json", Media::Json),
            ("Application/JSON", Media::Json),
            ("application/json; charset=utf-8", Media::Json),
            ("application/json;charset=\"UTF-8\"", Media::Json),
            ("application/json; profile=x; charset=UTF8", Media::Json),
            ("application/x-www-form-urlencoded", Media::Json),
            ("text/plain;charset=UTF-8", Media::Json),
            ("", Media::Json),
            ("application/x-ndjson", Media::Ndjson),
            ("application/ndjson ; charset=utf-8", Media::Ndjson),
            ("application/jsonl", Media::Ndjson),
        ];
        for (value, media) in table {
            let headers = headers(&[("content-type", value)]);
            assert_eq!(Media::from_headers(&headers), Ok(media), "{value}");
        }
        assert_eq!(Media::from_headers(&HeaderMap::new()), Ok(Media::Json));
    }

    #[test]
    fn other_types_and_encodings_are_refused() {
        let table = [
            ("content-type", "multipart/form-data; boundary=x", false),
            ("content-type", "application/xml", false),
            ("content-type", "application/json, application/json", false),
            ("content-type", "application/json; charset=latin1", false),
            ("content-type", "application/jsonx", false),
            ("content-encoding", "gzip", true),
            ("content-encoding", "identity, gzip", true),
            ("content-encoding", "br", true),
        ];
        for (name, value, encoding) in table {
            let code = if encoding { Code::ContentEncodingUnsupported } else { Code::MediaTypeUnsupported };
            let found = Media::from_headers(&headers(&[(name, value)]));
            assert_eq!(found, Err(code.into()), "{value}");
        }
        let identity = headers(&[("content-encoding", "Identity")]);
        assert_eq!(Media::from_headers(&identity), Ok(Media::Json));
        let mut twice = headers(&[("content-type", "application/json")]);
        twice.append(CONTENT_TYPE, "application/x-ndjson".parse().unwrap());
        assert_eq!(Media::from_headers(&twice), Err(Code::MediaTypeUnsupported.into()));
    }
}
