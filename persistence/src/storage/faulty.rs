//! A disk that breaks on a schedule, to prove what survives.
//!
//! [`Faulty`] counts the operations that pass through it and, as told by [`Faults`], fails the nth, fills up
//! after so many bytes, or stops dead as in a power cut. A crash keeps what POSIX promises and may drop all
//! else: of unsynced bytes a random prefix survives, of names not yet synced with their folder a random
//! number of the oldest changes. Random means drawn from the seed: the same schedule breaks the same way.

use super::{FileReader, FileWriter, Lock, Storage, folder_of};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What goes wrong, and when. Operations are counted from 1: create, append, open, write, sync,
/// rename, link, remove, truncate, making a folder and folder sync.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Source of every random choice.
    pub seed: u64,
    /// Operations that fail with an I/O error; a write among them is torn: part of it happens.
    pub fail_at: Vec<u64>,
    /// The operation at which the machine stops; everything after fails until [`Faulty::restart`].
    pub crash_at: Option<u64>,
    /// Bytes that can be written in all before the disk is full.
    pub capacity: Option<u64>,
    /// Syncs of files fail while there is a file of this name on the real file system: for a fault that begins and ends
    /// when a test of a whole process says so.
    pub syncs_fail_while: Option<PathBuf>,
}

/// A [`Storage`] that fails as its [`Faults`] say.
#[derive(Debug, Clone)]
pub struct Faulty<S> {
    inner: S,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    random: u64,
    operations: u64,
    written: u64,
    crashed: bool,
    next_file: u64,
    names: BTreeMap<PathBuf, u64>,
    files: HashMap<u64, Durability>,
    /// Changes of names since their folder was synced, oldest first.
    unsynced_names: Vec<NameChange>,
}

#[derive(Debug, Clone, Copy)]
struct Durability {
    len: u64,
    synced: u64,
}

#[derive(Debug)]
enum NameChange {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed { path: PathBuf, content: Vec<u8> },
}

impl NameChange {
    fn folder(&self) -> &Path {
        match self {
            Self::Created(path) | Self::Removed { path, .. } => folder_of(path),
            Self::Renamed { to, .. } => folder_of(to),
        }
    }
}

/// What the schedule says about one operation.
enum Verdict {
    Proceed,
    Fail,
}

impl State {
    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn next_operation(&mut self) -> io::Result<Verdict> {
        if self.crashed {
            return Err(io::Error::other("the machine is off (injected crash)"));
        }
        self.operations += 1;
        if self.faults.crash_at == Some(self.operations) {
            self.crashed = true;
            return Ok(Verdict::Fail);
        }
        let fails = self.faults.fail_at.contains(&self.operations);
        Ok(if fails { Verdict::Fail } else { Verdict::Proceed })
    }

    fn check(&mut self) -> io::Result<()> {
        match self.next_operation()? {
            Verdict::Proceed => Ok(()),
            Verdict::Fail => Err(injected()),
        }
    }

    fn track(&mut self, path: &Path, durability: Durability) -> u64 {
        self.next_file += 1;
        self.names.insert(path.to_path_buf(), self.next_file);
        self.files.insert(self.next_file, durability);
        self.next_file
    }
}

