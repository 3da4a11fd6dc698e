//! The scripts that run inside Redis, and how their arguments and answers are written.
//!
//! Redis runs a script without interruption and replicates its effects as one transaction, so what is read and what is
//! written here belongs together, on replicas and in what is loaded after a restart.

use bytes::Bytes;

use crate::order::redis::call::{
    AppendAnswer, AppendCall, AttachAnswer, AttachCall, Batch, Became, Oldest, Repeat, Whereabouts,
};
use crate::order::redis::copy::{Key, Row};
use crate::order::redis::entry::{EntryId, LogEntry, events_of};
use crate::order::redis::{parts, terms};
use crate::types::position::Epoch;

/// Says where the order is, and begins a term if one has to begin.
pub const ATTACH: &str = concat!("#!lua flags=allow-oom\n", include_str!("scripts/attach.lua"));

/// Says where the order is, in a Redis that takes no writes.
pub const LOOK: &str = concat!("#!lua flags=no-writes\n", include_str!("scripts/attach.lua"));

/// Appends an entry.
pub const APPEND: &str = include_str!("scripts/append.lua");

/// Takes a copy of an order.
pub const COPY: &str = include_str!("scripts/copy.lua");

/// The format of what is in Redis. Another one is not touched.
pub const FORMAT: &str = "1";

/// A value that Redis answers, whatever client brought it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// A text or bytes.
    Bytes(Bytes),
    /// Several values.
    List(Vec<Value>),
    /// Anything else.
    Other,
}

/// Where the order is, and how much of it is kept.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Its keys are `{prefix}:…`, in one slot of a cluster.
    pub prefix: String,
    /// Bytes that are kept.
    pub bytes: u64,
    /// Milliseconds that are kept; 0 without end.
    pub age_ms: u64,
}

/// Keys and arguments of a script.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Call {
    /// Its keys.
    pub keys: Vec<String>,
    /// Its arguments.
    pub args: Vec<Bytes>,
}

/// A step of a copy.
#[derive(Clone, Copy, Debug)]
pub enum Step<'s> {
    /// Nothing is there, or what another copy has left.
    Begin,
    /// Entries, keys, and a mile if one ends here.
    Add {
        /// Its offset, its time and its bytes.
        mile: &'s str,
        /// The entries.
        rows: &'s [Row],
        /// The keys.
        keys: &'s [Key],
    },
    /// All is there: fields of the key `meta` and their values.
    End(&'s [(&'static str, String)]),
}

impl Keep {
    /// The key of the stream.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{{{}}}:log", self.prefix)
    }

    /// The key that is written before a question what else has everything: the answer is about what was written before.
    #[must_use]
    pub fn asked(&self) -> String {
        format!("{{{}}}:asked", self.prefix)
    }

    fn call(&self) -> Call {
        let keys = ["meta", "log", "miles"].map(|name| format!("{{{}}}:{name}", self.prefix));
        Call { keys: keys.into(), args: vec![FORMAT.into()] }
    }

    /// The call of [`COPY`] for a step of the copy called `name`.
    #[must_use]
    pub fn copy(&self, name: &str, step: Step<'_>) -> Call {
        let mut call = Call { args: Vec::new(), ..self.call() };
        match step {
            Step::Begin => call.extend(["begin", name]),
            Step::Add { mile, rows, keys } => {
                call.extend(["add", name, mile, &rows.len().to_string()]);
                for Row { offset, fields } in rows {
                    call.extend([&*format!("{offset}-0"), &(2 * fields.len()).to_string()]);
                    for (field, value) in fields {
                        call.args.extend([Bytes::from_static(field.as_bytes()), value.clone()]);
                    }
                }
                for Key { key, value, rest_ms } in keys {
                    call.keys.push(format!("{{{}}}:once:{key:032x}", self.prefix));
                    call.extend([&**value, &rest_ms.to_string()]);
                }
            }
            Step::End(meta) => {
                call.extend(["end", name]);
                for (field, value) in meta {
                    call.extend([*field, value]);
                }
            }
        }
        call
    }

    /// The call of [`ATTACH`].
    #[must_use]
    pub fn attach(&self, asked: &AttachCall) -> Call {
        let mut call = self.call();
        let text = |epoch: Option<Epoch>| epoch.map_or(String::new(), |epoch| epoch.to_string());
        call.push(text(asked.epoch));
        call.push(asked.seen.to_string());
        call.push(asked.high.to_string());
        call.push(text(asked.given_up));
        call.push(asked.fresh.to_string());
        call
    }

    /// The call of [`LOOK`].
    #[must_use]
    pub fn look(&self, asked: &AttachCall) -> Call {
        let mut call = self.attach(asked);
        call.push("look".to_owned());
        call
    }

    /// The call of [`APPEND`].
    #[must_use]
    pub fn append(&self, life: &str, asked: &AppendCall) -> Call {
        let mut call = self.call();
        call.push(asked.epoch.to_string());
        call.push(asked.seen.to_string());
        call.push(life.to_owned());
        call.push(asked.seq.map_or(String::new(), |seq| seq.to_string()));
        call.push(asked.tag.clone());
        call.push(self.bytes.to_string());
        call.push(self.age_ms.to_string());
        let parts = parts::of(&asked.batches);
        call.push(parts.len().to_string());
        for part in parts {
            call.push(part.count.to_string());
            call.push(part.once.len().to_string());
            for once in part.once {
                call.keys.push(format!("{{{}}}:once:{:032x}", self.prefix, once.key));
                call.push(format!("{:032x}", once.content));
                call.push(once.time.as_millis().max(1).to_string());
                call.push(once.first.to_string());
                call.push(once.count.to_string());
            }
            call.push(part.counts);
            call.args.push(part.body);
        }
        call
    }
}

