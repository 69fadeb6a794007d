//! Shards, and the ones a command holds.
//!
//! A [`Shard`] is all that lies behind one lock: its part of each database, who watches its keys, who waits for them,
//! and its counters. [`Held`] is the set of locks a command took; asking it for a shard that is not among them is a
//! mistake in a command's row. Which locks are taken, and in what order, is the engine's part.

use crate::table::Table;
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A database and a key in it.
type WatchedKey = (u32, Box<[u8]>);

/// Which keys of a shard are watched, each with the flags of the sessions that watch it.
#[derive(Default)]
pub(crate) struct Watched(HashMap<WatchedKey, Vec<Arc<AtomicBool>>>);

impl Watched {
    /// Adds a session's watch; false where it watches the key already.
    pub(crate) fn add(&mut self, db: u32, key: &[u8], flag: &Arc<AtomicBool>) -> bool {
        let flags = self.0.entry((db, key.into())).or_default();
        let new = !flags.iter().any(|f| Arc::ptr_eq(f, flag));
        if new {
            flags.push(flag.clone());
        }
        new
    }

    pub(crate) fn remove(&mut self, db: u32, key: Box<[u8]>, flag: &Arc<AtomicBool>) {
        let id = (db, key);
        if let Some(flags) = self.0.get_mut(&id) {
            flags.retain(|f| !Arc::ptr_eq(f, flag));
            if flags.is_empty() {
                self.0.remove(&id);
            }
        }
    }

    /// Tells those who watch this key that it changed.
    pub(crate) fn raise(&self, db: u32, key: &[u8]) {
        if let Some(flags) = self.0.get(&(db, key.into())) {
            raise(flags);
        }
    }

    /// Tells those who watch a key that `changed` says yes to.
    pub(crate) fn raise_where(&self, changed: impl Fn(u32, &[u8]) -> bool) {
        self.0.iter().filter(|((db, key), _)| changed(*db, key)).for_each(|(_, flags)| raise(flags));
    }
}

fn raise(flags: &[Arc<AtomicBool>]) {
    flags.iter().for_each(|f| f.store(true, Ordering::Release));
}

/// A part of the keyspace behind one lock.
pub struct Shard {
    pub(crate) dbs: Vec<Table>,
    pub(crate) watched: Watched,
    /// Commands that wait for a key, of whichever database, by its name.
    pub(crate) blocked: HashMap<Box<[u8]>, crate::blocking::Queue>,
    pub(crate) stats: ShardStats,
    /// Where the active expiry goes on: database and hash position.
    pub(crate) expire_cursor: (usize, u64),
}

/// Counters kept under the shard's lock.
#[derive(Default, Clone, Copy, Debug)]
pub struct ShardStats {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys removed because they expired.
    pub expired: u64,
}

impl Shard {
    pub(crate) fn new(databases: u32) -> Shard {
        Shard {
            dbs: (0..databases).map(|_| Table::new()).collect(),
            watched: Watched::default(),
            blocked: HashMap::new(),
            stats: ShardStats::default(),
            expire_cursor: (0, 0),
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.dbs.drain(..).for_each(Table::discard);
    }
}

/// The shards a command holds.
pub(crate) enum Held<'a> {
    None,
    One(usize, MutexGuard<'a, Shard>),
    /// Ascending by index.
    Some(SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>),
    All(Vec<MutexGuard<'a, Shard>>),
}

impl<'a> Held<'a> {
    #[inline]
    pub(crate) fn shard(&mut self, index: usize) -> &mut Shard {
        match self {
            Held::One(i, g) => {
                debug_assert_eq!(*i, index, "a command touches only the keys of its key spec");
                g
            }
            Held::Some(v) => {
                let at = v.binary_search_by_key(&index, |x| x.0);
                &mut v[at.expect("a command touches only the keys of its key spec")].1
            }
            Held::All(v) => &mut v[index],
            Held::None => unreachable!("a command without keys does not touch the keyspace"),
        }
    }

    #[inline]
    pub(crate) fn shard_ref(&self, index: usize) -> &Shard {
        match self {
            Held::One(i, g) => {
                debug_assert_eq!(*i, index, "a command touches only the keys of its key spec");
                g
            }
            Held::Some(v) => {
                let at = v.binary_search_by_key(&index, |x| x.0);
                &v[at.expect("a command touches only the keys of its key spec")].1
            }
            Held::All(v) => &v[index],
            Held::None => unreachable!("a command without keys does not touch the keyspace"),
        }
    }

    pub(crate) fn each(&mut self, mut f: impl FnMut(usize, &mut Shard)) {
        match self {
            Held::None => {}
            Held::One(i, g) => f(*i, g),
            Held::Some(v) => v.iter_mut().for_each(|(i, g)| f(*i, g)),
            Held::All(v) => v.iter_mut().enumerate().for_each(|(i, g)| f(i, g)),
        }
    }

    /// Hands a key's value to a running cut that has not delivered it.
    pub(crate) fn hand_over(&mut self, index: usize, db: u32, hash: u64, key: &[u8]) {
        // Looking it up for changing is what hands it over.
        let _ = self.shard(index).dbs[db as usize].get_mut_hashed(hash, key);
    }

    pub(crate) fn unvisited(&mut self, index: usize, db: u32, hash: u64, key: &[u8]) -> bool {
        let table = &self.shard(index).dbs[db as usize];
        table.get_hashed(hash, key).is_some_and(|e| table.unvisited(e) || crate::cut::hands_over(e))
    }
}
