//! Promise: a page loads the JavaScript client from the server, without a credential. Browsers ask again before they use
//! a copy, or keep it for a year if the address has the version in it.

use crate::common;

use std::io::Read as _;

use common::conn::request;
use common::{BASE, TestServer, assert_problem};
use flate2::read::GzDecoder;

const CLIENT: &str = include_str!("../../clients/js/client.js");

#[test]
fn the_client_is_served_as_it_is() {
    let server =
        TestServer::with(|config| config.token_keys = vec![common::bearer::key(common::bearer::SECRET)]);
    let answer = server.get("/client.js");
    assert_eq!((answer.status(), &*answer.text()), (200, CLIENT));
    for (name, value) in [
        ("content-type", "text/javascript; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("vary", "accept-encoding"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let kept = server.get(&format!("/{}/client.js", env!("CARGO_PKG_VERSION")));
    assert_eq!(kept.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!((kept.text(), kept.header("etag")), (answer.text(), answer.header("etag")));
    assert_eq!(server.get("/client/parser.js").status(), 200);
    for unknown in ["/0.0.0/client.js", "/client/no.js", "/client", "/client.js/more"] {
        assert_problem(&server.get(unknown), 404, "not_found");
    }
    assert_problem(&server.post("/client.js", &[], ""), 405, "method_not_allowed");
}

#[test]
fn whoever_has_it_already_is_told_so() {
    let server = TestServer::start();
    let get = |headers: &[(&str, &str)]| {
        server.connect().round(&request("GET", &format!("{BASE}/client.js"), headers, b""))
    };
    let (plain, packed) = (get(&[]), get(&[("accept-encoding", "br, gzip")]));
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(&packed.body[..]).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, CLIENT);
    let [plain, packed] = [&plain, &packed].map(|answer| answer.header("etag").expect("a validator"));
    assert_ne!(plain, packed);
    for (etag, encoding, status) in [
        (plain, "identity", 304),
        (packed, "gzip", 304),
        (packed, "identity", 200),
        ("*", "identity", 304),
        (&*format!("\"other\", W/{plain}"), "identity", 304),
        ("\"other\"", "identity", 200),
    ] {
        let answer = get(&[("if-none-match", etag), ("accept-encoding", encoding)]);
        assert_eq!(answer.status(), status, "{etag} {encoding}");
        assert_eq!(answer.body.is_empty(), status == 304);
        assert!(answer.header("etag").is_some() && answer.header("cache-control").is_some());
    }
}
