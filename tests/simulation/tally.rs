//! The counts expected of a shard, added up from what its subscribers got.

use tidegate::shard::reason::{CloseReason, DropReason, GapReason};
use tidegate::shard::stats::Stats;

use super::client::Client;
use super::listener::{Listener, Walk};
use super::net::Wire;

/// Sums over subscribers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub opened: u64,
    delivered: u64,
    bytes: [u64; 2],
    closed: [u64; CloseReason::ALL.len()],
    /// Closed by the server without a closing event: stalled streams, those that expired while stalled, and those for
    /// which a drain ran out of time.
    cut_off: u64,
    gaps: [u64; GapReason::ALL.len()],
    lost: u64,
    heartbeats: u64,
}

impl Tally {
    /// Adds what `listener` got. `walk` includes the bytes it was offered last and did not take.
    pub(crate) fn add(&mut self, listener: &Listener, wire: &Wire, delivered: usize, walk: &Walk) {
        self.delivered += delivered as u64;
        self.bytes[usize::from(listener.encoding.gzip)] += wire.bytes.len() as u64;
        self.lost += walk.lost;
        self.heartbeats += walk.heartbeats;
        for gap in &walk.gaps {
            let reason = GapReason::ALL.iter().position(|reason| reason.as_str() == *gap).unwrap();
            self.gaps[reason] += 1;
        }
    }

    /// Counts how `listener` ended, and checks that a stream may end so.
    pub(crate) fn add_end(&mut self, listener: &Listener, wire: &Wire, walk: &Walk, client: &Client) {
        let is_whole = wire.whole == wire.bytes.len();
        if let Some(reason) = listener.ended_by_us.or(wire.broke) {
            self.closed[reason as usize] += 1;
        } else if let (Some(told), true) = (&walk.closing, is_whole) {
            let reason = CloseReason::ALL.iter().position(|reason| reason.as_str() == told).unwrap();
            self.closed[reason] += 1;
            assert!(reason != CloseReason::Revoked as usize || listener.is_doomed, "{listener:?}");
            assert!(client.is_between_events());
            assert!(client.retry().is_some_and(|retry| retry > 0), "every stream says when to come back");
            assert_eq!(client.has_ended(), listener.encoding.chunked, "the last chunk ends the stream");
        } else if listener.poll && is_whole && wire.refused.is_empty() {
            self.closed[CloseReason::Poll as usize] += 1;
            assert!(client.is_between_events());
            assert_eq!(client.has_ended(), listener.encoding.chunked, "the last chunk ends the poll");
        } else {
            assert!(!wire.refused.is_empty(), "whoever has room gets a farewell");
            if listener.is_doomed {
                self.closed[CloseReason::Revoked as usize] += 1;
            } else {
                self.cut_off += 1;
            }
        }
    }

    /// Compares with the shard's counts.
    pub(crate) fn check(&self, stats: &Stats, is_unrated: bool, drop_counts_are_exact: bool) {
        assert_eq!(stats.opened.get(), self.opened, "opened");
        assert_eq!(stats.delivered.get(), self.delivered, "delivered");
        assert_eq!([stats.bytes[0].get(), stats.bytes[1].get()], self.bytes, "bytes");
        assert_eq!(stats.heartbeats.get(), self.heartbeats, "heartbeats");
        for reason in GapReason::ALL {
            let counted = stats.gaps[*reason as usize].get();
            assert_eq!(counted, self.gaps[*reason as usize], "gaps: {reason:?}");
        }
        let mut cut_off = 0;
        for reason in CloseReason::ALL {
            let counted = stats.closed[*reason as usize].get();
            let told = self.closed[*reason as usize];
            if matches!(reason, CloseReason::Stalled | CloseReason::Drain | CloseReason::Expired) {
                cut_off += counted.checked_sub(told).expect("those told are counted");
            } else {
                assert_eq!(counted, told, "closed: {reason:?}");
            }
        }
        assert_eq!(cut_off, self.cut_off, "closed without a word");
        let dropped = |reason: DropReason| stats.dropped[reason as usize].get();
        if is_unrated {
            let slow = dropped(DropReason::Slow);
            assert!(slow >= self.lost, "{slow} dropped, {} told", self.lost);
            assert!(slow == self.lost || !drop_counts_are_exact, "{slow} dropped, {} told", self.lost);
            assert_eq!(dropped(DropReason::Rate), 0, "dropped for a rate");
        }
    }
}
