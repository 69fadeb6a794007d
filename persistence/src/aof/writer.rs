//! The incremental file being written.
//!
//! A write that fails leaves an unknown part of its bytes behind. [`IncrWriter`] knows how long the file was before,
//! cuts it back to that at once, or, where even that fails, before the next write; so the file never grows
//! behind a torn write, and the caller simply tries the same bytes again.
//!
//! A file that is synced after every few writes is given room in advance ([`IncrWriter::reserve`]): finding room anew
//! each time is a third of what such a sync writes to a journal. The room is beyond the file's end, where no reader sees it.

use crate::storage::{FileWriter, Storage};
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
        Ok(Self { storage: storage.clone(), path: path.to_path_buf(), file, len, torn: false, reserved: len })
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
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// A second handle of the file, for a thread that syncs it while this one goes on writing.
    pub fn syncer(&self) -> io::Result<Box<dyn FileWriter>> {
        self.storage.append(&self.path)
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
}
