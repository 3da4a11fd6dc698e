//! Removes the white space between JSON tokens and leaves everything else as the publisher wrote it: number text, key
//! order, strings.

use serde_json::value::RawValue;

use crate::answer::problem::Code;

/// Levels of arrays and objects that `data` may have. `serde_json` and many other readers stop there by default, so
/// deeper data would fail at each subscriber instead of once at its publisher (RFC 8259 §9 allows a limit).
pub const DEPTH_MAX: usize = 127;

/// `value` without the white space between its tokens; number text, key order and strings stay as they are.
///
/// # Errors
///
/// [`Code::BodyMalformed`] if it is nested more than [`DEPTH_MAX`] levels deep. `serde_json`'s own limit does not
/// cover [`RawValue`], which it skips over without recursion.
pub fn compact(value: &RawValue) -> Result<String, Code> {
    let json = value.get();
    let bytes = json.as_bytes();
    let mut out = String::with_capacity(json.len());
    let (mut at, mut copied, mut depth) = (0, 0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        let end = if byte == b'"' { string_end(bytes, at) } else { at + 1 };
        if is_json_space(byte) {
            // White space is ASCII, so both ends of the slice are character boundaries.
            out.push_str(&json[copied..at]);
            copied = end;
        } else if matches!(byte, b'[' | b'{') {
            depth += 1;
            if depth > DEPTH_MAX {
                return Err(Code::BodyMalformed);
            }
        } else if matches!(byte, b']' | b'}') {
            depth = depth.saturating_sub(1);
        }
        at = end;
    }
    out.push_str(&json[copied..]);
    Ok(out)
}

/// The position after the string that starts at `start`. Escapes are skipped in pairs, so `\"` does not end the string.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// White space between JSON tokens (RFC 8259 §2).
pub(super) fn is_json_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
