//! Parses what a publisher sends, from the body's bytes to checked [`Event`]s. Pure, and fast enough for streamed
//! bodies.
//!
//! Guarantees: an event has exactly one target and no field that would be silently ignored; data that is not a string
//! keeps the publisher's own number text and key order; nothing recurses and nothing is built but the draft, so neither
//! depth nor size of a body costs more than a small multiple of its bytes.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::answer::field_name::FieldName;
use crate::answer::problem::{Code, Problem};
use crate::http::api::publish::compact::is_json_space;
use crate::http::api::publish::fault::{Fault, Field};
use crate::http::api::publish::fields::{Event, Fields};
use crate::http::api::publish::malformed;

/// Events one array may have. All events of an array get consecutive positions in the order, and appending this many
/// takes less than a millisecond. A publisher with more can send lines, between which other events may come.
pub const BATCH_EVENTS_MAX: usize = 4096;

/// What a JSON body asks to publish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EventBody {
    /// The body was an object.
    One(Box<Event>),
    /// The body was an array, checked as a whole: 1 to [`BATCH_EVENTS_MAX`] events.
    Batch(Vec<Event>),
}

/// Reads a JSON body: one event, or an array of events.
///
/// # Errors
///
/// [`Code::BodyMalformed`], [`Code::BatchEmpty`], [`Code::BatchTooLarge`], or any code of [`parse_event`]; inside an array
/// with its index.
pub fn parse_body(body: &[u8], event_bytes_max: usize) -> Result<EventBody, Problem> {
    let body = malformed::without_bom(body);
    let first = body.iter().find(|byte| !is_json_space(**byte));
    if first != Some(&b'[') {
        return parse_event(body, event_bytes_max).map(|event| EventBody::One(Box::new(event)));
    }
    let reader = Reader::new(event_bytes_max);
    let events = reader.read(body, BatchSeed(&reader))?;
    if events.is_empty() {
        return Err(Code::BatchEmpty.into());
    }
    Ok(EventBody::Batch(events))
}

/// Reads one event: `{room | group | user | all:true, event?, data, id?, exclude?, require?, key?, version?, store?,
/// once?}`.
///
/// `event_bytes_max` bounds the data as it is sent. Only `data` may be `null`.
///
/// # Errors
///
/// [`Code::BodyMalformed`], [`Code::FieldUnknown`], [`Code::EventTooLarge`], or the code of the field at fault.
pub fn parse_event(body: &[u8], event_bytes_max: usize) -> Result<Event, Problem> {
    let reader = Reader::new(event_bytes_max);
    reader.read(body, EventSeed(&reader))
}

/// The state of one parse. serde's errors are text for people, so the exact fault is returned through here.
struct Reader {
    event_bytes_max: usize,
    /// Why an event was refused; `None` if the text itself is not JSON of the right form.
    refusal: Cell<Option<Fault>>,
    /// The element of a batch that is being read.
    index: Cell<Option<usize>>,
}

impl Reader {
    fn new(event_bytes_max: usize) -> Self {
        Self { event_bytes_max, refusal: Cell::new(None), index: Cell::new(None) }
    }

    /// Reads the whole `body` with `seed`.
    fn read<'de, S: DeserializeSeed<'de>>(&self, body: &'de [u8], seed: S) -> Result<S::Value, Problem> {
        // Checking the whole body once is faster than checking each string in it.
        let text = malformed::text(body)?;
        let mut json = serde_json::Deserializer::from_str(text);
        seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value)).map_err(|err| {
            let problem = match self.refusal.take() {
                Some(fault) => fault.problem(text),
                None => malformed::from_json(text, &err, malformed::NOT_AN_EVENT),
            };
            match self.index.get() {
                Some(index) => problem.at_index(index),
                None => problem,
            }
        })
    }

    /// Stops the parse for `fault`.
    fn refuse<E: de::Error>(&self, fault: impl Into<Fault>) -> E {
        self.refusal.set(Some(fault.into()));
        E::custom("refused")
    }
}

/// Reads an array of events.
struct BatchSeed<'r>(&'r Reader);

