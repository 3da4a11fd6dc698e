//! The command line. Every number has a bound, because a load test is pointed at real machines. Without a scenario it runs
//! `fanout` and leaves results and plots in the folder `loadtest-report`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::credentials::{Credentials, Issuer, Text};
use super::job::{Job, Mode, Plan};
use super::peer::Peer;
use super::scenario::{Form, Scenario, Settings};
use super::source::{Source, sibling};
use super::special_args::Special;

/// Load test for Tidegate and its reference servers. Without a scenario: 10,000 connections, 10 events/s, against a
/// server it starts itself, with results and plots in `loadtest-report`.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, and it is parsed once")]
enum Command {
    /// Run one scenario, or the suite, against several servers in turns; print medians and ratios.
    Compare {
        /// A scenario, or `suite` for all of `--scenarios`. The results of a suite are kept in `loadtest/results`.
        what: What,
        /// Servers to compare with [default: floor, suite: all].
        #[arg(long, value_delimiter = ',')]
        peers: Option<Vec<Peer>>,
        /// Leave Tidegate out.
        #[arg(long)]
        peers_only: bool,
        /// The scenarios of the suite. `fanout` also measures memory of idle connections and the cost of accepting.
        #[arg(long, value_delimiter = ',', default_values_t = SUITE)]
        scenarios: Vec<Scenario>,
        /// Name of the results [default: suite, or the scenario].
        #[arg(long)]
        name: Option<String>,
        /// Keep the results in this folder, as `<date>-<name>.json` [suite: loadtest/results].
        #[arg(long)]
        results: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Print the comparison of the newest suite for a README, or write it there between its markers.
    Table {
        /// A results file, or the folder they are kept in.
        #[arg(long, default_value = RESULTS)]
        results: PathBuf,
        /// Replace what stands between `<!-- figures: … -->` and `<!-- end of figures -->` in this file.
        #[arg(long)]
        readme: Option<PathBuf>,
        /// Only say whether the file is up to date.
        #[arg(long, requires = "readme")]
        check: bool,
    },
    /// Draw the plots of a results file again.
    Plot {
        /// The file: of `--json` or kept by a comparison.
        results: PathBuf,
        /// The folder for the plots.
        #[arg(long)]
        out: PathBuf,
    },
    #[command(flatten)]
    Single(Single),
    /// Hold connections for another process of this program.
    #[command(name = SUBCOMMAND, hide = true)]
    Listeners,
}

/// What to compare.
#[derive(Clone, Copy, Debug)]
enum What {
    Suite,
    One(Scenario),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "suite" | "all" => Ok(Self::Suite),
            _ => Scenario::from_str(text, false).map(Self::One).map_err(|_| {
                let names: Vec<&str> = Scenario::value_variants().iter().map(|one| one.name()).collect();
                format!("wanted suite or one of {}", names.join(", "))
            }),
        }
    }
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
    /// 500 of 2,000 subscribers stop reading.
    Stuck(Options),
    /// SIGTERM under 10,000 connections.
    Drain(Options),
    /// A tenth of 5,000 subscribers leaves every second and comes back.
    Churn(Options),
    /// 10,000 connections are cut and come back, at once and with jitter.
    Storm(Options),
    /// 5,000 subscribers miss events and come back for them.
    Resume(Options),
    /// Rooms, single events, bursts and churn for two minutes, or for hours.
    Soak(Options),
    /// Finds the highest rate that 10,000 connections can sustain.
    Saturate(Options),
    /// 1,000 to 19,000 connections, 1 to 1,000 rooms.
    Scale(Options),
    /// 10,000 users see who is there: all come, reload and leave; with presence and without.
    Presence(Options),
    /// 20,000 updates/s of 1,000 keys, of which the newest go out.
    Conflate(Options),
    /// 1,000 clients that ask again and again (long polling).
    Poll(Options),
    /// Everything is published several times with an idempotency key.
    Retry(Options),
    /// A server with an order on disk is killed 1,000 times (SIGKILL) and started again.
    Kill(Options),
    /// Three nodes with one Redis, of which everything fails 1,000 times.
    Nodes(Options),
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
            Self::Churn(options) => (Scenario::Churn, options),
            Self::Storm(options) => (Scenario::Storm, options),
            Self::Resume(options) => (Scenario::Resume, options),
            Self::Soak(options) => (Scenario::Soak, options),
            Self::Saturate(options) => (Scenario::Saturate, options),
            Self::Scale(options) => (Scenario::Scale, options),
            Self::Presence(options) => (Scenario::Presence, options),
            Self::Conflate(options) => (Scenario::Conflate, options),
            Self::Poll(options) => (Scenario::Poll, options),
            Self::Retry(options) => (Scenario::Retry, options),
            Self::Kill(options) => (Scenario::Kill, options),
            Self::Nodes(options) => (Scenario::Nodes, options),
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
    /// Measure this reference server in place of Tidegate.
    #[arg(long, conflicts_with_all = ["server", "url"])]
    peer: Option<Peer>,
    /// Measure a server that runs already: `http://127.0.0.1:8080/api/v1/sse`.
    #[arg(long, conflicts_with = "server")]
    url: Option<String>,
    /// The process behind `--url`, to read its CPU and memory.
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// The admin address of `--url`, to read CPU and memory without `--pid`: `http://127.0.0.1:9180`.
    #[arg(long, requires = "url")]
    admin_url: Option<String>,
    /// A secret of the `token_keys` of `--url`, `HS256:base64:SECRET` or `HS256:file:PATH`: each subscriber and the
    /// publisher get a token of their own.
    #[arg(long, requires = "url", conflicts_with = "token")]
    token_key: Option<String>,
    /// A token for all subscribers and the publisher, or `file:PATH`. It needs `sse:read`, `sse:user` and, without
    /// `--api-key`, `sse:publish`.
    #[arg(long, requires = "url")]
    token: Option<Text>,
    /// An API key for the publisher, or `file:PATH`. It needs `sse:publish`.
    #[arg(long, requires = "url")]
    api_key: Option<Text>,
    /// Connections, a subscriber each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<u32>,
    /// Events a second; in saturate the first rate, in scale the rate of each room.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Seconds that are measured; in saturate for each step, in scale for each point.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=21_600))]
    seconds: Option<u64>,
    /// Bytes of each event's data.
    #[arg(long, value_parser = clap::value_parser!(u32).range(40..=65_536))]
    bytes: Option<u32>,
    /// Rooms.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: Option<u32>,
    /// Events published at once.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    burst: Option<u32>,
    /// Subscribers that stop reading.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    stuck: Option<u32>,
    /// How events are put into requests.
    #[arg(long)]
    form: Option<Form>,
    /// Ask for gzip.
    #[arg(long)]
    gzip: bool,
    /// Start the server with a token key, and give each subscriber and the publisher a token.
    #[arg(long, conflicts_with_all = ["peer", "url"])]
    tokens: bool,
    /// With `--tokens`: every event requires a permission, and every token has it.
    #[arg(long, requires = "tokens")]
    require: bool,
    /// Connections opened a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    open_rate: Option<u32>,
    /// The most connections that may wait for `connected` at a time.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_000))]
    in_flight: Option<u32>,
    #[command(flatten)]
    special: Special,
    /// Percentage of subscribers that leave each second (churn, soak).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    churn: Option<u32>,
    /// Milliseconds that each of them stays away (churn, soak, presence).
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    away: Option<u32>,
    /// Events of each room that subscribers miss (resume).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    missed: Option<u32>,
    /// Events of each room that the server remembers (resume).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    history: Option<u32>,
    /// The highest p99 latency of a sustained rate, milliseconds (saturate).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    p99_max: Option<u32>,
    /// Processes that hold the connections [default: as many as they need].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: Option<u32>,
    /// Threads that read, in each process.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16))]
    threads: Option<u32>,
    /// Rounds: how often each server is run [default: 1, compare: 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// How progress is shown.
    #[arg(long, default_value = "auto")]
    progress: Mode,
    /// Write all raw results to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw plots in this folder, as SVG and PNG.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Task {
    /// Measure.
    Measure(Box<Work>),
    /// Hold connections for another process.
    Listeners,
    /// Print or write the comparison for a README.
    Table {
        /// A file or folder.
        results: PathBuf,
        /// Where to.
        readme: Option<PathBuf>,
        /// Only look.
        is_check: bool,
    },
    /// Draw plots again.
    Plot {
        /// The file.
        results: PathBuf,
        /// The folder.
        out: PathBuf,
    },
}

