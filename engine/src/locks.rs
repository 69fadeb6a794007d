//! Locking several shards, without holding those that are free for the sake of one that is not.
//!
//! The order is ascending, so nobody waits for who waits for him. That alone would let one long command hold up everybody:
//! who wants all shards (a snapshot that begins, `SCAN`, `MULTI` over many keys) would stand before its shard with the
//! others in hand. Hence who meets a shard that is not to be had soon lets go of all, waits for that one with empty
//! hands, and begins again; and only after a number of tries waits as he stands, so that it comes to an end.

use crate::engine::Inner;
use crate::keyspace::Shard;
use parking_lot::MutexGuard;
use std::time::Duration;

/// How long a shard may be waited for with others in hand. Most commands take less.
pub(crate) const BRIEF: Duration = Duration::from_micros(200);
/// Tries with empty hands before the last one, which waits for whatever it meets.
const TRIES: usize = 50;

type Guard<'a> = MutexGuard<'a, Shard>;

impl Inner {
    /// Locks every shard.
    pub(crate) fn lock_all(&self) -> Vec<Guard<'_>> {
        for _ in 0..TRIES {
            let mut taken = Vec::with_capacity(self.shards.len());
            match self.take(0..self.shards.len(), |_, guard| taken.push(guard)) {
                None => return taken,
                Some(busy) => self.wait_for(busy, taken),
            }
        }
        self.shards.iter().map(|shard| shard.lock()).collect()
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
        indexes.iter().map(|i| (*i, self.shards[*i].lock())).collect()
    }

    /// Takes one after the other; returns the one that is not to be had soon.
    #[inline]
    fn take<'a>(
        &'a self,
        mut indexes: impl Iterator<Item = usize>,
        mut put: impl FnMut(usize, Guard<'a>),
    ) -> Option<usize> {
        indexes.find(|index| match self.shards[*index].lock_soon() {
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
        drop(self.shards[busy].lock());
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
            |engine| drop(engine.inner.lock_all()),
            |engine| drop(engine.inner.lock_some(&[0, 2, 3, 5])),
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
