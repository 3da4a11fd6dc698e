//! Every error answer, in one shape: `application/problem+json` (RFC 9457) with a stable `code`.
//!
//! Guarantees: the body is under 1 KiB and is made of fixed text and numbers. It repeats only one thing that the peer
//! sent, the [name of a field](FieldName) that is wrong, short and escaped: so an error answer carries neither script
//! nor another user's secret. `type` is left out (`about:blank`): programs branch on `code`. `title` says the same to
//! people; `detail` says which of several causes it was, or what to do.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use hyper::Response;
use hyper::header::{self, HeaderValue};

pub use crate::answer::code::Code;
use crate::answer::field_name::FieldName;
use crate::answer::headers;
use crate::answer::told::Told;

/// `Retry-After` of a 429 or 503 for which no other number was set.
pub const RETRY_AFTER_S_DEFAULT: u32 = 5;

/// One error answer: a code, and members that help to find the cause.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Problem {
    /// What is wrong.
    pub code: Code,
    /// Which of several causes it was, or what to do: one fixed sentence.
    pub detail: Option<&'static str>,
    /// The field at fault, as it was sent.
    pub field: Option<FieldName>,
    /// Which line of the body, from 1, blank lines counted.
    pub line: Option<u64>,
    /// Which byte of the line, from 1.
    pub column: Option<u32>,
    /// Which element of a batch, from 0.
    pub index: Option<u32>,
    /// How many events of this request were published before the error and stay published.
    pub published: Option<u64>,
    /// `Retry-After` in seconds (RFC 9110 §10.2.3); [`RETRY_AFTER_S_DEFAULT`] if the code needs one and none is set.
    pub retry_after_s: Option<u32>,
    /// `Allow`: the methods the path takes. A 405 must have it (RFC 9110 §15.5.6).
    pub allow: Option<&'static str>,
    /// The code and title that the application chose, in place of this server's.
    pub told: Option<Box<Told>>,
}

impl Problem {
    /// A problem with a code and nothing else.
    pub const fn new(code: Code) -> Self {
        Self {
            code,
            detail: None,
            field: None,
            line: None,
            column: None,
            index: None,
            published: None,
            retry_after_s: None,
            allow: None,
            told: None,
        }
    }

    /// A 405: the path takes only the methods in `allow`, such as `GET, OPTIONS`.
    pub const fn method_not_allowed(allow: &'static str) -> Self {
        let mut problem = Self::new(Code::MethodNotAllowed);
        problem.allow = Some(allow);
        problem
    }

    /// Adds which of several causes it was, or what to do: one sentence of at most `DETAIL_BYTES_MAX` bytes.
    pub const fn with_detail(mut self, detail: &'static str) -> Self {
        debug_assert!(detail.len() <= DETAIL_BYTES_MAX, "the answer stays below its bound");
        self.detail = Some(detail);
        self
    }

    /// Adds the name of the field at fault.
    pub fn about(mut self, field: &str) -> Self {
        self.field = Some(FieldName::new(field));
        self
    }

    /// Adds the line of the body, counted from 1.
    pub const fn at_line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    /// Adds the byte of its line, counted from 1.
    pub fn at_column(mut self, column: usize) -> Self {
        self.column = Some(u32::try_from(column).unwrap_or(u32::MAX));
        self
    }

    /// Adds the element of a batch, counted from 0.
    pub fn at_index(mut self, index: usize) -> Self {
        self.index = Some(u32::try_from(index).unwrap_or(u32::MAX));
        self
    }

    /// Adds how many events of the request were published before the error.
    pub const fn after_publishing(mut self, published: u64) -> Self {
        self.published = Some(published);
        self
    }

