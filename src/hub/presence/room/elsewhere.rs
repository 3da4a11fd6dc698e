//! A room whose members are on several nodes: what the others are told, and what they say.

use super::Room;
use crate::hub::presence::change::Seat;
use crate::hub::presence::data::PresenceData;
use crate::hub::presence::member::Member;
use crate::hub::presence::report::{By, MemberReport, Why};
use crate::hub::presence::stats::PresenceStats;
use crate::hub::presence::user::User;
use crate::types::moment::Moment;
use crate::types::node::NodeId;
use crate::types::position::Offset;

impl Room {
    /// The connections of `user` on this node are others than before.
    pub(super) fn changed_here(&mut self, user: &str) {
        let Some(unreported) = &mut self.unreported else {
            return;
        };
        if let Some((user, member)) = self.members.get_key_value(user) {
            // That somebody came is news; that somebody went may be a reload.
            let is_urgent = member.reported == 0 && member.here > 0;
            unreported.put(user.clone(), Why::Changed, is_urgent);
        }
    }

    /// What `user` shows was put on this node.
    pub(super) fn shown_here(&mut self, user: &str) {
        if let (Some(unreported), Some((user, _))) = (&mut self.unreported, self.members.get_key_value(user))
        {
            unreported.put(user.clone(), Why::Changed, true);
        }
    }

    /// `user` is no member any more.
    pub(super) fn removed_here(&mut self, user: &User, member: &Member) {
        let Some(unreported) = &mut self.unreported else {
            return;
        };
        if member.reported > 0 || unreported.is_anew(user) {
            unreported.put(user.clone(), Why::Gone, true);
        }
        unreported.leave_over(user, member.elsewhere().map_or(0, |elsewhere| elsewhere.in_order));
    }

    /// Every member of which the others had, or should have, connections here is to be reported, whatever the other nodes know.
    pub(in crate::hub::presence) fn report_anew(&mut self) {
        let Some(unreported) = &mut self.unreported else {
            return;
        };
        let known = |(_, member): &(&User, &Member)| member.here > 0 || member.reported > 0;
        for (user, _) in self.members.iter().filter(known) {
            unreported.put(user.clone(), Why::Anew, true);
        }
    }

    /// The same for one user.
    pub(in crate::hub::presence) fn report_user_anew(&mut self, user: &str) {
        if let (Some(unreported), Some((user, member))) =
            (&mut self.unreported, self.members.get_key_value(user))
            && (member.here > 0 || member.reported > 0)
        {
            unreported.put(user.clone(), Why::Anew, true);
        }
    }

    /// What is to be said of `user`, if anything.
    pub(in crate::hub::presence) fn report(&mut self, user: &User, why: Why) -> Option<MemberReport> {
        let gone = MemberReport {
            user: user.0.clone(),
            connections: 0,
            at_once: true,
            since: Moment(0),
            data: None,
            shown_at: Some(0),
        };
        let Some(member) = self.members.get_mut(user.name()) else {
            return (why == Why::Gone).then_some(gone);
        };
        let (shown_at, is_fresh) = match member.elsewhere() {
            Some(elsewhere) if elsewhere.is_fresh => (None, true),
            elsewhere => (Some(elsewhere.map_or(0, |elsewhere| elsewhere.shown_at)), false),
        };
        if why == Why::Changed && member.here == member.reported && !is_fresh {
            return None;
        }
        member.reported = member.here;
        if is_fresh {
            member.elsewhere_mut().is_fresh = false;
        }
        let data = member.data().cloned();
        Some(MemberReport {
            user: user.0.clone(),
            connections: member.here,
            at_once: false,
            since: member.since,
            data,
            shown_at,
        })
    }

    /// A report did not get into the order, or perhaps did not: it is to be made again.
    pub(in crate::hub::presence) fn report_again(&mut self, report: &MemberReport) {
        let Some(unreported) = &mut self.unreported else {
            return;
        };
        let user = User(report.user.clone());
        match self.members.get_mut(user.name()) {
            Some(member) => {
                if report.shown_at.is_none() {
                    member.elsewhere_mut().is_fresh = true;
                }
                unreported.put(user, Why::Anew, false);
            }
            None => unreported.put(user, Why::Gone, false),
        }
    }

