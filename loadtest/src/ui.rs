//! The progress line: one line on a terminal, nothing anywhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What is happening, for people. Silent unless stderr is a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    title: String,
}

impl Progress {
    /// A line that begins with `title`.
    #[must_use]
    pub fn new(title: String) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, title }
    }

    /// Replaces the line.
    pub fn say(&self, text: &str) {
        self.bar.set_message(format!("{}: {text}", self.title));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
