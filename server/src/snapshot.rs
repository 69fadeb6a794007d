//! One cut for all the files that are due together.
//!
//! A BGSAVE, a rewrite of the append-only file and the file of a disk-staged full sync have the same content, an RDB of
//! the keyspace at one offset. So whoever wants such a file takes a seat here. When a cut can begin, everybody
//! seated gets that cut's offset, a thread walks it once into one file, and the other files are
//! second names of that one (or copies, where the file system cannot do that). Who comes while the RDB file itself is
//! being written, and can do with the offset it was begun at because the log was kept since, and still reaches back to it, is
//! seated late: replicas that ask for a full sync during a BGSAVE.
//!
//! ```text
//!   BGSAVE ------+                         +--> dump.rdb  --> its name
//!   rewrite -----+--> one cut --> one walk-+--> one file  --> base of the append-only file
//!   full sync ---+                         +--> sendfile  --> replicas
//! ```
//!
//! Who wants another format (a base written as commands) has a cut of its own. A cut of a diskless full sync is never shared: it
//! goes at the network's speed, and a slow disk must not hold it. For the same reason it comes first ([`urgent`]): no
//! snapshot begins before it, and one that has long to go gives way, once, to begin again behind it.

use crate::ground::pace::Pace;
use crate::server::Server;
use crate::stand_in::StandIn;
use parking_lot::{Condvar, Mutex, MutexGuard};
use sluice_engine::internals::Epoch;
use sluice_engine::{Cut, LogReader};
use sluice_persistence::aof::IncrWriter;
use sluice_persistence::storage::{AtomicFile, FileReader};
use sluice_persistence::{Error, SaveOptions, SaveStats, save_cut};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How long who waits for the one cut there may be waits before it looks again.
const CUT_RETRY: Duration = Duration::from_millis(5);

/// A snapshot that is expected to end sooner is waited for by a diskless full sync.
const WORTH_GIVING_WAY: Duration = Duration::from_secs(1);

/// Bytes between two reports of a snapshot that `rdb-key-save-delay` slows down.
const WATCHED_CHUNK: usize = 4 << 10;

/// Who wants a file, and how.
pub(crate) struct Party {
    /// Its name.
    pub(crate) path: PathBuf,
    /// It is the base of the append-only file, whose log goes on from the cut in this file (none: the log is not kept).
    pub(crate) base: Option<Option<IncrWriter>>,
    /// It is for replicas: they need the log from the cut on.
    pub(crate) for_replicas: bool,
    /// It may be written within `persistence-max-bandwidth`.
    pub(crate) paced: bool,
    /// It can begin again later, where a diskless full sync needs the cut: see [`Failure::GaveWay`].
    pub(crate) gives_way: bool,
    /// Whether nobody wants it any more.
    pub(crate) stop: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Whose death makes it fail.
    pub(crate) child: StandIn,
}

impl Party {
    /// Somebody who wants a plain RDB file, whatever happens.
    pub(crate) fn new(path: PathBuf) -> Party {
        Party {
            path,
            base: None,
            for_replicas: false,
            paced: true,
            gives_way: false,
            stop: Arc::new(|| false),
            child: StandIn::none(),
        }
    }
}

/// The cut has begun.
pub(crate) struct Begun {
    /// Its offset in the log.
    pub(crate) offset: u64,
    /// The engine's count of changes just before.
    pub(crate) changes: u64,
    /// The log from there, for replicas.
    pub(crate) log: Option<LogReader>,
}

/// The file is there, whole and synced.
pub(crate) struct Written {
    pub(crate) stats: SaveStats,
    /// This party is the first of those who share it.
    pub(crate) new: bool,
    /// The file itself, for replicas: by the time they read it another may have its name.
    pub(crate) file: Option<Box<dyn FileReader>>,
}

/// There is no file.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Nobody wanted it any more.
    Stopped,
    /// A diskless full sync needed the cut: whoever wants the file takes a seat again.
    GaveWay,
    /// It could not be made.
    Failed(String),
}

/// Where everybody meets.
#[derive(Default)]
pub(crate) struct Snapshots {
    line: Mutex<Line>,
    changed: Condvar,
    /// Cuts that served more than one party.
    shared: AtomicU64,
    /// Diskless full syncs that wait for a cut.
    urgent: AtomicUsize,
}

