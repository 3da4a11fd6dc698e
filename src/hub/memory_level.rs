//! Memory levels: what the engine stops as memory runs short, one level after the other, before the kernel kills it.
//!
//! Each level stops what can best be done without: replays are asked for again later, reaped streams resume exactly,
//! refused streams come back, publishers try again. Only the last level loses anything: history, and resumes are told
//! so by a gap. A level includes all levels below it.
//!
//! The decision is a pure function; the server measures memory and calls it.

/// A memory level.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum MemoryLevel {
    /// Everything is served.
    #[default]
    Normal,
    /// Streams that begin with past events are asked to come back, and pages of history are refused.
    NoReplays,
    /// The streams furthest behind are reaped.
    ReapLagging,
    /// New streams are refused.
    NoNewcomers,
    /// Publishes are refused. Each second an eighth of the history expires, the oldest first: without new events to
    /// replace it, old history could otherwise stop all publishing until it reaches its maximum age.
    NoPublishes,
}

/// Where each level begins, in per cent of the limit, lowest first.
///
/// Usual history and streams stay below the first. The last leaves about an eighth of the limit for requests in
/// progress, the allocator's slack and the kernel's socket buffers, which count against a control group but are in no
/// process's resident set. The steps between are large enough for a level to show an effect before the next begins.
const BEGINS_AT: [(MemoryLevel, u64); 4] = [
    (MemoryLevel::NoReplays, 70),
    (MemoryLevel::ReapLagging, 80),
    (MemoryLevel::NoNewcomers, 85),
    (MemoryLevel::NoPublishes, 92),
];

/// How far below its beginning a level ends, in per cent of the limit. Otherwise the memory that a level gives back
/// would end it at once.
const MARGIN: u64 = 5;

impl MemoryLevel {
    /// Every level, lowest first.
    pub const ALL: [Self; 5] =
        [Self::Normal, Self::NoReplays, Self::ReapLagging, Self::NoNewcomers, Self::NoPublishes];

    /// The level for `bytes` of `limit`, if the engine was on `before`.
    #[must_use]
    pub fn at(bytes: u64, limit: u64, before: Self) -> Self {
        let is_past = |percent: u64| u128::from(bytes) * 100 >= u128::from(limit) * u128::from(percent);
        let holds = |(level, begins_at): &(Self, u64)| {
            is_past(if *level <= before { begins_at - MARGIN } else { *begins_at })
        };
        BEGINS_AT.iter().rev().find(|level| holds(level)).map_or(Self::Normal, |(level, _)| *level)
    }

    /// Bytes of `limit` at which it begins.
    #[must_use]
    pub fn begins_at(self, limit: u64) -> u64 {
        let percent = BEGINS_AT.iter().find(|(level, _)| *level == self).map_or(0, |(_, percent)| *percent);
        limit / 100 * percent
    }

    /// Its number, from 0.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// What it stops, for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "everything is served",
            Self::NoReplays => "no replays",
            Self::ReapLagging => "no replays, and the streams furthest behind are reaped",
            Self::NoNewcomers => "no replays and no new streams, and the streams furthest behind are reaped",
            Self::NoPublishes => {
                "no replays, no new streams and no publishes, and the streams furthest behind are reaped"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The levels for `shares` of a limit of 1,000 bytes, one after the other.
    fn walk(shares: &[u64]) -> Vec<u8> {
        let mut level = MemoryLevel::Normal;
        let step = |bytes: &u64| {
            level = MemoryLevel::at(*bytes, 1000, level);
            level.number()
        };
        shares.iter().map(step).collect()
    }

    #[test]
    fn each_rung_begins_at_its_share_and_in_order() {
        assert_eq!(walk(&[0, 699, 700, 799, 800, 849, 850, 919, 920, 5000]), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn a_rung_is_left_below_where_it_began() {
        assert_eq!(walk(&[920, 870, 869, 800, 799, 750, 749, 650, 649, 0]), [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]);
        assert_eq!(walk(&[700, 699, 650, 649, 699]), [1, 1, 1, 0, 0], "it does not flap around a limit");
    }

    #[test]
    fn a_leap_takes_all_rungs_at_once() {
        assert_eq!(walk(&[10, 999, 10]), [0, 4, 0]);
    }

    #[test]
    fn numbers_and_order_agree() {
        assert!(MemoryLevel::ALL.is_sorted());
        assert!(MemoryLevel::ALL.iter().map(|level| level.number()).eq(0..5));
        assert_eq!(MemoryLevel::at(u64::MAX, u64::MAX, MemoryLevel::Normal), MemoryLevel::NoPublishes);
    }
}
