//! CLIENT PAUSE: commands of clients wait, all of them or those that write. A failover pauses writes as well.
//!
//! While writes wait nothing else may change the data or the log either: keys that expire are hidden, and deleted
//! later, as on a replica. Replicas and the link to a primary are never paused. When [`pause`] returns, no command is under
//! way that was let through before: the engine holds writes itself, where a command has its locks.

use crate::ground::gate;
use crate::server::Server;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::Notify;

/// What waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Mode {
    /// Commands that write.
    Write,
    /// Every command.
    All,
}

/// Who asked; each has a pause of its own, and they add up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reason {
    /// CLIENT PAUSE.
    Client,
    /// FAILOVER.
    Failover,
    /// A shutdown waits for replicas.
    Shutdown,
}

/// The pauses in force.
#[derive(Default)]
pub(crate) struct Pause {
    /// By [`Reason`]: what waits, and until when on the server's clock.
    pauses: Mutex<[Option<(Mode, u64)>; 3]>,
    changed: Notify,
}

impl Pause {
    /// What waits now.
    pub(crate) fn mode(&self, now: u64) -> Option<Mode> {
        self.pauses.lock().iter().flatten().filter(|(_, until)| *until > now).map(|(mode, _)| *mode).max()
    }

    /// A failover holds writes: the log must not grow by anything.
    pub(crate) fn by_failover(&self) -> bool {
        self.pauses.lock()[Reason::Failover as usize].is_some()
    }

    fn ends(&self) -> u64 {
        self.pauses.lock().iter().flatten().map(|(_, until)| *until).max().unwrap_or(0)
    }

    /// Waits until something changes: the pause is over, or another.
    pub(crate) async fn wait(&self, now: u64) {
        let changed = self.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let left = self.ends().saturating_sub(now);
        if left > 0 {
            let _ = tokio::time::timeout(Duration::from_millis(left), changed).await;
        }
    }
}

/// Pauses until `until` on the server's clock. A pause in force for the same reason can only become longer and stricter;
/// one that is over has no say.
pub(crate) fn pause(server: &Server, reason: Reason, mode: Mode, until: u64) {
    let now = server.clock();
    {
        let mut pauses = server.pause.pauses.lock();
        let slot = &mut pauses[reason as usize];
        let in_force = slot.filter(|(_, until)| *until > now);
        *slot = Some(in_force.map_or((mode, until), |(m, u)| (m.max(mode), u.max(until))));
    }
    update(server);
}

/// Ends the pause for this reason.
pub(crate) fn resume(server: &Server, reason: Reason) {
    server.pause.pauses.lock()[reason as usize] = None;
    update(server);
}

/// Notices pauses that have run out; called every 100 ms.
pub(crate) fn cron(server: &Server) {
    let now = server.clock();
    let over = {
        let mut pauses = server.pause.pauses.lock();
        let mut over = false;
        for slot in pauses.iter_mut() {
            over |= slot.take_if(|(_, until)| *until <= now).is_some();
        }
        over
    };
    if over {
        update(server);
    }
}

/// Has the pauses there are take effect: one after the other, so that who changed them last has the last word.
fn update(server: &Server) {
    let now = server.clock();
    let pauses = server.pause.pauses.lock();
    let paused = pauses.iter().flatten().any(|(_, until)| *until > now);
    server.set_gate(gate::PAUSED, paused);
    server.engine.hold_writes(paused);
    drop(pauses);
    server.pause.changed.notify_waiters();
}