impl Snapshots {
    /// Cuts that served more than one party, since the start.
    pub(crate) fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Line {
    /// Who waits for a cut.
    waiting: Vec<Arc<Seat>>,
    /// The cut that is being written.
    running: Option<Running>,
    /// Parties on their way to a seat.
    holds: usize,
}

struct Running {
    offset: u64,
    /// What the log goes on in from the cut; none where nothing was recorded then, so that no replica can go on from it.
    epoch: Option<Epoch>,
    changes: u64,
    seats: Vec<Arc<Seat>>,
    /// The file is complete: nobody is seated late.
    complete: bool,
}

struct Seat {
    path: PathBuf,
    is_base: bool,
    for_replicas: bool,
    paced: bool,
    gives_way: bool,
    stop: Arc<dyn Fn() -> bool + Send + Sync>,
    child: StandIn,
    /// Taken when the cut begins.
    incr: Mutex<Option<IncrWriter>>,
    /// Changed under the line's lock, so that no change is missed.
    news: Mutex<News>,
}

#[derive(Default)]
struct News {
    begun: Option<Begun>,
    done: Option<Result<Written, Failure>>,
}

/// A diskless full sync waits for a cut: as long as this lives no snapshot begins, and one that can gives way.
pub(crate) struct Urgent<'a>(&'a Server);

/// Comes first.
pub(crate) fn urgent(server: &Server) -> Urgent<'_> {
    server.snapshots.urgent.fetch_add(1, Ordering::AcqRel);
    Urgent(server)
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.snapshots.urgent.fetch_sub(1, Ordering::AcqRel);
        self.0.snapshots.changed.notify_all();
    }
}

/// Somebody is on the way to a seat: no cut begins without them. Dropped when they are seated, or will not come.
pub(crate) struct Hold(Arc<Server>);

/// Holds the next cut back.
pub(crate) fn hold(server: &Arc<Server>) -> Hold {
    server.snapshots.line.lock().holds += 1;
    Hold(server.clone())
}

impl Clone for Hold {
    fn clone(&self) -> Hold {
        hold(&self.0)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.snapshots.line.lock().holds -= 1;
        self.0.snapshots.changed.notify_all();
    }
}

/// A seat in the line.
pub(crate) struct Ticket {
    server: Arc<Server>,
    seat: Arc<Seat>,
}

/// Takes a seat, and begins the cut now if one can begin: it is then of this moment, not of a later one.
pub(crate) fn seat(server: &Arc<Server>, party: Party) -> Ticket {
    let seat = Arc::new(Seat {
        path: party.path,
        is_base: party.base.is_some(),
        for_replicas: party.for_replicas,
        paced: party.paced,
        gives_way: party.gives_way,
        stop: party.stop,
        child: party.child,
        incr: Mutex::new(party.base.flatten()),
        news: Mutex::default(),
    });
    let mut line = server.snapshots.line.lock();
    if !line.seat_late(server, &seat) {
        line.waiting.push(seat.clone());
        line.begin(server);
    }
    drop(line);
    server.snapshots.changed.notify_all();
    Ticket { server: server.clone(), seat }
}

impl Ticket {
    /// Waits for the file; blocks. `on_begun` is called once, on this thread, when the cut has begun.
    pub(crate) fn wait(self, on_begun: impl FnOnce(Begun)) -> Result<Written, Failure> {
        let snapshots = &self.server.snapshots;
        let mut on_begun = Some(on_begun);
        let mut line = snapshots.line.lock();
        loop {
            let News { begun, done } = std::mem::take(&mut *self.seat.news.lock());
            if let Some(begun) = begun
                && let Some(then) = on_begun.take()
            {
                MutexGuard::unlocked(&mut line, || then(begun));
            }
            if let Some(done) = done {
                return done;
            }
            if (self.seat.stop)() {
                // Others may still want the file; `self` leaves the line as it goes.
                return Err(Failure::Stopped);
            }
            line.begin(&self.server);
            snapshots.changed.wait_for(&mut line, CUT_RETRY);
        }
    }
}

