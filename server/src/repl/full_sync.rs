//! Serving full syncs: the batch that is due gets a thread, a cut, and a payload.
//!
//! Whoever asked within the delay window is one batch. Its cut goes through a window of chunks straight to the
//! sockets, or into the RDB file first, which late-comers may join until it is complete.

use super::SyncSummary;
use super::paced::Paced;
use super::primary::{Replica, Replicas, policy};
use crate::config::ReplCompression;
use crate::server::Server;
use crate::snapshot::{self, Failure, Party, Written};
use sluice_engine::{Cut, LogReader};
use sluice_persistence::SaveOptions;
use sluice_persistence::rdb::function_libraries;
use sluice_transport::fullsync::cut::{CutFigures, FramedSource, RdbSource};
use sluice_transport::fullsync::disk::StagedFile;
use sluice_transport::fullsync::pool::BufferPool;
use sluice_transport::fullsync::sluice::{Compression, SluicePayload};
use sluice_transport::fullsync::uring::Uring;
use sluice_transport::fullsync::{
    ChunkSource, DropReason, EofPayload, SyncControl, SyncEvent, SyncPeer, SyncReport, WindowLimits, disk,
    diskless,
};
use sluice_transport::primary::RdbFilter;
use sluice_transport::primary::psync::fullresync_line;
use sluice_transport::primary::schedule::{Batch, Format, Transport};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a full sync waits before it asks again for the one cut there may be.
const CUT_RETRY: Duration = Duration::from_millis(5);

/// A disk-staged sync whose file is being written.
pub(super) struct Staging {
    batch: u64,
    /// Keeps the log from the cut's offset on, where it stands.
    keep: LogReader,
    /// Who joined.
    guests: Vec<u64>,
    control: Arc<SyncControl>,
    figures: Arc<CutFigures>,
}

/// A cut is being taken for replicas: INFO calls that a save in progress.
struct Taking(Arc<Server>);

