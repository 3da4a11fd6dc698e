//! What a member wants to show: `{"data":…}`. Pure: bytes in, checked data out.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::problem::{Code, Problem};
use crate::http::api::publish::compact::compact;
use crate::http::api::publish::malformed;
use crate::hub::presence::data::{DataError, PresenceData};

/// Bytes the body may have. White space between its tokens does not count for the data.
pub const BODY_BYTES_MAX: usize = 4 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads `{"data":…}`. `null` is no data.
///
/// # Errors
///
/// [`Code::BodyMalformed`] if it is no JSON; [`Code::PresenceInvalid`] if it is another object, or data that some
/// readers could not take; [`Code::PresenceTooLarge`].
pub fn parse(body: &[u8]) -> Result<Option<PresenceData>, Problem> {
    let body: Body<'_> = malformed::object(body, Code::PresenceInvalid, NOT_DATA)?;
    if body.data.get() == "null" {
        return Ok(None);
    }
    let unreadable = || Problem::new(Code::PresenceInvalid).with_detail(UNREADABLE).about("data");
    let text = compact(body.data).map_err(|_| unreadable())?;
    let data = PresenceData::new(&text).map_err(|err| match err {
        DataError::TooLarge => Code::PresenceTooLarge.into(),
        _ => unreadable(),
    })?;
    Ok(Some(data))
}

const NOT_DATA: &str = "the body is an object with one member: {\"data\":{\"status\":\"away\"}}";
const UNREADABLE: &str =
    "data is nested too deep, has half a surrogate pair, or a number that is out of range";

/// Says that the data is too large, if that is why the body was not read.
pub fn too_large(problem: Problem) -> Problem {
    if problem.code == Code::BodyTooLarge { Code::PresenceTooLarge.into() } else { problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::presence::data::PRESENCE_DATA_BYTES_MAX;

    fn read(body: &str) -> Result<Option<String>, Code> {
        let data = parse(body.as_bytes()).map_err(|problem| problem.code)?;
        Ok(data.map(|data| data.as_str().to_owned()))
    }

    #[test]
    fn any_json_value_is_data_and_stays_as_it_was_written() {
        for (body, wanted) in [
            (r#" { "data" : { "b" : 1.50 , "a" : [ ] } } "#, Some(r#"{"b":1.50,"a":[]}"#)),
            (r#"{"data":"a  b"}"#, Some(r#""a  b""#)),
            ("{\"data\":[1,\n2]}", Some("[1,2]")),
            (r#"{"data":null}"#, None),
        ] {
            assert_eq!(read(body), Ok(wanted.map(ToOwned::to_owned)), "{body}");
        }
    }

    #[test]
    fn other_bodies_are_told_apart() {
        let (long, deep) = ("x".repeat(PRESENCE_DATA_BYTES_MAX), "[".repeat(130) + &"]".repeat(130));
        let (long, deep) = (format!(r#"{{"data":"{long}"}}"#), format!(r#"{{"data":{deep}}}"#));
        for (body, code) in [
            ("", Code::BodyMalformed),
            ("{", Code::BodyMalformed),
            (r#"{"data":1}x"#, Code::BodyMalformed),
            ("{}", Code::PresenceInvalid),
            ("[]", Code::PresenceInvalid),
            (r#"{"date":1}"#, Code::PresenceInvalid),
            (r#"{"data":1,"data":2}"#, Code::PresenceInvalid),
            (r#"{"data":1,"user":"me"}"#, Code::PresenceInvalid),
            (r#"{"data":"\ud800"}"#, Code::PresenceInvalid),
            (r#"{"data":1e999}"#, Code::PresenceInvalid),
            (&deep, Code::PresenceInvalid),
            (&long, Code::PresenceTooLarge),
        ] {
            assert_eq!(read(body), Err(code), "{body}");
        }
    }
}
