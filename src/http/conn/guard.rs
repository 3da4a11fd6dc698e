//! Checks the bytes of requests before hyper reads them, for what hyper lets pass and a proxy in front might read
//! differently. Requests are smuggled where two readers disagree about where a request ends (RFC 9112 §11.2).
//!
//! Guarantees: in the bytes it passes, every line of a head, a chunk's size and a trailer ends in CRLF and has no other
//! control character but a tab; a head has one way to say where its body ends; heads, trailers and a chunk's extension
//! have bounds. After the first error nothing passes. It stores no body and no head, only the current line. hyper
//! interprets what a line *means*.

use memchr::memchr2;

use crate::answer::problem::Code;

/// Bytes a chunk's size and its extensions may have. RFC 9112 §7.1.1 asks for a limit.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// The longest body that a head may declare. hyper reserves the two numbers above it.
const LENGTH_MAX: u64 = u64::MAX - 2;

/// Empty lines before a request line that are skipped (RFC 9112 §2.2 asks for at least one).
const EMPTY_LINES_MAX: u8 = 2;

/// The beginning of a request line that asks for a head only.
const HEAD: &[u8] = b"HEAD ";

/// The position of the next byte in the connection's requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// In the request line, after this many empty lines.
    RequestLine { empty: u8 },
    /// In a field of the head.
    Field(Framing),
    /// In a body, with this many bytes to come.
    Body(u64),
    /// In the line with a chunk's size.
    ChunkSize,
    /// In a chunk's data, with this many bytes to come.
    Chunk(u64),
    /// In the line end after a chunk's data.
    ChunkEnd,
    /// In the fields after the last chunk.
    Trailer,
    /// After an error, with its code.
    Broken { code: Code, in_body: bool },
}

/// Part of a line.
struct Part<'a> {
    /// Its bytes, with the line end.
    passed: usize,
    /// Its text, without the line end.
    text: &'a [u8],
    ended: bool,
}

/// What a head has declared so far about the end of its body.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    /// HTTP/1.0 has no chunks.
    old: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Guard {
    state: State,
    /// The beginning of a line that has not ended yet.
    line: Vec<u8>,
    /// Bytes of the head, or of the trailer, before that line.
    before: usize,
    /// Whether the last request line asks for a head only, as far as it has come.
    head_only: bool,
    /// Complete heads so far. Wraps around: numbers are compared long before that.
    heads: u32,
    head_bytes_max: usize,
}

impl Guard {
    /// A guard for a new connection. A head may have `head_bytes_max` bytes, and a trailer the same.
    #[must_use]
    pub fn new(head_bytes_max: usize) -> Self {
        Self { state: Self::START, line: Vec::new(), before: 0, head_only: false, heads: 0, head_bytes_max }
    }

