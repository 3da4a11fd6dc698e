//! How each peer is started, and which version of it is there.
//!
//! Configurations and sources lie in `loadtest/peers/`. They are compiled in, so the tool needs no checkout beside it.

mod go;
mod nchan;
mod node;
mod pushpin;

use super::error::TargetError;
use super::launch::Launch;
use super::program::locked_version;
use crate::plan::peer::Peer;
use crate::plan::scenario::Scenario;
use crate::plan::source::sibling;

/// What exactly would be measured.
///
/// # Errors
///
/// What is missing, and the package that has it.
pub fn version(peer: Peer) -> Result<String, TargetError> {
    match peer {
        Peer::Floor | Peer::FloorTick => Ok(format!("floor {}", env!("CARGO_PKG_VERSION"))),
        Peer::Axum => Ok(format!("axum {}", locked_version("axum"))),
        Peer::Go => go::version(),
        Peer::Node => node::version(),
        Peer::Nchan => nchan::version(),
        Peer::Pushpin => pushpin::version(),
    }
}

/// Prepares a start for `scenario`.
///
/// # Errors
///
/// A program is missing, or nothing could be prepared.
pub fn launch(peer: Peer, scenario: Scenario) -> Result<Launch, TargetError> {
    match peer {
        Peer::Floor | Peer::FloorTick => {
            let mut launch = Launch::listening(&sibling("floor")?)?;
            if peer == Peer::FloorTick {
                launch.command.args(["--tick", "20ms"]);
            }
            if scenario == Scenario::Targeted {
                launch.command.arg("--users");
            }
            Ok(launch)
        }
        Peer::Axum => Launch::listening(&sibling("axum-hub")?),
        Peer::Go => go::launch(),
        Peer::Node => node::launch(),
        Peer::Nchan => nchan::launch(),
        Peer::Pushpin => pushpin::launch(),
    }
}
