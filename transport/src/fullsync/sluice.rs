//! The framed payload for our own replicas: cut and log in one ordered stream (layout: [`crate::frame`]).
//!
//! Each round sends what a step of the cut encoded as `C` frames, and then as `L` frames the log up to where that step
//! says it is safe. [`CutLog::step`] has the rule: note B = the log's end, then empty the queue of
//! pre-images; whatever lies before B then has its pre-images sent, unless it touched what only the walk can
//! deliver (the cut's barrier). When the cut is done the round ends with the `E` frame and the steady stream goes on from there.
//! The log is behind by little more than one round, so a full sync keeps neither an output buffer nor a long backlog.

use super::pool::BufferPool;
#[cfg(doc)]
use super::pool::CHUNK_BYTES;
use super::{ChunkSource, CutError};
use crate::frame::{
    END_PAYLOAD, FLAG_LZ4, FLAG_MORE, FrameKind, MAX_FRAME, end_payload, frame_header, stream_digest,
};
use crate::replid::ReplId;
use bytes::Bytes;
use crc_fast::Digest;
use std::collections::VecDeque;

/// Bytes of a frame tried before deciding to compress it.
const LZ4_SAMPLE: usize = 16 << 10;
/// After a sample that did not compress, this many frames go plain untried.
const LZ4_SKIP: u32 = 32;
/// Frames smaller than this are not worth compressing.
const LZ4_MIN: usize = 512;

/// What one step of a cut did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutStep {
    /// The cut is complete, its trailer included.
    pub done: bool,
    /// What was appended ends between two entries.
    pub entry_end: bool,
    /// Log bytes before this offset may follow: all they apply to has been sent. Never steps back.
    pub log_until: u64,
}

/// A running cut and the log it began in, as the framed payload needs them.
pub trait CutLog: Send {
    /// Puts into `out` (empty) the next part of the cut, about [`CHUNK_BYTES`], and says how far the log may follow.
    fn step(&mut self, out: &mut Vec<u8>) -> Result<CutStep, CutError>;
    /// The log's next bytes, without gap from the cut's offset on and not past `until`. Empty only when
    /// there are none before `until`.
    fn read_log(&mut self, until: u64) -> Result<Bytes, CutError>;
}

/// Whether to compress frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Never: on a fast link the CPU is scarcer than the bandwidth.
    #[default]
    Off,
    /// Where a sample shows that it saves a quarter or more.
    Lz4,
}

/// The framed payload, as a source of chunks.
pub struct SluicePayload<C> {
    cut: C,
    mark: ReplId,
    log_offset: u64,
    digest: Digest,
    pool: BufferPool,
    ready: VecDeque<Bytes>,
    compression: Compression,
    lz4_skip: u32,
    ended: bool,
}

impl<C: CutLog> SluicePayload<C> {
    /// Frames `cut`, which was taken at log offset `offset` (the one told in FULLRESYNC).
    pub fn new(cut: C, offset: u64, compression: Compression, pool: BufferPool) -> Self {
        let mark = ReplId::random();
        let header = Bytes::from(format!("$SLUICE:{mark}\r\n"));
        Self {
            cut,
            mark,
            log_offset: offset,
            digest: stream_digest(),
            pool,
            ready: VecDeque::from([header]),
            compression,
            lz4_skip: 0,
            ended: false,
        }
    }

    /// The log offset up to which everything was framed: after the end, where the steady stream begins.
    pub fn log_offset(&self) -> u64 {
        self.log_offset
    }

    fn round(&mut self) -> Result<(), CutError> {
        let mut buf = self.pool.take();
        let step = self.cut.step(&mut buf)?;
        self.frame(FrameKind::Cut, buf.freeze(), step.entry_end);
        let until = step.log_until;
        while self.log_offset < until {
            let bytes = self.cut.read_log(until)?;
            if bytes.is_empty() {
                return Err(CutError::LogGone(self.log_offset));
            }
            self.log_offset += bytes.len() as u64;
            self.frame(FrameKind::Log, bytes, true);
        }
        if step.done {
            let payload = end_payload(self.mark.as_bytes(), self.log_offset, &self.digest);
            let header = frame_header(FrameKind::End, 0, END_PAYLOAD);
            self.ready.push_back(Bytes::from([&header[..], &payload].concat()));
            self.ended = true;
        }
        Ok(())
    }

    /// Queues `bytes` as one frame, or as several where they exceed the limit.
    fn frame(&mut self, kind: FrameKind, mut bytes: Bytes, entry_end: bool) {
        self.digest.update(&bytes);
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(MAX_FRAME));
            let more = kind == FrameKind::Cut && !(entry_end && bytes.is_empty());
            let flags = if more { FLAG_MORE } else { 0 };
            match self.compressed(&part) {
                Some(packed) => {
                    self.ready.push_back(header_bytes(kind, flags | FLAG_LZ4, packed.len()));
                    self.ready.push_back(packed);
                }
                None => {
                    self.ready.push_back(header_bytes(kind, flags, part.len()));
                    self.ready.push_back(part);
                }
            }
        }
    }

    fn compressed(&mut self, bytes: &Bytes) -> Option<Bytes> {
        if self.compression == Compression::Off || bytes.len() < LZ4_MIN {
            return None;
        }
        if self.lz4_skip > 0 {
            self.lz4_skip -= 1;
            return None;
        }
        let sample = &bytes[..bytes.len().min(LZ4_SAMPLE)];
        let pays = |packed: usize, plain: usize| packed < plain - plain / 4;
        if !pays(lz4_flex::block::compress(sample).len(), sample.len()) {
            self.lz4_skip = LZ4_SKIP;
            return None;
        }
        let mut buf = self.pool.take();
        buf.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        let room = lz4_flex::block::get_maximum_output_size(bytes.len());
        buf.resize(4 + room, 0);
        let n = lz4_flex::block::compress_into(bytes, &mut buf[4..]).ok()?;
        buf.truncate(4 + n);
        pays(buf.len(), bytes.len()).then(|| buf.freeze())
    }
}