/// Something to measure.
#[derive(Debug)]
pub struct Work {
    /// Runs to make in turns.
    pub plan: Plan,
    /// The folder where results are kept by date.
    pub results: Option<PathBuf>,
    /// Where they are written besides.
    pub json: Option<PathBuf>,
    /// Where plots go.
    pub plots: Option<PathBuf>,
}

impl Task {
    /// Reads the command line; prints help or what is wrong and exits when that is called for.
    ///
    /// # Errors
    ///
    /// Numbers that don't fit each other, or nothing to run.
    pub fn from_args() -> Result<Self, String> {
        let Cli { command, options } = Cli::parse();
        match command {
            Some(Command::Listeners) => Ok(Self::Listeners),
            Some(Command::Compare { what, peers, peers_only, scenarios, name, results, options }) => {
                let mut sources = if peers_only { Vec::new() } else { vec![options.source()?] };
                let (scenarios, default_peers, default_name, default_results) = match what {
                    What::Suite => (scenarios, Peer::SUITE.to_vec(), "suite", Some(PathBuf::from(RESULTS))),
                    What::One(scenario) => (vec![scenario], vec![Peer::Floor], scenario.name(), None),
                };
                sources.extend(peers.unwrap_or(default_peers).into_iter().map(Source::Peer));
                let rounds = options.rounds.unwrap_or(3);
                let mut work = Work::new(&scenarios, &sources, rounds, *options)?;
                work.plan.name = name.unwrap_or_else(|| default_name.to_owned());
                work.results = results.or(default_results);
                Ok(Self::Measure(Box::new(work)))
            }
            Some(Command::Table { results, readme, check }) => {
                Ok(Self::Table { results, readme, is_check: check })
            }
            Some(Command::Plot { results, out }) => Ok(Self::Plot { results, out }),
            Some(Command::Single(single)) => {
                let (scenario, options) = single.into_parts();
                Work::single(scenario, options).map(|work| Self::Measure(Box::new(work)))
            }
            None => {
                let mut work = Work::single(Scenario::Fanout, options)?;
                // Without a scenario everything is kept and drawn.
                work.json.get_or_insert_with(|| Path::new(REPORT).join("results.json"));
                work.plots.get_or_insert_with(|| PathBuf::from(REPORT));
                Ok(Self::Measure(Box::new(work)))
            }
        }
    }
}

