//! What replies wait for, so that what a client was told is where the policy says.
//!
//! Under `always` that is the disk: replies wait until the log is synced up to where it ended, whoever wrote. Under
//! `everysec` and `no` it is the kernel, which keeps what it was handed when the process is killed. A connection that has to
//! wait yields to the others of its worker, and the first to get its turn again writes (and syncs) for all
//! of them, as one turn of an event loop would.
//!
//! A worker must not wait long for a disk, though. While a background writer keeps it busy, or after a write or sync
//! that took long, the writer's thread does the work and connections wait for it without blocking. And without
//! `always`, where the kernel lets a write wait longer than `aof-write-wait`, replies go out without it until it comes
//! back: the one window in which a kill loses what was acknowledged, up to [`QUEUE_LIMIT`] of log.

use super::group::{Gathering, Membership};
use super::{Aof, QUEUE_LIMIT, progressed};
use crate::server::Server;
use sluice_engine::Log;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

/// A write of a worker that took longer makes the thread write instead, for [`SLOW_MEMORY`].
const SLOW_WRITE: Duration = Duration::from_millis(2);
/// How long a slow write is remembered.
const SLOW_MEMORY: Duration = Duration::from_secs(30);
/// The same for syncs, which nobody expects to be quick: so many times as long as it took.
const SLOW_SYNC: Duration = Duration::from_millis(5);
const SLOW_SYNC_MEMORY: u32 = 10;
/// How long a replica's link sleeps between two looks at the file's progress.
const LINK_WAIT: Duration = Duration::from_micros(200);

/// What replies wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    /// The log is durable up to here.
    Acked(u64),
    /// The log is written up to here.
    Written(u64),
}

/// How writes went lately.
#[derive(Default)]
pub(super) struct Pace {
    /// The clock's milliseconds until which the thread writes.
    slow_until: AtomicU64,
    /// A reply waited for `aof-write-wait`: none does until a write comes back.
    overdue: AtomicBool,
}

impl Aof {
    /// What the replies of a batch that was just run have to wait for; `wrote` where there was a write among them.
    #[inline]
    pub(crate) fn hold(&self, log: &Log, wrote: bool) -> Option<Hold> {
        if !self.writing.load(Ordering::Acquire) {
            return None;
        }
        self.hold_now(log, wrote)
    }

    fn hold_now(&self, log: &Log, wrote: bool) -> Option<Hold> {
        let hold = if self.is_always() {
            Hold::Acked(log.end())
        } else if wrote {
            Hold::Written(log.end())
        } else {
            return None;
        };
        (!self.is_reached(hold)).then_some(hold)
    }

    fn is_reached(&self, hold: Hold) -> bool {
        if !self.writing.load(Ordering::Acquire) {
            return true;
        }
        match hold {
            // Another policy was set meanwhile.
            Hold::Acked(_) if !self.is_always() => true,
            Hold::Acked(end) => self.acked.load(Ordering::Acquire) >= end,
            // While the disk fails writes are refused, so nothing grows without bound.
            Hold::Written(_) if self.figures.write_error.load(Ordering::Acquire) != 0 => true,
            Hold::Written(end) => {
                let written = self.written.load(Ordering::Acquire);
                written >= end || (self.pace.overdue.load(Ordering::Acquire) && end - written <= QUEUE_LIMIT)
            }
        }
    }

    /// The end of the log that replicas may see: under `always` no more than what is durable here, as in Redis.
    pub(crate) fn sendable(&self, log: &Log) -> u64 {
        let end = log.end();
        if self.is_always() && self.writing.load(Ordering::Acquire) {
            return end.min(self.acked.load(Ordering::Acquire));
        }
        end
    }

    /// A write came back.
    pub(super) fn no_longer_overdue(&self) {
        if self.pace.overdue.load(Ordering::Relaxed) {
            self.pace.overdue.store(false, Ordering::Release);
        }
    }
}

