//! Node's `http` module and a `write` for each subscriber.

use crate::target::error::TargetError;
use crate::target::launch::Launch;
use crate::target::program::{find, first_line};

pub(super) fn version() -> Result<String, TargetError> {
    let node = find("node", "nodejs")?;
    Ok(format!("Node {}", first_line(&node, &["--version"]).unwrap_or_default()))
}

pub(super) fn launch() -> Result<Launch, TargetError> {
    let mut launch = Launch::new(&find("node", "nodejs")?)?;
    launch.write("hub.mjs", SOURCE, &[])?;
    launch.command.arg(launch.folder.path().join("hub.mjs")).arg(launch.addr.to_string());
    launch.command.env("NODE_ENV", "production");
    Ok(launch)
}

const SOURCE: &str = include_str!("../../../peers/node/hub.mjs");
