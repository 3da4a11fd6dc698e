//! Secret text: comparing takes the same time for all texts of one length, and nothing prints it.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// Replaces a secret in logs and summaries.
pub const MASK: &str = "***";

/// A secret from the settings.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Makes `text` a secret, which is no longer printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether `offered` equals it. The time this takes depends on its length alone.
    #[must_use]
    pub fn is(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }

    /// Returns the text, to write settings back.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_recognised_and_not_shown() {
        let secret = Secret::new("open sesame");
        assert!(secret.is(b"open sesame") && secret == Secret::new("open sesame"));
        for offered in ["", "open", "open sesamf", "Open sesame", "open sesame "] {
            assert!(!secret.is(offered.as_bytes()), "{offered:?}");
        }
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "*** Some(\n    ***,\n)");
    }
}
