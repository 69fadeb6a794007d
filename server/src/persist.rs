//! Snapshots: SAVE, BGSAVE, save points, loading at start.
//!
//! A snapshot is a cut written through [`Storage`](sluice_persistence::storage::Storage): no fork, so SAVE differs
//! from BGSAVE only in who waits for it.

use crate::config::{Config, os_reason};
use crate::ground::gate;
use crate::os::unix_seconds;
use crate::server::Server;
use crate::snapshot::{self, Failure, Party, Ticket, Written};
use crate::stand_in::StandIn;
use sluice_persistence::{Error, LoadControl, LoadOptions, LoadStats, SaveOptions, SaveStats};
use sluice_transport::state::Role;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

/// A save point that failed is tried again after this many seconds, as in Redis.
const RETRY_SECONDS: u64 = 5;

/// The state of saving, as INFO's `persistence` section shows it.
#[derive(Default)]
pub(crate) struct Persistence {
    /// A snapshot is being written by BGSAVE or a save point.
    pub(crate) bgsave_running: AtomicBool,
    /// One more BGSAVE was asked for meanwhile.
    pub(crate) bgsave_scheduled: AtomicBool,
    /// The running BGSAVE is to end without a file: FLUSHALL came.
    pub(crate) bgsave_aborted: Arc<AtomicBool>,
    /// Unix seconds of the last good save (or the start).
    pub(crate) last_save: AtomicU64,
    /// Unix seconds of the last attempt.
    pub(crate) last_try: AtomicU64,
    /// The last BGSAVE failed.
    pub(crate) last_failed: AtomicBool,
    /// Seconds the last BGSAVE took, -1 before the first.
    pub(crate) last_seconds: AtomicI64,
    /// Unix milliseconds at which the running one began, 0 for none.
    pub(crate) began_ms: AtomicU64,
    /// The engine's change counter at the last good save.
    pub(crate) changes_at_save: AtomicU64,
    /// Good saves since the start.
    pub(crate) saves: AtomicU64,
    /// The snapshot being written: keys done, keys in all, bytes of pre-images; and those of the last one.
    pub(crate) save_keys: AtomicU64,
    pub(crate) save_keys_total: AtomicU64,
    pub(crate) save_preimages: AtomicU64,
    pub(crate) last_preimages: AtomicU64,
    /// Loading: bytes in all, bytes read, keys loaded, start in Unix seconds.
    pub(crate) loading_total: AtomicU64,
    pub(crate) loading_done: AtomicU64,
    pub(crate) loading_keys: AtomicU64,
    /// Keys the last load left out as expired.
    pub(crate) loading_expired: AtomicU64,
    /// The load of a file, as it goes on.
    pub(crate) load: Arc<LoadControl>,
    pub(crate) loading_since: AtomicU64,
}

/// Changes since the last good save.
pub(crate) fn dirty(server: &Server) -> u64 {
    server.engine.changes().saturating_sub(server.persist.changes_at_save.load(Ordering::Relaxed))
}

/// The data is what was just loaded: nothing is unsaved, as far as save points care.
pub(crate) fn clean_now(server: &Server) {
    server.persist.changes_at_save.store(server.engine.changes(), Ordering::Relaxed);
    server.persist.last_save.store(unix_seconds(), Ordering::Relaxed);
}

/// A promoted replica counts changes from here.
pub(crate) fn dirty_from_now(server: &Server) {
    server.persist.changes_at_save.fetch_min(server.engine.changes(), Ordering::Relaxed);
}

/// A load began; `total` bytes, 0 if unknown.
pub(crate) fn loading_began(server: &Server, total: u64) {
    let p = &server.persist;
    p.loading_total.store(total, Ordering::Relaxed);
    p.loading_done.store(0, Ordering::Relaxed);
    p.loading_keys.store(0, Ordering::Relaxed);
    p.loading_expired.store(0, Ordering::Relaxed);
    p.load.bytes.store(0, Ordering::Relaxed);
    p.load.used_memory.store(0, Ordering::Relaxed);
    p.loading_since.store(unix_seconds(), Ordering::Relaxed);
}

