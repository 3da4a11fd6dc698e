//! Promise: the files that `deploy/Containerfile` copies suffice for the build, and the program accepts the settings it
//! has. The image itself is not built here.

use std::fs;
use std::path::Path;
use std::process::Command;

const CONTAINERFILE: &str = include_str!("../../deploy/Containerfile");

/// Returns the arguments of each instruction `name`, continued lines joined.
fn instructions(name: &str) -> Vec<Vec<String>> {
    let text = CONTAINERFILE.replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|rest| rest.split_whitespace().map(str::to_owned).collect()).collect()
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a temporary folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().expect("a folder")).expect("a temporary folder");
        fs::copy(from, to).expect("a file");
    }
}

#[test]
fn what_is_copied_is_a_whole_workspace() {
    let folder = std::env::temp_dir().join(format!("tidegate-container-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    let mut count = 0;
    for mut paths in instructions("COPY").into_iter().filter(|paths| !paths[0].starts_with("--")) {
        let to = paths.pop().expect("where to");
        for path in paths {
            let to = if to == "./" { folder.join(&path) } else { folder.join(&to) };
            copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), &to);
            count += 1;
        }
    }
    assert_eq!(count, 8);
    // Also checks that every target's file exists and that the lock file is up to date.
    let read = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .output()
        .expect("cargo runs the tests");
    fs::remove_dir_all(&folder).expect("our folder");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn its_settings_are_right_once_the_operator_knows_who_can_connect() {
    let env = instructions("ENV").concat();
    let env: Vec<(&str, &str)> = env.iter().filter_map(|pair| pair.split_once('=')).collect();
    assert_eq!(env.len(), 3);
    let check = |insecure: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .env_clear()
            .envs(env.iter().copied())
            .env("TIDEGATE_INSECURE", insecure)
            .arg("--check-config");
        command.output().expect("it runs")
    };
    assert_eq!(check("false").status.code(), Some(78));
    let right = check("true");
    let said = String::from_utf8_lossy(&right.stdout);
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
    for (name, value) in env {
        assert!(said.lines().any(|line| line.contains(value) && line.ends_with(name)), "{name} in {said}");
    }
}

/// The setup of `docs/deploying.md` without `TIDEGATE_INSECURE`, which shows why it is needed: tokens alone are not
/// enough.
#[test]
fn with_tokens_only_the_admin_listener_is_in_the_way() {
    let env = instructions("ENV").concat();
    let env: Vec<(&str, &str)> = env.iter().filter_map(|pair| pair.split_once('=')).collect();
    let check = |settings: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let key = ("TIDEGATE_TOKEN_KEYS", "HS256:base64:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE");
        let all = env.iter().copied().chain([key]).chain(settings.iter().copied());
        command.env_clear().envs(all).arg("--check-config").output().expect("it runs")
    };
    let refused = check(&[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(78) && said.contains("TIDEGATE_ADMIN_LISTEN"), "{said}");
    assert!(!said.contains("TIDEGATE_LISTEN"), "{said}");
    assert!(check(&[("TIDEGATE_INSECURE", "true")]).status.success());
    assert!(check(&[("TIDEGATE_ADMIN_LISTEN", "127.0.0.1:9180")]).status.success());
}

#[test]
fn its_health_check_is_a_flag_of_the_program() {
    let check = instructions("HEALTHCHECK").concat().join(" ");
    assert!(check.ends_with(r#"CMD ["/tidegate", "--check-health"]"#), "{check}");
    assert_eq!(instructions("ENTRYPOINT"), [[r#"["/tidegate"]"#]]);
    assert_eq!(instructions("USER"), [["65532:65532"]]);
}
