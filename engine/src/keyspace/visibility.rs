//! Keys whose time is up, as a command meets them: who removes them, and when.
//!
//! On a primary an expired key is gone for every command: whoever meets it, read or write, removes it before it goes on,
//! with its DEL among the effects before the command's own. So nothing is left to be done when the command ends, and a
//! key that a command makes again is a new one. Where the primary decides (on a replica) expired keys are hidden and
//! stay until a client writes to one, and commands of the primary's own stream see them. Keys no command meets are left to [`crate::expiry`].

use super::effects::Effects;
use super::events::Event;
use super::keys::{Hashed, Keys};
use super::shard::{Shard, ShardStats, Watched};
use crate::hash::hash;
use crate::shared::Shared;
use crate::value::EntryRef;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A key has gone because its time was up: its deletion is logged, it is counted, and its watchers are told. The caller has
/// removed it from its table.
pub(crate) fn expired(
    inner: &Shared,
    stats: &mut ShardStats,
    watched: &mut Watched,
    fx: &mut Effects,
    db: u32,
    key: &[u8],
) {
    stats.expired += 1;
    fx.push(db, &[b"DEL", key]);
    if inner.watchers.load(Ordering::Relaxed) != 0 {
        watched.changed(db, key, || false);
    }
    fx.note(&inner.listening, db, key, Event::Expired);
}

/// Removes a key whose time is up.
#[cold]
pub(super) fn expire(inner: &Shared, shard: &mut Shard, fx: &mut Effects, db: u32, k: Hashed<'_>) {
    let Shard { dbs, stats, watched, .. } = shard;
    dbs[db as usize].remove_hashed(k.hash, k.key);
    expired(inner, stats, watched, fx, db, k.key);
}

impl Keys<'_> {
    /// Removes the key of the selected database where it has expired, for a command that is about to write it. That a
    /// primary decides about expiry protects a key from being removed by those who only look: a client that may write here
    /// writes to what it sees, which is no key.
    pub(super) fn expire_now(&mut self, k: Hashed<'_>) {
        if !self.see_expired && self.is_due(self.db, k) {
            self.remove_expired(k);
        }
    }

    pub(super) fn remove_expired(&mut self, k: Hashed<'_>) {
        let index = self.inner.shard_of(k.hash);
        expire(self.inner, self.held.shard(index), self.fx, self.db, k);
    }

    /// Does a key given this expiry vanish at once? Not where a primary decides about expiry, or decided already.
    pub fn is_past(&self, at_ms: i64) -> bool {
        at_ms <= self.now && !self.see_expired && !self.keep_expired
    }

    /// Has a key's time come since a session began to watch it?
    pub(crate) fn expired_since(&mut self, db: u32, key: &[u8], flag: &Arc<AtomicBool>) -> bool {
        let k = Hashed { key, hash: hash(key) };
        self.is_due(db, k) && !self.shard(k.hash).watched.was_due(db, key, flag)
    }

    fn is_due(&mut self, db: u32, k: Hashed<'_>) -> bool {
        let now = self.now;
        let entry = self.shard(k.hash).dbs[db as usize].get_hashed(k.hash, k.key);
        entry.and_then(EntryRef::expire).is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::console::Console;

    /// Expired when the console begins, as the log says nothing else about it.
    const PAST: &str = "PXAT 1000";

    #[test]
    fn a_key_that_the_command_which_found_it_expired_makes_again_stays_and_the_log_says_the_same() {
        let expected: [(&str, &[&str]); 5] = [
            ("SET k new GET PXAT 1", &["MULTI", "DEL k", "SET k new PXAT 1", "EXEC"]),
            ("SET k new GET", &["MULTI", "DEL k", "SET k new", "EXEC"]),
            ("GETSET k new", &["MULTI", "DEL k", "SET k new", "EXEC"]),
            ("MULTI;GET k;SET k new PXAT 1;EXEC", &["MULTI", "DEL k", "SET k new PXAT 1", "EXEC"]),
            (
                "MULTI;GET k;SET k new PXAT 1;GET k;EXEC",
                &["MULTI", "DEL k", "SET k new PXAT 1", "DEL k", "EXEC"],
            ),
        ];
        for (lines, effects) in expected {
            let mut c = Console::new();
            c.run("SET first 1");
            c.run(&format!("SET k old {PAST}"));
            c.logged();
            lines.split(';').for_each(|line| assert!(!c.run(line).starts_with('-'), "{line}"));
            assert_eq!(c.logged(), effects, "{lines}");
            let there = c.engine.exclusive(0, &mut Vec::new(), |cx| cx.keys.raw(b"k").is_some());
            assert_eq!(there, effects[effects.len() - 2].starts_with("SET"), "{lines}");
        }
    }

    #[test]
    fn each_of_many_expired_keys_goes_once_whatever_meets_it() {
        const KEYS: usize = 5_000;
        for name in
            ["EXISTS", "MGET", "DEL", "UNLINK", "TOUCH", "SUNION", "SINTERSTORE to", "PFCOUNT", "WATCH"]
        {
            let mut c = Console::new();
            for i in 0..KEYS {
                c.run(&format!("SET {i} x {PAST}"));
            }
            let keys: Vec<String> = (0..KEYS).map(|i| i.to_string()).collect();
            c.logged();
            // Named twice: what is gone is not met again.
            assert!(
                !c.run(&format!("{name} {} {}", keys.join(" "), keys.join(" "))).starts_with('-'),
                "{name}"
            );
            let mut logged = c.logged();
            if name == "WATCH" {
                assert!(logged.is_empty());
                assert_eq!(c.session.watching(), KEYS);
                continue;
            }
            assert_eq!((logged.remove(0), logged.pop()), ("MULTI".into(), Some("EXEC".into())), "{name}");
            assert_eq!(logged, keys.iter().map(|k| format!("DEL {k}")).collect::<Vec<_>>(), "{name}");
            assert_eq!(c.run("DBSIZE"), ":0");
        }
    }
}