impl<'de> DeserializeSeed<'de> for BatchSeed<'_> {
    type Value = Vec<Event>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for BatchSeed<'_> {
    type Value = Vec<Event>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::new();
        while let Some(event) = seq.next_element_seed(ElementSeed(self.0, events.len()))? {
            if events.len() == BATCH_EVENTS_MAX {
                return Err(self.0.refuse(Code::BatchTooLarge));
            }
            events.push(event);
        }
        Ok(events)
    }
}

/// Reads one element of a batch. Stores its index meanwhile, for errors.
struct ElementSeed<'r>(&'r Reader, usize);

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Event, D::Error> {
        let Self(reader, index) = self;
        reader.index.set(Some(index));
        let event = EventSeed(reader).deserialize(json)?;
        reader.index.set(None);
        Ok(event)
    }
}

/// Reads one event.
struct EventSeed<'r>(&'r Reader);

impl<'de> DeserializeSeed<'de> for EventSeed<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Event, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventSeed<'_> {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let Self(reader) = self;
        let mut fields = Fields::default();
        while let Some(field) = map.next_key_seed(FieldSeed(reader))? {
            let value: &RawValue = map.next_value()?;
            // Two values are ambiguous, so both are refused.
            if fields.slot(field).replace(value).is_some() {
                return Err(reader.refuse(Fault::malformed(malformed::REPEATED, field, value.get(), 0)));
            }
        }
        fields.check(reader.event_bytes_max).map_err(|fault| reader.refuse(fault))
    }
}

