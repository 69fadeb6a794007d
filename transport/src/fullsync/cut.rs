//! The engine's cut as a source of chunks: plain RDB for the Redis family, cut and log for our own.

use super::pool::{BufferPool, CHUNK_BYTES};
use super::sluice::{CutLog, CutStep};
use super::{ChunkSource, CutError};
use bytes::Bytes;
use sluice_engine::{Cut, Engine, LogReader, Step};
use sluice_persistence::rdb::RdbEncoder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of log taken at once.
const LOG_READ_BYTES: usize = 1 << 20;
/// Bytes beyond a chunk that a round may grow by to empty the queue of pre-images.
const DRAIN_BYTES: usize = 1 << 20;

/// Figures of a cut that outlive it, for INFO's `sync` section and for whoever starts the steady stream.
#[derive(Default, Debug)]
pub struct CutFigures {
    /// Keys encoded.
    pub keys: AtomicU64,
    /// Bytes of pre-images that writers handed over.
    pub preimage_bytes: AtomicU64,
    /// Most bytes of them that waited at once.
    pub preimage_peak: AtomicU64,
    /// Where the log reading of a framed payload stands: after its end, where the steady stream begins. The source retains
    /// the log from there as long as it lives.
    pub log_offset: AtomicU64,
}

/// A cut being encoded, chunk by chunk.
struct Encoding {
    cut: Option<Cut>,
    encoder: Option<RdbEncoder>,
    figures: Arc<CutFigures>,
}

impl Encoding {
    fn new(cut: Cut, encoder: RdbEncoder, figures: Arc<CutFigures>) -> Self {
        Self { cut: Some(cut), encoder: Some(encoder), figures }
    }

    /// Takes what was encoded into `out`; with the last of it the stream's trailer, and the cut is over.
    fn take(&mut self, done: bool, out: &mut Vec<u8>) {
        let (Some(cut), Some(encoder)) = (&self.cut, &mut self.encoder) else { return };
        encoder.swap(out);
        self.figures.keys.store(encoder.keys(), Ordering::Relaxed);
        self.figures.preimage_bytes.store(cut.preimage_bytes(), Ordering::Relaxed);
        self.figures.preimage_peak.store(cut.preimage_peak() as u64, Ordering::Relaxed);
        if done {
            self.cut = None;
            if let Some(encoder) = self.encoder.take() {
                out.extend_from_slice(&encoder.finish());
            }
        }
    }
}

/// A cut as an RDB stream. Dropping it before its end aborts the cut.
pub struct RdbSource {
    encoding: Encoding,
    pool: BufferPool,
}

impl RdbSource {
    /// Encodes `cut` by `encoder` (fresh, made for this cut).
    pub fn new(cut: Cut, encoder: RdbEncoder, pool: BufferPool, figures: Arc<CutFigures>) -> Self {
        Self { encoding: Encoding::new(cut, encoder, figures), pool }
    }
}

impl ChunkSource for RdbSource {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        let (Some(cut), Some(encoder)) = (&mut self.encoding.cut, &mut self.encoding.encoder) else {
            return Ok(None);
        };
        let done = cut.step(encoder, CHUNK_BYTES) == Step::Done;
        let mut chunk = self.pool.take();
        self.encoding.take(done, &mut chunk);
        Ok(Some(chunk.freeze()))
    }
}

/// A cut and the log from its offset on, for [`super::sluice::SluicePayload`].
pub struct FramedSource {
    encoding: Encoding,
    engine: Engine,
    reader: LogReader,
    /// Log bytes before this offset may be sent.
    safe: u64,
}

impl FramedSource {
    /// Encodes `cut` of `engine` by `encoder`, whose checksum may be off: the frames have their own. `reader` stands at
    /// the cut's offset.
    pub fn new(
        engine: Engine,
        cut: Cut,
        encoder: RdbEncoder,
        reader: LogReader,
        figures: Arc<CutFigures>,
    ) -> Self {
        debug_assert_eq!(reader.offset(), cut.offset());
        figures.log_offset.store(reader.offset(), Ordering::Release);
        let safe = cut.offset();
        Self { encoding: Encoding::new(cut, encoder, figures), engine, reader, safe }
    }
}

impl CutLog for FramedSource {
    fn step(&mut self, out: &mut Vec<u8>) -> Result<CutStep, CutError> {
        let (Some(cut), Some(encoder)) = (&mut self.encoding.cut, &mut self.encoding.encoder) else {
            return Ok(CutStep { done: true, entry_end: true, log_until: self.safe });
        };
        let done = cut.step(encoder, CHUNK_BYTES) == Step::Done;
        if !done {
            // The order matters: a command whose effect lies before this end had handed over its pre-images before.
            let end = self.engine.log().end();
            cut.drain(encoder, CHUNK_BYTES + DRAIN_BYTES);
            if cut.is_drained() {
                self.safe = self.safe.max(end.min(cut.barrier()));
            }
        }
        let entry_end = done || cut.at_entry_boundary();
        self.encoding.take(done, out);
        if done {
            self.safe = self.engine.log().end();
        }
        Ok(CutStep { done, entry_end, log_until: self.safe })
    }

    fn read_log(&mut self, until: u64) -> Result<Bytes, CutError> {
        let wanted = until.saturating_sub(self.reader.offset());
        let max = usize::try_from(wanted).unwrap_or(LOG_READ_BYTES).min(LOG_READ_BYTES);
        let bytes = self.reader.read(max).map_err(|_| CutError::LogGone(self.reader.offset()))?;
        self.encoding.figures.log_offset.store(self.reader.offset(), Ordering::Release);
        Ok(bytes)
    }
}
