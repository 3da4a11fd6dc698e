//! Which web pages and apps on other origins may listen and publish, and which headers they may send (Fetch, "CORS
//! protocol").

use std::net::Ipv6Addr;

use hyper::header::HeaderName;

use crate::config::kinds::requests::is_name;
use crate::config::kinds::{Kind, Plain, Shape, entries};
use crate::config::nearest::distance;

/// Origins a list may have. Requests are compared with each in turn.
pub const CORS_ORIGINS_MAX: usize = 64;

/// Headers a list may have. Each preflight is answered with all of them.
pub const CORS_HEADERS_MAX: usize = 32;

/// Which other origins may use the server from a browser.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CorsOrigins {
    /// All of them: `*`.
    Any,
    /// Exactly these, in the form browsers send in `Origin` (RFC 6454 §6.2): lower case, no default port, no path. The
    /// host of an app keeps its case: `safari-web-extension` has upper case. Empty allows none.
    Only(Vec<String>),
}

impl CorsOrigins {
    /// Parses `*`, or origins with commas between them; `None` if one of them is not an origin.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        OriginsKind.parse(text)
    }

    /// The first entry that pages of many owners share, if there is one: `null` or `file://`.
    #[must_use]
    pub fn shared(&self) -> Option<&str> {
        let Self::Only(origins) = self else { return None };
        origins.iter().map(String::as_str).find(|origin| SHARED.contains(origin))
    }
}

/// The `Origin` of pages of many owners: sandboxed frames, pages from files, and pages after some redirects send
/// `null`; pages from files in the web view of an Android app send `file://`.
const SHARED: [&str; 2] = ["null", "file://"];

/// Origins such as `https://app.example`, or `*` alone.
pub(crate) fn cors_origins() -> OriginsKind {
    OriginsKind
}

pub(crate) struct OriginsKind;

impl Kind for OriginsKind {
    type Value = CorsOrigins;

    const SHAPE: Shape = Shape::List;

    fn placeholder(&self) -> &'static str {
        "ORIGIN"
    }

    fn wanted(&self, _: &str) -> String {
        format!(
            "* alone, or 0 to {CORS_ORIGINS_MAX} different origins without a path, each such as https://app.example, \
             capacitor://localhost or null"
        )
    }

    fn parse(&self, text: &str) -> Option<CorsOrigins> {
        if text.trim() == "*" {
            return Some(CorsOrigins::Any);
        }
        let mut origins = Vec::new();
        for entry in entries(text) {
            let origin = parse_origin(entry)?;
            if origins.contains(&origin) || origins.len() == CORS_ORIGINS_MAX {
                return None;
            }
            origins.push(origin);
        }
        Some(CorsOrigins::Only(origins))
    }

    fn print(&self, value: &CorsOrigins) -> String {
        match value {
            CorsOrigins::Any => "*".to_owned(),
            CorsOrigins::Only(origins) => origins.join(","),
        }
    }
}

/// Converts an origin from the settings to the form browsers send, so that comparing bytes is enough.
fn parse_origin(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if SHARED.contains(&lower.as_str()) {
        return Some(lower);
    }
    let (scheme, authority) = lower.split_once("://")?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return app_origin(scheme, &text[scheme.len() + "://".len()..]),
    };
    // The colons of an IPv6 address are in brackets.
    let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    let (host, port) = authority.split_at(port_at.unwrap_or(authority.len()));
    let port = match port.strip_prefix(':') {
        None => default_port,
        Some(digits) => port_number(digits)?,
    };
    if port == default_port {
        return is_host(host).then(|| format!("{scheme}://{host}"));
    }
    is_host(host).then(|| format!("{scheme}://{host}:{port}"))
}

/// The origin of an app or a browser's extension, which has a scheme of its own: `capacitor://localhost`,
/// `chrome-extension://<id>`, `app://-`.
fn app_origin(scheme: &str, authority: &str) -> Option<String> {
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let port_is_good = !authority.contains(':') || port_number(port).is_some();
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let host_is_good = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(is_host_byte);
    (is_app_scheme(scheme) && host_is_good && port_is_good).then(|| format!("{scheme}://{authority}"))
}

/// Whether `scheme`, in lower case, is a scheme (RFC 3986 §3.1) that an app may have. Others name a protocol, have no
/// host, or are typing errors: those would match no page, and no message would say why.
fn is_app_scheme(scheme: &str) -> bool {
    let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.len() <= SCHEME_BYTES_MAX
        && scheme.bytes().all(is_scheme_byte)
        && !NO_APPS.contains(&scheme)
        && ["http", "https"].iter().all(|web| distance(scheme, web) > 2)
}

