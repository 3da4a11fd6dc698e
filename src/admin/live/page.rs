//! The page's own files. They are part of the program, load nothing from elsewhere, and no other page may frame them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::http::api::client::{self, Module};

/// Path, type and text of each file.
const FILES: [(&str, &str, &str); 4] = [
    ("/dashboard", "text/html; charset=utf-8", include_str!("index.html")),
    ("/dashboard/style.css", "text/css; charset=utf-8", include_str!("../../answer/look/style.css")),
    ("/dashboard/dashboard.js", "text/javascript; charset=utf-8", include_str!("dashboard.js")),
    ("/dashboard/icon.svg", "image/svg+xml", include_str!("../../answer/look/icon.svg")),
];

/// Headers of each file. The page shows names of rooms, which users chose: only its own script runs, whatever a name
/// contains. Browsers keep a connection open after a page, so each answer closes it: the admin listener has few places.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONNECTION, "close"),
];

/// What the page begins with about rooms with rules.
const RULES_HIDDEN: &str = r#"<section id="rules" aria-label="Rooms with rules" hidden>"#;

/// The same, once there is something to say about them.
const RULES_SHOWN: &str = r#"<section id="rules" aria-label="Rooms with rules">"#;

/// Type and text of the file at `path`, or of that module of the JavaScript client, with which the page listens.
fn known(path: &str) -> Option<(&'static str, &'static str)> {
    let file = FILES.iter().find(|(known, ..)| *known == path).map(|(_, kind, text)| (*kind, *text));
    let module = || {
        let below: Vec<&str> = path.strip_prefix("/dashboard/")?.split('/').collect();
        let (module, has_version) = Module::at(&below)?;
        (!has_version).then(|| (client::TYPE, module.text()))
    };
    file.or_else(module)
}

/// Returns the file at `path`, if there is one. With `shows_rules` the page has a place for rooms with rules from the
/// start, so that nothing moves when the first sample comes.
#[must_use]
pub fn file(path: &str, shows_rules: bool) -> Option<Response<Full<Bytes>>> {
    let (kind, text) = known(path)?;
    let body = if shows_rules {
        Bytes::from(text.replace(RULES_HIDDEN, RULES_SHOWN))
    } else {
        Bytes::from_static(text.as_bytes())
    };
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// Whether the page has a file at `path`.
#[must_use]
pub fn is_file(path: &str) -> bool {
    known(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_small_and_loads_nothing_from_elsewhere() {
        let bytes: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(bytes <= 36 << 10, "{bytes}");
        for (path, _, text) in FILES {
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("//www") && !elsewhere.contains("http"), "{path}");
        }
    }

    #[test]
    fn the_page_has_one_place_for_rooms_with_rules() {
        let (_, _, page) = FILES[0];
        assert_eq!((page.matches(RULES_HIDDEN).count(), page.matches(RULES_SHOWN).count()), (1, 0));
    }
}