impl Call {
    fn push(&mut self, text: String) {
        self.args.push(text.into());
    }

    fn extend<const COUNT: usize>(&mut self, texts: [&str; COUNT]) {
        self.args.extend(texts.map(|text| Bytes::copy_from_slice(text.as_bytes())));
    }
}

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Nil | Self::List(_) | Self::Other => None,
        }
    }

    fn list(&self) -> Option<&[Value]> {
        match self {
            Self::List(values) => Some(values),
            Self::Nil | Self::Bytes(_) | Self::Other => None,
        }
    }
}

/// Reads the answer of [`ATTACH`] or [`LOOK`]. `None` if it is none, or if a term has to begin that cannot be written.
#[must_use]
pub fn attached(answer: &Value) -> Option<AttachAnswer> {
    let words: Option<Vec<&str>> = answer.list()?.iter().map(Value::text).collect();
    match words?[..] {
        ["format", _] => Some(AttachAnswer::Foreign),
        ["again"] => Some(AttachAnswer::Again),
        ["ok", newest, newest_tag, lineage, id, tag, before, counts] => {
            let oldest = || {
                let (id, events) = (EntryId::parse(id)?, events_of(counts)?);
                Some(Oldest { id, tag: tag.to_owned(), before: before.to_owned(), events })
            };
            let oldest = if id.is_empty() { None } else { Some(oldest()?) };
            let (newest, lineage) = (newest.parse().ok()?, terms::parse(lineage)?);
            Some(AttachAnswer::Here(Whereabouts { newest, tag: newest_tag.to_owned(), lineage, oldest }))
        }
        _ => None,
    }
}

/// Reads the answer of [`APPEND`] to `batches`. `None` if it is none.
#[must_use]
pub fn appended(answer: &Value, batches: &[Batch]) -> Option<AppendAnswer> {
    let words: Option<Vec<&str>> = answer.list()?.iter().map(Value::text).collect();
    match words?[..] {
        ["attach"] => Some(AppendAnswer::Elsewhere),
        ["stale"] => Some(AppendAnswer::Stale),
        ["dup", offset] => Some(AppendAnswer::Earlier(offset.parse().ok()?)),
        ["ok", newest, ref claimed @ ..] => {
            let claimed: Option<Vec<_>> = claimed.iter().map(|text| became(text)).collect();
            Some(AppendAnswer::Done(newest.parse().ok()?, parts::became(batches, claimed?)?))
        }
        _ => None,
    }
}

