//! Checks which server a request means. A request with no single clear answer is refused: a proxy in front may have
//! read it differently (RFC 9112 §3.2).

use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Uri, Version};

use crate::answer::problem::{Code, Problem};

/// Checks the request's `Host`, and that its method fits the form of its target.
///
/// HTTP/1.1 has exactly one `Host`, HTTP/1.0 at most one; both may leave it empty only where the target has no host
/// either. Where the target has one, both are the same (RFC 9112 §3.2.2). `*` is allowed with `OPTIONS` only, and
/// `CONNECT` is never allowed.
///
/// # Errors
///
/// [`Code::HostInvalid`], [`Code::PathInvalid`] or [`Code::MethodNotAllowed`].
pub fn check(method: &Method, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if method == Method::CONNECT {
        return Err(Problem::method_not_allowed(ALLOW));
    }
    let mut hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => None,
        (Some(host), None) if is_host(host) => Some(host),
        _ => return Err(Code::HostInvalid.into()),
    };
    if let Some(target) = uri.authority().map(|authority| authority.as_str().as_bytes()) {
        let is_one = host.is_none_or(|host| host.eq_ignore_ascii_case(target));
        if !is_one || !is_host(target) {
            return Err(Code::HostInvalid.into());
        }
    }
    if uri.path() == "*" && method != Method::OPTIONS {
        return Err(Problem::new(Code::PathInvalid).with_detail("* is allowed with OPTIONS only"));
    }
    Ok(())
}

/// The methods that any resource takes.
pub const ALLOW: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

/// Whether `text` is `uri-host [":" port]` (RFC 9110 §7.2, RFC 3986 §3.2.2), without anything percent-encoded, which no
/// name in use has.
fn is_host(text: &[u8]) -> bool {
    let port = |rest: &[u8]| match rest {
        [] => true,
        [b':', digits @ ..] => digits.len() <= PORT_DIGITS_MAX && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if text.first() == Some(&b'[') {
        let Some(end) = text.iter().position(|byte| *byte == b']') else {
            return false;
        };
        let address = std::str::from_utf8(&text[1..end]).ok();
        return address.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
            && port(&text[end + 1..]);
    }
    let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    !name.is_empty() && name.iter().all(is_name) && port(rest)
}

const PORT_DIGITS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: &str, version: Version, uri: &str, hosts: &[&'static str]) -> Result<(), Code> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        check(&method, version, &uri.parse().unwrap(), &headers).map_err(|problem| problem.code)
    }

    #[test]
    fn one_valid_host_is_wanted() {
        for host in ["x", "a.example:8080", "127.0.0.1", "[::1]", "[::1]:80", "a_b~c-d", "x:"] {
            assert_eq!(checked("GET", Version::HTTP_11, "/", &[host]), Ok(()), "{host}");
        }
        for host in [
            "", ":80", "a b", "a/b", "u@h", "a,b", "[::1", "[x]", "[::1]x", "h:80x", "h:123456", "a%41", "h#",
        ] {
            assert_eq!(checked("GET", Version::HTTP_11, "/", &[host]), Err(Code::HostInvalid), "{host}");
        }
        assert_eq!(checked("GET", Version::HTTP_11, "/", &[]), Err(Code::HostInvalid));
        assert_eq!(checked("GET", Version::HTTP_11, "/", &["x", "x"]), Err(Code::HostInvalid));
        assert_eq!(checked("GET", Version::HTTP_10, "/", &["x", "y"]), Err(Code::HostInvalid));
        assert_eq!(checked("GET", Version::HTTP_10, "/", &[]), Ok(()));
        assert_eq!(checked("GET", Version::HTTP_11, "http://u@h/", &["h"]), Err(Code::HostInvalid));
        assert_eq!(checked("GET", Version::HTTP_11, "http://h/", &["h"]), Ok(()));
        assert_eq!(checked("GET", Version::HTTP_11, "http://h:80/", &["H:80"]), Ok(()));
        assert_eq!(checked("GET", Version::HTTP_10, "http://h/", &[]), Ok(()));
        for other in ["b", "h:80", "h.example", "[::1]"] {
            assert_eq!(
                checked("GET", Version::HTTP_11, "http://h/", &[other]),
                Err(Code::HostInvalid),
                "{other}"
            );
        }
    }

    #[test]
    fn odd_targets_go_with_their_methods_only() {
        assert_eq!(checked("CONNECT", Version::HTTP_11, "h:80", &["h"]), Err(Code::MethodNotAllowed));
        assert_eq!(checked("GET", Version::HTTP_11, "*", &["h"]), Err(Code::PathInvalid));
        assert_eq!(checked("OPTIONS", Version::HTTP_11, "*", &["h"]), Ok(()));
    }
}
