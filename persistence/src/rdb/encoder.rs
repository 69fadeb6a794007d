//! Writes an RDB stream of version 10, as redis-server 7.0 writes it.
//!
//! The encoder gathers bytes in one buffer that its owner takes, chunk by chunk, whenever it likes; it never holds
//! more than what was encoded since. It is fed by a cut (see [`CutSink`](sluice_engine::CutSink)), under a
//! shard lock, so a plain string costs little more than its copy: one reservation, no allocation of its
//! own. The checksum is computed over each chunk as it is taken, outside of that lock.

use super::checksum::Checksum;
use super::format::{COMPRESS_MIN, MAGIC, VERSION_WRITTEN, opcode};
use super::length;
use super::lzf::Compressor;
use std::time::{SystemTime, UNIX_EPOCH};

/// The Redis version the stream claims to be written by; some tools look at it.
pub const REDIS_VERSION: &str = "7.0.15";

/// Most and least space reserved for a chunk; one larger entry makes it grow.
const CHUNK: usize = 1 << 20;
const CHUNK_MIN: usize = 4 << 10;
/// More than any entry has beside its key and value: opcodes, expiry, lengths.
const OVERHEAD: usize = 64;
/// LRU clocks count seconds in this many bits (`LRU_BITS` in `server.h`).
const LRU_MASK: u32 = (1 << 24) - 1;

/// Which fact about the last access is written with every key (`maxmemory-policy` decides).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// None.
    #[default]
    Unsaid,
    /// Seconds since the last access.
    Idle {
        /// The LRU clock now, in seconds.
        clock: u32,
    },
    /// The LFU counter.
    Freq,
}

/// The place in the replication stream that a snapshot stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationPlace {
    /// Database selected at that place.
    pub stream_db: u32,
    /// Replication id, 40 hexadecimal digits.
    pub id: String,
    /// Replication offset.
    pub offset: u64,
}

/// How to write.
#[derive(Debug, Clone)]
pub struct EncoderOptions {
    /// Compute the checksum (`rdbchecksum`); without it the stream ends in zeros, which every reader accepts.
    pub checksum: bool,
    /// Compress strings of more than 20 bytes where that pays (`rdbcompression`).
    pub compression: bool,
    /// What to say of the last access.
    pub access: Access,
    /// Bytes of memory in use, for the aux field of that name.
    pub used_memory: u64,
    /// The place in the replication stream, if it is known.
    pub replication: Option<ReplicationPlace>,
    /// The stream is the first part of an append-only file.
    pub aof_base: bool,
    /// Items that mean nothing here and are written as they are: see [`Engine::carry`](sluice_engine::Engine::carry).
    pub carried: std::sync::Arc<[u8]>,
    /// Keys, and keys that expire, of each database: readers make room in advance.
    pub db_sizes: Vec<(u32, u64, u64)>,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        Self {
            checksum: true,
            compression: false,
            access: Access::Unsaid,
            used_memory: 0,
            replication: None,
            aof_base: false,
            carried: std::sync::Arc::from([]),
            db_sizes: Vec::new(),
        }
    }
}

/// Writes one RDB stream.
#[derive(Debug)]
pub struct RdbEncoder {
    pub(super) buffer: Vec<u8>,
    db: Option<u32>,
    checksum: Option<Checksum>,
    compressor: Option<Compressor>,
    access: Access,
    db_sizes: Vec<(u32, u64, u64)>,
    taken: u64,
    keys: u64,
}

impl RdbEncoder {
    /// Begins a stream with its header and aux fields.
    pub fn new(options: EncoderOptions) -> Self {
        let mut encoder = Self {
            buffer: Vec::with_capacity(CHUNK_MIN),
            db: None,
            checksum: options.checksum.then(Checksum::new),
            compressor: options.compression.then(Compressor::new),
            access: options.access,
            db_sizes: options.db_sizes,
            taken: 0,
            keys: 0,
        };
        encoder.buffer.extend_from_slice(MAGIC);
        encoder.buffer.extend_from_slice(format!("{VERSION_WRITTEN:04}").as_bytes());
        encoder.aux("redis-ver", REDIS_VERSION);
        encoder.aux("redis-bits", "64");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        encoder.aux("ctime", &now.to_string());
        encoder.aux("used-mem", &options.used_memory.to_string());
        if let Some(place) = options.replication {
            encoder.aux("repl-stream-db", &place.stream_db.to_string());
            encoder.aux("repl-id", &place.id);
            encoder.aux("repl-offset", &place.offset.to_string());
        }
        encoder.aux("aof-base", if options.aof_base { "1" } else { "0" });
        encoder.buffer.extend_from_slice(&options.carried);
        encoder
    }

    /// An encoder of single values: no header, no keys.
    pub(super) fn bare(compression: bool) -> Self {
        Self {
            buffer: Vec::new(),
            db: None,
            checksum: None,
            compressor: compression.then(Compressor::new),
            access: Access::Unsaid,
            db_sizes: Vec::new(),
            taken: 0,
            keys: 0,
        }
    }

