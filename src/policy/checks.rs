//! Checks of requests before authentication: the client's address, required headers, the program, and the host name
//! that the request uses. All are off by default, except one.
//!
//! That one is against DNS rebinding. A page's own host name may resolve to this server. The browser then takes page
//! and server for one origin: `Origin` and `Host` agree, and the page reads every answer. While no authentication is
//! set up, a server on loopback would be open to every page its user visits. So a browser on loopback has to use an
//! address, `localhost` or a name in `allowed_hosts`: a page cannot own the first two.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Uri;
use hyper::header::{ACCEPT_LANGUAGE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER, USER_AGENT};

use crate::answer::problem::{Code, Problem};
use crate::config::{AddressRange, Config, DeniedUserAgent, HostPattern, RequiredHeader};

/// The checks that the settings ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checks {
    allowed: Vec<AddressRange>,
    denied: Vec<AddressRange>,
    required: Vec<RequiredHeader>,
    agents: Vec<DeniedUserAgent>,
    hosts: Vec<HostPattern>,
    /// Trusted proxies. Their connections are not a browser's own, whatever passes through them.
    proxies: Vec<AddressRange>,
    /// Whether no authentication is set up.
    open: bool,
}

impl Checks {
    /// The checks that `config` sets up.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            allowed: config.allowed_addresses.clone(),
            denied: config.denied_addresses.clone(),
            required: config.required_headers.clone(),
            agents: config.denied_user_agents.clone(),
            hosts: config.allowed_hosts.clone(),
            proxies: config.trusted_proxies.clone(),
            open: !config.authenticates(),
        }
    }

    /// Checks a request that came over a connection from `peer` on behalf of `client`; `None` is a Unix socket.
    ///
    /// # Errors
    ///
    /// [`Code::AddressForbidden`], [`Code::HeaderRequired`], [`Code::UserAgentForbidden`] or [`Code::HostForbidden`], in
    /// this order.
    pub fn check(
        &self,
        peer: Option<IpAddr>,
        client: Option<IpAddr>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        let is_let_in = self.allowed.is_empty() || covers(&self.allowed, client);
        if !is_let_in || covers(&self.denied, client) {
            return Err(Code::AddressForbidden.into());
        }
        if !self.required.iter().all(|required| brings(headers, required)) {
            return Err(Code::HeaderRequired.into());
        }
        if self.agents.iter().any(|agent| is_agent(headers, agent)) {
            return Err(Code::UserAgentForbidden.into());
        }
        if !self.hosts.is_empty() && !asks_for(uri, headers, |host| self.is_own(host)) {
            return Err(Code::HostForbidden.into());
        }
        // Requests of proxies are for the proxy to check.
        if self.open && !covers(&self.proxies, peer) { self.check_page(peer, uri, headers) } else { Ok(()) }
    }

    /// Checks that a request is not from a page whose host name was made to resolve to this server. For what needs no
    /// credential, on a connection that is the client's own.
    ///
    /// # Errors
    ///
    /// [`Code::HostForbidden`].
    pub fn check_page(&self, peer: Option<IpAddr>, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let is_loopback = peer.is_some_and(|peer| peer.to_canonical().is_loopback());
        let may_be = is_loopback && is_from_browser(headers);
        if may_be && !asks_for(uri, headers, |host| is_never_a_page(host) || self.is_own(host)) {
            return Err(Code::HostForbidden.into());
        }
        Ok(())
    }

    fn is_own(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| pattern.covers(host))
    }
}

fn covers(ranges: &[AddressRange], address: Option<IpAddr>) -> bool {
    ranges.iter().any(|range| range.covers(address))
}

/// Whether a request has a required header. If the header is repeated, each value has to be right: one may be the
/// client's own, before or after the proxy's.
fn brings(headers: &HeaderMap, required: &RequiredHeader) -> bool {
    let mut values = headers.get_all(&required.name).iter().peekable();
    let is_there = values.peek().is_some();
    let wrong = |value: &[u8]| required.value.as_ref().is_some_and(|wanted| !wanted.is(value));
    is_there && !values.any(|value| wrong(value.as_bytes()))
}

