//! The state of one room: its members, what its streams know of them, and when they are told.

mod elsewhere;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::hub::presence::change::Seat;
use crate::hub::presence::data::PresenceData;
use crate::hub::presence::due::Place;
use crate::hub::presence::graces::Graces;
use crate::hub::presence::member::Member;
use crate::hub::presence::message::{self, Diff, Listed, Named, Totals};
use crate::hub::presence::notice::PresenceKind;
use crate::hub::presence::pending::{Pending, Step, Unsent};
use crate::hub::presence::report::Unreported;
use crate::hub::presence::sent::{MESSAGES_KEPT_FOR, Message, Messages, Sent, Told, View};
use crate::hub::presence::stats::{PresenceStats, Suppressed};
use crate::hub::presence::user::User;
use crate::hub::presence::{MemberInfo, Page, State};
use crate::hub::room_policy::PresencePolicy;
use crate::hub::source::Source;
use crate::types::moment::Moment;
use crate::types::node::NodeId;
use crate::types::rate::Rate;

/// Changes of data that one member may make: some at once, then one a second.
pub const PUT_RATE: Rate = Rate { events: 5, per: Duration::from_secs(5) };

/// Intervals from one count to the next message.
pub const COUNT_INTERVALS: u32 = 5;

/// One room with presence.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) source: Arc<Source>,
    policy: PresencePolicy,
    /// Whether the application is told.
    is_told: bool,
    members: BTreeMap<User, Member>,
    graces: Graces,
    /// Connections of members.
    connections: u32,
    /// Shards with streams that see presence here, by number.
    watching: Vec<usize>,
    /// What the last message left the streams with that may see names.
    view: View,
    /// The newest message.
    newest: Told,
    /// Members as of the last message.
    members_told: usize,
    sent: Sent,
    /// When the last message was, and whether it was a count.
    last: Option<(Moment, bool)>,
    pending: Pending,
    /// The newest change.
    step: Step,
    /// The newest change that a state has shown.
    shown: Step,
    /// Its place among the rooms that are due.
    pub(super) place: Option<Place>,
    /// Who tells the application, to be woken once no lock is held.
    pub(super) teller: Option<Waker>,
    /// What the other nodes are to be told; `None` if there are none.
    pub(super) unreported: Option<Unreported>,
}

/// What a [`Room::settle`] has to pass on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// The shards have a message, or a state, to send.
    ForShards,
}

impl Room {
    /// A room without members, in a `life` of its own.
    pub(super) fn new(source: Arc<Source>, policy: PresencePolicy, is_told: bool, life: u64) -> Self {
        let view = if policy.names { View::Names } else { View::Counts };
        Self {
            source,
            policy,
            is_told,
            members: BTreeMap::new(),
            graces: Graces::default(),
            connections: 0,
            watching: Vec::new(),
            view,
            newest: Told { life, rev: 0 },
            members_told: 0,
            sent: Sent::default(),
            last: None,
            pending: nothing(view),
            step: 0,
            shown: 0,
            place: None,
            teller: None,
            unreported: None,
        }
    }

    /// Notes that `shard` has streams that see presence here, or has none any more.
    pub(super) fn watch(&mut self, shard: usize, is_watching: bool) {
        self.watching.retain(|other| *other != shard);
        if is_watching {
            self.watching.push(shard);
        }
    }

    pub(super) fn watching(&self) -> &[usize] {
        &self.watching
    }

    /// Whether nothing would be lost without it.
    pub(super) fn is_unused(&self) -> bool {
        let is_told = self.unreported.as_ref().is_none_or(Unreported::is_empty);
        self.members.is_empty() && self.watching.is_empty() && is_told
    }

    /// A stream of `user` has begun.
    pub(super) fn enter(&mut self, user: &Arc<Source>, seat: Seat, now: Moment, stats: &PresenceStats) {
        if let Some(member) = self.members.get_mut(user.name()) {
            if member.connections() == 0 {
                stats.suppress(Suppressed::Grace);
            }
            member.here += 1;
        } else {
            if !stats.admit(user) {
                return;
            }
            if self.members.is_empty() {
                self.note(PresenceKind::Occupied, None, stats);
            }
            self.note(PresenceKind::Join, Some(user), stats);
            self.insert(User(user.clone()), Member::new(seat, now));
        }
        self.connections += 1;
        self.changed_here(user.name());
    }