impl Work {
    fn single(scenario: Scenario, options: Options) -> Result<Self, String> {
        let rounds = options.rounds.unwrap_or(1);
        let source = options.source()?;
        Self::new(&[scenario], &[source], rounds, options)
    }

    fn new(
        scenarios: &[Scenario],
        sources: &[Source],
        rounds: u32,
        options: Options,
    ) -> Result<Self, String> {
        let mut jobs = Vec::new();
        for scenario in scenarios {
            add_jobs(*scenario, sources, &options.settings(*scenario)?, options.progress, &mut jobs);
        }
        if jobs.is_empty() {
            return Err("nothing to run".to_owned());
        }
        let base = base(&jobs);
        let name = scenarios.first().map_or("", |scenario| scenario.name()).to_owned();
        let plan = Plan { name, jobs, rounds, base };
        Ok(Self { plan, results: None, json: options.json, plots: options.plots })
    }
}

/// Adds one job a server that the scenario means anything for.
fn add_jobs(
    scenario: Scenario,
    sources: &[Source],
    settings: &Settings,
    progress: Mode,
    jobs: &mut Vec<Job>,
) {
    for source in sources {
        let label = source.name().to_owned();
        if !source.supports(scenario) {
            eprintln!("{label} is left out: it does not support {}", scenario.name());
            continue;
        }
        let mut settings = settings.clone();
        if let Source::Peer(peer) = source {
            settings.in_flight_max = settings.in_flight_max.min(peer.in_flight_max());
        }
        let job = Job { scenario, settings, source: source.clone(), label, progress };
        // Compression is measured against the same server without it.
        if scenario == Scenario::Gzip && matches!(job.source, Source::Server { .. }) {
            let plain = Settings { gzip: false, ..job.settings.clone() };
            jobs.push(Job { label: PLAIN.to_owned(), settings: plain, ..job.clone() });
        }
        jobs.push(job);
    }
}

