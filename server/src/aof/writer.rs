//! Writes the log into the incremental file: the thread that does so, and the one that syncs it.
//!
//! The writer's state is behind a lock, which is held over its writes: a worker that writes for its connections, or a
//! flush on another thread (SHUTDOWN, `appendonly no`), does the same work there. Reading the log and taking the next
//! file happen under the same lock, so a rewrite that holds it can begin its cut and say "from this offset on, into
//! that file" with nothing in between.
//!
//! Policies: `always` writes and syncs in one go, as often as there is something; everything appended during a sync
//! waits for the next. `everysec` leaves the sync to the second thread, so that a slow one delays neither writes nor
//! replies; if one takes over [`SLOW_SYNC`] the delay is counted. `no` never syncs, except a file that is complete:
//! one that others follow must not be torn. After a sync that failed nothing more of that file is called durable: a rewrite
//! makes a new base, and the log goes on in the file that follows it. The writer's thread does what no worker does (see `hold`).

use super::group::{Gathering, Group};
use super::{progressed, update_gate};
use crate::config::{Fsync, os_reason};
use crate::server::Server;
use bytes::Bytes;
use parking_lot::Mutex;
use sluice_engine::LogReader;
use sluice_engine::internals::encode_command;
use sluice_persistence::aof::{IncrWriter, Syncer};
use sluice_transport::primary::{GETACK_RECORD, PING_RECORD};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Time between two syncs under `everysec`.
const SYNC_PERIOD: Duration = Duration::from_secs(1);
/// A sync that takes longer is counted as delayed, as in Redis.
const SLOW_SYNC: Duration = Duration::from_secs(2);
/// Time between two tries while writing fails.
const RETRY: Duration = Duration::from_secs(1);
/// Time between two lines of the log about it.
const ERROR_LOG_PERIOD: Duration = Duration::from_secs(30);

/// How often the thread looks whether those it waits for have come.
const GATHER_LOOK: Duration = Duration::from_micros(50);

/// Wakes the writer's thread.
#[derive(Default)]
pub(super) struct Wake(OnceLock<Thread>);

impl Wake {
    pub(super) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// The file being written, and where in the log it is.
pub(super) struct Writer {
    reader: LogReader,
    file: IncrWriter,
    /// Files to go on with.
    next: VecDeque<NextFile>,
    /// Read from the log, not written yet.
    pending: Bytes,
    /// The second of the last timestamp annotation.
    stamp: u64,
    /// Bytes of `file` that a sync has covered, or is about to.
    sync_asked: u64,
    last_sync: Instant,
    /// The handle the sync thread uses.
    syncer: Option<Arc<Mutex<Syncer>>>,
    sync_began: Option<Instant>,
    delay_counted: bool,
    last_error_line: Option<Instant>,
    syncs: SyncSender<SyncJob>,
    /// Tells this writer's offsets from those of one before it, which may be of another history.
    epoch: u64,
}

/// A file the log goes on in.
pub(super) struct NextFile {
    /// The offset of the log it begins at.
    pub(super) from: u64,
    pub(super) file: IncrWriter,
    /// The database its log goes on in without selecting it: on a replica, whose log is its primary's.
    pub(super) select: Option<u32>,
}

/// What the sync thread is to sync, and which offset is durable then.
struct SyncJob {
    file: Arc<Mutex<Syncer>>,
    offset: u64,
    epoch: u64,
}

/// What the thread does next.
enum Next {
    /// Nothing, until woken or until this time has passed.
    Sleep(Option<Duration>),
    /// Nothing for this long, whatever comes.
    Rest(Duration),
}

impl Writer {
    /// Writes the log from `reader` on into `file`, in which `select` is the database to begin with, where the log
    /// does not say.
    pub(super) fn new(server: &Server, reader: LogReader, file: IncrWriter, select: Option<u32>) -> Writer {
        let aof = &server.aof;
        for offset in [&aof.written, &aof.synced, &aof.acked] {
            offset.store(reader.offset(), Ordering::Release);
        }
        Writer {
            sync_asked: file.len(),
            reader,
            file,
            next: VecDeque::new(),
            pending: head(select),
            stamp: 0,
            last_sync: Instant::now(),
            syncer: None,
            sync_began: None,
            delay_counted: false,
            last_error_line: None,
            syncs: aof.syncs.to.clone(),
            epoch: aof.epoch.fetch_add(1, Ordering::AcqRel) + 1,
        }
    }

    /// Goes on in this file when its time comes.
    pub(super) fn switch(&mut self, next: NextFile) {
        self.next.push_back(next);
    }