    /// This node's own report has its place in the order.
    pub(in crate::hub::presence) fn apply_own(
        &mut self,
        report: MemberReport,
        position: Offset,
        stats: &PresenceStats,
    ) {
        let name = report.user.name();
        let Some(member) = self.members.get_mut(name) else {
            if let Some(unreported) = &mut self.unreported {
                unreported.leave_over(&User(report.user), report.connections);
            }
            return;
        };
        if report.connections > 0 || member.elsewhere().is_some() {
            let elsewhere = member.elsewhere_mut();
            elsewhere.in_order = report.connections;
            elsewhere.was_in_order |= report.connections > 0;
        }
        let (is_fresh, known_at) =
            member.elsewhere().map_or((false, 0), |elsewhere| (elsewhere.is_fresh, elsewhere.shown_at));
        if report.connections > 0
            && report.shown_at.is_some_and(|at| at < known_at)
            && let (Some(unreported), Some((user, _))) =
                (&mut self.unreported, self.members.get_key_value(name))
        {
            // Something newer came into the order before it. A node that knows the member by this report alone lacks that.
            unreported.put(user.clone(), Why::Anew, false);
        }
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if is_fresh {
            // It was put again meanwhile, and that comes later.
            member.elsewhere_mut().shown_at = report.shown_at.unwrap_or(position);
        } else {
            self.show(name, report.data, report.shown_at.unwrap_or(position), stats);
        }
    }

    /// The node `from` reports a member; `seat` is larger than those of all streams here.
    pub(in crate::hub::presence) fn apply_report(
        &mut self,
        from: NodeId,
        report: MemberReport,
        (position, seat): (Offset, Seat),
        now: Moment,
        stats: &PresenceStats,
    ) {
        let MemberReport { user, connections, at_once, since, data, shown_at } = report;
        let name = user.name();
        if !self.members.contains_key(name) {
            if connections == 0 || !stats.admit(&user) {
                return;
            }
            let mut member = Member::new(seat, since);
            member.here = 0;
            self.insert(User(user.clone()), member);
        }
        self.show(name, data, shown_at.unwrap_or(position), stats);
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.since = member.since.min(since);
        let is_older = shown_at.is_some_and(|at| at < member.elsewhere_mut().shown_at);
        if is_older
            && connections > 0
            && let Some(unreported) = &mut self.unreported
        {
            // The node does not know what it shows: it has forgotten the member earlier than others, or has just begun.
            unreported.put(User(user.clone()), Why::Anew, false);
        }
        let before = set_connections(&mut member.elsewhere_mut().nodes, from, connections);
        self.connections = self.connections.saturating_add(connections).saturating_sub(before);
        if before > 0 && member.connections() == 0 {
            // If the order has this node's own last connection still, or will, its end comes later.
            let is_mine = member.in_order_or_soon();
            self.went(name, (!is_mine).then_some(from), at_once, now, stats);
        }
    }

    /// The node `from` has ended. The application is told of its members by `teller`; `None` is this node.
    pub(in crate::hub::presence) fn node_ended(
        &mut self,
        from: NodeId,
        teller: Option<NodeId>,
        now: Moment,
        stats: &PresenceStats,
    ) {
        let mut went = Vec::new();
        for (user, member) in &mut self.members {
            let Some(elsewhere) = member.elsewhere() else { continue };
            if elsewhere.last_on == Some(from) {
                member.elsewhere_mut().last_on = teller;
            }
            let before = set_connections(&mut member.elsewhere_mut().nodes, from, 0);
            self.connections = self.connections.saturating_sub(before);
            if before > 0 && member.connections() == 0 {
                went.push(user.clone());
            }
        }
        for user in went {
            self.went(user.name(), teller, false, now, stats);
        }
    }

    /// Takes what `user` shows, if it began to at a later place in the order than what is known.
    fn show(&mut self, user: &str, data: Option<PresenceData>, shown_at: Offset, stats: &PresenceStats) {
        let Some(member) = self.members.get_mut(user) else {
            return;
        };
        if shown_at <= member.elsewhere().map_or(0, |elsewhere| elsewhere.shown_at) {
            return;
        }
        member.elsewhere_mut().shown_at = shown_at;
        if member.data() != data.as_ref() && stats.show(data.as_ref(), PresenceData::len_of(member.data())) {
            self.set_data(user, data, stats);
        }
    }

    /// `user` is no member from now on: it left, or was made to, by a request to this node or another.
    pub(in crate::hub::presence) fn withdraw(&mut self, user: &str, by: By, stats: &PresenceStats) {
        let Some(member) = self.members.get(user) else {
            return;
        };
        let is_mine = member.here > 0 || member.went_here() || member.in_order_or_soon();
        let tells = match by {
            By::Here => true,
            // What the order had of it, that node had as well.
            By::Elsewhere { knew: true } => {
                is_mine && !member.elsewhere().is_some_and(|elsewhere| elsewhere.was_in_order)
            }
            By::Elsewhere { knew: false } => is_mine,
        };
        self.remove(user, tells, stats);
    }
}

/// Sets the connections that a node has. Returns those that it had.
fn set_connections(nodes: &mut Vec<(NodeId, u32)>, node: NodeId, connections: u32) -> u32 {
    let at = nodes.iter().position(|(known, _)| *known == node);
    let before = at.map_or(0, |at| nodes[at].1);
    match (at, connections) {
        (None, 0) => {}
        (None, _) => nodes.push((node, connections)),
        (Some(at), 0) => drop(nodes.swap_remove(at)),
        (Some(at), _) => nodes[at].1 = connections,
    }
    before
}
