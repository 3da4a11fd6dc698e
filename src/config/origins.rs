//! Which web pages on other origins may listen and publish (Fetch, "CORS protocol").

use std::net::Ipv6Addr;

use super::kind::{Kind, Shape, entries};
use super::requests::is_name;

/// Origins a list may have. Requests are compared with each in turn.
pub const CORS_ORIGINS_MAX: usize = 64;

/// Which other origins browsers are told to let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CorsOrigins {
    /// All of them: `*`.
    Any,
    /// Exactly these, in the form browsers send in `Origin` (RFC 6454 §6.2): lower case, no default port, no path.
    /// Empty: none.
    Only(Vec<String>),
}

/// Origins such as `https://app.example`, or `*` alone.
pub(super) fn cors_origins() -> OriginsKind {
    OriginsKind
}

pub(super) struct OriginsKind;

impl Kind for OriginsKind {
    type Value = CorsOrigins;

    const SHAPE: Shape = Shape::List;

    fn placeholder(&self) -> &'static str {
        "ORIGIN"
    }

    fn wanted(&self, _: &str) -> String {
        format!(
            "* alone, or 0 to {CORS_ORIGINS_MAX} different origins without a path, each such as https://app.example"
        )
    }

    fn parse(&self, text: &str) -> Option<CorsOrigins> {
        if text.trim() == "*" {
            return Some(CorsOrigins::Any);
        }
        let mut origins = Vec::new();
        for entry in entries(text) {
            let origin = origin(entry)?;
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

/// `text` in the form browsers send, so that comparing bytes is enough.
fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    // The colons of an IPv6 address stand in brackets.
    let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    let (host, port) = authority.split_at(port_at.unwrap_or(authority.len()));
    let port = match port.strip_prefix(':') {
        None => default_port,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<u16>().ok()?,
        Some(_) => return None,
    };
    if port == default_port {
        return is_host(host).then(|| format!("{scheme}://{host}"));
    }
    is_host(host).then(|| format!("{scheme}://{host}:{port}"))
}

/// A name in ASCII (browsers send punycode), an IPv4 address or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    is_name(host)
}

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
            assert_eq!(origin(text).as_deref(), Some(sent), "{text}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for text in [
            "",
            "app.example",
            "ftp://app.example",
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
            "null",
            "*",
        ] {
            assert_eq!(origin(text), None, "{text:?}");
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
}
