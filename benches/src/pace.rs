//! Open-loop pacing: when each request is due is fixed in advance, whatever the server does.
//! Latency counts from the due time, so a stall costs every request that fell due during it.

use std::time::Duration;

/// Due times at a fixed rate, as offsets from a start.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    period_ns: u64,
    next: u64,
}

impl Pace {
    /// `rate` requests a second (0 is taken as 1).
    pub(crate) fn per_second(rate: u64) -> Pace {
        Pace { period_ns: 1_000_000_000 / rate.max(1), next: 0 }
    }

    /// When the current request is due.
    pub(crate) fn due(&self) -> Duration {
        Duration::from_nanos(self.period_ns.saturating_mul(self.next))
    }

    /// How long until it is due; `None` when it is due or overdue.
    pub(crate) fn wait(&self, now: Duration) -> Option<Duration> {
        self.due().checked_sub(now).filter(|d| !d.is_zero())
    }

    /// Goes on to the next request.
    pub(crate) fn advance(&mut self) {
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fall_due_at_the_rate_however_late_they_run() {
        let mut pace = Pace::per_second(1000);
        assert_eq!(pace.due(), Duration::ZERO);
        for _ in 0..500 {
            pace.advance();
        }
        assert_eq!(pace.due(), Duration::from_millis(500));
        assert_eq!(pace.wait(Duration::from_millis(499)), Some(Duration::from_millis(1)));
    }

    #[test]
    fn an_overdue_request_does_not_wait_and_is_not_rescheduled() {
        let mut pace = Pace::per_second(100);
        pace.advance();
        assert_eq!(pace.wait(Duration::from_secs(2)), None);
        pace.advance();
        assert_eq!(pace.due(), Duration::from_millis(20));
    }
}
