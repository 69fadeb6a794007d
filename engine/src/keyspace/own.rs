//! The names of keys that a writable replica must expire itself, each with its time. When they are looked at is in
//! [`crate::expiry`].

use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A database and a key in it.
pub(crate) type Name = (u32, Arc<[u8]>);

/// The names, each with its time. A key's shard is locked before this is.
#[derive(Default)]
pub(crate) struct OwnExpiries {
    pub(crate) any: AtomicBool,
    pub(crate) names: Mutex<Names>,
}

#[derive(Default)]
pub(crate) struct Names {
    pub(crate) times: HashMap<Name, i64>,
    pub(crate) in_order: BTreeSet<(i64, Name)>,
}

impl Names {
    fn insert(&mut self, at: i64, name: Name) {
        if let Some(before) = self.times.insert(name.clone(), at) {
            self.in_order.remove(&(before, name.clone()));
        }
        self.in_order.insert((at, name));
    }

    /// The first one whose time is up.
    pub(crate) fn due(&self, now: i64) -> Option<(i64, Name)> {
        self.in_order.first().filter(|(at, _)| *at <= now).cloned()
    }

    /// Drops a name; false where it is not there with that time.
    pub(crate) fn remove(&mut self, due: &(i64, Name)) -> bool {
        self.in_order.remove(due) && self.times.remove(&due.1).is_some()
    }
}

impl OwnExpiries {
    /// Remembers a key that this replica must expire itself.
    pub(crate) fn insert(&self, at: i64, db: u32, key: &[u8]) {
        self.names.lock().insert(at, (db, key.into()));
        self.any.store(true, Ordering::Release);
    }

    /// Forgets them all: this node has become a primary, which expires every key, or its data are others.
    pub(crate) fn forget(&self) {
        let mut names = self.names.lock();
        *names = Names::default();
        self.any.store(false, Ordering::Release);
    }

    /// Follows a database that was emptied.
    pub(crate) fn flushed(&self, db: u32) {
        self.rename(|of| (of != db).then_some(of));
    }

    /// Follows two databases that were exchanged.
    pub(crate) fn swapped(&self, a: u32, b: u32) {
        self.rename(|of| {
            Some(if of == a {
                b
            } else if of == b {
                a
            } else {
                of
            })
        });
    }

    /// Gives the databases other numbers, or drops what is in them.
    fn rename(&self, number: impl Fn(u32) -> Option<u32>) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut names = self.names.lock();
        for ((db, key), at) in std::mem::take(&mut *names).times {
            if let Some(db) = number(db) {
                names.insert(at, (db, key));
            }
        }
        self.any.store(!names.times.is_empty(), Ordering::Release);
    }
}
