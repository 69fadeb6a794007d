//! Loading: filling the keyspace from a source of a cut (an RDB file, a full sync).
//!
//! A loader writes into the engine's own tables: nobody should read them meanwhile (the server answers LOADING).
//! Several may do so at once, each on its own thread, with different keys. To load beside live data, fill an engine of
//! its own ([`Engine::beside`]) and have the live one [`adopt`](Engine::adopt) it, at once and under all locks; dropping
//! it instead drops what was loaded. Nothing is logged either way.

use crate::engine::Engine;
use crate::hash::hash;
use crate::keyspace::{Shard, Standing};
use crate::value::{Entry, Table, Value};

/// Fills a keyspace; see the module's text.
pub struct Loader {
    engine: Engine,
    loaded: u64,
    /// Entries made and not yet in their tables, by shard: inserted together, so that the cache misses of one overlap
    /// with those of the others, and under the lock of one shard, so that loaders on other threads go on.
    batches: Vec<Vec<(u64, u32, Entry)>>,
    duplicates: u64,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("loaded", &self.loaded).finish()
    }
}

/// Entries of a shard inserted together.
const BATCH: usize = 64;
/// Keys a loader prepares room for at once: a source may lie about its size.
const MAX_RESERVE: usize = 1 << 24;

/// # Loading
impl Engine {
    /// A loader into this engine.
    pub fn loader(&self) -> Loader {
        let batches = (0..self.inner.shards.len()).map(|_| Vec::with_capacity(BATCH)).collect();
        Loader { engine: self.clone(), loaded: 0, batches, duplicates: 0 }
    }

    /// Replaces this engine's data by `other`'s, at once and without logging it; watchers learn of it, and a running
    /// cut keeps what it still has to deliver. Both must have been built with the same shards and databases.
    ///
    /// # Panics
    /// Where they were not.
    pub fn adopt(&self, other: Engine) {
        assert_eq!(self.shards(), other.shards(), "engines of one shape");
        assert_eq!(self.databases(), other.databases(), "engines of one shape");
        let carried = other.carried();
        let old = self.exclusive(0, &mut Vec::new(), |cx| {
            cx.propagate_nothing();
            for db in 0..cx.keys.databases() {
                cx.keys.flush_db(db);
                cx.keys.replace_empty(db, |shard, table| {
                    std::mem::swap(table, &mut other.inner.shards[shard].lock().dbs[db as usize]);
                });
            }
            other
        });
        drop(old);
        self.carry(carried);
    }

    /// Empties every database without logging it: before a full sync is loaded.
    pub fn clear(&self) {
        self.exclusive(0, &mut Vec::new(), |cx| {
            cx.propagate_nothing();
            for db in 0..cx.keys.databases() {
                cx.keys.flush_db(db);
            }
        });
    }
}

/// Elements of one large hash or set, put into its table together: their cache misses overlap, which is most of what
/// loading a huge value costs.
#[derive(Debug, Default)]
pub struct ElementBatch(Vec<(u64, Entry)>);

impl ElementBatch {
    /// Adds a field of a hash. As the other methods, false where an element turned out to be there already (its value is
    /// replaced), in this call or among those that waited.
    #[inline]
    pub fn field(&mut self, table: &mut Table, field: &[u8], value: &[u8]) -> bool {
        self.push(table, Entry::string(field, value, None))
    }

    /// Adds a member of a set.
    #[inline]
    pub fn member(&mut self, table: &mut Table, member: &[u8]) -> bool {
        self.push(table, Entry::unit(member))
    }

    #[inline]
    fn push(&mut self, table: &mut Table, entry: Entry) -> bool {
        self.0.push((hash(entry.as_ref().key()), entry));
        self.0.len() < BATCH || self.flush(table)
    }

    /// Puts what waits into the table; to be called after the last element.
    pub fn flush(&mut self, table: &mut Table) -> bool {
        for (h, _) in &self.0 {
            table.prefetch(*h);
        }
        for (h, _) in &self.0 {
            table.prefetch_free_slot(*h);
        }
        let mut new = true;
        for (h, entry) in self.0.drain(..) {
            new &= !table.insert_hashed(h, entry);
        }
        new
    }
}

impl Loader {
    /// The engine it fills.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Counts entries that other loaders brought in for this one.
    pub fn credit(&mut self, entries: u64) {
        self.loaded += entries;
    }

    /// Prepares for this many keys in a database.
    pub fn reserve(&mut self, db: u32, keys: usize) {
        let shards = self.engine.inner.shards.len();
        // The hash spreads keys evenly, but not exactly: a little more room saves late splits.
        let each = keys.min(MAX_RESERVE) / shards;
        for shard in self.engine.inner.shards.iter() {
            if let Some(table) = shard.lock().dbs.get_mut(db as usize) {
                table.reserve(each);
            }
        }
    }