/// Reads a key. A visitor, so that no key is copied.
struct FieldSeed<'r>(&'r Reader);

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Field, D::Error> {
        json.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldSeed<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field of an event")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Field, E> {
        Ok(match key {
            "room" | "group" => Field::Room,
            "user" => Field::User,
            "all" => Field::All,
            "event" => Field::Event,
            "data" => Field::Data,
            "id" => Field::Id,
            "exclude" => Field::Exclude,
            "require" => Field::Require,
            "key" => Field::Key,
            "version" => Field::Version,
            "store" => Field::Store,
            "once" => Field::Once,
            unknown => return Err(self.0.refuse(Fault::Unknown(FieldName::new(unknown)))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::publish::compact::DEPTH_MAX;
    use crate::hub::draft::{Draft, Target};
    use crate::rights::grant::PermissionName;
    use crate::types::name::{EventId, EventKey, EventName, OnceKey, RoomName, UserName};

    const MAX: usize = 1024;

    fn event(body: &str) -> Result<Draft, Problem> {
        parse_event(body.as_bytes(), MAX).map(|event| event.draft)
    }

    fn data_of(value: &str) -> String {
        event(&format!(r#"{{"all":true,"data":{value}}}"#)).unwrap().data
    }

    #[test]
    fn every_field_reaches_the_draft() {
        let body = r#" {"room":"a","event":"say","data":"hi","id":"m-1","exclude":"u","require":"vip",
            "key":"k","version":18446744073709551615,"store":false,"once":"o"} "#;
        let draft = Draft {
            name: EventName::new("say").ok(),
            id: EventId::new("m-1").ok(),
            exclude: UserName::new("u").ok(),
            require: PermissionName::new("vip").ok(),
            key: EventKey::new("k").ok(),
            version: Some(u64::MAX),
            store: false,
            ..Draft::to(Target::Room(RoomName::new("a").unwrap()), "hi")
        };
        let event = Event { draft, once: OnceKey::new("o").ok() };
        assert_eq!(parse_event(body.as_bytes(), MAX), Ok(event.clone()));
        assert_eq!(parse_body(body.as_bytes(), MAX), Ok(EventBody::One(Box::new(event))));
    }

    #[test]
    fn what_is_left_out_is_kept_and_claims_nothing() {
        let body = br#"{"user":"u","data":1,"store":true,"key":"k","version":0}"#;
        let Event { draft, once } = parse_event(body, MAX).expect("an event");
        assert_eq!((draft.store, draft.version, once), (true, Some(0), None));
        assert_eq!(draft.claims, Draft::to(Target::All, "").claims);
    }

    #[test]
    fn each_target_is_understood() {
        let table = [
            (r#"{"room":"a","data":1}"#, Target::Room(RoomName::new("a").unwrap())),
            (r#"{"group":"a","data":1}"#, Target::Room(RoomName::new("a").unwrap())),
            (r#"{"user":"caf\u00e9","data":1}"#, Target::User(UserName::new("café").unwrap())),
            (r#"{"all": true ,"data":1}"#, Target::All),
            (r#"{"\u0061ll":true,"data":1}"#, Target::All),
        ];
        for (body, target) in table {
            assert_eq!(event(body).map(|draft| draft.target), Ok(target), "{body}");
        }
    }

    #[test]
    fn strings_go_out_as_their_text() {
        assert_eq!(data_of(r#""""#), "");
        assert_eq!(data_of(r#""a b""#), "a b");
        assert_eq!(data_of(r#""a\nb\u0000\ud83d\ude00\"""#), "a\nb\0😀\"");
    }

    #[test]
    fn other_values_go_out_as_compact_json_of_the_publisher() {
        let table = [
            ("null", "null"),
            ("false", "false"),
            ("-0", "-0"),
            ("1.0E+5", "1.0E+5"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.10"),
            ("1e999", "1e999"),
            ("[ ]", "[]"),
            ("{ \"z\" : 1 ,\r\n\t\"a\" : [ 1 , 2 ] }", r#"{"z":1,"a":[1,2]}"#),
            (r#"{"a b" : " \" \\" , "é" : " \ud800 " }"#, r#"{"a b":" \" \\","é":" \ud800 "}"#),
            (r#"{"a":1, "a":2}"#, r#"{"a":1,"a":2}"#),
        ];
        for (value, wanted) in table {
            assert_eq!(data_of(value), wanted);
        }
    }

    #[test]
    fn each_mistake_has_its_code() {
        let table = [
            (r#"{"room":"a","data":1,"xyz":1}"#, Code::FieldUnknown),
            (r#"{"Room":"a","data":1}"#, Code::FieldUnknown),
            ("{}", Code::TargetMissing),
            (r#"{"data":1}"#, Code::TargetMissing),
            (r#"{"room":"a","user":"u","data":1}"#, Code::TargetAmbiguous),
            (r#"{"room":"a","all":true,"data":1}"#, Code::TargetAmbiguous),
            (r#"{"room":"","data":1}"#, Code::TargetRoomInvalid),
            (r#"{"room":"a\n","data":1}"#, Code::TargetRoomInvalid),
            (r#"{"room":null,"data":1}"#, Code::TargetRoomInvalid),
            (r#"{"room":5,"data":1}"#, Code::TargetRoomInvalid),
            (r#"{"user":["u"],"data":1}"#, Code::TargetUserInvalid),
            (r#"{"user":"","data":1}"#, Code::TargetUserInvalid),
            (r#"{"all":false,"data":1}"#, Code::TargetAllInvalid),
            (r#"{"all":1,"data":1}"#, Code::TargetAllInvalid),
            (r#"{"all":"true","data":1}"#, Code::TargetAllInvalid),
            (r#"{"room":"a"}"#, Code::DataMissing),
            (r#"{"room":"a","data":1,"event":""}"#, Code::EventNameInvalid),
            (r#"{"room":"a","data":1,"event":7}"#, Code::EventNameInvalid),
            (r#"{"room":"a","data":1,"event":"x\r"}"#, Code::EventNameInvalid),
            (r#"{"room":"a","data":1,"event":"gap"}"#, Code::EventNameReserved),
            (r#"{"room":"a","data":1,"event":"g\u0061p"}"#, Code::EventNameReserved),
            (r#"{"room":"a","data":1,"event":"error"}"#, Code::EventNameReserved),
            (r#"{"room":"a","data":1,"id":7}"#, Code::EventIdInvalid),
            (r#"{"room":"a","data":1,"id":""}"#, Code::EventIdInvalid),
            (r#"{"room":"a","data":1,"id":"a\n"}"#, Code::EventIdInvalid),
            (r#"{"room":"a","data":1,"id":"\u0000"}"#, Code::EventIdInvalid),
            (r#"{"room":"a","data":1,"id":"k3v9q2-7"}"#, Code::EventIdReserved),
            (r#"{"room":"a","data":1,"id":"k3v9q\u0032-7"}"#, Code::EventIdReserved),
            (r#"{"room":"a","data":1,"exclude":["u"]}"#, Code::ExcludeInvalid),
            (r#"{"room":"a","data":1,"exclude":""}"#, Code::ExcludeInvalid),
            (r#"{"room":"a","data":1,"require":"sse:read"}"#, Code::RequireInvalid),
            (r#"{"room":"a","data":1,"require":""}"#, Code::RequireInvalid),
            (r#"{"data":1,"require":null}"#, Code::RequireInvalid),
            (r#"{"room":"a","data":1,"key":""}"#, Code::KeyInvalid),
            (r#"{"room":"a","data":1,"key":7}"#, Code::KeyInvalid),
            (r#"{"room":"a","data":1,"key":"a\n"}"#, Code::KeyInvalid),
            (r#"{"room":"a","data":1,"key":"k","version":"1"}"#, Code::VersionInvalid),
            (r#"{"room":"a","data":1,"key":"k","version":-1}"#, Code::VersionInvalid),
            (r#"{"room":"a","data":1,"key":"k","version":1.0}"#, Code::VersionInvalid),
            (r#"{"room":"a","data":1,"key":"k","version":1e3}"#, Code::VersionInvalid),
            (r#"{"room":"a","data":1,"key":"k","version":18446744073709551616}"#, Code::VersionInvalid),
            (r#"{"room":"a","data":1,"key":"k","version":null}"#, Code::VersionInvalid),
            (r#"{"room":"a","data":1,"version":1}"#, Code::VersionWithoutKey),
            (r#"{"room":"a","data":1,"store":0}"#, Code::StoreInvalid),
            (r#"{"room":"a","data":1,"store":null}"#, Code::StoreInvalid),
            (r#"{"room":"a","data":1,"store":"false"}"#, Code::StoreInvalid),
            (r#"{"room":"a","data":1,"once":""}"#, Code::OnceInvalid),
            (r#"{"room":"a","data":1,"once":1}"#, Code::OnceInvalid),
        ];
        for (body, code) in table {
            assert_eq!(event(body).map_err(|problem| problem.code), Err(code), "{body}");
            let parsed = parse_body(body.as_bytes(), MAX);
            assert_eq!(parsed.map_err(|problem| problem.code), Err(code), "{body}");
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let field = |body: &str| {
            let problem = event(body).expect_err(body);
            (problem.code, problem.field.map(|field| field.to_string()))
        };
        let named = |code, name: &str| (code, Some(format!("\"{name}\"")));
        assert_eq!(field(r#"{"room":"a","data":1,"xyz":1}"#), named(Code::FieldUnknown, "xyz"));
        assert_eq!(field(r#"{"\u0052oom":"a","data":1}"#), named(Code::FieldUnknown, "Room"));
        assert_eq!(field(r#"{"room":"a","group":"a","data":1}"#), named(Code::BodyMalformed, "room"));
        assert_eq!(field(r#"{"room":"a","event":"\ud800","data":1}"#), named(Code::BodyMalformed, "event"));
    }

    #[test]
    fn malformed_bodies_are_refused() {
        let table: [&[u8]; 21] = [
            b"",
            b" ",
            b"5",
            b"null",
            b"\"a\"",
            b"{",
            b"{\"room\":\"a\",\"data\":1",
            b"{\"room\":\"a\",\"data\":}",
            b"{\"room\":\"a\",\"data\":1,}",
            b"{\"room\":\"a\",\"data\":1} x",
            b"{\"room\":\"a\",\"data\":1}{}",
            b"{\"room\":\"a\",\"data\":01}",
            b"{\"room\":\"a\",\"data\":NaN}",
            b"{\"room\":\"a\",\"data\":\"x\ny\"}",
            b"{\"room\":\"a\",\"data\":{\"x\":\"\x00\"}}",
            b"{\"room\":\"a\",\"data\":\"\\ud800\"}",
            b"{\"room\":\"\\ud800\",\"data\":1}",
            b"{\"room\":\"a\",\"data\":\"\xff\"}",
            b"{\"room\":\"a\",\"data\":1,\"data\":2}",
            b"{\"room\":\"a\",\"group\":\"a\",\"data\":1}",
            b"room=a&data=1",
        ];
        for body in table {
            let shown = String::from_utf8_lossy(body);
            let problem = parse_body(body, MAX).expect_err(&shown);
            assert_eq!(problem.code, Code::BodyMalformed, "{shown}");
            assert!(problem.detail.is_some(), "{shown}");
        }
    }

    #[test]
    fn a_batch_is_checked_as_a_whole() {
        let good = r#"{"room":"a","data":1}"#;
        let batch = |body: String| parse_body(body.as_bytes(), MAX);
        match batch(format!(" [{good} , {good}] ")) {
            Ok(EventBody::Batch(drafts)) => assert_eq!(drafts.len(), 2),
            other => panic!("{other:?}"),
        }
        let table = [
            ("[]".to_owned(), Code::BatchEmpty, None),
            (format!(r#"[{good},{{"room":"a"}},{good}]"#), Code::DataMissing, Some(1)),
            (format!("[{good},{good},7]"), Code::BodyMalformed, Some(2)),
            (format!("[[{good}]]"), Code::BodyMalformed, Some(0)),
            (format!(r#"[{good},{{"room":"a","data":tru}}]"#), Code::BodyMalformed, Some(1)),
            (format!("[{good} {good}]"), Code::BodyMalformed, None),
            (format!("[{good}"), Code::BodyMalformed, None),
            (format!("[{good}] {good}"), Code::BodyMalformed, None),
        ];
        for (body, code, index) in table {
            let problem = batch(body.clone()).expect_err(&body);
            assert_eq!((problem.code, problem.index), (code, index), "{body}");
        }
    }

    #[test]
    fn a_batch_has_a_bound_on_its_events() {
        let good = r#"{"room":"a","data":1}"#;
        let batch = |count: usize| parse_body(format!("[{}]", vec![good; count].join(",")).as_bytes(), MAX);
        match batch(BATCH_EVENTS_MAX) {
            Ok(EventBody::Batch(drafts)) => assert_eq!(drafts.len(), BATCH_EVENTS_MAX),
            other => panic!("{other:?}"),
        }
        assert_eq!(batch(BATCH_EVENTS_MAX + 1), Err(Code::BatchTooLarge.into()));
        assert!(Code::BatchTooLarge.title().contains(&BATCH_EVENTS_MAX.to_string()));
    }

    #[test]
    fn the_bound_is_on_the_data_as_it_goes_out() {
        let parse = |data: &str| {
            let body = format!(r#"{{"all":true,"data":{data}}}"#);
            parse_event(body.as_bytes(), 4).map(|event| event.draft.data)
        };
        assert_eq!(parse(r#""abcd""#).unwrap(), "abcd");
        assert_eq!(parse(r#""\u0061\u0062\u0063\u0064""#).unwrap(), "abcd");
        assert_eq!(parse("[          1          ]").unwrap(), "[1]");
        assert_eq!(parse(r#""abcde""#), Err(Code::EventTooLarge.into()));
        assert_eq!(parse("[123]"), Err(Code::EventTooLarge.into()));
    }

    /// `serde_json` reads a `RawValue` without recursion and without its usual limit of 128, so depth costs no stack;
    /// [`DEPTH_MAX`] limits the data that is sent.
    #[test]
    fn depth_is_bounded_and_costs_no_stack() {
        let nested = |open: &str, close: &str, depth: usize| {
            let data = format!("{}{}", open.repeat(depth), close.repeat(depth));
            let body = format!(r#"{{"all":true,"data":{data}}}"#);
            parse_event(body.as_bytes(), usize::MAX)
        };
        assert!(nested("[", "]", DEPTH_MAX).is_ok());
        assert!(nested("[", "]", DEPTH_MAX + 1).is_err());
        assert!(nested(r#"{"a":[0,"#, "]}", DEPTH_MAX / 2).is_err());
        assert!(nested(r#"{"a":[0,{}],"b":["#, "]}", DEPTH_MAX / 2).is_ok());
        for open in ["[", r#"{"a":"#, "[["] {
            for body in [
                open.repeat(500_000),
                format!(r#"{{"data":{}"#, open.repeat(500_000)),
                format!(r#"{{"{}":1}}"#, "[".repeat(500_000)),
            ] {
                assert!(parse_body(body.as_bytes(), MAX).is_err());
            }
        }
        let problem = nested("[", "]", 500_000).expect_err("it is too deep");
        assert_eq!((problem.code, problem.detail), (Code::BodyMalformed, Some(malformed::TOO_DEEP)));
    }
}
