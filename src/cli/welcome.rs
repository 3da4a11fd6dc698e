//! The text that the program prints once it listens: where, which access is set up, and commands to try. The commands
//! work with the current settings, or the text says what is missing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{Config, Listen, ListenAddr, TryPage};

/// Returns the text for a server with these settings that `listens`, and whose admin listener, if it has one, is at
/// `admin`.
///
/// # Panics
///
/// If `listens` is empty.
#[must_use]
pub fn text(config: &Config, listens: &[Listen], admin: Option<&ListenAddr>) -> String {
    // The first listener without PROXY protocol, because commands send no such header.
    let first = listens.iter().find(|listen| !listen.proxied).unwrap_or(&listens[0]);
    let address = &first.address;
    let (mut curl, url) = match address {
        ListenAddr::Unix(unix) => {
            let curl = format!("curl --unix-socket {}", unix.path.display());
            (curl, format!("http://localhost{}", config.base_path))
        }
        ListenAddr::Tcp(addr) => ("curl".to_owned(), format!("http://{addr}{}", config.base_path)),
    };
    if first.proxied {
        curl += " --haproxy-protocol";
    }
    let metrics = admin.map_or("off".into(), |admin| format!("http://{admin}/metrics"));
    // Browsers cannot open Unix sockets.
    let page = match admin {
        Some(ListenAddr::Tcp(admin)) => format!("Live page: http://{admin}/dashboard\n"),
        _ => String::new(),
    };
    let Access { who, with, listen, publish, browser, query } = Access::of(config);
    let (terminals, publish) = match publish {
        Some(bearer) => {
            let data = "{\"room\":\"lobby\",\"data\":\"hello\"}";
            ("two terminals", format!("  {curl} {url}/publish{bearer} -d '{data}'\n"))
        }
        None => ("a terminal", String::new()),
    };
    let to_open = to_open(config, first);
    let try_it = match &to_open {
        Some(url) => format!("Try it in a browser: open {url}\nOr"),
        None => "Try it,".to_owned(),
    };
    let (console, origin) = match to_open {
        // No credential is needed.
        Some(_) if !config.authenticates() => ("In the console of that page", ""),
        _ => (&*browser, "A page of another origin needs that origin in cors_origins.\n"),
    };
    format!(
        "Tidegate {version} is listening on {address}, up to {connections} streams. Metrics: {metrics}\n{page}{who}\n\
         {try_it} in {terminals}{with}:\n\
         \x20 {curl} -N {url}/stream/lobby/me{listen}\n{publish}\n\
         {console}:  new EventSource(\"{url}/stream/lobby/me{query}).onmessage = e => console.log(e.data)\n{origin}",
        version = env!("CARGO_PKG_VERSION"),
        connections = config.max_connections,
    )
}

/// The address of the page to try things on, if it is served without credentials and a browser can reach it.
fn to_open(config: &Config, first: &Listen) -> Option<String> {
    let is_served = match config.try_page {
        TryPage::Auto => !config.authenticates(),
        TryPage::On => true,
        TryPage::Off => false,
    };
    match first.address {
        ListenAddr::Tcp(address) if is_served && !first.proxied => {
            Some(format!("http://{}/", from_here(address)))
        }
        _ => None,
    }
}

/// The address at which a browser on this machine reaches `address`: not every browser takes 0.0.0.0 for this machine.
fn from_here(address: SocketAddr) -> SocketAddr {
    let here: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(here, address.port())
}

/// The access that the settings allow, as text and as arguments.
struct Access {
    /// A line about access, where it may be a surprise.
    who: &'static str,
    with: &'static str,
    listen: &'static str,
    /// `None` if publishing is off.
    publish: Option<&'static str>,
    browser: String,
    /// What follows the path of a stream in a browser, with the closing quote.
    query: &'static str,
}

const BEARER: &str = " -H \"authorization: Bearer $token\"";

