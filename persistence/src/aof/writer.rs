//! The incremental file being written.
//!
//! A write that fails leaves an unknown part of its bytes behind. [`IncrWriter`] knows how long the file was before,
//! cuts it back to that at once, or, where even that fails, before the next write; so the file never grows
//! behind a torn write, and the caller simply tries the same bytes again.
//!
//! A sync that fails is for good. The kernel may have dropped what it could not write and forgotten about it, so that the next
//! sync succeeds without that; after one failure a file is never called durable again, by none of its handles. What
//! it held must be written anew, elsewhere.
//!
//! A file that is synced after every few writes is given room in advance ([`IncrWriter::reserve`]): finding room anew
//! each time is a third of what such a sync writes to a journal. The room is beyond the file's end, where no reader sees it.

use crate::storage::{FileWriter, Storage};
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of log, at its end.
pub struct IncrWriter {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Box<dyn FileWriter>,
    /// Bytes of whole writes.
    len: u64,
    /// A write failed behind `len`.
    torn: bool,
    /// There is room up to here.
    reserved: u64,
    lost: Lost,
}

/// Whether a sync of the file failed, with the number of that error, where it has one. Held over each sync: one that begins
/// after another failed knows of it.
type Lost = Arc<Mutex<Option<Option<i32>>>>;

fn sync(file: &mut dyn FileWriter, lost: &Lost) -> io::Result<()> {
    let mut lost = lost.lock();
    match *lost {
        Some(Some(number)) => Err(io::Error::from_raw_os_error(number)),
        Some(None) => Err(io::Error::other("a sync of the file failed before")),
        None => file.sync().inspect_err(|e| *lost = Some(e.raw_os_error())),
    }
}

/// A handle that syncs what another wrote.
pub struct Syncer {
    file: Box<dyn FileWriter>,
    lost: Lost,
}

impl std::fmt::Debug for Syncer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncer").field("lost", &*self.lost.lock()).finish()
    }
}

impl Syncer {
    /// Returns once all that was written is durable.
    ///
    /// # Errors
    /// That of the storage; and the same from then on.
    pub fn sync(&mut self) -> io::Result<()> {
        sync(&mut *self.file, &self.lost)
    }
}

/// Room asked for at a time, in bytes.
const RESERVE: u64 = 1 << 20;

impl std::fmt::Debug for IncrWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IncrWriter").field("path", &self.path).field("len", &self.len).finish()
    }
}

impl IncrWriter {
    /// Makes an empty file, replacing one of that name.
    pub fn create(storage: &Arc<dyn Storage>, path: &Path) -> io::Result<Self> {
        drop(storage.create(path)?);
        Self::open(storage, path)
    }

