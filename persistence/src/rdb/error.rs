//! What can be wrong with an RDB stream, said so that a person can find the place.

use std::borrow::Cow;
use std::io;

/// Why an RDB stream could not be read. Offsets count bytes from the start of the stream.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    /// The bytes break the format.
    #[error("damaged RDB at byte {offset}: {reason}")]
    Corrupt {
        /// Where.
        offset: u64,
        /// What is wrong there.
        reason: Cow<'static, str>,
    },
    /// The stream ends inside an item, or before the end marker.
    #[error("truncated RDB: it ends at byte {end}, but the item at byte {offset} needs {needed} more bytes")]
    Truncated {
        /// Where the item begins.
        offset: u64,
        /// Length of the stream.
        end: u64,
        /// How many bytes are missing at the least.
        needed: u64,
    },
    /// Correct, as far as can be seen, but of a kind this server does not hold.
    #[error("unsupported RDB content at byte {offset}: {what}")]
    Unsupported {
        /// Where.
        offset: u64,
        /// What it is.
        what: String,
    },
    /// The whole stream was read, and it is not what was written.
    #[error(
        "RDB CRC error: checksum mismatch at byte {offset}: the content gives {computed:016x}, the file says {stored:016x}"
    )]
    Checksum {
        /// Where the stored checksum is.
        offset: u64,
        /// Checksum of what was read.
        computed: u64,
        /// Checksum in the stream.
        stored: u64,
    },
    /// Whoever takes the keys did not accept one.
    #[error("RDB entry at byte {offset} refused: {reason}")]
    Refused {
        /// Where the entry begins.
        offset: u64,
        /// The refusal.
        reason: Cow<'static, str>,
    },
    /// Reading failed.
    #[error("reading the RDB at byte {offset}: {source}")]
    Io {
        /// How far it was read.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
}

impl RdbError {
    /// Where in the stream.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Corrupt { offset, .. }
            | Self::Truncated { offset, .. }
            | Self::Unsupported { offset, .. }
            | Self::Checksum { offset, .. }
            | Self::Refused { offset, .. }
            | Self::Io { offset, .. } => *offset,
        }
    }
}

/// What is wrong with one packed value, at a byte of that value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at byte {at} of the value)")]
pub struct Damage {
    /// Byte of the packed value.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl Damage {
    pub(crate) fn new(at: usize, what: &'static str) -> Self {
        Self { at, what }
    }
}
