//! The collections: list, hash, set and sorted set, each with a compact encoding and a large one; and values that are
//! carried without being understood ([`opaque`]).
//!
//! Strings are not here: they live in the entry itself (what a HyperLogLog keeps in one is in [`hyperloglog`]). A large hash, set or sorted set keeps its elements in a
//! [`Table`] of its own, which is what lets a cut deliver it in slices (see the `cut` module).

pub(crate) mod hash;
pub(crate) mod hyperloglog;
pub(crate) mod list;
pub(crate) mod opaque;
pub(crate) mod set;
pub(crate) mod zset;

pub use hash::Hash;
pub use list::List;
pub use opaque::{Opaque, TypeName};
pub use set::Set;
pub use zset::ZSet;

pub(crate) use crate::entry::{Entry, EntryMut, EntryRef, Payload};
use crate::lazy_free::{LAZY_FREE_BYTES, LAZY_FREE_ELEMENTS};
pub(crate) use crate::table::Table;

/// A collection with more elements than this is delivered to a cut in slices and changed element by element;
/// a smaller one is copied whole.
pub(crate) const HUGE_ELEMENTS: usize = 128;

/// What a huge value is, and by which elements a cut delivers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugeKind {
    /// Elements are [`Element::Field`](crate::Element::Field).
    Hash,
    /// Elements are [`Element::Member`](crate::Element::Member).
    Set,
    /// Elements are [`Element::Scored`](crate::Element::Scored).
    ZSet,
    /// Elements are [`Element::Node`](crate::Element::Node), in order; the count is the number of nodes.
    List,
    /// An opaque value of a type of this name, which begins with this byte. Elements are
    /// [`Element::Bytes`](crate::Element::Bytes), which make up the others; the count is how many bytes those are.
    Opaque(TypeName, u8),
}

/// A value that is no string.
#[derive(Clone, Debug)]
pub enum Value {
    /// An ordered list of strings.
    List(List),
    /// A map of fields to strings.
    Hash(Hash),
    /// A set of strings.
    Set(Set),
    /// A set of strings ordered by score.
    ZSet(ZSet),
    /// Something this server carries byte for byte.
    Opaque(Opaque),
}

/// The type of a key's value, by the names `TYPE` prints: see [`Db::type_of`](crate::Db::type_of).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `string`
    String,
    /// `list`
    List,
    /// `hash`
    Hash,
    /// `set`
    Set,
    /// `zset`
    ZSet,
    /// `stream`, or the name of a module's type.
    Opaque(TypeName),
}

impl Type {
    /// The name, as `TYPE` replies it.
    pub fn name(&self) -> &str {
        match self {
            Type::String => "string",
            Type::List => "list",
            Type::Hash => "hash",
            Type::Set => "set",
            Type::ZSet => "zset",
            Type::Opaque(name) => name.as_str(),
        }
    }

    /// The type of an entry of the keyspace.
    pub fn of(e: EntryRef<'_>) -> Type {
        match e.payload() {
            Payload::Value(v) => v.kind(),
            _ => Type::String,
        }
    }
}

impl Value {
    /// Which it is.
    pub fn kind(&self) -> Type {
        match self {
            Value::List(_) => Type::List,
            Value::Hash(_) => Type::Hash,
            Value::Set(_) => Type::Set,
            Value::ZSet(_) => Type::ZSet,
            Value::Opaque(v) => Type::Opaque(v.type_name()),
        }
    }

    /// Number of elements; something opaque counts as one.
    pub fn len(&self) -> usize {
        match self {
            Value::List(v) => v.len(),
            Value::Hash(v) => v.len(),
            Value::Set(v) => v.len(),
            Value::ZSet(v) => v.len(),
            Value::Opaque(_) => 1,
        }
    }

    /// True where there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table of elements, where the collection has one.
    pub fn element_table(&self) -> Option<(HugeKind, &Table)> {
        match self {
            Value::List(_) | Value::Opaque(_) => None,
            Value::Hash(v) => v.table().map(|t| (HugeKind::Hash, t)),
            Value::Set(v) => v.table().map(|t| (HugeKind::Set, t)),
            Value::ZSet(v) => v.table().map(|t| (HugeKind::ZSet, t)),
        }
    }