    /// Checks the next bytes. Returns the number of bytes before the first wrong one.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let passed = match self.state {
                State::Broken { .. } => return at,
                State::Body(left) => self.data(left, rest, State::Body, Self::START),
                State::Chunk(left) => self.data(left, rest, State::Chunk, State::ChunkEnd),
                _ => self.line(rest),
            };
            at += passed;
            if self.is_broken() {
                return at;
            }
        }
        at
    }

    /// Whether an error was found.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken { .. })
    }

    /// The error, if one was found.
    #[must_use]
    pub fn refusal(&self) -> Option<Code> {
        match self.state {
            State::Broken { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the error is in the body of a request whose head was right.
    #[must_use]
    pub fn is_broken_in_body(&self) -> bool {
        matches!(self.state, State::Broken { in_body: true, .. })
    }

    /// The number of the request whose body is wrong, from 1 on, if there is one.
    #[must_use]
    pub fn broken_body(&self) -> Option<u32> {
        self.is_broken_in_body().then_some(self.heads)
    }

    /// Whether a head has begun and is not complete.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        match self.state {
            State::RequestLine { .. } => !self.line.is_empty(),
            State::Field(_) => true,
            _ => false,
        }
    }

    /// Whether a head is complete and its body is not.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        match self.state {
            State::RequestLine { .. } | State::Field(_) => false,
            State::Body(_) | State::ChunkSize | State::Chunk(_) | State::ChunkEnd | State::Trailer => true,
            State::Broken { in_body, .. } => in_body,
        }
    }

    /// Whether the last request, as far as it has come, is a `HEAD`, whose answer has no body.
    #[must_use]
    pub fn asks_for_head(&self) -> bool {
        self.head_only
    }

    /// Whether the peer has begun a request and not finished it.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !matches!(self.state, State::RequestLine { .. }) || !self.line.is_empty()
    }

    const START: State = State::RequestLine { empty: 0 };

    /// Passes data, of which `left` bytes are to come.
    fn data(&mut self, left: u64, rest: &[u8], inside: fn(u64) -> State, then: State) -> usize {
        let passed = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let left = left - passed as u64;
        self.state = if left == 0 { then } else { inside(left) };
        passed
    }

    /// Passes a line, or the part of it that has come, up to the first wrong byte.
    fn line(&mut self, rest: &[u8]) -> usize {
        // One byte more than fits shows that the line is too long.
        let room = self.bytes_max().saturating_sub(self.before + self.line.len());
        let near = &rest[..rest.len().min(room + 1)];
        if matches!(self.state, State::RequestLine { .. }) && self.line.len() < HEAD.len() {
            self.head_only = self.line.iter().chain(near).take(HEAD.len()).eq(HEAD);
        }
        let part = match self.split(near) {
            Ok(part) => part,
            Err(wrong) => return self.refuse(Code::RequestMalformed, wrong),
        };
        if let Some(wrong) = part.text.iter().position(|byte| is_control(*byte)) {
            return self.refuse(Code::RequestMalformed, wrong);
        }
        if part.passed > room {
            let code = if self.is_in_body() { Code::RequestMalformed } else { Code::HeadTooLarge };
            return self.refuse(code, 0);
        }
        if !part.ended {
            self.line.extend_from_slice(&near[..part.passed]);
            return part.passed;
        }
        let bytes = self.line.len() + part.passed;
        let next = if self.line.is_empty() {
            self.next(part.text)
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(part.text);
            self.next(line.strip_suffix(b"\r").unwrap_or(&line))
        };
        match next {
            Ok(next) => {
                // An empty line ends a head.
                if matches!(self.state, State::Field(_)) && !matches!(next, State::Field(_)) {
                    self.heads = self.heads.wrapping_add(1);
                }
                self.before = if self.state.goes_on(next) { self.before + bytes } else { 0 };
                self.state = next;
                part.passed
            }
            // All but the LF: without it hyper does not take the line as ended.
            Err(code) => self.refuse(code, part.passed - 1),
        }
    }

    /// The first line of `rest`, or the number of bytes before a CR or LF that is not part of a CRLF.
    fn split<'a>(&self, rest: &'a [u8]) -> Result<Part<'a>, usize> {
        if self.line.last() == Some(&b'\r') {
            let ended = rest[0] == b'\n';
            return if ended { Ok(Part { passed: 1, text: b"", ended }) } else { Err(0) };
        }
        let Some(at) = memchr2(b'\r', b'\n', rest) else {
            return Ok(Part { passed: rest.len(), text: rest, ended: false });
        };
        match (rest[at], rest.get(at + 1)) {
            (b'\n', _) => Err(at),
            (_, None) => Ok(Part { passed: at + 1, text: &rest[..at], ended: false }),
            (_, Some(b'\n')) => Ok(Part { passed: at + 2, text: &rest[..at], ended: true }),
            (_, Some(_)) => Err(at + 1),
        }
    }

    fn bytes_max(&self) -> usize {
        match self.state {
            State::ChunkSize | State::ChunkEnd => CHUNK_LINE_BYTES_MAX,
            _ => self.head_bytes_max,
        }
    }

    fn refuse(&mut self, code: Code, passed: usize) -> usize {
        self.state = State::Broken { code, in_body: self.is_in_body() };
        self.line = Vec::new();
        passed
    }

    /// The state after `line`, which has no line end, or the error in it.
    fn next(&self, line: &[u8]) -> Result<State, Code> {
        let next = match self.state {
            State::RequestLine { empty } if line.is_empty() => {
                (empty < EMPTY_LINES_MAX).then_some(State::RequestLine { empty: empty + 1 })
            }
            // A tab between the parts is read differently by some. hyper cuts off a fragment, which no target has (RFC
            // 9112 §3.2).
            State::RequestLine { .. } if memchr2(b'\t', b'#', line).is_some() => None,
            State::RequestLine { .. } if line.ends_with(b" HTTP/2.0") => None,
            State::RequestLine { .. } => {
                Some(State::Field(Framing { old: line.ends_with(b" HTTP/1.0"), ..Framing::default() }))
            }
            State::Field(framing) if line.is_empty() => Some(match framing {
                Framing { chunked: true, .. } => State::ChunkSize,
                Framing { length: Some(length @ 1..), .. } => State::Body(length),
                _ => Self::START,
            }),
            State::Field(framing) => Some(State::Field(framing.with(line)?)),
            State::ChunkSize => chunk_size(line).map(|size| match size {
                0 => State::Trailer,
                size => State::Chunk(size),
            }),
            State::ChunkEnd => line.is_empty().then_some(State::ChunkSize),
            State::Trailer if line.is_empty() => Some(Self::START),
            State::Trailer => field(line).filter(|(name, _)| !is_for_heads(name)).map(|_| State::Trailer),
            State::Body(_) | State::Chunk(_) | State::Broken { .. } => None,
        };
        next.ok_or(Code::RequestMalformed)
    }
}

