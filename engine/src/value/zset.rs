//! The sorted set: members in order of score, members of equal score in order of their bytes.
//!
//! A small one is a listpack (`packed`), a large one a table with an index (`large`) over a counted tree
//! (`tree`). It becomes large beyond `zset-max-listpack-entries` members or at the first member longer than
//! `zset-max-listpack-value`, which callers pass as [`Packed`] to whatever may add one, and stays so.
//!
//! Ranks count from 0 at the lowest score. Ranges by score or by member are turned into ranges of ranks
//! ([`ZSet::partition_point`]), so that everything else is written once, for ranks.

mod large;
mod packed;
mod tree;

use crate::config::Packed;
use crate::encoding::{EncodingError, Listpack, LpValue};
use crate::hash::random_u64;
use crate::table::Table;
use large::Large;
pub(crate) use packed::write_score as write_packed_score;
use std::ops::Range;

/// A sorted set. Scores are never NaN.
#[derive(Clone)]
pub struct ZSet {
    repr: Repr,
}

#[derive(Clone)]
enum Repr {
    Packed(Listpack),
    Large(Box<Large>),
}

impl std::fmt::Debug for ZSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Default for ZSet {
    fn default() -> Self {
        Self::new()
    }
}

impl ZSet {
    /// An empty sorted set.
    pub fn new() -> ZSet {
        ZSet { repr: Repr::Packed(Listpack::new()) }
    }

    /// An empty sorted set for `n` members, large from the beginning if the limits say so. A source may lie about
    /// its size: callers bound `n`.
    pub fn with_capacity(n: usize, limits: Packed) -> ZSet {
        if n <= limits.entries { ZSet::new() } else { ZSet::new_large(n) }
    }

    /// An empty sorted set in the large encoding.
    pub(crate) fn new_large(n: usize) -> ZSet {
        let mut large = Box::<Large>::default();
        large.reserve(n);
        ZSet { repr: Repr::Large(large) }
    }

    /// Takes a table of members with scores, none of them NaN. The set is in the large encoding.
    pub(crate) fn from_table(members: Table) -> ZSet {
        ZSet { repr: Repr::Large(Box::new(Large::from_table(members))) }
    }

    /// Takes members and scores in turn, as Redis holds and dumps a small sorted set. Pairs out of order are
    /// sorted; more than `limits` allow make it large.
    ///
    /// # Errors
    /// An odd number of elements, a score that is not a number, a member twice.
    pub fn from_listpack(lp: Listpack, limits: Packed) -> Result<ZSet, EncodingError> {
        let sorted = match packed::check(&lp) {
            Ok(()) => true,
            Err(packed::Fault::Unsorted) => false,
            Err(packed::Fault::Invalid(reason)) => {
                let length = lp.byte_len();
                return Err(EncodingError { encoding: "sorted set listpack", offset: 0, length, reason });
            }
        };
        if sorted && packed::len(&lp) <= limits.entries {
            return Ok(ZSet { repr: Repr::Packed(lp) });
        }
        let mut set = ZSet::with_capacity(packed::len(&lp), limits);
        let mut text = itoa::Buffer::new();
        for (member, score) in packed::range(&lp, 0..usize::MAX, false) {
            set.insert_new(member.as_bytes(&mut text), score, limits);
        }
        Ok(set)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Packed(lp) => packed::len(lp),
            Repr::Large(large) => large.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `OBJECT ENCODING` says.
    pub fn encoding(&self) -> &'static str {
        match &self.repr {
            Repr::Packed(_) => "listpack",
            Repr::Large(_) => "skiplist",
        }
    }

    /// Members and scores in turn, while it is small.
    pub fn listpack(&self) -> Option<&Listpack> {
        match &self.repr {
            Repr::Packed(lp) => Some(lp),
            Repr::Large(_) => None,
        }
    }

    /// The members' table, when it is large.
    pub fn table(&self) -> Option<&Table> {
        match &self.repr {
            Repr::Packed(_) => None,
            Repr::Large(large) => Some(large.table()),
        }
    }

