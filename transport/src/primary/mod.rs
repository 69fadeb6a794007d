//! The primary's side of replication, without a socket: what each replica told us, what it is answered,
//! and when the next full sync starts.
//!
//! - [`ReplicaPeer`]: one replica's record, from its first REPLCONF to its last ACK;
//! - [`psync`]: whether a PSYNC can be continued from the log;
//! - [`schedule`]: the delay window, which gathers replicas into one full sync;
//! - [`PingTimer`]: the heartbeat that goes into the log.
//!
//! Time is a number of milliseconds on any monotonic clock.

mod peer;
pub mod psync;
pub mod schedule;
#[cfg(test)]
mod tests;

pub use peer::{Capabilities, PeerState, RdbFilter, ReplconfReply, ReplicaPeer};

/// What goes into the log every `repl-ping-replica-period`, so that an idle stream is told from a dead one.
pub const PING_RECORD: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// What asks every replica for an acknowledgement.
pub const GETACK_RECORD: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
/// How often a replica that waits for its payload gets a newline (Redis: its cron, once a second).
pub const NEWLINE_PERIOD_MS: u64 = 1000;

/// Says when the next PING is due in the log.
#[derive(Debug, Default)]
pub struct PingTimer {
    last: u64,
}

impl PingTimer {
    /// Whether to append [`PING_RECORD`] now. Only a server that has replicas, and leads its history, calls this:
    /// a replica passes its primary's PINGs on and adds none.
    pub fn due(&mut self, now: u64, period_ms: u64) -> bool {
        let due = now.saturating_sub(self.last) >= period_ms;
        if due {
            self.last = now;
        }
        due
    }
}

/// How many replicas count for `min-replicas-to-write`: online, and heard within `max_lag_ms`
/// (`min-replicas-max-lag`).
pub fn good_replicas<'a>(
    peers: impl IntoIterator<Item = &'a ReplicaPeer>,
    max_lag_ms: u64,
    now: u64,
) -> usize {
    peers.into_iter().filter(|p| p.is_online() && p.lag_ms(now) <= max_lag_ms).count()
}