/// Waits for it, or brings it about.
pub(crate) async fn wait(server: &Server, hold: Hold, member: &mut Membership) {
    let aof = &server.aof;
    let syncs = matches!(hold, Hold::Acked(_));
    if syncs {
        aof.group.join(member);
    }
    // The others of this worker that have something to run do so first: one turn serves all.
    tokio::task::yield_now().await;
    if aof.is_reached(hold) {
        return;
    }
    if !may_work_here(server) {
        aof.wake();
    } else if let Some(mut lead) = aof.group.lead(&aof.wake) {
        if syncs {
            gather(aof, hold).await;
        }
        if !aof.is_reached(hold) {
            work_here(server);
        }
        lead.done = aof.is_reached(hold);
        drop(lead);
        if aof.is_reached(hold) {
            wake_if_behind(server);
            return;
        }
    }
    if syncs {
        return until_reached(aof, hold).await;
    }
    let most = Duration::from_millis(server.config.load().aof_write_wait);
    if tokio::time::timeout(most, until_reached(aof, hold)).await.is_err() {
        aof.pace.overdue.store(true, Ordering::Release);
        progressed(server);
        until_reached(aof, hold).await;
    }
}

/// Whoever wrote on another worker since, and found that somebody was at it already, counts on somebody.
fn wake_if_behind(server: &Server) {
    let aof = &server.aof;
    // Either they see that nobody leads any more, or their write is seen here.
    fence(Ordering::SeqCst);
    let reached = if aof.is_always() { &aof.acked } else { &aof.written };
    if server.engine.log().end() > reached.load(Ordering::Acquire) {
        aof.wake();
    }
}

async fn until_reached(aof: &Aof, hold: Hold) {
    loop {
        let progressed = aof.progressed.notified();
        tokio::pin!(progressed);
        progressed.as_mut().enable();
        if aof.is_reached(hold) {
            return;
        }
        progressed.await;
    }
}

/// Lets connections run that are expected to have something for the same sync.
async fn gather(aof: &Aof, hold: Hold) {
    let mut gathering = Gathering::begin(&aof.group);
    while gathering.goes_on() && !aof.is_reached(hold) {
        tokio::task::yield_now().await;
    }
}

/// Is the disk one that does not keep a worker for long?
fn may_work_here(server: &Server) -> bool {
    let aof = &server.aof;
    aof.figures.syncs_pending.load(Ordering::Acquire) == 0
        && !server.writes_in_background()
        && server.clock() >= aof.pace.slow_until.load(Ordering::Acquire)
}

/// Writes what there is of the log on this thread, and syncs it under `always`. Does nothing where that is
/// another's turn.
fn work_here(server: &Server) {
    let aof = &server.aof;
    let Some(mut writer) = aof.writer.try_lock() else { return };
    let Some(w) = &mut *writer else { return };
    let always = aof.is_always();
    let served = if always { aof.group.close() } else { 0 };
    let began = Instant::now();
    w.serve_worker(server);
    let took = began.elapsed();
    drop(writer);
    if served > 0 {
        aof.group.synced(took);
    }
    let memory = match always {
        true if took > SLOW_SYNC => took * SLOW_SYNC_MEMORY,
        false if took > SLOW_WRITE => SLOW_MEMORY,
        _ => Duration::ZERO,
    };
    if !memory.is_zero() {
        aof.pace.slow_until.store(server.clock() + memory.as_millis() as u64, Ordering::Release);
    }
    progressed(server);
}

/// On a replica: the link's turn to write, and to wait as connections do, where the file lags too far behind the
/// primary's stream, or where `always` says that what is acknowledged is durable.
pub(crate) fn wait_on_link(server: &Server, stopped: &dyn Fn() -> bool) {
    let (aof, log) = (&server.aof, server.engine.log());
    if aof.hold(log, true).is_some() && may_work_here(server) {
        work_here(server);
    }
    // Also while the disk fails: the primary's stream is not refused as clients are, so it has to wait.
    while !stopped() && (matches!(aof.hold(log, true), Some(Hold::Acked(_))) || aof.queued(log) > QUEUE_LIMIT)
    {
        aof.wake();
        std::thread::sleep(LINK_WAIT);
    }
}
