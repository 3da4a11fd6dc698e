//! Finds the client of a request. Behind a proxy every connection comes from the proxy, which names the client in
//! `X-Forwarded-For`.
//!
//! Each proxy appends the address of its own peer to that list, so the right end of it is true as far as the hops are
//! trusted proxies: the client is the rightmost hop that is no trusted proxy. Anything left of it may be written by the
//! client and is never read.

use std::net::{IpAddr, SocketAddr};

use hyper::header::HeaderMap;

use crate::config::AddressRange;

/// The peer of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address; `None` for a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether its requests may name their client in a header. False if a proxy's header introduced the connection
    /// without a client: the headers are then written by the client.
    pub may_forward: bool,
}

impl Peer {
    /// The address of the client whose request came with `headers`.
    #[must_use]
    pub fn client(self, trusted: &[AddressRange], headers: &HeaderMap) -> Option<IpAddr> {
        if self.may_forward {
            address(trusted, self.address, headers)
        } else {
            self.address.map(|peer| peer.to_canonical())
        }
    }
}

/// The address of the client whose request came from `peer` (`None` on a Unix socket) with `headers`.
///
/// That is the peer's own unless it is `trusted`. A hop that is no address ends the search: the client is then its
/// neighbour on the right, which wrote it. The result has no IPv4 mapped into IPv6, so that a client has one address
/// only.
#[must_use]
pub fn address(trusted: &[AddressRange], peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let is_trusted = |address: Option<IpAddr>| trusted.iter().any(|proxy| proxy.covers(address));
    let mut client = peer.map(|peer| peer.to_canonical());
    // Later lines continue earlier ones (RFC 9110 §5.3).
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    while is_trusted(client) {
        let Some(hop) = hops.next().and_then(hop) else { break };
        client = Some(hop);
    }
    client
}

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// An address as proxies write it: with or without a port, and IPv6 with or without brackets.
fn hop(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok();
    let address = text.parse().ok().or_else(|| bare().map(IpAddr::V6));
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|addr| addr.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> Vec<AddressRange> {
        let net = |text: &str| AddressRange::Net(text.parse().expect("a network"));
        vec![AddressRange::Unix, net("10.0.0.0/8"), net("fd00::/8")]
    }

    fn headers(lines: &[impl AsRef<[u8]>]) -> HeaderMap {
        let value = |line: &[u8]| HeaderValue::from_bytes(line).expect("a header's value");
        lines.iter().map(|line| (X_FORWARDED_FOR.parse().expect("a name"), value(line.as_ref()))).collect()
    }

    /// The client as text; `-` for none.
    fn client(peer: &str, lines: &[&str]) -> String {
        let client = address(&trusted(), peer.parse().ok(), &headers(lines));
        client.map_or_else(|| "-".to_owned(), |client| client.to_string())
    }

    #[test]
    fn a_stranger_speaks_for_himself_only() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &[]), "192.0.2.1");
    }

    #[test]
    fn a_proxy_speaks_for_its_client() {
        for peer in ["10.0.0.1", "fd00::1", "-", "::ffff:10.0.0.1"] {
            assert_eq!(client(peer, &["198.51.100.7"]), "198.51.100.7", "{peer}");
        }
    }

    #[test]
    fn what_the_client_wrote_itself_does_not_count() {
        assert_eq!(client("10.0.0.1", &["8.8.8.8, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["10.0.0.9, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["8.8.8.8", "198.51.100.7 ,10.0.0.2"]), "198.51.100.7");
    }

    #[test]
    fn where_all_are_trusted_the_first_is_the_client() {
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("-", &[]), "-");
    }

    #[test]
    fn whoever_passes_nonsense_on_answers_for_it() {
        for nonsense in ["unknown", "", "unix:", "1.2.3", "[::1", "198.51.100.7 8.8.8.8", "1.2.3.4:99999"] {
            assert_eq!(client("10.0.0.1", &[nonsense]), "10.0.0.1", "{nonsense:?}");
            assert_eq!(client("10.0.0.1", &[&format!("8.8.8.8, {nonsense}, 10.0.0.2")]), "10.0.0.2");
        }
        let bytes = headers(&[b"8.8.8.8, \xff\xfe".as_slice()]);
        assert_eq!(address(&trusted(), "10.0.0.1".parse().ok(), &bytes), "10.0.0.1".parse().ok());
    }

    #[test]
    fn an_address_counts_however_it_is_written() {
        for text in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:4711", "2001:0DB8:0::7"] {
            assert_eq!(client("-", &[text]), "2001:db8::7", "{text}");
        }
        for text in ["198.51.100.7", "198.51.100.7:80", "::ffff:198.51.100.7", "[::ffff:c633:6407]:80"] {
            assert_eq!(client("-", &[text]), "198.51.100.7", "{text}");
        }
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        // Half of them are trusted.
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 3]>().prop_map(|[b, c, d]| IpAddr::from([10, b, c, d])),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(|mut bytes| {
                bytes[0] = 0xfd;
                IpAddr::from(bytes)
            }),
        ]
    }

    proptest! {
        /// Whatever a client writes in front, its address stays the one that the trusted proxies saw.
        #[test]
        fn nothing_a_client_sends_changes_its_address(
            forged in proptest::collection::vec("[ -~]{0,40}", 0..4),
            client in any_address(),
            proxies in proptest::collection::vec(any::<[u8; 3]>(), 1..4),
        ) {
            let client = client.to_canonical();
            prop_assume!(!trusted().iter().any(|proxy| proxy.covers(Some(client))));
            let proxies: Vec<_> = proxies.iter().map(|[b, c, d]| IpAddr::from([10, *b, *c, *d])).collect();
            let (peer, hops) = proxies.split_last().expect("at least one");
            let mut line = vec![client.to_string()];
            line.extend(hops.iter().map(ToString::to_string));
            let mut lines = forged.clone();
            lines.push(line.join(", "));
            prop_assert_eq!(address(&trusted(), Some(*peer), &headers(&lines)), Some(client));
            // The same if the proxy appends to the client's own line.
            let joined = lines.join(", ");
            prop_assert_eq!(address(&trusted(), Some(*peer), &headers(&[joined])), Some(client));
        }

        /// No bytes panic, and the answer is the peer, or an address that was sent and has only trusted ones after it.
        #[test]
        fn the_client_is_the_peer_or_was_named(
            lines in proptest::collection::vec(proptest::collection::vec(32_u8..127, 0..60), 0..4),
            peer in any_address(),
        ) {
            let found = address(&trusted(), Some(peer), &headers(&lines));
            let sent = lines.join(&b","[..]);
            let named = sent.split(|byte| *byte == b',').any(|text| hop(text) == found);
            prop_assert!(found == Some(peer.to_canonical()) || named);
        }
    }
}