    /// Bytes encoded and not taken.
    #[inline]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes encoded in all.
    pub fn bytes(&self) -> u64 {
        self.taken + self.buffer.len() as u64
    }

    /// Keys encoded in all.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Takes what is pending. The next chunk gets as much memory at first as this one took.
    pub fn take(&mut self) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(self.buffer.len().clamp(CHUNK_MIN, CHUNK));
        self.swap(&mut chunk);
        chunk
    }

    /// Takes what is pending into `spare`, whose memory the encoder uses next; what `spare` held is dropped.
    pub fn swap(&mut self, spare: &mut Vec<u8>) {
        spare.clear();
        std::mem::swap(spare, &mut self.buffer);
        self.taken += spare.len() as u64;
        if let Some(checksum) = &mut self.checksum {
            checksum.update(spare);
        }
    }

    /// Ends the stream; the last chunk.
    pub fn finish(mut self) -> Vec<u8> {
        self.buffer.push(opcode::EOF);
        let sum = self.checksum.as_mut().map_or(0, |checksum| {
            checksum.update(&self.buffer);
            checksum.value()
        });
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        self.buffer
    }

    fn aux(&mut self, name: &str, value: &str) {
        self.buffer.push(opcode::AUX);
        length::put_raw_string(&mut self.buffer, name.as_bytes());
        self.string(value.as_bytes());
    }

    /// Everything of a key before its value. `lru` is the engine's 24-bit access field.
    #[inline]
    pub fn key(&mut self, db: u32, name: &[u8], expire_at_ms: Option<i64>, lru: u32, value_type: u8) {
        self.buffer.reserve(OVERHEAD + name.len());
        if self.db != Some(db) {
            self.select(db);
        }
        if let Some(at) = expire_at_ms {
            let mut bytes = [opcode::EXPIRETIME_MS; 9];
            bytes[1..].copy_from_slice(&at.to_le_bytes());
            self.buffer.extend_from_slice(&bytes);
        }
        match self.access {
            Access::Unsaid => {}
            Access::Idle { clock } => {
                self.buffer.push(opcode::IDLE);
                length::put(&mut self.buffer, u64::from(clock.wrapping_sub(lru) & LRU_MASK));
            }
            Access::Freq => self.buffer.extend_from_slice(&[opcode::FREQ, lru as u8]),
        }
        self.buffer.push(value_type);
        self.string(name);
        self.keys += 1;
    }

    #[cold]
    fn select(&mut self, db: u32) {
        self.db = Some(db);
        self.buffer.push(opcode::SELECTDB);
        length::put(&mut self.buffer, db.into());
        if let Some(at) = self.db_sizes.iter().position(|size| size.0 == db) {
            let (_, keys, expiring) = self.db_sizes.swap_remove(at);
            self.buffer.push(opcode::RESIZEDB);
            length::put(&mut self.buffer, keys);
            length::put(&mut self.buffer, expiring);
        }
    }

    /// A count or length.
    #[inline]
    pub fn length(&mut self, len: u64) {
        length::put(&mut self.buffer, len);
    }

    /// A string, as an integer or compressed where that is shorter.
    #[inline]
    pub fn string(&mut self, string: &[u8]) {
        // As in Redis, only what fits 11 bytes is tried as an integer of 32 bits.
        if string.len() <= 11
            && let Some(value) = length::canonical_i32(string)
        {
            length::put_int(&mut self.buffer, value.into());
        } else if self.compressor.is_none() || string.len() < COMPRESS_MIN || !self.compressed(string) {
            length::put_raw_string(&mut self.buffer, string);
        }
    }

    fn compressed(&mut self, string: &[u8]) -> bool {
        let Some(compressor) = &mut self.compressor else { return false };
        // The compressed length comes before the bytes and its size depends on it: leave room for the
        // largest form, then close the gap.
        const ROOM: usize = 1 + 9 + 9;
        let start = self.buffer.len();
        self.buffer.resize(start + ROOM, 0);
        if !compressor.compress(string, string.len() - 4, &mut self.buffer) {
            self.buffer.truncate(start);
            return false;
        }
        let packed = self.buffer.len() - start - ROOM;
        let mut head = Vec::with_capacity(ROOM);
        head.push(length::LZF);
        length::put(&mut head, packed as u64);
        length::put(&mut head, string.len() as u64);
        self.buffer[start..start + head.len()].copy_from_slice(&head);
        self.buffer.copy_within(start + ROOM.., start + head.len());
        self.buffer.truncate(start + head.len() + packed);
        true
    }

    /// A string that is an integer's decimal form.
    #[inline]
    pub fn int(&mut self, value: i64) {
        if !length::put_int(&mut self.buffer, value) {
            length::put_raw_string(&mut self.buffer, itoa::Buffer::new().format(value).as_bytes());
        }
    }

    /// A score.
    #[inline]
    pub fn score(&mut self, score: f64) {
        self.buffer.extend_from_slice(&score.to_le_bytes());
    }
}
