//! Waiting for events: look again and again until something holds, and fail at a deadline with what was missing.

use std::time::{Duration, Instant};

/// How long anything may take on a busy two-core machine before a test gives up.
pub const LIMIT: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until `probe` returns something.
///
/// # Panics
///
/// After [`LIMIT`], naming `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", LIMIT.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}
