//! A real folder of segments: files that are allocated before they are written, and a lock.
//!
//! A segment is `<number>.log`, with 16 digits. `spare` is the next one, allocated ahead: if something else fills the disk,
//! there is still that much space. `lock` keeps a second process out.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::order::disk::files::Folder;

/// A folder that this process has for itself.
#[derive(Debug)]
pub struct Segments {
    path: PathBuf,
    /// Locked for as long as this value lives.
    _lock: File,
}

/// A folder that is only read: nothing is locked or changed.
#[derive(Debug)]
pub struct Reading(pub PathBuf);

impl Segments {
    /// Opens the folder at `path`, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ResourceBusy`] if another process has it; others of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::ResourceBusy.into()),
            Err(TryLockError::Error(err)) => Err(err),
        }
    }

    fn file(&self, segment: u64) -> PathBuf {
        file(&self.path, segment)
    }

    fn spare(&self) -> PathBuf {
        self.path.join("spare")
    }

    /// Makes names in the folder durable (fsync(2): syncing a file does not do that).
    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Makes the next segment ahead. It may fail: then that one is allocated when it is needed.
    fn make_spare(&self, bytes: u64) {
        if !self.spare().exists() && allocate(&self.spare(), bytes).is_err() {
            let _ = fs::remove_file(self.spare());
        }
    }
}

fn file(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:016}.log"))
}

/// A file of `bytes` zeros, whose space is allocated.
fn allocate(path: &Path, bytes: u64) -> io::Result<File> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => {}
        // Some file systems cannot: then a write may find the disk full.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes)?,
        Err(err) => return Err(err.into()),
    }
    file.sync_all()?;
    Ok(file)
}

fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|name| name.len() == 16);
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    Ok(numbers)
}

impl Folder for Segments {
    type File = File;

    fn segments(&self) -> io::Result<Vec<u64>> {
        segments(&self.path)
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        fs::read(self.file(segment))
    }

    fn settle(&mut self, segment: u64) -> io::Result<()> {
        File::options().write(true).open(self.file(segment))?.sync_all()
    }

    fn create(&mut self, segment: u64, bytes: u64) -> io::Result<File> {
        let (spare, path) = (self.spare(), self.file(segment));
        let file = match fs::metadata(&spare) {
            Ok(found) if found.len() == bytes => {
                fs::rename(&spare, &path)?;
                File::options().read(true).write(true).open(&path)?
            }
            _ => allocate(&path, bytes).inspect_err(|_| _ = fs::remove_file(&path))?,
        };
        self.sync_names()?;
        self.make_spare(bytes);
        Ok(file)
    }

    fn write(&mut self, file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn shorten(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn trim(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        File::options().write(true).open(self.file(segment))?.set_len(bytes)
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        fs::remove_file(self.file(segment))
    }
}

impl Folder for Reading {
    type File = ();

    fn segments(&self) -> io::Result<Vec<u64>> {
        segments(&self.0)
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        fs::read(file(&self.0, segment))
    }

    fn settle(&mut self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn create(&mut self, _: u64, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn write(&mut self, (): &mut (), _: u64, _: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn sync(&mut self, (): &mut ()) -> io::Result<()> {
        Err(read_only())
    }

    fn shorten(&mut self, (): &mut (), _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn trim(&mut self, _: u64, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn remove(&mut self, _: u64) -> io::Result<()> {
        Err(read_only())
    }
}

fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}