fn is_agent(headers: &HeaderMap, denied: &DeniedUserAgent) -> bool {
    let mut agents = headers.get_all(USER_AGENT).iter().map(HeaderValue::as_bytes);
    match denied {
        DeniedUserAgent::Absent => agents.all(<[u8]>::is_empty),
        DeniedUserAgent::Containing(text) => agents.any(|agent| {
            let window = |window: &[u8]| window.eq_ignore_ascii_case(text.as_bytes());
            agent.windows(text.len()).any(window)
        }),
    }
}

/// Whether a request has headers that only browsers send. `Origin` and `Sec-Fetch-Site` are missing in some requests of
/// pages, mostly over plain HTTP; `Accept-Language` never is, and pages cannot remove it.
fn is_from_browser(headers: &HeaderMap) -> bool {
    [ORIGIN, SEC_FETCH_SITE, ACCEPT_LANGUAGE, REFERER].iter().any(|name| headers.contains_key(name))
}

/// The browser's statement about the origin of a request (W3C Fetch Metadata §2.3).
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether `host` is an address, or a name for this machine (RFC 6761 §6.3): a page cannot own it.
fn is_never_a_page(host: &str) -> bool {
    let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
    is_address || host == "localhost" || host.ends_with(".localhost")
}

/// Whether a request names at least one host, in its target or in `Host`, and all are `right`.
fn asks_for(uri: &Uri, headers: &HeaderMap, right: impl Fn(&str) -> bool) -> bool {
    let by_target = uri.host().into_iter().map(bare);
    let by_header = headers.get_all(HOST).iter().map(|host| bare(host.to_str().ok()?));
    let mut names = by_target.chain(by_header).peekable();
    names.peek().is_some() && names.all(|name| name.is_some_and(|name| right(&name)))
}

