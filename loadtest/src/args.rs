//! The command line. Every number has a bound, because a load test is pointed at real machines.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::peers::Peer;
use crate::run::Job;
use crate::scenario::{Form, Scenario, Settings};
use crate::target::{Source, sibling};

/// Load test for Tidegate and its reference servers.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one scenario against several servers in turns; print medians and ratios.
    Compare {
        /// The scenario.
        scenario: Scenario,
        /// Servers to compare with.
        #[arg(long, value_delimiter = ',', default_value = "floor")]
        peers: Vec<Peer>,
        /// Leave the server under test out.
        #[arg(long)]
        peers_only: bool,
        #[command(flatten)]
        options: Options,
    },
    #[command(flatten)]
    Single(Single),
}

#[derive(Debug, Subcommand)]
enum Single {
    /// Memory of connections that get nothing.
    Idle(Options),
    /// 10,000 connections in one room, 10 events/s.
    Fanout(Options),
    /// 10,000 connections in one room, 50 events/s.
    Dense(Options),
    /// 10,000 connections in one room, 100 events at once every second.
    Burst(Options),
    /// 1,000 rooms of ten, 1,000 events/s.
    Rooms(Options),
    /// 19,000 users, each event to one of them.
    Targeted(Options),
    /// 1,000 connections, 10 events/s.
    Latency(Options),
    /// Opening 10,000 connections.
    Accept(Options),
    /// As fanout, compressed, against plain.
    Gzip(Options),
    /// 500 of 2,000 listeners stop reading.
    Stuck(Options),
    /// SIGTERM under 10,000 connections.
    Drain(Options),
}

impl Single {
    fn into_parts(self) -> (Scenario, Options) {
        match self {
            Self::Idle(options) => (Scenario::Idle, options),
            Self::Fanout(options) => (Scenario::Fanout, options),
            Self::Dense(options) => (Scenario::Dense, options),
            Self::Burst(options) => (Scenario::Burst, options),
            Self::Rooms(options) => (Scenario::Rooms, options),
            Self::Targeted(options) => (Scenario::Targeted, options),
            Self::Latency(options) => (Scenario::Latency, options),
            Self::Accept(options) => (Scenario::Accept, options),
            Self::Gzip(options) => (Scenario::Gzip, options),
            Self::Stuck(options) => (Scenario::Stuck, options),
            Self::Drain(options) => (Scenario::Drain, options),
        }
    }
}

#[derive(Args, Debug)]
struct Options {
    /// The tidegate binary [default: the one beside this executable].
    #[arg(long)]
    server: Option<PathBuf>,
    /// One argument for the server; repeat for more.
    #[arg(long, allow_hyphen_values = true)]
    server_arg: Vec<String>,
    /// Measure a reference server in place of the server.
    #[arg(long, conflicts_with_all = ["server", "url"])]
    peer: Option<Peer>,
    /// Measure a server that runs already: `http://127.0.0.1:8080/api/v1/sse`.
    #[arg(long, requires = "pid", conflicts_with = "server")]
    url: Option<String>,
    /// The process of `--url`.
    #[arg(long)]
    pid: Option<u32>,
    /// Listeners.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=19_800))]
    connections: Option<u32>,
    /// Events a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// The measured time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Bytes of each event's data.
    #[arg(long, value_parser = clap::value_parser!(u32).range(40..=65_536))]
    bytes: Option<u32>,
    /// Rooms.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=19_800))]
    rooms: Option<u32>,
    /// Events published at once.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    burst: Option<u32>,
    /// Listeners that stop reading.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    stuck: Option<u32>,
    /// How events are put into requests.
    #[arg(long)]
    form: Option<Form>,
    /// Ask for gzip.
    #[arg(long)]
    gzip: bool,
    /// Connections opened a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    open_rate: Option<u32>,
    /// Connections waiting for `connected` at any time.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_000))]
    in_flight: Option<u32>,
    /// Threads that read.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16))]
    threads: Option<u32>,
    /// Times every server is run [default: 1, compare: 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Write everything raw to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug)]
pub struct Work {
    /// Runs to make in turns.
    pub jobs: Vec<Job>,
    /// How often.
    pub rounds: u32,
    /// The label that ratios refer to.
    pub base: Option<String>,
    /// Where raw results go.
    pub json: Option<PathBuf>,
}

impl Work {
    /// Reads the command line; prints help or what is wrong and exits when that is called for.
    ///
    /// # Errors
    ///
    /// Numbers that don't fit each other, or nothing to run.
    pub fn from_args() -> Result<Self, String> {
        match Cli::parse().command {
            Command::Compare { scenario, peers, peers_only, options } => {
                let mut sources = if peers_only { Vec::new() } else { vec![options.source()?] };
                sources.extend(peers.into_iter().map(Source::Peer));
                let rounds = options.rounds.unwrap_or(3);
                Self::new(scenario, sources, rounds, options)
            }
            Command::Single(single) => {
                let (scenario, options) = single.into_parts();
                let rounds = options.rounds.unwrap_or(1);
                let source = options.source()?;
                Self::new(scenario, vec![source], rounds, options)
            }
        }
    }

