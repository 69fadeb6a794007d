//! The append-only file: the log, from a cut's offset on, in files.
//!
//! ```text
//! clients --> engine --> log ==reader==> [aof-writer thread] --write--> incr file
//!    ^                                        |    |
//!    |                 `always`: sync, then   |    `everysec`: once a second --> [aof-sync thread] --fdatasync
//!    `---- replies held back until there -----'
//! ```
//!
//! - `writer`: reads the log and writes it, with the three policies of `appendfsync`; and its thread;
//! - `hold`: what replies wait for, and who writes when;
//! - `group`: how many one sync of `always` should serve;
//! - `rewrite`: BGREWRITEAOF, from a cut, on a thread of its own; also how `appendonly yes` begins;
//! - `folder`: one server to a folder;
//! - `start`: loading and opening at the start, and DEBUG LOADAOF.
//!
//! Under `always` a connection keeps its replies until the log is synced up to where it ended when they were made:
//! one sync serves all that came before it, and what a reader is shown is durable too. Under the others the replies of
//! a connection that wrote wait for the write alone, which one connection of a worker does for all: what was
//! acknowledged survives the end of the process. The queue between log and disk is the log itself, held by the
//! writer's reader: with more than [`QUEUE_LIMIT`] of it unwritten, connections that wrote wait whatever happens,
//! reads go on.

mod folder;
mod group;
mod hold;
mod rewrite;
mod start;
mod writer;

pub(crate) use group::Membership;
pub(crate) use hold::{wait, wait_on_link};
pub(crate) use rewrite::{Answer, begin_cut, collect_history, cron, request};
pub(crate) use start::{begin_service, load_at_start, reload};

use crate::config::{Config, Fsync};
use crate::ground::gate;
use crate::server::Server;
use parking_lot::Mutex;
use sluice_engine::Log;
use sluice_persistence::aof::{AofPlace, Manifest};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use tokio::sync::Notify;
use writer::Writer;

/// Log that may wait to be written before connections that write have to wait.
pub(crate) const QUEUE_LIMIT: u64 = 64 << 20;

/// Whether there is an append-only file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// No.
    Off = 0,
    /// It was switched on; its first base is being written, and nothing is durable before that is.
    Waiting = 1,
    /// Yes.
    On = 2,
}

/// The state of the append-only file.
pub(crate) struct Aof {
    mode: AtomicU8,
    policy: AtomicU8,
    /// Threads run and files are open: settings have an effect.
    ready: AtomicBool,
    manifest: Mutex<Manifest>,
    /// Where the files of `manifest` are: `dir` may be changed while they are written.
    place: Mutex<Option<AofPlace>>,
    folder: folder::Folder,
    writer: Mutex<Option<Writer>>,
    /// There is a writer: its offsets move.
    writing: AtomicBool,
    /// Log offsets: written, durable, and up to which replies may go.
    written: AtomicU64,
    synced: AtomicU64,
    acked: AtomicU64,
    pub(crate) progressed: Notify,
    group: group::Group,
    pace: hold::Pace,
    wake: writer::Wake,
    syncs: writer::Syncs,
    /// Writers so far.
    epoch: AtomicU64,
    /// DEBUG AOF-FLUSH-SLEEP, in microseconds.
    pub(crate) flush_sleep: AtomicU64,
    pub(crate) figures: Figures,
    rewriting: rewrite::Rewriting,
}

/// What INFO shows.
#[derive(Default)]
pub(crate) struct Figures {
    /// Bytes of base and incremental files.
    pub(crate) size: AtomicU64,
    /// The same after the last rewrite.
    pub(crate) base_size: AtomicU64,
    pub(crate) rewrites: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Unix seconds of the running rewrite's start, 0 for none; seconds the last one took.
    pub(crate) rewrite_began: AtomicU64,
    pub(crate) rewrite_seconds: AtomicI64,
    pub(crate) rewrite_failed: AtomicBool,
    /// Most bytes of pre-images of the last rewrite.
    pub(crate) preimage_peak: AtomicU64,
    /// Error numbers of the last write and the last background sync, 0 for none.
    pub(crate) write_error: AtomicU32,
    pub(crate) sync_error: AtomicU32,
    pub(crate) syncs_pending: AtomicU64,
    pub(crate) delayed_syncs: AtomicU64,
}

