//! The JavaScript client: the modules of `clients/js`, served as they are.
//!
//! They are public, so a page needs no credential to load them. Two addresses have the same bytes:
//!
//! | address | caching |
//! |---|---|
//! | `{base}/client.js`, `{base}/client/…` | asked about each time, answered 304 while unchanged |
//! | `{base}/VERSION/client.js`, `{base}/VERSION/client/…` | kept for a year (RFC 8246); another version is not found |
//!
//! Modules import each other by relative paths, so all of a page's modules come from one of the two.

use std::io::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::http::api::json::set;
use crate::http::api::stream::negotiate::{self, accepts_gzip};
use crate::http::conn::response_body::ResponseBody;

/// The version in the longer addresses.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The type of the modules.
pub const TYPE: &str = "text/javascript; charset=utf-8";

/// Paths and texts of the modules that a browser loads. Those for React and Vue need a bundler, which has them from the
/// package.
const MODULES: &[(&str, &str)] = &[
    ("client.js", include_str!("../../../clients/js/client.js")),
    ("client/ai.js", include_str!("../../../clients/js/client/ai.js")),
    ("client/cursor.js", include_str!("../../../clients/js/client/cursor.js")),
    ("client/frames.js", include_str!("../../../clients/js/client/frames.js")),
    ("client/listeners.js", include_str!("../../../clients/js/client/listeners.js")),
    ("client/parser.js", include_str!("../../../clients/js/client/parser.js")),
    ("client/poll.js", include_str!("../../../clients/js/client/poll.js")),
    ("client/presence.js", include_str!("../../../clients/js/client/presence.js")),
    ("client/publish.js", include_str!("../../../clients/js/client/publish.js")),
    ("client/request.js", include_str!("../../../clients/js/client/request.js")),
    ("client/stream.js", include_str!("../../../clients/js/client/stream.js")),
    ("client/tabs.js", include_str!("../../../clients/js/client/tabs.js")),
    ("client/timing.js", include_str!("../../../clients/js/client/timing.js")),
];

/// A module, by its index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Module(usize);

/// What a module is sent as. Made when the first module is asked for.
static SENT: LazyLock<Vec<Sent>> =
    LazyLock::new(|| MODULES.iter().map(|(_, text)| Sent::new(text)).collect());

struct Sent {
    plain: Representation,
    gzip: Representation,
}

struct Representation {
    bytes: Bytes,
    /// A strong validator (RFC 9110 §8.8.3), in quotes.
    etag: HeaderValue,
}

impl Sent {
    fn new(text: &'static str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes()).expect("memory takes all");
        let gzip = encoder.finish().expect("memory takes all");
        Self {
            plain: Representation::new(Bytes::from_static(text.as_bytes())),
            gzip: Representation::new(gzip.into()),
        }
    }
}

impl Representation {
    fn new(bytes: Bytes) -> Self {
        let hash = digest(&SHA256, &bytes);
        let text = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..9]);
        let etag = HeaderValue::try_from(format!("\"{text}\"")).expect("letters, digits, - and _");
        Self { bytes, etag }
    }

    /// Whether the client has it already (RFC 9110 §13.1.2).
    fn is_had(&self, headers: &HeaderMap) -> bool {
        let etag = self.etag.to_str().expect("letters, digits, - and _");
        // A proxy that compresses makes validators weak.
        let is_it = |item: &str| item == "*" || item.trim_start_matches("W/") == etag;
        negotiate::list(headers, header::IF_NONE_MATCH).any(is_it)
    }
}

impl Module {
    /// The module at `segments` below the base path, and whether the path has the version in it.
    #[must_use]
    pub fn at(segments: &[&str]) -> Option<(Self, bool)> {
        let (segments, has_version) = match segments {
            [VERSION, rest @ ..] => (rest, true),
            all => (all, false),
        };
        let is_it = |(path, _): &(&str, &str)| path.split('/').eq(segments.iter().copied());
        MODULES.iter().position(is_it).map(|index| (Self(index), has_version))
    }

    /// Its text.
    #[must_use]
    pub fn text(self) -> &'static str {
        MODULES[self.0].1
    }

    /// The answer to a request with these `headers` for the module.
    #[must_use]
    pub fn response(self, has_version: bool, headers: &HeaderMap) -> Response<ResponseBody> {
        let sent = &SENT[self.0];
        let is_gzip = accepts_gzip(headers);
        let representation = if is_gzip { &sent.gzip } else { &sent.plain };
        let mut response = Response::new(ResponseBody::EMPTY);
        response.headers_mut().insert(header::ETAG, representation.etag.clone());
        set(&mut response, header::VARY, "accept-encoding");
        let kept = if has_version { "public, max-age=31536000, immutable" } else { "no-cache" };
        set(&mut response, header::CACHE_CONTROL, kept);
        if representation.is_had(headers) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        set(&mut response, header::CONTENT_TYPE, TYPE);
        if is_gzip {
            set(&mut response, header::CONTENT_ENCODING, "gzip");
        }
        *response.body_mut() = representation.bytes.clone().into();
        response
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_module_is_found_with_and_without_the_version() {
        let (client, tabs) = (Module::at(&["client.js"]), Module::at(&["client", "tabs.js"]));
        assert_eq!((client, tabs.is_some()), (Some((Module(0), false)), true));
        assert_eq!(Module::at(&[VERSION, "client.js"]), Some((Module(0), true)));
        for unknown in [
            &["0.0.0", "client.js"][..],
            &[VERSION, VERSION, "client.js"],
            &[VERSION],
            &["client"],
            &["client", "client.js"],
            &["client", ""],
            &["client/tabs.js"],
            &[],
        ] {
            assert_eq!(Module::at(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn every_module_of_a_browser_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/js/client");
        for file in folder.read_dir().expect("a folder") {
            let name = file.expect("a file").file_name().into_string().expect("text");
            let needs_bundler = ["react.js", "vue.js"].contains(&&*name);
            assert_eq!(Module::at(&["client", &name]).is_some(), !needs_bundler, "{name}");
        }
    }

    /// A module that is not served would be an error in the browser, on a path that few take.
    #[test]
    fn every_module_that_is_imported_is_served() {
        for (path, text) in MODULES {
            let folder = Path::new(path).parent().expect("a file");
            for import in text.split("\"./").skip(1).filter_map(|rest| rest.split('"').next()) {
                let target = folder.join(import).to_string_lossy().into_owned();
                assert!(MODULES.iter().any(|(path, _)| *path == target), "{path} imports {target}");
            }
        }
    }

    #[test]
    fn each_representation_has_a_validator_of_its_own() {
        let mut etags: Vec<_> = SENT.iter().flat_map(|sent| [&sent.plain.etag, &sent.gzip.etag]).collect();
        etags.sort_by_key(|etag| etag.as_bytes());
        etags.dedup();
        assert_eq!(etags.len(), 2 * MODULES.len());
    }
}
