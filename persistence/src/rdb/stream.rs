//! Checks a stream from end to end, without building one.
//!
//! ```text
//! nodes { master id: string of 16 bytes   listpack: string }*
//! entries   last id   [first id   greatest id deleted   entries ever added]         [ ]: from Redis 7.0 on
//! groups { name   last id delivered   [entries read]
//!     pending { id: 16 bytes   delivery time: 8 bytes   deliveries }*
//!     consumers { name   seen: 8 bytes   (active: 8 bytes)   pending { id: 16 bytes }* }* }*    ( ): from 7.2 on
//! ```
//!
//! Numbers and names without a size are lengths and strings of the format; an id among them is two lengths. A node's
//! listpack holds entries as differences to its master entry:
//!
//! ```text
//! live entries, deleted entries, fields, field names..., 0
//! { flags, ms, seq, [fields, { name, value }...] or values..., how many items this entry has before this one }*
//! ```
//!
//! Errors are in the words Redis logs them with, where it has any: operators and its test suite look for them.
//!
//! Sources: `rdbSaveObject`, `rdbLoadObject` and `rdb.h` of Redis 7.0 and 7.2, and the layout of a node in `t_stream.c`.

use super::RdbError;
use super::collection::unsound;
use super::format::value_type;
use super::reading::Reading;
use super::source::Source;
use sluice_engine::internals::{Listpack, listpack};
use std::collections::HashSet;

/// An id as it is stored: two numbers of 64 bits, big endian.
type Id = [u8; 16];

/// The entry has the master entry's fields, and only its values are stored.
const SAME_FIELDS: i64 = 2;

/// Ids that must differ. Redis writes them in their order, but takes any.
#[derive(Default)]
struct Ids {
    ids: Vec<Id>,
    /// Those that were claimed, by place.
    claimed: Vec<bool>,
}

/// Whether an id could be claimed.
enum Claim {
    Done,
    Unknown,
    Twice,
}

impl Ids {
    fn push(&mut self, id: Id) {
        self.ids.push(id);
    }

    /// Makes the ids ready to be claimed; false where one is there twice.
    fn complete(&mut self) -> bool {
        if !self.ids.is_sorted() {
            self.ids.sort_unstable();
        }
        self.claimed = vec![false; self.ids.len()];
        self.ids.windows(2).all(|pair| pair[0] != pair[1])
    }

    fn claim(&mut self, id: &Id) -> Claim {
        let Ok(at) = self.ids.binary_search(id) else { return Claim::Unknown };
        if std::mem::replace(&mut self.claimed[at], true) { Claim::Twice } else { Claim::Done }
    }

    fn all_claimed(&self) -> bool {
        self.claimed.iter().all(|claimed| *claimed)
    }
}

impl<S: Source> Reading<S> {
    /// Reads a stream whose type byte is `kind`.
    pub(super) fn stream(&mut self, kind: u8) -> Result<(), RdbError> {
        let nodes = self.input.length()?;
        let mut masters = Ids::default();
        for _ in 0..nodes {
            let master = self.stream_node()?;
            masters.push(master);
        }
        if !masters.complete() {
            return self
                .input
                .corrupt("Listpack re-added with existing key: a stream with two nodes of one id");
        }
        drop(masters);
        let entries = self.input.length()?;
        let mut numbers = 2;
        if kind != value_type::STREAM_LISTPACKS {
            numbers += 2 + 2 + 1;
        }
        for _ in 0..numbers {
            self.input.length()?;
        }
        if entries > 0 && nodes == 0 {
            return self
                .input
                .corrupt(format!("Stream length inconsistent with rax entries: {entries} entries, no node"));
        }
        let mut names = HashSet::new();
        for _ in 0..self.input.length()? {
            if !names.insert(self.input.owned()?) {
                return self.input.corrupt("Duplicated consumer group name");
            }
            self.stream_group(kind)?;
        }
        Ok(())
    }

