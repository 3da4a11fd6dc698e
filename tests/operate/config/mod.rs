//! Settings: each value that an operator writes takes effect, and a wrong value is reported with its place, its text
//! and what is wanted.

mod help;
mod layers;
mod secrets;
mod together;
mod wrong;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, process};

use tidegate::cli::{self, Invocation, LoadError};
use tidegate::config::Config;

/// A soft `RLIMIT_NOFILE` that many systems have.
const OPEN_FILES: u64 = 20_000;

/// The layers of one start.
#[derive(Clone, Copy, Default)]
struct Start<'a> {
    /// Contents of the file, if there is one.
    file: Option<&'a str>,
    env: &'a [(&'a str, &'a str)],
    flags: &'a [&'a str],
}

impl Start<'_> {
    fn invoke(&self, open_files_max: u64) -> Result<Invocation, LoadError> {
        let file = self.file.map(TempFile::new);
        let named = file.iter().flat_map(|file| ["--config".into(), file.0.clone().into_os_string()]);
        let args = ["tidegate".into()].into_iter().chain(named).chain(self.flags.iter().map(Into::into));
        let env = |key: &str| {
            let found = self.env.iter().find(|(name, _)| *name == key);
            found.map(|(_, text)| (*text).to_owned())
        };
        cli::load(args, env, open_files_max)
    }

    /// Returns the settings, or all faults in them.
    fn load(&self) -> Result<Config, String> {
        match self.invoke(OPEN_FILES) {
            Ok(Invocation::Run(config)) => Ok(*config),
            Ok(other) => panic!("asked to run, got {other:?}"),
            Err(err) => {
                assert_eq!(err.exit_code(), 78, "{err}");
                Err(without_folder(&err.to_string()))
            }
        }
    }

    fn config(&self) -> Config {
        self.load().expect("these settings are right")
    }

    fn error(&self) -> String {
        self.load().expect_err("these settings are wrong")
    }
}

/// A file that is removed when the value is dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(contents: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{}-{}-tidegate.toml", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, contents).expect("the test's own folder takes files");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("nobody else removes it");
    }
}

/// Messages name the file as it was given; tests do not care in which folder it was.
fn without_folder(text: &str) -> String {
    let line = |line: &str| match line.find("tidegate.toml:") {
        Some(at) => line[at..].to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn from_file(file: &str) -> Start<'_> {
    Start { file: Some(file), ..Start::default() }
}

fn from_flags<'a>(flags: &'a [&'a str]) -> Start<'a> {
    Start { flags, ..Start::default() }
}

fn flag_of(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

fn variable_of(key: &str) -> String {
    format!("TIDEGATE_{}", key.to_ascii_uppercase())
}

/// Returns the output of `--check-config` for right settings.
fn summary(start: Start<'_>) -> String {
    match start.invoke(OPEN_FILES) {
        Ok(Invocation::Checked(summary, _)) => summary,
        other => panic!("nothing is wrong: {other:?}"),
    }
}
