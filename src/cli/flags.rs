//! The flag layer, `--help` and `-h`, all made from the table. clap is not told of the environment or the defaults,
//! so a flag that it reports was on the command line. `--help` has all settings; `-h` is one screen, with those in [`COMMON`].

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Command, builder::ValueParser, error::ErrorKind, value_parser};

use crate::cli::LoadError;
use crate::cli::tools::{self, Tool};
use crate::config::Source;
use crate::config::kinds::Shape;
use crate::config::layers::Given;
use crate::config::setting::Setting;
use crate::config::table::SETTINGS;

/// The content of the command line.
pub(crate) enum Flags {
    /// `--help` or `--version`: the text to show.
    Help(String),
    Given(GivenFlags),
}

pub(crate) struct GivenFlags {
    pub(crate) config: Option<PathBuf>,
    pub(crate) check: bool,
    pub(crate) check_health: bool,
    pub(crate) layer: Vec<Given>,
    pub(crate) tool: Option<Tool>,
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, LoadError> {
    let parsed = command().try_get_matches_from(args).and_then(|matches| {
        let tool = matches.subcommand().map(|(name, matches)| Tool::read(name, matches)).transpose()?;
        Ok((matches, tool))
    });
    match parsed {
        Ok((matches, tool)) => Ok(Flags::Given(GivenFlags {
            config: matches.get_one::<PathBuf>(CONFIG).cloned(),
            check: matches.get_flag(CHECK_CONFIG),
            check_health: matches.get_flag(CHECK_HEALTH),
            layer: layer(&matches),
            tool,
        })),
        Err(err) if matches!(err.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Flags::Help(err.render().to_string()))
        }
        Err(err) => Err(LoadError::Usage(err.render().to_string().trim_end().to_owned())),
    }
}

/// The settings that were given, before or after the name of a subcommand. Of two, the later one wins.
fn layer(matches: &ArgMatches) -> Vec<Given> {
    let behind = matches.subcommand().map(|(_, matches)| matches);
    let given = |matches: &ArgMatches, setting: &'static Setting| {
        // Some subcommands take no settings.
        let texts = matches.try_get_many::<String>(setting.key).ok().flatten()?;
        let texts: Vec<_> = texts.map(String::as_str).collect();
        Some(Given { setting, text: texts.join(","), source: Source::Flag })
    };
    let places = [Some(matches), behind].into_iter().flatten();
    places.flat_map(|matches| SETTINGS.iter().filter_map(move |setting| given(matches, setting))).collect()
}

fn command() -> Command {
    let config = Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help("TOML file with settings\n[env: TIDEGATE_CONFIG]");
    let check = Arg::new(CHECK_CONFIG)
        .long("check-config")
        .action(ArgAction::SetTrue)
        .help("Show the settings and check them; do not start");
    let health = Arg::new(CHECK_HEALTH)
        .long("check-health")
        .action(ArgAction::SetTrue)
        .conflicts_with(CHECK_CONFIG)
        .help("Ask the server at admin_listen whether it is ready; exit with 0 or 1");
    let settings: Vec<Arg> =
        SETTINGS.iter().zip(FLAGS.iter()).map(|(setting, flag)| arg(setting, flag)).collect();
    let hidden: Vec<Arg> = settings.iter().map(|arg| arg.clone().hide(true)).collect();
    let settings = settings.into_iter().zip(SETTINGS).map(|(arg, setting)| explained(arg, setting));
    let tools = tools::commands(&hidden).map(|tool| tool.next_line_help(true));
    Command::new("tidegate")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help(format!("These are the settings used most. --help explains all of them.\n{PRECEDENCE}"))
        .after_long_help(PRECEDENCE)
        .args_override_self(true)
        .subcommands(tools)
        .args([config, check, health])
        .args(settings)
}

fn arg(setting: &Setting, flag: &'static str) -> Arg {
    let facts = (setting.facts)();
    let arg = Arg::new(setting.key)
        .long(flag)
        .help_heading(setting.section)
        .value_name(facts.placeholder)
        .value_parser(ValueParser::string())
        // `--shards -1` is a wrong number, not an unknown flag.
        .allow_negative_numbers(true);
    match facts.shape {
        Shape::One => arg.action(ArgAction::Set),
        Shape::List => arg.action(ArgAction::Append),
        // A value needs `=`, or the bare flag would take the next argument.
        Shape::Bool => {
            arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true")
        }
    }
}

/// Adds the texts of `setting` to `arg` for `--help`, and for `-h` if it is in [`COMMON`].
fn explained(arg: Arg, setting: &Setting) -> Arg {
    let mut help = wrapped(setting.help());
    help += &wrapped(&format!("Takes {}.", (setting.facts)().wanted));
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    write!(help, "[env: {}] [default: {default}]", setting.env()).expect("a String takes everything");
    let arg = arg.long_help(help);
    match COMMON.iter().find(|(key, _)| *key == setting.key) {
        Some((_, line)) => arg.help(format!("{line} [default: {default}]")),
        None => arg.hide_short_help(true),
    }
}

/// The settings in `-h`, with a line for each.
const COMMON: [(&str, &str); 11] = [
    ("listen", "Addresses for streams and publishes"),
    ("admin_listen", "Metrics, probes and the dashboard"),
    ("insecure", "Serve other machines without authentication"),
    ("trusted_proxies", "Proxies that name the client"),
    ("cors_origins", "Origins whose pages may use the server"),
    ("public_rooms", "Rooms that need no token to listen"),
    ("token_keys", "Keys that tokens are signed with"),
    ("api_keys_file", "Hashes of API keys, for backends"),
    ("auth_callback", "URL at which the application is asked"),
    ("max_connections", "Open streams, 0 for as many as fit"),
    ("log_level", "The least serious level that is logged"),
];

const PRECEDENCE: &str = "A flag wins over the environment, the environment over the file.";

/// Breaks `text` between words into lines of up to [`HELP_COLUMNS`], each with a line end. clap does so only with a
/// feature that also measures the terminal.
fn wrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 4);
    let mut column = 0;
    for word in text.split_whitespace() {
        if column != 0 {
            let fits = column + 1 + word.len() <= HELP_COLUMNS;
            out.push(if fits { ' ' } else { '\n' });
            column = if fits { column + 1 } else { 0 };
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
    out
}

/// Fits clap's indent of ten on a terminal of a hundred columns.
const HELP_COLUMNS: usize = 88;

// These are no settings: they have no key in the file.
const CONFIG: &str = "config";
const CHECK_CONFIG: &str = "check_config";
const CHECK_HEALTH: &str = "check_health";

/// Names of flags in the order of [`SETTINGS`]; clap takes only static ones.
static FLAGS: LazyLock<Vec<String>> = LazyLock::new(|| SETTINGS.iter().map(Setting::flag).collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_nothing_wrong_with_the_table() {
        command().debug_assert();
    }

    #[test]
    fn what_is_used_most_is_in_the_table() {
        for (key, _) in COMMON {
            assert!(SETTINGS.iter().any(|setting| setting.key == key), "{key}");
        }
    }
}
