//! The `tidegate` program: settings, logs, signals, and the exit status.

use std::io::Write as _;
use std::process::ExitCode;

use tidegate::cli::logs::{self, SetLevel};
use tidegate::cli::tools::{Output, with_cause};
use tidegate::cli::welcome;
use tidegate::cli::{self, Invocation, LoadError, health};
use tidegate::config::{self, Config, EX_CONFIG, UnknownVariable};
use tidegate::server::order::{LOSSES, losses_before};
use tidegate::server::supervision::{self, Supervision};
use tidegate::server::{Server, StartError};
use tidegate::types::clock::since_1970;
use tracing_subscriber::util::SubscriberInitExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The soft limit is low for programs that use select(2). This one does not.
    let open_files_max = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let config = match load(open_files_max) {
        Ok(Invocation::Run(config)) => *config,
        Ok(Invocation::CheckHealth(config)) => return check_health(&config),
        Ok(Invocation::Alone(tool)) => return say(&tool.run(&mut std::io::stdin(), since_1970().as_secs())),
        Ok(Invocation::WithSettings(tool, config)) => {
            tell_unknown();
            return say(&tool.run(&config, &mut std::io::stdin(), since_1970().as_secs()));
        }
        Ok(Invocation::Checked(summary, config)) => {
            tell_unknown();
            for table in config::never_match(&config) {
                eprintln!("{table}");
            }
            return check_files(*config, &summary);
        }
        Ok(Invocation::Help(text)) => return print(&text),
        Err(err) => {
            tell_unknown();
            eprintln!("{}", err.to_string().trim_end());
            return ExitCode::from(err.exit_code());
        }
    };
    let (dispatch, set_level) = logs::dispatch(config.log_level, config.log_format, std::io::stderr);
    dispatch.init();
    for unknown in unknown_variables() {
        tracing::warn!("{unknown}");
    }
    warn_of_rooms(&config);
    // Called while there is only one thread.
    let started = Supervision::from_env().map_err(|err| Failure::of(&err));
    match started.and_then(|supervision| run(config, supervision, &set_level)) {
        Ok(Ending::Asked) => ExitCode::SUCCESS,
        Ok(Ending::Anew { is_activated: false }) => start_anew(),
        // The sockets are the service manager's: it starts the next process.
        Ok(Ending::Anew { is_activated: true }) => ExitCode::from(EX_TEMPFAIL),
        // Printed once; to standard error if the log is off.
        Err(Failure { message, code }) if tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!("{message}");
            ExitCode::from(code)
        }
        Err(failure) => failure.tell(),
    }
}

/// How the server ended.
enum Ending {
    /// By a signal.
    Asked,
    /// It has lost the order that it shared with others, and has to start anew.
    Anew { is_activated: bool },
}

/// The exit status of a server that is to be started again (sysexits.h).
const EX_TEMPFAIL: u8 = 75;

/// Takes the place of this process with a new one of the same program and arguments. Returns only if that fails.
fn start_anew() -> ExitCode {
    use std::os::unix::process::CommandExt;
    let err = match std::env::current_exe() {
        Ok(program) => std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(LOSSES, (losses_before() + 1).to_string())
            .exec(),
        Err(err) => err,
    };
    tracing::error!(%err, "the program cannot be started anew");
    ExitCode::from(EX_TEMPFAIL)
}

/// Why the server does not run, with its exit status.
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// A failure that a restart may cure.
    fn of(err: &dyn std::error::Error) -> Self {
        Self { message: with_cause(err), code: 1 }
    }

    fn of_start(err: &StartError) -> Self {
        let failure = Self::of(err);
        if err.is_of_settings() { Self { code: EX_CONFIG, ..failure } } else { failure }
    }

    fn tell(&self) -> ExitCode {
        eprintln!("{}", self.message);
        ExitCode::from(self.code)
    }
}

/// The second half of `--check-config`: reads the files that the settings name, as a start would.
fn check_files(config: Config, summary: &str) -> ExitCode {
    match Server::check(config) {
        Ok(()) => print(summary),
        Err(err) => Failure::of_start(&err).tell(),
    }
}

/// Prints `text` to standard output.
fn print(text: &str) -> ExitCode {
    // If standard output was closed, the rest is not wanted.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    ExitCode::SUCCESS
}

fn unknown_variables() -> Vec<UnknownVariable> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    config::unknown_variables(names)
}

/// Prints which variables look like settings and are none, before there is a log.
fn tell_unknown() {
    for unknown in unknown_variables() {
        eprintln!("{unknown}");
    }
}

/// Logs which tables `[[room]]` count for no room.
fn warn_of_rooms(config: &Config) {
    for table in config::never_match(config) {
        tracing::warn!("{table}");
    }
}

