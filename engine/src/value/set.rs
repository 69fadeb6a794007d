//! The set: an intset while its members are few and integers, else a table.
//!
//! The first member that is not an integer, or one past `set-max-intset-entries`, moves all members to a [`Table`],
//! for good. Changes in the table go through the table's own methods, where a running cut takes its pre-images.

pub(crate) mod algebra;

use super::hash::{MAX_RESERVE, table_memory};
use crate::encoding::{Intset, LpValue};
use crate::entry::Entry;
use crate::hash::random_u64;
use crate::num::parse_i64;
use crate::table::Table;

/// No intset grows past this, whatever the limit says, as in Redis.
const MAX_INTSET: usize = 1 << 30;

/// A set of strings.
#[derive(Clone, Debug)]
pub struct Set(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Ints(Intset),
    /// Boxed, so that a small set does not pay for the size of a table.
    Table(Box<Table>),
}

impl Default for Set {
    fn default() -> Set {
        Set::new()
    }
}

impl Set {
    /// An empty set.
    pub fn new() -> Set {
        Set(Repr::Ints(Intset::new()))
    }

    /// An empty set in the large encoding, with room for `members` (or a bounded part of it, as the number may come
    /// from outside).
    pub fn with_capacity(members: usize) -> Set {
        let mut table = Table::new();
        table.reserve(members.min(MAX_RESERVE));
        Set(Repr::Table(Box::new(table)))
    }

    /// Takes an intset, for instance from an RDB file. Past `limit` members it becomes a table.
    pub fn from_intset(intset: Intset, limit: usize) -> Set {
        let mut set = Set(Repr::Ints(intset));
        set.convert_over(limit);
        set
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Ints(s) => s.len(),
            Repr::Table(t) => t.len(),
        }
    }

    /// True where there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name `OBJECT ENCODING` prints.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Ints(_) => "intset",
            Repr::Table(_) => "hashtable",
        }
    }

    /// The members, in the small encoding.
    pub fn intset(&self) -> Option<&Intset> {
        match &self.0 {
            Repr::Ints(s) => Some(s),
            Repr::Table(_) => None,
        }
    }

    /// The members' table, in the large encoding.
    pub fn table(&self) -> Option<&Table> {
        match &self.0 {
            Repr::Ints(_) => None,
            Repr::Table(t) => Some(t),
        }
    }

    /// The members' table, in the large encoding.
    pub fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.0 {
            Repr::Ints(_) => None,
            Repr::Table(t) => Some(t),
        }
    }

    /// Is it a member?
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.0 {
            Repr::Ints(s) => parse_i64(member).is_some_and(|i| s.contains(i)),
            Repr::Table(t) => t.get(member).is_some(),
        }
    }

    /// As [`Set::contains`], of another collection's element.
    pub fn contains_value(&self, member: LpValue<'_>) -> bool {
        match (&self.0, member) {
            (Repr::Ints(s), LpValue::Int(i)) => s.contains(i),
            _ => self.contains(member.as_bytes(&mut itoa::Buffer::new())),
        }
    }

    /// Adds a member; true where it is new. `limit` is `set-max-intset-entries`.
    pub fn add(&mut self, member: &[u8], limit: usize) -> bool {
        if let Repr::Ints(s) = &mut self.0 {
            if let Some(i) = parse_i64(member) {
                let new = s.add(i);
                if new {
                    self.convert_over(limit);
                }
                return new;
            }
            self.convert(1);
        }
        self.table_mut().is_some_and(|t| add_to_table(t, member))
    }

    /// As [`Set::add`], of another collection's element.
    pub fn add_value(&mut self, member: LpValue<'_>, limit: usize) -> bool {
        self.add(member.as_bytes(&mut itoa::Buffer::new()), limit)
    }

    /// Removes a member; true where it was there. The large encoding stays.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Repr::Ints(s) => parse_i64(member).is_some_and(|i| s.remove(i)),
            Repr::Table(t) => t.remove(member),
        }
    }

    /// As [`Set::remove`], of another collection's element.
    pub fn remove_value(&mut self, member: LpValue<'_>) -> bool {
        match (&mut self.0, member) {
            (Repr::Ints(s), LpValue::Int(i)) => s.remove(i),
            _ => self.remove(member.as_bytes(&mut itoa::Buffer::new())),
        }
    }

    /// All members: ascending while small, in no order when large.
    pub fn iter(&self) -> impl Iterator<Item = LpValue<'_>> {
        let ints = self.intset().map(|s| s.iter().map(LpValue::Int));
        let table = self.table().map(|t| t.iter().map(|e| LpValue::Str(e.key())));
        ints.into_iter().flatten().chain(table.into_iter().flatten())
    }

    /// A uniformly random member.
    pub fn random(&self) -> Option<LpValue<'_>> {
        match &self.0 {
            Repr::Ints(s) => s.random(random_u64()).map(LpValue::Int),
            Repr::Table(t) => t.random().map(|e| LpValue::Str(e.key())),
        }
    }

    /// One step of SSCAN: reports members and returns the next cursor, 0 at the end. A small set comes whole.
    pub fn scan(&self, cursor: u64, count: usize, mut report: impl FnMut(LpValue<'_>)) -> u64 {
        match &self.0 {
            Repr::Ints(s) => {
                s.iter().for_each(|i| report(LpValue::Int(i)));
                0
            }
            Repr::Table(t) => t.scan(cursor, count, |e| report(LpValue::Str(e.key()))),
        }
    }

    /// Bytes it takes, estimated from `samples` members (0: from all).
    pub fn memory(&self, samples: usize) -> usize {
        size_of::<Set>()
            + match &self.0 {
                Repr::Ints(s) => s.memory(),
                Repr::Table(t) => table_memory(t, samples),
            }
    }

    /// A rough size in bytes at no cost: for accounting queues.
    pub(crate) fn quick_size(&self) -> usize {
        match &self.0 {
            Repr::Ints(s) => s.as_bytes().len(),
            Repr::Table(t) => t.overhead_bytes() + t.len() * 32,
        }
    }

    fn convert_over(&mut self, limit: usize) {
        if self.intset().is_some_and(|s| s.len() > limit.min(MAX_INTSET)) {
            self.convert(0);
        }
    }

    /// Moves the members to a table with room for `more`.
    fn convert(&mut self, more: usize) {
        if let Repr::Ints(s) = &self.0 {
            let mut table = Table::new();
            table.reserve((s.len() + more).min(MAX_RESERVE));
            let mut text = itoa::Buffer::new();
            for i in s.iter() {
                table.insert(Entry::unit(text.format(i).as_bytes()));
            }
            self.0 = Repr::Table(Box::new(table));
        }
    }
}

