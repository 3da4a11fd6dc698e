//! Who sends a request, and what it may do. Every route asks here, and nowhere else.
//!
//! A credential that is not good is never overlooked: whoever shows one is not let in as nobody, not even to a public room.

use std::sync::Arc;

use crate::answer::problem::{Code, Problem};
use crate::auth::authority::Authority;
use crate::engine::access::Access;
use crate::hub::draft::{Draft, Target};
use crate::rights::grant::Action;
use crate::rights::identity::Identity;
use crate::types::name::UserName;

/// Who sends a request.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Somebody of whom nothing is asked, because nothing is set up to answer it.
    Anyone,
    /// Somebody who shows nothing where something could be shown.
    Nobody(Arc<Authority>),
    /// Somebody who is known.
    Known(Arc<Authority>, Arc<Identity>),
}

impl Caller {
    /// Whether it may do that.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthorized`] if it might with a token, [`Code::Forbidden`] if its token does not allow it.
    pub fn may(&self, action: Action<'_>) -> Result<(), Problem> {
        let is_open =
            |authority: &Authority| matches!(action, Action::Read(room) if authority.is_public(room));
        match self {
            Self::Anyone => Ok(()),
            Self::Nobody(authority) if is_open(authority) => Ok(()),
            Self::Nobody(_) => Err(Code::Unauthorized.into()),
            Self::Known(authority, identity) if identity.allows(action) || is_open(authority) => Ok(()),
            Self::Known(..) => Err(Code::Forbidden.into()),
        }
    }

    /// Whether it may publish anything at all: whose body is worth reading.
    ///
    /// # Errors
    ///
    /// As [`Self::may`].
    pub fn may_publish_something(&self) -> Result<(), Problem> {
        match self {
            Self::Anyone => Ok(()),
            Self::Nobody(_) => Err(Code::Unauthorized.into()),
            Self::Known(_, identity) if identity.grant.may_publish() => Ok(()),
            Self::Known(..) => Err(Code::Forbidden.into()),
        }
    }

    /// Whether it may publish `draft`.
    ///
    /// # Errors
    ///
    /// As [`Self::may`]; [`Code::RequireUnsupported`] if the draft requires what nobody here can have.
    pub fn may_publish(&self, draft: &Draft) -> Result<(), Problem> {
        if draft.require.is_some() && matches!(self, Self::Anyone) {
            return Err(Code::RequireUnsupported.into());
        }
        self.may(match &draft.target {
            Target::Room(room) => Action::Publish(room.as_str()),
            Target::User(_) | Target::All => Action::PublishAnywhere,
        })
    }

    /// The name under which it listens, if it asks for `asked`: its own, unless it may choose.
    ///
    /// # Errors
    ///
    /// As [`Self::may`]. Somebody unknown may have no name: with a name come the events for that user.
    pub fn listens_as(&self, asked: Option<UserName>) -> Result<Option<UserName>, Problem> {
        match (self, asked) {
            (Self::Anyone, asked) => Ok(asked),
            (Self::Nobody(_), None) => Ok(None),
            (Self::Nobody(_), Some(_)) => Err(Code::Unauthorized.into()),
            (Self::Known(_, identity), None) => Ok(identity.user.clone()),
            (Self::Known(_, identity), Some(asked)) => {
                if identity.user.as_ref() != Some(&asked) {
                    self.may(Action::ListenAs(asked.as_str()))?;
                }
                Ok(Some(asked))
            }
        }
    }

    /// Whether it, known by a request that is under way for long, is still who it was.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthorized`] if its token is over or revoked, its key is gone, or authentication was set up since.
    pub fn is_still_known(&self, access: &Access) -> Result<(), Problem> {
        let policy = access.policy.load();
        let is_known = match self {
            Self::Anyone => policy.authority.is_none(),
            Self::Nobody(_) => true,
            Self::Known(_, identity) => policy.trusts(identity) && !access.is_over(identity),
        };
        if is_known { Ok(()) } else { Err(Code::Unauthorized.into()) }
    }

    /// Who it is, if that is known.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Known(_, identity) => Some(identity),
            Self::Anyone | Self::Nobody(_) => None,
        }
    }
}