impl Default for Aof {
    fn default() -> Aof {
        let figures = Figures { rewrite_seconds: AtomicI64::new(-1), ..Figures::default() };
        Aof {
            mode: AtomicU8::new(Mode::Off as u8),
            policy: AtomicU8::new(Fsync::Everysec as u8),
            ready: AtomicBool::new(false),
            manifest: Mutex::new(Manifest::default()),
            place: Mutex::new(None),
            folder: folder::Folder::default(),
            writer: Mutex::new(None),
            writing: AtomicBool::new(false),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            progressed: Notify::new(),
            group: group::Group::default(),
            pace: hold::Pace::default(),
            wake: writer::Wake::default(),
            syncs: writer::Syncs::default(),
            epoch: AtomicU64::new(0),
            flush_sleep: AtomicU64::new(0),
            figures,
            rewriting: rewrite::Rewriting::default(),
        }
    }
}

impl Aof {
    /// On, off, or beginning.
    pub(crate) fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            0 => Mode::Off,
            1 => Mode::Waiting,
            _ => Mode::On,
        }
    }

    fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Release);
    }

    fn is_always(&self) -> bool {
        self.policy.load(Ordering::Acquire) == Fsync::Always as u8
    }

    /// The log offset up to which the append-only file is durable; none where there is no such file (yet).
    pub(crate) fn durable(&self) -> Option<u64> {
        (self.mode() == Mode::On).then(|| self.synced.load(Ordering::Acquire))
    }

    /// Log not written yet.
    pub(crate) fn queued(&self, log: &Log) -> u64 {
        if !self.writing.load(Ordering::Acquire) {
            return 0;
        }
        log.end().saturating_sub(self.written.load(Ordering::Acquire))
    }

    /// Is a rewrite running?
    pub(crate) fn is_rewriting(&self) -> bool {
        self.rewriting.running.load(Ordering::Acquire)
    }

    /// Is one waiting for its turn?
    pub(crate) fn is_rewrite_scheduled(&self) -> bool {
        self.rewriting.scheduled.load(Ordering::Acquire)
    }

    /// Something to do for the writer, perhaps. Quick: the log calls it with locks held.
    pub(crate) fn wake(&self) {
        self.wake.wake();
    }
}

/// Offsets moved, or what is asked of them changed: whoever waits looks again.
fn progressed(server: &Server) {
    server.aof.progressed.notify_waiters();
    if server.aof.is_always() {
        server.grown.notify_waiters();
    }
}

/// Where the files are.
fn place(server: &Server) -> AofPlace {
    let place = server.aof.place.lock().clone();
    place.unwrap_or_else(|| configured_place(&server.config.load()))
}

/// Where they would be made now.
fn configured_place(config: &Config) -> AofPlace {
    AofPlace {
        home: config.dir.clone(),
        dir: config.dir.join(&config.appenddirname),
        filename: config.appendfilename.clone(),
    }
}

