//! A command that asks to wait, and keys that others wait for.

use super::keys::{Ctx, Keys};
use super::waiting::{Nothing, Wish};
use crate::hash::hash;

impl Ctx<'_> {
    /// Waits as `wish` says, or replies nothing at once where waiting is not allowed (EXEC, the primary's stream).
    pub(crate) fn block(&mut self, wish: Wish) {
        if self.keys.may_block {
            self.keys.fx.wish = Some(wish);
        } else {
            match wish.nothing {
                Nothing::Array => self.out.null_array(),
                Nothing::Element => self.out.null(),
            }
        }
    }
}

impl Keys<'_> {
    /// Notes that a key changed which somebody waits for.
    #[cold]
    pub(crate) fn note_ready(&mut self, db: u32, key: &[u8]) {
        let h = hash(key);
        let index = self.inner.shard_of(h);
        let waited = self.held.shard(index).blocked.get(key).is_some_and(|q| q.is_awaited_in(db));
        if waited {
            self.fx.ready.add(db, key);
        }
    }

    /// Notes every key of a database that somebody waits for and that exists: the database was swapped in.
    pub(crate) fn note_all_ready(&mut self, db: u32) {
        let mut found = Vec::new();
        self.held.each(|_, shard| {
            for (key, queue) in &shard.blocked {
                if queue.is_awaited_in(db) && shard.dbs[db as usize].get(key).is_some() {
                    found.push(key.clone());
                }
            }
        });
        found.iter().for_each(|key| self.fx.ready.add(db, key));
    }
}
