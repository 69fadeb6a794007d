//! Shards, and the ones a command holds.
//!
//! A [`Shard`] is all that lies behind one lock: its part of each database, who watches its keys, who waits for them,
//! and its counters. [`Held`] is the set of locks a command took; asking it for a shard that is not among them is a
//! mistake in a command's row. Which locks are taken, and in what order, is the engine's part.

use super::waiting::Queue;
use crate::cut::capture::hands_over;
use crate::value::Table;
use parking_lot::MutexGuard;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A database and a key in it.
type WatchedKey = (u32, Box<[u8]>);

/// A session's watch of a key.
struct Watcher {
    /// The session's: raised when something it watches has changed.
    flag: Arc<AtomicBool>,
    /// The key had expired already: to the session it is not there, so that its removal is no change.
    was_due: bool,
}

/// How a key looks to those who watch it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Absent,
    /// There, but its time is up.
    Due,
    Live,
}

impl Standing {
    pub(crate) fn of(table: &Table, key: &[u8], now: i64) -> Standing {
        match table.get(key).map(|e| e.expire()) {
            None => Standing::Absent,
            Some(Some(at)) if at <= now => Standing::Due,
            Some(_) => Standing::Live,
        }
    }
}

impl Watcher {
    /// What stands under the key is replaced.
    fn replaced(&mut self, before: Standing, after: Standing) {
        let was_nothing = before == Standing::Absent || self.was_due;
        match after {
            Standing::Absent if was_nothing => self.was_due = false,
            Standing::Due if was_nothing => self.was_due = true,
            _ => self.flag.store(true, Ordering::Release),
        }
    }
}

/// Which keys of a shard are watched, and by whom.
#[derive(Default)]
pub(crate) struct Watched(HashMap<WatchedKey, Vec<Watcher>>);

impl Watched {
    /// Adds a session's watch of a key, which may have expired; false where it watches the key already.
    pub(crate) fn add(&mut self, db: u32, key: &[u8], flag: &Arc<AtomicBool>, was_due: bool) -> bool {
        let watchers = self.0.entry((db, key.into())).or_default();
        let new = !watchers.iter().any(|w| Arc::ptr_eq(&w.flag, flag));
        if new {
            watchers.push(Watcher { flag: flag.clone(), was_due });
        }
        new
    }

    pub(crate) fn remove(&mut self, db: u32, key: Box<[u8]>, flag: &Arc<AtomicBool>) {
        let id = (db, key);
        if let Some(watchers) = self.0.get_mut(&id) {
            watchers.retain(|w| !Arc::ptr_eq(&w.flag, flag));
            if watchers.is_empty() {
                self.0.remove(&id);
            }
        }
    }

    /// Had the key expired when the session began to watch it, and is it still nothing more?
    pub(crate) fn was_due(&self, db: u32, key: &[u8], flag: &Arc<AtomicBool>) -> bool {
        let watchers = self.0.get(&(db, key.into()));
        watchers.is_some_and(|all| all.iter().any(|w| Arc::ptr_eq(&w.flag, flag) && w.was_due))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells those who watch this key that it changed; `there` says whether it is there now. That an expired key is gone
    /// is no change to those who found it expired.
    pub(crate) fn changed(&mut self, db: u32, key: &[u8], there: impl FnOnce() -> bool) {
        let Some(watchers) = self.0.get_mut(&(db, key.into())) else { return };
        let gone = watchers.iter().any(|w| w.was_due) && !there();
        for w in watchers {
            if !(w.was_due && gone) {
                w.flag.store(true, Ordering::Release);
            }
            w.was_due = false;
        }
    }

    /// Tells those who watch keys of a database that it was replaced; `before` and `after` say how a key stood and stands.
    pub(crate) fn replaced(
        &mut self,
        database: u32,
        before: impl Fn(&[u8]) -> Standing,
        after: impl Fn(&[u8]) -> Standing,
    ) {
        for ((db, key), watchers) in &mut self.0 {
            if *db == database {
                let (before, after) = (before(key), after(key));
                watchers.iter_mut().for_each(|w| w.replaced(before, after));
            }
        }
    }

    /// Tells those who watch this key what stands under it, where nothing stood before.
    pub(crate) fn appeared(&mut self, db: u32, key: &[u8], after: Standing) {
        if let Some(watchers) = self.0.get_mut(&(db, key.into())) {
            watchers.iter_mut().for_each(|w| w.replaced(Standing::Absent, after));
        }
    }
}

/// A part of the keyspace behind one lock.
pub(crate) struct Shard {
    pub(crate) dbs: Vec<Table>,
    pub(crate) watched: Watched,
    /// Commands that wait for a key, of whichever database, by its name.
    pub(crate) blocked: HashMap<Box<[u8]>, Queue>,
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

impl ShardStats {
    pub(crate) fn add(&mut self, other: &ShardStats) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.expired += other.expired;
    }
}

impl Shard {
    /// Adds `(keys, keys with expiry)` of each database to `sizes`.
    pub(crate) fn add_sizes(&self, sizes: &mut [(u64, u64)]) {
        for (size, table) in sizes.iter_mut().zip(&self.dbs) {
            size.0 += table.len() as u64;
            size.1 += table.with_ttl() as u64;
        }
    }

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
    /// Ascending by index. On the heap, as what is held goes from hand to hand.
    Some(Vec<(usize, MutexGuard<'a, Shard>)>),
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

    #[inline(never)]
    pub(crate) fn let_go(self) {}

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
        table.get_hashed(hash, key).is_some_and(|e| table.unvisited(e) || hands_over(e))
    }
}