impl State {
    /// Whether a line that leads to `next` belongs to the same head, or trailer, as the line before it, which led here.
    fn goes_on(self, next: Self) -> bool {
        match next {
            Self::RequestLine { empty } => empty > 0,
            Self::Field(_) => true,
            Self::Trailer => self == Self::Trailer,
            _ => false,
        }
    }
}

impl Framing {
    /// The framing after the field `line`, or the error in it.
    fn with(self, line: &[u8]) -> Result<Self, Code> {
        let (name, value) = field(line).ok_or(Code::RequestMalformed)?;
        // The same header twice is refused, even with equal values: the next reader may take the other one.
        let free = self.length.is_none() && !self.chunked;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value).filter(|_| free).ok_or(Code::RequestMalformed)?;
            return if length <= LENGTH_MAX {
                Ok(Self { length: Some(length), ..self })
            } else {
                Err(Code::BodyTooLarge)
            };
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let known = value.eq_ignore_ascii_case(b"chunked");
            let chunked = known && free && !self.old;
            return if chunked { Ok(Self { chunked, ..self }) } else { Err(Code::RequestMalformed) };
        }
        Ok(self)
    }
}

/// Splits `name: value`, without the white space around the value. A line that begins with white space would continue
/// the field before it (`obs-fold`), and white space before the colon is read in two ways (RFC 9112 §5.1, §5.2).
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
    is_name.then_some((name, value.trim_ascii()))
}