    /// A base of the log up to `offset` is durable: what was not written before it need not be any more.
    pub(super) fn skip_to(&mut self, server: &Server, offset: u64) {
        let at = self.next.iter().position(|next| next.from == offset);
        let (Some(at), Ok(reader)) = (at, self.reader.another(offset)) else { return };
        self.pending = Bytes::new();
        self.reader = reader;
        self.next.drain(..at);
        if let Some(next) = self.next.pop_front() {
            self.take_up(next);
        }
        server.aof.written.fetch_max(offset, Ordering::AcqRel);
        server.aof.synced.fetch_max(offset, Ordering::AcqRel);
        server.aof.acked.fetch_max(offset, Ordering::AcqRel);
    }

    /// Did a sync fail of the file that is written now, or of one that follows?
    pub(super) fn is_lost(&self) -> bool {
        self.file.is_lost() || self.next.iter().any(|next| next.file.is_lost())
    }

    /// The file everything goes to in the end.
    pub(super) fn last_file(&mut self) -> &mut IncrWriter {
        self.next.back_mut().map_or(&mut self.file, |next| &mut next.file)
    }

    fn take_up(&mut self, next: NextFile) {
        self.file = next.file;
        // Only now: a file after one that is not durable yet must be empty.
        self.pending = head(next.select);
        self.sync_asked = 0;
        self.syncer = None;
        self.stamp = 0;
    }

    /// Writes what there is of the log.
    ///
    /// # Errors
    /// The storage's; all that was not written is kept.
    pub(super) fn drain(&mut self, server: &Server) -> io::Result<()> {
        let aof = &server.aof;
        let timestamps = server.config.load().aof_timestamp_enabled;
        // Only so far: under load there is always more.
        let end = server.engine.log().end();
        loop {
            if self.pending.is_empty() {
                if self.reader.offset() >= end && self.next.is_empty() {
                    return Ok(());
                }
                let until = self.next.front().map(|next| next.from.saturating_sub(self.reader.offset()));
                if until == Some(0) {
                    self.complete_file(server)?;
                    continue;
                }
                // The log's pieces end between commands, and so do the offsets of cuts.
                let at = self.reader.offset();
                self.pending = match self.reader.read_loadable(until.map_or(usize::MAX, |n| n as usize)) {
                    Ok(bytes) => bytes,
                    // Only under `move_log`, which ends this writer.
                    Err(_) => return Ok(()),
                };
                if self.pending.is_empty() {
                    if self.reader.offset() == at {
                        return Ok(());
                    }
                    // Nothing but commands of a primary that mean nothing here.
                    aof.written.fetch_max(self.reader.offset(), Ordering::AcqRel);
                    continue;
                }
                let pause = aof.flush_sleep.load(Ordering::Relaxed);
                if pause > 0 {
                    std::thread::sleep(Duration::from_micros(pause));
                }
            }
            if matches!(&*self.pending, PING_RECORD | GETACK_RECORD) {
                // They keep links alive and change nothing; in between other commands they do no harm.
                self.pending = Bytes::new();
                aof.written.fetch_max(self.reader.offset(), Ordering::AcqRel);
                continue;
            }
            let before = self.file.len();
            if timestamps {
                self.annotate()?;
            }
            if aof.is_always() {
                self.file.reserve(self.pending.len());
            }
            self.file.write(&self.pending)?;
            self.pending = Bytes::new();
            aof.figures.size.fetch_add(self.file.len() - before, Ordering::Relaxed);
            aof.written.fetch_max(self.reader.offset(), Ordering::AcqRel);
        }
    }

    fn annotate(&mut self) -> io::Result<()> {
        let now = crate::os::unix_seconds();
        if now > self.stamp {
            self.file.write(format!("#TS:{now}\r\n").as_bytes())?;
            self.stamp = now;
        }
        Ok(())
    }

    /// Ends this file and goes on with the next. One that others follow has to be whole, so it is synced.
    fn complete_file(&mut self, server: &Server) -> io::Result<()> {
        self.sync(server)?;
        self.file.finish()?;
        if let Some(next) = self.next.pop_front() {
            self.take_up(next);
        }
        Ok(())
    }

    /// Syncs what was written.
    pub(super) fn sync(&mut self, server: &Server) -> io::Result<()> {
        let aof = &server.aof;
        let offset = aof.written.load(Ordering::Acquire);
        if self.sync_asked < self.file.len() || aof.synced.load(Ordering::Acquire) < offset {
            self.file.sync().inspect_err(|e| sync_failed(server, e))?;
            self.sync_asked = self.file.len();
            self.last_sync = Instant::now();
        }
        aof.synced.fetch_max(offset, Ordering::AcqRel);
        aof.acked.fetch_max(offset, Ordering::AcqRel);
        Ok(())
    }