    fn insert(&mut self, user: User, mut member: Member) {
        let in_order = self.unreported.as_mut().map_or(0, |unreported| unreported.take_over(&user));
        if in_order > 0 {
            let elsewhere = member.elsewhere_mut();
            (elsewhere.in_order, elsewhere.was_in_order) = (in_order, true);
        }
        self.step += 1;
        self.pending.entered(&user, self.step);
        self.members.insert(user, member);
        self.bound_pending();
    }

    /// A stream of `user` with this `seat` has ended.
    pub(super) fn leave(
        &mut self,
        user: &str,
        seat: Seat,
        at_once: bool,
        now: Moment,
        stats: &PresenceStats,
    ) {
        let Some(member) = self.members.get_mut(user) else {
            return;
        };
        if seat < member.seat || member.here == 0 {
            return;
        }
        member.here -= 1;
        let is_elsewhere = member.connections() > 0;
        self.connections -= 1;
        self.changed_here(user);
        if !is_elsewhere {
            self.went(user, None, at_once, now, stats);
        }
    }

    /// The last connection of `user` went, which was on the node `last_on`, or on this one: its grace begins, or it leaves.
    fn went(
        &mut self,
        user: &str,
        last_on: Option<NodeId>,
        at_once: bool,
        now: Moment,
        stats: &PresenceStats,
    ) {
        let Some(member) = self.members.get_mut(user) else {
            return;
        };
        member.gone = now;
        if last_on.is_some() || member.elsewhere().is_some() {
            member.elsewhere_mut().last_on = last_on;
        }
        if at_once || self.policy.grace.is_zero() {
            self.remove(user, last_on.is_none(), stats);
        } else if !member.is_queued {
            member.is_queued = true;
            let end = now + self.policy.grace;
            if let Some((user, _)) = self.members.get_key_value(user) {
                self.graces.push(end, user.clone());
            }
            if self.graces.is_too_large(self.members.len()) {
                self.queue_graces();
            }
        }
    }

    pub(super) fn has(&self, user: &str) -> bool {
        self.members.contains_key(user)
    }

    /// When `user` may change its data, and counts this change if that is now. `None` if it is no member.
    pub(super) fn take_put(&mut self, user: &str, now: Moment) -> Option<Moment> {
        let limiter = self.members.get_mut(user)?.limiter();
        let next = limiter.next(PUT_RATE, now);
        if next <= now {
            limiter.take(PUT_RATE, 1, now);
        }
        Some(next)
    }

    /// `user` shows `data`, if it is a member and all members together do not show too much. Returns false if they do.
    pub(super) fn put(&mut self, user: &str, data: Option<PresenceData>, stats: &PresenceStats) -> bool {
        let Some(member) = self.members.get_mut(user) else {
            return true;
        };
        if !stats.show(data.as_ref(), PresenceData::len_of(member.data())) {
            return false;
        }
        if self.unreported.is_some() {
            member.elsewhere_mut().is_fresh = true;
        }
        self.set_data(user, data, stats);
        self.shown_here(user);
        true
    }

    /// `user` shows `data`, which is counted already.
    fn set_data(&mut self, user: &str, data: Option<PresenceData>, stats: &PresenceStats) {
        let Some(member) = self.members.get_mut(user) else {
            return;
        };
        let had_data = member.data().is_some();
        if !member.set_data(data) {
            stats.suppress(Suppressed::Cancelled);
            return;
        }
        self.step += 1;
        if let Some((user, _)) = self.members.get_key_value(user) {
            self.pending.updated(user, had_data, self.step);
        }
        self.bound_pending();
    }

    /// `user` is no member from now on, whatever streams it has. The application is told, if this node tells it.
    pub(super) fn remove(&mut self, user: &str, tells: bool, stats: &PresenceStats) {
        let Some((user, member)) = self.members.remove_entry(user) else {
            return;
        };
        stats.dismiss(&user.0, member.data());
        self.connections -= member.connections();
        self.removed_here(&user, &member);
        self.step += 1;
        if self.pending.left(&user, member.data().is_some(), self.step, self.shown) {
            stats.suppress(Suppressed::Cancelled);
        }
        self.bound_pending();
        if !tells {
            return;
        }
        self.note(PresenceKind::Leave, Some(&user.0), stats);
        if self.members.is_empty() {
            self.note(PresenceKind::Vacated, None, stats);
        }
    }

    fn note(&mut self, kind: PresenceKind, user: Option<&Arc<Source>>, stats: &PresenceStats) {
        if self.is_told
            && let Some(teller) = stats.note(kind, &self.source, user)
        {
            self.teller = Some(teller);
        }
    }