/// Whether a field called `name` says where a message ends or goes. After a body it comes too late, and a proxy that
/// merges trailers into the head would have another head (RFC 9110 §6.5.1).
fn is_for_heads(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding", b"host"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether `byte` may be in a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `byte` may be in no line.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Parses digits only, which `str::parse` is not strict about. A number that is too large becomes the largest.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(text).ok().filter(|_| digits)?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Parses the size at the beginning of a chunk's line. What follows is an extension, which is ignored.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    if !rest.is_empty() && !rest.trim_ascii_start().starts_with(b";") {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of bytes of `text` that pass, fed in pieces of `step` bytes, and the guard after them.
    fn passed(text: &str, step: usize) -> (usize, Guard) {
        let mut guard = Guard::new(1_000);
        let mut passed = 0;
        for piece in text.as_bytes().chunks(step) {
            let now = guard.pass(piece);
            passed += now;
            if now < piece.len() {
                break;
            }
        }
        (passed, guard)
    }

    #[test]
    fn requests_in_order_pass_however_they_are_cut() {
        let text = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n\
            \r\nPOST /b HTTP/1.1\r\nhost:x\r\nContent-Length: 5 \r\n\r\na\nb\r\0\
            POST /c HTTP/1.1\r\nHost:\tx\r\nTransfer-Encoding: Chunked\r\n\r\n\
            3\r\n\n\r\0\r\n10;name=\"a\"\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n\
            POST /d HTTP/1.0\r\ncontent-length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        for step in 1..text.len() {
            let (count, guard) = passed(text, step);
            assert_eq!((count, guard.is_broken(), guard.is_inside()), (text.len(), false, false), "{step}");
        }
    }

    #[test]
    fn it_says_how_far_a_request_has_come() {
        let places = |text: &str| {
            let (_, guard) = passed(text, 1);
            (guard.is_inside(), guard.is_in_head(), guard.is_in_body())
        };
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
        for (text, wanted) in [
            ("", (false, false, false)),
            ("\r\n", (false, false, false)),
            ("P", (true, true, false)),
            ("POST / HTTP/1.1\r\n", (true, true, false)),
            ("POST / HTTP/1.1\r\nHost", (true, true, false)),
            (head, (true, false, true)),
            (&format!("{head}ab"), (true, false, true)),
            (&format!("{head}abc"), (false, false, false)),
        ] {
            assert_eq!(places(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_head_is_stopped_before_the_head_could_end() {
        let table = [
            ("GET / HTTP/1.1\n", "", "a bare LF"),
            ("", "\n", "a bare LF before it"),
            ("GET / HTTP/1.1\rHost: x", "", "a bare CR"),
            ("GET /\t HTTP/1.1\r", "\n", "a tab in the request line"),
            ("GET /\0 HTTP/1.1", "", "NUL"),
            ("GET /a#b HTTP/1.1\r", "\n", "a fragment"),
            ("\r\n\r\n\r", "\n", "a third empty line"),
            ("PRI * HTTP/2.0\r", "\n", "HTTP/2"),
            ("GET / HTTP/1.1\r\nA: \u{7f}", "", "DEL"),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r", "\n", "a folded line"),
            ("GET / HTTP/1.1\r\nA : b\r", "\n", "white space before the colon"),
            ("GET / HTTP/1.1\r\n: b\r", "\n", "no name"),
            ("GET / HTTP/1.1\r\nA\r", "\n", "no colon"),
            ("POST / HTTP/1.1\r\nContent-Length: +5\r", "\n", "a sign"),
            ("POST / HTTP/1.1\r\nContent-Length: 5, 5\r", "\n", "a list"),
            ("POST / HTTP/1.1\r\nContent-Length:\r", "\n", "no number"),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r", "\n", "twice the same"),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r", "\n", "both"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r", "\n", "both, turned"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r", "\n", "another encoding"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: \u{b}chunked\r", "\n", "a vertical tab"),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r", "\n", "chunks before HTTP/1.1"),
        ];
        for (good, bad, what) in table {
            let text = format!("{good}{bad}Host: x\r\n\r\n");
            let (whole, _) = passed(&text, text.len());
            for step in [1, 2, 3, 7, 1_000] {
                let (count, guard) = passed(&text, step);
                assert!(guard.is_broken() && !guard.is_broken_in_body(), "{what}, {step}");
                assert!(count <= good.len(), "{what}, {step}: {count}");
                assert_eq!(count, whole, "{what}, {step}");
            }
        }
    }

    #[test]
    fn what_is_wrong_in_a_body_is_told_apart() {
        let long = format!("1;{}\r\n", "x".repeat(300));
        let table = [
            "\r\n",
            "x\r\n",
            "5 5\r\n",
            "-1\r\n",
            "0x5\r\n",
            "5\n",
            "1;a\0\r\n",
            "1;\u{1b}\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "0\r\nno colon\r\n",
            "0\r\n folded: x\r\n",
            "0\r\nContent-Length: 5\r\n",
            "0\r\na: b\r\ntransfer-encoding: chunked\r\n",
            "0\r\nHOST: x\r\n",
            "11111111111111111\r\n",
            &long,
        ];
        for chunk in table {
            let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
            for step in [1, 2, 5, 1_000] {
                let (count, guard) = passed(&text, step);
                assert!(guard.is_broken_in_body() && count < text.len(), "{chunk:?}, {step}");
            }
        }
    }

    #[test]
    fn a_head_may_be_as_long_as_its_bound_and_no_longer() {
        let feed = |text: &str, bound: usize, step: usize| {
            let mut guard = Guard::new(bound);
            let passed: usize = text.as_bytes().chunks(step).map(|piece| guard.pass(piece)).sum();
            (passed == text.len(), guard.refusal())
        };
        let small = "GET / HTTP/1.1\r\n\r\n";
        let heads = [
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100)),
            format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(100)),
            format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(20)),
            format!("\r\n\r\nGET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(100)),
            format!("POST / HTTP/1.1\r\nContent-Length: 3\r\nA: {}\r\n\r\n\r\n\r", "x".repeat(100)),
        ];
        for (head, step) in heads.iter().flat_map(|head| [1, 2, 7, 10_000].map(|step| (head, step))) {
            let bound = head.len() - if head.starts_with("POST") { 3 } else { 0 };
            // At any place among other heads, whose bytes do not count.
            for text in [head.clone(), format!("{small}{head}{small}"), head.repeat(3)] {
                assert_eq!(feed(&text, bound, step), (true, None), "{text:?}, {step}");
                assert_eq!(
                    feed(&text, bound - 1, step),
                    (false, Some(Code::HeadTooLarge)),
                    "{text:?}, {step}"
                );
            }
        }
    }

    #[test]
    fn a_length_may_be_what_hyper_can_hold_and_no_more() {
        for (length, refusal) in [
            ("18446744073709551613", None),
            ("018446744073709551613", None),
            ("18446744073709551614", Some(Code::BodyTooLarge)),
            ("18446744073709551615", Some(Code::BodyTooLarge)),
            ("99999999999999999999", Some(Code::BodyTooLarge)),
            ("99999999999999999999x", Some(Code::RequestMalformed)),
        ] {
            for step in [1, 7, 1_000] {
                let (_, guard) =
                    passed(&format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"), step);
                assert_eq!(
                    (guard.refusal(), guard.is_in_body()),
                    (refusal, refusal.is_none()),
                    "{length}, {step}"
                );
            }
        }
    }

    #[test]
    fn what_asks_for_a_head_is_known_as_soon_as_it_says_so() {
        for (text, wanted) in [
            ("HEAD ", true),
            ("HEAD", false),
            ("\r\nHEAD /x\0", true),
            ("HEAD / HTTP/1.1\r\nno colon\r\n", true),
            ("HEAD / HTTP/1.1\r\n\r\nGET / HT", false),
            ("GET / HTTP/1.1\r\n\r\nHEAD / HT", true),
            ("HEADS / HTTP/1.1\r\n\r\n", false),
            ("GET HEAD \0", false),
        ] {
            for step in [1, 2, 3, 1_000] {
                assert_eq!(passed(text, step).1.asks_for_head(), wanted, "{text:?}, {step}");
            }
        }
    }

    /// The answer 400 is for that request, and those before it get their own.
    #[test]
    fn a_wrong_body_is_known_by_the_number_of_its_request() {
        let get = "GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n1\r\na\r\n0\r\nC: d\r\n\r\n";
        let wrong = "POST / HTTP/1.1\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\na\r\nx\r\n";
        for step in [1, 3, 1_000] {
            for (before, number) in [(String::new(), 1), (get.to_owned(), 2), ([get, post, get].concat(), 4)]
            {
                let (_, guard) = passed(&format!("{before}{wrong}"), step);
                assert_eq!(guard.broken_body(), Some(number), "{before}, {step}");
            }
            assert_eq!(passed(get, step).1.broken_body(), None, "{step}");
        }
    }

    #[test]
    fn chunk_lines_and_trailers_have_bounds() {
        let feed = |chunks: &str, bound: usize, step: usize| {
            let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            let mut guard = Guard::new(bound);
            let passed: usize = text.as_bytes().chunks(step).map(|piece| guard.pass(piece)).sum();
            (passed == text.len(), guard.is_broken_in_body())
        };
        let long = "x".repeat(CHUNK_LINE_BYTES_MAX - "1;\r\n".len());
        let trailer = "A: b\r\n".repeat(20) + "\r\n";
        for step in [1, 5, 1_000] {
            assert_eq!(feed(&format!("1;{long}\r\na\r\n0\r\n\r\n"), 100, step), (true, false), "{step}");
            assert_eq!(feed(&format!("1;{long}x\r\na\r\n0\r\n\r\n"), 100, step), (false, true), "{step}");
            let chunks = format!("1;{long}\r\na\r\n0\r\n{trailer}");
            assert_eq!(feed(&chunks, trailer.len(), step), (true, false), "{step}");
            assert_eq!(feed(&chunks, trailer.len() - 1, step), (false, true), "{step}");
        }
    }

    #[test]
    fn nothing_passes_after_something_wrong() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1_000));
        for wrong in ["GET / HTTP/1.1\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", &long]
        {
            let (_, mut guard) = passed(wrong, 1_000);
            let (code, in_body) = (guard.refusal(), guard.is_broken_in_body());
            assert_eq!(guard.pass(b"\r\nGET / HTTP/1.1\r\n\r\n"), 0, "{wrong:?}");
            assert!(guard.is_broken(), "{wrong:?}");
            assert_eq!((guard.refusal(), guard.is_broken_in_body()), (code, in_body), "{wrong:?}");
        }
    }
}
