//! Reads an RDB stream, one key a step.
//!
//! The decoder pulls from a [`Source`] and pushes into an [`RdbVisitor`]. It may stop between any two
//! keys, and inside a large collection between any two elements: a source that has nothing more *for now*
//! (frames of a link that carries the log between them) makes [`RdbDecoder::step`] return [`Step::Starved`],
//! and the next step goes on where this one ended. Every byte is checked before it is believed,
//! every allocation is bounded by bytes that really came, and errors name the offset.

use super::RdbError;
use super::collection::Collection;
use super::format::{
    MAGIC, MAGIC_VALKEY, VERSION_CHECKSUM, VERSION_NEWEST, VERSION_VALKEY, opcode, value_type,
};
use super::input::Text;
use super::opaque::{OPAQUE_MAX, module_name};
use super::reading::{Reading, Step};
use super::source::Source;
use super::visitor::{RdbVisitor, Skipped};

/// Longest data of a module beside the keys that is read: it is held whole.
const FOREIGN_MAX: u64 = 64 << 20;
/// Scratch space kept from one key to the next; larger is given back.
const SCRATCH_KEPT: usize = 1 << 20;

/// Reads one RDB stream.
pub struct RdbDecoder<S> {
    at: Reading<S>,
    state: State,
    keys: u64,
}

enum State {
    Header,
    Items,
    Inside(Collection),
    Done,
}

/// Where a piece of a stream belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: u64,
    version: u32,
    pub(super) db: u32,
}

/// Bytes an RDB begins with that say what it is.
pub const HEADER_LEN: usize = 9;

/// The version an RDB stream states in its first bytes, if it is one that this server reads.
pub fn version_of(head: &[u8; HEADER_LEN]) -> Result<u32, RdbError> {
    let corrupt = |reason: &'static str| RdbError::Corrupt { offset: 0, reason: reason.into() };
    let (digits, known, dialect) = if head.starts_with(MAGIC) {
        (&head[MAGIC.len()..], 1..=VERSION_NEWEST, "")
    } else if head.starts_with(MAGIC_VALKEY) {
        (&head[MAGIC_VALKEY.len()..], VERSION_VALKEY, "Valkey's ")
    } else {
        return Err(corrupt("this is not an RDB: it does not begin with REDIS"));
    };
    let version = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    let version = version.and_then(|digits| digits.parse().ok()).filter(|version| *version > 0);
    let version: u32 = version.ok_or_else(|| corrupt("the version is not a number"))?;
    if !known.contains(&version) {
        let (from, to) = (known.start(), known.end());
        let what = format!("{dialect}RDB version {version}; this server reads {from} to {to}");
        return Err(RdbError::Unsupported { offset: (HEADER_LEN - digits.len()) as u64, what });
    }
    Ok(version)
}

impl<'a> RdbDecoder<&'a [u8]> {
    /// Reads whole keys out of the middle of a stream.
    pub(super) fn piece(bytes: &'a [u8], place: Place) -> Self {
        let mut decoder = Self::with_checksum(bytes, false);
        decoder.at.input.begin_at(place.offset);
        (decoder.state, decoder.at.version, decoder.at.db) = (State::Items, place.version, place.db);
        decoder
    }
}

impl<S: Source> RdbDecoder<S> {
    /// Reads `source`; the checksum at the end is compared, unless the writer left it out (zero).
    pub fn new(source: S) -> Self {
        Self::with_checksum(source, true)
    }

    /// Reads `source`, comparing the checksum or not.
    pub fn with_checksum(source: S, checksum: bool) -> Self {
        Self { at: Reading::new(source, checksum, OPAQUE_MAX), state: State::Header, keys: 0 }
    }

    /// As if [`OPAQUE_MAX`] were so many bytes.
    #[cfg(test)]
    pub(super) fn with_opaque_max(mut self, bytes: u64) -> Self {
        self.at.opaque_max = bytes;
        self
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.at.input.offset()
    }

    /// The stream's version; 0 before it was read.
    pub fn version(&self) -> u32 {
        self.at.version
    }

    /// Keys told so far.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The source, to give it more bytes.
    pub fn source_mut(&mut self) -> &mut S {
        self.at.input.source_mut()
    }