impl Access {
    fn of(config: &Config) -> Self {
        let open = Self {
            who: "",
            with: "",
            listen: "",
            publish: Some(""),
            browser: "In a browser".to_owned(),
            query: "\"",
        };
        if !config.authenticates() {
            let who = "No authentication is set up: every client that reaches this address may listen and \
                       publish.\n";
            return Self { who, ..open };
        }
        let (asks, has_keys) = (config.auth_callback.is_some(), config.api_keys_file.is_some());
        if config.has_token_keys() {
            let with = ", with a token or key in $token (`tidegate token --help`)";
            let listed = Self { with, listen: BEARER, publish: Some(BEARER), ..open };
            return match &config.token_cookie {
                Some(cookie) => {
                    Self { browser: format!("In a browser, with the token in its cookie {cookie}"), ..listed }
                }
                None if config.token_query => Self {
                    browser: "In a browser, with the token in a variable".to_owned(),
                    query: "?token=\" + token",
                    ..listed
                },
                None if asks => listed,
                None => Self {
                    browser: "In a browser, once token_cookie or token_query is set".to_owned(),
                    ..listed
                },
            };
        }
        let with = if has_keys { ", with an API key in $token (`tidegate key --help`)" } else { "" };
        if !asks {
            let browser = "In a browser, once token_keys, token_jwks or auth_callback is set".to_owned();
            return Self { with, listen: BEARER, publish: Some(BEARER), browser, ..open };
        }
        let who = if has_keys {
            "The application decides about streams (auth_callback).\n"
        } else {
            "The application decides about streams (auth_callback). Publishing is off: set api_keys_file or \
             token_keys.\n"
        };
        Self { who, with, publish: has_keys.then_some(BEARER), ..open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &str) -> String {
        let config = Config::from_toml("a.toml".as_ref(), settings, 4096).expect("settings");
        text(&config, &config.listen, config.admin_listen.as_ref())
    }

    const TOKENS: &str = "token_keys = [\"HS256:file:/a.key\"]\n";
    const CALLBACK: &str = "auth_callback = \"http://127.0.0.1:3000/\"\n";
    const KEYS: &str = "api_keys_file = \"/keys.toml\"\n";

    fn line<'a>(text: &'a str, part: &str) -> &'a str {
        text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part} in {text}"))
    }

    #[test]
    fn where_nothing_tells_who_asks_it_says_so() {
        let open = "every client that reaches this address may listen and publish";
        assert!(with("").contains(open));
        for settings in [TOKENS, CALLBACK, KEYS] {
            assert!(!with(settings).contains(open), "{settings}");
        }
    }

    #[test]
    fn what_nobody_can_show_is_not_asked_for() {
        let text = with(CALLBACK);
        assert!(line(&text, "auth_callback").contains("Publishing is off: set api_keys_file"), "{text}");
        assert!(
            !text.contains("tidegate token") && !text.contains("Bearer") && !text.contains("/publish"),
            "{text}"
        );
        assert!(line(&text, "Try it").contains("in a terminal:") && text.contains(" -N http://"), "{text}");
        let text = with(&[CALLBACK, KEYS].concat());
        assert!(!text.contains("Publishing is off") && text.contains("tidegate key --help"), "{text}");
        assert!(
            !line(&text, " -N ").contains("Bearer") && line(&text, "/publish").contains("Bearer"),
            "{text}"
        );
        let text = with(KEYS);
        assert!(
            line(&text, "EventSource").contains("once token_keys, token_jwks or auth_callback is set"),
            "{text}"
        );
    }

    #[test]
    fn a_browser_is_told_the_way_that_is_set_up() {
        for (more, told) in [
            ("", "In a browser, once token_cookie or token_query is set:  new EventSource("),
            (
                "token_cookie = \"__Host-token\"",
                "with the token in its cookie __Host-token:  new EventSource(",
            ),
            ("token_query = \"on\"", "/stream/lobby/me?token=\" + token).onmessage"),
            (CALLBACK, "In a browser:  new EventSource("),
        ] {
            let text = with(&[TOKENS, more].concat());
            assert!(line(&text, "EventSource").contains(told), "{text}");
            assert!(line(&text, "two terminals").contains("tidegate token --help"), "{text}");
        }
    }

    /// The line for browsers used to work in one console only, and the text did not say which.
    #[test]
    fn the_first_try_in_a_browser_is_a_page_to_open() {
        for (settings, url) in [
            ("", "http://127.0.0.1:8080/"),
            ("listen = [\"0.0.0.0:1\"]\ninsecure = true", "http://127.0.0.1:1/"),
            ("listen = [\"[::]:1\"]\ninsecure = true", "http://[::1]:1/"),
            ("listen = [\"192.0.2.1:1\"]\ninsecure = true", "http://192.0.2.1:1/"),
            (&[TOKENS, "try_page = \"on\""].concat(), "http://127.0.0.1:8080/"),
        ] {
            let text = with(settings);
            assert!(
                text.contains(&format!("\nTry it in a browser: open {url}\nOr in two terminals")),
                "{text}"
            );
        }
    }

    /// The line for the console works as printed, or the text says what is missing.
    #[test]
    fn the_console_of_the_page_takes_what_it_is_told() {
        assert!(with("").ends_with("/stream/lobby/me\").onmessage = e => console.log(e.data)\n"));
        assert!(line(&with(""), "EventSource").starts_with("In the console of that page:  new EventSource("));
        let strangers = with(&[TOKENS, "try_page = \"on\""].concat());
        assert!(
            line(&strangers, "EventSource").contains("once token_cookie or token_query is set"),
            "{strangers}"
        );
    }

    #[test]
    fn where_there_is_no_page_it_says_which_pages_can_listen() {
        for settings in [
            TOKENS,
            "try_page = \"off\"",
            "listen = [\"unix:/run/a.sock\"]",
            "listen = [\"proxy:127.0.0.1:1\"]\ntrusted_proxies = [\"10.0.0.1\"]",
        ] {
            let text = with(settings);
            assert!(
                !text.contains("open http") && line(&text, "two terminals").starts_with("Try it,"),
                "{text}"
            );
            assert!(
                text.ends_with("\nA page of another origin needs that origin in cors_origins.\n"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_people_type_goes_where_they_can_reach_it() {
        let unix = with(
            "listen = [\"proxy:127.0.0.1:1\", \"unix:/run/a.sock;mode=0600\"]\ntrusted_proxies = [\"10.0.0.1\"]",
        );
        assert!(
            line(&unix, " -N ").starts_with("  curl --unix-socket /run/a.sock -N http://localhost/"),
            "{unix}"
        );
        let proxied = with(
            "listen = [\"proxy:127.0.0.1:1\"]\ntrusted_proxies = [\"10.0.0.1\"]\nadmin_listen = \"off\"",
        );
        assert!(
            line(&proxied, " -N ").starts_with("  curl --haproxy-protocol -N http://127.0.0.1:1/"),
            "{proxied}"
        );
        assert!(proxied.contains("Metrics: off\n") && !proxied.contains("Live page"), "{proxied}");
    }
}
