//! Going over a table's entries: all of them, one at random, in SCAN's steps, and those whose time is up.
//!
//! SCAN and the expiry walk keep a position in the order of hashes, not a place in memory. A segment that splits or
//! merges between two steps changes nothing of that order, which is why a scan reports every entry that stays exactly
//! once. The walk of a cut is its own: see the module `cut`.

use super::Table;
use super::segment::SEGMENT_SLOTS;
use crate::entry::EntryRef;
use crate::hash::{hash, random_u64};
use smallvec::SmallVec;

/// Places looked at for a random entry. A table that grew or shrank by itself has a tenth of them taken, or more.
const MAX_PROBES: usize = 500;
/// Segments that one step of a scan may see for each entry it is to report, as most of them have some.
const SEGMENTS_AN_ENTRY: usize = 10;

impl Table {
    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.directory.iter().flat_map(|seg| seg.occupied().map(|i| seg.entry(i)))
    }

    /// A random entry: each is as likely as the others, unless there is much more room than entries.
    pub fn random(&self) -> Option<EntryRef<'_>> {
        if self.len == 0 {
            return None;
        }
        let segments = self.directory.len();
        for _ in 0..MAX_PROBES {
            let r = random_u64();
            let seg = self.directory.nth((r >> 32) as usize % segments);
            let i = (r & (SEGMENT_SLOTS as u64 - 1)) as usize;
            if seg.is_occupied(i) {
                return Some(seg.entry(i));
            }
        }
        // Next to nothing in it. The choice is less even, and there is one.
        let first = random_u64() as usize % segments;
        let mut others = (first..segments).chain(0..first).map(|at| self.directory.nth(at));
        others.find_map(|seg| seg.occupied().next().map(|i| seg.entry(i)))
    }

    /// One step of SCAN. The cursor is a position in the order of the hashes' top 48 bits; every entry that is in
    /// the table from the first step to the last is reported exactly once. Returns the next cursor, 0 at the end.
    pub fn scan(&self, cursor: u64, count: usize, mut report: impl FnMut(EntryRef<'_>)) -> u64 {
        if self.len == 0 {
            return 0;
        }
        let mut at = cursor & ((1 << 48) - 1);
        let mut left = count.max(1);
        let mut segments = left.saturating_mul(SEGMENTS_AN_ENTRY);
        loop {
            let seg = self.directory.get(at << 16);
            let mut found: SmallVec<[(u64, usize); SEGMENT_SLOTS]> = SmallVec::new();
            for i in seg.occupied() {
                let position = hash(seg.entry(i).key()) >> 16;
                if position >= at {
                    found.push((position, i));
                }
            }
            found.sort_unstable();
            for (n, (position, i)) in found.iter().enumerate() {
                // Stop only between different positions: entries of one position are reported together.
                if left == 0 && n > 0 && found[n - 1].0 != *position {
                    return *position;
                }
                report(seg.entry(*i));
                left = left.saturating_sub(1);
            }
            let end = seg.end() >> 16;
            if end == 0 {
                return 0;
            }
            segments -= 1;
            if left == 0 || segments == 0 {
                return end;
            }
            at = end;
        }
    }

    /// Removes expired entries of the segment at `position` (a full 64-bit hash position), at most `limit`. Returns the
    /// next position, 0 at the end, how many entries with an expiry there were, and how many it removed. Only slots
    /// flagged as having an expiry are looked at.
    pub(crate) fn expire_segment(
        &mut self,
        position: u64,
        now_ms: i64,
        limit: usize,
        mut expired: impl FnMut(&[u8]),
    ) -> (u64, usize, usize) {
        if self.len == 0 {
            return (0, 0, 0);
        }
        let seg = self.directory.get(position);
        let end = seg.end();
        let mut seen = 0;
        let due: Vec<Vec<u8>> = seg
            .occupied()
            .filter(|i| seg.has_expiry(*i))
            .map(|i| seg.entry(i))
            .inspect(|_| seen += 1)
            .filter(|e| e.expire().is_some_and(|at| at <= now_ms))
            .take(limit)
            .map(|e| e.key().to_vec())
            .collect();
        for key in &due {
            self.remove(key);
            expired(key);
        }
        (end, seen, due.len())
    }
}
