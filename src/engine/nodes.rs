//! The nodes of a shared order: what they tell each other of themselves and their members, and what one asks the others.
//!
//! Each node reports the members that have connections on it; all apply what all report, at its place in the order. A node that
//! starts says hello, and the others report all of theirs. So nothing of this is kept anywhere but in the nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::hub::presence::report::{By, MemberReport, RoomReport};
use crate::hub::source::Source;
use crate::order::nodes::Nodes;
use crate::order::report::{Answer, MemberSaid, NodeInfo, Question, Report, RoomSaid};
use crate::types::clock::since_1970;
use crate::types::moment::Moment;
use crate::types::name::{RoomName, UserName};
use crate::types::node::NodeId;
use crate::types::position::Offset;

/// Bytes of members in one report, about.
pub(super) const REPORT_BYTES: usize = 256 << 10;

/// Answers to other nodes that wait to be sent. The next is dropped: who asked is told that an answer is missing.
const ANSWERS_MAX: usize = 1024;

/// Questions of this node that wait for answers. The next is answered by this node alone, and says so.
const QUESTIONS_MAX: usize = 256;

/// What this node knows of the others, and is about to tell them.
#[derive(Debug)]
pub struct Peers {
    /// This node.
    pub me: NodeId,
    started_s: u64,
    nodes: Mutex<Nodes>,
    /// Told when a node has told of its members, or a question is answered.
    pub(super) changed: Notify,
    /// Told when something waits to be told to the others.
    pub(super) urgent: Notify,
    hellos: Mutex<BTreeSet<NodeId>>,
    /// Whether this node is to say hello again.
    asks_anew: AtomicBool,
    answers: Mutex<VecDeque<Report>>,
    questions: Mutex<Questions>,
}

#[derive(Debug, Default)]
struct Questions {
    newest: u64,
    open: BTreeMap<u64, Open>,
}

/// A question that waits for answers.
#[derive(Debug)]
struct Open {
    waiting: BTreeSet<NodeId>,
    answers: Vec<Answer>,
}

/// A place in the order, and the time of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) position: Offset,
    pub(super) time_ms: u64,
    /// Whether everything before it was news, and not read at the start.
    pub(super) is_live: bool,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            me: NodeId(fastrand::u64(..)),
            started_s: since_1970().as_secs(),
            nodes: Mutex::default(),
            changed: Notify::new(),
            urgent: Notify::new(),
            hellos: Mutex::default(),
            asks_anew: AtomicBool::new(false),
            answers: Mutex::default(),
            questions: Mutex::default(),
        }
    }
}

impl Peers {
    /// All nodes of the order, this one included, and what they say of themselves.
    #[must_use]
    pub fn all(&self) -> Vec<(NodeId, NodeInfo)> {
        self.nodes.lock().all().map(|(id, info)| (id, info.clone())).collect()
    }

    /// Whether every other node has told this one of its members.
    pub(super) fn all_have_told(&self) -> bool {
        self.nodes.lock().all_have_told(self.me)
    }

    /// What this node says of itself.
    pub(super) fn here(&self, engine: &Engine) -> Report {
        let address = engine.config.listen.first().map(|listen| listen.address.to_string());
        let connections = engine.hub.connections().into();
        Report::Here(NodeInfo {
            address: address.unwrap_or_default(),
            started_s: self.started_s,
            connections,
        })
    }

    /// Asks the others again for their members: what they have told may count now.
    pub fn ask_anew(&self) {
        self.asks_anew.store(true, Ordering::Relaxed);
        self.urgent.notify_one();
    }

    pub(super) fn take_asks_anew(&self) -> bool {
        self.asks_anew.swap(false, Ordering::Relaxed)
    }

