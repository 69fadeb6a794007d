//! Where the reading of a stream stands: the input, and what was said of the key whose value is being read.
//!
//! The readers of values ([`collection`](super::collection), [`opaque`](super::opaque), [`stream`](super::stream)) work on
//! this and know nothing of the items around them, which are [`decoder`](super::decoder)'s.

use super::RdbError;
use super::format::VERSION_VALKEY;
use super::input::{Input, StringValue, Text};
use super::source::Source;
use super::visitor::{Key, RdbVisitor, Refusal};

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A key, or a part of a large one, was told; go on.
    More,
    /// The source has no bytes now, and the last item is complete.
    Starved,
    /// The end marker was read and the checksum is right.
    Done,
}

/// The input, and the key being read.
pub(super) struct Reading<S> {
    pub(super) input: Input<S>,
    pub(super) version: u32,
    pub(super) db: u32,
    pub(super) expire_at_ms: Option<i64>,
    pub(super) idle_secs: Option<u64>,
    pub(super) freq: Option<u8>,
    /// Name of the key being read, where its value does not fit beside it.
    pub(super) key: Vec<u8>,
    /// Decompressed strings.
    pub(super) scratch: Vec<u8>,
    /// Where the key being read begins.
    pub(super) entry_at: u64,
    /// Longest value that is carried as it stands.
    pub(super) opaque_max: u64,
}

impl<S: Source> Reading<S> {
    /// At the beginning of `source`.
    pub(super) fn new(source: S, checksum: bool, opaque_max: u64) -> Self {
        Self {
            input: Input::new(source, checksum),
            version: 0,
            db: 0,
            expire_at_ms: None,
            idle_secs: None,
            freq: None,
            key: Vec::new(),
            scratch: Vec::new(),
            entry_at: 0,
            opaque_max,
        }
    }

    /// Is this Valkey's dialect?
    pub(super) fn is_valkey(&self) -> bool {
        VERSION_VALKEY.contains(&self.version)
    }

    #[inline]
    pub(super) fn describe<'a>(&self, name: &'a [u8]) -> Key<'a> {
        Key { db: self.db, name, expire_at_ms: self.expire_at_ms, idle_secs: self.idle_secs, freq: self.freq }
    }

    pub(super) fn refused(&self, reason: Refusal) -> RdbError {
        RdbError::Refused { offset: self.entry_at, reason }
    }

    /// Reads a string, the value of the key `name`.
    #[inline]
    pub(super) fn string(&mut self, name: &Text, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let value = self.input.string_value(&mut self.scratch)?;
        let key = self.describe(self.input.resolve(name, &self.scratch));
        let outcome = match value {
            StringValue::Int(value) => visitor.int(&key, value),
            StringValue::Text(text) => visitor.string(&key, self.input.resolve(&text, &self.scratch)),
        };
        outcome.map_err(|refusal| self.refused(refusal))
    }
}