/// Who leaves is not waited for, and not written for.
impl Drop for Ticket {
    fn drop(&mut self) {
        let mut line = self.server.snapshots.line.lock();
        line.waiting.retain(|other| !Arc::ptr_eq(other, &self.seat));
        if let Some(running) = &mut line.running {
            running.seats.retain(|other| !Arc::ptr_eq(other, &self.seat));
        }
    }
}

impl Line {
    /// Seats a party with the snapshot being written, where it is the file it wants and the log reaches back.
    fn seat_late(&mut self, server: &Server, seat: &Arc<Seat>) -> bool {
        let Some(running) = &mut self.running else { return false };
        if running.complete
            || !seat.for_replicas
            || !running.seats.iter().any(|other| other.path == seat.path)
        {
            return false;
        }
        // Where nobody followed when the cut began, what was written since is nowhere, although the offset is the same.
        let Some(epoch) = running.epoch else { return false };
        let Ok(log) = server.engine.log().reader_in(epoch, running.offset) else { return false };
        let (offset, changes) = (running.offset, running.changes);
        seat.news.lock().begun = Some(Begun { offset, changes, log: Some(log) });
        running.seats.push(seat.clone());
        if running.seats.len() == 2 {
            server.snapshots.shared.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Begins a cut for everybody who waits, if one can begin, and a thread that writes it.
    fn begin(&mut self, server: &Arc<Server>) {
        let urgent = server.snapshots.urgent.load(Ordering::Acquire);
        if self.running.is_some() || self.waiting.is_empty() || self.holds > 0 || urgent > 0 {
            return;
        }
        let rewrite = self.waiting.iter().find(|seat| seat.incr.lock().is_some()).cloned();
        let changes = server.engine.changes();
        let begun = match &rewrite {
            Some(seat) => crate::aof::begin_cut(server, &mut seat.incr.lock()),
            // Of these some may need the log, which then begins with the cut at the latest.
            None if self.waiting.iter().any(|seat| seat.for_replicas) => {
                server.engine.begin_cut_with_log().ok().map(|(cut, log)| (cut, Some(log)))
            }
            None => server.engine.begin_cut().ok().map(|cut| (cut, None)),
        };
        let Some((cut, kept)) = begun else { return };
        let (offset, epoch) = (cut.offset(), cut.epoch());
        crate::persist::saving(server, &SaveStats::of(&cut));
        let seats = std::mem::take(&mut self.waiting);
        for seat in &seats {
            let log = kept.as_ref().filter(|_| seat.for_replicas).and_then(|kept| kept.another(offset).ok());
            seat.news.lock().begun = Some(Begun { offset, changes, log });
        }
        if seats.len() > 1 {
            server.snapshots.shared.fetch_add(1, Ordering::Relaxed);
            crate::log!(Notice, "One cut at offset {offset} serves {} files that were due", seats.len());
        }
        self.running = Some(Running { offset, epoch, changes, seats: seats.clone(), complete: false });
        let owner = server.clone();
        let spawned = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            crate::os::short_turns();
            write(&owner, cut);
        });
        if let Err(e) = spawned {
            self.running = None;
            crate::persist::saving_ended(server);
            for seat in seats {
                seat.news.lock().done = Some(Err(Failure::Failed(format!("no thread to write it: {e}"))));
            }
        }
    }
}

