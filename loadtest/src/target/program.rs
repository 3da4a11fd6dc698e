//! Programs that others install: where they are, and which version.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::TargetError;

/// Where `program` is.
///
/// # Errors
///
/// It is not installed; names the Debian `package` that has it.
pub fn find(program: &str, package: &'static str) -> Result<PathBuf, TargetError> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian puts servers in a folder that is not on every user's path.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let missing = || TargetError::Missing { what: program.to_owned(), package };
    folders.map(|folder| folder.join(program)).find(|file| file.is_file()).ok_or_else(missing)
}

/// The first line that `program` writes with `args`, on either output.
#[must_use]
pub fn first_line(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The version of Debian's `package`, if that is where the program comes from.
pub(super) fn package_version(package: &str) -> Option<String> {
    let dpkg = find("dpkg-query", "dpkg").ok()?;
    first_line(&dpkg, &["-W", "-f", "${Version}", package]).filter(|text| text.starts_with(char::is_numeric))
}

/// The version of crate `name` that this program was built with.
pub(super) fn locked_version(name: &str) -> &'static str {
    let head = format!("name = \"{name}\"\nversion = \"");
    let rest = LOCK.split_once(&head).map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap_or_default()
}

const LOCK: &str = include_str!("../../../Cargo.lock");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert!(locked_version("axum").starts_with("0.8."), "{}", locked_version("axum"));
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let missing = find("no-such-program", "some-package").expect_err("it is not installed");
        let text = "no-such-program is not installed (Debian package some-package)";
        assert_eq!(missing.to_string(), text);
    }
}
