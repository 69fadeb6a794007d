//! The framed stream between two Sluice servers (`REPLCONF capa sluice`), and its reader.
//!
//! A peer of the Redis family gets the whole snapshot first and everything written meanwhile after it,
//! so the primary must keep the latter. A Sluice replica gets both at once: the primary sends a bit of
//! the cut, then the log up to that moment, and so on, and keeps nothing.
//!
//! After `+FULLRESYNC <replid> <offset>` the payload header is one line,
//!
//! ```text
//! $SLUICE:<40 characters>\r\n
//! ```
//!
//! and then frames follow, back to back, up to and with the one `E` frame:
//!
//! ```text
//!  0      1       2               6
//! +------+-------+---------------+--------------------- - -
//! | type | flags | length u32 LE | payload (length bytes)
//! +------+-------+---------------+--------------------- - -
//!
//! type  'C'  bytes of the cut: an RDB file in pieces. A frame ends between two entries unless
//!            MORE is set, so everything before it can be loaded before what follows is looked at.
//!       'L'  bytes of the log, from the cut's offset on, without gap. Split anywhere.
//!       'E'  the end. Payload: 40 bytes mark (that of the header), log offset u64 LE reached by
//!            the 'L' frames, CRC-64/Redis u64 LE of all 'C' and 'L' bytes in the order sent,
//!            uncompressed.
//! flags 0x01 LZ4   payload is: uncompressed length u32 LE, then one LZ4 block
//!       0x02 MORE  the last entry in this 'C' frame continues in the next 'C' frame
//! ```
//!
//! What follows the `E` frame is the plain command stream, from its offset on.
//!
//! **The order rule**, which makes it right: a command never travels before the state it applies to.
//! The primary takes B = the log's end, sends every pre-image pending at that point as `C`, and only
//! then `L` up to B; and while a huge value is being sent in parts, `L` stops short of the first
//! command that touched it (the cut's *barrier*). So a replica may apply `L` bytes as they come,
//! in between `C` frames, also when an entry is still incomplete.

use crate::replid::REPLID_LEN;
use crc_fast::{CrcAlgorithm, Digest};
use thiserror::Error;

/// Bytes of a frame header.
pub const FRAME_HEADER: usize = 6;
/// The longest payload of a frame, before and after decompression. A reader needs no more memory than
/// this for a compressed frame, and none for a plain one.
pub const MAX_FRAME: usize = 4 << 20;
/// Payload length of the `E` frame.
pub const END_PAYLOAD: usize = REPLID_LEN + 16;
/// Flag: the payload is LZ4.
pub const FLAG_LZ4: u8 = 0x01;
/// Flag: the last entry continues in the next `C` frame.
pub const FLAG_MORE: u8 = 0x02;
/// First bytes of the payload header line.
pub const SLUICE_HEADER: &[u8] = b"$SLUICE:";

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Bytes of the cut.
    Cut,
    /// Bytes of the log.
    Log,
    /// The end of the framed part.
    End,
}

impl FrameKind {
    /// The type byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            FrameKind::Cut => b'C',
            FrameKind::Log => b'L',
            FrameKind::End => b'E',
        }
    }
}

/// A header, ready to send.
pub fn frame_header(kind: FrameKind, flags: u8, len: usize) -> [u8; FRAME_HEADER] {
    debug_assert!(len <= MAX_FRAME);
    let l = (len as u32).to_le_bytes();
    [kind.byte(), flags, l[0], l[1], l[2], l[3]]
}

/// The running checksum of the framed bytes, the same at both ends.
pub fn stream_digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Redis)
}

/// Why a framed stream cannot be followed. `at` counts bytes since the payload header.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A type byte that is none of C, L, E.
    #[error("unknown frame type 0x{kind:02x} at byte {at} of the framed stream")]
    UnknownKind {
        /// The type byte.
        kind: u8,
        /// Position of the frame.
        at: u64,
    },
    /// Flags we do not know, or that make no sense for the type.
    #[error("unknown frame flags 0x{flags:02x} at byte {at} of the framed stream")]
    UnknownFlags {
        /// The flags.
        flags: u8,
        /// Position of the frame.
        at: u64,
    },
    /// A length over [`MAX_FRAME`], or wrong for the type.
    #[error("a frame of {len} bytes at byte {at} of the framed stream (limit {MAX_FRAME})")]
    BadLength {
        /// The length.
        len: u64,
        /// Position of the frame.
        at: u64,
    },
    /// The LZ4 block does not decompress to the length announced.
    #[error("a damaged LZ4 frame at byte {at} of the framed stream")]
    BadLz4 {
        /// Position of the frame.
        at: u64,
    },
    /// The `E` frame does not match what was received.
    #[error("{what} of the framed stream does not match at its end, at byte {at}")]
    EndMismatch {
        /// What differs: mark, checksum or offset.
        what: &'static str,
        /// Position of the frame.
        at: u64,
    },
}

