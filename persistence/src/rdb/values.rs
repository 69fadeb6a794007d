//! The engine's collections, from what a stream tells.

use super::visitor::{Element, Kind, Packed, Refusal};
use sluice_engine::internals::{ElementBatch, Hash, Limits, List, NodeLimit, Set, Value, ZSet};

/// Elements a stream may make us prepare room for in one collection: a count in a stream is only a claim.
const RESERVE_ELEMENTS_MAX: u64 = 1 << 20;
/// Why an element was not taken.
pub(super) const TWICE: &str = "a field or member twice";

/// An empty collection, large from the beginning if `count` says that it will be. The count may lie: it
/// makes the engine reserve a bounded room at most.
pub(super) fn empty(kind: Kind, count: u64, limits: &Limits) -> Value {
    let count = count.min(RESERVE_ELEMENTS_MAX) as usize;
    match kind {
        Kind::List => Value::List(List::new()),
        Kind::Hash if count > limits.hash().entries => Value::Hash(Hash::with_capacity(count)),
        Kind::Hash => Value::Hash(Hash::new()),
        Kind::Set if count > limits.intset() => Value::Set(Set::with_capacity(count)),
        Kind::Set => Value::Set(Set::new()),
        Kind::ZSet => Value::ZSet(ZSet::with_capacity(count, limits.zset())),
    }
}

/// Adds one element; false if its field or member was there, or it does not belong in the value.
#[inline]
pub(super) fn add(
    value: &mut Value,
    element: Element<'_>,
    limits: &Limits,
    waiting: &mut ElementBatch,
) -> bool {
    match (value, element) {
        (Value::List(list), Element::Item(item)) => {
            list.push_back(item, NodeLimit::from_config(limits.list()));
            true
        }
        (Value::List(list), Element::Node(node)) => {
            list.push_packed_node(node, NodeLimit::from_config(limits.list()));
            true
        }
        (Value::Hash(hash), Element::Field(field, value)) => match hash.table_mut() {
            Some(table) => waiting.field(table, field, value),
            None => hash.set(field, value, limits.hash()),
        },
        (Value::Set(set), Element::Member(member)) => match set.table_mut() {
            Some(table) => waiting.member(table, member),
            None => set.add(member, limits.intset()),
        },
        (Value::ZSet(zset), Element::Scored(member, score)) => zset.insert_new(member, score, limits.zset()),
        _ => false,
    }
}

/// Puts in what waits; false if something was there twice.
pub(super) fn complete(value: &mut Value, waiting: &mut ElementBatch) -> bool {
    let table = match value {
        Value::Hash(hash) => hash.table_mut(),
        Value::Set(set) => set.table_mut(),
        Value::List(_) | Value::ZSet(_) | Value::Opaque(_) => None,
    };
    table.is_none_or(|table| waiting.flush(table))
}

/// Takes a packed collection as it stands, if it is within the thresholds.
pub(super) fn from_packed(packed: Packed, limits: &Limits) -> Result<Value, Refusal> {
    match packed {
        Packed::Hash(pairs) => match Hash::from_listpack(pairs, limits.hash()) {
            Ok(hash) => Ok(Value::Hash(hash)),
            Err(error) => Err(format!("Hash listpack integrity check failed: {error}").into()),
        },
        Packed::Set(members) => Ok(Value::Set(Set::from_intset(members, limits.intset()))),
        Packed::Opaque(value) => Ok(Value::Opaque(value)),
        Packed::ZSet(pairs) => match ZSet::from_listpack(pairs, limits.zset()) {
            Ok(zset) => Ok(Value::ZSet(zset)),
            Err(error) => Err(format!("Zset listpack integrity check failed: {error}").into()),
        },
    }
}
