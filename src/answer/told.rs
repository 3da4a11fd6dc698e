//! A code and a title that the application chose for a refusal.

use std::fmt;

use serde::Deserialize;

/// Bytes such a code may have.
const CODE_BYTES_MAX: usize = 64;

/// Bytes such a title may have.
const TITLE_BYTES_MAX: usize = 128;

/// What the application says when it refuses an event. Checked: it is short, and has no control characters.
#[derive(Clone, Eq, PartialEq)]
pub struct Told {
    code: Box<str>,
    title: Box<str>,
}

#[derive(Deserialize)]
struct Body {
    code: String,
    title: Option<String>,
}

impl Told {
    /// The code and the title of a `body`; those of this server for what it does not say, or not in a form that can be
    /// passed on: a code of 1 to 64 bytes of `a-z 0-9 _`, a title of 1 to 128 bytes without control characters.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let Body { code, title } =
            serde_json::from_slice(body).unwrap_or(Body { code: String::new(), title: None });
        let is_code = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let code_fits = (1..=CODE_BYTES_MAX).contains(&code.len()) && code.bytes().all(is_code);
        let title_fits = |title: &String| {
            (1..=TITLE_BYTES_MAX).contains(&title.len()) && !title.chars().any(char::is_control)
        };
        Self {
            code: if code_fits { code.into() } else { CODE.into() },
            title: title.filter(title_fits).map_or_else(|| TITLE.into(), Into::into),
        }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The title.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)
    }
}

const CODE: &str = "publish_refused";
const TITLE: &str = "the application refuses this event";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_passed_on_is_and_the_rest_is_replaced() {
        let read = |body: &str| {
            let told = Told::read(body.as_bytes());
            (told.code().to_owned(), told.title().to_owned())
        };
        let own = (CODE.to_owned(), TITLE.to_owned());
        assert_eq!(read(r#"{"code":"a_1","title":"Nö"}"#), ("a_1".into(), "Nö".into()));
        assert_eq!(read(r#"{"code":"a_1"}"#), ("a_1".into(), TITLE.into()));
        for body in ["", "[]", "{}", r#"{"code":"A B","title":""}"#, r#"{"code":"","title":"a\nb"}"#] {
            assert_eq!(read(body), own, "{body}");
        }
        let long = format!(r#"{{"code":"{}","title":"{}"}}"#, "c".repeat(65), "t".repeat(129));
        assert_eq!(read(&long), own);
    }
}
