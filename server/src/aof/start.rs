//! Loading the append-only file, and opening it to go on.

use super::rewrite::collect_history;
use super::writer::{Writer, start_threads};
use super::{Mode, configured_place, flush, place};
use crate::config::{Config, PropagationError};
use crate::ground::gate;
use crate::server::Server;
use sluice_engine::Engine;
use sluice_persistence::aof::manifest::remove_leftovers;
use sluice_persistence::aof::{
    AofLoad, AofNote, AofOptions, AofPlace, IncrWriter, Manifest, ManifestError, RewriteOptions, load,
    rewrite_as_commands,
};
use sluice_persistence::{SaveOptions, save_cut};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Loads the append-only file there is, and opens it, or makes one.
pub(crate) fn load_at_start(server: &Arc<Server>) -> Result<(), String> {
    let config = server.config.load();
    let place = configured_place(&config);
    server
        .storage
        .create_dir(&place.dir)
        .map_err(|e| format!("Can't open or create append-only dir {}: {e}", place.dir.display()))?;
    server.aof.folder.take(server, &place)?;
    let mut manifest = read_manifest(server, &place)?;
    if let Some(loaded) = load_into(server, &server.engine, &place, &mut manifest, &config)? {
        crate::log!(Notice, "DB loaded from append only file: {:.3} seconds", loaded.elapsed.as_secs_f64());
        server.aof.figures.size.store(loaded.bytes, Ordering::Relaxed);
        server.aof.figures.base_size.store(loaded.base_bytes, Ordering::Relaxed);
    }
    open(server, &place, manifest, &config)?;
    collect_history(server, &config);
    Ok(())
}

/// The append-only file is off, and may go on, or be rewritten, with the files there are at `place`.
///
/// # Errors
/// There is a manifest that cannot be used: nothing there is to be written over.
pub(super) fn look_in(server: &Server, place: AofPlace) -> Result<(), String> {
    let mut known = server.aof.place.lock();
    let same = known.as_ref().is_some_and(|known| known.dir == place.dir && known.filename == place.filename);
    if !same {
        *server.aof.manifest.lock() = read_manifest(server, &place)?;
        *known = Some(place);
    }
    Ok(())
}

/// The same, with the folder for ourselves: what it holds may have changed while it was not.
pub(super) fn take_over(server: &Server, place: AofPlace) -> Result<(), String> {
    if server.aof.folder.take(server, &place)? {
        *server.aof.place.lock() = None;
    }
    look_in(server, place)
}

fn read_manifest(server: &Server, place: &AofPlace) -> Result<Manifest, String> {
    Manifest::load(&*server.storage, &place.dir, &place.filename).map_err(|e| {
        crate::log!(Warning, "*** FATAL AOF MANIFEST FILE ERROR ***");
        if let ManifestError::Invalid { line: Some((number, text)), .. } = &e {
            crate::log!(Warning, "Reading the manifest file, at line {number}");
            crate::log!(Warning, ">>> '{text}'");
        }
        e.to_string()
    })
}

fn load_into(
    server: &Server,
    engine: &Engine,
    place: &AofPlace,
    manifest: &mut Manifest,
    config: &Config,
) -> Result<Option<AofLoad>, String> {
    let total = manifest.parts().filter_map(|f| server.storage.len(&f.path(&place.dir)).ok()).sum();
    crate::persist::loading_began(server, total);
    let options = AofOptions { load_truncated: config.aof_load_truncated, checksum: config.rdbchecksum };
    let mut note = |note: AofNote| match note {
        AofNote::Notice(text) => crate::log!(Notice, "{text}"),
        AofNote::Warning(text) => crate::log!(Warning, "{text}"),
    };
    let mut progress = |done| server.persist.loading_done.store(done, Ordering::Relaxed);
    let loaded = load(engine, &server.storage, place, manifest, options, &mut note, &mut progress)
        .map_err(|e| e.to_string())?;
    if let Some(loaded) = &loaded {
        server.persist.loading_keys.store(loaded.base_keys, Ordering::Relaxed);
        server.stats.unexpected_error_replies.add(loaded.refused);
        if loaded.refused > 0 && config.propagation_error_behavior == PropagationError::Panic {
            return Err("This server panicked sending an error to its AOF-loading-client".into());
        }
    }
    crate::persist::clean_now(server);
    Ok(loaded)
}

