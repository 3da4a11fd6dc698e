//! Text that somebody else wrote, made fit to be shown: instructions in it are written out.

use std::fmt::Write as _;

/// `line` with everything written out that is no text but an instruction, its end excepted.
#[must_use]
pub fn plain(line: &str) -> String {
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    let mut out = String::with_capacity(line.len());
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            // All of them are in the basic plane, where JSON takes one escape for each.
            write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes any text");
        }
    }
    out + end
}

/// Neither a control character nor one that some readers take for the end of a line or for the turn of its direction.
pub(crate) fn is_plain(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && !matches!(c, '\u{2028}' | '\u{2029}')
}