    /// A key of the source had expired and is left out. Where the log is active its deletion is logged: what follows
    /// the log may hold the key still.
    pub fn expired(&mut self, db: u32, key: &[u8]) {
        let log = self.engine.log();
        if log.is_active() && db < self.databases() {
            let mut encoded = Vec::new();
            crate::resp::encode_command(&mut encoded, &[b"DEL", key]);
            log.append(db, &encoded);
        }
    }

    /// Number of databases: higher numbers cannot be loaded.
    pub fn databases(&self) -> u32 {
        self.engine.inner.databases
    }

    /// Entries loaded so far.
    pub fn loaded(&self) -> u64 {
        self.loaded
    }

    /// The engine's encoding thresholds.
    pub fn limits(&self) -> &crate::config::Limits {
        &self.engine.inner.limits
    }

    /// Adds a string; false where the database does not exist, or where a key added before turned out to be there
    /// already (it is replaced; see [`Loader::flush`]).
    #[inline]
    pub fn string(&mut self, db: u32, key: &[u8], value: &[u8], expire_ms: Option<i64>, lru: u32) -> bool {
        let entry = match crate::num::parse_i64(value) {
            Some(i) => Entry::int(key, i, expire_ms),
            None => Entry::string(key, value, expire_ms),
        };
        self.entry(db, entry, lru)
    }

    /// Adds an integer string.
    pub fn int(&mut self, db: u32, key: &[u8], value: i64, expire_ms: Option<i64>, lru: u32) -> bool {
        self.entry(db, Entry::int(key, value, expire_ms), lru)
    }

    /// Adds a collection, which must not be empty.
    pub fn value(&mut self, db: u32, key: &[u8], value: Value, expire_ms: Option<i64>, lru: u32) -> bool {
        self.entry(db, Entry::value(key, value, expire_ms), lru)
    }

    #[inline]
    fn entry(&mut self, db: u32, mut entry: Entry, lru: u32) -> bool {
        if db >= self.databases() {
            return false;
        }
        entry.as_mut().set_lru(lru);
        let h = hash(entry.as_ref().key());
        let shard = self.engine.inner.shard_of(h);
        self.loaded += 1;
        self.batches[shard].push((h, db, entry));
        if self.batches[shard].len() >= BATCH {
            self.flush_shard(shard);
        }
        self.duplicates == 0
    }

    /// Puts into the tables what was added so far. False where a key was there already (it was replaced), now or in
    /// an earlier flush.
    pub fn flush(&mut self) -> bool {
        for shard in 0..self.batches.len() {
            if !self.batches[shard].is_empty() {
                self.flush_shard(shard);
            }
        }
        self.duplicates == 0
    }

    fn flush_shard(&mut self, shard: usize) {
        let Shard { dbs, watched, .. } = &mut *self.engine.inner.shards[shard].lock();
        if !watched.is_empty() {
            let now = self.engine.now_ms();
            for (_, db, entry) in &self.batches[shard] {
                let due = entry.as_ref().expire().is_some_and(|at| at <= now);
                watched.appeared(*db, entry.as_ref().key(), if due { Standing::Due } else { Standing::Live });
            }
        }
        self.duplicates += insert(&mut self.batches[shard], dbs);
    }

    /// Ends the load. Returns how many entries came in.
    pub fn finish(mut self) -> u64 {
        self.flush();
        // What announced its size may have lied, or held keys that had expired.
        for shard in self.engine.inner.shards.iter() {
            shard.lock().dbs.iter_mut().for_each(Table::fit);
        }
        self.loaded
    }
}

/// Inserts a batch into the tables of its shard; returns how many entries replaced another.
fn insert(batch: &mut Vec<(u64, u32, Entry)>, tables: &mut [Table]) -> u64 {
    for (h, db, _) in batch.iter() {
        tables[*db as usize].prefetch(*h);
    }
    for (h, db, _) in batch.iter() {
        tables[*db as usize].prefetch_free_slot(*h);
    }
    batch.drain(..).map(|(h, db, entry)| u64::from(tables[db as usize].insert_hashed(h, entry))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_announced_more_keys_than_came_leaves_no_room_behind() {
        let engine = Engine::default();
        let mut loader = engine.loader();
        loader.reserve(0, 10_000_000);
        assert!(loader.string(0, b"key", b"value", None, 0));
        loader.finish();
        let room: usize = engine.inner.shards.iter().map(|s| s.lock().dbs[0].overhead_bytes()).sum();
        assert!(room < 10_000, "{room} bytes");
        assert!(
            engine.exclusive(0, &mut Vec::new(), |cx| cx.keys.random_key()).is_some_and(|key| key == b"key")
        );
    }
}