/// How snapshots are written now.
pub(crate) fn save_options(server: &Server) -> SaveOptions {
    let c = server.config.load();
    SaveOptions {
        checksum: c.rdbchecksum,
        compression: c.rdbcompression,
        used_memory: crate::os::resident_memory(),
        replication_id: server
            .engine
            .log()
            .is_active()
            .then(|| server.history.lock().clone())
            // A replica that waits for a full sync stands for no place in any history.
            .filter(|state| state.role() != Role::Replica { resumable: false })
            .map(|state| state.replid().as_str().to_owned()),
        ..SaveOptions::default()
    }
}

/// The RDB file.
pub(crate) fn path(server: &Server) -> PathBuf {
    let c = server.config.load();
    c.dir.join(&c.dbfilename)
}

/// Writes a snapshot and waits for it.
pub(crate) fn save_now(server: &Arc<Server>) -> Result<(), String> {
    save_unless(server, || false)
}

/// The same, given up when `stop` says so.
pub(crate) fn save_unless(
    server: &Arc<Server>,
    stop: impl Fn() -> bool + Send + Sync + 'static,
) -> Result<(), String> {
    let party = Party {
        paced: false,
        child: StandIn::begin(server),
        stop: Arc::new(stop),
        ..Party::new(path(server))
    };
    finish(server, snapshot::seat(server, party), None)
}

/// How far the snapshot is that is being written.
pub(crate) fn saving(server: &Server, stats: &SaveStats) {
    let p = &server.persist;
    p.save_keys.store(stats.keys, Ordering::Relaxed);
    p.save_keys_total.store(stats.keys_total, Ordering::Relaxed);
    p.save_preimages.store(stats.preimages, Ordering::Relaxed);
}

/// No snapshot is being written any more.
pub(crate) fn saving_ended(server: &Server) {
    let p = &server.persist;
    p.save_keys.store(0, Ordering::Relaxed);
    p.save_keys_total.store(0, Ordering::Relaxed);
    p.last_preimages.store(p.save_preimages.swap(0, Ordering::Relaxed), Ordering::Relaxed);
}

/// Waits for a snapshot and keeps how it went. One that gave way to a full sync is begun `again`.
fn finish(server: &Arc<Server>, ticket: Ticket, again: Option<Party>) -> Result<(), String> {
    let began = Instant::now();
    server.persist.began_ms.store(sluice_engine::internals::now_ms() as u64, Ordering::Relaxed);
    let mut changes = 0;
    let mut saved = ticket.wait(|begun| changes = begun.changes);
    if let (Err(Failure::GaveWay), Some(party)) = (&saved, again) {
        saved = snapshot::seat(server, party).wait(|begun| changes = begun.changes);
    }
    server.persist.began_ms.store(0, Ordering::Relaxed);
    let outcome = match saved {
        // As in Redis, where FLUSHALL kills the child: neither a success nor a failure.
        Err(Failure::Stopped | Failure::GaveWay) => {
            crate::log!(Warning, "Saving ended without a file: what it would have held was deleted");
            return Err("stopped".into());
        }
        Err(Failure::Failed(why)) => Err(why),
        Ok(written) => Ok(written),
    };
    saved_file(server, changes, began, outcome.as_ref().map(|written| written.new).map_err(String::as_str));
    match outcome {
        Ok(Written { stats, .. }) => {
            crate::log!(Notice, "DB saved on disk: {} keys, {} bytes", stats.keys, stats.bytes);
            Ok(())
        }
        Err(e) => {
            crate::log!(Warning, "Failed saving the DB: {e}");
            Err(e)
        }
    }
}

