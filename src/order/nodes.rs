//! Which nodes follow the order. Pure: what each node says comes in with the time at which the order has it.
//!
//! A node is there for as long as the order hears of it. All nodes read the same reports with the same times, so all of them
//! find out at the same place in the order that one has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::order::report::NodeInfo;
use crate::types::node::NodeId;

/// How often a node says that it is there.
pub const HERE_EVERY: Duration = Duration::from_secs(2);

/// A node that was not heard of for so long has ended.
pub const LEASE: Duration = Duration::from_secs(10);

/// The most that the time of the order goes on between two reports. While Redis is away nobody can be heard, and that must not
/// end anybody; and a clock that is set changes little.
const STEP_MAX: Duration = Duration::from_millis(2500);

/// Nodes that are known. More say nothing that is heard.
pub const NODES_MAX: usize = 1024;

/// The nodes of an order.
#[derive(Debug, Default)]
pub struct Nodes {
    /// The time of the order: what passed between reports, each time [`STEP_MAX`] at most.
    time: Duration,
    /// The newest time of a report, in milliseconds since 1970.
    newest_ms: u64,
    known: BTreeMap<NodeId, Known>,
}

#[derive(Debug)]
struct Known {
    heard: Duration,
    info: NodeInfo,
    /// Whether it has told this node of its members.
    has_told: bool,
}

impl Nodes {
    /// The order has a report of `from`, at this time. Returns the nodes that have ended by that.
    pub fn heard(&mut self, from: NodeId, time_ms: u64) -> Vec<NodeId> {
        let passed = Duration::from_millis(time_ms.saturating_sub(self.newest_ms)).min(STEP_MAX);
        self.time += passed;
        // A clock that was set back is followed.
        self.newest_ms = time_ms;
        let (time, is_full) = (self.time, self.known.len() >= NODES_MAX);
        match self.known.get_mut(&from) {
            Some(known) => known.heard = time,
            None if is_full => {}
            None => {
                let known = Known { heard: time, info: NodeInfo::default(), has_told: false };
                self.known.insert(from, known);
            }
        }
        let ended: Vec<_> =
            self.known.iter().filter(|(_, known)| known.heard + LEASE <= time).map(|(id, _)| *id).collect();
        for id in &ended {
            self.ended(*id);
        }
        ended
    }

    /// The node `id` has said what it is.
    pub fn is(&mut self, id: NodeId, info: NodeInfo) {
        if let Some(known) = self.known.get_mut(&id) {
            known.info = info;
        }
    }

    /// The node `id` has told this one of its members.
    pub fn has_told(&mut self, id: NodeId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.has_told = true;
        }
    }

    /// The node `id` has ended.
    pub fn ended(&mut self, id: NodeId) {
        self.known.remove(&id);
    }

    /// The node with the smallest name.
    #[must_use]
    pub fn first(&self) -> Option<NodeId> {
        self.known.keys().next().copied()
    }

    /// All nodes, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, &NodeInfo)> {
        self.known.iter().map(|(id, known)| (*id, &known.info))
    }

    /// Whether every node but `me` has told this one of its members.
    #[must_use]
    pub fn all_have_told(&self, me: NodeId) -> bool {
        self.known.iter().all(|(id, known)| *id == me || known.has_told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn ids(nodes: &Nodes) -> Vec<u64> {
        nodes.all().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn a_node_that_says_nothing_for_the_lease_has_ended() {
        let mut nodes = Nodes::default();
        assert!(nodes.heard(ONE, 1_000_000).is_empty());
        let ended: Vec<_> = (0..=5).map(|n| nodes.heard(TWO, 1_000_000 + n * 2000)).collect();
        assert_eq!(ended, [vec![], vec![], vec![], vec![], vec![], vec![ONE]]);
        assert_eq!(ids(&nodes), [2]);
    }

    /// While Redis is stopped nobody can be heard.
    #[test]
    fn a_pause_of_the_order_ends_nobody() {
        let mut nodes = Nodes::default();
        nodes.heard(ONE, 1_000_000);
        nodes.heard(TWO, 1_000_000);
        assert!(nodes.heard(TWO, 9_000_000).is_empty());
        assert!(nodes.heard(ONE, 9_000_100).is_empty());
        // Nor does a clock that is set back.
        assert!(nodes.heard(TWO, 1_000).is_empty());
        assert!(nodes.heard(ONE, 1_100).is_empty());
        assert_eq!(ids(&nodes), [1, 2]);
    }

    #[test]
    fn nodes_are_bounded() {
        let mut nodes = Nodes::default();
        for id in 0..2 * NODES_MAX as u64 {
            nodes.heard(NodeId(id), 1_000_000);
        }
        assert_eq!(nodes.all().count(), NODES_MAX);
    }

    #[test]
    fn a_node_waits_for_all_others() {
        let mut nodes = Nodes::default();
        assert!(nodes.all_have_told(ONE), "there are none");
        nodes.heard(ONE, 1);
        nodes.heard(TWO, 1);
        assert!(!nodes.all_have_told(ONE));
        nodes.has_told(TWO);
        assert!(nodes.all_have_told(ONE));
        nodes.ended(TWO);
        assert_eq!(nodes.first(), Some(ONE));
    }
}
