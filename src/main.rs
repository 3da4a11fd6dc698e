//! The `tidegate` program: settings, logs, signals, and an exit status that says what happened.

use std::io::Write as _;
use std::process::ExitCode;

use tidegate::config::{self, Config, Invocation, ListenAddr, LoadError};
use tidegate::health;
use tidegate::logs::{self, SetLevel};
use tidegate::server::Server;
use tidegate::server::clock::since_1970;
use tidegate::server::supervision::{self, Supervision};
use tidegate::tools::{Output, with_cause};
use tracing_subscriber::util::SubscriberInitExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The soft limit is low for the sake of programs that use select(2). We do not.
    let open_files_max = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let config = match load(open_files_max) {
        Ok(Invocation::Run(config)) => *config,
        Ok(Invocation::CheckHealth(config)) => return check_health(&config),
        Ok(Invocation::Alone(tool)) => return say(&tool.run(&mut std::io::stdin(), since_1970().as_secs())),
        Ok(Invocation::WithSettings(tool, config)) => {
            return say(&tool.run(&config, &mut std::io::stdin(), since_1970().as_secs()));
        }
        Ok(Invocation::Checked(text) | Invocation::Help(text)) => {
            // Whoever closed our output does not want the rest.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(err) => {
            eprintln!("{}", err.to_string().trim_end());
            return ExitCode::from(err.exit_code());
        }
    };
    let (dispatch, set_level) = logs::dispatch(config.log_level, config.log_format, std::io::stderr);
    dispatch.init();
    // While there is one thread.
    let started = Supervision::from_env().map_err(|err| err.to_string());
    match started.and_then(|supervision| run(config, supervision, &set_level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Says what a subcommand has found out.
fn say(output: &Output) -> ExitCode {
    if !output.out.is_empty() {
        let _ = writeln!(std::io::stdout(), "{}", output.out.trim_end());
    }
    if !output.err.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", output.err.trim_end());
    }
    ExitCode::from(output.code)
}

/// Reads all settings, as they are now.
fn load(open_files_max: u64) -> Result<Invocation, LoadError> {
    let env = |key: &str| std::env::var_os(key).map(|value| value.to_string_lossy().into_owned());
    config::load(std::env::args_os(), env, open_files_max)
}

fn check_health(config: &Config) -> ExitCode {
    let (text, code) = match health::check(config.admin_listen.as_ref()) {
        Ok(()) => ("ready".to_owned(), ExitCode::SUCCESS),
        Err(err) => (with_cause(&err), ExitCode::FAILURE),
    };
    let _ = writeln!(std::io::stdout(), "{text}");
    code
}

fn run(config: Config, supervision: Supervision, set_level: &SetLevel) -> Result<(), String> {
    // Before anything is opened: a signal from here on ends in a drain.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|err| err.to_string())?;
    let mut signals = runtime.block_on(async { Signals::new() }).map_err(|err| err.to_string())?;
    let base = config.base_path.clone();
    let is_activated = !supervision.sockets.is_empty();
    let server = Server::start_supervised(config, supervision).map_err(|err| with_cause(&err))?;
    if is_activated {
        tracing::info!("the service manager's sockets take the place of `listen`");
    }
    welcome(&server, &base);
    supervision::say_ready(server.shared().config.max_connections);
    while let Signal::Reload = runtime.block_on(signals.next()) {
        reload(&server, set_level);
    }
    tracing::info!("draining");
    supervision::say_stopping();
    // A second signal means now.
    let draining = std::thread::spawn(move || server.drain());
    runtime.block_on(async {
        let mut signal = Signals::new().map_err(|err| err.to_string())?;
        let finished = async {
            while !draining.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = finished => {}
            () = signal.end() => std::process::exit(130),
        }
        draining.join().map_err(|_| "the drain panicked".to_owned())?.map_err(|err| err.to_string())
    })
}

/// Takes the settings over as they are now; says why, if they are not right.
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
            if !restart_needed.is_empty() {
                tracing::warn!(
                    settings = restart_needed.join(", "),
                    "changed, but only a restart takes these over"
                );
            }
            tracing::info!("the settings were read again");
        }
        Err(err) => tracing::error!("the settings stay as they were: {}", with_cause(&err)),
    }
}

/// What a signal asks for.
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

    /// Waits for a signal that is not to be put off.
    async fn end(&mut self) {
        while let Signal::Reload = self.next().await {}
    }
}

/// Says where it listens and what to try next.
fn welcome(server: &Server, base: &str) {
    // The first that takes what people type.
    let listens = server.listens();
    let first = listens.iter().find(|listen| !listen.proxied).unwrap_or(&listens[0]);
    let address = first.address.to_string();
    let (mut curl, url) = match address.strip_prefix("unix:") {
        Some(path) => (format!("curl --unix-socket {path}"), format!("http://localhost{base}")),
        None => ("curl".to_owned(), format!("http://{address}{base}")),
    };
    if first.proxied {
        curl += " --haproxy-protocol";
    }
    let admin = server.admin_address().map_or("off".into(), |admin| format!("http://{admin}/metrics"));
    // Browsers don't open Unix sockets.
    let page = match server.admin_address() {
        Some(ListenAddr::Tcp(admin)) => format!("Live page: http://{admin}/dashboard\n"),
        _ => String::new(),
    };
    for listen in listens {
        tracing::info!(%listen, "listening");
    }
    let (with, bearer, cookie) = if server.shared().config.authenticates() {
        let with = ", with a token or key in $token (`tidegate token --help`)";
        (with, " -H \"authorization: Bearer $token\"", ", which sends the token as token_cookie")
    } else {
        ("", "", "")
    };
    let text = format!(
        "Tidegate {version} is listening on {address}, up to {connections} streams. Metrics: {admin}\n{page}\n\
         Try it, in two terminals{with}:\n\
         \x20 {curl} -N {url}/stream/lobby/me{bearer}\n\
         \x20 {curl} {url}/publish{bearer} -d '{{\"room\":\"lobby\",\"data\":\"hello\"}}'\n\n\
         In a browser{cookie}:  new EventSource(\"{url}/stream/lobby/me\").onmessage = e => console.log(e.data)\n",
        version = env!("CARGO_PKG_VERSION"),
        connections = server.shared().config.max_connections,
    );
    let _ = writeln!(std::io::stdout(), "{text}");
}
