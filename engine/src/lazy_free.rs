//! Freeing what was removed, where that takes so long that nobody should wait for it: a million entries take a tenth of
//! a second.
//!
//! One thread an engine, begun when there is something for it, takes the garbage in its order. Where [`QUEUE`]
//! things wait already, whoever removes more frees it himself: a client that deletes faster than memory can be given
//! back is slowed down to that. Dropping the engine waits until all is freed.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Removed values and tables that may wait for the thread.
const QUEUE: usize = 1024;

/// Something removed.
type Garbage = Box<dyn Send>;

/// Elements freed and to be freed.
#[derive(Debug, Default)]
struct Counts {
    pending: AtomicU64,
    freed: AtomicU64,
}

impl Counts {
    fn free(&self, garbage: Garbage, objects: u64) {
        drop(garbage);
        self.freed.fetch_add(objects, Ordering::Relaxed);
        self.pending.fetch_sub(objects, Ordering::Relaxed);
    }
}

struct Collector {
    to: SyncSender<(Garbage, u64)>,
    thread: JoinHandle<()>,
}

/// An engine's garbage.
#[derive(Default)]
pub(crate) struct LazyFree {
    counts: Arc<Counts>,
    collector: Mutex<Option<Collector>>,
}

impl LazyFree {
    /// Frees something of so many objects, soon.
    pub(crate) fn free(&self, garbage: impl Send + 'static, objects: usize) {
        let (garbage, objects) = (Box::new(garbage), objects as u64);
        self.counts.pending.fetch_add(objects, Ordering::Relaxed);
        let mut collector = self.collector.lock();
        if collector.is_none() {
            *collector = Collector::begin(&self.counts);
        }
        let left = match &*collector {
            Some(collector) => collector.to.try_send((garbage, objects)).err().map(|e| match e {
                std::sync::mpsc::TrySendError::Full((garbage, _))
                | std::sync::mpsc::TrySendError::Disconnected((garbage, _)) => garbage,
            }),
            // No thread can be had.
            None => Some(garbage as Garbage),
        };
        drop(collector);
        if let Some(garbage) = left {
            self.counts.free(garbage, objects);
        }
    }

    /// Counts what is freed from now on.
    pub(crate) fn reset(&self) {
        self.counts.freed.store(0, Ordering::Relaxed);
    }

    /// `(objects that wait to be freed, objects freed since the start)`.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.pending.load(Ordering::Relaxed), self.counts.freed.load(Ordering::Relaxed))
    }
}

impl Collector {
    fn begin(counts: &Arc<Counts>) -> Option<Collector> {
        let (to, from) = sync_channel::<(Garbage, u64)>(QUEUE);
        let counts = counts.clone();
        let work = move || from.into_iter().for_each(|(garbage, objects)| counts.free(garbage, objects));
        let thread = std::thread::Builder::new().name("lazy-free".into()).spawn(work).ok()?;
        Some(Collector { to, thread })
    }
}

impl Drop for LazyFree {
    fn drop(&mut self) {
        if let Some(Collector { to, thread }) = self.collector.lock().take() {
            drop(to);
            // Freeing does not panic; if it did, there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::table::Table;

    fn table(n: usize) -> Table {
        let mut table = Table::new();
        for i in 0..n {
            table.insert(Entry::unit(i.to_string().as_bytes()));
        }
        table
    }

    #[test]
    fn all_is_freed_by_the_time_the_engine_is_gone_even_with_a_full_queue() {
        let lazy = LazyFree::default();
        let counts = lazy.counts.clone();
        for _ in 0..3 * QUEUE {
            lazy.free(table(3), 3);
        }
        lazy.free(Entry::unit(b"one"), 1);
        let (pending, freed) = lazy.counts();
        assert!(pending + freed >= 9 * QUEUE as u64, "{pending} {freed}");
        drop(lazy);
        assert_eq!(counts.pending.load(Ordering::Relaxed), 0);
        assert_eq!(counts.freed.load(Ordering::Relaxed), 9 * QUEUE as u64 + 1);
    }
}
