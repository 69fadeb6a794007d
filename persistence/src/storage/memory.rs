//! Files in memory, for tests and for embedding without a disk. Folders exist as soon as they are named.

use super::{FileReader, FileWriter, Storage, folder_of};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One file's content. A reader holds the `Arc`, so that writing on copies once (as a snapshot).
type Content = Arc<Mutex<Arc<Vec<u8>>>>;

/// A [`Storage`] that keeps everything in memory; clones share the files.
#[derive(Clone, Default)]
pub struct Memory {
    files: Arc<Mutex<BTreeMap<PathBuf, Content>>>,
}

struct MemoryWriter {
    content: Content,
}

struct MemoryReader {
    content: Arc<Vec<u8>>,
}

/// A panic elsewhere leaves plain bytes behind, which are as good as before it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", path.display()))
}

impl Memory {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of a file's bytes.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.content(path)?.as_ref().clone())
    }

    /// Makes a file of these bytes.
    pub fn write(&self, path: &Path, bytes: &[u8]) {
        let content = Arc::new(Mutex::new(Arc::new(bytes.to_vec())));
        lock(&self.files).insert(path.to_path_buf(), content);
    }

    fn content(&self, path: &Path) -> io::Result<Arc<Vec<u8>>> {
        let files = lock(&self.files);
        let content = files.get(path).ok_or_else(|| not_found(path))?;
        Ok(lock(content).clone())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = lock(&self.files);
        f.debug_map().entries(files.iter().map(|(path, content)| (path, lock(content).len()))).finish()
    }
}

impl Storage for Memory {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        let content = Content::default();
        lock(&self.files).insert(path.to_path_buf(), content.clone());
        Ok(Box::new(MemoryWriter { content }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        let content = lock(&self.files).entry(path.to_path_buf()).or_default().clone();
        Ok(Box::new(MemoryWriter { content }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        Ok(Box::new(MemoryReader { content: self.content(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.files);
        let content = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.to_path_buf(), content);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.files);
        if files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = files.get(from).cloned().ok_or_else(|| not_found(from))?;
        files.insert(to.to_path_buf(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.files).remove(path).map(drop).ok_or_else(|| not_found(path))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let files = lock(&self.files);
        let content = files.get(path).ok_or_else(|| not_found(path))?;
        let mut content = lock(content);
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(content.len());
        Arc::make_mut(&mut content).truncate(len);
        Ok(())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(lock(&self.files).keys().filter(|path| folder_of(path) == dir).cloned().collect())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.content(path)?.len() as u64)
    }
}

impl FileWriter for MemoryWriter {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Arc::make_mut(&mut lock(&self.content)).extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn position(&self) -> u64 {
        lock(&self.content).len() as u64
    }
}

impl FileReader for MemoryReader {
    fn len(&self) -> u64 {
        self.content.len() as u64
    }

    fn bytes(&self) -> &[u8] {
        &self.content
    }

    fn prefetch(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }
}
