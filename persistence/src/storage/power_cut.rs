//! A machine that loses its power at an operation counted beforehand: the whole process ends there, and of what was
//! not synced by then only a random part is left, as [`Faulty`] decides.
//!
//! `kill -9` leaves what the kernel has; a power cut does not. This makes a real server, with all its threads,
//! meet one: whichever thread comes first to the operation drops what was not durable and aborts the process, all
//! others that touch a file meanwhile wait for the end. Nothing can be acknowledged after the cut on
//! the strength of a file. Made for tests; it is nowhere in the way of a server that does not ask for it.

use super::{Faults, Faulty, FileReader, FileWriter, Lock, Storage};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A [`Storage`] whose nth operation is the last thing this process does.
#[derive(Debug, Clone)]
pub struct PowerCut<S> {
    inner: Faulty<S>,
    /// Held by whoever ends the process; never given back.
    end: Arc<Mutex<()>>,
}

impl<S: Storage + Clone + 'static> PowerCut<S> {
    /// Cuts the power at operation `at`, counted as [`Faults`] says. `seed` decides what is left.
    pub fn new(inner: S, at: u64, seed: u64) -> Self {
        let faults = Faults { seed, crash_at: Some(at), ..Faults::default() };
        Self { inner: Faulty::new(inner, faults), end: Arc::default() }
    }

    /// Passes a result on, or ends the process if this was the operation.
    fn alive<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if !self.inner.crashed() {
            return result;
        }
        let _end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = self.inner.lose_unsynced() {
            // What is on the disk is then no state that a power cut leaves: say so, for the test to fail.
            eprintln!("power cut: dropping what was not synced failed: {e}");
        }
        std::process::abort();
    }

    fn writer(&self, result: io::Result<Box<dyn FileWriter>>) -> io::Result<Box<dyn FileWriter>> {
        let inner = self.alive(result)?;
        Ok(Box::new(Writer { inner, machine: self.clone() }))
    }
}

struct Writer<S> {
    inner: Box<dyn FileWriter>,
    machine: PowerCut<S>,
}

impl<S: Storage + Clone + 'static> FileWriter for Writer<S> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let result = self.inner.write_all(bytes);
        self.machine.alive(result)
    }

    fn sync(&mut self) -> io::Result<()> {
        let result = self.inner.sync();
        self.machine.alive(result)
    }

    fn start_sync(&mut self) -> io::Result<()> {
        self.inner.start_sync()
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }
}

impl<S: Storage + Clone + 'static> Storage for PowerCut<S> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        self.writer(self.inner.create(path))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        self.writer(self.inner.append(path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        self.alive(self.inner.open(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive(self.inner.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive(self.inner.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.alive(self.inner.remove(path))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.alive(self.inner.truncate(path, len))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.alive(self.inner.create_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.alive(self.inner.sync_dir(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.alive(self.inner.list(dir))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.alive(self.inner.len(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.inner.lock(path)
    }
}
