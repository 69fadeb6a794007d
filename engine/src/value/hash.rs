//! The hash: fields and their values, as a listpack while small, as a table when large.
//!
//! A listpack holds field, value, field, value... in the order of insertion. Past `hash-max-listpack-entries` or
//! `hash-max-listpack-value` the fields move to a [`Table`], for good: a hash never returns to the listpack. Changes
//! in the table go through the table's own methods, where a running cut takes its pre-images.

use crate::config::Packed;
use crate::encoding::{EncodingError, Listpack, LpValue};
use crate::entry::{Entry, EntryRef, Payload};
use crate::hash::{hash, random_u64};
use crate::table::Table;
use smallvec::SmallVec;

/// Fields a table prepares room for at once: a source may lie about its size.
pub(crate) const MAX_RESERVE: usize = 1 << 21;

/// A map of fields to strings.
#[derive(Clone, Debug)]
pub struct Hash(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Packed(Listpack),
    /// Boxed, so that a small hash does not pay for the size of a table.
    Table(Box<Table>),
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

fn value_of(e: EntryRef<'_>) -> LpValue<'_> {
    match e.payload() {
        Payload::Str(v) => LpValue::Str(v),
        Payload::Int(v) => LpValue::Int(v),
        _ => unreachable!("a hash holds strings"),
    }
}

impl Hash {
    /// The field and value that an entry of the table stands for.
    pub(crate) fn pair(e: EntryRef<'_>) -> (LpValue<'_>, LpValue<'_>) {
        (LpValue::Str(e.key()), value_of(e))
    }

    /// An empty hash.
    pub fn new() -> Hash {
        Hash(Repr::Packed(Listpack::new()))
    }

    /// An empty hash in the large encoding, with room for `fields` (or a bounded part of it, as the number may come
    /// from outside).
    pub fn with_capacity(fields: usize) -> Hash {
        let mut table = Table::new();
        table.reserve(fields.min(MAX_RESERVE));
        Hash(Repr::Table(Box::new(table)))
    }

    /// Takes a listpack of fields and values, for instance from an RDB file. Past the limits it becomes a table.
    ///
    /// # Errors
    /// A field without a value, or a field that is there twice.
    pub fn from_listpack(listpack: Listpack, limits: Packed) -> Result<Hash, EncodingError> {
        let entries = listpack.len();
        let length = listpack.byte_len();
        let error = |reason| EncodingError { encoding: "listpack", offset: 0, length, reason };
        if !entries.is_multiple_of(2) {
            return Err(error("a hash has a field without a value"));
        }
        let fits = entries / 2 <= limits.entries && listpack.iter().all(|v| v.text_len() <= limits.value);
        if fits {
            if repeats(&listpack) {
                return Err(error("listpack with dup elements: a hash has the same field twice"));
            }
            return Ok(Hash(Repr::Packed(listpack)));
        }
        let table = to_table(&listpack);
        if table.len() != entries / 2 {
            return Err(error("listpack with dup elements: a hash has the same field twice"));
        }
        Ok(Hash(Repr::Table(Box::new(table))))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Packed(lp) => lp.len() / 2,
            Repr::Table(t) => t.len(),
        }
    }

    /// True where there is no field.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name `OBJECT ENCODING` prints.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Packed(_) => "listpack",
            Repr::Table(_) => "hashtable",
        }
    }

    /// The fields and values in turn, in the small encoding.
    pub fn listpack(&self) -> Option<&Listpack> {
        match &self.0 {
            Repr::Packed(lp) => Some(lp),
            Repr::Table(_) => None,
        }
    }

    /// The fields' table, in the large encoding.
    pub fn table(&self) -> Option<&Table> {
        match &self.0 {
            Repr::Packed(_) => None,
            Repr::Table(t) => Some(t),
        }
    }

    /// The fields' table, in the large encoding.
    pub fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.0 {
            Repr::Packed(_) => None,
            Repr::Table(t) => Some(t),
        }
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<LpValue<'_>> {
        match &self.0 {
            Repr::Packed(lp) => {
                let at = lp.find(field, 1)?;
                lp.next(at).map(|v| lp.value(v))
            }
            Repr::Table(t) => t.get(field).map(value_of),
        }
    }

    /// Is there such a field?
    #[inline]
    pub fn contains(&self, field: &[u8]) -> bool {
        match &self.0 {
            Repr::Packed(lp) => lp.find(field, 1).is_some(),
            Repr::Table(t) => t.get(field).is_some(),
        }
    }

    /// Sets a field; true where it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: Packed) -> bool {
        if let Repr::Packed(lp) = &self.0
            && (field.len() > limits.value
                || value.len() > limits.value
                || !lp.fits(field.len().saturating_add(value.len())))
        {
            self.convert();
        }
        let new = match &mut self.0 {
            Repr::Packed(lp) => match lp.find(field, 1) {
                Some(at) => {
                    let at = lp.next(at).expect("every field has a value");
                    lp.replace(at, value);
                    false
                }
                None => {
                    lp.push_back(field);
                    lp.push_back(value);
                    true
                }
            },
            Repr::Table(t) => set_in_table(t, field, value),
        };
        if self.listpack().is_some_and(|lp| lp.len() / 2 > limits.entries) {
            self.convert();
        }
        new
    }

    /// Removes a field; true where it was there. The large encoding stays.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.0 {
            Repr::Packed(lp) => match lp.find(field, 1) {
                Some(at) => {
                    lp.remove_run(at, 2);
                    true
                }
                None => false,
            },
            Repr::Table(t) => t.remove(field),
        }
    }

    /// All fields and values: in the order of insertion while small, in no order when large.
    pub fn iter(&self) -> impl Iterator<Item = (LpValue<'_>, LpValue<'_>)> {
        let (packed, table) = (self.listpack().map(pairs), self.table().map(|t| t.iter().map(Hash::pair)));
        packed.into_iter().flatten().chain(table.into_iter().flatten())
    }

    /// A uniformly random field and its value.
    pub fn random(&self) -> Option<(LpValue<'_>, LpValue<'_>)> {
        match &self.0 {
            Repr::Packed(lp) => {
                let index = below(lp.len() / 2)?;
                let at = lp.at(2 * index as i64)?;
                Some((lp.value(at), lp.value(lp.next(at)?)))
            }
            Repr::Table(t) => t.random().map(Hash::pair),
        }
    }

    /// One step of HSCAN: reports fields and returns the next cursor, 0 at the end. A small hash comes whole.
    pub fn scan(&self, cursor: u64, count: usize, mut report: impl FnMut(LpValue<'_>, LpValue<'_>)) -> u64 {
        match &self.0 {
            Repr::Packed(lp) => {
                pairs(lp).for_each(|(f, v)| report(f, v));
                0
            }
            Repr::Table(t) => t.scan(cursor, count, |e| {
                let (f, v) = Hash::pair(e);
                report(f, v);
            }),
        }
    }

    /// Bytes it takes, estimated from `samples` fields (0: from all).
    pub fn memory(&self, samples: usize) -> usize {
        size_of::<Hash>()
            + match &self.0 {
                Repr::Packed(lp) => lp.memory(),
                Repr::Table(t) => table_memory(t, samples),
            }
    }

    /// A rough size in bytes at no cost: for accounting queues.
    pub(crate) fn quick_size(&self) -> usize {
        match &self.0 {
            Repr::Packed(lp) => lp.byte_len(),
            Repr::Table(t) => t.overhead_bytes() + t.len() * 48,
        }
    }

    fn convert(&mut self) {
        if let Repr::Packed(lp) = &self.0 {
            self.0 = Repr::Table(Box::new(to_table(lp)));
        }
    }
}

