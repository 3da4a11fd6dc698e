//! Splits a streamed NDJSON body into lines while it arrives. Pure: chunks in, lines out.
//!
//! A line ends in LF or CRLF; the last one may end with the body. Blank lines are skipped but counted, also if they
//! begin with the byte order mark of a file. A line that lies wholly inside one chunk is a slice of it, not a copy;
//! only a line that spans chunks is put together in a buffer, which never holds more than the bound on a line and one
//! byte (a CR that may be half of a line end).

use bytes::{Bytes, BytesMut};

use crate::answer::problem::{Code, Problem};
use crate::http::api::publish::malformed::without_bom;

/// One line of a streamed body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its number, from 1, blank lines counted.
    pub number: u64,
    /// Its bytes without the line end. Never blank, and never more than the bound.
    pub bytes: Bytes,
}

/// The splitter.
///
/// After each [`push`](Self::push) take lines with [`next_line`](Self::next_line) until it returns `None`; when the
/// body has ended, take the last one with [`finish`](Self::finish). After an error there are no more lines.
#[derive(Debug)]
pub struct Lines {
    /// What has arrived and is not split yet.
    chunk: Bytes,
    /// The beginning of a line whose end has not arrived. Invariant: no LF in it, and `len() <= line_bytes_max + 1`.
    begun: BytesMut,
    /// Lines that have ended.
    ended: u64,
    line_bytes_max: usize,
    failed: bool,
}

