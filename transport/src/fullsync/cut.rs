//! The engine's cut as a source of chunks: plain RDB for the Redis family, cut and log for our own.

use super::pool::{BufferPool, CHUNK_BYTES};
use super::sluice::{CutLog, CutStep};
use super::{ChunkSource, CutError};
use bytes::Bytes;
use sluice_engine::Engine;
use sluice_engine::cut::{Cut, Step};
use sluice_engine::log::{LogGone, LogReader};
use sluice_persistence::rdb::RdbEncoder;

/// Bytes of log taken at once.
const LOG_READ_BYTES: usize = 1 << 20;
/// Bytes beyond a chunk that a round may grow by to empty the queue of pre-images.
const DRAIN_BYTES: usize = 1 << 20;

/// What a cut came to, for INFO's `sync` section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutStats {
    /// Keys encoded.
    pub keys: u64,
    /// Bytes of pre-images that writers handed over.
    pub preimage_bytes: u64,
    /// Most bytes of them that waited at once.
    pub preimage_peak: u64,
}

/// A cut being encoded, chunk by chunk.
struct Encoding {
    cut: Option<Cut>,
    encoder: Option<RdbEncoder>,
    stats: CutStats,
}

impl Encoding {
    fn new(cut: Cut, encoder: RdbEncoder) -> Self {
        Self { cut: Some(cut), encoder: Some(encoder), stats: CutStats::default() }
    }

    /// Notes the figures; after the last chunk ends stream and cut, and adds the trailer to `out`.
    fn account(&mut self, done: bool, out: &mut Vec<u8>) {
        if let (Some(cut), Some(encoder)) = (&self.cut, &self.encoder) {
            self.stats = CutStats {
                keys: encoder.keys(),
                preimage_bytes: cut.preimage_bytes(),
                preimage_peak: cut.preimage_peak() as u64,
            };
        }
        if done {
            self.cut = None;
            if let Some(encoder) = self.encoder.take() {
                out.extend_from_slice(&encoder.finish());
            }
        }
    }
}

/// A cut as an RDB stream. Dropping it before its end aborts the cut.
pub struct RdbCut {
    encoding: Encoding,
    pool: BufferPool,
}

impl RdbCut {
    /// Encodes `cut` by `encoder` (fresh, made for this cut).
    pub fn new(cut: Cut, encoder: RdbEncoder, pool: BufferPool) -> Self {
        Self { encoding: Encoding::new(cut, encoder), pool }
    }

    /// Figures so far, or of all once the source has ended.
    pub fn stats(&self) -> CutStats {
        self.encoding.stats
    }
}

impl ChunkSource for RdbCut {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        let (Some(cut), Some(encoder)) = (&mut self.encoding.cut, &mut self.encoding.encoder) else {
            return Ok(None);
        };
        let done = cut.step(encoder, CHUNK_BYTES) == Step::Done;
        let mut chunk = self.pool.take();
        encoder.swap(&mut chunk);
        self.encoding.account(done, &mut chunk);
        Ok(Some(chunk.freeze()))
    }
}

/// A cut and the log from its offset on, for [`super::sluice::SluicePayload`].
pub struct FramedCut {
    encoding: Encoding,
    engine: Engine,
    reader: LogReader,
    safe: u64,
}

impl FramedCut {
    /// Encodes `cut` of `engine` by `encoder`. The encoder's checksum may be off: the frames have their own.
    ///
    /// # Errors
    /// When the log does not hold the cut's offset, because it is not active.
    pub fn new(engine: &Engine, cut: Cut, encoder: RdbEncoder) -> Result<Self, LogGone> {
        let safe = cut.offset();
        let reader = engine.log().reader(safe)?;
        Ok(Self { encoding: Encoding::new(cut, encoder), engine: engine.clone(), reader, safe })
    }

    /// Figures so far, or of all once the cut is done.
    pub fn stats(&self) -> CutStats {
        self.encoding.stats
    }
}

impl CutLog for FramedCut {
    fn step(&mut self, out: &mut Vec<u8>) -> Result<CutStep, CutError> {
        let (Some(cut), Some(encoder)) = (&mut self.encoding.cut, &mut self.encoding.encoder) else {
            return Ok(CutStep { done: true, entry_end: true, log_until: self.engine.log().end() });
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
        encoder.swap(out);
        self.encoding.account(done, out);
        if done {
            self.safe = self.engine.log().end();
        }
        Ok(CutStep { done, entry_end, log_until: self.safe })
    }

    fn read_log(&mut self, until: u64) -> Result<Bytes, CutError> {
        let wanted = until.saturating_sub(self.reader.offset());
        let max = usize::try_from(wanted).unwrap_or(LOG_READ_BYTES).min(LOG_READ_BYTES);
        Ok(self.reader.read(max))
    }
}