/// A random number below `n`, `None` where that is 0.
pub(crate) fn below(n: usize) -> Option<usize> {
    // The high half of the product maps the bits evenly onto 0..n.
    (n > 0).then(|| ((u128::from(random_u64()) * n as u128) >> 64) as usize)
}

/// What a table of elements takes, estimated from `samples` of them (0: from all).
pub(crate) fn table_memory(t: &Table, samples: usize) -> usize {
    let taken = if samples == 0 { t.len() } else { samples.min(t.len()) };
    let bytes: usize = t.iter().take(taken).map(EntryRef::bytes).sum();
    let elements = if taken == 0 { 0 } else { (bytes as u128 * t.len() as u128 / taken as u128) as usize };
    size_of::<Table>() + t.overhead_bytes() + elements
}

fn set_in_table(t: &mut Table, field: &[u8], value: &[u8]) -> bool {
    let h = hash(field);
    // Same length: overwritten in place, nothing allocated.
    let same = |e: EntryRef<'_>| matches!(e.payload(), Payload::Str(old) if old.len() == value.len());
    if t.get_hashed(h, field).is_some_and(same)
        && let Some(mut e) = t.get_mut_hashed(h, field)
        && e.overwrite(Payload::Str(value))
    {
        return false;
    }
    !t.insert_hashed(h, Entry::string(field, value, None))
}

fn pairs(lp: &Listpack) -> impl Iterator<Item = (LpValue<'_>, LpValue<'_>)> {
    let mut it = lp.iter();
    std::iter::from_fn(move || Some((it.next()?, it.next()?)))
}

