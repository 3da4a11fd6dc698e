//! Lists of addresses: proxies that are trusted to name their clients, and clients that are let in or kept out.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::config::kinds::Plain;

/// Proxies a list may name. Each request is compared with each in turn.
pub const TRUSTED_PROXIES_MAX: usize = 32;

/// Entries of a list of clients. Each request is compared with each in turn, which takes a microsecond for all of them.
pub const ADDRESSES_MAX: usize = 256;

/// One entry of a list of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressRange {
    /// All peers on Unix sockets, which have no address: `unix`.
    Unix,
    /// An address, or all addresses of a network. IPv4 is never written as IPv6 here.
    Net(IpNet),
}

impl AddressRange {
    /// Whether the range contains `address`; `None` is a peer on a Unix socket.
    #[must_use]
    pub fn covers(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::Unix, None) => true,
            (Self::Net(net), Some(address)) => net.contains(&address),
            _ => false,
        }
    }
}

impl fmt::Display for AddressRange {
    /// As in the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("unix"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
        }
    }
}

/// `unix`, an address or a network.
pub(crate) fn address_range() -> Plain<AddressRange> {
    Plain {
        placeholder: "ADDRESS",
        wanted: |_| {
            "unix, an IP address such as 10.0.0.5, or a network by its first address such as 10.0.0.0/24"
                .to_owned()
        },
        parse: parse_range,
        print: AddressRange::to_string,
    }
}

fn parse_range(text: &str) -> Option<AddressRange> {
    if text == "unix" {
        return Some(AddressRange::Unix);
    }
    let net = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    // A network written by another of its addresses is a mistake, and the intended network cannot be guessed.
    (net == net.trunc()).then(|| AddressRange::Net(canonical(net)))
}

/// Turns IPv4 networks mapped into IPv6 back into IPv4: addresses of peers are converted in the same way.
fn canonical(net: IpNet) -> IpNet {
    let mapped = |net: ipnet::Ipv6Net| {
        let prefix = net.prefix_len().checked_sub(MAPPED_PREFIX_LEN)?;
        Ipv4Net::new(net.addr().to_ipv4_mapped()?, prefix).ok()
    };
    match net {
        IpNet::V6(net) => mapped(net).map_or(IpNet::V6(net), IpNet::V4),
        IpNet::V4(_) => net,
    }
}

/// Bits in front of an IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX_LEN: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kinds::Kind as _;

    #[test]
    fn ranges_read_back() {
        for text in ["unix", "127.0.0.1", "::1", "10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"] {
            assert_eq!(
                address_range().parse(text).map(|range| range.to_string()).as_deref(),
                Some(text),
                "{text}"
            );
        }
        let mapped = address_range().parse("::ffff:10.1.0.0/112");
        assert_eq!(mapped.map(|range| range.to_string()).as_deref(), Some("10.1.0.0/16"));
    }

    #[test]
    fn names_and_networks_by_their_middle_are_refused() {
        for text in
            ["", "*", "all", "localhost", "Unix", "10.0.0.5/8", "10.0.0.0/33", "10.0.0", "10.0.0.1:80"]
        {
            assert_eq!(address_range().parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_network_covers_its_addresses_and_no_sockets() {
        let covers = |text: &str, address: Option<&str>| {
            let range = address_range().parse(text).expect("a range");
            range.covers(address.map(|address| address.parse().expect("an address")))
        };
        assert!(covers("10.0.0.0/8", Some("10.255.0.1")) && covers("unix", None));
        assert!(!covers("10.0.0.0/8", Some("11.0.0.1")) && !covers("0.0.0.0/0", Some("::1")));
        assert!(!covers("0.0.0.0/0", None) && !covers("unix", Some("127.0.0.1")));
    }
}
