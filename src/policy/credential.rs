//! Finds the credential of a request: `Authorization: Bearer …` (RFC 6750 §2.1), a cookie, or `?token=`, as far as the
//! settings allow them. Pure: it does not verify the credential.

use std::borrow::Cow;
use std::fmt;

use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};

use crate::answer::problem::{Code, Problem};
use crate::types::percent;

/// The places that are searched besides `Authorization`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Places {
    /// The name of a cookie.
    pub cookie: Option<String>,
    /// Whether `?token=` is allowed.
    pub query: bool,
}

/// The credential of a request.
#[derive(Clone, Eq, PartialEq)]
pub struct Credential<'r> {
    /// The token or key; `None` if it is not text, which proves nothing.
    pub text: Option<Cow<'r, str>>,
    /// Other values of the cookie, all different. A browser sends one for each path and domain for which it was set, so
    /// an expired token may come beside a new one. Always fewer than [`COOKIES_MAX`].
    pub others: Vec<&'r str>,
    /// Whether the browser attached it by itself, whichever page made it send the request.
    pub is_cookie: bool,
}

/// Different values that the cookie may have in one request: verifying each costs as much as a token.
pub const COOKIES_MAX: usize = 4;

impl fmt::Debug for Credential<'_> {
    /// Without the text, so that it cannot appear in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("is_cookie", &self.is_cookie).finish_non_exhaustive()
    }
}

/// Finds the one credential of a request.
///
/// `Authorization` with another scheme than `Bearer` is ignored: it is for a proxy in front, such as nginx with
/// `auth_basic`, which passes it on.
///
/// # Errors
///
/// [`Code::TokenAmbiguous`] if there are two, even if they are equal: a proxy may have checked either. A cookie counts
/// as one with up to [`COOKIES_MAX`] values. [`Code::QueryInvalid`] if the one in the query is not percent-encoded
/// UTF-8.
pub fn find<'r>(
    places: &Places,
    headers: &'r HeaderMap,
    query: Option<&'r str>,
) -> Result<Option<Credential<'r>>, Problem> {
    type Found<'r> = Result<Credential<'r>, Problem>;
    let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
    let by_header = bearers.map(|token| -> Found<'r> {
        let text = std::str::from_utf8(token).ok().filter(|text| !text.is_empty());
        Ok(Credential { text: text.map(Cow::Borrowed), others: Vec::new(), is_cookie: false })
    });
    let by_cookie = places.cookie.iter().filter_map(|name| in_cookies(headers, name).transpose());
    let by_query = in_queries(places, query).map(|text| -> Found<'r> {
        Ok(Credential { text: Some(text?), others: Vec::new(), is_cookie: false })
    });
    let mut all = by_header.chain(by_cookie).chain(by_query);
    let first = all.next().transpose()?;
    if all.next().is_some() {
        return Err(Code::TokenAmbiguous.into());
    }
    Ok(first)
}

/// Finds the first credential in the query, if it is allowed there.
///
/// # Errors
///
/// As [`find`].
pub fn in_query<'r>(places: &Places, query: Option<&'r str>) -> Result<Option<Cow<'r, str>>, Problem> {
    in_queries(places, query).next().transpose()
}

fn in_queries<'r>(
    places: &Places,
    query: Option<&'r str>,
) -> impl Iterator<Item = Result<Cow<'r, str>, Problem>> {
    let raw = places.query.then_some(query).flatten().into_iter().flat_map(tokens_in);
    raw.map(|raw| percent::decode(raw).ok_or_else(|| Code::QueryInvalid.into()))
}

/// Whether `value`, of an `Authorization`, is for this server or its application.
#[must_use]
pub fn is_bearer(value: &HeaderValue) -> bool {
    bearer(value.as_bytes()).is_some()
}

/// Whether a request has any credential for this server or its application.
#[must_use]
pub fn is_shown(places: &Places, headers: &HeaderMap, query: Option<&str>) -> bool {
    headers.contains_key(COOKIE)
        || headers.get_all(AUTHORIZATION).iter().any(is_bearer)
        || in_queries(places, query).next().is_some()
}