fn injected() -> io::Error {
    io::Error::other("injected fault")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Storage> Faulty<S> {
    /// Breaks `inner` as `faults` say.
    pub fn new(inner: S, faults: Faults) -> Self {
        let state = State {
            random: faults.seed,
            faults,
            operations: 0,
            written: 0,
            crashed: false,
            next_file: 0,
            names: BTreeMap::new(),
            files: HashMap::new(),
            unsynced_names: Vec::new(),
        };
        Self { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// Operations counted so far; a test sweeps its faults from 1 to this.
    pub fn operations(&self) -> u64 {
        lock(&self.state).operations
    }

    /// Stops the machine now: every operation fails until [`Faulty::restart`].
    pub fn crash(&self) {
        lock(&self.state).crashed = true;
    }

    /// Whether the machine has stopped.
    pub fn crashed(&self) -> bool {
        lock(&self.state).crashed
    }

    /// Starts the machine again with what is durable, and no further faults.
    pub fn restart(&self) -> io::Result<()> {
        self.lose_unsynced()?;
        let mut state = lock(&self.state);
        state.faults = Faults::default();
        state.crashed = false;
        Ok(())
    }

    /// Drops what was not durable of a machine that has stopped, and stays so.
    pub fn lose_unsynced(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.crashed = true;
        let kept = state.random() as usize % (state.unsynced_names.len() + 1);
        for change in state.unsynced_names.split_off(kept).into_iter().rev() {
            self.undo(&mut state, change)?;
        }
        let names: Vec<(PathBuf, u64)> = state.names.iter().map(|(path, id)| (path.clone(), *id)).collect();
        for (path, id) in names {
            let Durability { len, synced } = state.files[&id];
            if len > synced {
                let survives = synced + state.random() % (len - synced + 1);
                self.inner.truncate(&path, survives)?;
            }
        }
        state.names.clear();
        state.files.clear();
        state.unsynced_names.clear();
        Ok(())
    }

    fn undo(&self, state: &mut State, change: NameChange) -> io::Result<()> {
        match change {
            NameChange::Created(path) => {
                state.names.remove(&path);
                self.inner.remove(&path)
            }
            NameChange::Renamed { from, to, replaced } => {
                self.inner.rename(&to, &from)?;
                if let Some(id) = state.names.remove(&to) {
                    state.names.insert(from, id);
                }
                replaced.map_or(Ok(()), |content| self.restore(&to, &content))
            }
            NameChange::Removed { path, content } => self.restore(&path, &content),
        }
    }

    fn restore(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.inner.create(path)?.write_all(content)
    }

    fn writer(&self, id: u64, inner: Box<dyn FileWriter>) -> Box<dyn FileWriter> {
        Box::new(FaultyWriter { id, inner, state: self.state.clone() })
    }
}

impl<S: Storage> Storage for Faulty<S> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        let mut state = lock(&self.state);
        state.check()?;
        if !self.inner.exists(path)? {
            state.unsynced_names.push(NameChange::Created(path.to_path_buf()));
        }
        let inner = self.inner.create(path)?;
        let id = state.track(path, Durability { len: 0, synced: 0 });
        Ok(self.writer(id, inner))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        let mut state = lock(&self.state);
        state.check()?;
        if !self.inner.exists(path)? {
            state.unsynced_names.push(NameChange::Created(path.to_path_buf()));
        }
        let inner = self.inner.append(path)?;
        let id = match state.names.get(path) {
            Some(id) => *id,
            None => {
                let len = inner.position();
                state.track(path, Durability { len, synced: len })
            }
        };
        Ok(self.writer(id, inner))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        lock(&self.state).check()?;
        self.inner.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check()?;
        let replaced = match self.inner.open(to) {
            Ok(old) => Some(old.bytes().to_vec()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        self.inner.rename(from, to)?;
        if let Some(id) = state.names.remove(from) {
            state.names.insert(to.to_path_buf(), id);
        }
        state.unsynced_names.push(NameChange::Renamed {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            replaced,
        });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check()?;
        self.inner.link(from, to)?;
        if let Some(id) = state.names.get(from).copied() {
            state.names.insert(to.to_path_buf(), id);
        }
        state.unsynced_names.push(NameChange::Created(to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check()?;
        let content = self.inner.open(path)?.bytes().to_vec();
        self.inner.remove(path)?;
        state.names.remove(path);
        state.unsynced_names.push(NameChange::Removed { path: path.to_path_buf(), content });
        Ok(())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check()?;
        self.inner.truncate(path, len)?;
        if let Some(id) = state.names.get(path).copied() {
            state.files.insert(id, Durability { len, synced: len });
        }
        Ok(())
    }

    /// Folders outlast a crash at once: nothing here depends on their loss.
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        lock(&self.state).check()?;
        self.inner.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check()?;
        self.inner.sync_dir(dir)?;
        state.unsynced_names.retain(|change| change.folder() != dir);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.list(dir)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.inner.len(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.inner.lock(path)
    }
}

struct FaultyWriter {
    id: u64,
    inner: Box<dyn FileWriter>,
    state: Arc<Mutex<State>>,
}

impl FileWriter for FaultyWriter {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        let (happens, result) = match state.next_operation()? {
            Verdict::Fail => (state.random() as usize % (bytes.len() + 1), Err(injected())),
            Verdict::Proceed => {
                let free = state.faults.capacity.map_or(u64::MAX, |c| c.saturating_sub(state.written));
                match usize::try_from(free) {
                    Ok(free) if free < bytes.len() => {
                        (free, Err(io::Error::new(io::ErrorKind::StorageFull, "injected: disk full")))
                    }
                    _ => (bytes.len(), Ok(())),
                }
            }
        };
        self.inner.write_all(&bytes[..happens])?;
        state.written += happens as u64;
        if let Some(file) = state.files.get_mut(&self.id) {
            file.len += happens as u64;
        }
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check()?;
        if state.faults.syncs_fail_while.as_ref().is_some_and(|path| path.exists()) {
            return Err(injected());
        }
        self.inner.sync()?;
        if let Some(file) = state.files.get_mut(&self.id) {
            file.synced = file.len;
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }
}