    /// Takes the nodes that said hello.
    pub(super) fn take_hellos(&self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.hellos.lock())
    }

    pub(super) fn take_answer(&self) -> Option<Report> {
        self.answers.lock().pop_front()
    }

    /// Opens a question, and returns its number; `None` if there are too many.
    pub(super) fn open(&self) -> Option<u64> {
        let waiting = self.nodes.lock().all().map(|(id, _)| id).filter(|id| *id != self.me).collect();
        let mut questions = self.questions.lock();
        if questions.open.len() >= QUESTIONS_MAX {
            return None;
        }
        questions.newest += 1;
        let number = questions.newest;
        questions.open.insert(number, Open { waiting, answers: Vec::new() });
        Some(number)
    }

    pub(super) fn is_answered(&self, number: u64) -> bool {
        self.questions.lock().open.get(&number).is_none_or(|open| open.waiting.is_empty())
    }

    /// Closes a question: the answers, and how many nodes did not answer.
    pub(super) fn close(&self, number: u64) -> (Vec<Answer>, usize) {
        let open = self.questions.lock().open.remove(&number);
        open.map_or((Vec::new(), 0), |open| (open.answers, open.waiting.len()))
    }

    /// Applies what the node `from` said, at its place in the order.
    pub(super) fn apply(&self, engine: &Engine, from: NodeId, report: Report, place: Place) {
        let is_mine = from == self.me;
        let ended = self.nodes.lock().heard(from, place.time_ms);
        for node in ended {
            self.ended(engine, node);
        }
        match report {
            Report::Here(info) => self.nodes.lock().is(from, info),
            Report::Hello if is_mine || !place.is_live => {}
            Report::Hello => {
                self.hellos.lock().insert(from);
                self.urgent.notify_one();
            }
            Report::Told { to } if to == self.me => {
                self.nodes.lock().has_told(from);
                self.changed.notify_waiters();
            }
            Report::Bye => {
                self.nodes.lock().ended(from);
                self.ended(engine, from);
                self.changed.notify_waiters();
            }
            Report::Members(rooms) => {
                for room in rooms {
                    self.members(engine, from, room, place);
                }
            }
            Report::Withdraw { room, user, .. } if is_mine => withdrawn(engine, &room, &user),
            Report::Withdraw { room, user, knew } => withdraw(engine, &room, &user, By::Elsewhere { knew }),
            Report::Ask { number, question } => {
                if place.is_live && !is_mine {
                    self.answer(Report::Answer { to: from, number, answer: answer(engine, &question) });
                }
            }
            Report::Answer { to, number, answer } if to == self.me => self.answered(from, number, answer),
            // Between others.
            Report::Told { .. } | Report::Answer { .. } => {}
        }
    }

    fn ended(&self, engine: &Engine, node: NodeId) {
        if node == self.me {
            // The others believe that this node has ended: it was not heard of for too long.
            return wake(engine.hub.presence().report_all());
        }
        let first = self.nodes.lock().first();
        let teller = first.filter(|first| *first != self.me);
        wake(engine.hub.presence().node_ended(node, teller, engine.clock.now()));
    }

    fn members(&self, engine: &Engine, from: NodeId, said: RoomSaid, place: Place) {
        let RoomSaid { room, members } = said;
        let (hub, now) = (&engine.hub, engine.clock.now());
        let is_mine = from == self.me;
        let is_any = members.iter().any(|said| said.connections > 0);
        let room = if is_mine || !is_any {
            hub.rooms().get(room.as_str())
        } else if hub.rooms().policy_of(room.as_str()).presence.is_some() {
            Some(hub.rooms().get_or_create(room.as_str()))
        } else {
            None
        };
        let Some(room) = room else { return };
        let now_ms = unix_ms();
        let members = members.into_iter().filter_map(|said| heard(engine, said, (now, now_ms))).collect();
        let position = place.position;
        wake(if is_mine {
            hub.presence().apply_own(&room, members, position, now)
        } else {
            hub.presence().apply_report(from, &room, members, position, now)
        });
    }

    fn answer(&self, answer: Report) {
        let mut answers = self.answers.lock();
        if answers.len() < ANSWERS_MAX {
            answers.push_back(answer);
        }
        drop(answers);
        self.urgent.notify_one();
    }

    fn answered(&self, from: NodeId, number: u64, answer: Answer) {
        if let Some(open) = self.questions.lock().open.get_mut(&number)
            && open.waiting.remove(&from)
        {
            open.answers.push(answer);
        }
        self.changed.notify_waiters();
    }
}

fn withdraw(engine: &Engine, room: &RoomName, user: &UserName, by: By) {
    if let (Some(room), Some(user)) =
        (engine.hub.rooms().get(room.as_str()), engine.hub.users().get(user.as_str()))
    {
        wake(engine.hub.presence().withdraw(&room, &user, by, engine.clock.now()));
    }
}

fn withdrawn(engine: &Engine, room: &RoomName, user: &UserName) {
    if let (Some(room), Some(user)) =
        (engine.hub.rooms().get(room.as_str()), engine.hub.users().get(user.as_str()))
    {
        wake(engine.hub.presence().withdrawn(&room, &user).into_iter().collect());
    }
}

/// This node's answer.
pub(super) fn answer(engine: &Engine, question: &Question) -> Answer {
    match question {
        Question::Online(users) => {
            let online = (0..).zip(users).filter(|(_, user)| has_stream(engine, user));
            Answer::Online(online.map(|(index, _)| index).collect())
        }
        Question::Subscribers(room) => {
            let room = engine.hub.rooms().get(room.as_str());
            Answer::Subscribers(room.map_or(0, |room| room.connections().into()))
        }
    }
}

fn has_stream(engine: &Engine, user: &UserName) -> bool {
    engine.hub.users().get(user.as_str()).is_some_and(|inbox| inbox.connections() > 0)
}

/// What a node said of a member, with this node's sources and moments.
fn heard(engine: &Engine, said: MemberSaid, (now, now_ms): (Moment, u64)) -> Option<MemberReport> {
    let MemberSaid { user, connections, at_once, since_ms, data, shown_at } = said;
    let users = engine.hub.users();
    // Somebody who is gone, and of whom nothing is known here, needs no place.
    let user = if connections == 0 { users.get(user.as_str())? } else { users.get_or_create(user.as_str()) };
    let since = now.before(Duration::from_millis(now_ms.saturating_sub(since_ms)));
    Some(MemberReport { user, connections, at_once, since, data, shown_at })
}

/// What this node says of its members.
pub(super) fn said(reports: &[RoomReport], now: Moment) -> Report {
    let now_ms = unix_ms();
    let member = |report: &MemberReport| {
        let since = u64::try_from(now.since(report.since).as_millis()).unwrap_or(u64::MAX);
        Some(MemberSaid {
            user: UserName::new(report.user.name()).ok()?,
            connections: report.connections,
            at_once: report.at_once,
            since_ms: now_ms.saturating_sub(since),
            data: report.data.clone(),
            shown_at: report.shown_at,
        })
    };
    let room = |report: &RoomReport| {
        let members = report.members.iter().filter_map(member).collect();
        Some(RoomSaid { room: name_of(&report.room)?, members })
    };
    Report::Members(reports.iter().filter_map(room).collect())
}

fn name_of(room: &Arc<Source>) -> Option<RoomName> {
    RoomName::new(room.name()).ok()
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}
