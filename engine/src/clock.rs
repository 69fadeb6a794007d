//! The time an engine sees: that of the system, or one that its owner moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where an engine takes the time from: see [`EngineBuilder::clock`](crate::EngineBuilder::clock).
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's time.
    #[default]
    System,
    /// A time that stands still until somebody moves it.
    Manual(ManualClock),
}

impl Clock {
    /// The time, in Unix milliseconds.
    #[inline]
    pub fn now_ms(&self) -> i64 {
        match self {
            Clock::System => now_ms(),
            Clock::Manual(clock) => clock.now_ms(),
        }
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Clock {
        Clock::Manual(clock)
    }
}

/// A clock that stands still until it is moved; clones are the same clock. Every engine built with it sees its time: in
/// commands and typed calls, when keys expire, in what is logged.
///
/// ```
/// use sluice_engine::{Engine, Expiry, ManualClock, SetOptions, Ttl};
/// use std::time::Duration;
///
/// let clock = ManualClock::at(1_000_000);
/// let engine = Engine::builder().clock(clock.clone()).build();
/// let db = engine.db(0);
/// db.set_with("lease", "me", SetOptions { expiry: Expiry::In(Duration::from_secs(10)), ..Default::default() })?;
/// clock.advance(Duration::from_secs(9));
/// assert_eq!(db.ttl("lease"), Ttl::Left(Duration::from_secs(1)));
/// clock.advance(Duration::from_secs(1));
/// assert!(!db.exists("lease"));
/// # Ok::<(), sluice_engine::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows this time, in Unix milliseconds.
    pub fn at(ms: i64) -> ManualClock {
        ManualClock(Arc::new(AtomicI64::new(ms)))
    }

    /// The time it shows, in Unix milliseconds.
    #[inline]
    pub fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    /// Moves it on by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_add(by)));
    }

    /// Moves it to a time, in Unix milliseconds; it may be an earlier one.
    pub fn set_ms(&self, ms: i64) {
        self.0.store(ms, Ordering::Release);
    }
}

/// The system's time in Unix milliseconds.
#[inline]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}
