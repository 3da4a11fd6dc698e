//! Reads the files that settings name. The size is bounded, so a path to a device or to the wrong file is an error and
//! does not exhaust memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Bytes a file of settings, keys or certificates may have.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads the file at `path`.
///
/// # Errors
///
/// [`io::ErrorKind::FileTooLarge`] above [`FILE_BYTES_MAX`]; otherwise as [`std::fs::read`].
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 4 MiB"));
    }
    Ok(bytes)
}

/// Reads the file at `path` as text.
///
/// # Errors
///
/// As [`read_file`]; [`io::ErrorKind::InvalidData`] if it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_end_is_too_large() {
        assert_eq!(read_file(Path::new("/dev/zero")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn as_much_as_may_be_is_read() {
        let path = std::env::temp_dir().join(format!("tidegate-read-{}", std::process::id()));
        let sizes = [(FILE_BYTES_MAX, true), (FILE_BYTES_MAX + 1, false)];
        let read = sizes.map(|(size, _)| {
            File::create(&path).and_then(|file| file.set_len(size)).unwrap();
            read_text(&path).map(|text| text.len() as u64).ok()
        });
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read, sizes.map(|(size, is_read)| is_read.then_some(size)));
    }

    #[test]
    fn what_is_no_text_is_told() {
        assert_eq!(read_text(Path::new("/bin/true")).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
