//! The directory: which segment a hash belongs to, and how segments split and merge.
//!
//! It is indexed by the top `depth` bits of a hash. A segment of a smaller depth than the directory's stands in several
//! slots, one beside the other. A full segment splits in two by its next bit, and only where that one is as deep as the
//! directory does the directory double: 8 bytes a segment, so nothing is ever rehashed as a whole. Two neighbours with
//! few entries merge, and when no segment needs the last bit, the directory halves.
//!
//! Segments are therefore ordered by hash. What is in them is not looked at here but to move it.
//!
//! `unsafe` here: a segment is owned by the list of segments, and the directory's slots are raw pointers to it. Every
//! pointer in either is to a live segment, each segment is in the list once, and they are only reached through `&self`
//! or `&mut self`.
#![allow(unsafe_code)]

use super::segment::{SEGMENT_SLOTS, Segment};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Two neighbours with no more than this many entries together merge.
const MERGE_AT: usize = 24;
/// Deepest directory: 2^36 segments. Reaching it takes 65 keys that share 36 bits of a randomly seeded hash.
const MAX_DEPTH: u8 = 36;

pub(super) struct Directory {
    slots: Vec<NonNull<Segment>>,
    segments: Vec<NonNull<Segment>>,
    /// Segments whose depth is the directory's: at none, the directory halves.
    deepest: u32,
    depth: u8,
    _owns: PhantomData<Segment>,
}

// SAFETY: the directory owns its segments, and these own their entries, which are `Send`.
unsafe impl Send for Directory {}
// SAFETY: `&Directory` only reads.
unsafe impl Sync for Directory {}

impl Directory {
    /// A directory without segments, which owns no memory yet.
    pub(super) const fn new() -> Directory {
        Directory { slots: Vec::new(), segments: Vec::new(), deepest: 0, depth: 0, _owns: PhantomData }
    }

    /// Are there no segments? Then no hash may be asked for.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Number of segments.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Bytes it takes with its segments, their entries not counted.
    pub(super) fn bytes(&self) -> usize {
        self.segments.len() * (size_of::<Segment>() + 8) + self.slots.capacity() * 8
    }

    #[inline]
    fn at(&self, hash: u64) -> NonNull<Segment> {
        let i = if self.depth == 0 { 0 } else { (hash >> (64 - self.depth)) as usize };
        self.slots[i]
    }

