//! A cut of the engine as the transports want it: as an RDB stream, or as cut and log to be framed.

use bytes::Bytes;
use sluice_engine::cut::{Cut, Step};
use sluice_engine::log::LogReader;
use sluice_persistence::rdb::RdbEncoder;
use sluice_transport::fullsync::pool::{BufferPool, CHUNK_BYTES};
use sluice_transport::fullsync::sluice::{CutLog, CutStep};
use sluice_transport::fullsync::{ChunkSource, CutError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Figures of a cut that outlive it.
#[derive(Default, Debug)]
pub(crate) struct CutFigures {
    pub(crate) preimage_bytes: AtomicU64,
    pub(crate) preimage_peak: AtomicU64,
    /// Where the log reading of a framed payload stands.
    pub(crate) log_offset: AtomicU64,
}

impl CutFigures {
    fn note(&self, cut: &Cut) {
        self.preimage_bytes.store(cut.preimage_bytes(), Ordering::Relaxed);
        self.preimage_peak.store(cut.preimage_peak() as u64, Ordering::Relaxed);
    }
}

/// The RDB stream of a cut.
pub(crate) struct RdbSource {
    cut: Option<Cut>,
    encoder: Option<RdbEncoder>,
    pool: BufferPool,
    figures: Arc<CutFigures>,
}

impl RdbSource {
    pub(crate) fn new(
        cut: Cut,
        encoder: RdbEncoder,
        pool: BufferPool,
        figures: Arc<CutFigures>,
    ) -> RdbSource {
        RdbSource { cut: Some(cut), encoder: Some(encoder), pool, figures }
    }
}

impl ChunkSource for RdbSource {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        let (Some(cut), Some(encoder)) = (&mut self.cut, &mut self.encoder) else {
            return Ok(self.encoder.take().map(|e| Bytes::from(e.finish())));
        };
        let step = cut.step(encoder, CHUNK_BYTES);
        self.figures.note(cut);
        let mut buf = self.pool.take();
        encoder.swap(&mut buf);
        if step == Step::Done {
            self.cut = None;
        }
        Ok(Some(buf.freeze()))
    }
}

/// A cut and the log it began in.
pub(crate) struct FramedSource {
    cut: Option<Cut>,
    encoder: Option<RdbEncoder>,
    reader: LogReader,
    engine: sluice_engine::Engine,
    figures: Arc<CutFigures>,
}

impl FramedSource {
    pub(crate) fn new(
        engine: sluice_engine::Engine,
        cut: Cut,
        encoder: RdbEncoder,
        reader: LogReader,
        figures: Arc<CutFigures>,
    ) -> FramedSource {
        figures.log_offset.store(reader.offset(), Ordering::Relaxed);
        FramedSource { cut: Some(cut), encoder: Some(encoder), reader, engine, figures }
    }
}

impl CutLog for FramedSource {
    fn log_end(&mut self) -> u64 {
        self.engine.log().end()
    }

    fn step(&mut self, out: &mut Vec<u8>, slice_bytes: usize) -> Result<CutStep, CutError> {
        let (Some(cut), Some(encoder)) = (&mut self.cut, &mut self.encoder) else {
            return Ok(CutStep { done: true, entry_end: true, barrier: None });
        };
        let step = cut.step(encoder, slice_bytes);
        self.figures.note(cut);
        let entry_end = cut.at_entry_boundary();
        // What is not drained now may be what a log record below the bound is about: no log this time.
        let barrier = if cut.is_drained() { cut.barrier() } else { 0 };
        if step == Step::Done {
            self.cut = None;
            let last = self.encoder.take().map(RdbEncoder::finish).unwrap_or_default();
            append(out, last);
            return Ok(CutStep { done: true, entry_end: true, barrier: None });
        }
        let mut chunk = std::mem::take(out);
        if chunk.is_empty() {
            encoder.swap(&mut chunk);
        } else {
            chunk.extend_from_slice(&encoder.take());
        }
        *out = chunk;
        Ok(CutStep { done: false, entry_end, barrier: (barrier != u64::MAX).then_some(barrier) })
    }

    fn read_log(&mut self, until: u64) -> Result<Bytes, CutError> {
        let left = until.saturating_sub(self.reader.offset());
        let bytes = self.reader.read(left.min(CHUNK_BYTES as u64) as usize);
        self.figures.log_offset.store(self.reader.offset(), Ordering::Release);
        Ok(bytes)
    }
}

fn append(out: &mut Vec<u8>, bytes: Vec<u8>) {
    if out.is_empty() {
        *out = bytes;
    } else {
        out.extend_from_slice(&bytes);
    }
}