impl Taking {
    fn begin(server: &Arc<Server>) -> Taking {
        server.repl.cuts.fetch_add(1, Ordering::AcqRel);
        Taking(server.clone())
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.repl.cuts.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Starts the full sync that is due, if one is.
pub(crate) fn kick(server: &Arc<Server>) {
    if !server.repl.open.load(Ordering::Acquire) {
        return;
    }
    let batch = server.repl.replicas.lock().schedule.poll(&policy(server), server.clock());
    let Some(batch) = batch else { return };
    let owner = server.clone();
    let id = batch.id;
    let spawned = std::thread::Builder::new().name("full-sync".into()).spawn(move || {
        crate::os::short_turns();
        let id = batch.id;
        run(&owner, batch);
        end_staging(&owner, id);
        kick(&owner);
    });
    if let Err(e) = spawned {
        crate::log!(Warning, "Can't start a full sync: {e}");
        server.repl.replicas.lock().schedule.cut_taken(id);
    }
}

/// Waits for the one cut there may be, before all others who do, then begins it.
fn begin_cut(server: &Server) -> (Cut, LogReader) {
    let _urgent = snapshot::urgent(server);
    loop {
        match server.engine.begin_cut_with_log() {
            Ok(begun) => return begun,
            Err(_) => std::thread::sleep(CUT_RETRY),
        }
    }
}

fn socket(r: &Replica) -> std::io::Result<SyncPeer> {
    Ok(SyncPeer { id: r.peer.id(), socket: r.stream.as_fd().try_clone_to_owned()? })
}

/// A batch at work: what its steps share.
struct Sync<'a> {
    server: &'a Arc<Server>,
    batch: &'a Batch,
    control: Arc<SyncControl>,
    figures: Arc<CutFigures>,
    /// Given up when the cut is complete.
    taking: Option<Taking>,
}

/// Serves one batch; blocks.
fn run(server: &Arc<Server>, batch: Batch) {
    let control = SyncControl::within(server.repl.sync_budget.clone());
    let figures = Arc::new(CutFigures::default());
    if batch.transport == Transport::Disk {
        return run_staged(server, batch, control, figures);
    }
    let (cut, base) = match batch.filter {
        RdbFilter::ALL => begin_cut(server),
        filter => part(server, filter),
    };
    let offset = base.offset();
    say_begun("replicas sockets", offset);
    figures.log_offset.store(offset, Ordering::Release);
    let taking = Some(Taking::begin(server));
    let mut sync = Sync { server, batch: &batch, control, figures, taking };
    let peers = sync.announce_all(offset, false);
    if peers.is_empty() && server.config.load().save.0.is_empty() {
        return;
    }
    let report = sync.send_chunks(cut, base, peers);
    sync.summarize(Ok(report));
}

/// What a filter leaves of the data, which are no keys, as the cut of a store that has nothing else; and the log from
/// now on.
fn part(server: &Server, filter: RdbFilter) -> (Cut, LogReader) {
    let store = server.engine.beside();
    if filter.functions {
        store.carry(function_libraries(&server.engine.carried()));
    }
    let cut = store.begin_cut().expect("nobody else knows this store");
    (cut, server.engine.follow_log())
}

fn say_begun(target: &str, offset: u64) {
    crate::log!(
        Notice,
        "Starting BGSAVE for SYNC with target: {target} (a cut at offset {offset}, no child)"
    );
}

/// The same by way of the RDB file, which may be another's: a BGSAVE that is under way, or is due as well.
fn run_staged(server: &Arc<Server>, mut batch: Batch, control: Arc<SyncControl>, figures: Arc<CutFigures>) {
    let taking = Some(Taking::begin(server));
    let stop = control.clone();
    let party = Party {
        for_replicas: true,
        stop: Arc::new(move || stop.stopped()),
        ..Party::new(crate::persist::path(server))
    };
    let (began, ticket) = (Instant::now(), snapshot::seat(server, party));
    let mut begun = None;
    let saved = ticket.wait(|b| {
        say_begun("disk", b.offset);
        figures.log_offset.store(b.offset, Ordering::Release);
        let kept = b.log.and_then(|base| Some((base.another(b.offset).ok()?, base)));
        let Some((keep, base)) = kept else {
            // Our own history ended in between: those who follow it are disconnected.
            crate::log!(Warning, "The log from the cut at {} is gone; the full sync is dropped", b.offset);
            return control.stop();
        };
        {
            // From here on `join_staging` has a snapshot to name; those who came before it become members.
            let mut replicas = server.repl.replicas.lock();
            let early = take_early(&mut replicas, batch.id);
            batch.replicas.extend(early);
            replicas.staging = Some(Staging {
                batch: batch.id,
                keep,
                guests: Vec::new(),
                control: control.clone(),
                figures: figures.clone(),
            });
        }
        let members =
            Sync { server, batch: &batch, control: control.clone(), figures: figures.clone(), taking: None };
        let peers = members.announce_all(b.offset, true);
        if peers.is_empty() && server.config.load().save.0.is_empty() {
            control.stop();
        }
        begun = Some((b.changes, base, peers));
    });
    let Some((changes, base, peers)) = begun else {
        // Nobody was told of a snapshot: they ask again.
        return drop_all(server, &batch.replicas);
    };
    let mut sync = Sync { server, batch: &batch, control, figures, taking };
    let report = sync.send_staged(saved, began, changes, &base, peers);
    sync.summarize(report);
}

impl Sync<'_> {
    /// Tells the members where their sync begins.
    fn announce_all(&self, offset: u64, staged: bool) -> Vec<SyncPeer> {
        let line = fullresync_line(&self.server.replid(), offset);
        let mut peers = Vec::new();
        let mut replicas = self.server.repl.replicas.lock();
        for id in &self.batch.replicas {
            let Some(r) = replicas.map.get_mut(id) else { continue };
            match announce(r, &line, staged, &self.control, &self.figures) {
                Ok(peer) => peers.push(peer),
                Err(e) => {
                    crate::log!(Warning, "Can't begin the full sync of replica {}: {e}", r.name);
                    r.client.kill();
                }
            }
        }
        peers
    }

