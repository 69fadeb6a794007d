//! A cursor over a [`Source`]: numbers, lengths and strings, counted and summed.
//!
//! Bytes parsed stay in the window until [`Input::settle`], which the decoder calls where it holds no
//! ranges any more; a [`Text`] stays valid until then. Settling in large steps keeps the checksum fast.

use super::checksum::Checksum;
use super::length::First;
use super::lzf;
use super::source::Source;
use super::{Damage, RdbError};
use std::borrow::Cow;
use std::ops::Range;

/// Bytes parsed before they are summed and given back to the source: they are still in the cache then.
const SETTLE: usize = 64 * 1024;

/// No value of the engine is longer.
const STRING_MAX: u64 = u32::MAX as u64;

/// Where a string's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    /// In the window.
    Window(Range<usize>),
    /// In the scratch buffer: it was compressed, or is an integer's decimal form.
    Scratch(Range<usize>),
}

/// A string as it is stored.
enum Stored {
    Plain(Range<usize>),
    Int(i64),
    Compressed { at: u64, bytes: Range<usize>, len: usize },
}

/// A string value: integers are worth telling apart.
pub(crate) enum StringValue {
    Text(Text),
    Int(i64),
}

pub(crate) struct Input<S> {
    source: S,
    /// Parsed bytes of the window.
    pos: usize,
    /// Offset in the stream of the window's first byte.
    base: u64,
    checksum: Option<Checksum>,
    /// What is being held may not reach beyond this offset.
    hold_to: u64,
    /// How many bytes that allows.
    hold_max: u64,
}

impl<S: Source> Input<S> {
    pub(crate) fn new(source: S, checksum: bool) -> Self {
        Self {
            source,
            pos: 0,
            base: 0,
            checksum: checksum.then(Checksum::new),
            hold_to: u64::MAX,
            hold_max: 0,
        }
    }

    /// Counts offsets from `base` on: the source is a piece of a stream.
    pub(crate) fn begin_at(&mut self, base: u64) {
        self.base = base;
    }

    /// What was parsed from `offset` on, which was not settled since.
    pub(crate) fn since(&self, offset: u64) -> &[u8] {
        &self.source.window()[(offset - self.base) as usize..self.pos]
    }

    /// From here on everything is to be held, up to `max` bytes, until [`Input::release`]: more than that are an error
    /// before memory is taken for them.
    pub(crate) fn hold(&mut self, max: u64) {
        self.hold_to = self.offset().saturating_add(max);
        self.hold_max = max;
    }

    /// Ends what [`Input::hold`] began.
    pub(crate) fn release(&mut self) -> Result<(), RdbError> {
        self.check_held(0)?;
        self.hold_to = u64::MAX;
        Ok(())
    }

    fn check_held(&self, needed: usize) -> Result<(), RdbError> {
        if self.offset().saturating_add(needed as u64) <= self.hold_to {
            return Ok(());
        }
        let what = format!("a value of more than {} bytes that would be carried as it stands", self.hold_max);
        Err(RdbError::Unsupported { offset: self.hold_to, what })
    }

    /// Bytes at hand and not parsed.
    #[inline]
    pub(crate) fn rest(&self) -> &[u8] {
        &self.source.window()[self.pos..]
    }

    /// Passes over bytes at hand, which count as parsed.
    #[inline]
    pub(crate) fn pass(&mut self, n: usize) {
        debug_assert!(n <= self.rest().len());
        self.pos += n;
    }

    pub(crate) fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// The source, with everything parsed consumed.
    pub(crate) fn into_source(mut self) -> S {
        self.settle_all();
        self.source
    }

