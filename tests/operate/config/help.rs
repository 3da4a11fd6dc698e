//! What an operator reads first: the help, and the example file.

use std::time::Duration;

use tidegate::cli::Invocation;
use tidegate::config::{self, Config, Rate};

use super::{OPEN_FILES, flag_of, from_file, from_flags, variable_of};

#[test]
fn help_is_text_and_misuse_is_not_a_config_error() {
    let Ok(Invocation::Help(help)) = from_flags(&["--help"]).invoke(OPEN_FILES) else {
        panic!("asked for help");
    };
    for row in config::reference() {
        assert!(help.contains(&format!("      {}", flag_of(row.key))), "{}", row.key);
        assert!(help.contains(&format!("[env: {}]", variable_of(row.key))), "{}", row.key);
        assert!(!row.help.is_empty() && row.help.ends_with('.'), "{}", row.key);
    }
    assert!(help.lines().all(|line| line.len() <= 100), "lines fit a terminal");
    let Ok(Invocation::Help(version)) = from_flags(&["--version"]).invoke(OPEN_FILES) else {
        panic!("asked for the version");
    };
    assert_eq!(version, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));

    for flags in [&["--shrds=2"][..], &["stray"], &["--shards"], &["--insecure", "true"]] {
        let Err(err) = from_flags(flags).invoke(OPEN_FILES) else { panic!("{flags:?} is misuse") };
        assert_eq!(err.exit_code(), 64, "{flags:?}");
        assert!(err.to_string().starts_with("error: "), "{err}");
    }
}

/// Both once were the same 352 lines.
#[test]
fn short_help_is_one_screen_and_points_to_the_long_one() {
    let help = |flag: &str| match from_flags(&[flag]).invoke(OPEN_FILES) {
        Ok(Invocation::Help(help)) => help,
        other => panic!("{flag}: {other:?}"),
    };
    let (short, long) = (help("-h"), help("--help"));
    assert!(short.lines().count() <= 40, "{} lines: {short}", short.lines().count());
    assert!(short.lines().all(|line| line.len() <= 100), "lines fit a terminal: {short}");
    for part in
        ["--listen <", "[default: 127.0.0.1:8080]", "--token-keys <", "--help explains all of them", "token "]
    {
        assert!(short.contains(part), "{part}: {short}");
    }
    assert!(!short.contains("--flush-interval") && long.contains("--flush-interval"), "{short}");
    assert!(long.lines().count() > 300, "the long one has everything");
}

#[test]
fn the_example_file_has_every_setting_at_its_default() {
    let example = include_str!("../../../tidegate.toml");
    assert_eq!(from_file(example).config(), Config::default_for(OPEN_FILES));

    // What follows a table belongs to it, so the tables come last.
    let (example, tables) = example.split_once("\n#[[room]]\n").expect("a table is shown");
    let tables = uncommented(&format!("[[room]]\n{tables}"));
    let shown = from_file(&tables).config();
    assert_eq!(shown.room_tables.len(), tables.matches("[[room]]").count(), "{tables}");
    assert!(config::never_match(&shown).is_empty() && shown.room_tables.len() == 2, "{tables}");

    let uncommented = uncommented(example);
    // Written in the file, the rate counts with authentication or without.
    let publish_rate_per_user = Some(Rate { events: 20, per: Duration::from_secs(1) });
    let written = Config { publish_rate_per_user, ..Config::default_for(OPEN_FILES) };
    assert_eq!(from_file(&uncommented).config(), written);
    let settings = uncommented.lines().filter(|line| !line.starts_with('#'));
    let keys = settings.filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    assert!(keys.eq(config::reference().map(|row| row.key)), "every key, in the order of the table");

    // Otherwise a default of another type that reads the same would pass.
    for row in config::reference() {
        let quoted = [format!("{} = {}", row.key, row.default), format!("{} = {:?}", row.key, row.default)];
        let listed = [format!("{} = []", row.key), format!("{} = [{:?}]", row.key, row.default)];
        let written = |line: &str| quoted.iter().chain(&listed).any(|wanted| wanted == line);
        assert!(uncommented.lines().any(written), "{}", row.key);
    }
}

/// Settings follow a bare `#`, prose follows `# `.
fn uncommented(example: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            setting.to_owned()
        }
        _ => line.to_owned(),
    };
    example.lines().map(line).collect::<Vec<_>>().join("\n")
}