fn add_to_table(t: &mut Table, member: &[u8]) -> bool {
    let h = crate::hash::hash(member);
    // Looking first keeps a member that is there from being replaced, which a running cut would take for a change.
    if t.get_hashed(h, member).is_some() {
        return false;
    }
    t.insert_new(h, Entry::unit(member));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const LIMIT: usize = 8;

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => (-6i64..12).prop_map(|n| n.to_string().into_bytes()),
            1 => prop::sample::select(vec!["01", "-0", "+1", "", "a", "9223372036854775808", " 1"])
                .prop_map(|s| s.as_bytes().to_vec()),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set_on_both_sides_of_the_limits(
            ops in prop::collection::vec((0u8..4, member()), 0..60)
        ) {
            let (mut s, mut model) = (Set::new(), BTreeSet::new());
            let mut large = false;
            for (op, m) in ops {
                if op == 0 {
                    prop_assert_eq!(s.remove(&m), model.remove(&m));
                } else {
                    prop_assert_eq!(s.add(&m, LIMIT), model.insert(m.clone()));
                    large |= model.len() > LIMIT || parse_i64(&m).is_none();
                }
                prop_assert_eq!(s.table().is_some(), large);
                prop_assert_eq!(s.len(), model.len());
                prop_assert_eq!(s.contains(&m), model.contains(&m));
                prop_assert!(s.random().is_none_or(|r| model.contains(&r.to_vec())));
            }
            prop_assert_eq!(s.iter().map(|m| m.to_vec()).collect::<BTreeSet<_>>(), model.clone());
            let (mut seen, mut cursor) = (BTreeSet::new(), 0);
            loop {
                cursor = s.scan(cursor, 3, |m| { seen.insert(m.to_vec()); });
                if cursor == 0 { break }
            }
            prop_assert_eq!(seen, model);
        }
    }

    #[test]
    fn an_intset_from_outside_is_converted_by_its_size() {
        let ints = |n: i64| {
            let mut s = Intset::new();
            (0..n).for_each(|i| assert!(s.add(i)));
            s
        };
        assert_eq!(Set::from_intset(ints(8), LIMIT).encoding(), "intset");
        let s = Set::from_intset(ints(9), LIMIT);
        assert_eq!((s.encoding(), s.len(), s.contains(b"8")), ("hashtable", 9, true));
        assert!(s.memory(0) > 9 * 17);
    }

    #[test]
    fn the_loaders_path_reports_a_member_that_comes_twice() {
        let mut s = Set::with_capacity(1 << 60);
        let mut batch = crate::load::ElementBatch::default();
        let table = s.table_mut().unwrap();
        assert!(batch.member(table, b"1") && batch.member(table, b"1"));
        assert!(!batch.flush(table));
        assert_eq!((s.len(), s.encoding()), (1, "hashtable"));
    }
}
