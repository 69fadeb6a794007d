//! The file system as a [`Storage`]: plain writes, memory-mapped reads.
//!
//! `unsafe` is needed for the mapping: its bytes change, or vanish with SIGBUS, if another process rewrites
//! or cuts the file while it is mapped. Files appear by rename and are never rewritten in place here, so
//! only an operator who edits the data folder of a running server could do that; Redis' own tools that
//! map or read such files make the same assumption. `sync_file_range` and `fallocate` have no safe wrapper in std.

#![allow(unsafe_code)]

use super::{FileReader, FileWriter, Lock, Storage};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

#[derive(Debug)]
struct DiskWriter {
    file: File,
    position: u64,
    /// Bytes whose write-back was already asked for.
    started: u64,
}

struct DiskReader {
    file: File,
    /// None for an empty file, which cannot be mapped.
    map: Option<memmap2::Mmap>,
}

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        let file = File::create(path)?;
        Ok(Box::new(DiskWriter { file, position: 0, started: 0 }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let position = file.metadata()?.len();
        Ok(Box::new(DiskWriter { file, position, started: position }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Box::new(DiskReader { file, map: None }));
        }
        // SAFETY: the mapping is private to this reader and read-only; see the module header for
        // what changing the file underneath would do and why nothing here does it.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        // Advice only: a kernel that ignores it still reads correctly.
        let _ = map.advise(memmap2::Advice::Sequential);
        Ok(Box::new(DiskReader { file, map: Some(map) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let held = OpenOptions::new().append(true).create(true).open(path)?;
        match held.try_lock() {
            Ok(()) => Ok(Lock { _held: Some(held) }),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

impl FileWriter for DiskWriter {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_sync(&mut self) -> io::Result<()> {
        let (from, len) = (self.started as libc::off64_t, (self.position - self.started) as libc::off64_t);
        self.started = self.position;
        // Best effort: an error here shows again, and is reported, at the sync.
        #[cfg(target_os = "linux")]
        // SAFETY: takes a descriptor this struct owns and plain integers; touches no memory of ours.
        unsafe {
            libc::sync_file_range(self.file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE);
        }
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) {
        #[cfg(target_os = "linux")]
        // SAFETY: takes a descriptor this struct owns and plain integers; touches no memory of ours.
        unsafe {
            let (from, len) = (self.position as libc::off_t, bytes as libc::off_t);
            libc::fallocate(self.file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, from, len);
        }
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}

impl FileReader for DiskReader {
    fn len(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    fn prefetch(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}
