//! Kinds of the settings about other servers: their URLs.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::config::kinds::secret::MASK;
use crate::config::kinds::{Masked, Plain};

/// The URL of another server: `http` or `https`, without user name, password or fragment. Its query may be secret, so
/// it is sent and never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct UpstreamUrl(Url);

impl UpstreamUrl {
    /// Parses a URL. `None` if it has another scheme, a user name, a password or a fragment, or is too long.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX)?;
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        (is_http && is_plain).then_some(Self(url))
    }

    /// The URL for the HTTP client.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Whether the answer cannot be changed on the way: the URL is `https`, or on this machine.
    #[must_use]
    pub fn is_trustworthy(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        self.0.scheme() == "https"
            || host == "localhost"
            || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

impl fmt::Display for UpstreamUrl {
    /// With its query masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(self.0.as_str()))
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Masks user name, password, query and fragment in `text`, which may not be a valid URL.
fn masked(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + "://".len()));
    let (user, rest) = rest.split_at(rest.rfind('@').unwrap_or_default());
    let shown = rest.split_inclusive(['?', '#']).next().unwrap_or_default();
    let mask = |text: &str| if text.is_empty() { "" } else { MASK };
    format!("{scheme}{}{shown}{}", mask(user), mask(&rest[shown.len()..]))
}

/// An [`UpstreamUrl`].
pub(crate) fn upstream_url() -> Masked<UpstreamUrl> {
    Masked {
        plain: Plain {
            placeholder: "URL",
            wanted: |example| {
                format!(
                    "an http or https URL of at most {URL_BYTES_MAX} bytes without user name, password or fragment, such as {example}"
                )
            },
            parse: UpstreamUrl::parse,
            print: |url| url.as_url().as_str().to_owned(),
        },
        shown: UpstreamUrl::to_string,
        mask: masked,
    }
}

const URL_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kinds::Kind as _;

    #[test]
    fn urls_read_back() {
        for text in ["https://app.example/sse/auth", "http://127.0.0.1:3000/auth?v=1", "http://[::1]:3000/"] {
            let url = upstream_url().parse(text).expect("a URL");
            assert_eq!(upstream_url().print(&url), text);
        }
    }

    #[test]
    fn a_url_carries_no_secrets_and_no_other_scheme() {
        for text in [
            "",
            "app.example/auth",
            "/auth",
            "ftp://app.example/",
            "file:///etc/passwd",
            "unix:/run/app.sock",
            "https://user@app.example/",
            "https://user:secret@app.example/",
            "https://app.example/#part",
            "https://",
        ] {
            assert_eq!(upstream_url().parse(text), None, "{text:?}");
        }
        let long = format!("https://app.example/{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(upstream_url().parse(&long), None);
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let url = UpstreamUrl::parse("https://app.example/auth?key=s3cret").expect("a URL");
        assert_eq!(format!("{url} {url:?}"), "https://app.example/auth?*** https://app.example/auth?***");
        for (text, shown) in [
            ("https://app.example/auth", "https://app.example/auth"),
            ("http://me:s3cret@app.example/", "http://***@app.example/"),
            ("http://me:s3c/r?e@t@app.example/?s3cret", "http://***@app.example/?***"),
            ("me:s3cret@app.example", "***@app.example"),
            ("https:/app.example#s3cret", "https:/app.example#***"),
            ("", ""),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn what_crosses_a_network_in_the_clear_is_not_trustworthy() {
        for (text, trustworthy) in [
            ("https://idp.example/jwks", true),
            ("http://127.0.0.1:3000/jwks", true),
            ("http://[::1]/jwks", true),
            ("http://localhost/jwks", true),
            ("http://idp.example/jwks", false),
            ("http://localhost.example/jwks", false),
            ("http://10.0.0.1/jwks", false),
        ] {
            assert_eq!(UpstreamUrl::parse(text).map(|url| url.is_trustworthy()), Some(trustworthy), "{text}");
        }
    }
}