impl Lines {
    /// A splitter for lines of up to `line_bytes_max` bytes, line ends not counted.
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        Self { chunk: Bytes::new(), begun: BytesMut::new(), ended: 0, line_bytes_max, failed: false }
    }

    /// Takes the next part of the body. If lines of the part before it were not taken yet, the new part is joined to
    /// the rest, at the price of a copy.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed {
            return;
        }
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [&self.chunk[..], &chunk[..]].concat().into();
        }
    }

    /// Bytes it holds: a line that has begun, and what is not split yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.chunk.len() + self.begun.capacity()
    }

    /// The next line that has ended; `None` until more is pushed.
    ///
    /// # Errors
    ///
    /// [`Code::EventTooLarge`] with the line's number, as soon as the line is too long.
    pub fn next_line(&mut self) -> Option<Result<Line, Problem>> {
        while let Some(end) = self.chunk.iter().position(|byte| *byte == b'\n') {
            let mut tail = self.chunk.split_to(end + 1);
            tail.truncate(end);
            if let Err(problem) = self.check_bound(&tail) {
                return Some(Err(problem));
            }
            if let Some(line) = self.end_line(tail) {
                return Some(Ok(line));
            }
        }
        let rest = std::mem::take(&mut self.chunk);
        if let Err(problem) = self.check_bound(&rest) {
            return Some(Err(problem));
        }
        let wanted = self.begun.len() + rest.len();
        if wanted > self.begun.capacity() {
            // At most twice the bytes that have come, and at most a line's bound.
            let capacity = wanted.max((2 * self.begun.len()).min(self.line_bytes_max));
            self.begun.reserve(capacity - self.begun.len());
        }
        self.begun.extend_from_slice(&rest);
        None
    }

    /// The last line, if the body did not end with a line end. Lines not taken yet come first.
    ///
    /// # Errors
    ///
    /// As [`next_line`](Self::next_line).
    pub fn finish(&mut self) -> Option<Result<Line, Problem>> {
        self.next_line().or_else(|| self.end_line(Bytes::new()).map(Ok))
    }

    /// Fails for good if the line that has begun, with `tail` after it, exceeds the bound.
    fn check_bound(&mut self, tail: &[u8]) -> Result<(), Problem> {
        let last = tail.last().or(self.begun.last());
        let bytes = self.begun.len() + tail.len() - usize::from(last == Some(&b'\r'));
        if bytes <= self.line_bytes_max {
            return Ok(());
        }
        self.failed = true;
        self.chunk = Bytes::new();
        self.begun = BytesMut::new();
        Err(Problem::new(Code::EventTooLarge).at_line(self.ended + 1))
    }

    /// Ends the current line with `tail`; `None` if it is blank.
    fn end_line(&mut self, tail: Bytes) -> Option<Line> {
        let mut bytes = if self.begun.is_empty() {
            tail
        } else {
            self.begun.extend_from_slice(&tail);
            // The whole buffer: one kept for the next line would share this line's memory and so keep it alive.
            std::mem::take(&mut self.begun).freeze()
        };
        self.ended += 1;
        if bytes.ends_with(b"\r") {
            bytes.truncate(bytes.len() - 1);
        }
        let blank = without_bom(&bytes).trim_ascii().is_empty();
        (!blank).then_some(Line { number: self.ended, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of `chunks`, as `number:text`, and the line of the error if there was one.
    fn split(chunks: &[&'static str], line_bytes_max: usize) -> (Vec<String>, Option<u64>) {
        let mut lines = Lines::new(line_bytes_max);
        let mut found = Vec::new();
        let mut all = Vec::new();
        for chunk in chunks {
            lines.push(Bytes::from_static(chunk.as_bytes()));
            while let Some(line) = lines.next_line() {
                all.push(line);
            }
        }
        all.extend(lines.finish());
        assert_eq!(lines.finish(), None);
        for line in all {
            match line {
                Ok(Line { number, bytes }) => {
                    found.push(format!("{number}:{}", std::str::from_utf8(&bytes).unwrap()));
                }
                Err(problem) => {
                    assert_eq!(problem.code, Code::EventTooLarge);
                    return (found, problem.line);
                }
            }
        }
        (found, None)
    }

    fn texts(chunks: &[&'static str]) -> Vec<String> {
        let (found, error) = split(chunks, 100);
        assert_eq!(error, None);
        found
    }

    #[test]
    fn lines_end_in_lf_or_crlf_or_with_the_body() {
        assert_eq!(texts(&["a\nb\r\nc"]), ["1:a", "2:b", "3:c"]);
        assert_eq!(texts(&["a\n"]), ["1:a"]);
        assert_eq!(texts(&["a"]), ["1:a"]);
        assert_eq!(texts(&["a\rb\r"]), ["1:a\rb"]);
        assert!(texts(&[]).is_empty());
    }

    #[test]
    fn blank_lines_are_skipped_and_counted() {
        assert_eq!(texts(&["\n\r\n \t\na\n\n\nb\n\n"]), ["4:a", "7:b"]);
        assert!(texts(&["\n", "", " "]).is_empty());
        assert_eq!(texts(&["\u{feff}\r\na"]), ["2:a"]);
    }

    #[test]
    fn a_line_may_span_chunks() {
        assert_eq!(texts(&["a", "b", "", "c\nd\r", "\ne"]), ["1:abc", "2:d", "3:e"]);
    }

    #[test]
    fn the_bound_leaves_line_ends_out() {
        let fits = vec!["1:abc".to_owned(), "2:def".to_owned()];
        for chunks in
            [&["abc\r\ndef"][..], &["abc\r", "\ndef\r"], &["ab", "c", "\r", "\n", "def"], &["abc\ndef\n"]]
        {
            assert_eq!(split(chunks, 3), (fits.clone(), None), "{chunks:?}");
        }
        for chunks in [
            &["abc\r\ndefg"][..],
            &["abc\r\ndefg\n"],
            &["abc\n", "def", "g"],
            &["abc\n", "def\r", "g\n"],
            &["abc\n", "d", "efghij"],
        ] {
            let one = vec!["1:abc".to_owned()];
            assert_eq!(split(chunks, 3), (one, Some(2)), "{chunks:?}");
        }
    }

    #[test]
    fn after_an_error_nothing_is_kept() {
        let mut lines = Lines::new(3);
        lines.push(Bytes::from_static(b"abcdef\nghi\n"));
        assert!(lines.next_line().unwrap().is_err());
        lines.push(Bytes::from_static(b"jkl\n"));
        assert_eq!(lines.next_line(), None);
        assert_eq!(lines.finish(), None);
        assert_eq!((lines.chunk.len(), lines.begun.capacity()), (0, 0));
    }

    #[test]
    fn a_line_inside_one_chunk_is_not_copied() {
        let chunk = Bytes::from(b"abc\ndef\n".to_vec());
        let mut lines = Lines::new(10);
        lines.push(chunk.clone());
        let first = lines.next_line().unwrap().unwrap();
        let second = lines.next_line().unwrap().unwrap();
        assert_eq!(first.bytes.as_ptr(), chunk.as_ptr());
        assert_eq!(second.bytes.as_ptr(), chunk[4..].as_ptr());
    }

    #[test]
    fn a_chunk_pushed_early_is_not_lost() {
        let mut lines = Lines::new(10);
        lines.push(Bytes::from_static(b"a\nb"));
        lines.push(Bytes::from_static(b"c\nd"));
        let mut found = Vec::new();
        while let Some(line) = lines.finish() {
            found.push(line.unwrap().bytes);
        }
        assert_eq!(found, ["a", "bc", "d"]);
    }
}