/// Opens the newest incremental file, and what must be there beside it.
fn open(
    server: &Arc<Server>,
    place: &AofPlace,
    mut manifest: Manifest,
    config: &Config,
) -> Result<(), String> {
    let storage = &server.storage;
    let dir = place.dir.display();
    storage
        .create_dir(&place.dir)
        .and_then(|()| storage.sync_dir(&place.home))
        .map_err(|e| format!("Can't open or create append-only dir {dir}: {e}"))?;
    remove_leftovers(&**storage, &place.dir, &place.filename)
        .map_err(|e| format!("Can't remove temporary files from {dir}: {e}"))?;
    let before = manifest.clone();
    if manifest.is_empty() {
        manifest.advance_base(&place.filename, config.aof_use_rdb_preamble);
        let name = manifest.base.as_ref().map(|b| b.shown()).unwrap_or_default();
        write_first_base(server, place, &manifest, config)
            .map_err(|e| format!("Write error writing append only file on disk: {e}"))?;
        crate::log!(Notice, "Creating AOF base file {name} on server start");
    }
    let found = manifest.incr.last().cloned();
    let doing = if found.is_some() { "Opening" } else { "Creating" };
    let file = found.unwrap_or_else(|| manifest.add_incr(&place.filename));
    let writer = IncrWriter::open(storage, &file.path(&place.dir))
        .map_err(|e| format!("Can't open the append-only file {}: {e}", file.shown()))?;
    if manifest != before {
        manifest
            .persist(storage, &place.dir, &place.filename)
            .map_err(|e| format!("Can't write the AOF manifest file: {e}"))?;
    }
    crate::log!(Notice, "{doing} AOF incr file {} on server start", file.shown());
    // Nothing runs but loading: no command is between its effect and its place in the log.
    let log = server.engine.log();
    let reader = log.follow();
    let aof = &server.aof;
    *aof.manifest.lock() = manifest;
    *aof.place.lock() = Some(place.clone());
    *aof.writer.lock() = Some(Writer::new(server, reader, writer, log.selected()));
    aof.writing.store(true, Ordering::Release);
    aof.set_mode(Mode::On);
    Ok(())
}

fn write_first_base(
    server: &Server,
    place: &AofPlace,
    manifest: &Manifest,
    config: &Config,
) -> Result<(), sluice_persistence::Error> {
    let Some(base) = &manifest.base else { return Ok(()) };
    let path = base.path(&place.dir);
    let cut = server.engine.begin_cut()?;
    let mut progress = |_: &_| ControlFlow::Continue(());
    let stats = if config.aof_use_rdb_preamble {
        let options =
            SaveOptions { aof_base: true, replication_id: None, ..crate::persist::save_options(server) };
        save_cut(cut, &server.storage, &path, &options, &mut progress)?
    } else {
        let timestamp = config.aof_timestamp_enabled.then(|| crate::os::unix_seconds() as i64);
        rewrite_as_commands(cut, &server.storage, &path, &RewriteOptions { timestamp }, &mut progress)?
    };
    server.aof.figures.size.store(stats.bytes, Ordering::Relaxed);
    server.aof.figures.base_size.store(stats.bytes, Ordering::Relaxed);
    Ok(())
}

/// Everything is loaded: threads start, settings have an effect.
pub(crate) fn begin_service(server: &Arc<Server>) -> Result<(), String> {
    start_threads(server)?;
    if server.aof.mode() == Mode::Off {
        // One that cannot be used matters, and is told again, where it is needed.
        if let Err(e) = look_in(server, configured_place(&server.config.load())) {
            crate::log!(Warning, "{e}");
        }
    }
    server.aof.ready.store(true, Ordering::Release);
    Ok(())
}

/// DEBUG LOADAOF: the data is replaced by what the files say.
pub(crate) fn reload(server: &Arc<Server>) -> Result<(), String> {
    flush(server, false);
    let config = server.config.load();
    let place = place(server);
    let live = server.engine.clone();
    let engine = live.beside();
    server.set_gate(gate::LOADING, true);
    let loaded = read_manifest(server, &place).and_then(|mut manifest| {
        let loaded = load_into(server, &engine, &place, &mut manifest, &config)?;
        *server.aof.manifest.lock() = manifest;
        Ok(loaded)
    });
    if loaded.is_ok() {
        live.adopt(engine);
        crate::persist::clean_now(server);
    }
    server.set_gate(gate::LOADING, false);
    loaded.map(drop)
}