fn header_bytes(kind: FrameKind, flags: u8, len: usize) -> Bytes {
    Bytes::copy_from_slice(&frame_header(kind, flags, len))
}

impl<C: CutLog> ChunkSource for SluicePayload<C> {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        while self.ready.is_empty() {
            if self.ended {
                return Ok(None);
            }
            self.round()?;
        }
        Ok(self.ready.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameReader, Piece};
    use crate::fullsync::pool::CHUNK_BYTES;

    /// A toy store: the "cut" is a list of entries, each round some commands are logged.
    struct Toy {
        entries: Vec<Vec<u8>>,
        walked: usize,
        log: Vec<u8>,
        read: usize,
        barrier: Option<u64>,
    }

    const BASE: u64 = 1000;

    impl CutLog for Toy {
        fn step(&mut self, out: &mut Vec<u8>) -> Result<CutStep, CutError> {
            let bound = BASE + self.log.len() as u64;
            self.log.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"); // written right after the bound was taken
            while self.walked < self.entries.len() && out.len() < CHUNK_BYTES {
                out.extend_from_slice(&self.entries[self.walked]);
                self.walked += 1;
            }
            let done = self.walked == self.entries.len();
            let limit = self.barrier.filter(|_| !done).unwrap_or(u64::MAX);
            Ok(CutStep { done, entry_end: true, log_until: bound.min(limit) })
        }
        fn read_log(&mut self, until: u64) -> Result<Bytes, CutError> {
            let to = (until - BASE) as usize;
            let bytes = Bytes::copy_from_slice(&self.log[self.read..to.min(self.read + 10)]);
            self.read += bytes.len();
            Ok(bytes)
        }
    }

    fn toy(entries: usize, size: usize, barrier: Option<u64>) -> Toy {
        let entry = |i: usize| {
            let text = format!("<entry {i}>");
            text.bytes().chain((0..size).map(|j| (i * 31 + j * j) as u8)).collect()
        };
        Toy { entries: (0..entries).map(entry).collect(), walked: 0, log: Vec::new(), read: 0, barrier }
    }

    /// Frames a toy and reads it back; returns cut, log, end offset, wire size.
    fn round_trip(toy: Toy, compression: Compression) -> (Vec<u8>, Vec<u8>, u64, usize) {
        let mut payload = SluicePayload::new(toy, BASE, compression, BufferPool::new());
        let header = payload.next_chunk().unwrap().unwrap();
        let mark: [u8; 40] = header[8..48].try_into().unwrap();
        let mut reader = FrameReader::new(mark, BASE);
        let (mut cut, mut log, mut end, mut wire) = (Vec::new(), Vec::new(), None, 0);
        while let Some(chunk) = payload.next_chunk().unwrap() {
            wire += chunk.len();
            let mut input = &chunk[..];
            while let Some(piece) = reader.next(&mut input).unwrap() {
                match piece {
                    Piece::Cut { bytes, .. } => cut.extend_from_slice(bytes),
                    Piece::Log(bytes) => log.extend_from_slice(bytes),
                    Piece::End { offset } => end = Some(offset),
                }
            }
        }
        assert_eq!(Some(payload.log_offset()), end);
        (cut, log, end.unwrap(), wire)
    }

    #[test]
    fn cut_and_log_arrive_whole_and_the_end_names_where_to_go_on() {
        for (entries, size) in [(0, 0), (3, 10), (5000, 500), (3, 9 << 20)] {
            let (cut, log, end, _) = round_trip(toy(entries, size, None), Compression::Off);
            assert!(cut == toy(entries, size, None).entries.concat(), "{entries} x {size}");
            assert_eq!(end, BASE + log.len() as u64);
            assert!(log.chunks(14).all(|c| c == b"*1\r\n$4\r\nPING\r\n"));
        }
    }

    #[test]
    fn the_log_waits_at_the_barrier_until_the_cut_is_done() {
        let mut payload =
            SluicePayload::new(toy(5000, 500, Some(BASE + 14)), BASE, Compression::Off, BufferPool::new());
        let mut logged = 0;
        while let Some(chunk) = payload.next_chunk().unwrap() {
            if chunk.len() == 6 && chunk[0] == b'L' {
                logged += 1;
            }
            if payload.cut.walked < 5000 {
                assert!(payload.log_offset() <= BASE + 14);
            }
        }
        assert!(logged > 2 && payload.log_offset() > BASE + 14);
    }

    #[test]
    fn compression_is_used_where_it_pays_and_skipped_where_not() {
        let mut repetitive = toy(0, 0, None);
        repetitive.entries = vec![b"abcabcabc".repeat(100); 2000];
        let size = repetitive.entries.concat().len();
        let (cut, _, _, wire) = round_trip(repetitive, Compression::Lz4);
        assert_eq!(cut.len(), size);
        assert!(wire < size / 10, "{wire} of {size}");
        let mut random = toy(0, 0, None);
        let mut x = 1u64;
        let mut noise = || {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 56) as u8
        };
        random.entries = (0..2000).map(|_| (0..900).map(|_| noise()).collect()).collect();
        let (_, _, _, wire) = round_trip(random, Compression::Lz4);
        assert!(wire > 1_800_000 && wire < 1_801_000, "{wire}");
    }
}
