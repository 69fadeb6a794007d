//! Keys that a writable replica must expire itself.
//!
//! A replica hides expired keys and waits for its primary to delete them. The primary does not know of keys that
//! clients wrote to the replica, so those with an expiry are remembered here, by name, and looked at now and then.

use crate::engine::Engine;
use crate::hash::hash;
use crate::keyspace::Ctx;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The names, each with its database. Fewer than there are keys, but for those that went without our noticing yet.
#[derive(Default)]
pub(crate) struct OwnExpiries {
    any: AtomicBool,
    keys: Mutex<HashSet<(u32, Box<[u8]>)>>,
}

impl OwnExpiries {
    /// Remembers the keys of a write on a replica that have an expiry now.
    #[cold]
    pub(crate) fn note(
        &self,
        cx: &mut Ctx<'_>,
        positions: impl FnOnce(&mut dyn FnMut(usize)),
        args: &[&[u8]],
    ) {
        let db = cx.keys.db;
        positions(&mut |at| {
            if cx.keys.peek(args[at]).is_some_and(|e| e.expire().is_some()) {
                self.keys.lock().insert((db, args[at].into()));
                self.any.store(true, Ordering::Release);
            }
        });
    }
}

impl Engine {
    /// On a replica: removes expired keys that were written here, for at most `budget`; returns how many.
    pub fn expire_own(&self, budget: Duration) -> usize {
        let own = &self.inner.own_expiries;
        if !own.any.load(Ordering::Acquire) {
            return 0;
        }
        let (started, now) = (Instant::now(), crate::engine::now_ms());
        let mut removed = 0;
        let mut keys = std::mem::take(&mut *own.keys.lock());
        keys.retain(|(db, key)| {
            if started.elapsed() >= budget {
                return true;
            }
            let h = hash(key);
            let mut shard = self.inner.shards[self.inner.shard_of(h)].lock();
            let at = shard.dbs[*db as usize].get_hashed(h, key).and_then(|e| e.expire());
            let due = at.is_some_and(|at| at <= now);
            if due {
                shard.dbs[*db as usize].remove_hashed(h, key);
                shard.stats.expired += 1;
                removed += 1;
                if let Some(list) = shard.watched.get(&(*db, key.clone())) {
                    list.iter().for_each(|flag| flag.store(true, Ordering::Release));
                }
            }
            at.is_some() && !due
        });
        let mut all = own.keys.lock();
        all.extend(keys);
        own.any.store(!all.is_empty(), Ordering::Release);
        removed
    }
}