fn to_table(lp: &Listpack) -> Table {
    let mut table = Table::new();
    table.reserve((lp.len() / 2).min(MAX_RESERVE));
    let (mut f, mut v) = (itoa::Buffer::new(), itoa::Buffer::new());
    for (field, value) in pairs(lp) {
        table.insert(Entry::string(field.as_bytes(&mut f), value.as_bytes(&mut v), None));
    }
    table
}

/// Does a field stand there twice? Compares hashes first, so that honest listpacks cost no allocation.
fn repeats(lp: &Listpack) -> bool {
    let mut text = itoa::Buffer::new();
    let mut hashes: SmallVec<[u64; 128]> = pairs(lp).map(|(f, _)| hash(f.as_bytes(&mut text))).collect();
    hashes.sort_unstable();
    if hashes.windows(2).all(|w| w[0] != w[1]) {
        return false;
    }
    let fields: std::collections::HashSet<Vec<u8>> = pairs(lp).map(|(f, _)| f.to_vec()).collect();
    fields.len() != hashes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LIMITS: Packed = Packed { entries: 8, value: 12 };

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => (0u8..16).prop_map(|n| vec![b'a' + n]),
            2 => (-3i64..20).prop_map(|n| n.to_string().into_bytes()),
            1 => prop::collection::vec(any::<u8>(), 0..16),
        ]
    }

    fn contents(h: &Hash) -> BTreeMap<Vec<u8>, Vec<u8>> {
        h.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect()
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_map_on_both_sides_of_the_limits(
            ops in prop::collection::vec((0u8..4, text(), text()), 0..80)
        ) {
            let (mut h, mut model) = (Hash::new(), BTreeMap::new());
            let mut large = false;
            for (op, field, value) in ops {
                if op == 0 {
                    prop_assert_eq!(h.remove(&field), model.remove(&field).is_some());
                } else {
                    large |= field.len() > LIMITS.value || value.len() > LIMITS.value;
                    prop_assert_eq!(h.set(&field, &value, LIMITS), model.insert(field.clone(), value).is_none());
                }
                large |= model.len() > LIMITS.entries;
                prop_assert_eq!(h.table().is_some(), large);
                prop_assert_eq!(h.len(), model.len());
                prop_assert_eq!(h.contains(&field), model.contains_key(&field));
                prop_assert_eq!(h.get(&field).map(|v| v.to_vec()), model.get(&field).cloned());
                prop_assert_eq!(h.random().is_some(), !model.is_empty());
            }
            prop_assert_eq!(contents(&h), model.clone());
            let (mut seen, mut cursor) = (BTreeMap::new(), 0);
            loop {
                cursor = h.scan(cursor, 3, |f, v| {
                    seen.insert(f.to_vec(), v.to_vec());
                });
                if cursor == 0 { break }
            }
            prop_assert_eq!(seen, model);
        }
    }

    #[test]
    fn a_listpack_from_outside_is_checked_and_converted_by_its_size() {
        let pack = |items: &[&str]| {
            let mut lp = Listpack::new();
            items.iter().for_each(|i| lp.push_back(i.as_bytes()));
            lp
        };
        let h = Hash::from_listpack(pack(&["a", "1", "7", "b"]), LIMITS).unwrap();
        assert_eq!((h.len(), h.encoding(), h.get(b"7")), (2, "listpack", Some(LpValue::Str(b"b"))));
        assert!(Hash::from_listpack(pack(&["a", "1", "b"]), LIMITS).is_err());
        assert!(Hash::from_listpack(pack(&["a", "1", "a", "2"]), LIMITS).is_err());
        let long = "x".repeat(13);
        assert!(Hash::from_listpack(pack(&["a", &long, "a", "2"]), LIMITS).is_err());
        let h = Hash::from_listpack(pack(&["a", &long]), LIMITS).unwrap();
        assert_eq!((h.len(), h.encoding()), (1, "hashtable"));
        let many: Vec<String> = (0..18).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let h = Hash::from_listpack(pack(&many), LIMITS).unwrap();
        assert_eq!((h.len(), h.encoding(), h.get(b"16").unwrap().to_vec()), (9, "hashtable", b"17".to_vec()));
    }

    #[test]
    fn the_loaders_path_reports_a_field_that_comes_twice() {
        let mut h = Hash::with_capacity(1 << 60);
        let mut batch = crate::load::ElementBatch::default();
        let table = h.table_mut().unwrap();
        assert!(batch.field(table, b"f", b"1") && batch.flush(table));
        assert!(batch.field(table, b"f", b"2") && !batch.flush(table));
        assert_eq!((h.len(), h.encoding()), (1, "hashtable"));
        assert!(h.memory(0) == h.memory(5) && h.memory(0) > 600, "a segment and an entry");
    }
}
