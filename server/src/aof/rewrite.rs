//! BGREWRITEAOF: a new base from a cut, while the log goes on into a new file.
//!
//! No fork and no pause. The steps, each of which leaves files that a start can load:
//!
//! 1. the next incremental file is made, and named in the manifest;
//! 2. under the writer's lock a cut begins; from its offset on the log goes into the new file;
//! 3. the cut is written as the next base, which appears under its name whole and synced;
//! 4. the manifest makes it the base, and history of what it replaces; the history is deleted.
//!
//! Where the append-only file was just switched on there is nothing to go on from: the log goes into a file under a temporary
//! name, which step 4 gives its own. Where it is off, only a base is written. After failures automatic tries are
//! spaced as in Redis: the third in a row waits a minute, then two, up to an hour.

use super::writer::{NextFile, Writer, sync_recovered};
use super::{Mode, drop_writer, place, progressed};
use crate::config::Config;
use crate::ground::pace::Pace;
use crate::os::unix_seconds;
use crate::server::Server;
use crate::snapshot::{self, Hold, Party};
use crate::stand_in::StandIn;
use parking_lot::{Condvar, Mutex};
use sluice_engine::{Cut, LogReader};
use sluice_persistence::SaveStats;
use sluice_persistence::aof::{AofPlace, IncrWriter, Manifest, RewriteOptions, rewrite_as_commands};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a rewrite waits before it asks again for the one cut there may be.
const CUT_RETRY: Duration = Duration::from_millis(5);
/// Failures in a row after which automatic tries are spaced (`AOF_REWRITE_LIMITE_THRESHOLD`).
const FAILURES_FREE: u64 = 3;
/// The same where clients' writes are refused until a new base is there, after a sync that failed: in seconds.
const SYNC_RETRY_SECONDS: u64 = 2;
/// Longest space between them, in minutes (`AOF_REWRITE_LIMITE_MAX_MINUTES`).
const MAX_DELAY_MINUTES: u64 = 60;

/// The state of rewriting.
#[derive(Default)]
pub(super) struct Rewriting {
    pub(super) running: AtomicBool,
    pub(super) scheduled: AtomicBool,
    /// The running one is to stop.
    stop: AtomicBool,
    stopped: Mutex<()>,
    changed: Condvar,
    /// Minutes the last automatic try was put off by, and the Unix second of the next one.
    delay_minutes: AtomicU64,
    next_try: AtomicU64,
}

/// How a rewrite ended that has no new base to show.
enum Failure {
    /// It was told to stop.
    Stopped,
    /// A full sync needed the cut.
    GaveWay,
    Failed(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Failed(text)
    }
}

