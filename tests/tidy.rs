//! Promise: the tree keeps its layout. A folder names no module that it must not use; every file says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns every Rust file at or below `place`, with its text.
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

/// Our own files, without third-party crates and build output.
const PLACES: [&str; 8] = [
    "src",
    "tests",
    "benches",
    "loadtest",
    "fuzz/fuzz_targets",
    "fuzz/checks",
    "examples/showcase/src",
    "examples/showcase/tests",
];

#[test]
fn every_file_opens_with_what_it_is_for() {
    for (path, text) in PLACES.into_iter().flat_map(files) {
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}

/// The floors, the lowest first. A floor uses those below it, never those above.
const FLOORS: [&str; 18] = [
    "types", "rights", "answer", "wire", "hub", "order", "shard", "config", "auth", "policy", "net", "store",
    "upstream", "engine", "http", "admin", "cli", "server",
];

/// Dependencies that point upwards, from a file to a floor, each with its reason in ARCHITECTURE.md. This list only
/// becomes shorter.
const UPWARDS: [(&str, &str); 0] = [];

/// Returns code without its comments, and without what follows `#[cfg(test)]`: tests may use every floor.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Returns the modules of this crate that a line names.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn no_floor_uses_what_stands_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for (level, floor) in FLOORS.into_iter().enumerate() {
        for (path, text) in files(&format!("src/{floor}")) {
            // The tests of shards are files of their own.
            if path.to_str().is_some_and(|path| path.contains("shard/tests/")) {
                continue;
            }
            let file = path.strip_prefix(&root).expect("below src").display().to_string();
            for name in code(&text).flat_map(named) {
                let above = FLOORS.iter().skip(level + 1).find(|above| **above == name);
                found.extend(above.map(|above| (file.clone(), *above)));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    let wanted: Vec<_> = UPWARDS.iter().map(|(file, floor)| ((*file).to_owned(), *floor)).collect();
    assert_eq!(found, wanted, "files that use a floor above theirs");
}

/// A folder that is on no floor could use all of them.
#[test]
fn every_folder_is_on_a_floor() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("the sources");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"))
        .collect();
    names.retain(|name| !["lib.rs", "main.rs"].contains(&name.as_str()));
    names.sort_unstable();
    let mut floors = FLOORS.to_vec();
    floors.sort_unstable();
    assert_eq!(names, floors);
}

/// A folder with too many files is hard to survey.
#[test]
fn few_files_of_http_are_flat() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http")).expect("the folder");
    let count = entries.filter(|entry| entry.as_ref().expect("an entry").path().is_file()).count();
    assert!(count <= 8, "{count} files are flat in src/http");
}

/// The code that decides about events is tested without a socket, a runtime or a clock, so it must not name one.
#[test]
fn events_and_bytes_know_no_sockets_and_no_clock() {
    for folder in ["rights", "wire", "hub", "order", "shard", "auth"] {
        for (path, text) in files(&format!("src/{folder}")) {
            for line in code(&text) {
                let banned = ["tokio", "hyper", "crate::answer", "Instant::", "SystemTime"];
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

/// A file that no longer matches its glob would drop out of mutation testing without a message.
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

/// `scripts/mutants` builds the lower floors as a crate of their own, by a list of crates. It was broken twice without a word.
#[test]
fn mutation_testing_has_every_crate_that_its_code_uses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|err| panic!("{path}: {err}"));
    let script = read("scripts/mutants");
    let (_, list) = script.split_once("\nused='").expect("the list of crates");
    let used: Vec<&str> = list.split('\'').next().expect("its end").split('|').collect();
    let manifest: toml::Table = read("Cargo.toml").parse().expect("manifests are TOML");
    let crates = manifest["dependencies"].as_table().expect("a table").keys();
    let (_, copied) = script.split_once("\ncp -r ").expect("what is copied");
    let folders = copied.split_whitespace().take_while(|word| word.starts_with("src/"));
    let code: String =
        folders.chain(["src/http/conn/guard.rs"]).flat_map(files).map(|(_, text)| text).collect();
    let mut found = 0;
    for name in crates {
        // A module may have the name of a crate: `order::redis`.
        let begins = |(at, _): (usize, &str)| !code[..at].ends_with("::");
        let is_named = code.match_indices(&format!("{}::", name.replace('-', "_"))).any(begins);
        assert!(!is_named || used.contains(&name.as_str()), "{name} is not in the list of scripts/mutants");
        found += usize::from(is_named);
    }
    assert!(found >= 10, "{found} crates are used");
}

/// Each file directly below `tests` is a program of its own, to be linked and run by itself. That is for tests that
/// measure or change state that a process has only once; all others belong in a folder.
#[test]
fn few_tests_are_programs_of_their_own() {
    let tests = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).expect("the tests");
    let paths = tests.map(|entry| entry.expect("an entry").path());
    let count = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).count();
    assert!(count <= 24, "{count} files are flat in tests");
}

/// The page of promises: each promise names a test, or a place in the code, that exists.
#[test]
fn every_promise_of_security_is_shown_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("the page");
    let (_, promises) = text.split_once("\n## Promises\n").expect("its promises");
    let (promises, _) = promises.split_once("\n## ").expect("what is not promised");
    let mut count = 0;
    for promise in promises.split("\n- ").skip(1) {
        // The text after an empty line is the next heading.
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
