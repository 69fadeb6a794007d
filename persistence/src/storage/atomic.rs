//! A file that appears whole or not at all.
//!
//! The bytes go to a temporary name beside the target; [`AtomicFile::commit`] syncs them, renames the file
//! over the target and syncs the folder. At every crash point the target is the old file or the
//! new one; on any error the temporary file is deleted and the old one stays.

use super::{FileWriter, Storage, folder_of};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the temporary files of one process apart.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Bytes copied at once where a file cannot be given a second name.
const COPY_BYTES: usize = 1 << 20;

/// A file written under a temporary name until it is complete.
pub struct AtomicFile {
    storage: Arc<dyn Storage>,
    target: PathBuf,
    temporary: PathBuf,
    /// None once committed: what is left in `drop` is then nothing to undo.
    writer: Option<Box<dyn FileWriter>>,
}

impl AtomicFile {
    /// Opens the temporary file `temp-<pid>-<n>-<name>` beside `target`.
    pub fn create(storage: Arc<dyn Storage>, target: &Path) -> io::Result<Self> {
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let mut temporary_name = std::ffi::OsString::from(format!("temp-{}-{sequence}-", std::process::id()));
        temporary_name.push(name);
        let temporary = target.with_file_name(temporary_name);
        let writer = storage.create(&temporary)?;
        Ok(Self { storage, target: target.to_path_buf(), temporary, writer: Some(writer) })
    }

    /// Appends to the temporary file.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer().write_all(bytes)
    }

    /// Lets the storage begin to write back what it has; see [`FileWriter::start_sync`].
    pub fn start_sync(&mut self) -> io::Result<()> {
        self.writer().start_sync()
    }

    /// Bytes written so far.
    pub fn position(&mut self) -> u64 {
        self.writer().position()
    }

    /// Where the bytes are until then: to be looked at before the file takes the place of another.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Makes the file durable and gives it its name. An error after the rename (of the folder's sync) leaves
    /// the new file in place, though it might not survive a crash; any other leaves the old one.
    pub fn commit(mut self) -> io::Result<()> {
        self.writer().sync()?;
        self.storage.rename(&self.temporary, &self.target)?;
        self.writer = None;
        self.storage.sync_dir(folder_of(&self.target))
    }

    /// Gives `source`, a complete and synced file, the name `target` as well: by a second name for the same content
    /// where the storage can do that, else by a copy. At every crash point `target` is what it was or the new file.
    pub fn duplicate(storage: &Arc<dyn Storage>, source: &Path, target: &Path) -> io::Result<()> {
        let mut copy = Self::create(storage.clone(), target)?;
        storage.remove(&copy.temporary)?;
        if storage.link(source, &copy.temporary).is_ok() {
            storage.rename(&copy.temporary, target)?;
            copy.writer = None;
            return storage.sync_dir(folder_of(target));
        }
        copy.writer = Some(storage.create(&copy.temporary)?);
        let file = storage.open(source)?;
        for piece in file.bytes().chunks(COPY_BYTES) {
            copy.write_all(piece)?;
        }
        copy.commit()
    }

    fn writer(&mut self) -> &mut dyn FileWriter {
        self.writer.as_deref_mut().expect("the writer is there until `commit`, which takes the file")
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // Failing to tidy up must not hide the error that brought us here.
            let _ = self.storage.remove(&self.temporary);
        }
    }
}
