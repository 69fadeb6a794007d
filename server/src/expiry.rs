//! The active expiry: removes keys whose time is up although no command meets them.
//!
//! A short round now and then is enough where few keys are due. Where many are, round follows round, each a slice that
//! holds up the connections of this worker for no longer than the short one, with pauses between them in which the
//! connections run: `active-expire-effort` says which part of the time the slices may take, and how many expired keys in a
//! hundred may stay for the next period.

use crate::ground::gate;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often there is a round.
const PERIOD: Duration = Duration::from_millis(100);
/// Time that a round may take.
const SLICE: Duration = Duration::from_millis(1);

/// What an effort from 1 to 10 allows. Both figures are those of Redis (`expire.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Effort {
    /// Percent of the time that rounds may take where much has expired.
    time: u32,
    /// Percent of keys with an expiry that may have expired without a round following at once.
    stale: usize,
}

impl Effort {
    fn new(effort: u32) -> Effort {
        let more = effort.clamp(1, 10) - 1;
        Effort { time: 25 + 2 * more, stale: 10 - more as usize }
    }

    /// How long to pause after a slice.
    fn pause(self) -> Duration {
        SLICE * (100 - self.time) / self.time
    }
}

/// Runs for as long as the server does.
pub(crate) async fn run(server: Arc<Server>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if !may_expire(&server) {
            continue;
        }
        let mut round = server.engine.expire_round(SLICE);
        server.engine.expire_own(SLICE);
        loop {
            let effort = Effort::new(server.config.load().active_expire_effort);
            if !round.left_more_than(effort.stale) {
                break;
            }
            tokio::time::sleep(effort.pause()).await;
            if !may_expire(&server) {
                break;
            }
            round = server.engine.expire_round(SLICE);
        }
    }
}

fn may_expire(server: &Server) -> bool {
    let paused = server.gate.load(Ordering::Acquire) & gate::PAUSED != 0;
    server.active_expire.load(Ordering::Relaxed) && !server.is_loading() && !paused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_effort_takes_more_time_and_leaves_fewer_expired_keys() {
        assert_eq!(Effort::new(1), Effort { time: 25, stale: 10 });
        assert_eq!(Effort::new(10), Effort { time: 43, stale: 1 });
        let pauses: Vec<Duration> = (1..=10).map(|effort| Effort::new(effort).pause()).collect();
        assert!(pauses.windows(2).all(|two| two[0] > two[1]), "{pauses:?}");
        assert_eq!(pauses[0], 3 * SLICE);
    }
}