    /// Where the next byte is in the stream.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    pub(crate) fn corrupt<T>(&self, reason: impl Into<Cow<'static, str>>) -> Result<T, RdbError> {
        Err(RdbError::Corrupt { offset: self.offset(), reason: reason.into() })
    }

    /// Gives parsed bytes back once there are enough of them. Invalidates every [`Text`].
    #[inline]
    pub(crate) fn settle(&mut self) {
        if self.pos >= SETTLE {
            self.settle_all();
        }
    }

    /// Gives all parsed bytes back. Invalidates every [`Text`].
    pub(crate) fn settle_all(&mut self) {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&self.source.window()[..self.pos]);
        }
        self.source.consume(self.pos);
        self.base += self.pos as u64;
        self.pos = 0;
    }

    /// The checksum of everything settled, if it is computed.
    pub(crate) fn checksum(&self) -> Option<u64> {
        self.checksum.as_ref().map(Checksum::value)
    }

    /// Whether there is a next byte (for now).
    #[inline]
    pub(crate) fn has_next(&mut self) -> Result<bool, RdbError> {
        if self.source.window().len() > self.pos {
            return Ok(true);
        }
        self.settle_all();
        self.source.fill(1).map_err(|source| RdbError::Io { offset: self.base, source })
    }

    /// Makes `n` more bytes ready to parse.
    #[inline]
    fn need(&mut self, n: usize) -> Result<(), RdbError> {
        if self.source.window().len() - self.pos >= n { Ok(()) } else { self.read_more(n) }
    }

    #[cold]
    fn read_more(&mut self, n: usize) -> Result<(), RdbError> {
        self.check_held(n)?;
        let offset = self.offset();
        let filled = self.source.fill(self.pos.saturating_add(n)).map_err(|source| RdbError::Io {
            offset: self.base + self.source.window().len() as u64,
            source,
        })?;
        let ready = self.source.window().len() - self.pos;
        if filled {
            return Ok(());
        }
        Err(RdbError::Truncated { offset, end: offset + ready as u64, needed: (n - ready) as u64 })
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, RdbError> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        self.need(N)?;
        let found = self.source.window()[self.pos..].first_chunk().copied();
        self.pos += N;
        Ok(found.expect("`need` made sure of them"))
    }

    pub(crate) fn skip(&mut self, n: usize) -> Result<(), RdbError> {
        self.range(n).map(drop)
    }

    #[inline]
    fn range(&mut self, n: usize) -> Result<Range<usize>, RdbError> {
        self.need(n)?;
        let range = self.pos..self.pos + n;
        self.pos = range.end;
        Ok(range)
    }

    #[inline]
    fn finish_length(&mut self, first: First) -> Result<Option<u64>, RdbError> {
        Ok(Some(match first {
            First::Len(len) => len,
            First::Len14(high) => u64::from(high) << 8 | u64::from(self.byte()?),
            First::Len32 => u64::from(u32::from_be_bytes(self.array()?)),
            First::Len64 => u64::from_be_bytes(self.array()?),
            First::Int(_) | First::Lzf | First::Unknown => return Ok(None),
        }))
    }

    /// A length where no special string may be.
    #[inline]
    pub(crate) fn length(&mut self) -> Result<u64, RdbError> {
        let first = First::of(self.byte()?);
        match self.finish_length(first)? {
            Some(len) => Ok(len),
            None => {
                self.pos -= 1;
                self.corrupt("this is not a length")
            }
        }
    }

    fn string_length(&mut self, len: u64) -> Result<usize, RdbError> {
        match usize::try_from(len) {
            Ok(n) if len <= STRING_MAX => Ok(n),
            _ => self.corrupt(format!("a string of {len} bytes is longer than any value may be")),
        }
    }

    #[inline]
    fn stored(&mut self) -> Result<Stored, RdbError> {
        let at = self.offset();
        let first = First::of(self.byte()?);
        if let Some(len) = self.finish_length(first)? {
            let len = self.string_length(len)?;
            return self.range(len).map(Stored::Plain);
        }
        match first {
            First::Int(1) => Ok(Stored::Int(i8::from_le_bytes(self.array()?).into())),
            First::Int(2) => Ok(Stored::Int(i16::from_le_bytes(self.array()?).into())),
            First::Int(_) => Ok(Stored::Int(i32::from_le_bytes(self.array()?).into())),
            First::Lzf => {
                let (packed, len) = (self.length()?, self.length()?);
                let (packed, len) = (self.string_length(packed)?, self.string_length(len)?);
                Ok(Stored::Compressed { at, bytes: self.range(packed)?, len })
            }
            _ => {
                self.pos -= 1;
                self.corrupt("unknown string encoding")
            }
        }
    }

    fn decompress(
        &self,
        at: u64,
        bytes: Range<usize>,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RdbError> {
        let start = out.len();
        lzf::decompress(&self.source.window()[bytes], len, out).map_err(|damage| damaged(at, damage))?;
        Ok(start..out.len())
    }

    /// A string that may turn out to be an integer's.
    #[inline]
    pub(crate) fn string_value(&mut self, scratch: &mut Vec<u8>) -> Result<StringValue, RdbError> {
        Ok(match self.stored()? {
            Stored::Plain(range) => StringValue::Text(Text::Window(range)),
            Stored::Int(value) => StringValue::Int(value),
            Stored::Compressed { at, bytes, len } => {
                StringValue::Text(Text::Scratch(self.decompress(at, bytes, len, scratch)?))
            }
        })
    }

    /// A string's text; what is not in the window as it stands is appended to `scratch`.
    #[inline]
    pub(crate) fn text(&mut self, scratch: &mut Vec<u8>) -> Result<Text, RdbError> {
        Ok(match self.string_value(scratch)? {
            StringValue::Text(text) => text,
            StringValue::Int(value) => {
                let start = scratch.len();
                sluice_engine::internals::num::fmt_i64(value, scratch);
                Text::Scratch(start..scratch.len())
            }
        })
    }

    /// A string's bytes, owned.
    pub(crate) fn owned(&mut self) -> Result<Vec<u8>, RdbError> {
        match self.stored()? {
            Stored::Plain(range) => Ok(self.source.window()[range].to_vec()),
            Stored::Int(value) => Ok(value.to_string().into_bytes()),
            Stored::Compressed { at, bytes, len } => {
                let mut out = Vec::new();
                self.decompress(at, bytes, len, &mut out)?;
                Ok(out)
            }
        }
    }

    #[inline]
    pub(crate) fn resolve<'a>(&'a self, text: &Text, scratch: &'a [u8]) -> &'a [u8] {
        match text {
            Text::Window(range) => &self.source.window()[range.clone()],
            Text::Scratch(range) => &scratch[range.clone()],
        }
    }
}

/// Says where in the stream a packed value's damage is.
pub(crate) fn damaged(offset: u64, damage: Damage) -> RdbError {
    RdbError::Corrupt { offset, reason: damage.to_string().into() }
}
