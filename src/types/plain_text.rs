//! Makes text from outside safe to show: characters that would act as instructions are written as escapes.

use std::fmt::Write as _;

/// `line` with each character that is not plain text written as an escape. A line break at its end stays.
#[must_use]
pub fn plain(line: &str) -> String {
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    let mut out = String::with_capacity(line.len());
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            // All of these characters are in the basic plane, where JSON needs one escape each.
            write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes any text");
        }
    }
    out + end
}

/// Whether `c` is neither a control character nor one that some programs read as a line break or a change of direction.
pub(crate) fn is_plain(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && !matches!(c, '\u{2028}' | '\u{2029}')
}
