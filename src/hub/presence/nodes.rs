//! Members on several nodes: each node reports its own to the order, and applies what the others report.

use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::hub::presence::Presence;
use crate::hub::presence::report::{MemberReport, Reporting, RoomReport, Unreported};
use crate::hub::presence::room::Room;
use crate::hub::presence::user::User;
use crate::hub::source::Source;
use crate::types::moment::Moment;
use crate::types::node::NodeId;
use crate::types::position::Offset;

/// Bytes of a member in a report beyond its name and what it shows, at most.
const REPORT_BYTES: usize = 48;

impl Presence {
    /// Reports members to other nodes from now on. To be called before anybody is a member.
    pub fn report(&self) {
        let _ = self.reporting.set(Reporting::default());
    }

    /// Ready if something is to be reported now, and not in a second. Else `waker` is woken then.
    pub fn poll_urgent(&self, waker: &Waker) -> Poll<()> {
        self.reporting.get().map_or(Poll::Pending, |reporting| reporting.poll_urgent(waker))
    }

    /// Takes what is to be reported, about `bytes_max` bytes of it. The next call goes on from there.
    pub fn take_reports(&self, bytes_max: usize) -> Vec<RoomReport> {
        let Some(reporting) = self.reporting.get() else {
            return Vec::new();
        };
        let mut reports: Vec<_> = reporting.take_gone().into_iter().map(gone).collect();
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(room) = reporting.take_room()
        {
            let mut share = self.share(&room).lock();
            let Some(state) = self.find(&mut share, &room) else { continue };
            let members = take_room(state, bytes_max, &mut bytes);
            // What did not fit is queued again.
            let _ = self.queue_report(state);
            self.forget_if_unused(&mut share, &room);
            drop(share);
            if !members.is_empty() {
                reports.push(RoomReport { room, members });
            }
        }
        reports
    }

    /// Reports that may not have got into the order are to be made again.
    pub fn report_again(&self, reports: &[RoomReport]) {
        for RoomReport { room, members } in reports {
            let mut share = self.share(room).lock();
            // Without presence by its policy the members are gone.
            if let Some(state) = self.find_or_create(&mut share, room) {
                for report in members {
                    state.report_again(report);
                }
                let _ = self.queue_report(state);
            }
        }
    }

    /// All members with connections here are to be reported, because another node does not know them.
    pub fn report_all(&self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for share in &self.shares {
            for state in share.lock().iter_mut() {
                state.report_anew();
                wakers.extend(self.queue_report(state));
            }
        }
        wakers
    }

    /// Applies what this node reported itself, at its place in the order.
    pub fn apply_own(
        &self,
        room: &Arc<Source>,
        members: Vec<MemberReport>,
        position: Offset,
        now: Moment,
    ) -> Vec<Waker> {
        let mut share = self.share(room).lock();
        let Some(state) = self.find(&mut share, room) else {
            return Vec::new();
        };
        for report in members {
            state.apply_own(report, position, &self.stats);
        }
        self.advance(state, now)
    }

    /// Applies what the node `from` reports, at its place in the order.
    pub fn apply_report(
        &self,
        from: NodeId,
        room: &Arc<Source>,
        members: Vec<MemberReport>,
        position: Offset,
        now: Moment,
    ) -> Vec<Waker> {
        let mut share = self.share(room).lock();
        let Some(state) = self.find_or_create(&mut share, room) else {
            return Vec::new();
        };
        for report in members {
            state.apply_report(from, report, (position, self.next_seat()), now, &self.stats);
        }
        let wakers = self.advance(state, now);
        self.forget_if_unused(&mut share, room);
        wakers
    }

    /// That `user` left on this node has its place in the order now, and the other nodes drop it there: if it has come again
    /// meanwhile, they are to be told again.
    pub fn withdrawn(&self, room: &Arc<Source>, user: &Arc<Source>) -> Option<Waker> {
        let mut share = self.share(room).lock();
        let state = self.find(&mut share, room)?;
        state.report_user_anew(user.name());
        self.queue_report(state)
    }

    /// The node `from` has ended: its connections are gone. `teller` tells the application of members that leave by that;
    /// `None` is this node.
    pub fn node_ended(&self, from: NodeId, teller: Option<NodeId>, now: Moment) -> Vec<Waker> {
        let rooms: Vec<_> = self.shares.iter().flat_map(|share| rooms_of(&share.lock())).collect();
        let mut wakers = Vec::new();
        for room in rooms {
            let mut share = self.share(&room).lock();
            if let Some(state) = self.find(&mut share, &room) {
                state.node_ended(from, teller, now, &self.stats);
                wakers.append(&mut self.advance(state, now));
                self.forget_if_unused(&mut share, &room);
            }
        }
        wakers
    }

    /// Queues the room's members that are to be reported.
    pub(super) fn queue_report(&self, state: &mut Room) -> Option<Waker> {
        let room = state.source.clone();
        self.reporting.get()?.queue(&room, state.unreported.as_mut()?)
    }
}

fn rooms_of(share: &super::Share) -> Vec<Arc<Source>> {
    share.iter().map(|state| state.source.clone()).collect()
}

fn gone((room, user): (Arc<Source>, User)) -> RoomReport {
    let user = user.0;
    let (connections, at_once, since, data, shown_at) = (0, true, Moment(0), None, Some(0));
    let members = vec![MemberReport { user, connections, at_once, since, data, shown_at }];
    RoomReport { room, members }
}

/// Takes the members of one room until there are about `bytes_max` bytes.
fn take_room(state: &mut Room, bytes_max: usize, bytes: &mut usize) -> Vec<MemberReport> {
    let mut members = Vec::new();
    if let Some(unreported) = &mut state.unreported {
        unreported.left_queue();
    }
    *bytes += REPORT_BYTES + state.source.name().len();
    while *bytes < bytes_max
        && let Some((user, why)) = state.unreported.as_mut().and_then(Unreported::take)
    {
        let Some(report) = state.report(&user, why) else { continue };
        let shown = report.data.as_ref().map_or(0, |data| data.as_str().len());
        *bytes += REPORT_BYTES + user.name().len() + shown;
        members.push(report);
    }
    members
}
