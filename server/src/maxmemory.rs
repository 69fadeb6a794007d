//! `maxmemory`: whether more memory is used than it allows, asked before each command that could add data.
//!
//! The allocator's total is exact, but reading it means adding up all arenas. So it is read now and then (a *sample*, ten times
//! a second at least), and between samples each thread adds what it has allocated and freed itself, which the
//! allocator counts for every thread where that is one load. Where the sum is above the limit a new sample decides, so
//! that nothing is refused by an estimate. What a thread freed before somebody else's sample is in that sample
//! already; it is not taken off a second time, as that would let writes pass.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp, deallocatedp};

use crate::config::Config;
use crate::ground::memory::sample_peak;
use sluice_engine::Engine;

/// What is known of the memory in use.
#[derive(Debug, Default)]
pub(crate) struct MemoryInUse {
    /// `maxmemory`; 0: no limit.
    limit: AtomicU64,
    /// Bytes at the last sample, without what does not count.
    sampled: AtomicU64,
    /// Bytes threads say they have taken (or given back) since.
    since: AtomicI64,
    /// Samples taken.
    samples: AtomicU32,
}

/// This thread's own counts.
struct Own {
    allocated: ThreadLocal<u64>,
    freed: ThreadLocal<u64>,
}

thread_local! {
    static OWN: Option<Own> =
        allocatedp::read().ok().zip(deallocatedp::read().ok()).map(|(allocated, freed)| Own { allocated, freed });
    /// Bytes this thread had taken when it said so last, and the number of samples then.
    static SAID: Cell<(i64, u32)> = const { Cell::new((0, 0)) };
}

impl MemoryInUse {
    /// Follows `maxmemory`.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }

    /// Reads what the allocator hands out; `uncounted` bytes of it do not count.
    pub(crate) fn sample(&self, uncounted: u64) -> u64 {
        // Before the reading, so that what others say meanwhile is counted twice rather than not at all.
        self.since.store(0, Relaxed);
        let used = sample_peak().saturating_sub(uncounted);
        self.sampled.store(used, Relaxed);
        self.samples.fetch_add(1, Relaxed);
        self.say();
        used
    }

    /// Adds what this thread took since it said so last. Returns the bytes in use, by the last sample and what was said since.
    fn say(&self) -> u64 {
        let taken = OWN.with(|own| {
            own.as_ref().map_or(0, |own| own.allocated.get().wrapping_sub(own.freed.get()) as i64)
        });
        let samples = self.samples.load(Relaxed);
        let (before, then) = SAID.replace((taken, samples));
        let mut new = taken - before;
        if then != samples {
            new = new.max(0);
        }
        let since = self.since.fetch_add(new, Relaxed) + new;
        self.sampled.load(Relaxed).saturating_add_signed(since)
    }

    /// Whether more is in use than the limit, where `uncounted` tells what of it does not count.
    pub(crate) fn is_over(&self, uncounted: impl FnOnce() -> u64) -> bool {
        let limit = self.limit.load(Relaxed);
        limit > 0 && self.say() > limit && {
            let used = self.sample(uncounted());
            // What this thread took before the sample is in it.
            self.since.store(0, Relaxed);
            used > limit
        }
    }
}

/// Bytes of the log that are kept for replicas and files beyond the backlog: they go by themselves, as in Redis they do not count.
pub(crate) fn uncounted(engine: &Engine, config: &Config) -> u64 {
    (engine.log().memory() as u64).saturating_sub(config.repl_backlog_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The allocator is the whole process': of two tests that take this much each would see the other's.
    static MUCH_MEMORY: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

    #[test]
    fn what_a_thread_takes_is_seen_at_once_and_what_it_gives_back_too() {
        let _alone = MUCH_MEMORY.lock();
        let memory = MemoryInUse::default();
        let base = memory.sample(0);
        // Other tests allocate meanwhile, in this process: far less than this.
        const BIG: usize = 512 << 20;
        memory.set_limit(base + (BIG as u64) / 2);
        assert!(!memory.is_over(|| 0));
        let held = vec![1u8; BIG];
        assert!(memory.is_over(|| 0), "{} bytes held", held.len());
        assert!(!memory.is_over(|| BIG as u64), "what does not count does not refuse");
        drop(held);
        assert!(!memory.is_over(|| 0));
        memory.set_limit(0);
        let _held = vec![1u8; BIG];
        assert!(!memory.is_over(|| 0), "no limit");
    }

    #[test]
    fn what_was_freed_before_a_sample_of_another_thread_is_not_taken_off_twice() {
        let _alone = MUCH_MEMORY.lock();
        let memory = MemoryInUse::default();
        let held = vec![1u8; 512 << 20];
        memory.sample(0);
        drop(held);
        std::thread::scope(|s| s.spawn(|| memory.sample(0)).join()).expect("samples");
        let sampled = memory.sampled.load(Relaxed);
        assert!(memory.say() >= sampled);
    }
}