/// The RDB file was written, by whomever and for whatever, or could not be.
///
/// `outcome` says whether the file is one that nobody has told of yet: some are shared.
pub(crate) fn saved_file(server: &Server, changes: u64, began: Instant, outcome: Result<bool, &str>) {
    let p = &server.persist;
    p.last_seconds.store(began.elapsed().as_secs() as i64, Ordering::Relaxed);
    p.last_try.store(unix_seconds(), Ordering::Relaxed);
    p.last_failed.store(outcome.is_err(), Ordering::Relaxed);
    if let Ok(new) = outcome {
        p.last_save.store(unix_seconds(), Ordering::Relaxed);
        p.changes_at_save.store(changes, Ordering::Relaxed);
        p.saves.fetch_add(u64::from(new), Ordering::Relaxed);
    }
    update_gate(server, &server.config.load());
}

/// Recomputes the gate of `stop-writes-on-bgsave-error`.
pub(crate) fn update_gate(server: &Server, c: &Config) {
    let failed = server.persist.last_failed.load(Ordering::Relaxed);
    server.set_gate(gate::MISCONF, failed && c.stop_writes_on_bgsave_error && !c.save.0.is_empty());
}

/// Starts a snapshot on a thread of its own; false where one is running.
pub(crate) fn bgsave(server: &Arc<Server>) -> bool {
    if server.persist.bgsave_running.swap(true, Ordering::AcqRel) {
        return false;
    }
    let owner = server.clone();
    // The snapshot is of the moment it was asked for, unless another cut is under way: then of that one's end.
    let aborted = server.persist.bgsave_aborted.clone();
    aborted.store(false, Ordering::Release);
    let stop = Arc::new(move || aborted.load(Ordering::Acquire));
    let again = Party { stop, ..Party::new(path(server)) };
    let party = Party {
        child: StandIn::begin(server),
        stop: again.stop.clone(),
        gives_way: true,
        ..Party::new(path(server))
    };
    let ticket = snapshot::seat(server, party);
    let spawned = std::thread::Builder::new().name("bgsave".into()).spawn(move || {
        crate::os::short_turns();
        let result = finish(&owner, ticket, Some(again));
        owner.persist.bgsave_running.store(false, Ordering::Release);
        match result {
            Ok(()) => crate::log!(Notice, "Background saving terminated with success"),
            Err(_) => crate::log!(Warning, "Background saving error"),
        }
    });
    match spawned {
        Ok(_) => crate::log!(Notice, "Background saving started"),
        Err(e) => {
            server.persist.bgsave_running.store(false, Ordering::Release);
            server.persist.last_failed.store(true, Ordering::Relaxed);
            crate::log!(Warning, "Can't save in background: {e}");
        }
    }
    true
}

/// Everything was deleted: what a running BGSAVE would write is of no use any more. One that replicas wait for goes on.
pub(crate) fn flushed_all(server: &Server) {
    give_up_bgsave(server);
}

/// Ends a running BGSAVE without a file; whether there is one.
pub(crate) fn give_up_bgsave(server: &Server) -> bool {
    let running = server.persist.bgsave_running.load(Ordering::Acquire);
    if running {
        server.persist.bgsave_aborted.store(true, Ordering::Release);
    }
    running
}

/// Save points and scheduled saves.
pub(crate) fn cron(server: &Arc<Server>) {
    let p = &server.persist;
    if p.bgsave_running.load(Ordering::Acquire) || server.is_loading() {
        return;
    }
    if p.bgsave_scheduled.swap(false, Ordering::AcqRel) {
        bgsave(server);
        return;
    }
    let (changes, now) = (dirty(server), unix_seconds());
    let age = now.saturating_sub(p.last_save.load(Ordering::Relaxed));
    let failed = p.last_failed.load(Ordering::Relaxed);
    let may_try = !failed || now.saturating_sub(p.last_try.load(Ordering::Relaxed)) > RETRY_SECONDS;
    let config = server.config.load();
    if let Some(point) = config.save.0.iter().find(|s| changes >= s.changes && age > s.seconds)
        && may_try
    {
        crate::log!(Notice, "{} changes in {} seconds. Saving...", point.changes, point.seconds);
        bgsave(server);
    }
}

