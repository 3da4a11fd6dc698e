//! What the log needs of a folder. Tests have one that loses what was not synced.

use std::io;

/// A folder of segments. Blocking.
pub trait Folder {
    /// An open segment.
    type File;

    /// The numbers of all segments, in any order.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn segments(&self) -> io::Result<Vec<u64>>;

    /// All bytes of a segment.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn read(&self, segment: u64) -> io::Result<Vec<u8>>;

    /// Makes durable what [`Folder::read`] shows of a segment. A process that was killed may have written and not synced it.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn settle(&mut self, segment: u64) -> io::Result<()>;

    /// Makes a segment of `bytes` zeros, whose space is allocated and whose name outlives a loss of power. A file of that
    /// name is replaced.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] if there is no space; others of the file system.
    fn create(&mut self, segment: u64, bytes: u64) -> io::Result<Self::File>;

    /// Writes `bytes` from `at` on. They are durable after [`Folder::sync`].
    ///
    /// # Errors
    ///
    /// Of the file system. Then any part may be written.
    fn write(&mut self, file: &mut Self::File, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what was written, as fdatasync(2). After an error nothing is known of what was written: the file must not
    /// be used again, since a second sync may succeed although data is lost.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;

    /// Gives back the space of a segment beyond `bytes`. Need not be durable.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn shorten(&mut self, file: &mut Self::File, bytes: u64) -> io::Result<()>;

    /// The same for a segment that is not open.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn trim(&mut self, segment: u64, bytes: u64) -> io::Result<()>;

    /// Removes a segment. Need not be durable.
    ///
    /// # Errors
    ///
    /// Of the file system.
    fn remove(&mut self, segment: u64) -> io::Result<()>;
}
