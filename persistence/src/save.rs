//! A cut, into a file.
//!
//! Two threads: the caller walks the cut and encodes, a second one writes, with a few chunks between. So the disk
//! works while the next chunk is encoded, and a disk slower than the walk holds it back. The file appears
//! under its name whole and synced, or not at all.

use crate::Error;
use crate::rdb::{Access, EncoderOptions, RdbEncoder, ReplicationPlace};
use crate::storage::{AtomicFile, Storage};
use sluice_engine::{Cut, CutSink, Engine, Step};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes encoded before they are written, by default.
pub(crate) const CHUNK: usize = 1 << 20;
/// Chunks in the hands of the two threads and between them.
const CHUNKS: usize = 4;
/// Bytes after which the storage is asked to begin writing back, so that the last sync has little left to do.
const SYNC_EVERY: u64 = 8 << 20;

/// How to save.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// Compute the checksum (`rdbchecksum`).
    pub checksum: bool,
    /// Compress strings (`rdbcompression`).
    pub compression: bool,
    /// What to say of each key's last access (`maxmemory-policy` decides).
    pub access: Access,
    /// Memory in use, for the aux field of that name.
    pub used_memory: u64,
    /// This server's replication id: with it the file stands for a place in the stream, the cut's offset.
    pub replication_id: Option<String>,
    /// The file is the base of an append-only file.
    pub aof_base: bool,
    /// Bytes encoded before they are written and progress is told: fewer show more of a small save, and cost more.
    pub chunk: usize,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self {
            checksum: true,
            compression: true,
            access: Access::Unsaid,
            used_memory: 0,
            replication_id: None,
            aof_base: false,
            chunk: CHUNK,
        }
    }
}

impl SaveOptions {
    /// The encoder of a stream of this cut.
    pub fn encoder(&self, cut: &Cut) -> RdbEncoder {
        RdbEncoder::new(EncoderOptions {
            checksum: self.checksum,
            compression: self.compression,
            access: self.access,
            used_memory: self.used_memory,
            // Who starts from the file goes on from there: it must be what the log goes on from.
            replication: self.replication_id.as_ref().filter(|_| cut.is_in_log()).map(|id| {
                ReplicationPlace { stream_db: cut.stream_db(), id: id.clone(), offset: cut.offset() }
            }),
            aof_base: self.aof_base,
            carried: cut.carried(),
            db_sizes: cut.db_sizes().to_vec(),
        })
    }
}

/// What was saved, so far or in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaveStats {
    /// Keys.
    pub keys: u64,
    /// Keys there are to save.
    pub keys_total: u64,
    /// Bytes of pre-images: what writes meanwhile handed over, which a server that forks would have copied as pages.
    pub preimages: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Log offset of the cut.
    pub offset: u64,
    /// Since the beginning.
    pub elapsed: Duration,
    /// Of that, the time the storage took, while the other thread encoded or waited.
    pub storage: Duration,
}

impl SaveStats {
    /// Of a cut that was just begun.
    pub fn of(cut: &Cut) -> SaveStats {
        SaveStats {
            offset: cut.offset(),
            keys_total: cut.db_sizes().iter().map(|(_, keys, _)| keys).sum(),
            ..SaveStats::default()
        }
    }
}

/// Saves the engine as it is now. `progress` is called after every chunk and may stop it.
///
/// # Errors
/// On any the file of that name, if there was one, is as before.
pub fn save(
    engine: &Engine,
    storage: &Arc<dyn Storage>,
    path: &Path,
    options: &SaveOptions,
    progress: &mut dyn FnMut(&SaveStats) -> ControlFlow<()>,
) -> Result<SaveStats, Error> {
    save_cut(engine.begin_cut()?, storage, path, options, progress)
}

/// Saves a cut that was begun already. See [`save`].
pub fn save_cut(
    cut: Cut,
    storage: &Arc<dyn Storage>,
    path: &Path,
    options: &SaveOptions,
    progress: &mut dyn FnMut(&SaveStats) -> ControlFlow<()>,
) -> Result<SaveStats, Error> {
    let encoder = options.encoder(&cut);
    write_cut(cut, encoder, options.chunk, storage, path, progress)
}

