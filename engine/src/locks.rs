//! Locking several shards, without holding those that are free for the sake of one that is not.
//!
//! The order is ascending, so nobody waits for who waits for him. That alone would let one long command hold up everybody:
//! who wants all shards (a snapshot that begins, `SCAN`, `MULTI` over many keys) would stand before its shard with the
//! others in hand. Hence who meets a shard that is not to be had soon lets go of all, waits for that one with empty
//! hands, and begins again; and only after a number of tries waits as he stands, so that it comes to an end.

use crate::hash::shard_bits;
use crate::keyspace::shard::{Held, Shard};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::time::Duration;

/// How long a shard may be waited for with others in hand. Most commands take less.
pub(crate) const BRIEF: Duration = Duration::from_micros(200);
/// Tries with empty hands before the last one, which waits for whatever it meets.
const TRIES: usize = 50;

type Guard<'a> = MutexGuard<'a, Shard>;

#[repr(align(128))]
pub(crate) struct Padded(Mutex<Shard>);

impl Padded {
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shard> {
        self.0.lock()
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Shard>> {
        self.0.try_lock()
    }

    /// `None` where it is not to be had within moments.
    #[inline]
    pub(crate) fn lock_soon(&self) -> Option<MutexGuard<'_, Shard>> {
        self.0.try_lock().or_else(|| self.lock_within(BRIEF))
    }

    #[cold]
    pub(crate) fn lock_within(&self, time: Duration) -> Option<MutexGuard<'_, Shard>> {
        self.0.try_lock_for(time)
    }
}

/// The shards of an engine: a power of two of them.
pub(crate) struct Shards {
    all: Box<[Padded]>,
    mask: usize,
}

impl std::ops::Deref for Shards {
    type Target = [Padded];

    #[inline]
    fn deref(&self) -> &[Padded] {
        &self.all
    }
}

impl Shards {
    /// Empty ones.
    pub(crate) fn new(count: usize, databases: u32) -> Shards {
        debug_assert!(count.is_power_of_two());
        let all = (0..count).map(|_| Padded(Mutex::new(Shard::new(databases)))).collect();
        Shards { all, mask: count - 1 }
    }

    /// The one that a key of this hash is in.
    #[inline]
    pub(crate) fn index_of(&self, hash: u64) -> usize {
        shard_bits(hash) & self.mask
    }

    /// Holds every shard.
    #[inline(never)]
    pub(crate) fn hold_all(&self) -> Held<'_> {
        Held::All(self.lock_all())
    }

    /// Holds these shards, in whatever order they are named.
    #[inline(never)]
    pub(crate) fn hold(&self, mut indexes: SmallVec<[usize; 8]>) -> Held<'_> {
        indexes.sort_unstable();
        indexes.dedup();
        match indexes.len() {
            0 => Held::None,
            1 => Held::One(indexes[0], self.all[indexes[0]].lock()),
            n if n == self.all.len() => self.hold_all(),
            _ => Held::Some(self.lock_some(&indexes)),
        }
    }

    /// Locks every shard.
    pub(crate) fn lock_all(&self) -> Vec<Guard<'_>> {
        for _ in 0..TRIES {
            let mut taken = Vec::with_capacity(self.all.len());
            match self.take(0..self.all.len(), |_, guard| taken.push(guard)) {
                None => return taken,
                Some(busy) => self.wait_for(busy, taken),
            }
        }
        self.all.iter().map(|shard| shard.lock()).collect()
    }

    /// Locks these shards, whose numbers ascend.
    pub(crate) fn lock_some(&self, indexes: &[usize]) -> Vec<(usize, Guard<'_>)> {
        for _ in 0..TRIES {
            let mut taken = Vec::with_capacity(indexes.len());
            match self.take(indexes.iter().copied(), |index, guard| taken.push((index, guard))) {
                None => return taken,
                Some(busy) => self.wait_for(busy, taken),
            }
        }
        indexes.iter().map(|i| (*i, self.all[*i].lock())).collect()
    }

    /// Takes one after the other; returns the one that is not to be had soon.
    #[inline]
    fn take<'a>(
        &'a self,
        mut indexes: impl Iterator<Item = usize>,
        mut put: impl FnMut(usize, Guard<'a>),
    ) -> Option<usize> {
        indexes.find(|index| match self.all[*index].lock_soon() {
            Some(guard) => {
                put(*index, guard);
                false
            }
            None => true,
        })
    }

    #[cold]
    fn wait_for(&self, busy: usize, taken: impl Sized) {
        drop(taken);
        drop(self.all[busy].lock());
    }
}

#[cfg(test)]
mod tests {
    use crate::Engine;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Times that free shards are asked for while somebody wants them together with a busy one.
    const ASKED: usize = 300;

    #[test]
    fn who_waits_for_one_shard_holds_no_other_meanwhile() {
        let engine = Engine::builder().shards(8).build();
        let ways: [fn(&Engine); 4] = [
            |engine| drop(engine.inner.shards.lock_all()),
            |engine| drop(engine.inner.shards.lock_some(&[0, 2, 3, 5])),
            |engine| drop(engine.begin_cut().expect("no other cut")),
            |engine| drop(engine.execute(&["SCAN", "0"]).expect("always")),
        ];
        for (n, way) in ways.into_iter().enumerate() {
            let busy = engine.inner.shards[3].lock();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    way(&engine);
                    done.store(true, Ordering::Release);
                });
                for _ in 0..ASKED {
                    for index in [0, 2, 5] {
                        let free = engine.inner.shards[index].lock_within(Duration::from_secs(60));
                        assert!(free.is_some(), "way {n}: shard {index} is held by who waits for another");
                    }
                    std::thread::yield_now();
                }
                assert!(!done.load(Ordering::Acquire), "way {n} needs the busy shard");
                drop(busy);
            });
            assert!(done.load(Ordering::Acquire));
        }
    }

    #[test]
    fn the_active_expiry_passes_by_a_shard_that_is_busy() {
        let engine = Engine::builder().shards(4).build();
        let mut loader = engine.loader();
        (0..400).for_each(|n| assert!(loader.string(0, format!("key:{n}").as_bytes(), b"v", Some(1), 0)));
        loader.finish();
        let busy = engine.inner.shards[1].lock();
        let there = busy.dbs[0].len();
        let removed = std::thread::scope(|scope| {
            // On a thread of its own, as it would wait for ever if it waited.
            let (tell, told) = std::sync::mpsc::channel();
            let engine = &engine;
            scope.spawn(move || tell.send(engine.expire_cycle(Duration::from_secs(30))));
            let removed = told.recv_timeout(Duration::from_secs(60));
            drop(busy);
            removed
        });
        assert_eq!(removed, Ok(400 - there));
        assert_eq!(engine.expire_cycle(Duration::from_secs(30)), there);
    }
}
