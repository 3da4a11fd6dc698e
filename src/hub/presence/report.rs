//! What the nodes of an order tell each other of their members.
//!
//! A report says how many connections a member has on one node, and what it shows. It is state, not a change: the newest
//! report of a node about a member replaces the one before it, so a report that is lost or comes twice does no harm once the
//! next one is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::hub::presence::data::PresenceData;
use crate::hub::presence::user::User;
use crate::hub::source::Source;
use crate::types::moment::Moment;
use crate::types::position::Offset;

/// What a node says of one member.
#[derive(Clone, Debug)]
pub struct MemberReport {
    /// The user's inbox.
    pub user: Arc<Source>,
    /// Its connections in the room, on that node.
    pub connections: u32,
    /// Whether it leaves without a grace, if it has no connection left.
    pub at_once: bool,
    /// Since when it is a member.
    pub since: Moment,
    /// What it shows.
    pub data: Option<PresenceData>,
    /// Where in the order it began to show that; `None` if it does with this report.
    pub shown_at: Option<Offset>,
}

/// What a node says of the members of one room.
#[derive(Clone, Debug)]
pub struct RoomReport {
    /// The room.
    pub room: Arc<Source>,
    /// The members.
    pub members: Vec<MemberReport>,
}

/// Where it was asked that a user leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// On this node, which tells the application.
    Here,
    /// On another node.
    Elsewhere {
        /// Whether that node knew the member, and so tells the application.
        knew: bool,
    },
}

/// Why a member is to be reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// Something may have changed.
    Changed,
    /// The other nodes do not know it.
    Anew,
    /// It is no member any more, and the other nodes have it with connections here.
    Gone,
}

/// The members of one room that are to be reported.
#[derive(Debug, Default)]
pub(super) struct Unreported {
    users: BTreeMap<User, Why>,
    /// Connections that the order has of users that are no members any more. Each goes when its end is in the order.
    left_over: BTreeMap<User, u32>,
    /// Whether the other nodes should know now, and not in a second.
    is_urgent: bool,
    /// Whether the room is in the queue.
    is_queued: bool,
}

impl Unreported {
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.left_over.is_empty()
    }

    /// The order has so many connections of `user`, which is no member.
    #[allow(clippy::mutable_key_type, reason = "users are ordered by their names, which never change")]
    pub(super) fn leave_over(&mut self, user: &User, in_order: u32) {
        if in_order > 0 {
            self.left_over.insert(user.clone(), in_order);
        } else {
            self.left_over.remove(user);
        }
    }

    /// The same of `user`, which is a member again.
    pub(super) fn take_over(&mut self, user: &User) -> u32 {
        self.left_over.remove(user).unwrap_or(0)
    }

    #[allow(clippy::mutable_key_type, reason = "users are ordered by their names, which never change")]
    pub(super) fn put(&mut self, user: User, why: Why, is_urgent: bool) {
        let known = self.users.entry(user).or_insert(why);
        *known = match (*known, why) {
            // It came again: the other nodes have it as it was before it went.
            (Why::Gone, Why::Changed) => Why::Anew,
            (known, Why::Changed) => known,
            (_, why) => why,
        };
        self.is_urgent |= is_urgent;
    }

    /// Whether the other nodes may have something else of `user` than was reported last.
    pub(super) fn is_anew(&self, user: &User) -> bool {
        self.users.get(user) == Some(&Why::Anew)
    }

    pub(super) fn take(&mut self) -> Option<(User, Why)> {
        self.users.pop_first()
    }

    /// Whether the room has to be queued now, or its place in the queue made urgent.
    fn wants_place(&mut self) -> Option<bool> {
        if self.users.is_empty() || (self.is_queued && !self.is_urgent) {
            return None;
        }
        let is_urgent = std::mem::take(&mut self.is_urgent);
        self.is_queued = true;
        Some(is_urgent)
    }

    pub(super) fn left_queue(&mut self) {
        self.is_queued = false;
    }
}

/// The rooms with members that are to be reported. Bound: each room once, and each member that is gone with its room once.
#[derive(Debug, Default)]
pub(super) struct Reporting {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    rooms: VecDeque<Arc<Source>>,
    /// Members of rooms that have no presence any more.
    gone: Vec<(Arc<Source>, User)>,
    is_urgent: bool,
    /// Who reports, if nothing was urgent.
    reporter: Option<Waker>,
}

impl Reporting {
    /// Queues `room` if it has something to report. Returns the reporter's waker, to be woken once no lock is held.
    pub(super) fn queue(&self, room: &Arc<Source>, unreported: &mut Unreported) -> Option<Waker> {
        let was_queued = unreported.is_queued;
        let is_urgent = unreported.wants_place()?;
        let mut queue = self.queue.lock();
        if !was_queued {
            queue.rooms.push_back(room.clone());
        }
        queue.wake_if(is_urgent)
    }

    /// The room has no presence any more: what it had to report is kept.
    pub(super) fn keep_gone(&self, room: &Arc<Source>, unreported: &mut Unreported) -> Option<Waker> {
        let gone = std::iter::from_fn(|| unreported.take()).filter(|(_, why)| *why == Why::Gone);
        let gone: Vec<_> = gone.map(|(user, _)| (room.clone(), user)).collect();
        let mut queue = self.queue.lock();
        queue.gone.extend(gone);
        let is_any = !queue.gone.is_empty();
        queue.wake_if(is_any)
    }

    pub(super) fn take_room(&self) -> Option<Arc<Source>> {
        self.queue.lock().rooms.pop_front()
    }

    pub(super) fn take_gone(&self) -> Vec<(Arc<Source>, User)> {
        std::mem::take(&mut self.queue.lock().gone)
    }

    /// Ready if something is to be reported now. Else `waker` is woken then.
    pub(super) fn poll_urgent(&self, waker: &Waker) -> Poll<()> {
        let mut queue = self.queue.lock();
        if std::mem::take(&mut queue.is_urgent) {
            return Poll::Ready(());
        }
        queue.reporter = Some(waker.clone());
        Poll::Pending
    }
}

impl Queue {
    fn wake_if(&mut self, is_urgent: bool) -> Option<Waker> {
        self.is_urgent |= is_urgent;
        if self.is_urgent { self.reporter.take() } else { None }
    }
}