    /// Adds how many seconds the peer should wait before it tries again.
    pub const fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The body: `{"title":…,"status":…,"code":…}`, then those of `detail`, `field`, `line`, `column`, `index` and
    /// `published` that are set.
    #[must_use]
    pub fn to_json(&self) -> String {
        let told = self.told.as_deref();
        let title = serde_json::Value::from(told.map_or(self.code.title(), Told::title));
        let (status, code) = (self.code.status().as_u16(), told.map_or(self.code.as_str(), Told::code));
        let mut json = format!(r#"{{"title":{title},"status":{status},"code":"{code}""#);
        let mut add = |member: &str, value: Option<&dyn fmt::Display>| {
            if let Some(value) = value {
                write!(json, r#","{member}":{value}"#).expect("a String takes any text");
            }
        };
        let detail = self.detail.map(serde_json::Value::from);
        add("detail", detail.as_ref().map(shown));
        add("field", self.field.as_ref().map(shown));
        add("line", self.line.as_ref().map(shown));
        add("column", self.column.as_ref().map(shown));
        add("index", self.index.as_ref().map(shown));
        add("published", self.published.as_ref().map(shown));
        json.push('}');
        json
    }

    /// The whole answer.
    #[must_use]
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let mut response = Response::new(B::from(Bytes::from(self.to_json())));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers::add(headers);
        let by_default = self.code.may_pass().then_some(RETRY_AFTER_S_DEFAULT);
        if let Some(seconds) = self.retry_after_s.or(by_default) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            // The same for every cause (RFC 6750 §3): the reason why a token is refused would help only its forger.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// Bytes a `detail` may have.
const DETAIL_BYTES_MAX: usize = 160;

fn shown(value: &impl fmt::Display) -> &dyn fmt::Display {
    value
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.title())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::body::Body as _;

    use super::*;

    /// Quotes take two bytes in JSON.
    const LONGEST_DETAIL: &str = {
        const QUOTES: [u8; DETAIL_BYTES_MAX] = [b'"'; DETAIL_BYTES_MAX];
        match std::str::from_utf8(&QUOTES) {
            Ok(text) => text,
            Err(_) => "",
        }
    };

    /// The largest answer `code` can have.
    fn largest(code: Code) -> Problem {
        Problem::method_not_allowed("GET, HEAD, OPTIONS")
            .with_detail(LONGEST_DETAIL)
            .about(&"<".repeat(1_000))
            .at_line(u64::MAX)
            .at_column(usize::MAX)
            .at_index(usize::MAX)
            .after_publishing(u64::MAX)
            .retry_after_s(u32::MAX)
            .with_code(code)
    }

    impl Problem {
        fn with_code(mut self, code: Code) -> Self {
            self.code = code;
            self
        }
    }

    #[test]
    fn the_body_is_json_under_one_kibibyte() {
        for &code in Code::ALL {
            let json = largest(code).to_json();
            assert!(json.len() < 1024, "{json}");
            let body: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(body["title"], code.title());
            assert_eq!(body["status"], code.status().as_u16());
            assert_eq!(body["code"], code.as_str());
            assert_eq!(body["detail"], LONGEST_DETAIL);
            assert_eq!(body["field"], format!("{}…", "<".repeat(48)));
            assert_eq!(body["line"], u64::MAX);
            assert_eq!(body["column"], u32::MAX);
            assert_eq!(body["index"], u32::MAX);
            assert_eq!(body["published"], u64::MAX);
        }
    }

    #[test]
    fn unknown_numbers_are_left_out() {
        assert_eq!(
            Problem::new(Code::Full).to_json(),
            r#"{"title":"the server is full; see Retry-After","status":503,"code":"full"}"#
        );
    }

    #[test]
    fn the_answer_is_neither_cached_nor_sniffed() {
        for &code in Code::ALL {
            let response = Problem::from(code).into_response::<Full<Bytes>>();
            assert_eq!(response.status(), code.status());
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            assert!(response.body().size_hint().exact().unwrap() > 0);
        }
    }

    #[test]
    fn what_may_pass_says_when_to_come_back() {
        for &code in Code::ALL {
            let response = Problem::new(code).into_response::<Full<Bytes>>();
            assert_eq!(
                response.headers().contains_key("retry-after"),
                matches!(code.status().as_u16(), 429 | 503),
                "{code}"
            );
        }
        let response = Problem::new(Code::RateLimited).retry_after_s(17).into_response::<Full<Bytes>>();
        assert_eq!(response.headers()["retry-after"], "17");
    }

    #[test]
    fn a_405_lists_the_methods() {
        let response = Problem::method_not_allowed("POST, OPTIONS").into_response::<Full<Bytes>>();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "POST, OPTIONS");
    }
}
