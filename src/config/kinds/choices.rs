//! Settings whose value is one of a few words.

use crate::config::kinds::{Kind, Plain, Shape};
use crate::types::words::{Words, words};

/// One of the words of `T`, in lower case.
pub(crate) fn choice<T: Words>() -> Choice<T> {
    Choice(T::ALL)
}

pub(crate) struct Choice<T: 'static>(&'static [T]);

impl<T: Words> Kind for Choice<T> {
    type Value = T;

    fn placeholder(&self) -> &'static str {
        "WORD"
    }

    fn wanted(&self, _: &str) -> String {
        one_of(self.0.iter().map(|value| value.word()))
    }

    fn parse(&self, text: &str) -> Option<T> {
        self.0.iter().find(|value| value.word() == text).copied()
    }

    fn print(&self, value: &T) -> String {
        value.word().to_owned()
    }
}

/// `off` or `on`: a `bool` in the words that read best for a feature.
pub(crate) fn switch() -> Plain<bool> {
    Plain {
        placeholder: "WORD",
        wanted: |_| "off or on".to_owned(),
        parse: truth,
        print: |value| if *value { "on" } else { "off" }.to_owned(),
    }
}

/// `true` or `false`, and a flag that needs no value.
pub(crate) fn bare() -> Bare {
    Bare
}

pub(crate) struct Bare;

impl Kind for Bare {
    type Value = bool;

    const SHAPE: Shape = Shape::Bool;

    fn placeholder(&self) -> &'static str {
        "WORD"
    }

    fn wanted(&self, _: &str) -> String {
        "true or false".to_owned()
    }

    fn parse(&self, text: &str) -> Option<bool> {
        truth(text)
    }

    fn print(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// Accepts both pairs of words for all settings, so that they need not be remembered.
fn truth(text: &str) -> Option<bool> {
    match text {
        "on" | "true" => Some(true),
        "off" | "false" => Some(false),
        _ => None,
    }
}

/// Joins `words` as `a, b or c`.
fn one_of(words: impl Iterator<Item = &'static str>) -> String {
    let words: Vec<_> = words.collect();
    let (last, others) = words.split_last().expect("a choice has words");
    format!("{} or {last}", others.join(", "))
}

words! {
    /// What happens to a connection above its user's limit.
    UserOverflow {
        /// It is refused.
        Refuse = "refuse",
        /// It is accepted, and the user's oldest is closed.
        Replace = "replace",
    }
}

words! {
    /// What happens to an event above its subscriber's delivery rate.
    DeliveryOverflow {
        /// It is dropped, counted, and replaced by a gap.
        Drop = "drop",
        /// It waits until the rate allows it.
        Defer = "defer",
    }
}

words! {
    /// What pages of origins that are not in `cors_origins` may do.
    ForeignOrigins {
        /// Send requests that change nothing, without reading the answer.
        Read = "read",
        /// Nothing.
        Refuse = "refuse",
    }
}

words! {
    /// The form of a temporary refusal. An `EventSource` stops for good on any status but 200.
    RefusalStyle {
        /// `200`, `retry:` and `event: overload`, then close.
        Event = "event",
        /// `503` and `Retry-After`.
        Status = "status",
    }
}

words! {
    /// Whether `GET /` gives a browser a page to try things on.
    TryPage {
        /// While no authentication is set up.
        Auto = "auto",
        /// Always.
        On = "on",
        /// Never.
        Off = "off",
    }
}

words! {
    /// The lowest level of lines that are logged. The words are those of `tracing`'s `LevelFilter`.
    LogLevel {
        /// No lines.
        Off = "off",
        /// The operator must act.
        Error = "error",
        /// Something that may turn into an error.
        Warn = "warn",
        /// Start, stop and changes of state.
        Info = "info",
        /// Events of single requests.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// The form of a log line.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_may_be_true_and_what_is_true_may_be_on() {
        for (text, value) in [("on", true), ("true", true), ("off", false), ("false", false)] {
            assert_eq!((switch().parse(text), bare().parse(text)), (Some(value), Some(value)), "{text}");
        }
        for text in ["", "On", "yes", "1", "0"] {
            assert_eq!((switch().parse(text), bare().parse(text)), (None, None), "{text:?}");
        }
        assert_eq!((switch().print(&true), bare().print(&true)), ("on".to_owned(), "true".to_owned()));
    }

    #[test]
    fn words_read_back_and_nothing_else_does() {
        let kind = choice::<LogLevel>();
        assert_eq!(kind.wanted(""), "off, error, warn, info, debug or trace");
        for value in LogLevel::ALL {
            assert_eq!(kind.parse(value.as_str()), Some(*value));
        }
        for text in ["", "INFO", "information", " info"] {
            assert_eq!(kind.parse(text), None, "{text:?}");
        }
    }
}
