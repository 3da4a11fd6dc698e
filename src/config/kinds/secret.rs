//! Text that only the operator and whoever it is meant for should know: it is compared without telling how much of it was
//! right, and nothing prints it.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// Stands for a secret wherever people look.
pub const MASK: &str = "***";

/// A secret of the settings.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` to itself from now on.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether `offered` is it. How long that takes depends on its length alone.
    #[must_use]
    pub fn is(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }

    /// The text itself, to write settings back.
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