/// Prints the result of a subcommand.
fn say(output: &Output) -> ExitCode {
    if !output.out.is_empty() {
        let _ = writeln!(std::io::stdout(), "{}", output.out.trim_end());
    }
    if !output.err.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", output.err.trim_end());
    }
    ExitCode::from(output.code)
}

/// Reads all settings as they are now.
fn load(open_files_max: u64) -> Result<Invocation, LoadError> {
    let env = |key: &str| std::env::var_os(key).map(|value| value.to_string_lossy().into_owned());
    cli::load(std::env::args_os(), env, open_files_max)
}

fn check_health(config: &Config) -> ExitCode {
    let (text, code) = match health::check(config.admin_listen.as_ref()) {
        Ok(()) => ("ready".to_owned(), ExitCode::SUCCESS),
        Err(err) => (with_cause(&err), ExitCode::FAILURE),
    };
    let _ = writeln!(std::io::stdout(), "{text}");
    code
}

fn run(config: Config, supervision: Supervision, set_level: &SetLevel) -> Result<Ending, Failure> {
    let failed = |err: std::io::Error| Failure::of(&err);
    // Before anything is opened: a signal from here on starts a drain.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut signals = runtime.block_on(async { Signals::new() }).map_err(failed)?;
    let is_activated = !supervision.sockets.is_empty();
    // A start may wait for Redis as long as it takes, and a signal must end it.
    let starting = std::thread::spawn(move || Server::start_supervised(config, supervision));
    let started = runtime.block_on(async {
        tokio::select! {
            () = until_finished(&starting) => true,
            () = signals.end() => false,
        }
    });
    if !started {
        std::process::exit(0);
    }
    let server = starting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let server = server.map_err(|err| Failure::of_start(&err))?;
    if is_activated {
        tracing::info!("using the service manager's sockets instead of `listen`");
    }
    for listen in server.listens() {
        tracing::info!(%listen, "listening");
    }
    let config = &server.engine().config;
    let welcome = welcome::text(config, server.listens(), server.admin_address());
    let _ = writeln!(std::io::stdout(), "{welcome}");
    supervision::say_ready(config.max_connections);
    let mut lost = server.engine().lifecycle.lost.subscribe();
    let is_lost = loop {
        let signal = runtime.block_on(async {
            tokio::select! {
                signal = signals.next() => Some(signal),
                _ = lost.wait_for(|is_lost| *is_lost) => None,
            }
        });
        match signal {
            Some(Signal::Reload) => reload(&server, set_level),
            Some(Signal::End) => break false,
            None => break true,
        }
    };
    if is_lost {
        tracing::warn!("the order is another one now: the server ends its streams and starts anew");
    } else {
        tracing::info!("shutting down; a second signal ends the process at once");
    }
    supervision::say_stopping();
    let draining = std::thread::spawn(move || server.drain());
    runtime.block_on(async {
        tokio::select! {
            () = until_finished(&draining) => {}
            () = signals.end() => {
                tracing::warn!("a second signal: streams and requests that remain are cut off");
                std::process::exit(130)
            }
        }
        let drained = draining.join().unwrap_or_else(|_| Err(std::io::Error::other("the drain panicked")));
        drained.map_err(failed)
    })?;
    Ok(if is_lost { Ending::Anew { is_activated } } else { Ending::Asked })
}

/// Waits until `thread` has ended.
async fn until_finished<T>(thread: &std::thread::JoinHandle<T>) {
    while !thread.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Applies the current settings; logs the error if they are wrong.
fn reload(server: &Server, set_level: &SetLevel) {
    let open_files_max = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let config = match load(open_files_max) {
        Ok(Invocation::Run(config)) => config,
        Ok(_) => return,
        Err(err) => return tracing::error!("the settings stay as they were: {}", err.to_string().trim_end()),
    };
    match server.reload(&config) {
        Ok(restart_needed) => {
            set_level(config.log_level);
            warn_of_rooms(&config);
            if !restart_needed.is_empty() {
                tracing::warn!(
                    settings = restart_needed.join(", "),
                    "these settings have changed and need a restart"
                );
            }
            tracing::info!("the settings were read again");
        }
        Err(err) => tracing::error!("the settings stay as they were: {}", with_cause(&err)),
    }
}

/// The request of a signal.
enum Signal {
    /// SIGHUP: read the settings again.
    Reload,
    /// SIGTERM and SIGINT.
    End,
}

struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
        }
    }

    /// Waits for a signal to end.
    async fn end(&mut self) {
        while let Signal::Reload = self.next().await {}
    }
}
