//! Progress: bars on a terminal, a line every two seconds if asked for, nothing otherwise.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::job::Mode;

/// One run's progress.
#[derive(Debug)]
pub(super) struct Progress {
    title: String,
    phase: RefCell<Phase>,
    show: Show,
}

#[derive(Debug, Default)]
struct Phase {
    name: String,
    /// Length of the bar, if it is known.
    length: Option<u64>,
}

#[derive(Debug)]
enum Show {
    Bar(ProgressBar),
    Lines { next: Cell<Instant> },
    Nothing,
}

impl Progress {
    /// Progress that begins with `title`.
    #[must_use]
    pub(super) fn new(title: String, mode: Mode) -> Self {
        let show = match mode {
            Mode::Auto if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::new_spinner();
                bar.enable_steady_tick(Duration::from_millis(200));
                Show::Bar(bar)
            }
            Mode::Plain => Show::Lines { next: Cell::new(Instant::now()) },
            Mode::Auto | Mode::Quiet => Show::Nothing,
        };
        Self { title, phase: RefCell::default(), show }
    }

    /// Begins a phase of unknown length.
    pub(super) fn say(&self, name: &str) {
        self.begin(name, None);
    }

    /// Begins a phase: so many connections, or seconds.
    pub(super) fn begin(&self, name: &str, length: Option<u64>) {
        let mut phase = self.phase.borrow_mut();
        if phase.name == name && phase.length == length {
            return;
        }
        *phase = Phase { name: name.to_owned(), length };
        match &self.show {
            Show::Bar(bar) => {
                let style = if length.is_some() { WITH_BAR } else { WITHOUT };
                if let Ok(style) = ProgressStyle::with_template(style) {
                    bar.set_style(style.progress_chars("━╸─"));
                }
                bar.set_length(length.unwrap_or(0));
                bar.set_position(0);
                bar.set_prefix(format!("{}: {name}", self.title));
                bar.set_message("");
            }
            // Otherwise a short phase would not be mentioned.
            Show::Lines { next } => next.set(Instant::now()),
            Show::Nothing => {}
        }
    }

    /// How far the phase is, and what else there is to say.
    pub(super) fn at(&self, position: u64, text: &str) {
        match &self.show {
            Show::Bar(bar) => {
                bar.set_position(position);
                bar.set_message(text.to_owned());
            }
            Show::Lines { next } if next.get() <= Instant::now() => {
                next.set(Instant::now() + LINES_EVERY);
                let phase = self.phase.borrow();
                let of = phase.length.map_or(String::new(), |length| format!(" {position}/{length}"));
                eprintln!("{}: {}{of} {text}", self.title, phase.name);
            }
            Show::Lines { .. } | Show::Nothing => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Show::Bar(bar) = &self.show {
            bar.finish_and_clear();
        }
    }
}

/// The second line has room for all figures on a narrow terminal.
const WITH_BAR: &str = "{spinner} {prefix} {bar:32} {pos}/{len}\n  {wide_msg}";
const WITHOUT: &str = "{spinner} {prefix}\n  {wide_msg}";
const LINES_EVERY: Duration = Duration::from_secs(2);
