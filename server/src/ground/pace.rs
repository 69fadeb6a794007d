//! Slowing a snapshot or a load down to so much time a key: `rdb-key-save-delay` and `key-load-delay`, which tests use
//! to look at a sync while it is under way.
//!
//! Both are microseconds a key; a negative number is so many keys a microsecond. A change takes effect at once, but for
//! what has a stand-in child. Nothing here sleeps with a lock of the data held: a pause comes between two steps.

use crate::config::{Config, ConfigHandle};
use std::time::{Duration, Instant};

/// Longest sleep in one piece: how soon an order to stop is noticed.
const NAP: Duration = Duration::from_millis(10);

/// Turns a count of keys into a time to wait for.
pub(crate) struct Pace {
    config: ConfigHandle,
    setting: fn(&Config) -> i64,
    /// The setting it keeps, whatever becomes of it.
    kept: Option<i64>,
    keys: u64,
    until: Instant,
}

impl Pace {
    /// By `rdb-key-save-delay`.
    pub(crate) fn new(config: &ConfigHandle) -> Pace {
        Pace {
            config: config.clone(),
            setting: |c| c.rdb_key_save_delay,
            kept: None,
            keys: 0,
            until: Instant::now(),
        }
    }

    /// By `rdb-key-save-delay` as it is now, as a forked child would: where there is a stand-in to be killed.
    pub(crate) fn of_child(config: &ConfigHandle) -> Pace {
        Pace { kept: Some(config.load().rdb_key_save_delay), ..Pace::new(config) }
    }

    /// By `key-load-delay`.
    pub(crate) fn loading(config: &ConfigHandle) -> Pace {
        Pace { setting: |c| c.key_load_delay, ..Pace::new(config) }
    }

    /// There are `keys` in all by now: how long to wait before there may be more.
    pub(crate) fn due(&mut self, keys: u64) -> Duration {
        let setting = self.kept.unwrap_or_else(|| (self.setting)(&self.config.load()));
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
