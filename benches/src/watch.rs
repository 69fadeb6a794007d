//! Watching a sync: the primary's memory and disk bytes every few milliseconds, and each replica
//! until it is in sync.

use crate::account::{Account, Writes};
use crate::error::Result;
use crate::process::Server;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the primary's memory and disk bytes.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// Between two questions to a replica.
const ASK_EVERY: Duration = Duration::from_millis(3);
/// How long a replica that has caught up may have another number of keys (expiring ones differ).
const KEYS_GRACE: Duration = Duration::from_secs(5);

/// The most a primary used.
pub(crate) struct Peak {
    /// Bytes of anonymous memory.
    pub(crate) memory: u64,
    /// Bytes it sent to disk since the count began.
    pub(crate) disk: u64,
}

/// Looks at an account until told to stop.
pub(crate) fn peak(account: &Account, mut writes: Writes, stop: &AtomicBool) -> Peak {
    let mut memory = 0;
    loop {
        // The flag first, so that there is one look after it is set.
        let last = stop.load(Ordering::Relaxed);
        memory = memory.max(account.memory());
        writes.sample();
        if last {
            return Peak { memory, disk: writes.bytes() };
        }
        std::thread::sleep(SAMPLE_EVERY);
    }
}

/// When a replica got in sync.
pub(crate) struct InSync {
    pub(crate) at: Instant,
    /// Whether it had as many keys as its primary.
    pub(crate) same_keys: bool,
}

/// Waits until a replica is in sync: its link up, its offset at least what the primary's was
/// when the link was first seen up, and as many keys in each database. `None` at the deadline.
pub(crate) fn in_sync(primary: &Server, replica: &Server, deadline: Instant) -> Result<Option<InSync>> {
    let mut primary = primary.client()?;
    let mut replica = replica.client()?;
    let mut target = None;
    let mut caught_up = None;
    while Instant::now() < deadline {
        let info = replica.info("replication")?;
        let up = info.get("role") == Some("slave") && info.get("master_link_status") == Some("up");
        if up && info.number("master_sync_in_progress").unwrap_or(0.0) == 0.0 {
            let goal = match target {
                Some(goal) => goal,
                None => primary.info("replication")?.number("master_repl_offset").unwrap_or(0.0),
            };
            target = Some(goal);
            if info.number("slave_repl_offset").unwrap_or(-1.0) >= goal {
                let at = *caught_up.get_or_insert_with(Instant::now);
                if replica.info("keyspace")?.keyspace() == primary.info("keyspace")?.keyspace() {
                    return Ok(Some(InSync { at: Instant::now(), same_keys: true }));
                }
                if at.elapsed() > KEYS_GRACE {
                    return Ok(Some(InSync { at, same_keys: false }));
                }
            }
        } else {
            // Lost again: what it must catch up with is asked anew.
            (target, caught_up) = (None, None);
        }
        std::thread::sleep(ASK_EVERY);
    }
    Ok(None)
}
