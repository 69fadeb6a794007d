//! What a decoder tells, key by key.

use sluice_engine::internals::{Intset, Listpack, Opaque};
use std::borrow::Cow;

/// Why a visitor does not take a key; becomes [`super::RdbError::Refused`].
pub type Refusal = Cow<'static, str>;

/// A key and what the stream says of it beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// Its database.
    pub db: u32,
    /// Its name.
    pub name: &'a [u8],
    /// When it expires, in milliseconds of Unix time.
    pub expire_at_ms: Option<i64>,
    /// Seconds since it was used, where the writer evicts by LRU.
    pub idle_secs: Option<u64>,
    /// LFU counter, where the writer evicts by LFU.
    pub freq: Option<u8>,
}

/// What a collection told element by element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Elements are [`Element::Item`] and [`Element::Node`], in order.
    List,
    /// Elements are [`Element::Field`].
    Hash,
    /// Elements are [`Element::Member`].
    Set,
    /// Elements are [`Element::Scored`], usually from the highest score down.
    ZSet,
}

/// One element of a collection.
#[derive(Debug, PartialEq)]
pub enum Element<'a> {
    /// The next item of a list.
    Item(&'a [u8]),
    /// The next items of a list: at least one, checked.
    Node(Listpack),
    /// A field and its value.
    Field(&'a [u8], &'a [u8]),
    /// A member of a set.
    Member(&'a [u8]),
    /// A member of a sorted set with its score, which is a number.
    Scored(&'a [u8], f64),
}

/// A whole value in an encoding that the engine shares. Not empty, and every entry is well-formed; what the
/// entries mean was not checked (that pairs are whole, fields differ, scores are numbers in order):
/// the engine's `from_listpack` does that.
#[derive(Debug)]
pub enum Packed {
    /// Fields and values in turn.
    Hash(Listpack),
    /// Members and scores in turn.
    ZSet(Listpack),
    /// A set of integers.
    Set(Intset),
    /// A stream or a module's value, checked, as it stands.
    Opaque(Opaque),
}

/// Something in the stream that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skipped<'a> {
    /// A function library: this server runs no functions.
    Function,
    /// What a module of this name stored beside the keys.
    ModuleAux(String),
    /// A collection without elements, which old versions of Redis wrote by mistake.
    Empty(&'a [u8]),
}

/// Receives what an [`super::RdbDecoder`] reads. A key comes in one of four calls: [`string`](Self::string),
/// [`int`](Self::int), [`packed`](Self::packed), or [`begin`](Self::begin), then elements, then [`end`](Self::end).
/// What an implementation has no method for is read, checked and left aside.
pub trait RdbVisitor {
    /// An item begins at `offset` with the byte `first`: an opcode, or the type of a key's value.
    #[inline]
    fn item(&mut self, _offset: u64, _first: u8) {}

    /// A fact about the stream, such as `redis-ver`.
    fn aux(&mut self, _name: &[u8], _value: &[u8]) {}

    /// How many keys `db` has, and how many of them expire. Only a hint: the numbers are not checked.
    fn db_size(&mut self, _db: u32, _keys: u64, _expiring: u64) {}

    /// A function library or a module's data beside the keys, byte for byte with its opcode, so that it can be written back
    /// as it is. It was told to [`skipped`](Self::skipped) before.
    fn foreign(&mut self, _item: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    /// Something means nothing here.
    fn skipped(&mut self, _what: Skipped<'_>) {}

    /// A string.
    fn string(&mut self, _key: &Key<'_>, _value: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    /// A string that is the decimal form of an integer.
    fn int(&mut self, _key: &Key<'_>, _value: i64) -> Result<(), Refusal> {
        Ok(())
    }

    /// A small collection, or something opaque.
    fn packed(&mut self, _key: &Key<'_>, _value: Packed) -> Result<(), Refusal> {
        Ok(())
    }

    /// A collection begins. `count` is what the stream claims (items, or for lists possibly nodes): a hint that
    /// must not be trusted with an allocation.
    fn begin(&mut self, _key: &Key<'_>, _kind: Kind, _count: u64) -> Result<(), Refusal> {
        Ok(())
    }

    /// The next element of the collection begun.
    fn element(&mut self, _element: Element<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// The collection begun is complete. A list may have had no element: it counts as empty.
    fn end(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}
