//! The page to try things on: `GET /` in a browser. It listens, publishes and shows what arrives, with the same
//! requests as any other page.
//!
//! It is part of the program, loads nothing from elsewhere, and no other page may frame it. It contains nothing secret:
//! with authentication on, not even the version. Events are shown as text; the policy below would stop them from
//! running as anything else.

use bytes::Bytes;
use hyper::Response;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::TryPage;
use crate::http::api::welcome::accept::prefers_html;
use crate::http::conn::response_body::ResponseBody;
use crate::policy::Policy;

/// The page's other files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum File {
    /// The style sheet.
    Style,
    /// The script.
    Script,
    /// The icon of the browser's tab.
    Icon,
}

/// Path, type and text of each file. The style is that of the live page, with additions of this page.
const FILES: [(File, &str, &str, &str); 3] = [
    (
        File::Style,
        "/try/style.css",
        "text/css; charset=utf-8",
        concat!(include_str!("../../../../answer/look/style.css"), include_str!("style.css")),
    ),
    (File::Script, "/try/try.js", "text/javascript; charset=utf-8", include_str!("try.js")),
    (File::Icon, "/try/icon.svg", "image/svg+xml", include_str!("../../../../answer/look/icon.svg")),
];

const PAGE: &str = include_str!("index.html");

/// Headers of each of them, besides those of every answer.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

impl File {
    /// The file at `path`.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        FILES.iter().find(|(_, known, ..)| *known == path).map(|(file, ..)| *file)
    }

    /// The answer to a request for the file.
    #[must_use]
    pub fn response(self) -> Response<ResponseBody> {
        let (_, _, kind, text) = FILES.iter().find(|(file, ..)| *file == self).expect("each has a row");
        response(kind, Bytes::from_static(text.as_bytes()))
    }
}

/// Whether the page is served, by `setting` and the current state.
#[must_use]
pub fn is_served(setting: TryPage, policy: &Policy) -> bool {
    match setting {
        TryPage::Auto => policy.authority.is_none(),
        TryPage::On => true,
        TryPage::Off => false,
    }
}

/// Returns the page, if the client is a browser. `base` is the base path.
#[must_use]
pub fn page(base: &str, policy: &Policy, headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    prefers_html(headers).then(|| response("text/html; charset=utf-8", Bytes::from(text(base, policy))))
}

/// Fills in the page. A base path has only letters, digits and `._~-/`, so it needs no escape. It is put into the page
/// without its first slash: a prefix that a proxy removes is in the page's own address.
fn text(base: &str, policy: &Policy) -> String {
    let version = if policy.authority.is_none() { env!("CARGO_PKG_VERSION") } else { "" };
    let token = match &policy.authority {
        None => "none",
        Some(_) => "wanted",
    };
    PAGE.replace("{base}", base.trim_matches('/')).replace("{token}", token).replace("{version}", version)
}

fn response(kind: &'static str, bytes: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_small_and_loads_nothing_from_elsewhere() {
        let texts: Vec<&str> = FILES.iter().map(|(.., text)| *text).chain([PAGE]).collect();
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        assert!(bytes <= 40 << 10, "{bytes}");
        for text in texts {
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("//www") && !elsewhere.contains("http:"), "{text}");
        }
    }

    /// `innerHTML` and similar properties would turn others' events into HTML.
    #[test]
    fn the_script_makes_no_html_of_text() {
        let script = include_str!("try.js");
        for banned in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"] {
            assert!(!script.contains(banned), "{banned}");
        }
    }

    #[test]
    fn every_file_is_found_by_its_path_and_nothing_else_is() {
        for (file, path, ..) in FILES {
            assert_eq!(File::at(path), Some(file));
            assert!(PAGE.contains(&path[1..]), "{path} is part of the page");
        }
        for path in ["/try", "/try/", "/try/index.html", "/TRY/try.js", "/try/try.js/", "//try/try.js"] {
            assert_eq!(File::at(path), None, "{path}");
        }
    }
}