    /// Keeps no more names for the next message than members can be named, twice: so many may have left while as many
    /// came. Beyond that a fresh state is shorter.
    fn bound_pending(&mut self) {
        let max = self.policy.members_max;
        self.pending.bound(max.saturating_mul(2), self.members.len() > max, self.step);
    }

    /// Ends the graces that have ended by `now`.
    pub(super) fn end_graces(&mut self, now: Moment, stats: &PresenceStats) {
        while let Some(user) = self.graces.take(now) {
            let Some(member) = self.members.get_mut(user.name()) else { continue };
            let end = member.gone + self.policy.grace;
            if member.connections() > 0 {
                member.is_queued = false;
            } else if end > now {
                // It came back and went again.
                self.graces.push(end, user);
            } else {
                let tells = member.went_here();
                self.remove(user.name(), tells, stats);
            }
        }
    }

    /// Computes all ends of graces anew.
    fn queue_graces(&mut self) {
        let grace = self.policy.grace;
        let ends = self.members.iter_mut().filter_map(|(user, member)| {
            member.is_queued = member.connections() == 0;
            member.is_queued.then(|| (member.gone + grace, user.clone()))
        });
        self.graces.replace(ends);
    }

    /// Makes the next message, if there is one and its time has come.
    pub(super) fn settle(&mut self, now: Moment, stats: &PresenceStats) -> News {
        if self.last.is_some_and(|(at, _)| at + MESSAGES_KEPT_FOR <= now) {
            self.sent.clear();
        }
        if self.pending.is_empty() || now < self.allowed_at() {
            return News::None;
        }
        let next = self.next_view();
        let message = match (self.view, next, std::mem::replace(&mut self.pending, nothing(next))) {
            // Nobody would get it. Whoever comes begins with a state.
            _ if self.watching.is_empty() => None,
            (View::Names, View::Names, Pending::Names(users)) => {
                let Some(message) = self.diff(&users, stats) else { return News::None };
                Some(message)
            }
            (_, View::Names, _) => None,
            (View::Counts, View::Counts, Pending::Total(first))
                if self.members_told == self.members.len()
                    && first.is_none_or(|first| self.shown < first) =>
            {
                stats.suppress(Suppressed::Cancelled);
                return News::None;
            }
            (_, View::Counts, _) => Some(self.count()),
        };
        self.record(message, next, now)
    }

    /// Takes `message` as the newest. Without one, streams need a fresh state.
    fn record(&mut self, message: Option<Message>, view: View, now: Moment) -> News {
        self.view = view;
        self.newest.rev += 1;
        self.members_told = self.members.len();
        match message {
            Some(message) => self.sent.push(message),
            None => self.sent.clear(),
        }
        if self.watching.is_empty() {
            return News::None;
        }
        self.last = Some((now, view == View::Counts));
        News::ForShards
    }

    /// What streams that may see names should see now. The way back to names begins further down, so that one member
    /// who comes and goes does not switch it each time.
    fn next_view(&self) -> View {
        let (members, max) = (self.members.len(), self.policy.members_max);
        let fits = match self.view {
            View::Names => members <= max,
            View::Counts => members.saturating_mul(5) < max.saturating_mul(4),
        };
        if self.policy.names && fits { View::Names } else { View::Counts }
    }

    /// When the next message may go.
    fn allowed_at(&self) -> Moment {
        let Some((at, was_count)) = self.last else {
            return Moment(0);
        };
        at + self.policy.interval * if was_count { COUNT_INTERVALS } else { 1 }
    }

    /// When there is something to do by the clock.
    pub(super) fn due(&self) -> Option<Moment> {
        let message = (!self.pending.is_empty()).then(|| self.allowed_at());
        let forget = self.last.filter(|_| !self.sent.is_empty()).map(|(at, _)| at + MESSAGES_KEPT_FOR);
        [message, forget, self.graces.first()].into_iter().flatten().min()
    }

    fn totals(&self, rev: u64) -> Totals {
        Totals { rev, total: self.members.len(), connections: self.connections }
    }

    fn count(&self) -> Message {
        let rev = self.newest.rev + 1;
        Message::count(rev, message::count(self.source.name(), self.totals(rev)))
    }

