//! Conditions on requests: required headers, names of the server, and programs that are refused.
//! `policy::checks` checks requests against them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::HeaderName;

use crate::config::kinds::secret::{MASK, Secret};
use crate::config::kinds::{Kind as _, Masked, Plain};

/// Headers a setting may require.
pub const REQUIRED_HEADERS_MAX: usize = 16;

/// Rules about programs. A request's `User-Agent` is searched for each in turn.
pub const DENIED_USER_AGENTS_MAX: usize = 64;

/// Names the server may have.
pub const ALLOWED_HOSTS_MAX: usize = 64;

/// A header without which a request is refused.
#[derive(Clone, Eq, PartialEq)]
pub struct RequiredHeader {
    /// Its name, in lower case.
    pub name: HeaderName,
    /// The value it must have; `None` accepts any. It may be a secret shared with a proxy.
    pub value: Option<Secret>,
}

impl fmt::Debug for RequiredHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&required_header().shown(self))
    }
}

/// `name`, or `name=value`.
pub(crate) fn required_header() -> Masked<RequiredHeader> {
    Masked {
        plain: Plain {
            placeholder: "HEADER",
            wanted: |_| {
                "a header's name such as x-forwarded-proto, or name=value with 1 to 256 visible ASCII characters and no comma"
                    .to_owned()
            },
            parse: parse_header,
            print: |header| header.with(Secret::reveal),
        },
        shown: |header| header.with(|_| MASK),
        mask: |_| MASK.to_owned(),
    }
}

impl RequiredHeader {
    /// Its text, with its value as `value` writes it.
    fn with(&self, value: impl Fn(&Secret) -> &str) -> String {
        match &self.value {
            Some(secret) => format!("{}={}", self.name, value(secret)),
            None => self.name.to_string(),
        }
    }
}

fn parse_header(text: &str) -> Option<RequiredHeader> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
        None => (text, None),
    };
    let is_plain = |value: &str| {
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        (1..=HEADER_VALUE_BYTES_MAX).contains(&value.len()) && value.bytes().all(printable)
    };
    if value.is_some_and(|value| !is_plain(value)) {
        return None;
    }
    Some(RequiredHeader {
        name: HeaderName::from_bytes(name.as_bytes()).ok()?,
        value: value.map(Secret::new),
    })
}

/// A bound on shared secrets.
const HEADER_VALUE_BYTES_MAX: usize = 256;

/// Programs that are refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeniedUserAgent {
    /// Those without a `User-Agent`: `none`.
    Absent,
    /// Those whose `User-Agent` contains this text in any case. It is in lower case here.
    Containing(String),
}

/// `none`, or a part of a `User-Agent`.
pub(crate) fn denied_user_agent() -> Plain<DeniedUserAgent> {
    Plain {
        placeholder: "TEXT",
        wanted: |_| "none, or 1 to 128 visible ASCII characters of a User-Agent such as curl/".to_owned(),
        parse: parse_user_agent,
        print: |value| match value {
            DeniedUserAgent::Absent => NO_USER_AGENT.to_owned(),
            DeniedUserAgent::Containing(text) => text.clone(),
        },
    }
}

fn parse_user_agent(text: &str) -> Option<DeniedUserAgent> {
    if text == NO_USER_AGENT {
        return Some(DeniedUserAgent::Absent);
    }
    let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    let fits = (1..=AGENT_BYTES_MAX).contains(&text.len()) && text.bytes().all(printable);
    fits.then(|| DeniedUserAgent::Containing(text.to_ascii_lowercase()))
}

const NO_USER_AGENT: &str = "none";
const AGENT_BYTES_MAX: usize = 128;

/// A host name, or several, that requests may use. In lower case, without a port or a dot at its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostPattern {
    /// Exactly this name or address, IPv6 in brackets.
    Exact(String),
    /// All names below one, kept with the dot in front: `.push.example` for `*.push.example`.
    Below(String),
}

impl HostPattern {
    /// Whether the pattern matches `host`, which is in lower case and has neither a port nor a dot at its end.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

/// `push.example`, `*.push.example`, `10.0.0.5` or `[::1]`.
pub(crate) fn host_pattern() -> Plain<HostPattern> {
    Plain {
        placeholder: "NAME",
        wanted: |_| {
            "a name without a port such as push.example or *.push.example, or an IP address".to_owned()
        },
        parse: parse_host,
        print: |value| match value {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Below(suffix) => format!("*{suffix}"),
        },
    }
}

fn parse_host(text: &str) -> Option<HostPattern> {
    let text = text.to_ascii_lowercase();
    if let Some(rest) = text.strip_prefix('*') {
        let name = rest.strip_prefix('.')?;
        return is_name(name).then(|| HostPattern::Below(rest.to_owned()));
    }
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = inner.unwrap_or(&text).parse::<Ipv6Addr>() {
        return Some(HostPattern::Exact(format!("[{address}]")));
    }
    (text.parse::<Ipv4Addr>().is_ok() || is_name(&text)).then_some(HostPattern::Exact(text))
}

/// Whether `text` consists of labels of letters, digits, hyphens (RFC 1123 §2.1) and underscores, which are used in
/// practice.
pub(crate) fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_headers_read_back_and_hide_their_value() {
        for (text, shown) in [
            ("x-forwarded-proto", "x-forwarded-proto"),
            ("x-key=s3cr=t", "x-key=***"),
            ("x-key=two words", "x-key=***"),
        ] {
            let header = required_header().parse(text).expect("a header");
            assert_eq!(required_header().print(&header), text);
            assert_eq!(required_header().shown(&header), shown);
            assert_eq!(format!("{header:?}"), shown);
        }
        assert_eq!(required_header().parse("X-Key = v"), required_header().parse("x-key=v"));
        for text in [
            "",
            "=v",
            "x key=v",
            "x-key=",
            "x-key= ",
            "x-key=a\tb",
            "x-key=é",
            &format!("x={}", "v".repeat(257)),
        ] {
            assert_eq!(required_header().parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn programs_are_named_by_a_part_of_what_they_say() {
        let parse = |text: &str| denied_user_agent().parse(text);
        assert_eq!(parse("none"), Some(DeniedUserAgent::Absent));
        assert_eq!(parse("Curl/"), Some(DeniedUserAgent::Containing("curl/".into())));
        for text in ["", "a\u{1b}", "é", &"a".repeat(129)] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_are_kept_in_one_form() {
        for (text, kept) in [
            ("Push.Example", "push.example"),
            ("*.Push.example", "*.push.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "[::1]"),
            ("[0:0::1]", "[::1]"),
            ("localhost", "localhost"),
        ] {
            let pattern = host_pattern().parse(text).expect("a name");
            assert_eq!(host_pattern().print(&pattern), kept, "{text}");
        }
        for text in
            ["", "*", "*.", "a..b", "a.b.", ".a", "*a.b", "a.*", "a:80", "[a]", "bücher.example", "a/b"]
        {
            assert_eq!(host_pattern().parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_star_is_for_names_below_and_nothing_else() {
        let below = host_pattern().parse("*.a.example").expect("a pattern");
        assert!(below.covers("b.a.example") && below.covers("c.b.a.example"));
        for host in ["a.example", ".a.example", "ba.example", "b.a.example.evil", ""] {
            assert!(!below.covers(host), "{host:?}");
        }
        let exact = host_pattern().parse("a.example").expect("a name");
        assert!(exact.covers("a.example") && !exact.covers("b.a.example") && !exact.covers("a.example.evil"));
    }
}
