//! One member of a room.

use crate::hub::presence::change::Seat;
use crate::hub::presence::data::PresenceData;
use crate::types::moment::Moment;
use crate::types::node::NodeId;
use crate::types::position::Offset;
use crate::types::rate_limiter::RateLimiter;

/// A user that is present in a room.
#[derive(Debug)]
pub(super) struct Member {
    /// The seat of the stream that made it a member. Streams with smaller seats do not count.
    pub(super) seat: Seat,
    /// When it became a member.
    pub(super) since: Moment,
    /// When its last connection went; without meaning while it has connections.
    pub(super) gone: Moment,
    /// Its connections in the room, on this node.
    pub(super) here: u32,
    /// How many of them the other nodes were told of.
    pub(super) reported: u32,
    /// Whether the end of a grace is among the room's.
    pub(super) is_queued: bool,
    own: Option<Box<Own>>,
}

/// What only members have that show data, or are on other nodes.
#[derive(Debug, Default)]
struct Own {
    data: Option<PresenceData>,
    limiter: RateLimiter,
    elsewhere: Elsewhere,
}

/// A member as the other nodes of the order have it.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Its connections on each other node: some nodes, none without a connection.
    pub(super) nodes: Vec<(NodeId, u32)>,
    /// Where in the order it began to show its data. Data that was put here and is not in the order yet does not count.
    pub(super) shown_at: Offset,
    /// Whether its data was put here, and the other nodes were not told yet.
    pub(super) is_fresh: bool,
    /// Its connections on this node, as the order has them.
    pub(super) in_order: u32,
    /// Whether the order has, or had, connections of it on this node.
    pub(super) was_in_order: bool,
    /// Which node had its last connection; `None` if it was this one. Without meaning while it has connections.
    pub(super) last_on: Option<NodeId>,
}

impl Member {
    /// A member with one connection, on this node.
    pub(super) fn new(seat: Seat, now: Moment) -> Self {
        Self { seat, since: now, gone: now, here: 1, reported: 0, is_queued: false, own: None }
    }

    pub(super) fn data(&self) -> Option<&PresenceData> {
        self.own.as_ref()?.data.as_ref()
    }

    /// Replaces its data. Returns whether that is a change.
    pub(super) fn set_data(&mut self, data: Option<PresenceData>) -> bool {
        if self.data() == data.as_ref() {
            return false;
        }
        self.own.get_or_insert_default().data = data;
        true
    }

    /// Its connections on all nodes. Without any, it is within its grace.
    pub(super) fn connections(&self) -> u32 {
        let nodes = self.elsewhere().map_or(&[][..], |elsewhere| &elsewhere.nodes);
        nodes.iter().fold(self.here, |sum, (_, connections)| sum.saturating_add(*connections))
    }

    /// Whether the order has connections of it on this node, or will have: they are reported.
    pub(super) fn in_order_or_soon(&self) -> bool {
        self.reported > 0 || self.elsewhere().is_some_and(|elsewhere| elsewhere.in_order > 0)
    }

    /// Whether its last connection was on this node, and it has none any more.
    pub(super) fn went_here(&self) -> bool {
        self.connections() == 0 && self.elsewhere().is_none_or(|elsewhere| elsewhere.last_on.is_none())
    }

    pub(super) fn elsewhere(&self) -> Option<&Elsewhere> {
        self.own.as_ref().map(|own| &own.elsewhere)
    }

    pub(super) fn elsewhere_mut(&mut self) -> &mut Elsewhere {
        &mut self.own.get_or_insert_default().elsewhere
    }

    pub(super) fn limiter(&mut self) -> &mut RateLimiter {
        &mut self.own.get_or_insert_default().limiter
    }
}