/// Writes the file of a cut, and gives everybody theirs.
fn write(server: &Arc<Server>, cut: Cut) {
    let (path, options, paced, has_child) = {
        let line = server.snapshots.line.lock();
        let Some(running) = &line.running else { return };
        // The RDB file first: who comes late wants that one.
        let first = running.seats.iter().find(|seat| !seat.is_base).or(running.seats.first());
        let Some(first) = first else {
            // They all left before it began.
            drop(line);
            drop(cut);
            crate::persist::saving_ended(server);
            return end(server, &Err(Failure::Stopped));
        };
        let plain = crate::persist::save_options(server);
        let aof_base = running.seats.iter().any(|seat| seat.is_base);
        // In a base alone the place in the log would be the incremental file's beginning, not the stream's.
        let replication_id = if first.is_base { None } else { plain.replication_id.clone() };
        // Who slows it down wants to see how it goes.
        let chunk = if server.config.load().rdb_key_save_delay == 0 { plain.chunk } else { WATCHED_CHUNK };
        let options = SaveOptions { aof_base, replication_id, chunk, ..plain };
        let has_child = running.seats.iter().any(|seat| seat.child.is_there());
        (first.path.clone(), options, running.seats.iter().all(|seat| seat.paced), has_child)
    };
    let stopped = || {
        let line = server.snapshots.line.lock();
        line.running.as_ref().is_some_and(|running| running.seats.iter().all(|seat| (seat.stop)()))
    };
    let killed_by = || {
        let line = server.snapshots.line.lock();
        line.running.as_ref()?.seats.iter().find_map(|seat| seat.child.killed_by())
    };
    let storage = if paced { &server.paced_storage } else { &server.storage };
    let mut pace = if has_child { Pace::of_child(&server.config) } else { Pace::new(&server.config) };
    let mut gave_way = false;
    let saved = save_cut(cut, storage, &path, &options, &mut |stats| {
        crate::persist::saving(server, stats);
        let over = || stopped() || killed_by().is_some();
        gave_way = gives_way(server, stats);
        if !gave_way {
            pace.wait(stats.keys, over);
        }
        if gave_way || over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    crate::persist::saving_ended(server);
    let saved = saved.map_err(|e| match (e, killed_by()) {
        (Error::Stopped, Some(signal)) => Failure::Failed(format!("terminated by signal {signal}")),
        (Error::Stopped, None) if gave_way => Failure::GaveWay,
        (Error::Stopped, None) => Failure::Stopped,
        (e, _) => Failure::Failed(e.to_string()),
    });
    end(server, &saved.map(|stats| (path, stats)));
}

/// Whether the running snapshot ends for a diskless full sync: where all who share it can begin again, and it has long to
/// go still.
fn gives_way(server: &Server, stats: &SaveStats) -> bool {
    if server.snapshots.urgent.load(Ordering::Acquire) == 0 {
        return false;
    }
    let line = server.snapshots.line.lock();
    let can = |seat: &Arc<Seat>| seat.gives_way && !seat.child.is_there();
    if !line.running.as_ref().is_some_and(|running| running.seats.iter().all(can)) {
        return false;
    }
    let left = stats.keys_total.saturating_sub(stats.keys) as f64 / stats.keys.max(1) as f64;
    let gives = stats.elapsed.mul_f64(left.min(1e6)) > WORTH_GIVING_WAY;
    if gives {
        let (keys, total) = (stats.keys, stats.keys_total);
        crate::log!(
            Notice,
            "The snapshot at {keys} of {total} keys gives way to a full sync, and begins again behind it"
        );
    }
    gives
}

/// The snapshot is over: everybody gets their file and is told. The next cut begins only then, so that no other file has
/// taken the name of this one.
fn end(server: &Server, outcome: &Result<(PathBuf, SaveStats), Failure>) {
    let snapshots = &server.snapshots;
    let seats = match &mut snapshots.line.lock().running {
        Some(running) => {
            running.complete = true;
            running.seats.clone()
        }
        None => Vec::new(),
    };
    let written = |seat: &Seat, first: bool| {
        let (path, stats) = outcome.clone()?;
        let failed = |e: std::io::Error| Failure::Failed(format!("{}: {e}", seat.path.display()));
        if seat.path != path {
            AtomicFile::duplicate(&server.storage, &path, &seat.path).map_err(failed)?;
        }
        let file = seat.for_replicas.then(|| server.storage.open(&path)).transpose().map_err(failed)?;
        Ok(Written { stats, new: first, file })
    };
    let first = |seat: &Arc<Seat>| seats.iter().find(|s| !s.is_base).is_some_and(|s| Arc::ptr_eq(s, seat));
    let results: Vec<_> = seats.iter().map(|seat| (seat, written(seat, first(seat)))).collect();
    let mut line = snapshots.line.lock();
    line.running = None;
    for (seat, result) in results {
        seat.news.lock().done = Some(result);
    }
    drop(line);
    snapshots.changed.notify_all();
}
