//! Finds out from its headers what a client of a stream can read: compression, and which heartbeats. Pure.

use hyper::header::{self, HeaderMap};

use crate::wire::control::Heartbeat;

pub(in crate::http::api) fn accepts_gzip(headers: &HeaderMap) -> bool {
    accepts(headers, header::ACCEPT_ENCODING, "gzip")
}

/// Whether the request comes through Varnish, or a service built on it. Varnish asks for gzip whatever its client
/// takes, and unpacks it for clients that take none; it holds unpacked bytes back until a buffer is full, so those
/// clients would get nothing.
pub(super) fn is_through_varnish(headers: &HeaderMap) -> bool {
    headers.contains_key("x-varnish")
        || list(headers, header::VIA).any(|hop| hop.to_ascii_lowercase().contains("varnish"))
}

/// Which heartbeats a client understands, if its URL does not say. A browser's `EventSource` handles an id without an
/// event correctly, and needs it to resume a quiet stream. It sends `Cache-Control: no-cache`, as the Fetch standard
/// has it do for its cache mode "no-store" (WHATWG HTML §9.2.2, Fetch §4.5), and `Pragma: no-cache`, which libraries
/// that ask for no cache by themselves leave out. For other clients this is unknown, and several take such an id for an
/// empty message.
pub(super) fn heartbeat(headers: &HeaderMap) -> Heartbeat {
    let says = |name| list(headers, name).any(|item| item.eq_ignore_ascii_case("no-cache"));
    let is_event_source = says(header::CACHE_CONTROL) && says(header::PRAGMA);
    if is_event_source { Heartbeat::Id } else { Heartbeat::Comment }
}

/// Whether a list such as `Accept` has `wanted` and does not rule it out with `q=0` (RFC 9110 §12.4.2).
pub(super) fn accepts(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    for item in list(headers, name) {
        let mut parts = item.split(';').map(str::trim);
        if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(wanted)) {
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            return quality.and_then(|quality| quality.parse().ok()).is_none_or(|quality: f32| quality > 0.0);
        }
    }
    false
}

/// The items of a header that is a list (RFC 9110 §5.6.1).
pub(in crate::http::api) fn list(
    headers: &HeaderMap,
    name: header::HeaderName,
) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        [(header::HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn varnish_is_known_by_what_it_adds() {
        for (name, value, wanted) in [
            ("x-varnish", "32770", true),
            ("via", "1.1 cache-fra (Varnish/7.1)", true),
            ("via", "1.1 varnish", true),
            ("via", "2 edge, 1.1 Varnish, 1.1 nginx", true),
            ("via", "1.1 nginx", false),
            ("x-forwarded-for", "varnish", false),
        ] {
            assert_eq!(is_through_varnish(&with(name, value)), wanted, "{name}: {value}");
        }
        assert!(!is_through_varnish(&HeaderMap::new()));
    }

    #[test]
    fn only_those_who_ask_as_browsers_do_get_ids_without_events() {
        for (cache_control, pragma, wanted) in [
            ("no-cache", "no-cache", Heartbeat::Id),
            ("max-age=0, No-Cache", "No-Cache", Heartbeat::Id),
            // Sent by libraries that ask for no cache by themselves.
            ("no-cache", "", Heartbeat::Comment),
            ("no-store", "no-cache", Heartbeat::Comment),
            ("max-age=0", "", Heartbeat::Comment),
            ("", "no-cache", Heartbeat::Comment),
        ] {
            let mut headers = with("cache-control", cache_control);
            headers.insert(header::PRAGMA, HeaderValue::from_static(pragma));
            assert_eq!(heartbeat(&headers), wanted, "{cache_control}, {pragma}");
        }
    }

    #[test]
    fn a_listener_that_rules_gzip_out_gets_none() {
        for (value, wanted) in [
            ("gzip, deflate, br", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, br", false),
            ("deflate", false),
            ("x-gzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&headers), wanted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
