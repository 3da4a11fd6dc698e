//! Logs. Text from a peer stays text within one line.
//!
//! The formatters quote most of it, but not everything: a value that is shown as it is may have a line break, which
//! would forge a line, or an escape sequence, which would control the reader's terminal. So every line passes one place
//! where all other characters are escaped, as in JSON.

use std::io::{self, Write};

use tracing::Dispatch;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{fmt, registry, reload};

use crate::config::{LogFormat, LogLevel};
use crate::types::plain_text::plain;

/// Changes the lowest level that is logged.
pub type SetLevel = Box<dyn Fn(LogLevel) + Send + Sync>;

/// Makes logs of `level` and above. Each line is one write to the result of `writer`.
#[must_use]
pub fn dispatch<W>(
    level: LogLevel,
    format: LogFormat,
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> (Dispatch, SetLevel)
where
    W: Write + 'static,
{
    // Colours are escape sequences, too.
    let lines = fmt::layer().with_writer(move || Lines(writer())).with_ansi(false);
    let (filter, handle) = reload::Layer::new(filter(level));
    // Setting it fails only when the logs are gone.
    let set_level = Box::new(move |level| drop(handle.reload(self::filter(level))));
    let logs = registry().with(filter);
    let dispatch = match format {
        LogFormat::Text => logs.with(lines).into(),
        LogFormat::Json => logs.with(lines.json().flatten_event(true)).into(),
    };
    (dispatch, set_level)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Takes a whole line with each write, and writes it as plain text.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(plain(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;
    use crate::types::plain_text::is_plain;

    /// Breaks lines, ends strings, sets colours and reverses text.
    const HOSTILE: &str = "a\n{\"level\":\"ERROR\"}\r\nb\"c\\d\u{1b}[31m\u{9b}2J\u{0}\u{7f}\u{85}\u{2028}\u{2029}\u{202e}\u{61c}\t\u{8}é😀";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns what is logged for hostile text in every kind of value.
    fn logged(format: LogFormat) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let (dispatch, _) = dispatch(LogLevel::Trace, format, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(user = HOSTILE, "a string");
            tracing::info!(user = %HOSTILE, "shown");
            tracing::info!(user = ?HOSTILE, "quoted");
            tracing::info!("{HOSTILE}");
            tracing::info_span!("request", user = %HOSTILE).in_scope(|| tracing::info!("inside"));
        });
        let bytes = kept.0.lock().clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_line_of_text_stays_one_line_of_text() {
        let text = logged(LogFormat::Text);
        assert_eq!(text.matches('\n').count(), 5, "{text}");
        assert!(text.chars().all(|c| c == '\n' || is_plain(c)), "{text:?}");
        assert!(text.matches("é😀").count() == 5, "what is text stays readable: {text}");
    }

    #[test]
    fn a_line_of_json_stays_one_object_and_loses_nothing() {
        let text = logged(LogFormat::Json);
        assert!(text.chars().all(|c| c == '\n' || is_plain(c)), "{text:?}");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line["level"] == "INFO"), "{text}");
        assert_eq!((&lines[0]["user"], &lines[1]["user"]), (&HOSTILE.into(), &HOSTILE.into()));
        assert_eq!((&lines[3]["message"], &lines[4]["span"]["user"]), (&HOSTILE.into(), &HOSTILE.into()));
    }
}
