//! Where a request shows who sends it: `Authorization: Bearer …` (RFC 6750 §2.1), a cookie, or `?token=`, as far as the
//! settings allow them. Pure: finds the credential, judges nothing.

use std::borrow::Cow;
use std::fmt;

use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap};

use super::problem::{Code, Problem};
use super::route::percent_decode;

/// Which places are looked at besides `Authorization`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Places {
    /// The name of a cookie.
    pub cookie: Option<String>,
    /// Whether `?token=` is.
    pub query: bool,
}

/// What a request shows.
#[derive(Clone, Eq, PartialEq)]
pub struct Credential<'r> {
    /// The token or key; `None` for an `Authorization` of another scheme, which proves nothing here.
    pub text: Option<Cow<'r, str>>,
    /// Whether the browser attached it by itself, whoever made it send the request.
    pub is_cookie: bool,
}

impl fmt::Debug for Credential<'_> {
    /// Without the text, so that no log can have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("is_cookie", &self.is_cookie).finish_non_exhaustive()
    }
}

/// The one credential of a request.
///
/// # Errors
///
/// [`Code::TokenAmbiguous`] if there are two, even the same twice: which of them a proxy looked at is not known.
/// [`Code::QueryInvalid`] if the one in the query is not percent-encoded UTF-8.
pub fn find<'r>(
    places: &Places,
    headers: &'r HeaderMap,
    query: Option<&'r str>,
) -> Result<Option<Credential<'r>>, Problem> {
    type Found<'r> = Result<Credential<'r>, Problem>;
    let by_header = headers.get_all(AUTHORIZATION).iter().map(|value| -> Found<'r> {
        let text = value.to_str().ok().and_then(bearer).map(Cow::Borrowed);
        Ok(Credential { text, is_cookie: false })
    });
    let by_cookie = places
        .cookie
        .iter()
        .flat_map(|name| cookies(headers, name))
        .map(|text| Ok(Credential { text: text.map(Cow::Borrowed), is_cookie: true }));
    let by_query = in_queries(places, query)
        .map(|text| -> Found<'r> { Ok(Credential { text: Some(text?), is_cookie: false }) });
    let mut all = by_header.chain(by_cookie).chain(by_query);
    let first = all.next().transpose()?;
    if all.next().is_some() {
        return Err(Code::TokenAmbiguous.into());
    }
    Ok(first)
}

/// The first credential that stands in the query, where it may.
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
    raw.map(|raw| percent_decode(raw).ok_or_else(|| Code::QueryInvalid.into()))
}

/// What follows `Bearer`, whose case makes no difference (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// The values of the cookie `name` (RFC 6265 §4.2.1); `None` for one that is no text.
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
        (percent_decode(name)? == "token").then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everywhere() -> Places {
        Places { cookie: Some("t".into()), query: true }
    }

    fn found(headers: &[(&'static str, &str)], query: &str) -> Result<Option<(Option<String>, bool)>, Code> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
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
            (&[("authorization", "Basic x")], "token=x"),
            (&[("cookie", "t=x; t=x")], ""),
            (&[("cookie", "t=x"), ("cookie", "t=y")], ""),
            (&[], "token=x&token=x"),
            (&[("cookie", "t=x")], "token="),
        ] {
            assert_eq!(found(headers, query), Err(Code::TokenAmbiguous), "{headers:?} {query}");
        }
    }

    #[test]
    fn another_scheme_is_a_credential_that_proves_nothing() {
        for value in ["Basic dTpw", "Bearer", "x", "Bearerx y", "\u{e9} x"] {
            assert_eq!(found(&[("authorization", value)], ""), Ok(Some((None, false))), "{value}");
        }
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
        let nothing = Credential { text: None, is_cookie: true };
        assert_eq!(find(&everywhere(), &headers, None).unwrap(), Some(nothing));
    }

    #[test]
    fn no_log_has_it() {
        let credential = Credential { text: Some("secret".into()), is_cookie: true };
        assert_eq!(format!("{credential:?}"), "Credential { is_cookie: true, .. }");
    }
}
