//! Says what is wrong with a body that is not the expected JSON, and where. One fixed text for each cause.
//!
//! Lines and columns are counted from 1, columns in bytes. A byte order mark at the beginning is not counted.

use serde::Deserialize;

use crate::answer::problem::{Code, Problem};

/// Returns `body` without the UTF-8 byte order mark with which some editors and programs begin a file. A reader may
/// ignore it (RFC 8259 §8.1).
#[must_use]
pub fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(&BOM).unwrap_or(body)
}

/// The byte order mark (U+FEFF) in UTF-8.
pub const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// The text of a JSON body.
///
/// # Errors
///
/// [`Code::BodyMalformed`] if it is not UTF-8.
pub fn text(body: &[u8]) -> Result<&str, Problem> {
    let body = without_bom(body);
    std::str::from_utf8(body).map_err(|err| at(NOT_UTF8, body, err.valid_up_to()))
}

/// Reads a body that is one JSON object. `not_the_form` is the detail if it is JSON, but of another form, which is the
/// problem `wrong`.
///
/// # Errors
///
/// [`Code::BodyMalformed`] if it is no JSON, else `wrong`.
pub fn object<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    wrong: Code,
    not_the_form: &'static str,
) -> Result<T, Problem> {
    let text = text(body)?;
    serde_json::from_str(text).map_err(|err| {
        let problem = from_json(text, &err, not_the_form);
        if err.is_data() { Problem { code: wrong, ..problem } } else { problem }
    })
}

/// Returns the problem that `err` found in `text`.
///
/// `not_the_form` is the detail if `text` is JSON, but of another form.
pub fn from_json(text: &str, err: &serde_json::Error, not_the_form: &'static str) -> Problem {
    if err.is_eof() {
        let detail = if text.trim_ascii().is_empty() { EMPTY } else { CUT_SHORT };
        return at(detail, text.as_bytes(), text.len());
    }
    let offset = offset(text, err);
    let detail = if err.is_data() { not_the_form } else { cause(text, offset, err) };
    let offset = if detail == LONE_SURROGATE { lone_surrogate(text, offset + 1) } else { offset };
    at(detail, text.as_bytes(), offset)
}

