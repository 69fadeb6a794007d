//! A slow disk on a fast one: any [`Storage`] behind a byte rate and a latency per operation.
//!
//! All files, written and read, of all clones share one [`Throttle`], as they would share the disk's arm.
//! Time is reserved, then slept: an operation of `n` bytes occupies the disk for `n / rate` after whatever
//! is already reserved, so rates hold over any number of threads. Nothing is cached: a write returns
//! when the modelled disk has it, which is how a disk with no dirty pages to spare behaves.

use super::{FileReader, FileWriter, Lock, Storage};
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The largest piece moved at once: at 10 MB/s it occupies the disk for 26 ms.
const PIECE: usize = 256 * 1024;

/// The disk that is shared: how fast it is and until when it is busy.
#[derive(Debug)]
pub struct Throttle {
    /// Bytes a second, 0 for no limit.
    rate: AtomicU64,
    latency: Duration,
    /// When everything reserved so far will be done.
    busy_until: Mutex<Instant>,
}

impl Throttle {
    /// A disk of `bytes_per_second` (0: unlimited) that needs `latency` for every operation beside.
    pub fn new(bytes_per_second: u64, latency: Duration) -> Arc<Self> {
        Arc::new(Self { rate: bytes_per_second.into(), latency, busy_until: Mutex::new(Instant::now()) })
    }

    /// Changes the rate for what follows.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// The rate in bytes a second, 0 for no limit.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Waits as long as an operation on `bytes` takes, behind those already waiting.
    pub fn pass(&self, bytes: usize) {
        let rate = self.rate();
        let transfer =
            if rate == 0 { Duration::ZERO } else { Duration::from_secs_f64(bytes as f64 / rate as f64) };
        let occupied = transfer + self.latency;
        if occupied.is_zero() {
            return;
        }
        let now = Instant::now();
        let done = {
            let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            *busy_until = (*busy_until).max(now) + occupied;
            *busy_until
        };
        thread::sleep(done.saturating_duration_since(now));
    }
}

/// A [`Storage`] slowed by a [`Throttle`].
#[derive(Debug, Clone)]
pub struct Throttled<S> {
    inner: S,
    throttle: Arc<Throttle>,
}

struct ThrottledWriter {
    inner: Box<dyn FileWriter>,
    throttle: Arc<Throttle>,
}

struct ThrottledReader {
    inner: Box<dyn FileReader>,
    throttle: Arc<Throttle>,
}

impl<S: Storage> Throttled<S> {
    /// Slows `inner` by `throttle`, which other storages may share.
    pub fn new(inner: S, throttle: Arc<Throttle>) -> Self {
        Self { inner, throttle }
    }

    /// The shared limiter.
    pub fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    fn writer(&self, inner: Box<dyn FileWriter>) -> Box<dyn FileWriter> {
        Box::new(ThrottledWriter { inner, throttle: self.throttle.clone() })
    }

    fn metadata_operation(&self) -> &S {
        self.throttle.pass(0);
        &self.inner
    }
}

impl<S: Storage> Storage for Throttled<S> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        Ok(self.writer(self.metadata_operation().create(path)?))
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        Ok(self.writer(self.metadata_operation().append(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        let inner = self.metadata_operation().open(path)?;
        Ok(Box::new(ThrottledReader { inner, throttle: self.throttle.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.metadata_operation().rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.metadata_operation().link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.metadata_operation().remove(path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.metadata_operation().truncate(path, len)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.metadata_operation().create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.metadata_operation().sync_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.metadata_operation().list(dir)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.metadata_operation().len(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.inner.lock(path)
    }
}

impl FileWriter for ThrottledWriter {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.inner.write_all(piece)?;
            self.throttle.pass(piece.len());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.throttle.pass(0);
        self.inner.sync()
    }

    fn reserve(&mut self, bytes: u64) {
        self.inner.reserve(bytes);
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        self.inner.raw_fd()
    }
}

impl FileReader for ThrottledReader {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn bytes(&self) -> &[u8] {
        self.inner.bytes()
    }

    fn prefetch(&self, range: Range<u64>) -> io::Result<()> {
        let mut left = range.end.min(self.len()).saturating_sub(range.start) as usize;
        while left > 0 {
            let piece = left.min(PIECE);
            self.throttle.pass(piece);
            left -= piece;
        }
        self.inner.prefetch(range)
    }

    fn raw_fd(&self) -> Option<RawFd> {
        self.inner.raw_fd()
    }
}
