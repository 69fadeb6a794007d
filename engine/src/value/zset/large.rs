//! The large encoding: a table from member to score, and an index in order of score.
//!
//! The members exist once, in the table's entries; the index points to them. This is sound because an element's
//! block stays where it is while it is in the table (splits move slots, not blocks; a new score overwrites the old
//! one in place), and because of four rules this module keeps, being the only one that adds or removes elements:
//!
//! 1. an element enters the table before the index;
//! 2. it leaves the index before the table (which may free its block, or hand it to a running cut);
//! 3. scores are numbers, so that the order is total and a member is found at its own rank;
//! 4. nobody else changes the table's members: [`Large::table_mut`] is for the cut, which only stamps entries.
//!
//! So every pointer in the index is a live entry of the table, and borrowing `self` keeps it so.
#![allow(unsafe_code)]

use super::tree::{self, Tree};
use crate::entry::{Entry, EntryRef, Header, Payload};
use crate::table::Table;
use std::cmp::Ordering;
use std::ops::Range;
use std::ptr::NonNull;

const NAN: &str = "a sorted set has no order for NaN; commands and loaders refuse it";

/// A member's place in the index.
#[derive(Clone, Copy)]
struct Item {
    score: f64,
    entry: NonNull<Header>,
}

/// A large sorted set.
#[derive(Default)]
pub(super) struct Large {
    dict: Table,
    index: Index,
}

struct Index(Tree<Item>);

impl Default for Index {
    fn default() -> Self {
        Index(Tree::new())
    }
}

// SAFETY: the pointers lead to entries owned by the table beside it, which moves along and is itself `Send`.
unsafe impl Send for Index {}
// SAFETY: through `&Index` entries are only read, as through `&Table`.
unsafe impl Sync for Index {}

impl Item {
    /// # Safety
    /// The item is, or is about to be, in the index of a [`Large`] borrowed for `'a`.
    #[inline]
    unsafe fn member<'a>(self) -> &'a [u8] {
        // SAFETY: the entry is in the table for 'a, by the module's rules.
        unsafe { EntryRef::from_raw(self.entry) }.key()
    }

    /// The order of the index: by score, then by member.
    ///
    /// # Safety
    /// As for [`Item::member`].
    #[inline]
    unsafe fn cmp(self, score: f64, member: &[u8]) -> Ordering {
        // Zeros of either sign are equal; there is no NaN.
        match self.score.partial_cmp(&score) {
            // SAFETY: the caller's promise.
            None | Some(Ordering::Equal) => unsafe { self.member() }.cmp(member),
            Some(order) => order,
        }
    }
}

impl Large {
    /// Takes members with their scores, none of them NaN.
    pub(super) fn from_table(dict: Table) -> Large {
        let item = |e: EntryRef<'_>| Item { score: e.payload().score().expect("a score"), entry: e.as_raw() };
        let mut items: Vec<Item> = dict.iter().map(item).collect();
        assert!(items.iter().all(|item| !item.score.is_nan()), "{NAN}");
        // SAFETY: the entries are in the table, which does not change before it is beside the index.
        items.sort_unstable_by(|a, b| unsafe { a.cmp(b.score, b.member()) });
        let mut index = Index::default();
        items.into_iter().enumerate().for_each(|(rank, item)| index.0.insert(rank, item));
        Large { dict, index }
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.dict.len()
    }

    /// The members' entries.
    pub(super) fn table(&self) -> &Table {
        &self.dict
    }

    /// The members' entries, for the cut; no member may be added, removed or replaced.
    pub(super) fn table_mut(&mut self) -> &mut Table {
        &mut self.dict
    }

    /// Prepares an empty set for `n` members.
    pub(super) fn reserve(&mut self, n: usize) {
        self.dict.reserve(n);
    }

    /// Bytes allocated, or nearly; takes time by the number of members.
    pub(super) fn memory(&self) -> usize {
        let entries: usize = self.dict.iter().map(EntryRef::block_bytes).sum();
        entries + self.dict.overhead_bytes() + self.index.0.memory() + size_of::<Self>()
    }