fn became(text: &str) -> Option<Became> {
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["a"] => Some(Became::Appended),
        ["o", index] => Some(Became::Other(index.parse().ok()?)),
        ["r", index, epoch, first, last] => {
            let (index, epoch) = (index.parse().ok()?, Epoch::parse(epoch)?);
            Some(Became::Repeat(Repeat {
                index,
                epoch,
                first: first.parse().ok()?,
                last: last.parse().ok()?,
            }))
        }
        _ => None,
    }
}

/// Reads entries as `XRANGE` answers them. An entry that cannot be read is `None`, and so is what follows it: nothing is
/// skipped.
#[must_use]
pub fn entries(answer: &Value) -> Option<Vec<Option<LogEntry>>> {
    let mut read = Vec::new();
    for value in answer.list()? {
        read.push(entry(value));
        if read.last().is_some_and(Option::is_none) {
            break;
        }
    }
    Some(read)
}

fn entry(value: &Value) -> Option<LogEntry> {
    let [id, fields] = value.list()? else { return None };
    let fields: Option<Vec<(Bytes, Bytes)>> = fields
        .list()?
        .chunks(2)
        .map(|pair| match pair {
            [Value::Bytes(name), Value::Bytes(value)] => Some((name.clone(), value.clone())),
            _ => None,
        })
        .collect();
    LogEntry::parse(id.text()?, &fields?)
}

/// Reads the answer of `XREAD` of one stream: nothing, or `[[key, entries]]`.
#[must_use]
pub fn read(answer: &Value) -> Option<Vec<Option<LogEntry>>> {
    match answer {
        Value::Nil => Some(Vec::new()),
        answer => match answer.list()? {
            [stream] => match stream.list()? {
                [_, found] => entries(found),
                _ => None,
            },
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::order::redis::call::OnceKey;

    fn list(words: &[&str]) -> Value {
        Value::List(words.iter().map(|word| Value::Bytes(Bytes::copy_from_slice(word.as_bytes()))).collect())
    }

    /// A batch that claims something, or not.
    fn batch(claims: bool) -> Batch {
        let once = OnceKey { key: 1, content: 2, time: Duration::from_secs(1), first: 0, count: 1 };
        Batch { body: "x".into(), count: 1, once: if claims { vec![once] } else { Vec::new() } }
    }

    #[test]
    fn answers_of_an_append_are_read() {
        let epoch = Epoch::new(1);
        let repeat = Repeat { index: 1, epoch, first: 5, last: 6 };
        let batches = [batch(true), batch(false), batch(true), batch(true), Batch::answered()];
        let done =
            [Became::Appended, Became::Appended, Became::Repeat(repeat), Became::Other(0), Became::Nothing];
        let text = format!("r 1 {epoch} 5 6");
        let answer = list(&["ok", "9", "a", &text, "o 0"]);
        assert_eq!(appended(&answer, &batches), Some(AppendAnswer::Done(9, done.into())));
        assert_eq!(appended(&list(&["ok", "9"]), &[]), Some(AppendAnswer::Done(9, Vec::new())), "a tick");
        assert_eq!(appended(&list(&["dup", "9"]), &batches), Some(AppendAnswer::Earlier(9)));
        assert_eq!(appended(&list(&["stale"]), &batches), Some(AppendAnswer::Stale));
        assert_eq!(appended(&list(&["attach"]), &batches), Some(AppendAnswer::Elsewhere));
        for words in [&["ok"][..], &["ok", "x"], &["ok", "9", "b"], &["ok", "9"], &["dup"], &[]] {
            assert_eq!(appended(&list(words), &batches[..1]), None, "{words:?}");
        }
    }

    #[test]
    fn answers_of_an_attach_are_read() {
        let here = list(&["ok", "7", "a:1.1", "100000:0", "7-0", "a:1.1", "100000", "0:2:5"]);
        let Some(AttachAnswer::Here(here)) = attached(&here) else { panic!("not read") };
        assert_eq!((here.newest, here.floor()), (7, 5));
        assert_eq!(attached(&list(&["again"])), Some(AttachAnswer::Again));
        assert_eq!(attached(&list(&["format", "2"])), Some(AttachAnswer::Foreign));
        assert_eq!(attached(&list(&["closed"])), None);
        assert_eq!(attached(&list(&["ok", "7", "a:1.1", "nonsense", "", "", "", "0"])), None);
    }
}