/// `host` in lower case, without its port or the dot that may end a name; IPv6 in its shortest form.
fn bare(host: &str) -> Option<String> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, _) = rest.split_once(']')?;
        return Some(format!("[{}]", address.parse::<Ipv6Addr>().ok()?));
    }
    let (name, _) = host.split_once(':').unwrap_or((host, ""));
    Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    const LOOPBACK: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

    /// Headers: names and values.
    type Lines<'a> = &'a [(&'static str, &'a str)];

    fn checks(change: impl FnOnce(&mut Config)) -> Checks {
        let mut config = Config::default_for(1024);
        change(&mut config);
        Checks::new(&config)
    }

    fn headers(lines: Lines) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    fn net(text: &str) -> AddressRange {
        AddressRange::Net(text.parse().expect("a network"))
    }

    /// The code of the refusal, if the request is refused.
    fn found(checks: &Checks, client: Option<IpAddr>, lines: Lines) -> Option<&'static str> {
        let checked = checks.check(address("192.0.2.1"), client, &Uri::from_static("/"), &headers(lines));
        checked.err().map(|problem| problem.code.as_str())
    }

    #[test]
    fn nothing_is_checked_by_default() {
        let checks = checks(|_| {});
        for client in [None, address("198.51.100.7"), LOOPBACK] {
            assert_eq!(found(&checks, client, &[("host", "any.example"), ("origin", "null")]), None);
        }
    }

    #[test]
    fn addresses_are_let_in_and_kept_out() {
        let table = [
            ("", "", "198.51.100.7", true),
            ("", "", "-", true),
            ("198.51.100.0/24", "", "198.51.100.7", true),
            ("198.51.100.0/24", "", "198.51.101.7", false),
            ("198.51.100.0/24", "", "2001:db8::7", false),
            ("198.51.100.0/24", "", "-", false),
            ("198.51.100.0/24,unix", "", "-", true),
            ("", "198.51.100.0/24", "198.51.100.7", false),
            ("", "198.51.100.0/24", "198.51.101.7", true),
            ("", "198.51.100.0/24", "-", true),
            ("", "unix", "-", false),
            ("198.51.100.0/24", "198.51.100.7/32", "198.51.100.7", false),
            ("198.51.100.0/24", "198.51.100.7/32", "198.51.100.8", true),
            ("2001:db8::/32", "", "2001:db8::7", true),
        ];
        let list = |text: &str| -> Vec<AddressRange> {
            let entries = text.split(',').filter(|entry| !entry.is_empty());
            entries.map(|entry| if entry == "unix" { AddressRange::Unix } else { net(entry) }).collect()
        };
        for (allowed, denied, client, passes) in table {
            let checks = checks(|config| {
                config.allowed_addresses = list(allowed);
                config.denied_addresses = list(denied);
            });
            let wanted = (!passes).then_some("address_forbidden");
            assert_eq!(found(&checks, address(client), &[]), wanted, "{allowed:?} {denied:?} {client}");
        }
    }

    #[test]
    fn required_headers_are_there_and_right_each_time() {
        let required = |name: &str, value: Option<&str>| RequiredHeader {
            name: name.parse().expect("a name"),
            value: value.map(Secret::new),
        };
        let checks = checks(|config| {
            config.required_headers = vec![required("x-key", Some("s3cret")), required("x-any", None)];
        });
        let table: [(Lines, bool); 9] = [
            (&[("x-key", "s3cret"), ("x-any", "")], true),
            (&[("x-any", "a"), ("x-any", "b"), ("x-key", "s3cret")], true),
            (&[("x-key", "s3cret"), ("x-key", "s3cret"), ("x-any", "")], true),
            (&[("x-key", "s3cret")], false),
            (&[("x-any", "")], false),
            (&[("x-key", "S3cret"), ("x-any", "")], false),
            (&[("x-key", ""), ("x-any", "")], false),
            (&[("x-key", "guess"), ("x-key", "s3cret"), ("x-any", "")], false),
            (&[("x-key", "s3cret"), ("x-key", "guess"), ("x-any", "")], false),
        ];
        for (lines, passes) in table {
            let wanted = (!passes).then_some("header_required");
            assert_eq!(found(&checks, None, lines), wanted, "{lines:?}");
        }
    }

    #[test]
    fn programs_are_known_by_what_they_say() {
        let checks = |absent: bool| {
            let mut agents = vec![DeniedUserAgent::Containing("curl/".to_owned())];
            agents.extend(absent.then_some(DeniedUserAgent::Absent));
            checks(|config| config.denied_user_agents = agents)
        };
        let table: [(Lines, bool, bool); 6] = [
            (&[("user-agent", "Mozilla/5.0")], true, true),
            (&[("user-agent", "x cURL/8.1")], false, false),
            (&[("user-agent", "Mozilla/5.0"), ("user-agent", "curl/8")], false, false),
            (&[("user-agent", "cur")], true, true),
            (&[("user-agent", "")], true, false),
            (&[], true, false),
        ];
        for (lines, without, with) in table {
            for (absent, passes) in [(false, without), (true, with)] {
                let wanted = (!passes).then_some("user_agent_forbidden");
                assert_eq!(found(&checks(absent), None, lines), wanted, "{lines:?} {absent}");
            }
        }
    }

    #[test]
    fn only_its_own_names_are_asked_for() {
        let hosts = ["push.example", "*.push.example", "10.0.0.5", "[::1]"];
        let patterns = hosts.map(|host| match host.strip_prefix('*') {
            Some(suffix) => HostPattern::Below(suffix.to_owned()),
            None => HostPattern::Exact(host.to_owned()),
        });
        let checks = checks(|config| config.allowed_hosts = patterns.to_vec());
        for (host, passes) in [
            ("push.example", true),
            ("PUSH.example:8080", true),
            ("push.example.", true),
            ("push.example.:80", true),
            ("a.b.push.example", true),
            ("10.0.0.5:80", true),
            ("[0:0::1]:80", true),
            ("evil.example", false),
            ("push.example.evil.example", false),
            ("evilpush.example", false),
            ("push.example..", false),
            ("127.0.0.1", false),
            ("localhost", false),
            ("[::2]", false),
        ] {
            let wanted = (!passes).then_some("host_forbidden");
            assert_eq!(found(&checks, None, &[("host", host)]), wanted, "{host}");
            let target = format!("http://{host}/").parse::<Uri>().expect("a target");
            let by_target = checks.check(None, None, &target, &headers(&[("host", "push.example")]));
            assert_eq!(by_target.is_ok(), passes, "{host}");
        }
        // HTTP/1.0 may leave out `Host`; then no name matches.
        assert_eq!(found(&checks, None, &[]), Some("host_forbidden"));
    }

    #[test]
    fn a_page_cannot_make_its_name_stand_for_a_server_on_loopback() {
        let plain = checks(|_| {});
        let behind_proxy = checks(|config| config.trusted_proxies = vec![net("127.0.0.0/8")]);
        let named = checks(|config| config.allowed_hosts = vec![HostPattern::Exact("evil.example".into())]);
        let browser: [(&'static str, &str); 4] = [
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "same-origin"),
            ("accept-language", "en"),
            ("referer", "http://evil.example/"),
        ];
        let passes = |checks: &Checks, peer: Option<IpAddr>, lines: Lines| {
            checks.check(peer, peer, &Uri::from_static("/"), &headers(lines)).is_ok()
        };
        for sign in browser {
            let from = [sign, ("host", "evil.example:8080")];
            for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
                assert!(!passes(&plain, address(peer), &from), "{peer} {sign:?}");
            }
            // Not on loopback, not a browser's own connection, or a name that is allowed.
            assert!(passes(&plain, address("192.0.2.1"), &from) && passes(&plain, None, &from));
            assert!(passes(&behind_proxy, LOOPBACK, &from) && passes(&named, LOOPBACK, &from));
            for host in
                ["127.0.0.1:8080", "localhost", "LOCALHOST:8080", "app.localhost", "localhost.", "[::1]:8080"]
            {
                assert!(passes(&plain, LOOPBACK, &[sign, ("host", host)]), "{host}");
            }
            for host in
                ["notlocalhost", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io"]
            {
                assert!(!passes(&plain, LOOPBACK, &[sign, ("host", host)]), "{host}");
            }
            assert!(!passes(&plain, LOOPBACK, &[sign]), "browsers always send a host");
        }
        // What never needs a credential is always checked.
        let uri = Uri::from_static("/");
        let evil = headers(&[("host", "evil.example"), ("accept-language", "en")]);
        assert!(
            plain.check_page(LOOPBACK, &uri, &evil).is_err()
                && named.check_page(LOOPBACK, &uri, &evil).is_ok()
        );
        // A trusted proxy does not help.
        assert!(behind_proxy.check_page(LOOPBACK, &uri, &evil).is_err());
        let elsewhere = headers(&[("host", "localhost"), ("accept-language", "en")]);
        assert!(
            named.check_page(LOOPBACK, &uri, &elsewhere).is_ok(),
            "the list adds to the names allowed there"
        );
        // Programs may use any name.
        assert!(passes(&plain, LOOPBACK, &[("host", "push.example"), ("user-agent", "curl/8")]));
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_told() {
        let checks = checks(|config| {
            config.denied_addresses = vec![AddressRange::Unix];
            config.required_headers = vec![RequiredHeader { name: HOST, value: None }];
            config.denied_user_agents = vec![DeniedUserAgent::Absent];
            config.allowed_hosts = vec![HostPattern::Exact("push.example".into())];
        });
        let other = ("host", "x");
        assert_eq!(found(&checks, None, &[]), Some("address_forbidden"));
        assert_eq!(found(&checks, LOOPBACK, &[]), Some("header_required"));
        assert_eq!(found(&checks, LOOPBACK, &[other]), Some("user_agent_forbidden"));
        assert_eq!(found(&checks, LOOPBACK, &[other, ("user-agent", "a")]), Some("host_forbidden"));
        assert_eq!(found(&checks, LOOPBACK, &[("host", "push.example"), ("user-agent", "a")]), None);
    }
}