/// The text after `Bearer`, without the white space around it; `None` for another scheme. The case of the scheme makes
/// no difference (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(BEARER.len())?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(BEARER) && ends).then(|| rest.trim_ascii())
}

const BEARER: &[u8] = b"bearer";

/// Finds the credential in the cookie `name`.
///
/// # Errors
///
/// [`Code::TokenAmbiguous`] if it has more than [`COOKIES_MAX`] values.
fn in_cookies<'r>(headers: &'r HeaderMap, name: &str) -> Result<Option<Credential<'r>>, Problem> {
    let mut found: Option<Credential<'r>> = None;
    for text in cookies(headers, name) {
        let Some(known) = &mut found else {
            let text = text.map(Cow::Borrowed);
            found = Some(Credential { text, others: Vec::new(), is_cookie: true });
            continue;
        };
        match text {
            Some(text) if known.text.is_none() => known.text = Some(text.into()),
            Some(text) if known.text.as_deref() != Some(text) && !known.others.contains(&text) => {
                if known.others.len() + 1 == COOKIES_MAX {
                    return Err(Code::TokenAmbiguous.into());
                }
                known.others.push(text);
            }
            // Not text, or a repeated value.
            _ => {}
        }
    }
    Ok(found)
}

/// The values of the cookie `name` (RFC 6265 §4.2.1); `None` for one that is not text.
fn cookies<'r>(headers: &'r HeaderMap, name: &str) -> impl Iterator<Item = Option<&'r str>> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (&pair[..at] == name.as_bytes()).then(|| {
            let value = std::str::from_utf8(&pair[at + 1..]).ok()?;
            Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
        })
    })
}