    /// Writes what there is of the log; says so where it failed, and where it works again.
    fn write_log(&mut self, server: &Server) -> bool {
        match self.drain(server) {
            Ok(()) => {
                self.recovered(server);
                server.aof.no_longer_overdue();
                true
            }
            Err(e) => {
                self.failed(server, &e);
                false
            }
        }
    }

    /// A worker's turn: writes, and syncs, or has that done where it is due.
    pub(super) fn serve_worker(&mut self, server: &Server) {
        if !self.write_log(server) {
            return;
        }
        match server.config.load().appendfsync {
            Fsync::Always => self.sync_or_end(server),
            Fsync::Everysec => drop(self.sync_every_second(server)),
            Fsync::No => {}
        }
    }

    /// Syncs; where that fails under `always`, the server cannot keep its promise.
    fn sync_or_end(&mut self, server: &Server) {
        if let Err(e) = self.sync(server) {
            crate::log!(
                Warning,
                "Can't persist AOF for fsync error when the AOF fsync policy is 'always': {}. Exiting...",
                os_reason(&e)
            );
            std::process::exit(1);
        }
    }

    /// The thread's turn: writes, syncs as the policy says, and says what comes next.
    fn turn(&mut self, server: &Server) -> Next {
        let aof = &server.aof;
        if !self.write_log(server) {
            progressed(server);
            return Next::Rest(RETRY);
        }
        let config = server.config.load();
        let next = match config.appendfsync {
            _ if config.no_appendfsync_on_rewrite && server.writes_in_background() => {
                aof.acked.fetch_max(aof.written.load(Ordering::Acquire), Ordering::AcqRel);
                Next::Sleep(Some(SYNC_PERIOD))
            }
            Fsync::Always => {
                self.sync_or_end(server);
                Next::Sleep(None)
            }
            Fsync::Everysec => self.sync_every_second(server),
            Fsync::No => Next::Sleep(None),
        };
        progressed(server);
        next
    }

    fn sync_every_second(&mut self, server: &Server) -> Next {
        let figures = &server.aof.figures;
        let pending = figures.syncs_pending.load(Ordering::Acquire) > 0;
        if pending {
            let slow = self.sync_began.is_some_and(|began| began.elapsed() > SLOW_SYNC);
            if slow && !self.delay_counted {
                self.delay_counted = true;
                figures.delayed_syncs.fetch_add(1, Ordering::Relaxed);
                crate::log!(
                    Notice,
                    "Asynchronous AOF fsync is taking too long (disk is busy?). The log is written without waiting \
                     for it."
                );
            }
            return Next::Sleep(Some(SYNC_PERIOD));
        }
        self.sync_began = None;
        if self.file.is_lost() {
            // Nothing of it will ever be known to be durable. It is being written anew, or soon will be.
            return Next::Sleep(Some(RETRY));
        }
        if self.sync_asked >= self.file.len() && figures.sync_error.load(Ordering::Acquire) == 0 {
            // All there is in the file is durable, and so is the log that left nothing in it.
            server.aof.synced.fetch_max(server.aof.written.load(Ordering::Acquire), Ordering::AcqRel);
            return Next::Sleep(Some(SYNC_PERIOD));
        }
        let since = self.last_sync.elapsed();
        if since < SYNC_PERIOD {
            return Next::Sleep(Some(SYNC_PERIOD - since));
        }
        if self.syncer.is_none() {
            self.syncer = self.file.syncer().ok().map(|file| Arc::new(Mutex::new(file)));
        }
        let Some(file) = &self.syncer else { return Next::Sleep(Some(RETRY)) };
        let offset = server.aof.written.load(Ordering::Acquire);
        let job = SyncJob { file: file.clone(), offset, epoch: self.epoch };
        figures.syncs_pending.store(1, Ordering::Release);
        self.sync_asked = self.file.len();
        self.last_sync = Instant::now();
        self.sync_began = Some(self.last_sync);
        self.delay_counted = false;
        if self.syncs.try_send(job).is_err() {
            // The thread is gone: only at the end of the process.
            figures.syncs_pending.store(0, Ordering::Release);
        }
        Next::Sleep(Some(SYNC_PERIOD))
    }

    /// A write failed.
    fn failed(&mut self, server: &Server, e: &io::Error) {
        let aof = &server.aof;
        if self.last_error_line.is_none_or(|then| then.elapsed() > ERROR_LOG_PERIOD) {
            self.last_error_line = Some(Instant::now());
            crate::log!(Warning, "Error writing to the AOF file: {}", os_reason(e));
            if self.file.is_torn() {
                crate::log!(
                    Warning,
                    "Could not remove short write from the append-only file; it is tried again before the next write"
                );
            }
        }
        if server.config.load().appendfsync == Fsync::Always {
            crate::log!(
                Warning,
                "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."
            );
            std::process::exit(1);
        }
        aof.figures.write_error.store(error_number(e), Ordering::Release);
        update_gate(server);
    }

