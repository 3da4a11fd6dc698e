//! A Unix socket to listen on: its path, and which users may connect: `/run/tidegate.sock;mode=0660;group=www-data`.
//!
//! Users who may write to the file may connect (`unix(7)`). Without a service manager that makes the file, these two options
//! say which users those are, whatever the umask is. Groups are those of `/etc/group`, because the static binary cannot ask other sources.
//! A group from elsewhere is named by its number.

use std::fmt;
use std::path::PathBuf;

/// A path, and which users may connect.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct UnixSocket {
    /// An absolute path of at most 107 bytes (`unix(7)`), without `,` and `;`.
    pub path: PathBuf,
    /// Permissions of the file, at most 0o777. Without them the umask decides.
    pub mode: Option<u32>,
    /// The group of the file. Without one it is the process's group.
    pub group: Option<Group>,
}

impl From<PathBuf> for UnixSocket {
    fn from(path: PathBuf) -> Self {
        Self { path, mode: None, group: None }
    }
}

impl UnixSocket {
    /// Parses `PATH[;mode=MODE][;group=GROUP]`, the options in any order, each at most once.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let mut socket = Self::from(path(parts.next()?)?);
        for part in parts {
            match part.split_once('=')? {
                ("mode", text) if socket.mode.is_none() => socket.mode = Some(mode(text)?),
                ("group", text) if socket.group.is_none() => socket.group = Some(Group::parse(text)?),
                _ => return None,
            }
        }
        Some(socket)
    }
}

impl fmt::Display for UnixSocket {
    /// As in the settings, without `unix:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(mode) = self.mode {
            write!(f, ";mode={mode:04o}")?;
        }
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ";group={group}"))
    }
}

/// The options that [`UnixSocket::parse`] accepts after the path.
pub(crate) const OPTIONS: &str = "options such as ;mode=0660 (octal, at most 0777) and ;group=www-data (a name or a number), each \
                                  once";

fn path(text: &str) -> Option<PathBuf> {
    let fits = text.len() <= UNIX_PATH_BYTES_MAX && text.starts_with('/') && !text.ends_with('/');
    // A comma would split the value into two entries, a NUL would end the path early, and the replacement character
    // stands for bytes that were lost before.
    let odd = |c: char| matches!(c, ',' | char::REPLACEMENT_CHARACTER) || c.is_control();
    (fits && !text.contains(odd)).then(|| text.into())
}

/// `sun_path` has 108 bytes, the closing NUL included (`unix(7)`).
pub(crate) const UNIX_PATH_BYTES_MAX: usize = 107;

/// Parses an octal mode, as in `chmod(1)`. The bits above 0777 have no meaning for a socket.
fn mode(text: &str) -> Option<u32> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = is_octal.then(|| u32::from_str_radix(text, 8).ok())??;
    (mode <= 0o777).then_some(mode)
}

/// A group, by name or number.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Group(String);

impl Group {
    fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        let fits = (1..=GROUP_BYTES_MAX).contains(&text.len()) && text.chars().all(plain);
        fits.then(|| Self(text.to_owned()))
    }

    /// The group's number. `None` if `/etc/group` has no such name, or cannot be read.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        let number = self.0.parse().ok().filter(|id| *id != NO_GROUP);
        number.or_else(|| id_in(&std::fs::read_to_string(GROUPS).ok()?, &self.0))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `group(5)`: lines of `name:password:number:members`.
const GROUPS: &str = "/etc/group";

/// Bytes of a group's name (`useradd(8)` takes 32).
const GROUP_BYTES_MAX: usize = 64;

/// In `chown(2)`, the number that leaves the group unchanged.
const NO_GROUP: u32 = u32::MAX;

fn id_in(groups: &str, name: &str) -> Option<u32> {
    let mut found = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<UnixSocket> {
        UnixSocket::parse(text)
    }

    #[test]
    fn who_may_connect_stands_behind_the_path() {
        let socket = parse("/a.sock;mode=0660;group=www-data").expect("a socket");
        assert_eq!((socket.path.as_path(), socket.mode), (std::path::Path::new("/a.sock"), Some(0o660)));
        assert_eq!(socket.group, Some(Group("www-data".into())));
        assert_eq!(parse("/a.sock;group=www-data;mode=660"), Some(socket));
        for text in ["/a", "/a;mode=0600", "/a;mode=0000", "/a;group=0", "/a=b;mode=0777;group=a.b_c-d$"] {
            assert_eq!(parse(text).map(|socket| socket.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn whatever_else_stands_there_is_refused() {
        for mode in ["", "8", "rw", "1777", "00660", "-1", "+660", "0o660", " 660", "660;mode=660"] {
            assert_eq!(parse(&format!("/a;mode={mode}")), None, "{mode:?}");
        }
        for group in ["", "a b", "a:b", "a/b", "é", &"g".repeat(65), "a;group=a"] {
            assert_eq!(parse(&format!("/a;group={group}")), None, "{group:?}");
        }
        for text in [
            "",
            ";mode=0660",
            "/a;",
            "/a;;mode=0660",
            "/a;mode",
            "/a;user=root",
            "/a;Mode=0660",
            "/a/;mode=0660",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn groups_have_numbers() {
        let groups = "root:x:0:\nwww-data:x:33:nginx\nbroken\n:x:5:\nodd:x:many:\n";
        assert_eq!(id_in(groups, "www-data"), Some(33));
        for name in ["www", "data", "broken", "odd", "nginx", "x"] {
            assert_eq!(id_in(groups, name), None, "{name}");
        }
        assert_eq!(Group("1234".into()).id(), Some(1234));
        assert_eq!(Group("4294967295".into()).id(), None, "which would be no group at all");
        assert_eq!(Group("root".into()).id(), Some(0));
        assert_eq!(Group("no-such-group".into()).id(), None);
    }
}
