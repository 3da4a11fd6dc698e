//! Go's `net/http`, built from the source that is compiled in here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::plan::source::sibling;
use crate::target::error::TargetError;
use crate::target::launch::Launch;
use crate::target::program::{find, first_line};

pub(super) fn version() -> Result<String, TargetError> {
    let go = find("go", "golang-go")?;
    let line = first_line(&go, &["version"]).unwrap_or_default();
    // `go version go1.19.8 linux/amd64`
    let version = line.split_whitespace().nth(2).unwrap_or("go").trim_start_matches("go");
    Ok(format!("Go {version}"))
}

pub(super) fn launch() -> Result<Launch, TargetError> {
    let go = find("go", "golang-go")?;
    let hub = BUILT.get_or_init(|| build(&go)).clone().map_err(|log| TargetError::Build(go, log))?;
    let mut launch = Launch::new(&hub)?;
    launch.command.arg(launch.addr.to_string());
    Ok(launch)
}

/// Builds the hub beside this executable. Nothing is fetched: it uses the standard library alone.
fn build(go: &Path) -> Result<PathBuf, String> {
    let hub = sibling("go-hub").map_err(|err| err.to_string())?;
    let folder = tempfile::tempdir().map_err(|err| err.to_string())?;
    for (name, text) in [("main.go", SOURCE), ("go.mod", MODULE)] {
        fs::write(folder.path().join(name), text).map_err(|err| err.to_string())?;
    }
    // Under a name of its own, then renamed: another load test may be running the hub, or building it as well.
    let fresh = hub.with_extension(std::process::id().to_string());
    let output = Command::new(go)
        .args(["build", "-trimpath", "-o"])
        .arg(&fresh)
        .current_dir(folder.path())
        .envs([("GOFLAGS", "-mod=mod"), ("GOPROXY", "off"), ("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")])
        .stdin(Stdio::null())
        .output()
        .map_err(|err| err.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | "));
    }
    fs::rename(&fresh, &hub).map_err(|err| err.to_string())?;
    Ok(hub)
}

/// The hub, built once for all rounds.
static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
const SOURCE: &str = include_str!("../../../peers/go/main.go");
const MODULE: &str = include_str!("../../../peers/go/go.mod");
