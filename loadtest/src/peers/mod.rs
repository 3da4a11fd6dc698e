//! What Tidegate is compared with: reference servers of our own, and what a user would pick instead.
//!
//! Each peer is a start command, a way to publish, and what it supports. Configurations and sources lie in
//! `loadtest/peers/`; they are compiled in, so the tool needs no checkout beside it.

mod dialect;
mod go;
mod nchan;
mod node;
mod origin;
mod program;
mod pushpin;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::scenario::Scenario;
use crate::target::{TargetError, free_address, sibling};

pub use dialect::Dialect;
pub use origin::Origin;
pub use program::{find, first_line};

/// A server to compare with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Peer {
    /// One `send` per connection and event, one thread.
    Floor,
    /// The same, coalescing for 20 ms.
    FloorTick,
    /// axum and a broadcast channel a room.
    Axum,
    /// Go's `net/http`, a channel for each listener.
    Go,
    /// Node's `http`, as tutorials teach it.
    Node,
    /// nginx with the nchan module.
    Nchan,
    /// Pushpin before an origin that subscribes everyone.
    Pushpin,
}

impl Peer {
    /// All that the suite compares with. The floor with a tick answers another question.
    pub const SUITE: [Self; 6] = [Self::Floor, Self::Axum, Self::Go, Self::Node, Self::Nchan, Self::Pushpin];

    /// As typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorTick => "floor-tick",
            Self::Axum => "axum",
            Self::Go => "go",
            Self::Node => "node",
            Self::Nchan => "nchan",
            Self::Pushpin => "pushpin",
        }
    }

    /// Whether `scenario` means anything for it. A peer runs `gzip` uncompressed.
    #[must_use]
    pub fn supports(self, scenario: Scenario) -> bool {
        match self {
            // None of them can be resumed from the way it is done here.
            _ if scenario.needs_resume() => false,
            Self::Floor | Self::FloorTick => true,
            Self::Axum => scenario != Scenario::Targeted,
            // They know rooms, not users, and what they do at their end is their own matter.
            Self::Go | Self::Node | Self::Nchan | Self::Pushpin => {
                !matches!(scenario, Scenario::Targeted | Scenario::Drain | Scenario::Gzip)
            }
        }
    }

    /// Connections it copes with opening at a time. Above this it loses some for good, and nothing else could be
    /// measured.
    #[must_use]
    pub fn in_flight_max(self) -> usize {
        // The four processes tell each other of a new connection over queues that drop what does not fit.
        if self == Self::Pushpin { 16 } else { usize::MAX }
    }

    /// What exactly would be measured.
    ///
    /// # Errors
    ///
    /// What is missing, and the package that has it.
    pub fn version(self) -> Result<String, TargetError> {
        match self {
            Self::Floor | Self::FloorTick => Ok(format!("floor {}", env!("CARGO_PKG_VERSION"))),
            Self::Axum => Ok(format!("axum {}", program::locked_version("axum"))),
            Self::Go => go::version(),
            Self::Node => node::version(),
            Self::Nchan => nchan::version(),
            Self::Pushpin => pushpin::version(),
        }
    }

    /// Prepares a start for `scenario`.
    ///
    /// # Errors
    ///
    /// A program is missing, or nothing could be prepared.
    pub fn launch(self, scenario: Scenario) -> Result<Launch, TargetError> {
        match self {
            Self::Floor | Self::FloorTick => {
                let mut launch = Launch::listening(&sibling("floor")?)?;
                if self == Self::FloorTick {
                    launch.command.args(["--tick", "20ms"]);
                }
                if scenario == Scenario::Targeted {
                    launch.command.arg("--users");
                }
                Ok(launch)
            }
            Self::Axum => Launch::listening(&sibling("axum-hub")?),
            Self::Go => go::launch(),
            Self::Node => node::launch(),
            Self::Nchan => nchan::launch(),
            Self::Pushpin => pushpin::launch(),
        }
    }
}

/// A server ready to be started.
#[derive(Debug)]
pub struct Launch {
    /// Starts it in the foreground.
    pub command: Command,
    /// Where listeners will connect.
    pub addr: SocketAddr,
    /// Where publishers will.
    pub publish_addr: SocketAddr,
    /// How to publish.
    pub dialect: Dialect,
    /// Whether a response's head is all there is to see of `connected`.
    pub is_head_connected: bool,
    /// Its files and its log; gone with it.
    pub folder: TempDir,
    /// The application behind it, if it needs one.
    pub origin: Option<Origin>,
}

impl Launch {
    /// `program` that will speak like Tidegate, on a free port.
    ///
    /// # Errors
    ///
    /// No port or no folder.
    pub fn new(program: &Path) -> io::Result<Self> {
        let addr = free_address()?;
        Ok(Self {
            command: Command::new(program),
            addr,
            publish_addr: addr,
            dialect: Dialect::Tidegate,
            is_head_connected: false,
            folder: tempfile::Builder::new().prefix("tidegate-loadtest-").tempdir()?,
            origin: None,
        })
    }

    /// The same, told its address by `--listen`.
    ///
    /// # Errors
    ///
    /// No port or no folder.
    pub fn listening(program: &Path) -> Result<Self, TargetError> {
        let mut launch = Self::new(program)?;
        launch.command.args(["--listen", &launch.addr.to_string()]);
        Ok(launch)
    }

    /// Writes `template` to the file `name` in its folder, every `@key@` replaced.
    fn write(&self, name: &str, template: &str, values: &[(&str, &str)]) -> io::Result<()> {
        let mut text = template.to_owned();
        for (key, value) in values {
            text = text.replace(&format!("@{key}@"), value);
        }
        fs::write(self.folder.path().join(name), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_in_wherever_a_key_stands() {
        let launch = Launch::new(Path::new("true")).expect("there is a port and a folder");
        launch
            .write("file", "listen @addr@; # @addr@, not @other@", &[("addr", "1.2.3.4:5")])
            .expect("writes");
        let text = fs::read_to_string(launch.folder.path().join("file")).expect("reads");
        assert_eq!(text, "listen 1.2.3.4:5; # 1.2.3.4:5, not @other@");
    }
}