/// A piece of the framed stream, unframed.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the cut. `entry_end` says that they end between two entries.
    Cut {
        /// The bytes.
        bytes: &'a [u8],
        /// The end of a frame without MORE.
        entry_end: bool,
    },
    /// Bytes of the log.
    Log(&'a [u8]),
    /// All is received and the checksum fits; the plain stream continues from this log offset.
    End {
        /// The log offset.
        offset: u64,
    },
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: FrameKind,
    flags: u8,
    len: usize,
    left: usize,
    at: u64,
}

/// Takes frames apart, incrementally and without copying uncompressed payloads.
pub struct FrameReader {
    mark: [u8; REPLID_LEN],
    log_offset: u64,
    digest: Digest,
    position: u64,
    partial: Vec<u8>,
    header: Option<Header>,
    /// Collected payload of a compressed or `E` frame.
    held: Vec<u8>,
    /// The last decompressed payload, lent out.
    plain: Vec<u8>,
    ended: bool,
}

impl FrameReader {
    /// A reader for the stream with this header mark, whose log begins at `offset` (the one in FULLRESYNC).
    pub fn new(mark: [u8; REPLID_LEN], offset: u64) -> Self {
        Self {
            mark,
            log_offset: offset,
            digest: stream_digest(),
            position: 0,
            partial: Vec::with_capacity(FRAME_HEADER),
            header: None,
            held: Vec::new(),
            plain: Vec::new(),
            ended: false,
        }
    }

    /// Whether the `E` frame was read; no more input is consumed then.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The log offset reached by the `L` bytes returned so far.
    pub fn log_offset(&self) -> u64 {
        self.log_offset
    }

    /// The next piece from the front of `input`, `None` when `input` is used up (or the end was reached).
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Piece<'a>>, FrameError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let header = match self.header {
                Some(h) => h,
                None => {
                    let take = input.len().min(FRAME_HEADER - self.partial.len());
                    let (head, rest) = input.split_at(take);
                    self.partial.extend_from_slice(head);
                    *input = rest;
                    if self.partial.len() < FRAME_HEADER {
                        return Ok(None);
                    }
                    let h = self.parse_header()?;
                    self.partial.clear();
                    self.held.clear();
                    self.position += (FRAME_HEADER + h.len) as u64;
                    self.header = Some(h);
                    h
                }
            };
            if input.is_empty() && header.left > 0 {
                return Ok(None);
            }
            let (bytes, rest) = input.split_at(input.len().min(header.left));
            *input = rest;
            let left = header.left - bytes.len();
            self.header = (left > 0).then_some(Header { left, ..header });
            let whole = left == 0;
            if header.kind == FrameKind::End || header.flags & FLAG_LZ4 != 0 {
                self.held.extend_from_slice(bytes);
                if !whole {
                    return Ok(None);
                }
                if header.kind == FrameKind::End {
                    return self.end(header.at).map(Some);
                }
                self.decompress(header.at)?;
                self.digest.update(&self.plain);
                return Ok(Some(unframed(&mut self.log_offset, header, &self.plain, true)));
            }
            if bytes.is_empty() {
                continue; // an empty frame carries nothing, and costs its sender as much as us
            }
            self.digest.update(bytes);
            return Ok(Some(unframed(&mut self.log_offset, header, bytes, whole)));
        }
    }

    fn parse_header(&self) -> Result<Header, FrameError> {
        let at = self.position;
        let kind = match self.partial[0] {
            b'C' => FrameKind::Cut,
            b'L' => FrameKind::Log,
            b'E' => FrameKind::End,
            kind => return Err(FrameError::UnknownKind { kind, at }),
        };
        let flags = self.partial[1];
        let known = match kind {
            FrameKind::Cut => FLAG_LZ4 | FLAG_MORE,
            FrameKind::Log => FLAG_LZ4,
            FrameKind::End => 0,
        };
        if flags & !known != 0 {
            return Err(FrameError::UnknownFlags { flags, at });
        }
        let len =
            u32::from_le_bytes([self.partial[2], self.partial[3], self.partial[4], self.partial[5]]) as usize;
        if len > MAX_FRAME || (kind == FrameKind::End && len != END_PAYLOAD) {
            return Err(FrameError::BadLength { len: len as u64, at });
        }
        Ok(Header { kind, flags, len, left: len, at })
    }

    fn decompress(&mut self, at: u64) -> Result<(), FrameError> {
        let Some((len, block)) = self.held.split_first_chunk::<4>() else {
            return Err(FrameError::BadLz4 { at });
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > MAX_FRAME {
            return Err(FrameError::BadLength { len: len as u64, at });
        }
        self.plain.resize(len, 0);
        match lz4_flex::block::decompress_into(block, &mut self.plain) {
            Ok(n) if n == len => Ok(()),
            _ => Err(FrameError::BadLz4 { at }),
        }
    }

    fn end(&mut self, at: u64) -> Result<Piece<'static>, FrameError> {
        let word = |i: usize| {
            let mut b = [0u8; 8];
            b.copy_from_slice(&self.held[REPLID_LEN + i..REPLID_LEN + i + 8]);
            u64::from_le_bytes(b)
        };
        if self.held[..REPLID_LEN] != self.mark {
            return Err(FrameError::EndMismatch { what: "the mark", at });
        }
        if word(0) != self.log_offset {
            return Err(FrameError::EndMismatch { what: "the log offset", at });
        }
        if word(8) != self.digest.finalize() {
            return Err(FrameError::EndMismatch { what: "the checksum", at });
        }
        self.ended = true;
        Ok(Piece::End { offset: self.log_offset })
    }
}

