//! Expiry that waits for nobody: keys whose time is up are removed although no command comes by.
//!
//! A command that meets an expired key removes it (see [`crate::keyspace`]). The others are found here: on a primary by
//! a walk over the keys that have an expiry ([`Engine::expire_cycle`]), on a replica only those that clients wrote to it
//! ([`own`]), as its primary deletes the rest. Both run for as long as the embedder gives them, hold one shard's lock at
//! a time, and only for a step; when to call them is the embedder's business.

pub(crate) mod own;

use crate::engine::{Engine, now_ms};
use crate::keyspace::Shard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Keys are removed in steps of at most this many per shard lock.
const EXPIRE_STEP: usize = 64;

impl Engine {
    /// Removes expired keys for at most `budget`; returns how many. Call it regularly on a primary.
    pub fn expire_cycle(&self, budget: Duration) -> usize {
        if self.inner.role.get().keeps_expired() {
            return 0;
        }
        let started = Instant::now();
        let mut removed = 0;
        let (count, first) = (self.inner.shards.len(), self.inner.expire_shard.load(Ordering::Relaxed));
        for index in (first..first + count).map(|i| i % count) {
            // The next call goes on here, so that one shard with much to do does not keep the others from their turn.
            self.inner.expire_shard.store(index, Ordering::Relaxed);
            // Expired keys a cut still needs would become pre-images: while its queue is full they can wait.
            if started.elapsed() >= budget || self.inner.queue_level.is_full() {
                break;
            }
            let mut dbs_done = 0;
            // A whole turn over the shard's databases, or until the time is up; the lock is taken per segment.
            while started.elapsed() < budget && dbs_done < self.inner.databases as usize {
                let (n, db_done) = self.expire_step(&mut self.inner.shards[index].lock());
                removed += n;
                dbs_done += usize::from(db_done);
            }
        }
        removed
    }

    /// Removes expired keys of one segment, the one the shard's cursor is at, and moves the cursor on. Returns how
    /// many, and whether the cursor came to the end of a database.
    fn expire_step(&self, shard: &mut Shard) -> (usize, bool) {
        // Looked at under the lock: it may have changed since the cycle began.
        if self.inner.role.get().keeps_expired() {
            return (0, true);
        }
        let (db, position) = shard.expire_cursor;
        let next_db = ((db + 1) % self.inner.databases as usize, 0);
        if shard.dbs[db].with_ttl() == 0 {
            shard.expire_cursor = next_db;
            return (0, true);
        }
        let log = self.inner.log.is_active().then_some(&self.inner.log);
        let (watched, mut buf) = (&shard.watched, Vec::new());
        let (next, n) = shard.dbs[db].expire_segment(position, now_ms(), EXPIRE_STEP, |key| {
            if log.is_some() {
                crate::log::encode_command(&mut buf, &[b"DEL", key]);
            }
            watched.raise(db as u32, key);
        });
        if let (Some(log), false) = (log, buf.is_empty()) {
            log.append(db as u32, &buf);
        }
        shard.stats.expired += n as u64;
        shard.expire_cursor = if next == 0 { next_db } else { (db, next) };
        (n, next == 0)
    }
}