    /// The source, standing behind the last byte read.
    pub fn into_source(self) -> S {
        self.at.input.into_source()
    }

    /// Reads to the end of the stream. Input that ends before is an error.
    pub fn run(&mut self, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        loop {
            match self.step(visitor)? {
                Step::More => {}
                Step::Done => return Ok(()),
                Step::Starved => {
                    let offset = self.offset();
                    return Err(RdbError::Truncated { offset, end: offset, needed: 1 });
                }
            }
        }
    }

    /// Reads up to and with the next key, or some elements of a large one. After an error the stream is useless.
    pub fn step(&mut self, visitor: &mut impl RdbVisitor) -> Result<Step, RdbError> {
        self.at.input.settle();
        match &mut self.state {
            State::Items => self.item(visitor),
            State::Header => {
                if !self.at.input.has_next()? {
                    return Ok(Step::Starved);
                }
                self.header()?;
                self.state = State::Items;
                self.item(visitor)
            }
            State::Inside(collection) => {
                let mut collection = *collection;
                let step = self.at.elements(&mut collection, visitor)?;
                self.state = if collection.is_done() { State::Items } else { State::Inside(collection) };
                Ok(step)
            }
            State::Done => Ok(Step::Done),
        }
    }

    fn header(&mut self) -> Result<(), RdbError> {
        self.at.version = version_of(&self.at.input.array()?)?;
        Ok(())
    }

    /// Reads the header, which says whether this server reads the rest at all; false where the source has no bytes now.
    /// The first step would read it, too.
    pub fn header_comes(&mut self) -> Result<bool, RdbError> {
        if matches!(self.state, State::Header) {
            if !self.at.input.has_next()? {
                return Ok(false);
            }
            self.header()?;
            self.state = State::Items;
        }
        Ok(true)
    }

    /// Reads items until one is a key or the end.
    fn item(&mut self, visitor: &mut impl RdbVisitor) -> Result<Step, RdbError> {
        loop {
            if !self.at.input.has_next()? {
                return Ok(Step::Starved);
            }
            self.at.input.settle();
            self.at.entry_at = self.at.input.offset();
            let first = self.at.input.byte()?;
            visitor.item(self.at.entry_at, first);
            match first {
                kind @ ..=value_type::LAST => return self.entry(kind, visitor),
                opcode::EXPIRETIME_MS => {
                    self.at.expire_at_ms = Some(i64::from_le_bytes(self.at.input.array()?));
                }
                opcode::EXPIRETIME => {
                    let seconds = i32::from_le_bytes(self.at.input.array()?);
                    self.at.expire_at_ms = Some(i64::from(seconds) * 1000);
                }
                opcode::IDLE => self.at.idle_secs = Some(self.at.input.length()?),
                opcode::FREQ => self.at.freq = Some(self.at.input.byte()?),
                opcode::SELECTDB => {
                    let db = self.at.input.length()?;
                    self.at.db = match u32::try_from(db) {
                        Ok(db) => db,
                        Err(_) => return self.at.input.corrupt(format!("database {db} does not exist")),
                    };
                }
                opcode::RESIZEDB => {
                    let (keys, expiring) = (self.at.input.length()?, self.at.input.length()?);
                    visitor.db_size(self.at.db, keys, expiring);
                }
                opcode::SLOT_INFO => {
                    for _ in 0..3 {
                        self.at.input.length()?;
                    }
                }
                opcode::VALKEY_SLOT_IMPORT if self.at.is_valkey() => {
                    return self.unsupported("a cluster's slots on their way to another node (Valkey)");
                }
                opcode::AUX => {
                    self.at.scratch.clear();
                    let name = self.at.input.text(&mut self.at.scratch)?;
                    let value = self.at.input.text(&mut self.at.scratch)?;
                    let (name, value) = (
                        self.at.input.resolve(&name, &self.at.scratch),
                        self.at.input.resolve(&value, &self.at.scratch),
                    );
                    visitor.aux(name, value);
                }
                opcode::FUNCTION2 => {
                    self.at.scratch.clear();
                    self.at.input.text(&mut self.at.scratch)?;
                    visitor.skipped(Skipped::Function);
                    self.foreign(visitor)?;
                }
                opcode::MODULE_AUX => self.module_aux(visitor)?,
                opcode::FUNCTION_PRE_GA => {
                    return self.unsupported("a function library of a Redis 7.0 release candidate");
                }
                opcode::EOF => return self.end(),
                unknown => {
                    let reason = format!("unknown opcode or value type {unknown}");
                    return Err(RdbError::Corrupt { offset: self.at.entry_at, reason: reason.into() });
                }
            }
        }
    }

