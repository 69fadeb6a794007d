//! Loading: filling the keyspace from a source of a cut (an RDB file, a full sync).
//!
//! A live loader writes into the engine's own tables: nobody should read them meanwhile (the server answers
//! LOADING). A staging loader fills tables of its own beside the live data and exchanges them in
//! [`Loader::finish`], under all locks; dropping it instead drops what it loaded. Nothing is logged either way.

use crate::engine::Engine;
use crate::entry::Entry;
use crate::hash::hash;
use crate::table::Table;
use crate::value::Value;

/// Fills a keyspace; see the module's text.
pub struct Loader {
    engine: Engine,
    /// Tables by shard, then database; empty for a live loader.
    staging: Vec<Vec<Table>>,
    loaded: u64,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("staging", &!self.staging.is_empty())
            .field("loaded", &self.loaded)
            .finish()
    }
}

/// Keys a loader prepares room for at once: a source may lie about its size.
const MAX_RESERVE: usize = 1 << 24;

impl Engine {
    /// A loader into the live keyspace.
    pub fn loader(&self) -> Loader {
        Loader { engine: self.clone(), staging: Vec::new(), loaded: 0 }
    }

    /// A loader beside the live keyspace, which [`Loader::finish`] replaces.
    pub fn staging_loader(&self) -> Loader {
        let dbs = self.inner.databases;
        let staging =
            (0..self.inner.shards.len()).map(|_| (0..dbs).map(|_| Table::new()).collect()).collect();
        Loader { engine: self.clone(), staging, loaded: 0 }
    }

    /// Replaces this engine's data by `other`'s, at once and without logging it; watchers learn of it, and a running
    /// cut keeps what it still has to deliver. Both must have been built with the same shards and databases.
    ///
    /// # Panics
    /// Where they were not.
    pub fn adopt(&self, other: Engine) {
        assert_eq!(self.shards(), other.shards(), "engines of one shape");
        assert_eq!(self.databases(), other.databases(), "engines of one shape");
        let old = self.exclusive(0, &mut Vec::new(), |cx| {
            cx.propagate_nothing();
            for db in 0..cx.keys.databases() {
                cx.keys.flush_db(db);
                cx.keys.each_table(db, |shard, table| {
                    std::mem::swap(table, &mut other.inner.shards[shard].lock().dbs[db as usize]);
                });
            }
            other
        });
        drop(old);
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

impl Loader {
    /// Prepares for this many keys in a database.
    pub fn reserve(&mut self, db: u32, keys: usize) {
        let shards = self.engine.inner.shards.len();
        // The hash spreads keys evenly, but not exactly: a little more room saves late splits.
        let each = keys.min(MAX_RESERVE) / shards;
        for i in 0..shards {
            if self.staging.is_empty() {
                let mut shard = self.engine.inner.shards[i].lock();
                if let Some(t) = shard.dbs.get_mut(db as usize) {
                    t.reserve(each);
                }
            } else if let Some(t) = self.staging[i].get_mut(db as usize) {
                t.reserve(each);
            }
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

    /// Adds a string; false where the key was there already (it is replaced) or the database does not exist.
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

    fn entry(&mut self, db: u32, mut entry: Entry, lru: u32) -> bool {
        entry.as_mut().set_lru(lru);
        let h = hash(entry.as_ref().key());
        let shard = self.engine.inner.shard_of(h);
        self.loaded += 1;
        if self.staging.is_empty() {
            match self.engine.inner.shards[shard].lock().dbs.get_mut(db as usize) {
                Some(t) => !t.insert_hashed(h, entry),
                None => false,
            }
        } else {
            match self.staging[shard].get_mut(db as usize) {
                Some(t) => !t.insert_hashed(h, entry),
                None => false,
            }
        }
    }

    /// Ends the load; a staging loader's tables replace the live ones at once. Returns how many entries came in.
    pub fn finish(mut self) -> u64 {
        if !self.staging.is_empty() {
            let old = self.engine.exclusive(0, &mut Vec::new(), |cx| {
                cx.propagate_nothing();
                let mut old = Vec::new();
                for db in 0..cx.keys.databases() {
                    // Watchers learn of it, and a running cut adopts what it still needs.
                    cx.keys.flush_db(db);
                    cx.keys.each_table(db, |shard, table| {
                        std::mem::swap(table, &mut self.staging[shard][db as usize]);
                    });
                }
                old.append(&mut self.staging);
                old
            });
            drop(old);
        }
        self.loaded
    }
}