/// What turns a cut into the bytes of a file.
pub(crate) trait CutEncoder: CutSink {
    /// Takes what was encoded, leaving `spare`'s memory in its place.
    fn swap(&mut self, spare: &mut Vec<u8>);
    /// Keys so far.
    fn keys(&self) -> u64;
    /// Bytes so far.
    fn bytes(&self) -> u64;
    /// Ends it; the last chunk.
    fn finish(self) -> Vec<u8>;
}

impl CutEncoder for RdbEncoder {
    fn swap(&mut self, spare: &mut Vec<u8>) {
        RdbEncoder::swap(self, spare);
    }
    fn keys(&self) -> u64 {
        RdbEncoder::keys(self)
    }
    fn bytes(&self) -> u64 {
        RdbEncoder::bytes(self)
    }
    fn finish(self) -> Vec<u8> {
        RdbEncoder::finish(self)
    }
}

/// Writes a cut into a file by way of `encoder`.
pub(crate) fn write_cut(
    mut cut: Cut,
    mut encoder: impl CutEncoder,
    chunk: usize,
    storage: &Arc<dyn Storage>,
    path: &Path,
    progress: &mut dyn FnMut(&SaveStats) -> ControlFlow<()>,
) -> Result<SaveStats, Error> {
    let started = Instant::now();
    let mut stats = SaveStats::of(&cut);
    let file = AtomicFile::create(storage.clone(), path).map_err(Error::io("creating", path))?;

    let (to_writer, full) = sync_channel::<Vec<u8>>(1);
    let (to_encoder, spare) = channel::<Vec<u8>>();
    for _ in 1..CHUNKS {
        // The other end is held below: this cannot fail.
        let _ = to_encoder.send(Vec::new());
    }
    thread::scope(|scope| {
        let writer = scope.spawn(move || write_chunks(file, &full, &to_encoder));
        let mut encode = || loop {
            let step = cut.step(&mut encoder, chunk);
            // The writer ends early only with an error, which it returns below.
            let Ok(mut encoded) = spare.recv() else { return Ok(()) };
            encoder.swap(&mut encoded);
            stats.keys = encoder.keys();
            stats.preimages = cut.preimage_bytes();
            stats.bytes = encoder.bytes();
            stats.elapsed = started.elapsed();
            if to_writer.send(encoded).is_err() {
                return Ok(());
            }
            if progress(&stats).is_break() {
                return Err(Error::Stopped);
            }
            if step == Step::Done {
                return Ok(());
            }
        };
        let outcome = encode();
        // Ended or not, the cut is over: writers of the engine owe it nothing from here on.
        drop(cut);
        let last = encoder.finish();
        if outcome.is_ok() {
            stats.bytes += last.len() as u64;
            let _ = to_writer.send(last);
        }
        drop(to_writer);
        let (file, storage_time) = match writer.join() {
            Ok(written) => written.map_err(Error::io("writing", path))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        outcome?;
        let syncing = Instant::now();
        file.commit().map_err(Error::io("syncing", path))?;
        stats.storage = storage_time + syncing.elapsed();
        stats.elapsed = started.elapsed();
        Ok(stats)
    })
}

/// Writes chunks as they come, until there are no more, and gives their memory back.
fn write_chunks(
    mut file: AtomicFile,
    full: &Receiver<Vec<u8>>,
    spare: &Sender<Vec<u8>>,
) -> io::Result<(AtomicFile, Duration)> {
    let mut busy = Duration::ZERO;
    let mut unsynced = 0;
    for chunk in full {
        let started = Instant::now();
        file.write_all(&chunk)?;
        unsynced += chunk.len() as u64;
        if unsynced >= SYNC_EVERY {
            file.start_sync()?;
            unsynced = 0;
        }
        busy += started.elapsed();
        // The encoder may be done and gone.
        let _ = spare.send(chunk);
    }
    Ok((file, busy))
}