    fn unsupported<T>(&self, what: impl Into<String>) -> Result<T, RdbError> {
        Err(RdbError::Unsupported { offset: self.at.entry_at, what: what.into() })
    }

    /// Reads a key and its value, or the beginning of it.
    #[inline]
    fn entry(&mut self, kind: u8, visitor: &mut impl RdbVisitor) -> Result<Step, RdbError> {
        self.at.scratch.clear();
        let name = self.at.input.text(&mut self.at.scratch)?;
        if kind == value_type::STRING {
            self.at.string(&name, visitor)?;
        } else {
            self.at.key.clear();
            self.at.key.extend_from_slice(self.at.input.resolve(&name, &self.at.scratch));
            let collection = self.at.value(kind, visitor)?;
            if !collection.is_done() {
                self.state = State::Inside(collection);
            }
        }
        (self.at.expire_at_ms, self.at.idle_secs, self.at.freq) = (None, None, None);
        if self.at.scratch.capacity() > SCRATCH_KEPT {
            self.at.scratch = Vec::new();
        }
        self.keys += 1;
        Ok(Step::More)
    }

    /// Bytes at hand that begin with a key, empty where they cannot: what [`skim`](super::skim::skim) may look at.
    pub(super) fn items_at_hand(&self) -> &[u8] {
        if matches!(self.state, State::Items) { self.at.input.rest() } else { &[] }
    }

    /// Where what is at hand belongs: offset, version and database, for a decoder of a piece of it.
    pub(super) fn place(&self) -> Place {
        Place { offset: self.at.input.offset(), version: self.at.version, db: self.at.db }
    }

    /// Passes over whole keys at hand, which somebody else reads.
    pub(super) fn pass(&mut self, n: usize) {
        self.at.input.pass(n);
        self.at.input.settle();
    }

    /// Reads one value without a key: a byte of type, then the value, all of it at hand. The visitor is told of a key
    /// without a name.
    pub(super) fn object(&mut self, version: u32, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        self.at.version = version;
        let kind = self.at.input.byte()?;
        if kind == value_type::STRING {
            return self.at.string(&Text::Scratch(0..0), visitor);
        }
        let mut collection = self.at.value(kind, visitor)?;
        while !collection.is_done() {
            if self.at.elements(&mut collection, visitor)? == Step::Starved {
                let offset = self.offset();
                return Err(RdbError::Truncated { offset, end: offset, needed: 1 });
            }
        }
        Ok(())
    }

    /// Reads what a module stored beside the keys: a module id, then typed items.
    fn module_aux(&mut self, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        self.at.input.hold(FOREIGN_MAX);
        let name = module_name(self.at.input.length()?);
        self.at.module_items()?;
        self.at.input.release()?;
        visitor.skipped(Skipped::ModuleAux(name));
        self.foreign(visitor)
    }

    /// Passes on the item that was just read as it stands.
    fn foreign(&mut self, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        visitor.foreign(self.at.input.since(self.at.entry_at)).map_err(|refusal| self.at.refused(refusal))
    }

    fn end(&mut self) -> Result<Step, RdbError> {
        self.at.input.settle_all();
        self.state = State::Done;
        if self.at.version < VERSION_CHECKSUM {
            return Ok(Step::Done);
        }
        let offset = self.at.input.offset();
        let computed = self.at.input.checksum();
        let stored = u64::from_le_bytes(self.at.input.array()?);
        match computed {
            Some(computed) if stored != 0 && computed != stored => {
                Err(RdbError::Checksum { offset, computed, stored })
            }
            _ => Ok(Step::Done),
        }
    }
}
