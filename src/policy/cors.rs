//! CORS (WHATWG Fetch §3.2): which pages may use the server, and the refusal of changes by foreign pages.
//!
//! CORS alone only hides answers from a page. A form post or a `text/plain` fetch is sent without a preflight, and
//! every page its user visits can reach a server on loopback. So a request that changes something is refused if it
//! carries an `Origin` that is neither allowed nor the server's own. Requests without `Origin` are not from such a page
//! and pass. Reads of foreign origins are answered without CORS headers: the browser hides the answer from the page.
//! With `foreign_origins = "refuse"` they are refused too.
//!
//! DNS rebinding, where a hostile name resolves to this server, so that `Origin` and `Host` agree, is handled in
//! [`checks`](crate::policy::checks).

use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HOST,
    HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::{HeaderMap, Method, Response, StatusCode};

use crate::answer::problem::{Code, Problem};
use crate::config::{Config, CorsOrigins, ForeignOrigins};
use crate::policy::checks::SEC_FETCH_SITE;

/// Headers a page of another origin may send besides `cors_headers`: those this server reads, and those libraries add
/// to every request by themselves (W3C Trace Context and Baggage, Sentry, jQuery, clients that retry). The same for
/// every request, so that a preflight's answer can be cached.
pub const HEADERS_ALLOWED: [&str; 11] = [
    "authorization",
    "baggage",
    "cache-control",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "sentry-trace",
    "tidegate-user",
    "traceparent",
    "tracestate",
    "x-requested-with",
];

/// Headers a foreign page may read besides those it may always read.
const HEADERS_EXPOSED: &str = "retry-after, idempotency-replayed";

/// Seconds a browser may cache a preflight's answer. Chromium's limit.
const MAX_AGE_S: &str = "7200";

/// The allowed origins and their options.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cors {
    origins: CorsOrigins,
    /// Whether pages of allowed origins may send cookies. Always false if all origins are allowed, or one that several
    /// owners share.
    credentials: bool,
    /// The value of `Access-Control-Allow-Headers`.
    headers: HeaderValue,
    /// Whether requests of other pages are refused even if they only read.
    refuses_foreign: bool,
}

/// The sender of a request in the sense of CORS, which decides about the headers of its answer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Access {
    /// The value of `Access-Control-Allow-Origin`; `None` for the server's own pages, for clients that are no browsers
    /// and for foreign pages.
    allow_origin: Option<HeaderValue>,
    /// Whether the page may send cookies and read the answer.
    credentials: bool,
    /// Whether another origin would get another answer, so that caches must keep them apart.
    varies: bool,
}

impl Cors {
    /// The CORS rules of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let origins = config.cors_origins.clone();
        let is_by_owner = origins != CorsOrigins::Any && origins.shared().is_none();
        Self {
            origins,
            credentials: config.cors_credentials && is_by_owner,
            headers: headers_allowed(&config.cors_headers),
            refuses_foreign: config.foreign_origins == ForeignOrigins::Refuse,
        }
    }

    /// Checks a request.
    ///
    /// # Errors
    ///
    /// [`Code::OriginForbidden`] if it comes from a page of a foreign origin that is not allowed, and either changes
    /// something (any method but `GET`, `HEAD` and `OPTIONS`) or `foreign_origins` refuses all its requests.
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let passes = (reads && !self.refuses_foreign)
            || self.allow_origin(headers).is_some()
            || !headers.contains_key(ORIGIN)
            || is_same_origin(headers);
        if passes { Ok(()) } else { Err(Code::OriginForbidden.into()) }
    }

    /// Whether a cookie of the request counts. Browsers attach cookies by themselves, and any page can make its
    /// visitor's browser send a request: a cookie counts only from the server's own pages, and from allowed pages that
    /// may send credentials. Programs, and browsers that do not name the page, count as the server's own pages here.
    #[must_use]
    pub fn cookie_is_safe(&self, headers: &HeaderMap) -> bool {
        if self.credentials && self.allow_origin(headers).is_some() {
            return true;
        }
        let is_own = !headers.contains_key(ORIGIN) || is_same_origin(headers);
        // `none` is an action of the user, such as a bookmark.
        let site_is_own = !headers.contains_key(SEC_FETCH_SITE)
            || single(headers, &SEC_FETCH_SITE).is_some_and(|site| site == "same-origin" || site == "none");
        is_own && site_is_own
    }

    /// Answers `OPTIONS` on a path with the methods in `allow`: 204, and for an allowed origin the headers it may send.
    /// A foreign origin gets no CORS headers, so the browser stops there.
    #[must_use]
    pub fn preflight<B: From<Bytes>>(&self, allow: &'static str, headers: &HeaderMap) -> Response<B> {
        let access = self.access(headers);
        let mut response = Response::new(B::from(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(allow));
        if access.allow_origin.is_some() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allow));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
        }
        access.apply(headers);
        response
    }

    /// The CORS headers that the answer to a request needs.
    pub fn access(&self, headers: &HeaderMap) -> Access {
        let allow_origin = self.allow_origin(headers);
        let credentials = self.credentials && allow_origin.is_some();
        let varies = matches!(&self.origins, CorsOrigins::Only(origins) if !origins.is_empty());
        Access { allow_origin, credentials, varies }
    }

    /// The value of `Access-Control-Allow-Origin`, if the request's origin is allowed.
    fn allow_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        match &self.origins {
            CorsOrigins::Any => Some(HeaderValue::from_static("*")),
            CorsOrigins::Only(origins) => {
                let is_listed = |sent: &&HeaderValue| origins.iter().any(|origin| *sent == origin.as_str());
                single(headers, &ORIGIN).filter(is_listed).cloned()
            }
        }
    }
}

