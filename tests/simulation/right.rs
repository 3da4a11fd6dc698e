//! The rights of a subscriber: a token in the model, the server's session made of it, and which of a subscriber's
//! tokens applies to an event.

use std::sync::Arc;

use tidegate::rights::grant::Grant;
use tidegate::rights::identity::{Identity, KeyId, Session};
use tidegate::types::moment::Moment;
use tidegate::types::name::UserName;
use tidegate::types::position::Offset;

use super::model::To;

/// Number of names for tokens: few, so that several connections use the same token.
pub(crate) const TOKENS: usize = 4;

/// Time by which all tokens were issued, in seconds since 1970.
pub(crate) const ISSUED_UPTO: u64 = 20;

/// What a token allows of the permissions that events require here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pass {
    /// None.
    Plain,
    /// The permission `vip` in one room.
    VipOf(usize),
    /// The permission `vip` in every room.
    Vip,
}

impl Pass {
    /// Returns whether it may have an event to `to` that requires `vip`.
    pub(crate) fn is_vip(self, to: To) -> bool {
        match self {
            Self::Plain => false,
            Self::VipOf(room) => to == To::Room(room),
            Self::Vip => true,
        }
    }

    /// Returns whether it may know who is in this room, and not only how many are.
    pub(crate) fn sees_names(self, room: usize) -> bool {
        self.is_vip(To::Room(room))
    }

    fn grant(self) -> Grant {
        let permissions = match self {
            Self::Plain => vec!["dj".to_owned(), "vip:elsewhere".to_owned()],
            Self::VipOf(room) => vec![format!("vip:room-{room}"), format!("sse:members:room-{room}")],
            Self::Vip => vec!["vip".to_owned(), "sse:members".to_owned()],
        };
        Grant::parse(permissions.iter().map(String::as_str)).0
    }
}

/// The token of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub pass: Pass,
    /// Its user, which may differ from the user of the stream.
    pub owner: Option<usize>,
    /// Its name.
    pub name: Option<usize>,
    /// When it was issued, if it says so, in seconds since 1970.
    pub issued: Option<u64>,
    /// When it expires.
    pub ends: Option<Moment>,
}

impl Token {
    pub(crate) fn session(&self) -> Session {
        let identity = Identity {
            user: self.owner.map(|user| UserName::new(&format!("user-{user}")).unwrap()),
            token: self.name.map(|name| format!("token-{name}").into()),
            issued: self.issued,
            expires: None,
            grant: Arc::new(self.pass.grant()),
            key: KeyId(0),
            api_key: None,
        };
        Session { identity: Arc::new(identity), expires: self.ends }
    }
}

/// Whether a subscriber gets an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// The event is owed.
    Must,
    /// The model cannot tell which of two rights applied.
    May,
    /// The event is not for this subscriber.
    No,
}

/// A right, and from where on it applies.
#[derive(Debug)]
struct Turn {
    /// When it came, rights had been checked for events up to here.
    after: Offset,
    /// Above this offset, it alone applies. Between the two offsets the model cannot tell which right applied to an
    /// event: the shard was busy when the right came.
    upto: Offset,
    /// How many warnings of an end the subscriber had received when it came.
    warned: usize,
    token: Option<Token>,
}

/// All the rights a subscriber has had. An event is checked against the right that exists when it is written or
/// skipped.
#[derive(Debug)]
pub(crate) struct Rights(Vec<Turn>);

impl Rights {
    /// Starts with the right of a new connection.
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self(vec![Turn { after: 0, upto: 0, warned: 0, token }])
    }

    /// Returns its present right.
    pub(crate) fn newest(&self) -> Option<&Token> {
        self.0.last().and_then(|turn| turn.token.as_ref())
    }

    /// Adds another right after `warned` warnings. It applies above `upto`, and perhaps above `after`.
    pub(crate) fn change(&mut self, after: Offset, upto: Offset, warned: usize, token: Token) {
        self.0.push(Turn { after, upto, warned, token: Some(token) });
    }

    /// Records that the newest right applies above `upto` at the latest.
    pub(crate) fn decides_above(&mut self, upto: Offset) {
        let newest = self.0.last_mut().expect("there is always one");
        newest.upto = newest.upto.min(upto).max(newest.after);
    }

    /// Returns how many warnings of an end the subscriber has received: one for the newest right's end, as soon as
    /// there was time.
    pub(crate) fn warnings(&self) -> usize {
        let ends = self.newest().is_some_and(|token| token.ends.is_some());
        self.0.last().map_or(0, |turn| turn.warned) + usize::from(ends)
    }

    /// Returns the claim to an event with this offset to `to` that requires `vip`.
    pub(crate) fn claim(&self, offset: Offset, to: To) -> Claim {
        let (mut may, mut must) = (false, true);
        for (nth, turn) in self.0.iter().enumerate() {
            let is_over = self.0.get(nth + 1).is_some_and(|next| offset > next.upto);
            if offset > turn.after && !is_over {
                let is_vip = turn.token.is_some_and(|token| token.pass.is_vip(to));
                may |= is_vip;
                must &= is_vip;
            }
        }
        match (may, must) {
            (false, _) => Claim::No,
            (true, false) => Claim::May,
            (true, true) => Claim::Must,
        }
    }
}
