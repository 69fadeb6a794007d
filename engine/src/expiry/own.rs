//! Keys that a writable replica must expire itself.
//!
//! A replica hides expired keys and waits for its primary to delete them. The primary does not know of keys that
//! clients wrote to the replica, so those with an expiry are remembered here, by name, and looked at now and then.

use crate::engine::Engine;
use crate::hash::hash;
use crate::keyspace::own::OwnExpiries;
use crate::keyspace::visibility::expired;
use crate::keyspace::{Ctx, Effects, Shard};
use smallvec::SmallVec;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl OwnExpiries {
    /// Remembers the keys of a write on a replica that it gave an expiry. One that a key of the primary's had before is the
    /// primary's to heed.
    #[cold]
    pub(crate) fn note<'k>(&self, cx: &mut Ctx<'_>, keys: impl Iterator<Item = &'k [u8]>, before: &Expiries) {
        let db = cx.keys.db;
        for (key, had) in keys.zip(&before.0) {
            let has = cx.keys.raw(key).and_then(|e| e.expire());
            if let Some(at_ms) = has.filter(|_| has != *had) {
                self.insert(at_ms, db, key);
            }
        }
    }
}

/// When the keys of a command that it sees expire, in the order of the arguments.
pub(crate) struct Expiries(SmallVec<[Option<i64>; 4]>);

impl Expiries {
    /// Of some keys, before a write on a replica that is not its primary's.
    #[cold]
    pub(crate) fn of<'k>(cx: &mut Ctx<'_>, keys: impl Iterator<Item = &'k [u8]>) -> Expiries {
        Expiries(keys.map(|key| cx.keys.expiry(key).flatten()).collect())
    }
}

impl Engine {
    /// Forgets which keys were written here: they went with the data, or this server decides about all keys from now on.
    pub fn forget_own_expiries(&self) {
        self.inner.own_expiries.forget();
    }

    /// Keys with an expiry that clients wrote to this replica.
    pub fn own_expiries(&self) -> usize {
        self.inner.own_expiries.names.lock().times.len()
    }

    /// On a replica: removes expired keys that were written here, for at most `budget`; returns how many. On a primary
    /// there is nothing to do, as [`Engine::expire_cycle`] removes every expired key and logs that.
    pub fn expire_own(&self, budget: Duration) -> usize {
        let (inner, own) = (&self.inner, &self.inner.own_expiries);
        if !own.any.load(Ordering::Acquire) {
            return 0;
        }
        let (started, now) = (Instant::now(), self.now_ms());
        let mut removed = 0;
        while started.elapsed() < budget {
            let due = own.names.lock().due(now);
            let Some(due) = due else { break };
            let (at, (db, key)) = &due;
            let h = hash(key);
            let Some(mut shard) = inner.shards[inner.shard_of(h)].lock_soon() else { break };
            // Looked at under the lock: what is removed is logged nowhere, so it must not be removed on a primary.
            if !inner.role.get().is_replica() {
                own.forget();
                break;
            }
            if !own.names.lock().remove(&due) {
                continue;
            }
            // With another expiry it is the primary's to heed, or known by that one.
            let Shard { dbs, stats, watched, .. } = &mut *shard;
            let table = &mut dbs[*db as usize];
            if table.get_hashed(h, key).and_then(|e| e.expire()) == Some(*at) {
                table.remove_hashed(h, key);
                // The log is the primary's: what is removed here is not logged.
                let mut fx = Effects::default();
                expired(inner, stats, watched, &mut fx, *db, key);
                self.announce(&mut fx);
                removed += 1;
            }
        }
        let names = own.names.lock();
        own.any.store(!names.times.is_empty(), Ordering::Release);
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Outcome, Request};
    use crate::keyspace::own::Name;

    fn run(engine: &Engine, from_primary: bool, words: &[&str]) -> String {
        let mut session = engine.session();
        session.from_primary = from_primary;
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let mut out = Vec::new();
        let row = engine.lookup(args[0]).expect("a command");
        let outcome = engine.call(&mut session, row, Request { args: &args, raw: None }, &mut out);
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
        assert!(engine.inner.own_expiries.names.lock().times.is_empty());
        run(&engine, false, &["PEXPIREAT", "theirs", "9000000000001"]);
        assert_eq!(engine.inner.own_expiries.names.lock().times.len(), 1);
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

    #[test]
    fn a_promoted_replica_logs_the_removal_of_what_was_its_own() {
        let engine = Engine::default();
        engine.set_replica(true);
        engine.log().activate();
        run(&engine, false, &["SET", "ours", "1", "PXAT", "1000"]);
        engine.set_replica(false);
        assert_eq!(engine.expire_own(Duration::from_secs(1)), 0);
        assert_eq!(run(&engine, false, &["DBSIZE"]), ":1\r\n");
        assert_eq!(engine.expire_cycle(Duration::from_secs(1)), 1);
        assert!(engine.log().end() > 0);
        // Nor does it remember, as a replica again, what was its own before.
        engine.set_replica(true);
        run(&engine, true, &["SET", "ours", "1", "PXAT", "1000"]);
        assert_eq!(engine.expire_own(Duration::from_secs(1)), 0);
        assert_eq!(run(&engine, false, &["DBSIZE"]), ":1\r\n");
    }

    #[test]
    fn what_was_its_own_is_forgotten_with_the_data_it_was_among() {
        let forgets: [&dyn Fn(&Engine); 4] = [
            &|engine| engine.clear(),
            &|engine| engine.adopt(engine.beside()),
            &|engine| drop(run(engine, true, &["FLUSHALL"])),
            &|engine| drop(run(engine, true, &["FLUSHDB"])),
        ];
        for forget in forgets {
            let engine = Engine::default();
            engine.set_replica(true);
            run(&engine, false, &["SET", "k", "1", "PXAT", "1000"]);
            forget(&engine);
            run(&engine, true, &["SET", "k", "1", "PXAT", "1000"]);
            assert_eq!(engine.expire_own(Duration::from_secs(1)), 0);
            assert_eq!(run(&engine, false, &["DBSIZE"]), ":1\r\n");
        }
    }

    #[test]
    fn what_is_its_own_is_followed_into_other_databases() {
        let moves: [&[&str]; 4] = [
            &["MOVE", "k", "1"],
            &["COPY", "k", "to", "DB", "1"],
            &["SWAPDB", "0", "1"],
            &["RENAME", "k", "to"],
        ];
        for words in moves {
            let engine = Engine::default();
            engine.set_replica(true);
            run(&engine, false, &["SET", "k", "1", "PXAT", "9000000000000"]);
            run(&engine, false, words);
            let names = engine.inner.own_expiries.names.lock();
            let there = |(_, (db, key)): &&(i64, Name)| {
                let h = hash(key);
                engine.inner.shards[engine.inner.shard_of(h)].lock().dbs[*db as usize].get(key).is_some()
            };
            assert_eq!(
                names.in_order.iter().filter(there).count(),
                if words[0] == "COPY" { 2 } else { 1 },
                "{words:?}"
            );
        }
    }

    #[test]
    fn a_name_is_remembered_once_however_often_its_expiry_changes() {
        let engine = Engine::default();
        engine.set_replica(true);
        for at in 0..100 {
            run(&engine, false, &["SET", "k", "1", "PXAT", &(9_000_000_000_000_i64 + at).to_string()]);
        }
        let names = engine.inner.own_expiries.names.lock();
        assert_eq!((names.times.len(), names.in_order.len()), (1, 1));
    }
}