/// What BGREWRITEAOF answers.
pub(crate) enum Answer {
    Started,
    Scheduled,
    Refused(&'static str),
}

/// BGREWRITEAOF.
pub(crate) fn request(server: &Arc<Server>) -> Answer {
    let aof = &server.aof;
    if aof.is_rewriting() {
        return Answer::Refused("ERR Background append only file rewriting already in progress");
    }
    if server.persist.bgsave_running.load(Ordering::Acquire) {
        aof.rewriting.scheduled.store(true, Ordering::Release);
        // Asked for by hand: it does not wait for the end of a delay.
        aof.figures.failures.store(0, Ordering::Relaxed);
        return Answer::Scheduled;
    }
    match begin(server) {
        Ok(()) => Answer::Started,
        Err(e) => {
            crate::log!(Warning, "{e}");
            Answer::Refused(
                "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
            )
        }
    }
}

/// Scheduled and automatic rewrites. `hold` keeps the next cut for what else is due now.
pub(crate) fn cron(server: &Arc<Server>, hold: &Hold) {
    let aof = &server.aof;
    // What no connection waits for (keys that expired) is written here at the latest.
    if aof.queued(server.engine.log()) > 0 {
        aof.wake();
    }
    let busy = aof.is_rewriting() || server.persist.bgsave_running.load(Ordering::Acquire);
    if busy || server.is_loading() || !aof.ready.load(Ordering::Acquire) {
        return;
    }
    let config = server.config.load();
    let due = aof.is_rewrite_scheduled() || grown(server, &config);
    if due
        && !limited(server)
        && let Err(e) = begin_with(server, Some(hold.clone()))
    {
        crate::log!(Warning, "{e}");
    }
}

fn grown(server: &Server, config: &Config) -> bool {
    let f = &server.aof.figures;
    let size = f.size.load(Ordering::Relaxed);
    if server.aof.mode() != Mode::On
        || config.auto_aof_rewrite_percentage == 0
        || size <= config.auto_aof_rewrite_min_size
    {
        return false;
    }
    let base = f.base_size.load(Ordering::Relaxed).max(1);
    let growth = (u128::from(size) * 100 / u128::from(base)).saturating_sub(100);
    let due = growth >= u128::from(config.auto_aof_rewrite_percentage);
    if due && f.failures.load(Ordering::Relaxed) < FAILURES_FREE {
        crate::log!(Notice, "Starting automatic rewriting of AOF on {growth}% growth");
    }
    due
}

/// Whether automatic tries have to wait, after too many failures.
fn limited(server: &Server) -> bool {
    let r = &server.aof.rewriting;
    if server.aof.figures.failures.load(Ordering::Relaxed) < FAILURES_FREE {
        r.delay_minutes.store(0, Ordering::Relaxed);
        r.next_try.store(0, Ordering::Relaxed);
        return false;
    }
    let next = r.next_try.load(Ordering::Relaxed);
    if next != 0 {
        let early = unix_seconds() < next;
        if !early {
            r.next_try.store(0, Ordering::Relaxed);
        }
        return early;
    }
    if server.aof.figures.sync_error.load(Ordering::Acquire) != 0 {
        r.next_try.store(unix_seconds() + SYNC_RETRY_SECONDS, Ordering::Relaxed);
        return true;
    }
    let minutes = (r.delay_minutes.load(Ordering::Relaxed) * 2).clamp(1, MAX_DELAY_MINUTES);
    r.delay_minutes.store(minutes, Ordering::Relaxed);
    r.next_try.store(unix_seconds() + minutes * 60, Ordering::Relaxed);
    crate::log!(
        Warning,
        "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {minutes} minutes"
    );
    true
}

/// Begins a rewrite, on a thread of its own.
pub(super) fn begin(server: &Arc<Server>) -> Result<(), String> {
    begin_with(server, None)
}

fn begin_with(server: &Arc<Server>, hold: Option<Hold>) -> Result<(), String> {
    let aof = &server.aof;
    if aof.rewriting.running.swap(true, Ordering::AcqRel) {
        return Err("A rewrite of the append-only file is running".into());
    }
    let place = place(server);
    let prepared = server
        .storage
        .create_dir(&place.dir)
        .map_err(|e| format!("Can't open or create append-only dir {}: {e}", place.dir.display()))
        .and_then(|()| super::start::take_over(server, place));
    if let Err(e) = prepared {
        aof.figures.rewrite_failed.store(true, Ordering::Relaxed);
        ended(server);
        return Err(e);
    }
    aof.rewriting.stop.store(false, Ordering::Release);
    aof.rewriting.scheduled.store(false, Ordering::Release);
    aof.figures.rewrites.fetch_add(1, Ordering::Relaxed);
    aof.figures.rewrite_began.store(unix_seconds(), Ordering::Relaxed);
    let owner = server.clone();
    let child = StandIn::begin(server);
    let spawned = std::thread::Builder::new().name("aof-rewrite".into()).spawn(move || {
        crate::os::short_turns();
        run(&owner, hold, child);
    });
    if let Err(e) = spawned {
        aof.figures.rewrite_failed.store(true, Ordering::Relaxed);
        ended(server);
        return Err(format!("Can't rewrite append only file in background: {e}"));
    }
    crate::log!(Notice, "Background append only file rewriting started by pid {}", std::process::id());
    Ok(())
}

fn ended(server: &Server) {
    let r = &server.aof.rewriting;
    if server.aof.mode() == Mode::Off && !server.config.load().appendonly {
        server.aof.folder.release();
    }
    let guard = r.stopped.lock();
    server.aof.figures.rewrite_began.store(0, Ordering::Relaxed);
    r.running.store(false, Ordering::Release);
    r.changed.notify_all();
    drop(guard);
}

/// Stops the running rewrite, if there is one, and waits until it has.
pub(super) fn stop(server: &Server) {
    let r = &server.aof.rewriting;
    let mut guard = r.stopped.lock();
    if !r.running.load(Ordering::Acquire) {
        return;
    }
    crate::log!(Notice, "Killing running AOF rewrite child: {} (a thread)", std::process::id());
    r.stop.store(true, Ordering::Release);
    while r.running.load(Ordering::Acquire) {
        r.changed.wait(&mut guard);
    }
}

fn run(server: &Arc<Server>, hold: Option<Hold>, child: StandIn) {
    let f = &server.aof.figures;
    let began = f.rewrite_began.load(Ordering::Relaxed);
    match rewrite(server, hold, child) {
        Ok(()) => {
            f.rewrite_failed.store(false, Ordering::Relaxed);
            f.failures.store(0, Ordering::Relaxed);
            crate::log!(Notice, "Background AOF rewrite finished successfully");
        }
        Err(failure) => {
            match failure {
                Failure::Stopped | Failure::GaveWay => {
                    crate::log!(Warning, "Background AOF rewrite was stopped");
                }
                Failure::Failed(why) => {
                    f.rewrite_failed.store(true, Ordering::Relaxed);
                    f.failures.fetch_add(1, Ordering::Relaxed);
                    crate::log!(Warning, "Background AOF rewrite terminated with error: {why}");
                }
            }
            give_up_first(server);
        }
    }
    f.rewrite_seconds.store(unix_seconds().saturating_sub(began) as i64, Ordering::Relaxed);
    ended(server);
}

/// Where the first base could not be written there is no append-only file yet: what was gathered goes, and it is
/// tried again.
fn give_up_first(server: &Server) {
    let place = place(server);
    let temp = temporary_incr(&place);
    let stopping = server.aof.rewriting.stop.load(Ordering::Acquire);
    let waiting = server.aof.mode() == Mode::Waiting;
    if !waiting && !stopping {
        return;
    }
    if waiting {
        drop_writer(server);
    }
    if server.storage.exists(&temp).unwrap_or(false) {
        crate::log!(
            Notice,
            "Removing the temp incr aof file {} in the background",
            temp.file_name().unwrap_or_default().display()
        );
        let _ = server.storage.remove(&temp);
    }
    if waiting && !stopping {
        server.aof.rewriting.scheduled.store(true, Ordering::Release);
    }
}

fn temporary_incr(place: &AofPlace) -> PathBuf {
    place.dir.join(format!("temp-{}.incr", place.filename))
}

fn rewrite(server: &Arc<Server>, hold: Option<Hold>, child: StandIn) -> Result<(), Failure> {
    let config = server.config.load();
    let place = place(server);
    let (aof, storage) = (&server.aof, &server.storage);
    storage.sync_dir(&place.home).map_err(|e| format!("Can't sync {}: {e}", place.home.display()))?;
    let mode = aof.mode();
    let file = next_file(server, &place, mode)?;
    let rdb = config.aof_use_rdb_preamble;
    let name = aof.manifest.lock().next_base_name(&place.filename, rdb);
    let path = place.dir.join(Path::new(&*String::from_utf8_lossy(&name)));
    let (offset, stats) = if rdb {
        // Without a file to go on from yet, what is gathered would have to be thrown away with the cut.
        let gives_way = mode == Mode::On;
        match write_rdb(server, file, &path, hold, child, gives_way) {
            // The log of the cut that was given up is whole in its file; from the next cut on it goes into one more.
            Err(Failure::GaveWay) => {
                let file = next_file(server, &place, mode)?;
                write_rdb(server, file, &path, None, StandIn::none(), false)?
            }
            written => written?,
        }
    } else {
        drop(hold);
        write_commands(server, file, &path, config.aof_timestamp_enabled, &child)?
    };
    crate::log!(Notice, "Background AOF rewrite terminated with success");
    match commit(server, &place, mode, rdb, offset, &stats) {
        Ok(true) => collect_history(server, &server.config.load()),
        // The files of the manifest before are still needed, should the power fail.
        Ok(false) => {}
        Err(e) => {
            let _ = storage.remove(&path);
            return Err(e);
        }
    }
    Ok(())
}

/// Replaces the manifest on the storage. An error means that the one before is still there; `false` that this one is,
/// but might not be after a power cut.
fn replace_manifest(server: &Server, place: &AofPlace, next: &Manifest) -> Result<bool, String> {
    let storage = &server.storage;
    let Err(e) = next.persist(storage, &place.dir, &place.filename) else { return Ok(true) };
    let there = Manifest::load(&**storage, &place.dir, &place.filename);
    if there.is_ok_and(|there| there.to_bytes() == next.to_bytes()) {
        crate::log!(Warning, "Fail to fsync AOF directory {}: {e}", place.dir.display());
        return Ok(storage.sync_dir(&place.dir).is_ok());
    }
    Err(format!("Can't write the AOF manifest file: {e}"))
}

/// Step 1.
fn next_file(server: &Server, place: &AofPlace, mode: Mode) -> Result<Option<IncrWriter>, Failure> {
    let storage = &server.storage;
    let fail = |path: &Path| {
        let shown = path.display().to_string();
        move |e| format!("Can't open the append-only file {shown}: {e}")
    };
    let (file, path) = match mode {
        Mode::Off => return Ok(None),
        Mode::Waiting => {
            let path = temporary_incr(place);
            (IncrWriter::create(storage, &path).map_err(fail(&path))?, path)
        }
        Mode::On => {
            let mut manifest = server.aof.manifest.lock();
            let mut next = manifest.clone();
            let path = next.add_incr(&place.filename).path(&place.dir);
            let file = IncrWriter::create(storage, &path).map_err(fail(&path))?;
            // Where this fails the file stays: a start that finds it named finds it empty, which is as good as unnamed.
            let durable = replace_manifest(server, place, &next)?;
            *manifest = next;
            if !durable {
                // After a power cut the file might be in no manifest, and what was synced into it lost: it stays empty.
                return Err(Failure::Failed(format!(
                    "The manifest in {} might not survive a power cut",
                    place.dir.display()
                )));
            }
            (file, path)
        }
    };
    let name = path.file_name().unwrap_or_default().display();
    crate::log!(Notice, "Creating AOF incr file {name} on background rewrite");
    Ok(Some(file))
}

/// Step 2, if a cut can begin now: with a cursor of the log from there on, where the log is kept. The file is taken then.
pub(crate) fn begin_cut(server: &Server, file: &mut Option<IncrWriter>) -> Option<(Cut, Option<LogReader>)> {
    let aof = &server.aof;
    let mut writer = aof.writer.lock();
    if file.is_none() {
        return Some((server.engine.begin_cut().ok()?, None));
    }
    let (cut, reader) = server.engine.begin_cut_with_log().ok()?;
    let kept = reader.another(cut.offset()).ok();
    if let Some(file) = file.take() {
        match &mut *writer {
            Some(writer) => {
                writer.switch(NextFile { from: cut.offset(), file, select: cut.selected() });
            }
            None => {
                *writer = Some(Writer::new(server, reader, file, cut.selected()));
                aof.writing.store(true, Ordering::Release);
            }
        }
    }
    drop(writer);
    aof.wake();
    Some((cut, kept))
}

/// Steps 2 and 3, as an RDB file. Returns the cut's offset.
fn write_rdb(
    server: &Arc<Server>,
    file: Option<IncrWriter>,
    path: &Path,
    hold: Option<Hold>,
    child: StandIn,
    gives_way: bool,
) -> Result<(u64, SaveStats), Failure> {
    let owner = server.clone();
    let party = Party {
        base: Some(file),
        gives_way,
        stop: Arc::new(move || owner.aof.rewriting.stop.load(Ordering::Acquire)),
        child,
        ..Party::new(path.to_owned())
    };
    let mut offset = 0;
    let ticket = snapshot::seat(server, party);
    drop(hold);
    let written = ticket.wait(|begun| offset = begun.offset).map_err(|e| match e {
        snapshot::Failure::Stopped => Failure::Stopped,
        snapshot::Failure::GaveWay => Failure::GaveWay,
        snapshot::Failure::Failed(e) => {
            Failure::Failed(format!("Write error writing append only file on disk: {e}"))
        }
    })?;
    Ok((offset, written.stats))
}

/// The same, as commands.
fn write_commands(
    server: &Arc<Server>,
    mut file: Option<IncrWriter>,
    path: &Path,
    timestamp: bool,
    child: &StandIn,
) -> Result<(u64, SaveStats), Failure> {
    let stopped = || server.aof.rewriting.stop.load(Ordering::Acquire);
    let cut = loop {
        if stopped() {
            return Err(Failure::Stopped);
        }
        match begin_cut(server, &mut file) {
            Some((cut, _)) => break cut,
            None => std::thread::sleep(CUT_RETRY),
        }
    };
    let offset = cut.offset();
    let options = RewriteOptions { timestamp: timestamp.then(|| unix_seconds() as i64) };
    let mut pace = if child.is_there() { Pace::of_child(&server.config) } else { Pace::new(&server.config) };
    let mut progress = |stats: &SaveStats| {
        let over = || stopped() || child.killed_by().is_some();
        pace.wait(stats.keys, over);
        if over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stats = rewrite_as_commands(cut, &server.paced_storage, path, &options, &mut progress).map_err(
        |e| match e {
            sluice_persistence::Error::Stopped => Failure::Stopped,
            e => Failure::Failed(format!("Write error writing append only file on disk: {e}")),
        },
    )?;
    Ok((offset, stats))
}

/// Step 4, without the deleting, which may follow where this returns true.
fn commit(
    server: &Server,
    place: &AofPlace,
    mode: Mode,
    rdb: bool,
    offset: u64,
    stats: &SaveStats,
) -> Result<bool, Failure> {
    let (aof, storage) = (&server.aof, &server.storage);
    let mut manifest = aof.manifest.lock();
    let mut writer = aof.writer.lock();
    if aof.rewriting.stop.load(Ordering::Acquire) {
        return Err(Failure::Stopped);
    }
    let mut next = manifest.clone();
    next.advance_base(&place.filename, rdb);
    let mut renamed = None;
    if mode == Mode::Waiting {
        let path = next.add_incr(&place.filename).path(&place.dir);
        let Some(w) = &mut *writer else { return Err(Failure::Stopped) };
        // What it holds so far becomes part of the data by the manifest: not before it is durable.
        w.drain(server)
            .and_then(|()| w.sync(server))
            .and_then(|()| w.last_file().rename(&path))
            .map_err(|e| format!("Error trying to rename the temporary AOF incr file: {e}"))?;
        renamed = Some(path);
    }
    next.retire_incr(mode != Mode::Off);
    let durable = replace_manifest(server, place, &next).inspect_err(|_| {
        if let Some(path) = renamed {
            let _ = storage.remove(&path);
        }
    })?;
    *manifest = next;
    if let Some(w) = &mut *writer {
        w.skip_to(server, offset);
        let size = stats.bytes + w.last_file().len();
        aof.figures.size.store(size, Ordering::Relaxed);
        aof.figures.base_size.store(size, Ordering::Relaxed);
        if !w.is_lost() {
            sync_recovered(server);
        }
    }
    if mode == Mode::Waiting {
        aof.set_mode(Mode::On);
    }
    drop(writer);
    drop(manifest);
    progressed(server);
    aof.wake();
    Ok(durable)
}

/// Deletes what rewrites have replaced, unless `aof-disable-auto-gc`.
pub(crate) fn collect_history(server: &Server, config: &Config) {
    if config.aof_disable_auto_gc || !server.aof.ready.load(Ordering::Acquire) {
        return;
    }
    let place = place(server);
    let mut manifest = server.aof.manifest.lock();
    let history = std::mem::take(&mut manifest.history);
    if history.is_empty() {
        return;
    }
    for file in &history {
        crate::log!(Notice, "Removing the history file {} in the background", file.shown());
        match server.storage.remove(&file.path(&place.dir)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                crate::log!(Warning, "Can't remove the AOF file {}: {e}", file.shown());
            }
            _ => {}
        }
    }
    if let Err(e) = manifest.persist(&server.storage, &place.dir, &place.filename) {
        // The files are gone; a manifest that still names them as history does no harm.
        crate::log!(Warning, "Can't write the AOF manifest file: {e}");
    }
}
