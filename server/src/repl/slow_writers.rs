//! `repl-sync-slow-writers`: writers wait a little for a replica in its first sync, so that it is not dropped for being
//! slower than they are.
//!
//! What is written during a full sync is held for the replica. Where its link is slower than the writes, that grows until
//! `client-output-buffer-limit replica` drops it, and it begins again: a loop of full syncs. With this directive each batch of
//! a client that wrote waits once more than [`FROM`] of the limit is held, by steps that double on the way to the limit:
//!
//! ```text
//!   held, of the limit   1/2    5/8    3/4    7/8    1
//!   a batch waits        1 ms   ...    ...    ...    512 ms
//! ```
//!
//! So writes come down to what the link takes, and a replica that takes nothing is dropped as ever: nobody waits for it for
//! good. Reads never wait, and neither do writes once the replica has caught up for the first time.

use super::primary::Replica;
use crate::config::{ClientClass, Config};
use crate::ground::stats::Counter;
use sluice_engine::Log;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The share of the limit from which on writers wait: 1 in this many.
const FROM: u64 = 2;
/// Steps from there to the limit; each doubles the wait, from one millisecond on.
const STEPS: u64 = 9;
/// A replica that has acknowledged all but 1 in this many of its limit has caught up.
const CAUGHT_UP: u64 = 16;

/// Nothing is held for a replica in its first sync.
const NOTHING: u64 = u64::MAX;

/// What is held for replicas in their first sync, and how often writers waited for it.
pub(crate) struct SlowWriters {
    /// The log is held from here, or from [`NOTHING`]. Looked at anew ten times a second; what is written in between counts
    /// at once.
    from: AtomicU64,
    /// The limit that holds for them.
    limit: AtomicU64,
    pub(crate) waits: Counter,
}

impl Default for SlowWriters {
    fn default() -> SlowWriters {
        SlowWriters { from: AtomicU64::new(NOTHING), limit: AtomicU64::new(0), waits: Counter::default() }
    }
}

/// Where one replica stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pressure {
    /// From the full sync it asked for until it has caught up.
    syncing: bool,
    /// The log is held for it from here, where writers are to care.
    from: u64,
}

impl SlowWriters {
    /// How long a batch that wrote waits now.
    #[inline]
    pub(crate) fn wait(&self, log: &Log) -> Option<Duration> {
        if self.from.load(Ordering::Relaxed) == NOTHING {
            return None;
        }
        let ms = self.wait_ms(log);
        (ms > 0).then(|| {
            self.waits.bump();
            Duration::from_millis(u64::from(ms))
        })
    }

    /// The same in milliseconds, as INFO shows it.
    pub(crate) fn wait_ms(&self, log: &Log) -> u32 {
        match self.from.load(Ordering::Relaxed) {
            NOTHING => 0,
            from => wait(log.end().saturating_sub(from), self.limit.load(Ordering::Relaxed)),
        }
    }

    /// Goes by the replicas there are.
    pub(super) fn update(&self, replicas: &BTreeMap<u64, Replica>) {
        let from = replicas.values().map(|r| r.pressure.from).min().unwrap_or(NOTHING);
        self.from.store(from, Ordering::Relaxed);
    }
}

impl Pressure {
    /// Of a replica that begins with a full sync, or goes on from the log.
    pub(super) fn new(syncing: bool) -> Pressure {
        Pressure { syncing, from: NOTHING }
    }

    /// `lag` bytes of the log up to `end` are held for the replica; it has acknowledged so much, where its full sync is
    /// over. What is on the way to it is neither.
    pub(super) fn note(
        &mut self,
        writers: &SlowWriters,
        config: &Config,
        (end, lag): (u64, u64),
        acknowledged: Option<u64>,
    ) {
        let limit = limit(config);
        let behind = acknowledged.map_or(u64::MAX, |offset| end.saturating_sub(offset));
        self.syncing &= limit.is_some_and(|limit| behind > limit / CAUGHT_UP);
        let slows = config.repl_sync_slow_writers && self.syncing;
        self.from = NOTHING;
        if let Some(limit) = limit.filter(|_| slows) {
            self.from = end.saturating_sub(lag);
            writers.limit.store(limit, Ordering::Relaxed);
        }
    }
}

/// What drops a replica that lags: the smaller of the two limits. Nothing is to be feared where there is none.
fn limit(config: &Config) -> Option<u64> {
    let limit = config.client_output_buffer_limit.of(ClientClass::Replica);
    let least = [limit.hard, limit.soft].into_iter().filter(|limit| *limit > 0).min()?;
    Some(least.max(config.repl_backlog_size))
}

/// Milliseconds to wait where `lag` of `limit` bytes are held.
fn wait(lag: u64, limit: u64) -> u32 {
    let from = limit / FROM;
    let Some(over) = lag.checked_sub(from).filter(|over| *over > 0) else { return 0 };
    let room = (limit - from).max(1);
    1 << (u128::from(over) * u128::from(STEPS) / u128::from(room)).min(u128::from(STEPS)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_on_the_way_to_the_limit_and_ends_there() {
        let limit = 64 << 20;
        assert_eq!(wait(0, limit), 0);
        assert_eq!(wait(limit / 2, limit), 0);
        assert_eq!(wait(limit / 2 + 1, limit), 1);
        assert!(wait(limit / 4 * 3, limit) >= 16);
        assert_eq!(wait(limit, limit), 512);
        assert_eq!(wait(u64::MAX, limit), 512);
        let waits: Vec<u32> = (0..=64).map(|mb| wait(mb << 20, limit)).collect();
        assert!(waits.is_sorted());
        // No limit is so small that this divides by nothing.
        assert_eq!((wait(1, 1), wait(0, 0), wait(5, 0)), (512, 0, 512));
    }
}