/// The raw values of `token` in a query.
fn tokens_in(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent::decode(name)? == "token").then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everywhere() -> Places {
        Places { cookie: Some("t".into()), query: true }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        lines.collect()
    }

    fn found(lines: &[(&'static str, &str)], query: &str) -> Result<Option<(Option<String>, bool)>, Code> {
        let headers = headers(lines);
        let found = find(&everywhere(), &headers, Some(query)).map_err(|problem| problem.code)?;
        Ok(found.map(|found| (found.text.map(Cow::into_owned), found.is_cookie)))
    }

    #[test]
    fn a_token_is_found_in_each_place() {
        let by_hand = Ok(Some((Some("x.y".to_owned()), false)));
        assert_eq!(found(&[("authorization", "Bearer x.y")], ""), by_hand);
        assert_eq!(found(&[("authorization", "bEARER  x.y ")], "room=a"), by_hand);
        assert_eq!(found(&[], "room=a&token=x.y&x"), by_hand);
        assert_eq!(found(&[], "%74oken=x%2Ey"), by_hand);
        let by_browser = Ok(Some((Some("x.y".to_owned()), true)));
        assert_eq!(found(&[("cookie", "a=b; t=x.y;c")], ""), by_browser);
        assert_eq!(found(&[("cookie", "a=b"), ("cookie", "t=\"x.y\"")], ""), by_browser);
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        for (headers, query) in [
            (&[][..], ""),
            (&[("cookie", "tt=x; T=x; t")], ""),
            (&[("x-authorization", "Bearer x")], "tokens=x&Token=x&xtoken=x"),
        ] {
            assert_eq!(found(headers, query), Ok(None), "{headers:?} {query}");
        }
    }

    #[test]
    fn two_are_one_too_many() {
        for (headers, query) in [
            (&[("authorization", "Bearer x"), ("authorization", "Bearer x")][..], ""),
            (&[("authorization", "Bearer x"), ("cookie", "t=x")], ""),
            (&[("authorization", "Bearer x"), ("authorization", "Bearer y")], ""),
            (&[("authorization", "Bearer"), ("cookie", "t=x")], ""),
            (&[("cookie", "t=1; t=2; t=3; t=4; t=5")], ""),
            (&[("cookie", "t=x; t=y")], "token=z"),
            (&[], "token=x&token=x"),
            (&[("cookie", "t=x")], "token="),
        ] {
            assert_eq!(found(headers, query), Err(Code::TokenAmbiguous), "{headers:?} {query}");
        }
    }

    /// nginx with `auth_basic` passes on the header it has checked. It used to count as a second credential beside a
    /// cookie, and as a bad one in a public room.
    #[test]
    fn another_scheme_is_nobodys_token() {
        for value in ["Basic dTpw", "Digest x", "x", "Bearerx y", "\u{e9} x", ""] {
            let basic = ("authorization", value);
            assert_eq!(found(&[basic], ""), Ok(None), "{value}");
            assert_eq!(found(&[basic], "token=x"), Ok(Some((Some("x".into()), false))), "{value}");
            assert_eq!(found(&[basic, ("cookie", "t=x")], ""), Ok(Some((Some("x".into()), true))), "{value}");
            let bearer = ("authorization", "Bearer x");
            assert_eq!(found(&[basic, bearer], ""), Ok(Some((Some("x".into()), false))), "{value}");
        }
    }

    #[test]
    fn a_bearer_without_a_token_proves_nothing() {
        for value in ["Bearer", "bearer ", "Bearer   "] {
            assert_eq!(found(&[("authorization", value)], ""), Ok(Some((None, false))), "{value:?}");
        }
        let no_text = [(AUTHORIZATION, hyper::header::HeaderValue::from_bytes(b"Bearer \xff").unwrap())];
        let no_text = no_text.into_iter().collect();
        assert_eq!(find(&everywhere(), &no_text, None).unwrap().map(|found| found.text), Some(None));
    }

    /// An expired and a new cookie, for two paths or domains, used to fail every retry of a request.
    #[test]
    fn a_cookie_may_have_several_values() {
        for (lines, wanted) in [
            (&[("cookie", "t=1; t=2")][..], &["1", "2"][..]),
            (&[("cookie", "t=1"), ("cookie", "a=b; t=2")], &["1", "2"]),
            (&[("cookie", "t=1; t=1; t=\"1\"")], &["1"]),
            (&[("cookie", "t=4; t=3; t=2; t=1; t=2; t=4")], &["4", "3", "2", "1"]),
            (&[("cookie", "t=; t=1")], &["", "1"]),
        ] {
            let headers = headers(lines);
            let found = find(&everywhere(), &headers, None).unwrap().expect("a cookie");
            let texts: Vec<&str> = found.text.as_deref().into_iter().chain(found.others).collect();
            assert_eq!(texts, wanted, "{lines:?}");
        }
        let no_text_first = [(COOKIE, hyper::header::HeaderValue::from_bytes(b"t=\xff; t=1").unwrap())];
        let no_text_first = no_text_first.into_iter().collect();
        let found = find(&everywhere(), &no_text_first, None).unwrap().expect("a cookie");
        assert_eq!((found.text.as_deref(), found.others), (Some("1"), vec![]));
    }

    #[test]
    fn places_that_are_not_allowed_are_not_looked_at() {
        let headers: HeaderMap = [(COOKIE, "t=x".parse().unwrap())].into_iter().collect();
        assert_eq!(find(&Places::default(), &headers, Some("token=x")).unwrap(), None);
    }

    #[test]
    fn a_token_that_is_no_text_is_told() {
        assert_eq!(found(&[], "token=%FF"), Err(Code::QueryInvalid));
        let headers = [(COOKIE, hyper::header::HeaderValue::from_bytes(b"t=\xff").unwrap())];
        let headers: HeaderMap = headers.into_iter().collect();
        let nothing = Credential { text: None, others: Vec::new(), is_cookie: true };
        assert_eq!(find(&everywhere(), &headers, None).unwrap(), Some(nothing));
    }

    #[test]
    fn no_log_has_it() {
        let credential = Credential { text: Some("secret".into()), others: vec!["secret"], is_cookie: true };
        assert_eq!(format!("{credential:?}"), "Credential { is_cookie: true, .. }");
    }
}
