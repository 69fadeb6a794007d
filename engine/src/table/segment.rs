//! A segment: room for 64 entries, found by tag.
//!
//! ```text
//!  0                            64       72      76      77      80                    592   640
//! | tag of each slot, 0: free    | prefix | index | depth | count | slot 0 ... slot 63  | pad |
//!
//!  slot   63           48 47                                3            0
//!        | hash, top 16  | address of the entry, 8-aligned   | 0 | 0 | TTL |
//! ```
//!
//! The tags are one cache line and are compared 16 at a time; the rest of the header shares the next line with the
//! first slots. A segment owns its entries: dropping it frees them. Which hashes belong here is the directory's part,
//! and what an entry's epoch means is the table's.
//!
//! `unsafe` here: a slot keeps its entry's address as an integer. An occupied slot (its tag is not 0) holds the only
//! copy of it, from `put` or `move_to` until `take`; references to entries borrow the segment.
#![allow(unsafe_code)]

use crate::entry::{Entry, EntryMut, EntryRef, Header};
use std::ptr::NonNull;

/// Entries a segment holds.
pub(crate) const SEGMENT_SLOTS: usize = 64;

const ADDRESS: u64 = 0x0000_ffff_ffff_fff8;
const TTL_FLAG: u64 = 1;

#[repr(C, align(64))]
pub(super) struct Segment {
    tags: [u8; SEGMENT_SLOTS],
    /// The segment holds the hashes whose top `depth` bits equal those of `prefix`.
    pub(super) prefix: u64,
    /// Its place in the directory's list.
    pub(super) index: u32,
    pub(super) depth: u8,
    count: u8,
    slots: [u64; SEGMENT_SLOTS],
}

/// Slots of a segment, lowest first.
#[derive(Clone, Copy)]
pub(super) struct Slots(u64);

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let i = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(i)
    }
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 8) as u8).max(1)
}

#[inline]
fn slot_entry(slot: u64) -> NonNull<Header> {
    debug_assert!(slot & ADDRESS != 0);
    // SAFETY: only called on occupied slots, whose address bits are a non-null entry.
    unsafe { NonNull::new_unchecked((slot & ADDRESS) as usize as *mut Header) }
}

#[inline]
fn prefetch(address: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address has no effect but on caches.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address as usize as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Cache lines of a block fetched ahead; longer blocks are left to the hardware from there on.
const PREFETCH_LINES: usize = 12;

/// Bit i is set where `tags[i] == tag`.
#[inline]
fn match_tags(tags: &[u8; SEGMENT_SLOTS], tag: u8) -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86_64, and the four unaligned loads cover exactly the 64 tag bytes.
    unsafe {
        use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
        let needle = _mm_set1_epi8(tag as i8);
        let at = tags.as_ptr().cast::<__m128i>();
        let mut mask = 0u64;
        for i in 0..4 {
            let eq = _mm_cmpeq_epi8(_mm_loadu_si128(at.add(i)), needle);
            mask |= u64::from(_mm_movemask_epi8(eq) as u32 & 0xffff) << (i * 16);
        }
        mask
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut mask = 0u64;
        for (i, t) in tags.iter().enumerate() {
            mask |= u64::from(*t == tag) << i;
        }
        mask
    }
}

impl Segment {
    pub(super) fn new(prefix: u64, depth: u8, index: u32) -> Segment {
        Segment { tags: [0; SEGMENT_SLOTS], slots: [0; SEGMENT_SLOTS], prefix, index, depth, count: 0 }
    }

    /// Number of entries.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    #[inline]
    pub(super) fn occupied(&self) -> Slots {
        Slots(!match_tags(&self.tags, 0))
    }

    #[inline]
    pub(super) fn is_occupied(&self, i: usize) -> bool {
        self.tags[i] != 0
    }

    #[inline]
    pub(super) fn free_slot(&self) -> Option<usize> {
        Slots(match_tags(&self.tags, 0)).next()
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        Slots(match_tags(&self.tags, tag_of(hash)))
            .find(|i| self.slots[*i] >> 48 == hash >> 48 && self.entry(*i).key() == key)
    }

