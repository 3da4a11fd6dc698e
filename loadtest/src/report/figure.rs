//! One line of a table.

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name in JSON medians.
    pub key: &'static str,
    /// Its name in tables, with the unit.
    pub label: &'static str,
    /// The value.
    pub value: f64,
    /// Whether a ratio between servers means anything.
    pub has_ratio: bool,
}

impl Figure {
    /// A figure whose ratio between servers means something.
    #[must_use]
    pub fn ratio(key: &'static str, label: &'static str, value: f64) -> Self {
        Self { key, label, value, has_ratio: true }
    }

    /// A figure that is not compared.
    #[must_use]
    pub fn plain(key: &'static str, label: &'static str, value: f64) -> Self {
        Self { key, label, value, has_ratio: false }
    }
}