    /// The members' table, when it is large: for the cut, which stamps entries. The index points into it, so no
    /// member may be added, removed or replaced this way.
    pub(crate) fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.repr {
            Repr::Packed(_) => None,
            Repr::Large(large) => Some(large.table_mut()),
        }
    }

    /// A rough size in bytes at no cost.
    pub fn quick_size(&self) -> usize {
        match &self.repr {
            Repr::Packed(lp) => lp.byte_len(),
            Repr::Large(large) => large.len() * 80,
        }
    }

    /// Bytes allocated, or nearly; takes time by the number of members of a large one.
    pub fn memory(&self) -> usize {
        size_of::<ZSet>()
            + match &self.repr {
                Repr::Packed(lp) => lp.memory(),
                Repr::Large(large) => large.memory(),
            }
    }

    // Members.

    /// A member's score.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.repr {
            Repr::Packed(lp) => packed::score(lp, member),
            Repr::Large(large) => large.score(member),
        }
    }

    /// A member's rank from the lowest score.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.repr {
            Repr::Packed(lp) => packed::rank(lp, member),
            Repr::Large(large) => large.rank(member),
        }
    }

    /// Adds a member with a score, or gives it a new one; its score before.
    ///
    /// # Panics
    /// Where the score is NaN.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: Packed) -> Option<f64> {
        let before = self.score(member);
        match before {
            None => self.add(member, score, limits),
            Some(before) if before == score => {}
            Some(_) => self.change(member, score),
        }
        before
    }

    /// Adds a member unless it is there: false, and nothing changes.
    ///
    /// # Panics
    /// Where the score is NaN.
    pub fn insert_new(&mut self, member: &[u8], score: f64, limits: Packed) -> bool {
        let new = self.score(member).is_none();
        if new {
            self.add(member, score, limits);
        }
        new
    }

    /// Adds a member that is known to be absent. The score must not be NaN.
    pub(crate) fn add(&mut self, member: &[u8], score: f64, limits: Packed) {
        assert!(!score.is_nan(), "scores are numbers");
        debug_assert!(self.score(member).is_none());
        if let Repr::Packed(lp) = &self.repr
            && (packed::len(lp) >= limits.entries || member.len() > limits.value || !lp.fits(member.len()))
        {
            self.enlarge();
        }
        match &mut self.repr {
            Repr::Packed(lp) => packed::insert_new(lp, member, score),
            Repr::Large(large) => large.insert_new(member, score),
        }
    }

    /// Gives a member that is there another score, which must not be NaN.
    pub(crate) fn change(&mut self, member: &[u8], score: f64) {
        assert!(!score.is_nan(), "scores are numbers");
        match &mut self.repr {
            Repr::Packed(lp) => {
                packed::remove(lp, member);
                packed::insert_new(lp, member, score);
            }
            Repr::Large(large) => large.set_score(member, score),
        }
    }

    /// Removes a member; true where it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Packed(lp) => packed::remove(lp, member),
            Repr::Large(large) => large.remove(member),
        }
    }

    // Order.

    /// The member and score at a rank.
    pub fn get(&self, rank: usize) -> Option<(LpValue<'_>, f64)> {
        match &self.repr {
            Repr::Packed(lp) => packed::range(lp, rank..rank.saturating_add(1), false).next(),
            Repr::Large(large) => large.get(rank).map(|(member, score)| (LpValue::Str(member), score)),
        }
    }

    /// The number of members from the lowest score on for which `before` holds. As in a sorted slice, no member for
    /// which it holds may follow one for which it does not.
    pub fn partition_point(&self, before: impl FnMut(&[u8], f64) -> bool) -> usize {
        match &self.repr {
            Repr::Packed(lp) => packed::partition_point(lp, before),
            Repr::Large(large) => large.partition_point(before),
        }
    }

    /// Members and scores at these ranks, upward or, `backward`, from the highest of them down. Ranks beyond the
    /// end are left out.
    pub fn range(&self, ranks: Range<usize>, backward: bool) -> Iter<'_> {
        Iter(match &self.repr {
            Repr::Packed(lp) => IterRepr::Packed(packed::range(lp, ranks, backward)),
            Repr::Large(large) => IterRepr::Large(large.range(ranks), backward),
        })
    }

    /// All members and scores, upward.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..usize::MAX, false)
    }

    /// A uniformly random member and its score.
    pub fn random(&self) -> Option<(LpValue<'_>, f64)> {
        match &self.repr {
            Repr::Packed(_) if self.is_empty() => None,
            Repr::Packed(_) => self.get((random_u64() % self.len() as u64) as usize),
            Repr::Large(large) => {
                let e = large.table().random()?;
                Some((LpValue::Str(e.key()), e.payload().score()?))
            }
        }
    }

    /// One step of ZSCAN: reports members and returns the next cursor, 0 at the end. A small set comes whole.
    pub fn scan(&self, cursor: u64, count: usize, mut report: impl FnMut(LpValue<'_>, f64)) -> u64 {
        match &self.repr {
            Repr::Packed(_) => {
                self.iter().for_each(|(member, score)| report(member, score));
                0
            }
            Repr::Large(large) => large.table().scan(cursor, count, |e| {
                if let Some(score) = e.payload().score() {
                    report(LpValue::Str(e.key()), score);
                }
            }),
        }
    }

    /// Removes the members at these ranks; how many there were.
    pub fn remove_range(&mut self, ranks: Range<usize>) -> usize {
        match &mut self.repr {
            Repr::Packed(lp) => packed::remove_range(lp, ranks),
            Repr::Large(large) => large.remove_range(ranks),
        }
    }

    // Encodings.

    /// Makes it large.
    fn enlarge(&mut self) {
        let Repr::Packed(lp) = &self.repr else { return };
        let mut large = Box::<Large>::default();
        let mut text = itoa::Buffer::new();
        for (member, score) in packed::range(lp, 0..usize::MAX, false) {
            large.insert_new(member.as_bytes(&mut text), score);
        }
        self.repr = Repr::Large(large);
    }
}

/// Members and scores, see [`ZSet::range`].
pub struct Iter<'a>(IterRepr<'a>);

enum IterRepr<'a> {
    Packed(packed::Iter<'a>),
    Large(large::Iter<'a>, bool),
}

impl std::fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("zset::Iter")
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (LpValue<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            IterRepr::Packed(pairs) => pairs.next(),
            IterRepr::Large(items, backward) => {
                let next = if *backward { items.next_back() } else { items.next() };
                next.map(|(member, score)| (LpValue::Str(member), score))
            }
        }
    }
}

#[cfg(test)]
mod tests;
