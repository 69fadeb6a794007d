//! Whole databases: walking, counting, flushing and exchanging them. For commands that hold every shard (`Run::All`).
//!
//! A database under a running cut is never lost to it: one that is flushed is adopted by the cut, one that is exchanged
//! keeps its captures.

use super::keys::{Hashed, Keys};
use super::shard::{Shard, ShardStats, Standing};
use crate::hash::hash;
use crate::value::{EntryRef, Table};
use std::sync::atomic::Ordering;

impl Keys<'_> {
    /// Calls `f` with the table of each shard for one database, in shard order.
    pub fn each_table(&mut self, db: u32, mut f: impl FnMut(usize, &mut Table)) {
        self.held.each(|i, shard| f(i, &mut shard.dbs[db as usize]));
    }

    /// `(keys, keys with expiry)` of every database.
    pub fn db_sizes(&mut self) -> Vec<(u64, u64)> {
        let mut sizes = vec![(0, 0); self.inner.databases as usize];
        self.held.each(|_, shard| shard.add_sizes(&mut sizes));
        sizes
    }

    /// Counters of all shards together.
    pub fn shard_stats(&mut self) -> ShardStats {
        let mut sum = ShardStats::default();
        self.held.each(|_, shard| sum.add(&shard.stats));
        sum
    }

    /// Sets the shards' counters to zero, and that of objects freed in the background.
    pub fn reset_shard_stats(&mut self) {
        crate::lazy_free::reset();
        self.held.each(|_, shard| shard.stats = ShardStats::default());
    }

    /// Keys in a database, expired ones included.
    pub fn db_len(&mut self, db: u32) -> usize {
        let mut n = 0;
        self.each_table(db, |_, t| n += t.len());
        n
    }

    /// Empties a database and tells watchers; returns how many keys there were. A running cut adopts what it still
    /// has to deliver.
    pub fn flush_db(&mut self, db: u32) -> usize {
        let cut = self.inner.cut.lock().clone();
        let mut n = 0;
        let now = self.now;
        self.inner.own_expiries.flushed(db);
        // What a cut still needs of values that moved here goes to it one by one.
        let moved = cut.as_ref().map_or_else(Vec::new, |cut| cut.moved_to(db));
        for key in moved {
            let h = hash(&key);
            n += usize::from(self.shard(h).dbs[db as usize].remove_hashed(h, &key));
            self.signal(db, &key);
        }
        self.held.each(|_, Shard { watched, dbs, .. }| {
            let before = |key: &[u8]| Standing::of(&dbs[db as usize], key, now);
            watched.replaced(db, before, |_| Standing::Absent);
            let table = std::mem::take(&mut dbs[db as usize]);
            n += table.len();
            if table.capture().is_some()
                && let Some(cut) = &cut
            {
                cut.adopt(table);
            } else {
                table.discard();
            }
        });
        n
    }

    /// Puts other tables in the place of an empty database's, and tells those who watch or wait for keys in them.
    pub(crate) fn replace_empty(&mut self, db: u32, mut put: impl FnMut(usize, &mut Table)) {
        let now = self.now;
        self.held.each(|i, Shard { watched, dbs, .. }| {
            put(i, &mut dbs[db as usize]);
            watched.replaced(db, |_| Standing::Absent, |key| Standing::of(&dbs[db as usize], key, now));
        });
        if self.inner.blocked.load(Ordering::Relaxed) != 0 {
            self.note_all_ready(db);
        }
    }

    /// Exchanges two databases and tells watchers of keys in either.
    pub fn swap_dbs(&mut self, a: u32, b: u32) {
        if let Some(cut) = &*self.inner.cut.lock() {
            cut.swapped(a, b);
        }
        let now = self.now;
        self.inner.own_expiries.swapped(a, b);
        self.held.each(|_, Shard { watched, dbs, .. }| {
            let tables = &*dbs;
            let standing = |db: u32| move |key: &[u8]| Standing::of(&tables[db as usize], key, now);
            watched.replaced(a, standing(a), standing(b));
            watched.replaced(b, standing(b), standing(a));
            dbs.swap(a as usize, b as usize);
        });
        if self.inner.blocked.load(Ordering::Relaxed) != 0 {
            self.note_all_ready(a);
            self.note_all_ready(b);
        }
    }

    /// One step of SCAN over the selected database; `report` gets live entries, expired ones are removed on the way.
    /// Needs `Run::All`.
    pub fn scan(&mut self, cursor: u64, count: usize, report: impl FnMut(EntryRef<'_>)) -> u64 {
        self.live_of(report, |keys, visit| keys.scan_entries(cursor, count, visit))
    }

    /// The same within one shard, which is locked: `at` is a position in it, 0 at its begin and end.
    pub(crate) fn scan_shard(
        &mut self,
        shard: usize,
        at: u64,
        count: usize,
        report: impl FnMut(EntryRef<'_>),
    ) -> u64 {
        let db = self.db as usize;
        self.live_of(report, |keys, visit| keys.held.shard(shard).dbs[db].scan(at, count, visit))
    }

    /// Reports those that live of the entries that `walk` visits, and removes the others.
    fn live_of(
        &mut self,
        mut report: impl FnMut(EntryRef<'_>),
        walk: impl FnOnce(&mut Self, &mut dyn FnMut(EntryRef<'_>)) -> u64,
    ) -> u64 {
        let (now, see) = (self.now, self.see_expired);
        let mut due: Vec<Vec<u8>> = Vec::new();
        let next = walk(self, &mut |e| {
            if see || e.expire().is_none_or(|t| t > now) {
                report(e);
            } else {
                due.push(e.key().to_vec());
            }
        });
        if !self.keep_expired {
            due.iter().for_each(|key| self.remove_expired(Hashed { key, hash: hash(key) }));
        }
        next
    }

    fn scan_entries(&mut self, cursor: u64, count: usize, mut visit: impl FnMut(EntryRef<'_>)) -> u64 {
        let db = self.db as usize;
        let shards = self.inner.shards.len();
        let mut shard = (cursor >> 48) as usize;
        let mut at = cursor & ((1 << 48) - 1);
        let mut left = count.max(1) as i64;
        while shard < shards {
            let next = self.held.shard(shard).dbs[db].scan(at, left.max(1) as usize, |e| {
                left -= 1;
                visit(e);
            });
            if next != 0 {
                return (shard as u64) << 48 | next;
            }
            shard += 1;
            at = 0;
            if left <= 0 && shard < shards {
                return (shard as u64) << 48;
            }
        }
        0
    }

    /// A random live key of the selected database. Needs `Run::All`.
    pub fn random_key(&mut self) -> Option<Vec<u8>> {
        let db = self.db as usize;
        // A bounded number of tries: a database full of expired keys on a replica must not hold everyone.
        let mut last = None;
        for _ in 0..100 {
            let total = self.db_len(self.db);
            if total == 0 {
                return None;
            }
            let mut skip = crate::hash::random_u64() as usize % total;
            let mut found = None;
            self.held.each(|_, s| {
                let table = &s.dbs[db];
                if found.is_none() && skip < table.len() {
                    found = table.random().map(|e| (e.key().to_vec(), e.expire()));
                } else if found.is_none() {
                    skip -= table.len();
                }
            });
            let (key, expire) = found?;
            if self.see_expired || expire.is_none_or(|at| at > self.now) {
                return Some(key);
            }
            if !self.keep_expired {
                let k = self.hashed(&key);
                self.remove_expired(k);
            }
            last = Some(key);
        }
        last
    }
}