    #[inline]
    pub(super) fn entry(&self, i: usize) -> EntryRef<'_> {
        debug_assert!(self.is_occupied(i));
        // SAFETY: callers pass occupied slots; the entry lives as long as it is in the slot, and `&self` keeps it.
        unsafe { EntryRef::from_raw(slot_entry(self.slots[i])) }
    }

    /// Starts fetching the slots that may hold this hash.
    #[inline]
    pub(super) fn prefetch_slots_of(&self, hash: u64) {
        Slots(match_tags(&self.tags, tag_of(hash))).for_each(|i| self.prefetch_slot(i));
    }

    /// Starts fetching the entry of this hash; its slot should be in the cache already.
    #[inline]
    pub(super) fn prefetch_entry_of(&self, hash: u64) {
        let at = Slots(match_tags(&self.tags, tag_of(hash))).find(|i| self.slots[*i] >> 48 == hash >> 48);
        if let Some(i) = at {
            prefetch(self.slots[i] & ADDRESS);
            prefetch((self.slots[i] & ADDRESS) + 64);
        }
    }

    /// The entry to change it. Its expiry may change, but not whether it has one: that is in the slot, too.
    #[inline]
    pub(super) fn entry_mut(&mut self, i: usize) -> EntryMut<'_> {
        debug_assert!(self.is_occupied(i));
        // SAFETY: as in `entry`, and `&mut self` keeps everybody else away.
        unsafe { EntryMut::from_raw(slot_entry(self.slots[i])) }
    }

    #[inline]
    pub(super) fn has_expiry(&self, i: usize) -> bool {
        self.slots[i] & TTL_FLAG != 0
    }

    /// A bit of the hash of the entry in a slot. The slot itself knows the first 16, the others ask the key again.
    #[inline]
    pub(super) fn hash_bit(&self, i: usize, bit: u8) -> bool {
        let hash = if bit >= 48 { self.slots[i] } else { crate::hash::hash(self.entry(i).key()) };
        hash >> bit & 1 == 1
    }

    /// Puts an entry into a free slot.
    #[inline]
    pub(super) fn put(&mut self, i: usize, hash: u64, entry: Entry) {
        debug_assert!(!self.is_occupied(i));
        let ttl = entry.as_ref().expire().is_some();
        let address = entry.into_raw().as_ptr() as usize as u64;
        assert!(address & !ADDRESS == 0, "entry addresses have 48 bits and are 8-aligned");
        self.tags[i] = tag_of(hash);
        self.slots[i] = (hash >> 48 << 48) | address | if ttl { TTL_FLAG } else { 0 };
        self.count += 1;
    }

    /// Takes the entry out of an occupied slot.
    #[inline]
    pub(super) fn take(&mut self, i: usize) -> Entry {
        debug_assert!(self.is_occupied(i));
        // SAFETY: the slot is occupied and is emptied here, so the entry has one owner again.
        let entry = unsafe { Entry::from_raw(slot_entry(self.slots[i])) };
        self.tags[i] = 0;
        self.slots[i] = 0;
        self.count -= 1;
        entry
    }

    /// Moves the entry of slot `i` to the free slot `at` of another segment.
    #[inline]
    pub(super) fn move_to(&mut self, i: usize, to: &mut Segment, at: usize) {
        debug_assert!(self.is_occupied(i) && !to.is_occupied(at));
        to.slots[at] = std::mem::take(&mut self.slots[i]);
        to.tags[at] = std::mem::take(&mut self.tags[i]);
        to.count += 1;
        self.count -= 1;
    }

    /// One past the last hash of the segment, or 0 for the last segment.
    pub(super) fn end(&self) -> u64 {
        if self.depth == 0 { 0 } else { self.prefix.wrapping_add(1 << (64 - self.depth)) }
    }

    /// Starts fetching the segment's tags and header. Of an address only, as nothing of it need be there yet.
    #[inline]
    pub(super) fn prefetch(segment: NonNull<Segment>) {
        let at = segment.as_ptr() as usize as u64;
        prefetch(at);
        prefetch(at + 64);
    }

    /// Starts fetching a slot.
    #[inline]
    pub(super) fn prefetch_slot(&self, i: usize) {
        prefetch(std::ptr::from_ref(&self.slots[i]) as usize as u64);
    }

    /// Starts fetching the header of an entry.
    #[inline]
    pub(super) fn prefetch_header(&self, i: usize) {
        prefetch(self.slots[i] & ADDRESS);
    }

    /// Starts fetching an entry's block; its header should be in the cache already.
    #[inline]
    pub(super) fn prefetch_block(&self, i: usize) {
        let e = self.entry(i);
        let at = std::ptr::from_ref(e.key()).cast::<u8>() as usize as u64;
        for line in 0..(e.block_bytes() / 64).min(PREFETCH_LINES) {
            prefetch(at + line as u64 * 64);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for i in self.occupied() {
            drop(self.take(i));
        }
    }
}
