//! The base path: the prefix of `/stream`, `/publish` and the others.

use crate::config::kinds::Plain;

/// A path such as `/api/v1/sse`; `/` for none.
pub(crate) fn base_path() -> Plain<String> {
    Plain {
        placeholder: "PATH",
        wanted: |example| {
            format!(
                "a path of at most {PATH_BYTES_MAX} bytes of [A-Za-z0-9._~-] and /, such as {example}, or / for none"
            )
        },
        parse: parse_prefix,
        print: |prefix| if prefix.is_empty() { "/".to_owned() } else { prefix.clone() },
    }
}

/// Returns a prefix for `/stream`, so `/` becomes the empty string.
fn parse_prefix(text: &str) -> Option<String> {
    if text == "/" {
        return Some(String::new());
    }
    let fits = text.len() <= PATH_BYTES_MAX;
    let mut segments = text.strip_prefix('/')?.split('/');
    (fits && segments.all(is_segment)).then(|| text.to_owned())
}

/// Whether clients leave `segment` as it is: it has only bytes that are never encoded (RFC 3986 §2.3), and is not one
/// that clients and proxies resolve away.
fn is_segment(segment: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(unreserved)
}

const PATH_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kinds::Kind as _;

    #[test]
    fn a_path_can_be_put_before_another() {
        assert_eq!(base_path().parse("/api/v1/sse").as_deref(), Some("/api/v1/sse"));
        assert_eq!(base_path().parse("/").as_deref(), Some(""));
        assert_eq!(base_path().print(&String::new()), "/");
        for text in ["", "api", "/api/", "//", "/a//b", "/a/../b", "/.", "/a b", "/a%20b", "/a?b", "/é"] {
            assert_eq!(base_path().parse(text), None, "{text:?}");
        }
    }
}
