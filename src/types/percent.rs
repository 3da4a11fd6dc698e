//! Percent-encoding in paths and queries (RFC 3986 §2.1).

use std::borrow::Cow;

/// Decodes `raw` once: each `%XX` becomes a byte, everything else stays. Borrows if nothing is encoded.
///
/// `None` if a `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8. Browsers and proxies disagree
/// about what such text means, so it is refused.
#[must_use]
pub fn decode(raw: &str) -> Option<Cow<'_, str>> {
    let mut escapes = raw.split('%').skip(1);
    let well_formed = escapes
        .all(|tail| matches!(tail.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()));
    if !well_formed {
        return None;
    }
    percent_encoding::percent_decode_str(raw).decode_utf8().ok()
}