/// Loads the snapshot there is. A damaged one stops the start: nothing is overwritten.
pub(crate) fn load_at_start(server: &Arc<Server>) -> Result<(), String> {
    server.persist.last_save.store(unix_seconds(), Ordering::Relaxed);
    server.persist.last_seconds.store(-1, Ordering::Relaxed);
    if server.config.load().appendonly {
        return crate::aof::load_at_start(server);
    }
    let path = path(server);
    match server.storage.exists(&path) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(e) => return Err(format!("Can't look for '{}': {}", path.display(), os_reason(&e))),
    }
    load_file(server, &path)
}

/// Notes and logs what a load brought.
pub(crate) fn loaded(server: &Server, stats: &LoadStats) {
    let (p, report) = (&server.persist, &stats.report);
    p.loading_keys.store(report.keys, Ordering::Relaxed);
    p.loading_expired.store(report.expired, Ordering::Relaxed);
    if let Some(version) = &report.redis_version {
        crate::log!(Notice, "Loading RDB produced by version {version}");
    }
    if let Some(created) = report.created {
        crate::log!(Notice, "RDB age {} seconds", unix_seconds().saturating_sub(created));
    }
    if let Some(used) = report.used_memory {
        crate::log!(Notice, "RDB memory usage when created {:.2} Mb", used as f64 / f64::from(1 << 20));
    }
    for key in &report.empty_keys {
        crate::log!(Notice, "rdbLoadObject: skipping empty key: {}", key.escape_ascii());
    }
    let (keys, expired, empty) = (report.keys, report.expired, report.empty);
    if empty > 0 {
        crate::log!(
            Warning,
            "Done loading RDB, keys loaded: {keys}, keys expired: {expired}, empty keys skipped: {empty}."
        );
    } else {
        crate::log!(Notice, "Done loading RDB, keys loaded: {keys}, keys expired: {expired}.");
    }
}

/// Loads a file into the empty live keyspace.
pub(crate) fn load_file(server: &Server, path: &std::path::Path) -> Result<(), String> {
    loading_began(server, server.storage.len(path).unwrap_or(0));
    let config = server.config.load();
    let replica = config.replicaof.0.is_some();
    let options = LoadOptions {
        checksum: config.rdbchecksum,
        drop_expired_before: (!replica).then(sluice_engine::internals::now_ms),
        control: Some(server.persist.load.clone()),
    };
    let mut loader = server.engine.loader();
    if !replica {
        // Deletions of what has expired meanwhile go into the log, for replicas that may resume from this file.
        server.engine.log().activate();
    }
    let result = sluice_persistence::load(&mut loader, &*server.storage, path, &options);
    let keys = loader.finish();
    match result {
        Ok(stats) => {
            crate::ground::history::restore(&server.history, server.engine.log(), &stats.report, replica);
            loaded(server, &stats);
            clean_now(server);
            crate::log!(
                Notice,
                "DB loaded from disk: {:.3} seconds, {keys} keys",
                stats.elapsed.as_secs_f64()
            );
            Ok(())
        }
        Err(Error::Rdb { source, .. }) => {
            crate::log!(Warning, "Internal error in RDB reading offset {}: {source}", source.offset());
            // Where, in which key, and what there was before it: what somebody needs who has to repair the file.
            crate::check_rdb::check_file(&*server.storage, path, false, &mut |line| {
                crate::log!(Warning, "{line}");
            });
            Err("Terminating server after rdb file reading failure.".into())
        }
        Err(e) => Err(format!("Fatal error loading the DB: {e}. Exiting.")),
    }
}