/// Where the lone half of a surrogate pair begins, if `serde_json` found it while it read `text` up to `end`. It may
/// have read one more escape, which is not the other half.
#[must_use]
pub fn lone_surrogate(text: &str, end: usize) -> usize {
    let bytes = text.as_bytes();
    let escape_before = |end: usize| memchr::memmem::rfind(bytes.get(..end)?, b"\\u");
    let is_half = |at: &usize| {
        matches!(bytes.get(at + 2..at + 4), Some([b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F']))
    };
    let last = escape_before(end);
    let one_before = last.and_then(escape_before);
    last.filter(is_half).or(one_before.filter(is_half)).or(last).unwrap_or(end)
}

/// The problem `detail` at `offset` of `body`.
pub fn at(detail: &'static str, body: &[u8], offset: usize) -> Problem {
    let before = &body[..offset.min(body.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    // One pass over a body that is bounded, and only if it is refused.
    let lines = 1 + memchr::memchr_iter(b'\n', before).count();
    let column = before.len() - line_start + 1;
    Problem::new(Code::BodyMalformed).with_detail(detail).at_line(lines as u64).at_column(column)
}

/// Where `serde_json` stopped. Its columns count the bytes of the line that it has read.
fn offset(text: &str, err: &serde_json::Error) -> usize {
    let lines_before = err.line().saturating_sub(1);
    let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
    let line_start = starts.take(lines_before + 1).last().unwrap_or(0);
    let offset = (line_start + err.column()).saturating_sub(1);
    let is_control = err.to_string().starts_with(CONTROL_CHARACTER);
    let ahead = || text.bytes().skip(offset).position(|byte| byte < b' ');
    // `serde_json` stops at such a character or before it.
    if is_control { offset + ahead().unwrap_or(0) } else { offset }
}

/// Why `text` is not JSON at `offset`.
fn cause(text: &str, offset: usize, err: &serde_json::Error) -> &'static str {
    let rest = text.as_bytes().get(offset..).unwrap_or_default();
    if rest.starts_with(b"\0") {
        return NUL;
    }
    if rest.starts_with(&BOM) {
        return BOM_INSIDE;
    }
    let message = err.to_string();
    let known = CAUSES.iter().find(|(beginning, _)| message.starts_with(beginning));
    known.map_or(NOT_JSON, |(_, detail)| detail)
}

/// How the messages of `serde_json` begin, and the detail for each. It exposes the cause in no other way.
const CAUSES: [(&str, &str); 10] = [
    (
        CONTROL_CHARACTER,
        "a string has a control character in it; write it as an escape, such as \\n or \\u0007",
    ),
    ("lone leading surrogate", LONE_SURROGATE),
    ("unexpected end of hex escape", LONE_SURROGATE),
    ("invalid unicode code point", LONE_SURROGATE),
    ("invalid escape", "a string has an escape that JSON does not have; a backslash is written \\\\"),
    ("trailing comma", "a comma stands before a closing bracket"),
    ("trailing characters", "something follows the end of the JSON value"),
    ("key must be a string", "the name of a field has to be a string in double quotes"),
    ("expected `", "a colon, a comma or a closing bracket is missing"),
    ("invalid number", "a number is not written as JSON writes it"),
];

const CONTROL_CHARACTER: &str = "control character";

/// Details that other files use too.
pub const LONE_SURROGATE: &str = "a string has half of a surrogate pair (\\ud800 to \\udfff without the other half), which is no character";
/// An event is nested too deeply.
pub const TOO_DEEP: &str = "data is nested more than 127 levels deep";
/// An event has one field twice.
pub const REPEATED: &str = "an event has this field twice; room and group are the same field";
/// The body is JSON, and no event.
pub const NOT_AN_EVENT: &str = "an event is a JSON object; a body is one event or an array of events";
const EMPTY: &str = "the body is empty";
const CUT_SHORT: &str = "the body ends before its JSON value does";
const NOT_UTF8: &str = "the body is not UTF-8";
const NUL: &str = "the body has a NUL byte in it; inside a string it is written \\u0000";
const BOM_INSIDE: &str = "a byte order mark may stand at the beginning of a body or line only";
const NOT_JSON: &str = "the body is not JSON from here on";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::publish::event_body;

    /// The problem with `text` as an event: the detail, the line and the column.
    fn told(text: &[u8]) -> (&'static str, u64, u32) {
        let problem = event_body::parse_body(text, 1024).expect_err("it is malformed");
        assert_eq!(problem.code, Code::BodyMalformed);
        (problem.detail.expect("a detail"), problem.line.expect("a line"), problem.column.expect("a column"))
    }

    #[test]
    fn each_cause_has_its_text_and_its_place() {
        let detail = |beginning: &str| CAUSES.iter().find(|(known, _)| *known == beginning).expect("known").1;
        let table: [(&[u8], &str, (u64, u32)); 29] = [
            (b"", EMPTY, (1, 1)),
            (b" \n ", EMPTY, (2, 2)),
            (b"{\"room\":\"a\"", CUT_SHORT, (1, 12)),
            (b"[{\"all\":true,\"data\":1}\n", CUT_SHORT, (2, 1)),
            (b"{\"all\":true,\"data\":\"x", CUT_SHORT, (1, 22)),
            (b"room=a&data=1", NOT_JSON, (1, 1)),
            (b"{\"all\":tru}", NOT_JSON, (1, 11)),
            (b"{\n  \"all\": True\n}", NOT_JSON, (2, 10)),
            (b"null", NOT_AN_EVENT, (1, 4)),
            (b"[7]", NOT_AN_EVENT, (1, 2)),
            (b"{\"all\":true,\n\"data\":\"\xff\"}", NOT_UTF8, (2, 9)),
            (b"\xef\xbb\xbf{\"all\":true,\"data\":\"\xff\"}", NOT_UTF8, (1, 21)),
            (b"{\"all\":true,\"data\":\"a\0b\"}", NUL, (1, 22)),
            (b"{\"all\":true,\"data\":\0}", NUL, (1, 20)),
            (b"{\"all\":true,\"data\":\"a\nb\"}", detail(CONTROL_CHARACTER), (1, 22)),
            (b"{\"all\":true,\"da\x07ta\":1}", detail(CONTROL_CHARACTER), (1, 16)),
            (b"{\"all\":true,\"data\":1,}", detail("trailing comma"), (1, 22)),
            (b"{\"all\":true,\"data\":1} x", detail("trailing characters"), (1, 23)),
            (b"{all:true}", detail("key must be a string"), (1, 2)),
            (b"{\"all\" true}", detail("expected `"), (1, 8)),
            (b"{\"all\":true \"data\":1}", detail("expected `"), (1, 13)),
            (b"{\"all\":true,\"data\":\"\\x\"}", detail("invalid escape"), (1, 22)),
            (b"{\"all\":true,\"data\":01}", detail("invalid number"), (1, 21)),
            (b"{\"all\":true,\"data\":\"a\\ud800\"}", LONE_SURROGATE, (1, 22)),
            (b"{\"all\":true,\"data\":\"a\\uD83Dx\"}", LONE_SURROGATE, (1, 22)),
            (b"{\"all\":true,\"data\":\"a\\ud83d\\u0041\"}", LONE_SURROGATE, (1, 22)),
            (b"{\"all\":true,\"data\":\"\\ud83d\\ude00\\ude00\"}", LONE_SURROGATE, (1, 33)),
            (b"{\"all\":true,\"\\udc00\":1}", LONE_SURROGATE, (1, 14)),
            (b"{\"all\":true,\xef\xbb\xbf\"data\":1}", BOM_INSIDE, (1, 13)),
        ];
        for (text, detail, (line, column)) in table {
            assert_eq!(told(text), (detail, line, column), "{}", text.escape_ascii());
        }
    }

    /// The texts are sent as they are, so each must fit in the answer.
    #[test]
    fn every_text_is_one_short_sentence() {
        let others =
            [LONE_SURROGATE, TOO_DEEP, REPEATED, NOT_AN_EVENT, EMPTY, CUT_SHORT, NOT_UTF8, NUL, BOM_INSIDE];
        for detail in CAUSES.iter().map(|(_, detail)| *detail).chain(others) {
            assert!(detail.len() <= 120 && !detail.ends_with('.'), "{detail}");
        }
        assert!(TOO_DEEP.contains(&crate::http::api::publish::compact::DEPTH_MAX.to_string()));
    }
}