impl Access {
    /// Adds the CORS headers to an answer. Problems get them too: a page may read why it was refused.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if let Some(origin) = &self.allow_origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(HEADERS_EXPOSED));
        }
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if self.varies {
            // Appended: an answer may vary on other headers, such as its encoding.
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

/// [`HEADERS_ALLOWED`] and `more`, each once.
fn headers_allowed(more: &[HeaderName]) -> HeaderValue {
    let more = more.iter().map(HeaderName::as_str).filter(|name| !HEADERS_ALLOWED.contains(name));
    let names: Vec<&str> = HEADERS_ALLOWED.into_iter().chain(more).collect();
    names.join(", ").try_into().expect("names of headers are visible ASCII")
}

/// Whether the page came from this host and port. The scheme is not compared: TLS may end at a proxy in front.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| single(headers, name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(&ORIGIN), text(&HOST)) else {
        return false;
    };
    let Some((scheme @ ("http" | "https"), origin_host)) = origin.split_once("://") else {
        return false;
    };
    let plain = |host| without_default_port(scheme, host);
    !origin_host.is_empty() && plain(origin_host).eq_ignore_ascii_case(plain(host))
}

/// `host` without the port that `scheme` implies. Browsers leave it out of `Origin`; clients and proxies may put it
/// into `Host`.
fn without_default_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return host,
    };
    host.strip_suffix(port).unwrap_or(host)
}