    /// Opens a file at its end, making it if it is missing.
    pub fn open(storage: &Arc<dyn Storage>, path: &Path) -> io::Result<Self> {
        let file = storage.append(path)?;
        let len = file.position();
        let (storage, path) = (storage.clone(), path.to_path_buf());
        Ok(Self { storage, path, file, len, torn: false, reserved: len, lost: Lost::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it another name, on the storage too.
    pub fn rename(&mut self, path: &Path) -> io::Result<()> {
        self.storage.rename(&self.path, path)?;
        self.path = path.to_path_buf();
        Ok(())
    }

    /// Bytes of whole writes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends all of `bytes`, or, as far as anybody who reads the file later can tell, nothing.
    ///
    /// # Errors
    /// Those of the storage. The same bytes may be tried again.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.heal()?;
        if let Err(e) = self.file.write_all(bytes) {
            self.torn = true;
            // The error worth telling is the write's; a failure here shows again at the next write.
            let _ = self.heal();
            return Err(e);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Sees to it that there is room for `bytes` more, and some to spare.
    pub fn reserve(&mut self, bytes: usize) {
        let end = self.len + bytes as u64;
        if end > self.reserved {
            self.reserved = end + RESERVE;
            self.file.reserve(self.reserved - self.len);
        }
    }

    /// Gives back room that was not needed: nothing more is written.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.reserved > self.len {
            self.reserved = self.len;
            self.storage.truncate(&self.path, self.len)?;
        }
        Ok(())
    }

    /// Removes what a failed write left behind.
    fn heal(&mut self) -> io::Result<()> {
        if self.torn {
            self.storage.truncate(&self.path, self.len)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Whether a failed write's bytes could not be removed yet.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Returns once all that was written is durable.
    ///
    /// # Errors
    /// That of the storage; and the same from then on.
    pub fn sync(&mut self) -> io::Result<()> {
        sync(&mut *self.file, &self.lost)
    }

    /// Did a sync fail? What of the file is on the storage is unknown, for good.
    pub fn is_lost(&self) -> bool {
        self.lost.lock().is_some()
    }

    /// A second handle of the file, for a thread that syncs it while this one goes on writing.
    pub fn syncer(&self) -> io::Result<Syncer> {
        Ok(Syncer { file: self.storage.append(&self.path)?, lost: self.lost.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Faults, Faulty, Memory};

    #[test]
    fn a_torn_write_is_undone_and_the_file_goes_on() {
        // Operations: create, append, write, then the failing one.
        for seed in 0..20 {
            let memory = Memory::new();
            let faults = Faults { seed, fail_at: vec![4], ..Faults::default() };
            let storage: Arc<dyn Storage> = Arc::new(Faulty::new(memory.clone(), faults));
            let path = Path::new("x.1.incr.aof");
            let mut w = IncrWriter::create(&storage, path).unwrap();
            w.write(b"first").unwrap();
            w.write(b"second").unwrap_err();
            assert_eq!(memory.read(path).unwrap(), b"first");
            w.write(b"second").unwrap();
            assert_eq!(memory.read(path).unwrap(), b"firstsecond");
            assert_eq!(w.len(), 11);
        }
    }

    #[test]
    fn where_even_the_undoing_fails_it_is_done_before_the_next_write() {
        let memory = Memory::new();
        let faults = Faults { seed: 3, fail_at: vec![4, 5, 6], ..Faults::default() };
        let storage: Arc<dyn Storage> = Arc::new(Faulty::new(memory.clone(), faults));
        let path = Path::new("x.1.incr.aof");
        let mut w = IncrWriter::create(&storage, path).unwrap();
        w.write(b"first").unwrap();
        w.write(b"second").unwrap_err();
        assert!(w.is_torn());
        w.write(b"second").unwrap_err();
        w.write(b"second").unwrap();
        assert_eq!(memory.read(path).unwrap(), b"firstsecond");
    }

    #[test]
    fn a_file_whose_sync_failed_is_never_durable_again() {
        for by_syncer in [false, true] {
            // Operations: create, open, write, the syncer's open, sync.
            let faults = Faults { fail_at: vec![6], ..Faults::default() };
            let storage: Arc<dyn Storage> = Arc::new(Faulty::new(Memory::default(), faults));
            let mut file = IncrWriter::create(&storage, Path::new("incr")).unwrap();
            let mut syncer = file.syncer().unwrap();
            file.write(b"what the kernel drops").unwrap();
            assert!(!file.is_lost());
            let first = if by_syncer { syncer.sync() } else { file.sync() };
            let second = if first.is_ok() { file.sync() } else { first };
            assert!(second.is_err(), "one of them is the fault");
            // The storage would let these pass.
            assert!(file.is_lost());
            assert!(file.sync().is_err() && syncer.sync().is_err());
            file.write(b"more").unwrap();
            assert!(file.sync().is_err() && syncer.sync().is_err());
            let mut other = IncrWriter::create(&storage, Path::new("next")).unwrap();
            other.write(b"written anew").unwrap();
            other.sync().unwrap();
        }
    }
}