impl Options {
    fn source(&self) -> Result<Source, String> {
        if let Some(peer) = self.peer {
            return Ok(Source::Peer(peer));
        }
        if let Some(url) = &self.url {
            let admin = self.admin_url.as_deref().map(host).transpose()?;
            let key = self.token_key.as_deref().map(str::parse::<Issuer>).transpose();
            let key = key.map_err(|err| format!("--token-key: {err}"))?;
            let credentials = Credentials::given(key, self.token.clone(), self.api_key.clone());
            return Ok(Source::Running { url: url.clone(), pid: self.pid, admin, credentials });
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
        settings.tokens = self.tokens;
        settings.require = self.require;
        settings.churn_percent = self.churn.unwrap_or(settings.churn_percent);
        settings.away_ms = self.away.unwrap_or(settings.away_ms);
        settings.missed = self.missed.unwrap_or(settings.missed);
        settings.history = self.history.unwrap_or(settings.history);
        settings.p99_max_ms = self.p99_max.unwrap_or(settings.p99_max_ms);
        settings.processes = size(self.processes, settings.processes).min(settings.connections);
        // A burst is once a second unless a rate is given.
        let is_burst = scenario == Scenario::Burst;
        let rate_default = if is_burst { settings.burst } else { settings.rate_per_s };
        settings.rate_per_s = self.rate.unwrap_or(rate_default);
        self.special.put(scenario, &mut settings)?;
        if settings.stuck >= settings.connections {
            return Err(format!(
                "--stuck {}: wanted fewer than --connections {}",
                settings.stuck, settings.connections
            ));
        }
        if settings.gzip && scenario.comes_back() {
            return Err(format!(
                "--gzip: {} checks every stream, and compressed ones are sampled",
                scenario.name()
            ));
        }
        if scenario == Scenario::Resume && settings.missed > settings.history {
            let Settings { missed, history, .. } = settings;
            return Err(format!("--missed {missed}: wanted at most --history {history}"));
        }
        Ok(settings)
    }
}

/// `host:port` of `http://host:port`, with or without a path.
fn host(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?}: wanted http://host:port"))?;
    Ok(rest.split('/').next().unwrap_or(rest).to_owned())
}

/// The floor where there is one; a compressed run refers to the plain one.
fn base(jobs: &[Job]) -> Option<String> {
    let has = |label: &str| jobs.iter().any(|job| job.label == label);
    let candidates = [PLAIN, "floor", "floor-tick", "axum"];
    let base = candidates.into_iter().find(|label| has(label))?;
    (jobs.len() > 1).then(|| base.to_owned())
}

/// The hidden subcommand of a process that holds connections for another one.
pub const SUBCOMMAND: &str = "listeners";
const PLAIN: &str = "tidegate-plain";
/// Where a run without a scenario leaves its results and plots.
const REPORT: &str = "loadtest-report";

const RESULTS: &str = "loadtest/results";
/// What the suite runs. `idle` and `accept` are the beginning of `fanout`.
const SUITE: [Scenario; 5] =
    [Scenario::Fanout, Scenario::Dense, Scenario::Burst, Scenario::Rooms, Scenario::Latency];