    /// Reads a node, and gives its id.
    fn stream_node(&mut self) -> Result<Id, RdbError> {
        let at = self.input.offset();
        let Ok(master) = Id::try_from(self.input.owned()?) else {
            return Err(RdbError::Corrupt {
                offset: at,
                reason: "Stream node key entry is not the size of a stream ID".into(),
            });
        };
        let at = self.input.offset();
        let node = self.listpack("Stream listpack")?;
        check_node(&node).map_err(|why| unsound(at, "Stream listpack", why))?;
        Ok(master)
    }

    /// Reads a consumer group behind its name.
    fn stream_group(&mut self, kind: u8) -> Result<(), RdbError> {
        let numbers = if kind == value_type::STREAM_LISTPACKS { 2 } else { 3 };
        for _ in 0..numbers {
            self.input.length()?;
        }
        let mut pending = Ids::default();
        for _ in 0..self.input.length()? {
            pending.push(self.input.array()?);
            self.input.skip(8)?;
            self.input.length()?;
        }
        if !pending.complete() {
            return self.input.corrupt("Duplicated global PEL entry loading stream consumer group");
        }
        let mut names = HashSet::new();
        for _ in 0..self.input.length()? {
            if !names.insert(self.input.owned()?) {
                return self.input.corrupt("Duplicate stream consumer detected");
            }
            self.stream_consumer(kind, &mut pending)?;
        }
        if !pending.all_claimed() {
            return self.input.corrupt("Stream CG PEL entry without consumer");
        }
        Ok(())
    }

    /// Reads a consumer behind its name; it claims its part of what is pending in the group.
    fn stream_consumer(&mut self, kind: u8, pending: &mut Ids) -> Result<(), RdbError> {
        self.input.skip(if kind == value_type::STREAM_LISTPACKS_3 { 16 } else { 8 })?;
        for _ in 0..self.input.length()? {
            let id = self.input.array()?;
            match pending.claim(&id) {
                Claim::Done => {}
                Claim::Unknown => {
                    return self.input.corrupt("Consumer entry not found in group global PEL");
                }
                Claim::Twice => {
                    return self.input.corrupt("Stream consumer PEL entry already has a consumer assigned");
                }
            }
        }
        Ok(())
    }
}

/// The items of a node, in order.
struct Items<'a>(listpack::Iter<'a>);

impl Items<'_> {
    fn number(&mut self, missing: &'static str) -> Result<i64, &'static str> {
        self.0.next().and_then(|item| item.to_i64()).ok_or(missing)
    }

    fn count(&mut self, missing: &'static str) -> Result<u64, &'static str> {
        self.number(missing).and_then(|n| u64::try_from(n).map_err(|_| missing))
    }

    fn pass(&mut self, n: u64, missing: &'static str) -> Result<(), &'static str> {
        // It ends with the listpack at the latest, whatever `n` claims.
        (0..n).try_for_each(|_| self.0.next().map(drop).ok_or(missing))
    }
}

/// Checks that a sound listpack is built as a node of a stream.
fn check_node(node: &Listpack) -> Result<(), &'static str> {
    let mut items = Items(node.iter());
    let live = items.count("no number of entries")?;
    let deleted = items.count("no number of deleted entries")?;
    let fields = items.count("no number of fields")?;
    items.pass(fields, "the master entry ends early")?;
    if items.number("the master entry has no end")? != 0 {
        return Err("the master entry does not end in 0");
    }
    for _ in 0..live + deleted {
        check_entry(&mut items, fields)?;
    }
    if items.0.next().is_some() { Err("something behind the last entry") } else { Ok(()) }
}

fn check_entry(items: &mut Items<'_>, master_fields: u64) -> Result<(), &'static str> {
    let flags = items.number("an entry without flags")?;
    items.number("an entry without an id")?;
    items.number("an entry without a whole id")?;
    let before = if flags & SAME_FIELDS != 0 {
        items.pass(master_fields, "an entry without all of its values")?;
        3 + master_fields
    } else {
        let fields = items.count("an entry without a number of fields")?;
        items.pass(fields, "an entry without all of its fields")?;
        items.pass(fields, "an entry without all of its values")?;
        4 + 2 * fields
    };
    if items.count("an entry without an end")? == before {
        Ok(())
    } else {
        Err("an entry with a wrong number of items")
    }
}