    /// The differences of `users` to what the last message left; `None` if there are none.
    #[allow(clippy::mutable_key_type, reason = "users are ordered by their names, which never change")]
    fn diff(&self, users: &BTreeMap<User, Unsent>, stats: &PresenceStats) -> Option<Message> {
        let mut diff = Diff::default();
        for (user, unsent) in users {
            let was_shown = self.shown >= unsent.first;
            let user = user.name();
            match self.members.get(user) {
                Some(member) => {
                    let named = Named { user, data: member.data() };
                    let is_same = unsent.was && !was_shown && !unsent.had_data && named.data.is_none();
                    match (unsent.entered, unsent.was) {
                        (true, true) if is_same => stats.suppress(Suppressed::Cancelled),
                        (true, _) => diff.join.push(named),
                        (false, _) => diff.update.push(named),
                    }
                }
                None if unsent.was || was_shown => diff.leave.push(user),
                None => stats.suppress(Suppressed::Cancelled),
            }
        }
        if diff.is_empty() {
            return None;
        }
        let (name, rev) = (self.source.name(), self.newest.rev + 1);
        let totals = self.totals(rev);
        let counts = diff.moves().then(|| message::count(name, totals));
        Some(Message::diff(rev, message::diff(name, totals, &diff), counts))
    }

    /// What a stream with this view begins with. Shows what is pending as well.
    pub(super) fn state(&mut self, view: View, now: Moment) -> State {
        self.shown = self.step;
        let (name, totals) = (self.source.name(), self.totals(self.newest.rev));
        // Where names are not kept for the next message, it is a count or makes everybody get a state. So a stream
        // that begins with a count here gets no diff without a state before it.
        let is_named = view == View::Names && matches!(self.pending, Pending::Names(_));
        let bytes = if is_named {
            let listed = self.members.iter().map(|(user, member)| Listed {
                member: Named { user: user.name(), data: member.data() },
                since_s: now.since(member.since).as_secs(),
                connections: member.connections(),
            });
            message::state(name, totals, listed)
        } else {
            message::count(name, totals)
        };
        State { told: self.newest, bytes }
    }

    pub(super) fn messages_after(&self, told: Told) -> Messages {
        self.sent.after(told, self.newest)
    }

    /// The number of the message from which on everything up to now is told.
    pub(super) fn told_by(&self) -> u64 {
        self.newest.rev + u64::from(!self.pending.is_empty())
    }

    /// Members after `after`, in the order of their names.
    pub(super) fn page(&self, after: Option<&str>, limit: usize, bytes_max: usize, now: Moment) -> Page {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.members.range::<str, _>((start, Bound::Unbounded)).peekable();
        let Totals { rev, total, connections } = self.totals(self.newest.rev);
        let mut page = Page { rev, total, connections, members: Vec::new(), has_more: false };
        let mut bytes = 0;
        while page.members.len() < limit && bytes < bytes_max {
            let Some((user, member)) = rest.next() else { break };
            let data = member.data().cloned();
            bytes += MEMBER_BYTES + user.name().len() + data.as_ref().map_or(0, |data| data.as_str().len());
            let since = now.since(member.since);
            page.members.push(MemberInfo {
                user: user.0.clone(),
                since,
                connections: member.connections(),
                data,
            });
        }
        page.has_more = rest.peek().is_some();
        page
    }

    /// Follows a policy that has changed.
    pub(super) fn set_policy(&mut self, policy: PresencePolicy, is_told: bool) {
        self.is_told = is_told;
        if self.policy == policy {
            return;
        }
        self.policy = policy;
        self.queue_graces();
        self.bound_pending();
        if self.next_view() != self.view && self.pending.is_empty() {
            self.step += 1;
            self.pending = Pending::Total(Some(self.step));
        } else if self.next_view() == View::Counts {
            self.pending.bound(0, false, self.step);
        }
    }

    /// Ends the membership of all: the room has no presence any more.
    pub(super) fn clear(&mut self, stats: &PresenceStats) {
        while let Some((user, member)) = self.members.first_key_value() {
            let (user, tells) = (user.clone(), member.here > 0 || member.went_here());
            self.remove(user.name(), tells, stats);
        }
    }
}

/// Bytes of a member in a page, without its name and data, at most.
const MEMBER_BYTES: usize = 64;

/// No changes, for streams with this view.
fn nothing(view: View) -> Pending {
    match view {
        View::Names => Pending::Names(BTreeMap::new()),
        View::Counts => Pending::Total(None),
    }
}

#[cfg(test)]
impl Room {
    /// Ends of graces that are kept, those out of date included.
    pub(super) fn graces_queued(&self) -> usize {
        self.graces.len()
    }
}
