//! Blocks of a stream of events, taken apart where they lie.

use memchr::memchr_iter;
use memchr::memmem::Finder;

/// A whole block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Block<'a> {
    /// Its id.
    pub(super) id: Option<&'a [u8]>,
    /// Its kind; empty for a message.
    pub(super) event: &'a [u8],
    /// The first line of its data.
    pub(super) data: &'a [u8],
}

impl Block<'_> {
    /// The number of an event: `#17#`.
    pub(super) fn number(&self) -> Option<u64> {
        let digits = self.data.strip_prefix(b"#")?.strip_suffix(b"#")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Why a gap was told.
    pub(super) fn reason(&self) -> &str {
        let text = std::str::from_utf8(self.data).unwrap_or_default();
        let rest = text.split_once(r#""reason":""#).map_or("", |(_, rest)| rest);
        rest.split('"').next().unwrap_or_default()
    }
}

/// Gives `out` the blocks that end in `bytes`, of which the first may have begun in `carry`. What is left is put there.
pub(super) fn blocks(carry: &mut Vec<u8>, bytes: &[u8], mut out: impl FnMut(Block<'_>)) {
    if carry.is_empty() {
        let end = each(bytes, &mut out);
        carry.extend_from_slice(&bytes[end..]);
        return;
    }
    carry.extend_from_slice(bytes);
    let end = each(carry, &mut out);
    carry.drain(..end);
}

/// Returns where the last whole block ends.
fn each(bytes: &[u8], out: &mut impl FnMut(Block<'_>)) -> usize {
    let mut from = 0;
    for end in Finder::new(b"\n\n").find_iter(bytes) {
        out(block(&bytes[from..=end]));
        from = end + 2;
    }
    from
}

/// `text` ends with a line end.
fn block(text: &[u8]) -> Block<'_> {
    let (mut block, mut from) = (Block::default(), 0);
    for end in memchr_iter(b'\n', text) {
        let line = &text[from..end];
        from = end + 1;
        if let Some(value) = line.strip_prefix(b"id: ") {
            block.id = Some(value);
        } else if let Some(value) = line.strip_prefix(b"data: ") {
            block.data = value;
        } else if let Some(value) = line.strip_prefix(b"event: ") {
            block.event = value;
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"retry: 1\nevent: connected\nid: a-0\ndata: {}\n\nid: a-1\nroom: r\ndata: #7#\n\n:\n\n\
        event: gap\nid: b-2\ndata: {\"reason\":\"restart\",\"x\":1}\n\n";

    #[test]
    fn blocks_are_the_same_wherever_they_are_cut() {
        for at in 0..TEXT.len() {
            let (mut carry, mut seen) = (Vec::new(), Vec::new());
            for part in [&TEXT[..at], &TEXT[at..]] {
                blocks(&mut carry, part, |block| {
                    let id = block.id.map(|id| String::from_utf8_lossy(id).into_owned());
                    seen.push((id, block.event.to_vec(), block.number(), block.reason().to_owned()));
                });
            }
            assert!(carry.is_empty());
            let id = |text: &str| Some(text.to_owned());
            assert_eq!(seen.len(), 4, "{at}");
            assert_eq!(seen[0], (id("a-0"), b"connected".to_vec(), None, String::new()));
            assert_eq!(seen[1], (id("a-1"), Vec::new(), Some(7), String::new()));
            assert_eq!(seen[2], (None, Vec::new(), None, String::new()));
            assert_eq!(seen[3], (id("b-2"), b"gap".to_vec(), None, "restart".to_owned()));
        }
    }
}