    fn recovered(&mut self, server: &Server) {
        if server.aof.figures.write_error.swap(0, Ordering::AcqRel) != 0 {
            crate::log!(Warning, "AOF write error looks solved, Redis can write again.");
            update_gate(server);
        }
    }
}

/// What the storage kept of the file is unknown from here on: clients' writes are refused until it is written anew.
fn sync_failed(server: &Server, e: &io::Error) {
    server.aof.figures.sync_error.store(error_number(e), Ordering::Release);
    server.aof.rewriting.scheduled.store(true, Ordering::Release);
    update_gate(server);
}

/// A new base is durable, and the log goes on in a file that syncs: the faults before are over.
pub(super) fn sync_recovered(server: &Server) {
    if server.aof.figures.sync_error.swap(0, Ordering::AcqRel) != 0 {
        server.aof.rewriting.scheduled.store(false, Ordering::Release);
        crate::log!(Warning, "The AOF file can be synced again.");
        update_gate(server);
    }
}

/// The number by which `strerror` knows the error; one of the storage's own counts as an I/O error.
pub(super) fn error_number(e: &io::Error) -> u32 {
    let number = e.raw_os_error().unwrap_or(match e.kind() {
        io::ErrorKind::StorageFull => libc::ENOSPC,
        _ => libc::EIO,
    });
    number.max(1) as u32
}

/// Where the writer leaves what is to be synced.
pub(super) struct Syncs {
    to: SyncSender<SyncJob>,
    /// The sync thread's end, until that is started.
    from: Mutex<Option<Receiver<SyncJob>>>,
}

impl Default for Syncs {
    fn default() -> Syncs {
        let (to, from) = sync_channel(1);
        Syncs { to, from: Mutex::new(Some(from)) }
    }
}

/// Starts both threads.
pub(super) fn start_threads(server: &Arc<Server>) -> Result<(), String> {
    let Some(jobs) = server.aof.syncs.from.lock().take() else { return Ok(()) };
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.into())
            .spawn(run)
            .map_err(|e| format!("Can't start the thread {name}: {e}"))
    };
    let owner = server.clone();
    spawn("aof-sync", Box::new(move || run_syncs(&owner, &jobs)))?;
    let owner = server.clone();
    let thread = spawn("aof-writer", Box::new(move || run(&owner)))?;
    let _ = server.aof.wake.0.set(thread.thread().clone());
    Ok(())
}

fn run(server: &Server) {
    crate::os::short_turns();
    loop {
        if server.aof.is_always() {
            gather(&server.aof.group);
        }
        let served = server.aof.group.close();
        let began = Instant::now();
        let next = server.aof.writer.lock().as_mut().map(|w| w.turn(server));
        if served > 0 {
            server.aof.group.synced(began.elapsed());
        }
        match next {
            None => std::thread::park(),
            Some(Next::Rest(time)) => std::thread::sleep(time),
            Some(Next::Sleep(Some(time))) => std::thread::park_timeout(time),
            Some(Next::Sleep(None)) => std::thread::park(),
        }
    }
}

/// Waits for those who are expected.
fn gather(group: &Group) {
    let mut gathering = Gathering::begin(group);
    while gathering.goes_on() {
        std::thread::park_timeout(GATHER_LOOK);
    }
}

fn run_syncs(server: &Server, jobs: &Receiver<SyncJob>) {
    let aof = &server.aof;
    for job in jobs {
        let synced = job.file.lock().sync();
        aof.figures.syncs_pending.store(0, Ordering::Release);
        match synced {
            Ok(()) => {
                if job.epoch == aof.epoch.load(Ordering::Acquire) {
                    aof.synced.fetch_max(job.offset, Ordering::AcqRel);
                }
            }
            Err(e) => {
                crate::log!(Warning, "Fail to fsync the AOF file: {}", os_reason(&e));
                if job.epoch == aof.epoch.load(Ordering::Acquire) {
                    sync_failed(server, &e);
                }
            }
        }
        progressed(server);
        aof.wake();
    }
}

/// The first bytes of a file whose log goes on in database `select`.
fn head(select: Option<u32>) -> Bytes {
    let mut text = Vec::new();
    if let Some(db) = select {
        encode_command(&mut text, &[b"SELECT", db.to_string().as_bytes()]);
    }
    text.into()
}

impl Server {
    /// Does something else write to the disk in the background (`no-appendfsync-on-rewrite`)?
    pub(super) fn writes_in_background(&self) -> bool {
        self.aof.is_rewriting() || self.persist.bgsave_running.load(Ordering::Acquire)
    }
}