    /// Keeps what INFO's `sync` section shows.
    fn summarize(&self, outcome: Result<SyncReport, Box<(SyncReport, String)>>) {
        let (mut report, failed) = match outcome {
            Ok(report) => (report, None),
            Err(failed) => (failed.0, Some(failed.1)),
        };
        report.window_ms = self.batch.window_ms;
        let preimage_bytes = self.figures.preimage_bytes.load(Ordering::Relaxed);
        if failed.is_none() {
            crate::log!(
                Notice,
                "Full sync by {} of {} replica(s): {} bytes in {} ms, {preimage_bytes} bytes of pre-images",
                report.transport.word(),
                report.completed,
                report.payload_bytes,
                report.duration_ms,
            );
        }
        *self.server.repl.last_sync.lock() = Some(SyncSummary {
            report,
            failed,
            format: self.batch.format,
            preimage_bytes,
            preimage_peak: self.figures.preimage_peak.load(Ordering::Relaxed),
        });
    }
}

/// Sends the FULLRESYNC line; from here on the socket is the sync's.
fn announce(
    r: &mut Replica,
    line: &[u8],
    staged: bool,
    control: &Arc<SyncControl>,
    figures: &Arc<CutFigures>,
) -> std::io::Result<SyncPeer> {
    let peer = socket(r)?;
    r.peer.sync_began(staged);
    r.sync = Some((control.clone(), figures.clone()));
    if !r.peer.pre_psync {
        // A line of 56 bytes into a socket that carried next to nothing yet: it fits, or the peer is broken.
        let n = r.stream.try_write(line)?;
        if n != line.len() {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(peer)
}

/// Those who asked to join a batch before it had a cut.
fn take_early(replicas: &mut Replicas, batch: u64) -> Vec<u64> {
    let of_batch = |e: &mut (u64, u64)| e.0 == batch;
    replicas.early.extract_if(.., of_batch).map(|(_, id)| id).collect()
}

fn drop_all(server: &Server, ids: &[u64]) {
    let replicas = server.repl.replicas.lock();
    for r in ids.iter().filter_map(|id| replicas.map.get(id)) {
        r.client.kill();
    }
}

/// A replica asks while a file is being staged that it can share.
pub(super) fn join_staging(server: &Server, replicas: &mut Replicas, batch: u64, id: u64) {
    let Some(staging) = replicas.staging.as_mut().filter(|s| s.batch == batch) else {
        replicas.early.push((batch, id));
        return;
    };
    staging.guests.push(id);
    let line = fullresync_line(&server.replid(), staging.keep.offset());
    if let Some(r) = replicas.map.get_mut(&id) {
        crate::log!(Notice, "Waiting for end of BGSAVE for SYNC: replica {} joins it", r.name);
        if let Err(e) = announce(r, &line, true, &staging.control, &staging.figures) {
            crate::log!(Warning, "Can't begin the full sync of replica {}: {e}", r.name);
            r.client.kill();
        }
    }
}

/// Nobody joins this batch any more. Returns who did; where the sync failed before its file was complete, or before it
/// had begun, they are nobody's, and closed.
fn take_guests(server: &Server, batch: u64) -> Vec<u64> {
    let mut replicas = server.repl.replicas.lock();
    replicas.schedule.cut_taken(batch);
    let mut guests = take_early(&mut replicas, batch);
    guests.extend(replicas.staging.take_if(|s| s.batch == batch).into_iter().flat_map(|s| s.guests));
    guests
}

/// The end of a batch, however it went.
fn end_staging(server: &Server, batch: u64) {
    let guests = take_guests(server, batch);
    drop_all(server, &guests);
}

fn options(server: &Server) -> SaveOptions {
    crate::persist::save_options(server)
}

impl Sync<'_> {
    /// The sender's events: who has everything starts its stream, who was dropped is logged.
    fn on_event(&mut self, event: SyncEvent, reader: impl Fn() -> Option<LogReader>) {
        let server = self.server;
        match event {
            SyncEvent::SourceDone => {
                self.cut_over();
                server.repl.replicas.lock().schedule.cut_taken(self.batch.id);
                kick(server);
            }
            SyncEvent::Sent { peer, .. } => {
                drop(peer.socket);
                let mut replicas = server.repl.replicas.lock();
                let Some(r) = replicas.map.get_mut(&peer.id) else { return };
                // Framed: the end frame closes the payload, so the stream follows. By length: as well.
                let at_once = self.batch.format != Format::EofRdb;
                let streams = r.peer.payload_sent(at_once, server.clock());
                r.sync = None;
                if streams {
                    crate::log!(Notice, "Synchronization with replica {} succeeded", r.name);
                } else {
                    crate::log!(
                        Notice,
                        "Streamed replica with replica {} succeeded (socket). Waiting for REPLCONF ACK from replica to enable streaming",
                        r.name
                    );
                }
                match reader() {
                    Some(reader) => drop(r.start.send(reader)),
                    None => r.client.kill(),
                }
            }
            SyncEvent::Dropped { id, reason } => {
                server.repl.dropped.fetch_add(1, Ordering::Relaxed);
                let replicas = server.repl.replicas.lock();
                if let Some(r) = replicas.map.get(&id) {
                    if matches!(reason, DropReason::NoProgress { .. }) {
                        crate::log!(Warning, "Disconnecting timedout replica (full sync): {}", r.name);
                    }
                    crate::log!(Warning, "Full sync of replica {} given up: {reason}", r.name);
                    r.client.kill();
                }
            }
        }
    }

    /// The cut is complete, or given up. Said in Redis' words, which people and programs look for in logs; where it
    /// has a pipe from a child, we have a cut.
    fn cut_over(&mut self) {
        if self.taking.take().is_none() || self.batch.transport == Transport::Disk {
            return;
        }
        let replicas = self.server.repl.replicas.lock();
        let up = self.batch.replicas.iter().filter_map(|id| replicas.map.get(id));
        let up = up.filter(|r| !r.client.is(crate::client::registry::kind::CLOSING)).count();
        drop(replicas);
        if up > 0 {
            crate::log!(
                Notice,
                "Diskless rdb transfer, done reading from pipe, {up} replicas still up. (The cut is complete.)"
            );
        } else {
            crate::log!(
                Warning,
                "Diskless rdb transfer, last replica dropped, killing fork child. (There is none: the cut ends.)"
            );
        }
    }

    fn send_chunks(&mut self, cut: Cut, base: LogReader, peers: Vec<SyncPeer>) -> SyncReport {
        let (server, batch) = (self.server, self.batch);
        let config = server.config.load();
        let limits = WindowLimits {
            window_bytes: config.repl_diskless_window as usize,
            timeout_ms: config.repl_timeout * 1000,
            ..WindowLimits::default()
        };
        let pool = BufferPool::new();
        // Between two of our own, compressing strings would cost more than the link does.
        let compression = batch.format != Format::Sluice && config.rdbcompression;
        // Their frames have a checksum of their own.
        let checksum = batch.format != Format::Sluice && config.rdbchecksum;
        let encoder = SaveOptions { compression, checksum, ..options(server) }.encoder(&cut);
        let frames = match config.repl_compression {
            ReplCompression::No => Compression::Off,
            ReplCompression::Lz4 => Compression::Lz4,
        };
        let offset = cut.offset();
        let (log, epoch) = (server.engine.log().clone(), base.epoch());
        let (control, figures) = (self.control.clone(), self.figures.clone());
        // Sources are boxed so that one sender call serves both payloads; the log reader that keeps what the stream
        // will need lives in the source (framed) or here (plain), until the last replica has started.
        let (source, keep): (Box<dyn ChunkSource>, Option<LogReader>) = if batch.format == Format::Sluice {
            let framed = FramedSource::new(server.engine.clone(), cut, encoder, base, figures.clone());
            (Box::new(SluicePayload::new(framed, offset, frames, pool)), None)
        } else {
            (Box::new(EofPayload::new(RdbSource::new(cut, encoder, pool, figures.clone()))), Some(base))
        };
        let mut source = Paced::new(source, &server.config, figures.clone());
        let reader = || log.reader_in(epoch, figures.log_offset.load(Ordering::Acquire)).ok();
        let mut events = |event| self.on_event(event, reader);
        let report = if batch.transport == Transport::IoUring {
            match Uring::new() {
                Ok(ring) => ring.send(&mut source, peers, limits, &control, &mut events),
                Err(e) => {
                    crate::log!(Warning, "repl-transport io-uring: {e}; falling back to plain sockets");
                    diskless::send(&mut source, peers, limits, &control, &mut events)
                }
            }
        } else {
            diskless::send(&mut source, peers, limits, &control, &mut events)
        };
        drop(keep);
        report
    }

    /// Sends the RDB file to everybody who asked before it was complete.
    fn send_staged(
        &mut self,
        saved: Result<Written, Failure>,
        began: Instant,
        changes: u64,
        base: &LogReader,
        mut peers: Vec<SyncPeer>,
    ) -> Result<SyncReport, Box<(SyncReport, String)>> {
        let (server, batch) = (self.server, self.batch);
        let config = server.config.load();
        let path = crate::persist::path(server);
        let (offset, guests) = (base.offset(), take_guests(server, batch.id));
        self.cut_over();
        let all: Vec<u64> = batch.replicas.iter().copied().chain(guests.iter().copied()).collect();
        let given_up = matches!(saved, Err(Failure::Stopped)) || (saved.is_err() && self.control.stopped());
        let saved = saved.map_err(|e| match e {
            Failure::Stopped | Failure::GaveWay => "stopped".to_owned(),
            Failure::Failed(why) => why,
        });
        let new = saved.as_ref().is_ok_and(|written| written.new);
        let staged = saved.and_then(|written| {
            let file = written.file.ok_or("the snapshot was not opened")?;
            Ok(StagedFile { file, staged_ms: began.elapsed().as_millis() as u64 })
        });
        if !given_up {
            let outcome = staged.as_ref().map(|_| new).map_err(String::as_str);
            crate::persist::saved_file(server, changes, began, outcome);
        }
        let staged = match staged {
            Ok(staged) => staged,
            Err(e) => {
                if given_up {
                    crate::log!(
                        Notice,
                        "The snapshot for replicas is given up: none of them waits for it any more"
                    );
                } else {
                    crate::log!(Warning, "SYNC failed. BGSAVE for replicas failed: {e}");
                }
                drop_all(server, &all);
                return Err(Box::new((SyncReport::failed(Transport::Disk, all.len(), began.elapsed()), e)));
            }
        };
        {
            let mut replicas = server.repl.replicas.lock();
            for id in &guests {
                if let Some(r) = replicas.map.get_mut(id)
                    && let Ok(peer) = socket(r)
                {
                    peers.push(peer);
                }
            }
            for id in &all {
                if let Some(r) = replicas.map.get_mut(id) {
                    r.peer.payload_began();
                }
            }
        }
        let reader = || base.another(offset).ok();
        let control = self.control.clone();
        let report = disk::send(&staged, peers, config.repl_timeout * 1000, &control, &mut |event| {
            self.on_event(event, reader);
        });
        self.remove_if_unwanted(&path);
        Ok(report)
    }

    /// `rdb-del-sync-files`: a server that keeps nothing on disk leaves no file of its data behind for others to find.
    fn remove_if_unwanted(&self, path: &std::path::Path) {
        let config = self.server.config.load();
        let persists = config.appendonly || !config.save.0.is_empty();
        let staging = self.server.repl.replicas.lock().staging.is_some();
        if config.rdb_del_sync_files && !persists && !staging {
            crate::log!(Notice, "Removing the RDB file used to feed replicas in a persistence-less instance");
            if let Err(e) = self.server.storage.remove(path) {
                crate::log!(Warning, "Can't remove {}: {e}", path.display());
            }
        }
    }
}
