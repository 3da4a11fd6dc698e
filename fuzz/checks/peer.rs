//! Where a connection comes from, as proxies in front tell it.

use std::net::IpAddr;
use std::sync::LazyLock;

use hyper::header::{HeaderMap, HeaderValue};
use tidegate::config::AddressRange;
use tidegate::http::conn::proxy_header::{self, HEADER_BYTES_MAX, NotAHeader, Parsed};
use tidegate::http::gate::client;

use super::settings::read_settings;

/// A header in front of a connection is found with its last byte and no earlier, within its bound; bytes that are no
/// header stay so, whatever follows; and an address that is found occurs in the header.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let Some(end) = (0..=bytes.len()).find(|end| proxy_header::parse(&bytes[..*end]) != Ok(Parsed::Partial))
    else {
        assert!(bytes.len() < HEADER_BYTES_MAX, "nobody is waited for so long");
        return;
    };
    let found = proxy_header::parse(&bytes[..end]);
    assert_eq!(proxy_header::parse(bytes), found);
    let Ok(Parsed::Complete { length, client }) = found else {
        assert_eq!(found, Err(NotAHeader));
        return;
    };
    assert_eq!(length, end);
    assert!(length <= HEADER_BYTES_MAX);
    let Some(client) = client else { return };
    let header = &bytes[..end];
    let binary = match client {
        IpAddr::V4(client) => header.windows(4).any(|window| window == client.octets()),
        IpAddr::V6(client) => header.windows(16).any(|window| window == client.octets()),
    };
    let text = String::from_utf8_lossy(header);
    let written = text.split(' ').nth(2).and_then(|word| word.parse::<IpAddr>().ok());
    assert!(binary || written.is_some_and(|written| written.to_canonical() == client), "{client}: {text:?}");
}

/// The client is the peer, or was named by a trusted proxy; it is no trusted proxy itself unless all addresses are, or
/// one is malformed. Neither headers from the client nor the way the list is cut into lines changes the client.
pub(crate) fn forwarded(peer: Option<IpAddr>, lines: &[&[u8]]) {
    let find = |lines: &[&[u8]]| -> Option<Option<IpAddr>> {
        let value =
            |line: &&[u8]| Some(("x-forwarded-for".parse().ok()?, HeaderValue::from_bytes(line).ok()?));
        Some(client::address(&TRUSTED, peer, &lines.iter().map(value).collect::<Option<HeaderMap>>()?))
    };
    let is_trusted = |address| TRUSTED.iter().any(|proxy| proxy.covers(address));
    let peer = peer.map(|peer| peer.to_canonical());
    let Some(found) = find(lines) else {
        return; // Not valid in a header.
    };
    assert_eq!(found, found.map(|found| found.to_canonical()));
    assert!(found == peer || is_trusted(peer), "a stranger spoke for somebody else");
    assert_eq!(find(&[&lines.join(&b","[..])]), Some(found));
    if !is_trusted(found) {
        for forged in [&b"8.8.8.8"[..], b"10.0.0.1", b"unknown", b"", b", ,"] {
            assert_eq!(find(&[&[forged], lines].concat()), Some(found));
            assert_eq!(find(&[&[forged, &lines.join(&b","[..])].join(&b","[..])]), Some(found));
        }
    }
}

/// The proxies that these checks trust.
static TRUSTED: LazyLock<Vec<AddressRange>> = LazyLock::new(|| {
    let text = "trusted_proxies = ['unix', '10.0.0.0/8', 'fd00::/8']";
    read_settings(text).expect("these settings are right").trusted_proxies
});
