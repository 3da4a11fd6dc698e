//! The memory ladder: what the engine gives up as memory runs short, one level after the other, before the kernel ends it.
//!
//! Each level gives up what costs the least to go without: replays are asked for again later, those furthest behind resume
//! exactly, newcomers come back, publishers try again. Only on the last is anything lost: history, which resumes are told. What
//! is given up on a level stays given up on those above.
//!
//! The decision is a pure function; who measures, and how often, is the server's business.

/// How far up the ladder the engine is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum MemoryLevel {
    /// Nothing is given up.
    #[default]
    Normal,
    /// Streams that begin with events of the past are asked to come back, and pages of history are refused.
    NoReplays,
    /// Those furthest behind are reaped.
    ReapLagging,
    /// Newcomers are refused.
    NoNewcomers,
    /// Publishes are refused. Each second an eighth of the history goes, the oldest first: with no new events to drive it out, it
    /// could otherwise keep everybody from publishing until its age does.
    NoPublishes,
}

/// A level's beginning, in per cent of the limit, lowest first.
///
/// The first leaves a usual set of history and streams alone. The last leaves an eighth of the limit or so for requests that
/// were begun, the allocator's slack and the kernel's socket buffers, which count against a control group and are in nobody's
/// resident set. Between the first and the last there is enough for each to show an effect before the next begins.
const BEGINS_AT: [(MemoryLevel, u64); 4] = [
    (MemoryLevel::NoReplays, 70),
    (MemoryLevel::ReapLagging, 80),
    (MemoryLevel::NoNewcomers, 85),
    (MemoryLevel::NoPublishes, 92),
];

/// How far below its beginning a level is left again, in per cent of the limit. The memory that one level gives back must not
/// bring back at once what took it.
const MARGIN: u64 = 5;

impl MemoryLevel {
    /// Every level, lowest first.
    pub const ALL: [Self; 5] =
        [Self::Normal, Self::NoReplays, Self::ReapLagging, Self::NoNewcomers, Self::NoPublishes];

    /// Where `bytes` of `limit` put an engine that was on `before`.
    #[must_use]
    pub fn at(bytes: u64, limit: u64, before: Self) -> Self {
        let is_past = |percent: u64| u128::from(bytes) * 100 >= u128::from(limit) * u128::from(percent);
        let holds = |(level, begins_at): &(Self, u64)| {
            is_past(if *level <= before { begins_at - MARGIN } else { *begins_at })
        };
        BEGINS_AT.iter().rev().find(|level| holds(level)).map_or(Self::Normal, |(level, _)| *level)
    }

    /// Bytes of `limit` from which on it is reached.
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

    /// What is given up on it, for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "nothing is given up",
            Self::NoReplays => "no replays",
            Self::ReapLagging => "no replays, and those furthest behind are reaped",
            Self::NoNewcomers => "no replays and no newcomers, and those furthest behind are reaped",
            Self::NoPublishes => {
                "no replays, no newcomers and no publishes, and those furthest behind are reaped"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Climbs and descends through `shares` of a limit of 1,000 bytes.
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
        assert_eq!(walk(&[700, 699, 650, 649, 699]), [1, 1, 1, 0, 0], "hovering is not flapping");
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
