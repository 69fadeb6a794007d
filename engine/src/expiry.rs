//! Expiry that waits for nobody: keys whose time is up are removed although no command comes by.
//!
//! A command that meets an expired key removes it (see [`crate::keyspace`]). The others are found here: on a primary by
//! a walk over the keys that have an expiry ([`Engine::expire_cycle`]), on a replica only those that clients wrote to it
//! ([`own`]), as its primary deletes the rest. Neither removes a key while nothing may change. Both run for as long as the embedder gives them, hold one shard's lock at
//! a time, and only for a step; when to call them is the embedder's business.

pub(crate) mod own;

use crate::engine::Engine;
use crate::keyspace::visibility::expired;
use crate::keyspace::{Effects, Shard};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Keys are removed in steps of at most this many per shard lock.
const EXPIRE_STEP: usize = 64;

/// What a round of the active expiry found.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct ExpireRound {
    /// Keys with an expiry it came by.
    pub seen: usize,
    /// Those it removed, as their time was up.
    pub removed: usize,
    /// It came round every shard, and did not end for lack of time.
    pub complete: bool,
}

impl ExpireRound {
    /// Is it worth going on at once? It is where the round ended early and more than so many in a hundred of the keys it
    /// came by had expired.
    pub fn left_more_than(&self, percent: usize) -> bool {
        !self.complete && self.removed * 100 > self.seen * percent
    }
}

/// # Expired keys
impl Engine {
    /// Removes expired keys for at most `budget`; returns how many. Call it regularly on a primary. On a replica, and while
    /// [writes wait](Engine::hold_writes), it does nothing.
    pub fn expire_cycle(&self, budget: Duration) -> usize {
        self.expire_round(budget).removed
    }

    /// As [`Engine::expire_cycle`], and tells what it found: whether the next round should come soon.
    pub fn expire_round(&self, budget: Duration) -> ExpireRound {
        let mut round = ExpireRound::default();
        if self.inner.role.get().keeps_expired() {
            return ExpireRound { complete: true, ..round };
        }
        let started = Instant::now();
        let mut busy = false;
        let (count, first) = (self.inner.shards.len(), self.inner.expire_shard.load(Ordering::Relaxed));
        for index in (first..first + count).map(|i| i % count) {
            // The next call goes on here, so that one shard with much to do does not keep the others from their turn.
            self.inner.expire_shard.store(index, Ordering::Relaxed);
            // Expired keys a cut still needs would become pre-images: while its queue is full they can wait.
            if started.elapsed() >= budget {
                return round;
            }
            if self.inner.queue_level.is_full() {
                break;
            }
            let mut dbs_done = 0;
            // A whole turn over the shard's databases, or until the time is up; the lock is taken per segment.
            while started.elapsed() < budget && dbs_done < self.inner.databases as usize {
                // A command that holds it for long must not hold this thread up as well: the shard has its turn later.
                let Some(mut shard) = self.inner.shards[index].lock_soon() else { break };
                let db_done = self.expire_step(&mut shard, &mut round);
                dbs_done += usize::from(db_done);
            }
            busy |= dbs_done < self.inner.databases as usize;
        }
        round.complete = !busy;
        round
    }

    /// Removes expired keys of one segment, the one the shard's cursor is at, and moves the cursor on. Returns
    /// whether the cursor came to the end of a database.
    fn expire_step(&self, shard: &mut Shard, round: &mut ExpireRound) -> bool {
        // Looked at under the lock: it may have changed since the cycle began.
        if self.inner.role.get().keeps_expired() {
            return true;
        }
        let (db, position) = shard.expire_cursor;
        let next_db = ((db + 1) % self.inner.databases as usize, 0);
        if shard.dbs[db].with_ttl() == 0 {
            shard.expire_cursor = next_db;
            return true;
        }
        let mut fx = Effects { enabled: self.inner.log.is_active(), ..Effects::default() };
        let Shard { dbs, stats, watched, .. } = &mut *shard;
        let (next, seen, n) = dbs[db].expire_segment(position, self.now_ms(), EXPIRE_STEP, |key| {
            expired(&self.inner, stats, watched, &mut fx, db as u32, key);
        });
        if !fx.buf.is_empty() {
            self.inner.log.append(db as u32, &fx.buf);
        }
        self.announce(&mut fx);
        shard.expire_cursor = if next == 0 { next_db } else { (db, next) };
        round.seen += seen;
        round.removed += n;
        next == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::console::Console;

    const LONG: Duration = Duration::from_secs(600);

    /// Keys without an expiry, with one that is far, and with one that has passed.
    fn engine(stay: usize, later: usize, due: usize) -> Engine {
        let engine = Engine::default();
        let mut loader = engine.loader();
        let groups = [(stay, None, "stay"), (later, Some(i64::MAX), "later"), (due, Some(1), "due")];
        for (count, expire, name) in groups {
            (0..count)
                .for_each(|n| assert!(loader.string(0, format!("{name}:{n}").as_bytes(), b"v", expire, 0)));
        }
        loader.finish();
        engine
    }

    #[test]
    fn a_round_tells_what_it_saw_and_whether_the_next_should_follow_at_once() {
        let engine = engine(1_000, 2_000, 3_000);
        let none = engine.expire_round(Duration::ZERO);
        assert_eq!((none, none.left_more_than(10)), (ExpireRound::default(), false));
        let all = engine.expire_round(LONG);
        assert!(all.complete && all.removed == 3_000 && all.seen >= 5_000, "{all:?}");
        assert!(!all.left_more_than(0), "there is nothing left");
        let after = engine.expire_round(LONG);
        assert_eq!((after.removed, after.left_more_than(0)), (0, false));
        assert_eq!(engine.db_sizes()[0], (3_000, 2_000));

        let early = |seen, removed| ExpireRound { seen, removed, complete: false };
        assert!(early(100, 11).left_more_than(10) && !early(100, 10).left_more_than(10));
        assert!(early(100, 2).left_more_than(1));
    }

    #[test]
    fn short_rounds_one_after_the_other_come_to_an_end_where_everything_is_due() {
        let engine = engine(0, 0, 50_000);
        let mut removed = 0;
        while engine.db_sizes()[0].0 > 0 {
            let round = engine.expire_round(Duration::from_micros(500));
            removed += round.removed;
            assert!(round.removed == 0 || round.complete || round.left_more_than(10), "{round:?}");
        }
        assert_eq!((removed, engine.db_sizes()[0]), (50_000, (0, 0)));
    }

    #[test]
    fn nothing_is_removed_while_nothing_may_change() {
        let mut c = Console::new();
        c.run("SET k v PXAT 1000");
        c.logged();
        for hold in [Engine::hold_writes, Engine::set_replica] {
            hold(&c.engine, true);
            assert_eq!(c.engine.expire_cycle(Duration::from_secs(1)), 0);
            assert_eq!(c.engine.expire_own(Duration::from_secs(1)), 0);
            hold(&c.engine, false);
        }
        assert!(c.logged().is_empty());
        assert_eq!(c.engine.expire_cycle(Duration::from_secs(1)), 1);
        assert_eq!(c.logged(), ["DEL k"]);
    }
}
