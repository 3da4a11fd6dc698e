//! Which format a client prefers (`Accept`, RFC 9110 §12.5.1). Pure: headers in, an answer out.

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

/// Whether a client prefers HTML to plain text.
///
/// Browsers that open an address ask for `text/html` first and for `*/*` with less weight. `curl`, most libraries and
/// health checks ask for `*/*` or for nothing, which prefers neither, and text browsers ask for both alike. All of
/// these get plain text.
#[must_use]
pub fn prefers_html(headers: &HeaderMap) -> bool {
    quality(headers, "html") > quality(headers, "plain")
}

/// The weight of `text/{subtype}` in thousandths. Of the ranges that cover it, the most specific one counts; 0 if none
/// does. A malformed range covers nothing.
fn quality(headers: &HeaderMap, subtype: &str) -> u16 {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| HeaderValue::to_str(line).ok());
    let ranges = lines.flat_map(|line| line.split(','));
    let found = ranges.filter_map(|range| {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        Some((specificity(name.trim(), subtype)?, weight(parameters)?))
    });
    // Of two equally specific ones the last counts: RFC 9110 does not define which.
    found.max_by_key(|(specificity, _)| *specificity).map_or(0, |(_, weight)| weight)
}

/// How closely the range `name` describes `text/{subtype}`; `None` if it does not cover it.
fn specificity(name: &str, subtype: &str) -> Option<u8> {
    let (kind, sub) = name.split_once('/')?;
    match (kind, sub) {
        ("*", "*") => Some(0),
        _ if !kind.eq_ignore_ascii_case("text") => None,
        (_, "*") => Some(1),
        _ => sub.eq_ignore_ascii_case(subtype).then_some(2),
    }
}

/// The weight among a range's parameters, in thousandths; 1,000 without one. `None` if it is no weight.
fn weight(parameters: &str) -> Option<u16> {
    let mut pairs = parameters.split(';').filter_map(|pair| pair.split_once('='));
    match pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("q")) {
        None => Some(1000),
        Some((_, value)) => thousandths(value.trim()),
    }
}

/// `0`, `1` or `0.xyz` with up to three digits (RFC 9110 §12.4.2).
fn thousandths(value: &str) -> Option<u16> {
    let (whole, rest) = value.split_once('.').unwrap_or((value, ""));
    let is_right = matches!(whole, "0" | "1") && rest.len() <= 3 && rest.bytes().all(|b| b.is_ascii_digit());
    let parts: u16 = if is_right { format!("{rest:0<3}").parse().ok()? } else { return None };
    let sum = parts + if whole == "1" { 1000 } else { 0 };
    (sum <= 1000).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefers(lines: &[&'static str]) -> bool {
        let lines = lines.iter().map(|line| (ACCEPT, HeaderValue::from_static(line)));
        prefers_html(&lines.collect())
    }

    /// As Chromium, Firefox and Safari send it when an address is opened.
    #[test]
    fn browsers_prefer_html() {
        for accept in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
             application/signed-exchange;v=b3;q=0.7",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html",
            "TEXT/HTML ; charset=utf-8 ; Q=0.1",
            "text/plain;q=0.5, text/html;q=0.501",
            "text/plain;q=0, */*",
        ] {
            assert!(prefers(&[accept]), "{accept}");
        }
        assert!(prefers(&["*/*;q=0.1", "text/html"]));
    }

    #[test]
    fn programs_and_those_who_do_not_mind_prefer_nothing() {
        for accept in [
            "",
            "*/*",
            "text/*",
            "text/event-stream",
            "application/json, text/plain, */*",
            "text/html, text/plain",
            "text/html;q=0.5, text/plain;q=0.8",
            "text/html;q=0",
            "text/html;q=0, */*",
        ] {
            assert!(!prefers(&[accept]), "{accept}");
        }
        assert!(!prefers(&[]));
    }

    #[test]
    fn what_cannot_be_read_prefers_nothing() {
        for accept in [
            "text/html;q=2",
            "text/html;q=1.001",
            "text/html;q=0.5555",
            "text/html;q=-1",
            "text/html;q=",
            "text/html;q=+1",
            "text",
            "/",
            ",,;;==",
            "text/htmlx",
            "xtext/html",
        ] {
            assert!(!prefers(&[accept]), "{accept}");
        }
        let bytes = HeaderValue::from_bytes(b"text/html\xff").expect("a header may have this");
        assert!(!prefers_html(&[(ACCEPT, bytes)].into_iter().collect()));
    }
}
