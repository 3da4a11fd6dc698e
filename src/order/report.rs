//! What the nodes of an order tell each other: that they are there, who is present on them, and what one asks the others.
//!
//! A report is an entry like others: it has its place in the order, and every node applies it there. It takes one position.

use serde::{Deserialize, Serialize};

use crate::hub::presence::data::PresenceData;
use crate::types::name::{RoomName, UserName};
use crate::types::node::NodeId;
use crate::types::position::Offset;

/// What a node says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Report {
    /// It is there. Every [`HERE_EVERY`](crate::order::nodes::HERE_EVERY).
    Here(NodeInfo),
    /// It has begun, and asks the others for their members.
    Hello,
    /// Everything that the node had when `to` said hello has been reported.
    Told {
        /// Who said hello.
        to: NodeId,
    },
    /// It ends: its connections are gone.
    Bye,
    /// These of its members have changed.
    Members(Vec<RoomSaid>),
    /// A user leaves a room now, on all nodes.
    Withdraw {
        /// The room.
        room: RoomName,
        /// The user.
        user: UserName,
        /// Whether this node knew it as a member, and tells the application.
        knew: bool,
    },
    /// It asks the others.
    Ask {
        /// Of the node's questions, this one.
        number: u64,
        /// What it asks.
        question: Question,
    },
    /// It answers.
    Answer {
        /// Who asked.
        to: NodeId,
        /// Which question.
        number: u64,
        /// The answer.
        answer: Answer,
    },
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeInfo {
    /// Where it listens, for people.
    pub address: String,
    /// When it started, in seconds since 1970.
    pub started_s: u64,
    /// Its connections.
    pub connections: u64,
}

/// What a node says of the members of one room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomSaid {
    /// The room.
    pub room: RoomName,
    /// The members.
    pub members: Vec<MemberSaid>,
}

/// What a node says of a member: see [`MemberReport`](crate::hub::presence::report::MemberReport).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberSaid {
    /// The user.
    pub user: UserName,
    /// Its connections in the room, on that node.
    pub connections: u32,
    /// Whether it leaves without a grace.
    pub at_once: bool,
    /// Since when it is a member, in milliseconds since 1970.
    pub since_ms: u64,
    /// What it shows.
    pub data: Option<PresenceData>,
    /// Where it began to show that; `None` if it does here.
    pub shown_at: Option<Offset>,
}

/// What a node asks the others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Question {
    /// Which of these users have a stream.
    Online(Vec<UserName>),
    /// How many streams a room has.
    Subscribers(RoomName),
}

/// What a node answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Answer {
    /// The indices of the users that have a stream.
    Online(Vec<u16>),
    /// So many streams.
    Subscribers(u64),
}

/// A report as it is written. Variants are only ever added at the end.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum ReportItem<'a> {
    Here(NodeInfo),
    Hello,
    Told(NodeId),
    Bye,
    #[serde(borrow)]
    Members(Vec<RoomItem<'a>>),
    Withdraw(&'a str, &'a str, bool),
    AskOnline(u64, Vec<&'a str>),
    AskSubscribers(u64, &'a str),
    Answer(NodeId, u64, Answer),
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct RoomItem<'a> {
    room: &'a str,
    #[serde(borrow)]
    members: Vec<MemberItem<'a>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct MemberItem<'a> {
    user: &'a str,
    connections: u32,
    at_once: bool,
    since_ms: u64,
    data: Option<&'a str>,
    shown_at: Option<u64>,
}

impl<'a> From<&'a Report> for ReportItem<'a> {
    fn from(report: &'a Report) -> Self {
        match report {
            Report::Here(info) => Self::Here(info.clone()),
            Report::Hello => Self::Hello,
            Report::Told { to } => Self::Told(*to),
            Report::Bye => Self::Bye,
            Report::Members(rooms) => Self::Members(rooms.iter().map(RoomItem::from).collect()),
            Report::Withdraw { room, user, knew } => Self::Withdraw(room.as_str(), user.as_str(), *knew),
            Report::Ask { number, question: Question::Online(users) } => {
                Self::AskOnline(*number, users.iter().map(UserName::as_str).collect())
            }
            Report::Ask { number, question: Question::Subscribers(room) } => {
                Self::AskSubscribers(*number, room.as_str())
            }
            Report::Answer { to, number, answer } => Self::Answer(*to, *number, answer.clone()),
        }
    }
}

impl<'a> From<&'a RoomSaid> for RoomItem<'a> {
    fn from(said: &'a RoomSaid) -> Self {
        let member = |said: &'a MemberSaid| MemberItem {
            user: said.user.as_str(),
            connections: said.connections,
            at_once: said.at_once,
            since_ms: said.since_ms,
            data: said.data.as_ref().map(PresenceData::as_str),
            shown_at: said.shown_at,
        };
        Self { room: said.room.as_str(), members: said.members.iter().map(member).collect() }
    }
}

impl ReportItem<'_> {
    /// The report. `None` if a name or a value in it is not allowed.
    pub(super) fn report(self) -> Option<Report> {
        Some(match self {
            Self::Here(info) => Report::Here(info),
            Self::Hello => Report::Hello,
            Self::Told(to) => Report::Told { to },
            Self::Bye => Report::Bye,
            Self::Members(rooms) => Report::Members(rooms.iter().map(RoomItem::said).collect::<Option<_>>()?),
            Self::Withdraw(room, user, knew) => {
                Report::Withdraw { room: RoomName::new(room).ok()?, user: UserName::new(user).ok()?, knew }
            }
            Self::AskOnline(number, users) => {
                let users = users.into_iter().map(|user| UserName::new(user).ok()).collect::<Option<_>>()?;
                Report::Ask { number, question: Question::Online(users) }
            }
            Self::AskSubscribers(number, room) => {
                Report::Ask { number, question: Question::Subscribers(RoomName::new(room).ok()?) }
            }
            Self::Answer(to, number, answer) => Report::Answer { to, number, answer },
        })
    }
}

impl RoomItem<'_> {
    fn said(&self) -> Option<RoomSaid> {
        let members = self.members.iter().map(MemberItem::said).collect::<Option<_>>()?;
        Some(RoomSaid { room: RoomName::new(self.room).ok()?, members })
    }
}

impl MemberItem<'_> {
    fn said(&self) -> Option<MemberSaid> {
        Some(MemberSaid {
            user: UserName::new(self.user).ok()?,
            connections: self.connections,
            at_once: self.at_once,
            since_ms: self.since_ms,
            data: self.data.map(PresenceData::new).transpose().ok()?,
            shown_at: self.shown_at,
        })
    }
}
