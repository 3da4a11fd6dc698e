//! What the application is told about presence (`presence_callback`).

use serde::Serialize;

use crate::hub::presence::notice::PresenceNotice;
use crate::types::moment::Moment;
use crate::types::position::Epoch;
use crate::upstream::notices::Told;
use crate::upstream::stats::Purpose;

/// A batch as JSON.
#[derive(Serialize)]
struct Batch<'a> {
    /// The epoch of this server. Nobody is present at its beginning.
    epoch: &'a str,
    events: Vec<Happened<'a>>,
}

#[derive(Serialize)]
struct Happened<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    room: &'a str,
    /// Absent if it is about the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

impl Told for PresenceNotice {
    const SETTING: &'static str = "presence_callback";
    const PURPOSE: Purpose = Purpose::Presence;

    fn body(batch: &[Self], epoch: Epoch, _now: Moment) -> Vec<u8> {
        let events = batch.iter().map(|notice| Happened {
            kind: notice.kind.as_str(),
            room: notice.room.name(),
            user: notice.user.as_ref().map(|user| user.name()),
        });
        let body = Batch { epoch: epoch.as_str(), events: events.collect() };
        serde_json::to_vec(&body).expect("text and lists always serialise")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hub::presence::notice::PresenceKind;
    use crate::hub::room_policy::RoomPolicy;
    use crate::hub::source::{Source, SourceKind};

    #[test]
    fn a_batch_names_the_room_and_the_user_if_it_is_about_one() {
        let source = |kind, name| Arc::new(Source::new(kind, name, 1, 0, RoomPolicy::example()));
        let (room, user) = (source(SourceKind::Room, "lobby"), source(SourceKind::Inbox, "me"));
        let notice = |kind, user| PresenceNotice { kind, room: room.clone(), user };
        let batch = [notice(PresenceKind::Occupied, None), notice(PresenceKind::Join, Some(user))];
        let body = PresenceNotice::body(&batch, Epoch::new(0), Moment(0));
        assert_eq!(
            String::from_utf8(body).expect("UTF-8"),
            "{\"epoch\":\"000000\",\"events\":[{\"type\":\"occupied\",\"room\":\"lobby\"},\
             {\"type\":\"join\",\"room\":\"lobby\",\"user\":\"me\"}]}"
        );
    }
}
