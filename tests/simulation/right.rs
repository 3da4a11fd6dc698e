//! By what right a listener listens: a token as the model knows it, the server's session made of it, and which of a
//! listener's tokens decides about an event.

use std::sync::Arc;

use tidegate::rights::grant::Grant;
use tidegate::rights::identity::{Identity, KeyId, Session};
use tidegate::types::moment::Moment;
use tidegate::types::name::UserName;
use tidegate::types::position::Offset;

use super::model::To;

/// Names there are for tokens: few, so that several connections came with the same.
pub(crate) const TOKENS: usize = 4;

/// In this time, in seconds since 1970, all tokens were issued.
pub(crate) const ISSUED_UPTO: u64 = 20;

/// What a token allows, of what events require here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pass {
    /// Nothing of it.
    Plain,
    /// The permission `vip` in one room.
    VipOf(usize),
    /// The permission `vip` anywhere.
    Vip,
}

impl Pass {
    /// Whether it may have an event to `to` for vips.
    pub(crate) fn is_vip(self, to: To) -> bool {
        match self {
            Self::Plain => false,
            Self::VipOf(room) => to == To::Room(room),
            Self::Vip => true,
        }
    }

    fn grant(self) -> Grant {
        let permissions = match self {
            Self::Plain => vec!["dj".to_owned(), "vip:elsewhere".to_owned()],
            Self::VipOf(room) => vec![format!("vip:room-{room}")],
            Self::Vip => vec!["vip".to_owned()],
        };
        Grant::parse(permissions.iter().map(String::as_str)).0
    }
}

/// What somebody came with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub pass: Pass,
    /// Its user, who need not be the one it is used for.
    pub owner: Option<usize>,
    /// Its name.
    pub name: Option<usize>,
    /// When it was issued, if it says so, in seconds since 1970.
    pub issued: Option<u64>,
    /// When it is over.
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

/// Whether a listener gets an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// It is owed.
    Must,
    /// Nobody can tell from outside which of two rights decided.
    May,
    /// It is not for this listener.
    No,
}

/// A right, and from where on it decides.
#[derive(Debug)]
struct Turn {
    /// Up to here, events had been decided about when it came.
    after: Offset,
    /// Above, it decides alone. Between the two nobody can tell from outside which right an event was held against: the
    /// shard was in the middle of something when the right came.
    upto: Offset,
    /// How often the listener had been warned of an end when it came.
    warned: usize,
    token: Option<Token>,
}

/// All the rights a listener has had. An event is held against the one there is when it is written, or passed over.
#[derive(Debug)]
pub(crate) struct Rights(Vec<Turn>);

impl Rights {
    /// Those of a newcomer.
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self(vec![Turn { after: 0, upto: 0, warned: 0, token }])
    }

    /// The right it has now.
    pub(crate) fn newest(&self) -> Option<&Token> {
        self.0.last().and_then(|turn| turn.token.as_ref())
    }

    /// Gives it another right after it was `warned` so often. It decides above `upto`, and perhaps above `after`.
    pub(crate) fn change(&mut self, after: Offset, upto: Offset, warned: usize, token: Token) {
        self.0.push(Turn { after, upto, warned, token: Some(token) });
    }

    /// Notes that the newest right decides above `upto` at the latest.
    pub(crate) fn decides_above(&mut self, upto: Offset) {
        let newest = self.0.last_mut().expect("there is always one");
        newest.upto = newest.upto.min(upto).max(newest.after);
    }

    /// How often its listener has been warned of an end: once of the newest right's, as soon as there was time.
    pub(crate) fn warnings(&self) -> usize {
        let ends = self.newest().is_some_and(|token| token.ends.is_some());
        self.0.last().map_or(0, |turn| turn.warned) + usize::from(ends)
    }

    /// What they say of the event with this offset to `to`, for vips.
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