/// Schemes that pages have or seem to have, but that no browser sends in `Origin`.
const NO_APPS: [&str; 9] = ["about", "blob", "data", "file", "filesystem", "ftp", "javascript", "ws", "wss"];

const SCHEME_BYTES_MAX: usize = 64;
const HOST_BYTES_MAX: usize = 253;

/// Parses digits only: `str::parse` also accepts a sign.
fn port_number(digits: &str) -> Option<u16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Whether `host` is a name in ASCII (browsers send punycode), an IPv4 address or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    is_name(host)
}

/// The name of a header that a page may send.
pub(crate) fn header_name() -> Plain<HeaderName> {
    Plain {
        placeholder: "HEADER",
        wanted: |_| format!("a header's name of 1 to {HEADER_NAME_BYTES_MAX} bytes, such as x-request-id"),
        parse: parse_header_name,
        print: HeaderName::to_string,
    }
}

/// Refuses `*`: it does not include `authorization`, and means a literal `*` where credentials are allowed (Fetch,
/// "`Access-Control-Allow-Headers`").
fn parse_header_name(text: &str) -> Option<HeaderName> {
    let fits = text.len() <= HEADER_NAME_BYTES_MAX && text != "*";
    HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| fits)
}

const HEADER_NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_kept_in_the_form_browsers_send() {
        for (text, sent) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://app.example:80", "https://app.example:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(parse_origin(text).as_deref(), Some(sent), "{text}");
        }
    }

    /// Apps and extensions could not be allowed: only http and https were accepted.
    #[test]
    fn apps_and_extensions_have_origins() {
        for text in [
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "app://-",
            "app://obsidian.md",
            "app://localhost:3000",
            "vscode-webview://0l2d8q",
            "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
            "moz-extension://8b3ad9e1-0d6f-4bd1-9b0a-5d5b3a1b0c11",
            "safari-web-extension://8B3AD9E1-0D6F-4BD1-9B0A-5D5B3A1B0C11",
            "com.example.app://main",
            "null",
            "file://",
        ] {
            assert_eq!(parse_origin(text).as_deref(), Some(text), "{text}");
        }
        assert_eq!(parse_origin("Tauri://localhost").as_deref(), Some("tauri://localhost"));
        assert_eq!(parse_origin("NULL").as_deref(), Some("null"));
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for text in [
            "",
            "app.example",
            "ftp://app.example",
            "ws://app.example",
            "wss://app.example",
            "file:///home/me/page.html",
            "file://host",
            "data://x",
            "javascript://x",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://user@app.example",
            "https://*.app.example",
            "https://app..example",
            "https://app.example:",
            "https://app.example:+1",
            "https://app.example:65536",
            "https://bücher.example",
            "http://[app]",
            "nul",
            "*",
            // Typing errors.
            "htps://app.example",
            "httpss://app.example",
            "ttp://app.example",
            "https ://app.example",
            // Not an app's either.
            "://localhost",
            "1app://localhost",
            "a_b://localhost",
            "é://localhost",
            "capacitor:localhost",
            "capacitor://",
            "capacitor:///",
            "capacitor://localhost/",
            "capacitor://localhost:",
            "capacitor://localhost:x",
            "capacitor://localhost:1:2",
            "capacitor://user@localhost",
            "chrome-extension://*",
            "chrome-extension://é",
        ] {
            assert_eq!(parse_origin(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_star_stands_alone() {
        assert_eq!(cors_origins().parse("*"), Some(CorsOrigins::Any));
        assert_eq!(cors_origins().parse(""), Some(CorsOrigins::Only(vec![])));
        for text in
            ["*,https://app.example", "https://app.example,https://APP.example", "https://app.example,"]
        {
            assert_eq!(cors_origins().parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_many_owners_share_is_known() {
        for (text, shared) in [
            ("*", None),
            ("", None),
            ("https://app.example,tauri://localhost", None),
            ("https://app.example,null", Some("null")),
            ("FILE://", Some("file://")),
        ] {
            assert_eq!(cors_origins().parse(text).expect("origins").shared(), shared, "{text}");
        }
    }

    #[test]
    fn a_header_is_one_name() {
        assert_eq!(header_name().parse("X-Request-ID").expect("a name"), "x-request-id");
        assert!(header_name().parse(&"x".repeat(HEADER_NAME_BYTES_MAX)).is_some());
        for text in ["", "*", "a b", "a:b", "a\r\nb", "é", &"x".repeat(HEADER_NAME_BYTES_MAX + 1)] {
            assert!(header_name().parse(text).is_none(), "{text:?}");
        }
    }
}
