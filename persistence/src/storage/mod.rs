//! Where files live: the plug between everything that persists and the thing that keeps the bytes.
//!
//! [`Storage`] is the handful of file operations the RDB and AOF writers need and no more, so that a new
//! backend is an afternoon's work. There are: [`Disk`] is the file system, read through memory maps;
//! [`Throttled`] puts a byte rate and a latency on any other (to measure a slow disk on a fast one);
//! [`Paced`] keeps writers within a budget; [`Faulty`] fails, tears writes and forgets what was not synced, and [`PowerCut`] does so to a whole process; [`Memory`] is for tests.
//! [`AtomicFile`], built on the trait alone, is how every complete file is written.
//!
//! Durability follows POSIX: bytes last once the file was synced, names once their folder was.

mod atomic;
mod budget;
mod disk;
mod faulty;
mod memory;
mod power_cut;
mod throttled;

pub use atomic::AtomicFile;
pub use budget::{Budget, Paced};
pub use disk::Disk;
pub use faulty::{Faults, Faulty};
pub use memory::Memory;
pub use power_cut::PowerCut;
pub use throttled::{Throttle, Throttled};

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place that keeps files. Object safe; operations may block.
///
/// Errors are those of the file system: in particular a missing file is [`io::ErrorKind::NotFound`].
pub trait Storage: Send + Sync + fmt::Debug {
    /// Makes an empty file to write to, replacing one of that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>>;
    /// Opens a file to write at its end, making it if it is missing.
    fn append(&self, path: &Path) -> io::Result<Box<dyn FileWriter>>;
    /// Opens a file to read, as it is now.
    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>>;
    /// Gives a file another name, atomically replacing a file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a complete file a second name, which must be free: one content, two names.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Cuts a file back to `len` bytes.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Makes a folder, if it is not there yet, in a folder that is.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes names created, changed and deleted in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Paths of the files in `dir`, in order of name. Folders are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Size of a file in bytes.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// Takes a name for this process alone, until the lock is dropped or the process has ended, in whatever way. A file of that
    /// name is made, stays empty, and stays: it stands for what is locked. A storage that no other process sees has
    /// nothing to do.
    ///
    /// # Errors
    /// `WouldBlock` where another process has it; others where there can be no lock.
    fn lock(&self, _path: &Path) -> io::Result<Lock> {
        Ok(Lock::default())
    }
    /// Whether there is a file of that name.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.len(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// A name that is this process' alone while this lives: see [`Storage::lock`].
#[derive(Debug, Default)]
pub struct Lock {
    /// Open, and thereby locked.
    _held: Option<std::fs::File>,
}

/// A file being written, at its end.
pub trait FileWriter: Send {
    /// Writes all of `bytes`. After an error an unknown part of them was written.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once every byte written is durable. The file's name is not: see [`Storage::sync_dir`].
    fn sync(&mut self) -> io::Result<()>;
    /// Tells the storage that the bytes so far will be synced in the end, so that it may start on them
    /// now. Returns without waiting.
    fn start_sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Announces that `bytes` more will come, so that room may be found for them at once: a sync of a file that finds
    /// room piece by piece writes twice as much. The length stays. A hint: where there is no room, the write says so.
    fn reserve(&mut self, _bytes: u64) {}
    /// The file's length, which is where the next byte goes.
    fn position(&self) -> u64;
    /// The descriptor behind the file, where there is one.
    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// A file being read.
pub trait FileReader: Send + Sync {
    /// Size of the file in bytes when it was opened.
    fn len(&self) -> u64;
    /// Whether the file was empty when it was opened.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The whole content. Reading it may fault pages in; a storage that is slow on purpose slows
    /// [`FileReader::prefetch`] instead, so call that first for the part you are about to use.
    fn bytes(&self) -> &[u8];
    /// Announces that `range` is about to be read, from [`FileReader::bytes`] or
    /// [`FileReader::raw_fd`]. Waits as long as a throttled storage takes to read it.
    fn prefetch(&self, range: Range<u64>) -> io::Result<()>;
    /// The descriptor behind the file, where there is one (for `sendfile`).
    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// The folder to sync after `path` was created or renamed.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        (**self).create(path)
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        (**self).append(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        (**self).open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (**self).rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        (**self).link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        (**self).remove(path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        (**self).truncate(path, len)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        (**self).create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        (**self).sync_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        (**self).list(dir)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        (**self).len(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        (**self).lock(path)
    }
}
