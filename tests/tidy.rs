//! Promise: the tree keeps its shape. What a folder must not know, it does not name; every file says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file at or below `place`, with its text.
fn files(place: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut paths = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(place)];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            paths.extend(entries.map(|entry| entry.expect("a folder that is read").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            found.push((path, text));
        }
    }
    assert!(!found.is_empty(), "{place} has files");
    found
}

/// What is ours: no folder of somebody else's crates or of build output.
const PLACES: [&str; 6] = ["src", "tests", "benches", "loadtest", "fuzz/fuzz_targets", "fuzz/checks.rs"];

#[test]
fn every_file_opens_with_what_it_is_for() {
    for (path, text) in PLACES.into_iter().flat_map(files) {
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}

#[test]
fn events_and_bytes_know_no_sockets_and_no_clock() {
    let rules: [(&str, &[&str]); 4] = [
        (
            "src/wire",
            &["tokio", "hyper", "crate::http", "crate::server", "crate::shard", "crate::config", "Instant"],
        ),
        (
            "src/hub",
            &["tokio", "hyper", "crate::http", "crate::server", "crate::shard", "Instant::", "SystemTime"],
        ),
        (
            "src/auth",
            &["tokio", "hyper", "crate::http", "crate::server", "crate::shard", "Instant::", "SystemTime"],
        ),
        ("src/shard", &["tokio", "hyper", "crate::http", "crate::server", "Instant::", "SystemTime"]),
    ];
    for (folder, banned) in rules {
        for (path, text) in files(folder) {
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let named = banned.iter().find(|name| line.contains(**name));
                assert_eq!(named, None, "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn nothing_is_left_to_do_in_secret() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("dbg", "!("),
    ];
    for (path, text) in PLACES.into_iter().flat_map(files) {
        let found = marks.iter().find(|mark| text.contains(**mark));
        assert_eq!(found, None, "{}", path.display());
    }
}

#[test]
fn no_part_of_this_is_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| -> toml::Table {
        let text = fs::read_to_string(root.join(path)).expect("a manifest");
        text.parse().expect("manifests are TOML")
    };
    let forbids = |lints: &toml::Value| lints["rust"]["unsafe_code"].as_str() == Some("forbid");
    let workspace = read("Cargo.toml");
    assert!(forbids(&workspace["workspace"]["lints"]));
    let members = workspace["workspace"]["members"].as_array().expect("members are a list");
    let members = members.iter().map(|member| format!("{}/Cargo.toml", member.as_str().expect("a folder")));
    for path in members.chain(["Cargo.toml".to_owned(), "fuzz/Cargo.toml".to_owned()]) {
        let lints = &read(&path)["lints"];
        let by_workspace = lints.get("workspace").and_then(toml::Value::as_bool);
        assert!(by_workspace == Some(true) || forbids(lints), "{path}");
    }
}

/// A file that moved away from its glob would leave mutation testing without a word.
#[test]
fn every_glob_of_mutation_testing_matches_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(".cargo/mutants.toml")).expect("the settings of cargo-mutants");
    let settings: toml::Table = text.parse().expect("they are TOML");
    let globs = settings["examine_globs"].as_array().expect("a list");
    assert!(!globs.is_empty());
    for glob in globs {
        let glob = glob.as_str().expect("a glob is text");
        let (folder, name) = glob.rsplit_once('/').expect("a folder and a name");
        assert!(
            !folder.contains('*') && name.matches('*').count() <= 1,
            "{glob} is more than this test reads"
        );
        let entries = fs::read_dir(root.join(folder)).unwrap_or_else(|err| panic!("{glob}: {err}"));
        let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_there = |found: String| {
            name.split_once('*').map_or(found == name, |(start, end)| {
                found.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
            })
        };
        assert!(names.any(is_there), "{glob} matches no file");
    }
}

/// Each file directly below `tests` is a program of its own, to be linked and run by itself. That is for tests which measure
/// or change what a process has only once; all others belong in a folder.
#[test]
fn few_tests_are_programs_of_their_own() {
    let tests = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).expect("the tests");
    let paths = tests.map(|entry| entry.expect("an entry").path());
    let count = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).count();
    assert!(count <= 24, "{count} files are flat in tests");
}

/// The page that says what is promised: each promise has a test, or a place in the code, that is there.
#[test]
fn every_promise_of_security_is_shown_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("the page");
    let (_, promises) = text.split_once("\n## Promises\n").expect("its promises");
    let (promises, _) = promises.split_once("\n## ").expect("what is not promised");
    let mut count = 0;
    for promise in promises.split("\n- ").skip(1) {
        // What follows an empty line is the heading of others.
        let promise = promise.split("\n\n").next().unwrap_or_default();
        let brackets: Vec<&str> =
            promise.split('[').skip(1).filter_map(|rest| rest.split(']').next()).collect();
        let names: Vec<&str> =
            brackets.iter().flat_map(|bracket| bracket.split('`').skip(1).step_by(2)).collect();
        assert!(!names.is_empty(), "{promise}");
        for name in names {
            let is_path = name.contains('/');
            let path = if is_path { name.to_owned() } else { format!("fuzz/fuzz_targets/{name}.rs") };
            assert!(root.join(&path).exists(), "{path}: {promise}");
        }
        count += 1;
    }
    assert!(count >= 20, "{count} promises are found");
}
