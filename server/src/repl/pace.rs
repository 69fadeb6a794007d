//! Slowing a snapshot or a load down to so much time a key: `rdb-key-save-delay` and `key-load-delay`, which tests use
//! to look at a sync while it is under way.
//!
//! Both are microseconds a key; a negative number is so many keys a microsecond. A change takes effect at once, but for
//! what has a stand-in child. Nothing
//! here sleeps with a lock of the data held: a pause comes between two steps.

use crate::config::Config;
use crate::state::Server;
use bytes::Bytes;
use sluice_transport::fullsync::cut::CutFigures;
use sluice_transport::fullsync::{ChunkSource, CutError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest sleep in one piece: how soon an order to stop is noticed.
const NAP: Duration = Duration::from_millis(10);

/// Turns a count of keys into a time to wait for.
pub(crate) struct Pace {
    server: Arc<Server>,
    setting: fn(&Config) -> i64,
    /// The setting it keeps, whatever becomes of it.
    kept: Option<i64>,
    keys: u64,
    until: Instant,
}

impl Pace {
    /// By `rdb-key-save-delay`.
    pub(crate) fn new(server: &Arc<Server>) -> Pace {
        Pace {
            server: server.clone(),
            setting: |c| c.rdb_key_save_delay,
            kept: None,
            keys: 0,
            until: Instant::now(),
        }
    }

    /// By `rdb-key-save-delay` as it is now, as a forked child would: where there is a stand-in to be killed.
    pub(crate) fn of_child(server: &Arc<Server>) -> Pace {
        Pace { kept: Some(server.config.load().rdb_key_save_delay), ..Pace::new(server) }
    }

    /// By `key-load-delay`.
    pub(crate) fn loading(server: &Arc<Server>) -> Pace {
        Pace { setting: |c| c.key_load_delay, ..Pace::new(server) }
    }

    /// There are `keys` in all by now: how long to wait before there may be more.
    pub(crate) fn due(&mut self, keys: u64) -> Duration {
        let setting = self.kept.unwrap_or_else(|| (self.setting)(&self.server.config.load()));
        let more = keys.saturating_sub(self.keys);
        self.keys = keys;
        let now = Instant::now();
        if setting == 0 {
            self.until = now;
            return Duration::ZERO;
        }
        if more > 0 {
            let each = if setting > 0 { setting as f64 } else { -1.0 / setting as f64 };
            self.until = self.until.max(now) + Duration::from_secs_f64(each * more as f64 / 1e6);
        }
        self.until.saturating_duration_since(now)
    }

    /// Waits as long as that, or until `stop`.
    pub(crate) fn wait(&mut self, keys: u64, stop: impl Fn() -> bool) {
        loop {
            let due = self.due(keys);
            if due.is_zero() || stop() {
                return;
            }
            std::thread::sleep(due.min(NAP));
        }
    }
}

/// A source that is pulled as fast as the pace allows.
pub(super) struct Paced<'a> {
    source: Box<dyn ChunkSource + 'a>,
    pace: Pace,
    figures: Arc<CutFigures>,
}

impl<'a> Paced<'a> {
    /// Paces `source` by the keys its cut says it has encoded.
    pub(super) fn new(
        source: Box<dyn ChunkSource + 'a>,
        server: &Arc<Server>,
        figures: Arc<CutFigures>,
    ) -> Self {
        Paced { source, pace: Pace::new(server), figures }
    }
}

impl ChunkSource for Paced<'_> {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        self.source.next_chunk()
    }

    fn hold_ms(&mut self) -> u64 {
        let due = self.pace.due(self.figures.keys.load(Ordering::Relaxed));
        // A wait of less than this is made up for by the next.
        due.as_millis() as u64
    }
}
