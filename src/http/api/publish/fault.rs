//! Why an event is refused, and which of its fields is at fault.

use crate::answer::field_name::FieldName;
use crate::answer::problem::{Code, Problem};
use crate::http::api::publish::malformed;

/// Why an event was refused.
pub(super) enum Fault {
    /// It breaks a rule, named by this code.
    Code(Code),
    /// It has a field with an unknown name.
    Unknown(FieldName),
    /// The body is malformed; `detail` says what is wrong with `field`.
    Malformed {
        detail: &'static str,
        field: Field,
        /// The address of the byte at fault. All that is read is slices of the body, so an address gives the position
        /// in it.
        address: usize,
    },
}

impl Fault {
    /// The fault `detail` of `field`, at byte `offset` of `part`, which is a slice of the body.
    pub(super) fn malformed(detail: &'static str, field: Field, part: &str, offset: usize) -> Self {
        Self::Malformed { detail, field, address: part.as_ptr().addr() + offset }
    }

    /// The problem to answer with, if the body is `text`.
    pub(super) fn problem(self, text: &str) -> Problem {
        match self {
            Self::Code(code) => code.into(),
            Self::Unknown(name) => Problem { field: Some(name), ..Code::FieldUnknown.into() },
            Self::Malformed { detail, field, address } => {
                let offset = address.saturating_sub(text.as_ptr().addr());
                malformed::at(detail, text.as_bytes(), offset).about(field.name())
            }
        }
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

/// The fields an event may have.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Room,
    User,
    All,
    Event,
    Data,
    Id,
    Exclude,
    Require,
    Key,
    Version,
    Store,
    Once,
}

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::User => "user",
            Self::All => "all",
            Self::Event => "event",
            Self::Data => "data",
            Self::Id => "id",
            Self::Exclude => "exclude",
            Self::Require => "require",
            Self::Key => "key",
            Self::Version => "version",
            Self::Store => "store",
            Self::Once => "once",
        }
    }
}
