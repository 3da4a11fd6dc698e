//! The members of an event: what each must be. Types are checked here and not while the body is read, so that a wrong
//! type gets the member's own code.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::answer::problem::Code;
use crate::http::api::publish::compact::compact;
use crate::http::api::publish::fault::{Fault, Field};
use crate::http::api::publish::malformed;
use crate::hub::draft::{Draft, Target};
use crate::rights::grant::PermissionName;
use crate::types::name::{EventId, EventKey, EventName, NameError, OnceKey, RoomName, UserName};

/// An event as its publisher sent it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// The event. It makes no claims yet: they depend on who publishes.
    pub draft: Draft,
    /// The key under which it is published once.
    pub once: Option<OnceKey>,
}

/// The values of an event's fields, as they are in the body.
#[derive(Default)]
pub(super) struct Fields<'a> {
    room: Option<&'a RawValue>,
    user: Option<&'a RawValue>,
    all: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    exclude: Option<&'a RawValue>,
    require: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
    version: Option<&'a RawValue>,
    store: Option<&'a RawValue>,
    once: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    /// The place for the value of `field`.
    pub(super) fn slot(&mut self, field: Field) -> &mut Option<&'a RawValue> {
        match field {
            Field::Room => &mut self.room,
            Field::User => &mut self.user,
            Field::All => &mut self.all,
            Field::Event => &mut self.event,
            Field::Data => &mut self.data,
            Field::Id => &mut self.id,
            Field::Exclude => &mut self.exclude,
            Field::Require => &mut self.require,
            Field::Key => &mut self.key,
            Field::Version => &mut self.version,
            Field::Store => &mut self.store,
            Field::Once => &mut self.once,
        }
    }

    /// The event, if all its values are right. `event_bytes_max` bounds the data as it is sent.
    pub(super) fn check(&self, event_bytes_max: usize) -> Result<Event, Fault> {
        // First: an event with restricted readers must not be reported as merely mistyped.
        let require = name(Field::Require, self.require, PermissionName::new, Code::RequireInvalid)?;
        let target = self.target()?;
        let event = self.event.map(event_name).transpose()?;
        let id = self.id.map(event_id).transpose()?;
        let exclude = name(Field::Exclude, self.exclude, UserName::new, Code::ExcludeInvalid)?;
        let (key, version) = self.key_and_version()?;
        let store = match self.store.map(RawValue::get) {
            None | Some("true") => true,
            Some("false") => false,
            Some(_) => return Err(Code::StoreInvalid.into()),
        };
        let once = name(Field::Once, self.once, OnceKey::new, Code::OnceInvalid)?;
        let data = data(self.data.ok_or(Code::DataMissing)?, event_bytes_max)?;
        let draft =
            Draft { name: event, id, exclude, require, key, version, store, ..Draft::to(target, data) };
        Ok(Event { draft, once })
    }

    fn key_and_version(&self) -> Result<(Option<EventKey>, Option<u64>), Fault> {
        let key = name(Field::Key, self.key, EventKey::new, Code::KeyInvalid)?;
        // JSON has no plus sign and no zeros in front, so this takes digits only.
        let version = self.version.map(|version| version.get().parse().map_err(|_| Code::VersionInvalid));
        let version = version.transpose()?;
        if version.is_some() && key.is_none() {
            return Err(Code::VersionWithoutKey.into());
        }
        Ok((key, version))
    }

    fn target(&self) -> Result<Target, Fault> {
        let room = name(Field::Room, self.room, RoomName::new, Code::TargetRoomInvalid)?;
        let user = name(Field::User, self.user, UserName::new, Code::TargetUserInvalid)?;
        if self.all.is_some_and(|all| all.get() != "true") {
            return Err(Code::TargetAllInvalid.into());
        }
        match (room, user, self.all) {
            (Some(room), None, None) => Ok(Target::Room(room)),
            (None, Some(user), None) => Ok(Target::User(user)),
            (None, None, Some(_)) => Ok(Target::All),
            (None, None, None) => Err(Code::TargetMissing.into()),
            _ => Err(Code::TargetAmbiguous.into()),
        }
    }
}

/// The text of a name if the field is present; `code` if it is no string or breaks the rules of its type.
fn name<T, E>(
    field: Field,
    value: Option<&RawValue>,
    check: fn(&str) -> Result<T, E>,
    code: Code,
) -> Result<Option<T>, Fault> {
    let Some(value) = value else {
        return Ok(None);
    };
    let text = text(field, value)?.ok_or(code)?;
    check(&text).map(Some).map_err(|_| code.into())
}

fn event_id(value: &RawValue) -> Result<EventId, Fault> {
    let text = text(Field::Id, value)?.ok_or(Code::EventIdInvalid)?;
    EventId::new(&text).map_err(|err| match err {
        NameError::Reserved => Code::EventIdReserved.into(),
        _ => Code::EventIdInvalid.into(),
    })
}

fn event_name(value: &RawValue) -> Result<EventName, Fault> {
    let text = text(Field::Event, value)?.ok_or(Code::EventNameInvalid)?;
    EventName::new(&text).map_err(|err| match err {
        NameError::Reserved => Code::EventNameReserved.into(),
        _ => Code::EventNameInvalid.into(),
    })
}

/// The data as it is sent.
fn data(value: &RawValue, event_bytes_max: usize) -> Result<String, Fault> {
    let data = match text(Field::Data, value)? {
        Some(text) => text,
        None => match compact(value) {
            Ok(text) => Cow::Owned(text),
            Err(_) => return Err(Fault::malformed(malformed::TOO_DEEP, Field::Data, value.get(), 0)),
        },
    };
    if data.len() > event_bytes_max {
        return Err(Code::EventTooLarge.into());
    }
    Ok(data.into_owned())
}

/// The text that `value` is as the data of an event; `None` if it cannot be that.
pub(super) fn text_of(value: &RawValue) -> Option<String> {
    data(value, usize::MAX).ok()
}

/// The text of a JSON string, borrowed if it has no escapes; `None` if `value` is something else.
///
/// An escape that names no character (half a surrogate pair) makes the body malformed: there is no UTF-8 for it. A
/// string that was read as a [`RawValue`] has no other errors.
fn text(field: Field, value: &RawValue) -> Result<Option<Cow<'_, str>>, Fault> {
    let json = value.get();
    let quoted = json.strip_prefix('"');
    let Some(inner) = quoted.and_then(|rest| rest.strip_suffix('"')) else {
        return Ok(None);
    };
    if !inner.contains('\\') {
        return Ok(Some(Cow::Borrowed(inner)));
    }
    let text: String = serde_json::from_str(json).map_err(|err| {
        let offset = malformed::lone_surrogate(json, err.column());
        Fault::malformed(malformed::LONE_SURROGATE, field, json, offset)
    })?;
    Ok(Some(Cow::Owned(text)))
}
