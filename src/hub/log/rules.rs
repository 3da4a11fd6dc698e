//! What a log keeps.

/// Bounds of one log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogBounds {
    /// Events a resume can get at most.
    pub events_max: usize,
    /// Bytes these may take, as [`Entry::cost`](super::entry::Entry::cost) counts them.
    pub bytes_max: usize,
}

/// What a log has to know of its room's policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogRules {
    /// Its bounds.
    pub bounds: LogBounds,
    /// Whether an event makes older ones of its key loose.
    pub conflates: bool,
    /// Whether the newest event of a key is kept for newcomers when newer events of other keys have driven it out.
    pub keeps_newest: bool,
}

impl From<LogBounds> for LogRules {
    fn from(bounds: LogBounds) -> Self {
        Self { bounds, conflates: false, keeps_newest: false }
    }
}
