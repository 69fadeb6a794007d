//! Keys that a writable replica must expire itself.
//!
//! A replica hides expired keys and waits for its primary to delete them. The primary does not know of keys that
//! clients wrote to the replica, so those with an expiry are remembered here, by name, and looked at now and then.

use crate::command::{Command, Flags};
use crate::engine::Engine;
use crate::hash::hash;
use crate::keyspace::Ctx;
use parking_lot::Mutex;
use smallvec::SmallVec;
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
    /// Remembers the keys of a write on a replica that it gave an expiry. One that a key of the primary's had before is the
    /// primary's to heed.
    #[cold]
    pub(crate) fn note(&self, cx: &mut Ctx<'_>, command: &Command, args: &[&[u8]], before: &Expiries) {
        let (db, mut had) = (cx.keys.db, before.0.iter());
        command.keys.each(args, |at| {
            let had = had.next().copied().flatten();
            let has = cx.keys.raw(args[at]).and_then(|e| e.expire());
            if has.is_some() && has != had {
                self.keys.lock().insert((db, args[at].into()));
                self.any.store(true, Ordering::Release);
            }
        });
    }
}

/// When the keys of a command expire, in the order of the arguments.
pub(crate) struct Expiries(SmallVec<[Option<i64>; 4]>);

impl Expiries {
    /// Of a command that a client sends to a replica, before it runs; none of any other.
    #[inline]
    pub(crate) fn before(
        cx: &mut Ctx<'_>,
        command: &Command,
        args: &[&[u8]],
        from_primary: bool,
    ) -> Option<Expiries> {
        let notes = cx.keys.replica && !from_primary && command.flags.contains(Flags::WRITE);
        notes.then(|| Expiries::of(cx, command, args))
    }

    #[cold]
    fn of(cx: &mut Ctx<'_>, command: &Command, args: &[&[u8]]) -> Expiries {
        let mut all = SmallVec::new();
        command.keys.each(args, |at| all.push(cx.keys.raw(args[at]).and_then(|e| e.expire())));
        Expiries(all)
    }
}

impl Engine {
    /// Forgets which keys were written here: they went with the data, or this server decides about all keys from now on.
    pub fn forget_own_expiries(&self) {
        let mut keys = self.inner.own_expiries.keys.lock();
        keys.clear();
        self.inner.own_expiries.any.store(false, Ordering::Release);
    }

    /// Keys with an expiry that clients wrote to this replica.
    pub fn own_expiries(&self) -> usize {
        self.inner.own_expiries.keys.lock().len()
    }

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
            let Some(mut shard) = self.inner.shards[self.inner.shard_of(h)].lock_soon() else { return true };
            let at = shard.dbs[*db as usize].get_hashed(h, key).and_then(|e| e.expire());
            let due = at.is_some_and(|at| at <= now);
            if due {
                shard.dbs[*db as usize].remove_hashed(h, key);
                shard.stats.expired += 1;
                removed += 1;
                shard.watched.raise(*db, key);
            }
            at.is_some() && !due
        });
        let mut all = own.keys.lock();
        all.extend(keys);
        own.any.store(!all.is_empty(), Ordering::Release);
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Outcome, Request};

    fn run(engine: &Engine, from_primary: bool, words: &[&str]) -> String {
        let mut session = engine.session();
        session.from_primary = from_primary;
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let mut out = Vec::new();
        let row = engine.lookup(args[0]).expect("a command");
        let outcome =
            engine.call(&mut session, row, Request { args: &args, raw: None }, &mut out, &mut |_, _, _| {});
        assert_eq!(outcome, Outcome::Done);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn what_a_client_adds_to_a_key_leaves_its_expiry_to_the_primary() {
        let engine = Engine::default();
        engine.set_replica(true);
        run(&engine, true, &["SET", "theirs", "1", "PXAT", "9000000000000"]);
        run(&engine, false, &["APPEND", "theirs", "2"]);
        run(&engine, false, &["SETBIT", "theirs", "7", "1"]);
        assert!(engine.inner.own_expiries.keys.lock().is_empty());
        run(&engine, false, &["PEXPIREAT", "theirs", "9000000000001"]);
        assert_eq!(engine.inner.own_expiries.keys.lock().len(), 1);
    }

    #[test]
    fn what_is_hidden_is_not_there_for_an_edit() {
        for edit in [["SETRANGE", "k", "2", "x"], ["SETBIT", "k", "20", "1"]] {
            let engine = Engine::default();
            engine.set_replica(true);
            run(&engine, true, &["SET", "k", "old value", "PXAT", "1000"]);
            run(&engine, false, &edit);
            assert_eq!(run(&engine, false, &["STRLEN", "k"]), ":3\r\n", "{edit:?}");
            assert_eq!(run(&engine, false, &["PTTL", "k"]), ":-1\r\n", "{edit:?}");
        }
    }

    #[test]
    fn a_replica_expires_what_was_written_to_it_and_nothing_else() {
        let engine = Engine::default();
        engine.set_replica(true);
        engine.log().activate();
        run(&engine, true, &["SET", "theirs", "1", "PXAT", "1000"]);
        run(&engine, false, &["SET", "ours", "1", "PXAT", "1000"]);
        run(&engine, false, &["SET", "later", "1", "EX", "1000"]);
        run(&engine, false, &["SET", "for ever", "1"]);
        assert_eq!(run(&engine, false, &["DBSIZE"]), ":4\r\n");
        assert_eq!(engine.expire_own(Duration::from_secs(1)), 1);
        assert_eq!(run(&engine, false, &["DBSIZE"]), ":3\r\n");
        run(&engine, false, &["PEXPIREAT", "later", "1000"]);
        run(&engine, false, &["PERSIST", "for ever"]);
        assert_eq!(engine.expire_own(Duration::from_secs(1)), 1);
        assert_eq!(engine.expire_own(Duration::from_secs(1)), 0);
        assert_eq!(run(&engine, false, &["DBSIZE"]), ":2\r\n");
        assert_eq!(engine.log().end(), 0, "the log is the primary's");
    }
}
