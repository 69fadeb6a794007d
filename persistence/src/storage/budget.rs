//! A budget of bytes a second, so that big writes leave a slow disk or link to those who wait for it.
//!
//! A [`Budget`] is spent first and waited for after: who has spent more than the rate allows waits until time has
//! caught up. Time not used is kept for [`CREDIT`] only, enough that a spender who looks at the clock every 20 ms still
//! reaches the rate. The rate can change while somebody waits. [`Paced`] applies a budget to the writes of a
//! [`Storage`]; reading, renaming and syncing are free.

use super::{FileReader, FileWriter, Lock, Storage};
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much unused time is kept.
const CREDIT: Duration = Duration::from_millis(50);
/// The longest a waiter sleeps before it looks at the rate again.
const NAP: Duration = Duration::from_millis(20);
/// The largest piece written at once.
const PIECE: usize = 256 << 10;

/// Bytes a second, shared by everybody who spends of it.
#[derive(Debug)]
pub struct Budget {
    /// Bytes a second, 0 for no limit.
    rate: AtomicU64,
    account: Mutex<Account>,
    waited_us: AtomicU64,
}

#[derive(Debug)]
struct Account {
    /// Bytes spent and not yet covered by time; negative is credit.
    owed: f64,
    as_of: Instant,
}

impl Budget {
    /// A budget of `bytes_per_second`, 0 for no limit.
    pub fn new(bytes_per_second: u64) -> Arc<Self> {
        let account = Account { owed: 0.0, as_of: Instant::now() };
        Arc::new(Self {
            rate: bytes_per_second.into(),
            account: Mutex::new(account),
            waited_us: AtomicU64::new(0),
        })
    }

    /// Changes the rate, for those who wait as well.
    pub fn set_rate(&self, bytes_per_second: u64) {
        // What went by so far went by at the old rate.
        self.with_account(Instant::now(), self.rate(), |_| ());
        self.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// The rate in bytes a second, 0 for no limit.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Milliseconds spenders waited, in all.
    pub fn waited_ms(&self) -> u64 {
        self.waited_us.load(Ordering::Relaxed) / 1000
    }

    /// Spends `bytes`, whatever is left.
    pub fn spend(&self, bytes: u64) {
        let rate = self.rate();
        if rate > 0 {
            self.with_account(Instant::now(), rate, |account| account.owed += bytes as f64);
        }
    }

    /// How long to wait before spending more; zero for not at all.
    pub fn wait_time(&self) -> Duration {
        self.wait_time_at(Instant::now())
    }

    fn wait_time_at(&self, now: Instant) -> Duration {
        let rate = self.rate();
        if rate == 0 {
            return Duration::ZERO;
        }
        let owed = self.with_account(now, rate, |account| account.owed);
        Duration::try_from_secs_f64(owed.max(0.0) / rate as f64).unwrap_or(Duration::MAX)
    }

    /// Counts time somebody waited on account of this budget by other means than [`Budget::pass`].
    pub fn count_wait(&self, waited: Duration) {
        self.waited_us.fetch_add(waited.as_micros() as u64, Ordering::Relaxed);
    }

    /// Spends `bytes` and waits until more may be spent.
    pub fn pass(&self, bytes: u64) {
        self.spend(bytes);
        loop {
            let wait = self.wait_time();
            if wait.is_zero() {
                return;
            }
            let began = Instant::now();
            thread::sleep(wait.min(NAP));
            self.count_wait(began.elapsed());
        }
    }

    fn with_account<T>(&self, now: Instant, rate: u64, then: impl FnOnce(&mut Account) -> T) -> T {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.saturating_duration_since(account.as_of).as_secs_f64() * rate as f64;
        account.owed = (account.owed - earned).max(-CREDIT.as_secs_f64() * rate as f64);
        account.as_of = account.as_of.max(now);
        then(&mut account)
    }
}

/// A [`Storage`] whose writes spend of a [`Budget`].
#[derive(Debug, Clone)]
pub struct Paced<S> {
    inner: S,
    budget: Arc<Budget>,
}

impl<S: Storage> Paced<S> {
    /// Paces the writes of `inner` by `budget`, which others may share.
    pub fn new(inner: S, budget: Arc<Budget>) -> Self {
        Self { inner, budget }
    }

    fn writer(&self, inner: Box<dyn FileWriter>) -> Box<dyn FileWriter> {
        Box::new(PacedWriter { inner, budget: self.budget.clone() })
    }
}

impl<S: Storage> Storage for Paced<S> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        Ok(self.writer(self.inner.create(path)?))
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        Ok(self.writer(self.inner.append(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        self.inner.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.inner.truncate(path, len)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
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

struct PacedWriter {
    inner: Box<dyn FileWriter>,
    budget: Arc<Budget>,
}

impl FileWriter for PacedWriter {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.budget.rate() == 0 {
            return self.inner.write_all(bytes);
        }
        for piece in bytes.chunks(PIECE) {
            self.inner.write_all(piece)?;
            // Under a budget the disk is to be kept evenly busy: what was written is written back at once, so that the last
            // sync does not send it all in one burst.
            self.inner.start_sync()?;
            self.budget.pass(piece.len() as u64);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()
    }

    fn start_sync(&mut self) -> io::Result<()> {
        self.inner.start_sync()
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        self.inner.raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    #[test]
    fn what_was_spent_is_waited_for_at_the_rate() {
        let budget = Budget::new(1000);
        let start = budget.account.lock().unwrap().as_of;
        budget.with_account(start, 1000, |account| account.owed += 3000.0);
        let wait = |ms| budget.wait_time_at(start + Duration::from_millis(ms)).as_millis();
        assert_eq!((wait(0), wait(1000), wait(2900), wait(3000)), (3000, 2000, 100, 0));
    }

    #[test]
    fn unused_time_is_credit_for_a_moment_only() {
        let budget = Budget::new(1000);
        let start = budget.account.lock().unwrap().as_of;
        let later = start + Duration::from_secs(100);
        assert!(budget.wait_time_at(later).is_zero());
        budget.with_account(later, 1000, |account| account.owed += 150.0);
        assert_eq!(budget.wait_time_at(later).as_millis(), 100);
    }

    #[test]
    fn a_new_rate_holds_for_who_waits_already() {
        let budget = Budget::new(1);
        budget.spend(1_000_000);
        assert!(budget.wait_time() > Duration::from_secs(1000));
        budget.set_rate(0);
        assert!(budget.wait_time().is_zero());
        budget.pass(1 << 40);
    }

    #[test]
    fn a_paced_storage_keeps_its_bytes_and_counts_the_wait() {
        let memory = Memory::new();
        let budget = Budget::new(10 << 20);
        let storage = Paced::new(memory.clone(), budget.clone());
        let bytes = vec![7; 1 << 20];
        let mut file = storage.create(Path::new("a")).unwrap();
        file.write_all(&bytes).unwrap();
        assert_eq!(file.position(), 1 << 20);
        assert_eq!(memory.read(Path::new("a")).unwrap(), bytes);
        assert!(budget.waited_ms() > 0);
    }
}
