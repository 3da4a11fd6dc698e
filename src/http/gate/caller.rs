//! The sender of a request, and what it may do. Every route asks here, and nowhere else.
//!
//! A bad credential is never ignored: a client that shows one is refused, even at a public room.

use std::sync::Arc;

use crate::answer::problem::{Code, Problem};
use crate::auth::authority::Authority;
use crate::engine::access::Access;
use crate::hub::draft::{Draft, Target};
use crate::rights::grant::Action;
use crate::rights::identity::Identity;
use crate::types::name::UserName;

/// The sender of a request.
#[derive(Clone, Debug)]
pub enum Caller {
    /// No authentication is set up, so everything is allowed.
    Open,
    /// Authentication is set up, and no credential of the request was verified.
    Anonymous(Arc<Authority>),
    /// The request's credential was accepted.
    Known(Arc<Authority>, Arc<Identity>),
}

impl Caller {
    /// Checks that the caller may do `action`.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthorized`] if a token could allow it, [`Code::Forbidden`] if the caller's token does not.
    pub fn may(&self, action: Action<'_>) -> Result<(), Problem> {
        let is_open =
            |authority: &Authority| matches!(action, Action::Read(room) if authority.is_public(room));
        match self {
            Self::Open => Ok(()),
            Self::Anonymous(authority) if is_open(authority) => Ok(()),
            Self::Anonymous(_) => Err(Code::Unauthorized.into()),
            Self::Known(authority, identity) if identity.allows(action) || is_open(authority) => Ok(()),
            Self::Known(..) => Err(Code::Forbidden.into()),
        }
    }

    /// Checks that the caller may publish anything at all, before its body is read.
    ///
    /// # Errors
    ///
    /// As [`Self::may`].
    pub fn may_publish_something(&self) -> Result<(), Problem> {
        match self {
            Self::Open => Ok(()),
            Self::Anonymous(_) => Err(Code::Unauthorized.into()),
            Self::Known(_, identity) if identity.grant.may_publish() => Ok(()),
            Self::Known(..) => Err(Code::Forbidden.into()),
        }
    }

    /// Checks that the caller may publish `draft`.
    ///
    /// # Errors
    ///
    /// As [`Self::may`]; [`Code::RequireUnsupported`] if the draft requires a permission and no authentication is set
    /// up.
    pub fn may_publish(&self, draft: &Draft) -> Result<(), Problem> {
        if draft.require.is_some() && matches!(self, Self::Open) {
            return Err(Code::RequireUnsupported.into());
        }
        self.may(match &draft.target {
            Target::Room(room) => Action::Publish(room.as_str()),
            Target::User(_) | Target::All => Action::PublishAnywhere,
        })
    }

    /// Returns the user of the caller's stream if it asks for `asked`: the credential's user, unless the caller may
    /// choose.
    ///
    /// # Errors
    ///
    /// As [`Self::may`]. A caller without credential may not name a user: with a name come the events for that user.
    pub fn listens_as(&self, asked: Option<UserName>) -> Result<Option<UserName>, Problem> {
        match (self, asked) {
            (Self::Open, asked) => Ok(asked),
            (Self::Anonymous(_), None) => Ok(None),
            (Self::Anonymous(_), Some(_)) => Err(Code::Unauthorized.into()),
            (Self::Known(_, identity), None) => Ok(identity.user.clone()),
            (Self::Known(_, identity), Some(asked)) => {
                if identity.user.as_ref() != Some(&asked) {
                    self.may(Action::ListenAs(asked.as_str()))?;
                }
                Ok(Some(asked))
            }
        }
    }

    /// Checks that the caller of a long request is still accepted.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthorized`] if its token has expired or was revoked, its key was removed, or authentication was set
    /// up since.
    pub fn is_still_known(&self, access: &Access) -> Result<(), Problem> {
        let policy = access.policy.load();
        let is_known = match self {
            Self::Open => policy.authority.is_none(),
            Self::Anonymous(_) => true,
            Self::Known(_, identity) => policy.trusts(identity) && !access.is_over(identity),
        };
        if is_known { Ok(()) } else { Err(Code::Unauthorized.into()) }
    }

    /// The verified identity, if there is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Known(_, identity) => Some(identity),
            Self::Open | Self::Anonymous(_) => None,
        }
    }
}
