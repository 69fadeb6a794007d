//! Keys whose time is up, as a command meets them: who removes them, and when.
//!
//! On a primary an expired key is gone for every command: a write removes it before it looks (the call order is:
//! expired keys go first, then the write), a read hides it and has it removed when the command ends. Either way its DEL
//! is among the effects before the command's own. Where the primary decides (on a replica) expired keys are hidden and
//! stay, and commands of the primary's own stream see them. Keys no command meets are left to [`crate::expiry`].

use super::{Hashed, Keys};
use crate::entry::EntryRef;
use crate::hash::hash;

impl Keys<'_> {
    /// Removes the key of the selected database where it has expired.
    pub(super) fn expire_now(&mut self, k: Hashed<'_>) {
        if !self.see_expired && !self.keep_expired && self.is_due(self.db, k) {
            self.remove_expired(k);
        }
    }

    pub(super) fn remove_expired(&mut self, k: Hashed<'_>) {
        let db = self.db;
        self.table(k.hash).remove_hashed(k.hash, k.key);
        self.shard(k.hash).stats.expired += 1;
        if !self.doomed.iter().any(|(d, key)| *d == db && &**key == k.key) {
            self.fx.push(db, &[b"DEL", k.key]);
        }
        self.signal(k.key);
    }

    /// Does a key given this expiry vanish at once? Not where a primary decides about expiry, or decided already.
    pub fn is_past(&self, at_ms: i64) -> bool {
        at_ms <= self.now && !self.see_expired && !self.keep_expired
    }

    /// Removes keys that were found expired while they were borrowed.
    pub(crate) fn remove_doomed(&mut self) {
        if self.doomed.is_empty() {
            return;
        }
        let selected = self.db;
        for (db, key) in std::mem::take(&mut self.doomed) {
            self.db = db;
            let k = Hashed { key: &key, hash: hash(&key) };
            if self.is_due(db, k) {
                self.table(k.hash).remove_hashed(k.hash, &key);
                self.shard(k.hash).stats.expired += 1;
                self.signal(&key);
            }
        }
        self.db = selected;
    }

    /// Is there a key whose time is up?
    pub(crate) fn is_due_key(&mut self, db: u32, key: &[u8]) -> bool {
        self.is_due(db, Hashed { key, hash: hash(key) })
    }

    fn is_due(&mut self, db: u32, k: Hashed<'_>) -> bool {
        let now = self.now;
        let entry = self.shard(k.hash).dbs[db as usize].get_hashed(k.hash, k.key);
        entry.and_then(EntryRef::expire).is_some_and(|at| at <= now)
    }
}
