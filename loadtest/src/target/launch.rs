//! A server ready to be started: its command, its addresses, its folder.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::dialect::Dialect;
use super::error::TargetError;
use super::origin::Origin;

/// A server ready to be started.
#[derive(Debug)]
pub struct Launch {
    /// Starts it in the foreground.
    pub command: Command,
    /// Where subscribers will connect.
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
    pub(super) fn write(&self, name: &str, template: &str, values: &[(&str, &str)]) -> io::Result<()> {
        let mut text = template.to_owned();
        for (key, value) in values {
            text = text.replace(&format!("@{key}@"), value);
        }
        fs::write(self.folder.path().join(name), text)
    }
}

/// A free port. If another program takes it before the server does, the start fails and says so.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
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