/// Follows `appendonly`.
pub(crate) fn follow_appendonly(server: &Arc<Server>, config: &Config) -> Result<(), String> {
    if !server.aof.ready.load(Ordering::Acquire) {
        return Ok(());
    }
    match (config.appendonly, server.aof.mode()) {
        (true, Mode::Off) => enable(server).map_err(|e| {
            crate::log!(Warning, "{e}");
            "Unable to turn on AOF. Check server logs.".into()
        }),
        (false, Mode::Waiting | Mode::On) => {
            disable(server);
            server.aof.folder.release();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Follows `appendfsync`.
pub(crate) fn follow_policy(server: &Server, config: &Config) {
    server.aof.policy.store(config.appendfsync as u8, Ordering::Release);
    progressed(server);
    // Replicas that were held back under the policy before.
    server.grown.notify_waiters();
    server.aof.wake();
}

/// Begins an append-only file at run time: with a rewrite.
fn enable(server: &Arc<Server>) -> Result<(), String> {
    let aof = &server.aof;
    start::look_in(server, configured_place(&server.config.load()))?;
    if aof.figures.sync_error.swap(0, Ordering::AcqRel) != 0 {
        crate::log!(Warning, "AOF reopen, just ignore the AOF fsync error in bio job");
    }
    if aof.figures.write_error.swap(0, Ordering::AcqRel) != 0 {
        crate::log!(Warning, "AOF reopen, just ignore the last error.");
    }
    update_gate(server);
    aof.set_mode(Mode::Waiting);
    if server.persist.bgsave_running.load(Ordering::Acquire) {
        aof.rewriting.scheduled.store(true, Ordering::Release);
        crate::log!(
            Warning,
            "AOF was enabled but there is already another background operation. An AOF background was scheduled to \
             start when possible."
        );
        return Ok(());
    }
    if aof.is_rewriting() {
        crate::log!(
            Warning,
            "AOF was enabled but there is already an AOF rewriting in background. Stopping background AOF and \
             starting a rewrite now."
        );
        rewrite::stop(server);
    }
    rewrite::begin(server).inspect_err(|_| {
        aof.set_mode(Mode::Off);
        aof.folder.release();
    })
}

/// Ends the append-only file, which stays as it is: whole and synced.
fn disable(server: &Server) {
    let aof = &server.aof;
    flush(server, true);
    aof.set_mode(Mode::Off);
    aof.rewriting.scheduled.store(false, Ordering::Release);
    rewrite::stop(server);
    drop_writer(server);
    aof.figures.write_error.store(0, Ordering::Release);
    aof.figures.sync_error.store(0, Ordering::Release);
    update_gate(server);
}

fn drop_writer(server: &Server) {
    let gone = server.aof.writer.lock().take();
    server.aof.writing.store(false, Ordering::Release);
    drop(gone);
    progressed(server);
    server.grown.notify_waiters();
}

/// Before a full sync replaces the data: what was written of the old data stays, and no more comes.
pub(crate) fn suspend(server: &Server) {
    if server.aof.mode() != Mode::Off {
        disable(server);
    }
}

/// A full sync is loaded, and `goes_on` moves the log to where the stream does. No file is written meanwhile, and none
/// goes on: one that was begun during the load, of whatever data there was, begins again.
pub(crate) fn move_log(server: &Server, goes_on: impl FnOnce()) {
    let aof = &server.aof;
    let mut writer = aof.writer.lock();
    goes_on();
    let gone = writer.take();
    if aof.mode() != Mode::Off {
        aof.set_mode(Mode::Waiting);
        aof.rewriting.scheduled.store(true, Ordering::Release);
    }
    aof.writing.store(false, Ordering::Release);
    drop(writer);
    drop(gone);
    progressed(server);
}

/// After a full sync, or where a replica is promoted before one was complete: a new base, of the data as it is now.
pub(crate) fn resume(server: &Arc<Server>) {
    let aof = &server.aof;
    if !aof.ready.load(Ordering::Acquire) || aof.mode() != Mode::Off || !server.config.load().appendonly {
        return;
    }
    if let Err(e) = enable(server) {
        crate::log!(Warning, "Failed enabling the AOF after a synchronization, it is tried again: {e}");
        aof.set_mode(Mode::Waiting);
        aof.rewriting.scheduled.store(true, Ordering::Release);
    }
}

/// Writes, and where told syncs, all of the log there is now; the file then takes no more room than it needs. True if that succeeded, or there is no file.
pub(crate) fn flush(server: &Server, sync: bool) -> bool {
    let mut writer = server.aof.writer.lock();
    let Some(w) = &mut *writer else { return true };
    let done = w.drain(server).and_then(|()| if sync { w.sync(server) } else { Ok(()) });
    if sync && done.is_ok() {
        // A file that is a little longer than it need be is as good.
        let _ = w.last_file().finish();
    }
    drop(writer);
    progressed(server);
    match done {
        Ok(()) => true,
        Err(e) => {
            crate::log!(Warning, "Fail to fsync the AOF file: {}", crate::config::os_reason(&e));
            false
        }
    }
}

/// Recomputes the gate of failing writes.
fn update_gate(server: &Server) {
    let f = &server.aof.figures;
    let failing = f.write_error.load(Ordering::Acquire) != 0 || f.sync_error.load(Ordering::Acquire) != 0;
    server.set_gate(gate::AOF_ERROR, failing && server.aof.mode() != Mode::Off);
}

/// Redis' words for a write refused because the file cannot be written.
pub(crate) fn refusal(server: &Server) -> String {
    let f = &server.aof.figures;
    let number = match f.write_error.load(Ordering::Acquire) {
        0 => f.sync_error.load(Ordering::Acquire),
        number => number,
    };
    let reason = crate::config::os_reason(&std::io::Error::from_raw_os_error(number as i32));
    format!("MISCONF Errors writing to the AOF file: {reason}")
}