    /// The segment of a hash.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> &Segment {
        // SAFETY: the pointers are to live segments owned by self.
        unsafe { self.at(hash).as_ref() }
    }

    /// The segment of a hash, to change it.
    #[inline]
    pub(super) fn get_mut(&mut self, hash: u64) -> &mut Segment {
        // SAFETY: the pointers are to live segments owned by self, which is borrowed exclusively.
        unsafe { &mut *self.at(hash).as_ptr() }
    }

    /// The segment at a place in the list, which has no order.
    #[inline]
    pub(super) fn nth(&self, index: usize) -> &Segment {
        // SAFETY: as in `get`.
        unsafe { self.segments[index].as_ref() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> {
        // SAFETY: as in `get`.
        self.segments.iter().map(|p| unsafe { p.as_ref() })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Segment> {
        // SAFETY: as in `get_mut`; the list names each segment once.
        self.segments.iter().map(|p| unsafe { &mut *p.as_ptr() })
    }

    /// Starts fetching the head of the segment of a hash.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        Segment::prefetch(self.at(hash));
    }

    /// Adds an empty segment to the list; the directory does not point to it yet.
    fn add(&mut self, prefix: u64, depth: u8) -> NonNull<Segment> {
        let segment = Box::new(Segment::new(prefix, depth, self.segments.len() as u32));
        let segment = NonNull::from(Box::leak(segment));
        self.segments.push(segment);
        segment
    }

    /// Makes `2^depth` empty segments, where there are none yet.
    pub(super) fn fill(&mut self, depth: u8) {
        debug_assert!(self.is_empty());
        self.depth = depth;
        for i in 0..1u64 << depth {
            let segment = self.add(if depth == 0 { 0 } else { i << (64 - depth) }, depth);
            self.slots.push(segment);
        }
        self.deepest = self.segments.len() as u32;
    }

    /// Splits the segment of a hash, which is full.
    pub(super) fn split(&mut self, hash: u64) {
        let old_ptr = self.at(hash);
        // SAFETY: a live segment owned by self; directory and list are separate memory.
        let old = unsafe { &mut *old_ptr.as_ptr() };
        if old.depth == self.depth {
            assert!(self.depth < MAX_DEPTH, "more than 64 keys share {MAX_DEPTH} hash bits");
            let mut wide = Vec::with_capacity(self.slots.len() * 2);
            self.slots.iter().for_each(|p| wide.extend([*p, *p]));
            self.slots = wide;
            self.depth += 1;
            self.deepest = 0;
        }
        let bit = 63 - old.depth;
        old.depth += 1;
        let new_ptr = self.add(old.prefix | (1 << bit), old.depth);
        // SAFETY: freshly allocated and not yet shared.
        let new = unsafe { &mut *new_ptr.as_ptr() };
        for i in 0..SEGMENT_SLOTS {
            if old.hash_bit(i, bit) {
                old.move_to(i, new, new.count());
            }
        }
        if old.depth == self.depth {
            self.deepest += 2;
        }
        self.point(new_ptr);
    }

    /// Points the directory's range of a segment to it.
    fn point(&mut self, segment: NonNull<Segment>) {
        // SAFETY: a live segment owned by self.
        let s = unsafe { segment.as_ref() };
        let first = if self.depth == 0 { 0 } else { (s.prefix >> (64 - self.depth)) as usize };
        let n = 1usize << (self.depth - s.depth);
        self.slots[first..first + n].fill(segment);
    }

    /// Merges the segment of a hash with its neighbours for as long as they have few entries together.
    pub(super) fn merge(&mut self, hash: u64) {
        loop {
            let seg_ptr = self.at(hash);
            // SAFETY: a live segment owned by self.
            let seg = unsafe { &mut *seg_ptr.as_ptr() };
            if seg.depth == 0 || seg.count() > MERGE_AT / 2 {
                return;
            }
            let buddy_ptr = self.at(seg.prefix ^ (1 << (64 - seg.depth)));
            // SAFETY: another live segment (a segment is never its own buddy, as their prefixes differ).
            let buddy = unsafe { &mut *buddy_ptr.as_ptr() };
            if buddy.depth != seg.depth || buddy.count() + seg.count() > MERGE_AT {
                return;
            }
            let (keep_ptr, keep, gone_ptr, gone) = if seg.prefix < buddy.prefix {
                (seg_ptr, seg, buddy_ptr, buddy)
            } else {
                (buddy_ptr, buddy, seg_ptr, seg)
            };
            if keep.depth == self.depth {
                self.deepest -= 2;
            }
            for i in gone.occupied() {
                let free = keep.free_slot().expect("MERGE_AT fits in a segment");
                gone.move_to(i, keep, free);
            }
            keep.depth -= 1;
            let gone_index = gone.index as usize;
            self.point(keep_ptr);
            self.segments.swap_remove(gone_index);
            if let Some(moved) = self.segments.get(gone_index) {
                // SAFETY: a live segment; its place in the list changed.
                unsafe { (*moved.as_ptr()).index = gone_index as u32 };
            }
            // SAFETY: `gone` is in neither the directory nor the list any more; its entries moved to `keep`.
            unsafe { drop(Box::from_raw(gone_ptr.as_ptr())) };
            while self.depth > 0 && self.deepest == 0 {
                self.slots = self.slots.iter().copied().step_by(2).collect();
                self.depth -= 1;
                self.deepest = self.iter().filter(|s| s.depth == self.depth).count() as u32;
            }
        }
    }

    /// Frees all segments and their entries.
    pub(super) fn clear(&mut self) {
        for p in self.segments.drain(..) {
            // SAFETY: the list owns each segment once.
            unsafe { drop(Box::from_raw(p.as_ptr())) };
        }
        self.slots = Vec::new();
        self.segments = Vec::new();
        self.depth = 0;
        self.deepest = 0;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.clear();
    }
}