    /// A member's score.
    #[inline]
    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.dict.score(member)
    }

    /// How many members stand before this score and member.
    fn lower_bound(&self, score: f64, member: &[u8]) -> usize {
        // SAFETY: the item is in the index, and self is borrowed.
        self.index.0.partition_point(|item| unsafe { item.cmp(score, member) }.is_lt())
    }

    /// A member's rank from the lowest score.
    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.lower_bound(score, member))
    }

    /// Adds a member that is not there.
    pub(super) fn insert_new(&mut self, member: &[u8], score: f64) {
        assert!(!score.is_nan(), "{NAN}");
        debug_assert!(self.dict.get(member).is_none());
        let rank = self.lower_bound(score, member);
        let entry = Entry::score(member, score);
        let item = Item { score, entry: entry.as_ref().as_raw() };
        self.dict.insert(entry);
        self.index.0.insert(rank, item);
    }

    /// Gives a member that is there another score.
    pub(super) fn set_score(&mut self, member: &[u8], score: f64) {
        assert!(!score.is_nan(), "{NAN}");
        let Some(rank) = self.rank(member) else { return };
        let Some(mut entry) = self.dict.get_mut(member) else { return };
        let overwritten = entry.overwrite(Payload::Score(score));
        debug_assert!(overwritten, "every entry of the table is a score");
        let mut item = self.index.0.remove(rank);
        item.score = score;
        let rank = self.lower_bound(score, member);
        self.index.0.insert(rank, item);
    }

    /// Removes a member; true where it was there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let Some(rank) = self.rank(member) else { return false };
        self.index.0.remove(rank);
        self.dict.remove(member)
    }

    /// Removes the members at these ranks; how many there were.
    pub(super) fn remove_range(&mut self, ranks: Range<usize>) -> usize {
        let end = ranks.end.min(self.len());
        let count = end.saturating_sub(ranks.start);
        let mut member = Vec::new();
        for _ in 0..count {
            let item = self.index.0.remove(ranks.start);
            // SAFETY: the item has left the index, but its entry is still in the table: it is removed two lines
            // below, by a copy of its name, as the table frees the block while it is at work.
            member.extend_from_slice(unsafe { item.member() });
            self.dict.remove(&member);
            member.clear();
        }
        count
    }

    /// The member and score at a rank.
    pub(super) fn get(&self, rank: usize) -> Option<(&[u8], f64)> {
        // SAFETY: the item is in the index, and self is borrowed as long as the member.
        self.index.0.get(rank).map(|item| (unsafe { item.member() }, item.score))
    }

    /// The number of members at the low end for which `before` holds; see [`Tree::partition_point`].
    pub(super) fn partition_point(&self, mut before: impl FnMut(&[u8], f64) -> bool) -> usize {
        // SAFETY: the item is in the index, and self is borrowed.
        self.index.0.partition_point(|item| before(unsafe { item.member() }, item.score))
    }

    /// Members and scores at these ranks, from either end.
    pub(super) fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        Iter(self.index.0.range(ranks))
    }
}

impl Clone for Large {
    /// A deep copy: the new table has entries of its own, hence the new index points to them.
    fn clone(&self) -> Large {
        let mut copy = Large::default();
        copy.reserve(self.len());
        for (member, score) in self.range(0..self.len()) {
            let entry = Entry::score(member, score);
            let item = Item { score, entry: entry.as_ref().as_raw() };
            copy.dict.insert(entry);
            copy.index.0.insert(copy.index.0.len(), item);
        }
        copy
    }
}

/// Members and scores of a run of ranks.
pub(super) struct Iter<'a>(tree::Iter<'a, Item>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the item is in the index, which is borrowed for 'a.
        self.0.next().map(|item| (unsafe { item.member() }, item.score))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        // SAFETY: as above.
        self.0.next_back().map(|item| (unsafe { item.member() }, item.score))
    }
}