/// The only value of a header; `None` if it is absent or comes more than once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST_OURS: &str = "127.0.0.1:8080";

    fn request(origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(HOST_OURS));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    fn allowing(origins: CorsOrigins) -> Cors {
        Cors { origins, credentials: false, headers: headers_allowed(&[]), refuses_foreign: false }
    }

    fn listed() -> Cors {
        allowing(CorsOrigins::Only(
            ["https://app.example", "https://other.example"].map(str::to_owned).into(),
        ))
    }

    fn empty() -> Cors {
        allowing(CorsOrigins::Only(Vec::new()))
    }

    /// The headers `cors` adds to the answer of a `GET`.
    fn added(cors: &Cors, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        assert!(cors.check(&Method::GET, &request(origin)).is_ok());
        cors.access(&request(origin)).apply(&mut headers);
        headers
    }

    #[test]
    fn allowed_origins_are_echoed() {
        for origin in ["https://app.example", "https://other.example"] {
            let headers = added(&listed(), Some(origin));
            assert_eq!(headers["access-control-allow-origin"], origin);
            assert_eq!(headers["access-control-expose-headers"], "retry-after, idempotency-replayed");
            assert_eq!(headers["vary"], "origin");
        }
    }

    #[test]
    fn foreign_reads_get_no_cors_headers() {
        for origin in [
            "https://evil.example",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://app.example, https://evil.example",
            "https://APP.example",
            "null",
            "",
        ] {
            let headers = added(&listed(), Some(origin));
            assert_eq!(headers.len(), 1, "{origin}");
            assert_eq!(headers["vary"], "origin", "{origin}");
        }
    }

    #[test]
    fn a_star_is_for_everyone_and_does_not_vary() {
        let cors = allowing(CorsOrigins::Any);
        for origin in [Some("https://any.example"), Some("null"), None] {
            let headers = added(&cors, origin);
            assert_eq!(headers["access-control-allow-origin"], "*");
            assert!(!headers.contains_key("vary"));
            assert!(cors.check(&Method::POST, &request(origin)).is_ok());
        }
    }

    #[test]
    fn an_empty_list_adds_nothing() {
        for origin in [Some("https://any.example"), None] {
            assert!(added(&empty(), origin).is_empty());
        }
    }

    #[test]
    fn foreign_pages_change_nothing() {
        let table = [
            (None, true),
            (Some("http://127.0.0.1:8080"), true),
            (Some("https://127.0.0.1:8080"), true),
            (Some("https://app.example"), true),
            (Some("null"), false),
            (Some(""), false),
            (Some("://127.0.0.1:8080"), false),
            (Some("ftp://127.0.0.1:8080"), false),
            (Some("127.0.0.1:8080"), false),
            (Some("http://127.0.0.1"), false),
            (Some("http://127.0.0.1:8081"), false),
            (Some("http://localhost:8080"), false),
            (Some("https://evil.example"), false),
            (Some("http://127.0.0.1:8080.evil.example"), false),
            (Some("http://evil.example/127.0.0.1:8080"), false),
        ];
        for (origin, passes) in table {
            for method in [Method::POST, Method::PUT, Method::DELETE] {
                let found = listed().check(&method, &request(origin));
                assert_eq!(found.is_ok(), passes, "{method} {origin:?}");
                if let Err(problem) = found {
                    assert_eq!(problem, Code::OriginForbidden.into());
                }
            }
        }
    }

    #[test]
    fn a_doubled_origin_or_host_is_foreign() {
        for name in [ORIGIN, HOST] {
            let mut headers = request(Some("http://127.0.0.1:8080"));
            headers.append(name, HeaderValue::from_static("127.0.0.1:8080"));
            assert!(empty().check(&Method::POST, &headers).is_err());
        }
        let mut without_host = request(Some("http://127.0.0.1:8080"));
        without_host.remove(HOST);
        assert!(empty().check(&Method::POST, &without_host).is_err());
    }

    #[test]
    fn default_ports_make_no_difference() {
        for (origin, host, same) in [
            ("http://a.example", "a.example:80", true),
            ("https://a.example", "A.example:443", true),
            ("https://a.example", "a.example", true),
            ("https://a.example", "a.example:80", false),
            ("http://[::1]:8080", "[::1]:8080", true),
        ] {
            let mut headers = request(Some(origin));
            headers.insert(HOST, HeaderValue::from_static(host));
            let found = empty().check(&Method::POST, &headers);
            assert_eq!(found.is_ok(), same, "{origin} {host}");
        }
    }

    #[test]
    fn preflights_tell_allowed_origins_what_they_may_send() {
        let response = listed().preflight::<Bytes>("POST, OPTIONS", &request(Some("https://app.example")));
        assert_eq!(response.status(), 204);
        let headers = response.headers();
        for (name, value) in [
            ("allow", "POST, OPTIONS"),
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-allow-methods", "POST, OPTIONS"),
            (
                "access-control-allow-headers",
                "authorization, baggage, cache-control, content-type, idempotency-key, last-event-id, sentry-trace, \
                 tidegate-user, traceparent, tracestate, x-requested-with",
            ),
            ("access-control-max-age", "7200"),
            ("vary", "origin"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
    }

    #[test]
    fn preflights_tell_others_only_the_methods() {
        for origin in [Some("https://evil.example"), Some("null"), None] {
            let response = empty().preflight::<Bytes>("GET, OPTIONS", &request(origin));
            assert_eq!(response.status(), 204);
            assert_eq!(response.headers().len(), 1, "{origin:?}");
            assert_eq!(response.headers()["allow"], "GET, OPTIONS");
        }
    }

    #[test]
    fn preflights_name_the_operators_headers_once_each() {
        let mut config = Config::default_for(1024);
        config.cors_origins = CorsOrigins::Only(vec!["https://app.example".to_owned()]);
        config.cors_headers =
            ["x-request-id", "traceparent"].map(|name| name.parse().expect("a name")).to_vec();
        let response =
            Cors::new(&config).preflight::<Bytes>("POST, OPTIONS", &request(Some("https://app.example")));
        let wanted = format!("{}, x-request-id", HEADERS_ALLOWED.join(", "));
        assert_eq!(response.headers()["access-control-allow-headers"], wanted);
    }

    /// Pages of many owners send `null`: a sandboxed frame is enough. Where it is allowed it may listen, but never with
    /// its visitor's cookies.
    #[test]
    fn a_listed_null_is_let_in_without_credentials() {
        for origin in ["null", "file://", "tauri://localhost"] {
            let mut config = Config::default_for(1024);
            config.cors_origins = CorsOrigins::Only(vec![origin.to_owned()]);
            config.cors_credentials = true;
            let cors = Cors::new(&config);
            let headers = added(&cors, Some(origin));
            assert_eq!(headers["access-control-allow-origin"], origin);
            let is_app = origin == "tauri://localhost";
            assert_eq!(headers.contains_key("access-control-allow-credentials"), is_app, "{origin}");
            assert_eq!(cors.cookie_is_safe(&request(Some(origin))), is_app, "{origin}");
            assert!(cors.check(&Method::POST, &request(Some(origin))).is_ok(), "{origin}");
        }
    }

    fn with_credentials() -> Cors {
        Cors { credentials: true, ..listed() }
    }

    #[test]
    fn credentials_are_for_listed_origins_only() {
        for (cors, origin, wanted) in [
            (with_credentials(), Some("https://app.example"), Some("true")),
            (with_credentials(), Some("https://evil.example"), None),
            (with_credentials(), Some("null"), None),
            (with_credentials(), None, None),
            (listed(), Some("https://app.example"), None),
        ] {
            let headers = added(&cors, origin);
            let found = headers.get("access-control-allow-credentials").map(|value| value.to_str().unwrap());
            assert_eq!(found, wanted, "{origin:?}");
            let preflight = cors.preflight::<Bytes>("POST, OPTIONS", &request(origin));
            assert_eq!(
                preflight.headers().contains_key("access-control-allow-credentials"),
                wanted.is_some()
            );
        }
        let mut config = Config::default_for(1024);
        (config.cors_credentials, config.cors_origins) = (true, CorsOrigins::Any);
        assert!(
            !added(&Cors::new(&config), Some("https://any.example"))
                .contains_key("access-control-allow-credentials")
        );
    }

    #[test]
    fn foreign_pages_may_be_refused_altogether() {
        let cors = Cors { refuses_foreign: true, ..listed() };
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST] {
            for (origin, passes) in [
                (None, true),
                (Some("http://127.0.0.1:8080"), true),
                (Some("https://app.example"), true),
                (Some("https://evil.example"), false),
                (Some("null"), false),
            ] {
                assert_eq!(cors.check(&method, &request(origin)).is_ok(), passes, "{method} {origin:?}");
            }
        }
    }

    /// The values of `Sec-Fetch-Site` in browsers, with the `Origin` that goes with each.
    #[test]
    fn cookies_count_for_pages_that_may_use_them() {
        const OWN: Option<&str> = Some("http://127.0.0.1:8080");
        const LISTED: Option<&str> = Some("https://app.example");
        const EVIL: Option<&str> = Some("https://evil.example");
        let any = allowing(CorsOrigins::Any);
        let table = [
            (OWN, Some("same-origin"), [true, true, true]),
            (None, Some("same-origin"), [true, true, true]),
            (None, Some("none"), [true, true, true]),
            (OWN, None, [true, true, true]),
            (None, None, [true, true, true]),
            (LISTED, Some("cross-site"), [true, false, false]),
            (LISTED, Some("same-site"), [true, false, false]),
            (LISTED, None, [true, false, false]),
            (EVIL, Some("cross-site"), [false, false, false]),
            (EVIL, Some("same-site"), [false, false, false]),
            (EVIL, Some("same-origin"), [false, false, false]),
            (EVIL, None, [false, false, false]),
            (Some("null"), Some("cross-site"), [false, false, false]),
            (Some("null"), None, [false, false, false]),
            // A link, an image or a script of another page, which does not read the answer.
            (None, Some("cross-site"), [false, false, false]),
            (None, Some("same-site"), [false, false, false]),
            // The same name without TLS: an attacker on the network path could have sent the page.
            (OWN, Some("cross-site"), [false, false, false]),
            (None, Some("SAME-ORIGIN"), [false, false, false]),
            (None, Some(""), [false, false, false]),
        ];
        for (origin, site, wanted) in table {
            let mut headers = request(origin);
            if let Some(site) = site {
                headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            }
            let found = [&with_credentials(), &listed(), &any].map(|cors| cors.cookie_is_safe(&headers));
            assert_eq!(found, wanted, "{origin:?} {site:?}");
        }
        let mut doubled = request(None);
        doubled.append(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"));
        doubled.append(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"));
        assert!(!with_credentials().cookie_is_safe(&doubled));
    }
}