fn unframed<'a>(log_offset: &mut u64, header: Header, bytes: &'a [u8], whole: bool) -> Piece<'a> {
    if header.kind == FrameKind::Log {
        *log_offset += bytes.len() as u64;
        Piece::Log(bytes)
    } else {
        Piece::Cut { bytes, entry_end: whole && header.flags & FLAG_MORE == 0 }
    }
}

/// The payload of an `E` frame.
pub fn end_payload(mark: &[u8; REPLID_LEN], offset: u64, digest: &Digest) -> [u8; END_PAYLOAD] {
    let mut p = [0u8; END_PAYLOAD];
    p[..REPLID_LEN].copy_from_slice(mark);
    p[REPLID_LEN..REPLID_LEN + 8].copy_from_slice(&offset.to_le_bytes());
    p[REPLID_LEN + 8..].copy_from_slice(&digest.finalize().to_le_bytes());
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: [u8; REPLID_LEN] = [b'm'; REPLID_LEN];

    type Unframed = (Vec<u8>, Vec<u8>, Option<u64>);

    fn plain(out: &mut Vec<u8>, kind: FrameKind, flags: u8, payload: &[u8]) {
        out.extend_from_slice(&frame_header(kind, flags, payload.len()));
        out.extend_from_slice(payload);
    }

    fn sample() -> Vec<u8> {
        let mut wire = Vec::new();
        plain(&mut wire, FrameKind::Cut, 0, b"one");
        plain(&mut wire, FrameKind::Log, 0, b"log");
        plain(&mut wire, FrameKind::Cut, FLAG_MORE, b"tw");
        let mut packed = 300u32.to_le_bytes().to_vec();
        packed.extend(lz4_flex::block::compress(&[b'z'; 300]));
        plain(&mut wire, FrameKind::Cut, FLAG_LZ4, &packed);
        let mut digest = stream_digest();
        for part in [&b"one"[..], b"log", b"tw", &[b'z'; 300]] {
            digest.update(part);
        }
        plain(&mut wire, FrameKind::End, 0, &end_payload(&MARK, 13, &digest));
        wire
    }

    fn read_all(parts: &[&[u8]]) -> Result<Unframed, FrameError> {
        let mut reader = FrameReader::new(MARK, 10);
        let (mut cut, mut log, mut end) = (Vec::new(), Vec::new(), None);
        for part in parts {
            let mut part = *part;
            while let Some(piece) = reader.next(&mut part)? {
                match piece {
                    Piece::Cut { bytes, .. } => cut.extend_from_slice(bytes),
                    Piece::Log(bytes) => log.extend_from_slice(bytes),
                    Piece::End { offset } => end = Some(offset),
                }
            }
        }
        Ok((cut, log, end))
    }

    #[test]
    fn frames_read_the_same_however_they_are_split() {
        let wire = sample();
        let cut = [b"onetw".to_vec(), vec![b'z'; 300]].concat();
        for i in 0..wire.len() {
            let got = read_all(&[&wire[..i], &wire[i..]]).unwrap();
            assert_eq!(got, (cut.clone(), b"log".to_vec(), Some(13)), "split at {i}");
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(read_all(&bytes).unwrap().2, Some(13));
    }

    #[test]
    fn every_flipped_byte_is_noticed_or_leaves_the_end_out() {
        let wire = sample();
        for i in 0..wire.len() {
            let mut bad = wire.clone();
            bad[i] ^= 0x20;
            let got = read_all(&[&bad]);
            assert!(!matches!(got, Ok((_, _, Some(_)))), "flip at {i} went unnoticed: {got:?}");
        }
    }

    #[test]
    fn what_follows_the_end_is_left_alone() {
        let mut wire = sample();
        wire.extend_from_slice(b"*1\r\n");
        let mut reader = FrameReader::new(MARK, 10);
        let mut input = &wire[..];
        while reader.next(&mut input).unwrap().is_some() {}
        assert!(reader.ended());
        assert_eq!(input, b"*1\r\n");
    }

    #[test]
    fn absurd_lengths_are_refused_before_any_memory_is_taken() {
        let huge = [b'C', 0, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read_all(&[&huge]), Err(FrameError::BadLength { .. })));
        let mut lz4 = frame_header(FrameKind::Cut, FLAG_LZ4, 8).to_vec();
        lz4.extend_from_slice(&[0xff; 8]);
        assert!(matches!(read_all(&[&lz4]), Err(FrameError::BadLength { .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read_all(&[&bytes]);
        }
    }
}