    /// The table of elements of a collection that is too large to be copied whole.
    pub(crate) fn huge_table_mut(&mut self) -> Option<(HugeKind, &mut Table)> {
        let (kind, table) = match self {
            Value::List(_) | Value::Opaque(_) => return None,
            Value::Hash(v) => (HugeKind::Hash, v.table_mut()?),
            Value::Set(v) => (HugeKind::Set, v.table_mut()?),
            Value::ZSet(v) => (HugeKind::ZSet, v.table_mut()?),
        };
        // One that began huge stays so until its cut is through.
        (table.len() > HUGE_ELEMENTS || table.capture().is_some()).then_some((kind, table))
    }

    /// Does it take so long to free that it is left to the background?
    pub(crate) fn is_large(&self) -> bool {
        match self {
            Value::List(v) => v.len() > LAZY_FREE_ELEMENTS || v.is_longer_than(LAZY_FREE_BYTES),
            Value::Opaque(v) => v.as_bytes().len() > LAZY_FREE_BYTES,
            _ => self.len() > LAZY_FREE_ELEMENTS,
        }
    }

    /// A rough size in bytes at no cost: for accounting queues.
    pub(crate) fn quick_size(&self) -> usize {
        match self {
            Value::List(v) => v.node_count() * 64 + 64,
            Value::Hash(v) => v.quick_size(),
            Value::Set(v) => v.quick_size(),
            Value::ZSet(v) => v.quick_size(),
            Value::Opaque(v) => v.memory(),
        }
    }
}

/// A key's value as the consumer of a cut sees it, where it lies: see [`CutSink`](crate::CutSink) for an example. Collections have
/// an `iter`, whose items have a `to_vec`.
#[derive(Clone, Copy, Debug)]
pub enum ValueView<'a> {
    /// A string.
    Str(&'a [u8]),
    /// A string that is a canonical integer.
    Int(i64),
    /// A list.
    List(&'a List),
    /// A hash.
    Hash(&'a Hash),
    /// A set.
    Set(&'a Set),
    /// A sorted set.
    ZSet(&'a ZSet),
    /// Something this server carries byte for byte.
    Opaque(&'a Opaque),
}

impl<'a> ValueView<'a> {
    /// The view of a keyspace entry; `None` for an element of a collection.
    pub fn of(e: EntryRef<'a>) -> Option<ValueView<'a>> {
        Some(match e.payload() {
            Payload::Str(v) => ValueView::Str(v),
            Payload::Int(v) => ValueView::Int(v),
            Payload::Value(Value::List(v)) => ValueView::List(v),
            Payload::Value(Value::Hash(v)) => ValueView::Hash(v),
            Payload::Value(Value::Set(v)) => ValueView::Set(v),
            Payload::Value(Value::ZSet(v)) => ValueView::ZSet(v),
            Payload::Value(Value::Opaque(v)) => ValueView::Opaque(v),
            Payload::Score(_) | Payload::Unit => return None,
        })
    }
}

/// A collection type, for code that is generic over them.
pub trait Collection: Sized {
    /// Borrows it out of a value of that type.
    fn from_value(v: &Value) -> Option<&Self>;
    /// Borrows it exclusively out of a value of that type.
    fn from_value_mut(v: &mut Value) -> Option<&mut Self>;
    /// Wraps it.
    fn into_value(self) -> Value;
    /// An empty one.
    fn empty() -> Self;
    /// True where there is no element.
    fn has_none(&self) -> bool;
}

macro_rules! collection {
    ($t:ident) => {
        impl Collection for $t {
            fn from_value(v: &Value) -> Option<&Self> {
                match v {
                    Value::$t(x) => Some(x),
                    _ => None,
                }
            }
            fn from_value_mut(v: &mut Value) -> Option<&mut Self> {
                match v {
                    Value::$t(x) => Some(x),
                    _ => None,
                }
            }
            fn into_value(self) -> Value {
                Value::$t(self)
            }
            fn empty() -> Self {
                $t::new()
            }
            fn has_none(&self) -> bool {
                self.len() == 0
            }
        }
    };
}

collection!(List);
collection!(Hash);
collection!(Set);
collection!(ZSet);