    fn new(scenario: Scenario, sources: Vec<Source>, rounds: u32, options: Options) -> Result<Self, String> {
        let settings = options.settings(scenario)?;
        let mut jobs = Vec::new();
        for source in sources {
            let label = source.name().to_owned();
            if !source.supports(scenario) {
                eprintln!("{label} is left out: it does not support {}", scenario.name());
                continue;
            }
            let job = Job { scenario, settings: settings.clone(), source, label };
            // Compression is measured against the same server without it.
            if scenario == Scenario::Gzip && matches!(job.source, Source::Server { .. }) {
                let plain = Settings { gzip: false, ..settings.clone() };
                jobs.push(Job { label: PLAIN.to_owned(), settings: plain, ..job.clone() });
            }
            jobs.push(job);
        }
        if jobs.is_empty() {
            return Err("nothing to run".to_owned());
        }
        let base = base(&jobs);
        Ok(Self { jobs, rounds, base, json: options.json })
    }
}

impl Options {
    fn source(&self) -> Result<Source, String> {
        if let Some(peer) = self.peer {
            return Ok(Source::Peer(peer));
        }
        if let (Some(url), Some(pid)) = (&self.url, self.pid) {
            return Ok(Source::Running { url: url.clone(), pid });
        }
        let path = match &self.server {
            Some(path) => path.clone(),
            None => sibling("tidegate").map_err(|err| err.to_string())?,
        };
        Ok(Source::Server { path, args: self.server_arg.clone() })
    }

    fn settings(&self, scenario: Scenario) -> Result<Settings, String> {
        let mut settings = scenario.defaults();
        let size = |given: Option<u32>, default: usize| given.map_or(default, |value| value as usize);
        settings.connections = size(self.connections, settings.connections);
        settings.rooms = size(self.rooms, settings.rooms).min(settings.connections);
        settings.bytes = size(self.bytes, settings.bytes);
        settings.stuck = size(self.stuck, settings.stuck);
        settings.threads = size(self.threads, settings.threads);
        settings.in_flight_max = size(self.in_flight, settings.in_flight_max);
        settings.open_rate_per_s = self.open_rate.unwrap_or(settings.open_rate_per_s);
        settings.seconds = self.seconds.unwrap_or(settings.seconds);
        settings.burst = self.burst.unwrap_or(settings.burst);
        settings.form = self.form.unwrap_or(settings.form);
        settings.gzip |= self.gzip;
        // A burst is once a second unless a rate is given.
        let is_burst = scenario == Scenario::Burst;
        let rate_default = if is_burst { settings.burst } else { settings.rate_per_s };
        settings.rate_per_s = self.rate.unwrap_or(rate_default);
        if settings.stuck >= settings.connections {
            return Err(format!(
                "--stuck {}: wanted fewer than --connections {}",
                settings.stuck, settings.connections
            ));
        }
        Ok(settings)
    }
}

/// The floor where there is one; a compressed run refers to the plain one.
fn base(jobs: &[Job]) -> Option<String> {
    let has = |label: &str| jobs.iter().any(|job| job.label == label);
    let candidates = [PLAIN, "floor", "floor-tick", "axum"];
    let base = candidates.into_iter().find(|label| has(label))?;
    (jobs.len() > 1).then(|| base.to_owned())
}

const PLAIN: &str = "tidegate-plain";
