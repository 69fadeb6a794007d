//! The table of entries: extendible hashing over small fixed segments.
//!
//! A segment holds up to 64 entries as 64 tag bytes (one cache line, compared 16 at a time) and 64 slots; a slot
//! packs the entry's address (48 bits), the top 16 bits of its hash, and a flag for "has an expiry". A full
//! segment splits in two by the next hash bit, so growth costs one segment at a time and nothing is ever rehashed
//! as a whole; two emptied neighbours merge. The directory is indexed by the top bits of the hash: segments are
//! ordered by hash, which gives SCAN a cursor that survives splits (a hash position) and the cut's walker an order.
//!
//! The table is also where a running cut learns of changes: while a capture is attached, replacing, removing or
//! changing an entry the walker has not visited hands over the entry as it was. An entry is unvisited when its epoch
//! is not the table's. Commands and values therefore need to know nothing of cuts.
//!
//! The same type holds a database of a shard, and the elements of a big hash, set or sorted set.
//!
//! `unsafe` here: segments are shared between the directory (several slots point to one) and the segment list, by
//! raw pointer; both are owned by the table and only reached through `&self` or `&mut self`.
#![allow(unsafe_code)]

use crate::cut::Capture;
use crate::entry::{Entry, EntryMut, EntryRef, Header, Payload};
use crate::hash::{hash, random_u64};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Entries a segment holds.
pub const SEGMENT_SLOTS: usize = 64;
/// Two neighbours with no more than this many entries together merge.
const MERGE_AT: usize = 24;
/// Deepest directory: 2^36 segments. Reaching it takes 65 keys that share 36 bits of a randomly seeded hash.
const MAX_DEPTH: u8 = 36;
/// Aborted walks in a row after which the next one restamps the table, so that 16-bit epochs never meet again.
const MAX_ABORTS: u16 = 60_000;

const ADDRESS: u64 = 0x0000_ffff_ffff_fff8;
const TTL_FLAG: u64 = 1;

/// The tags fill one cache line; the rest of the header shares the next one with the first slots.
#[repr(C, align(64))]
struct Segment {
    tags: [u8; SEGMENT_SLOTS],
    /// The segment holds the hashes whose top `depth` bits equal those of `prefix`.
    prefix: u64,
    index: u32,
    depth: u8,
    count: u8,
    slots: [u64; SEGMENT_SLOTS],
}

/// A hash table of [`Entry`]s by key.
pub struct Table {
    directory: Vec<NonNull<Segment>>,
    segments: Vec<NonNull<Segment>>,
    depth: u8,
    /// Segments whose depth is the directory's: at none, the directory halves.
    deepest: u32,
    len: usize,
    with_ttl: usize,
    epoch: u16,
    aborts: u16,
    capture: Option<Box<Capture>>,
    _owns: PhantomData<Entry>,
}

// SAFETY: the table owns its segments and entries; both are `Send`.
unsafe impl Send for Table {}
// SAFETY: `&Table` only reads.
unsafe impl Sync for Table {}

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
fn prefetch(slot: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address has no effect but on caches.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>((slot & ADDRESS) as usize as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slot;
}

/// Entries ahead of the one being visited whose blocks are fetched.
const PREFETCH_AHEAD: usize = 3;
/// Cache lines of a block fetched ahead; longer blocks are left to the hardware from there on.
const PREFETCH_LINES: usize = 12;

/// Starts fetching an entry's block; its header should be in the cache already.
#[inline]
fn prefetch_block(e: EntryRef<'_>) {
    let at = std::ptr::from_ref(e.key()).cast::<u8>() as usize as u64;
    for line in 0..(e.block_bytes() / 64).min(PREFETCH_LINES) {
        prefetch(at + line as u64 * 64);
    }
}

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
    fn alloc(prefix: u64, depth: u8, index: u32) -> NonNull<Segment> {
        let seg = Box::new(Segment {
            tags: [0; SEGMENT_SLOTS],
            slots: [0; SEGMENT_SLOTS],
            prefix,
            index,
            depth,
            count: 0,
        });
        NonNull::from(Box::leak(seg))
    }

    #[inline]
    fn occupied(&self) -> u64 {
        !match_tags(&self.tags, 0)
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let mut hits = match_tags(&self.tags, tag_of(hash));
        while hits != 0 {
            let i = hits.trailing_zeros() as usize;
            let slot = self.slots[i];
            if slot >> 48 == hash >> 48 && self.entry(i).key() == key {
                return Some(i);
            }
            hits &= hits - 1;
        }
        None
    }

    #[inline]
    fn entry(&self, i: usize) -> EntryRef<'_> {
        // SAFETY: callers pass occupied slots; the entry lives as long as it is in the slot, and `&self` keeps it.
        unsafe { EntryRef::from_raw(slot_entry(self.slots[i])) }
    }

    #[inline]
    fn put(&mut self, i: usize, hash: u64, entry: Entry) {
        let ttl = entry.as_ref().expire().is_some();
        let address = entry.into_raw().as_ptr() as usize as u64;
        assert!(address & !ADDRESS == 0, "entry addresses have 48 bits and are 8-aligned");
        self.tags[i] = tag_of(hash);
        self.slots[i] = (hash >> 48 << 48) | address | if ttl { TTL_FLAG } else { 0 };
    }

    #[inline]
    fn free_slot(&self) -> Option<usize> {
        let free = match_tags(&self.tags, 0);
        (free != 0).then(|| free.trailing_zeros() as usize)
    }

    #[inline]
    fn take(&mut self, i: usize) -> Entry {
        // SAFETY: the slot is occupied and is emptied here, so the entry has one owner again.
        let entry = unsafe { Entry::from_raw(slot_entry(self.slots[i])) };
        self.tags[i] = 0;
        self.slots[i] = 0;
        self.count -= 1;
        entry
    }

    /// One past the last hash of the segment, or 0 for the last segment.
    fn end(&self) -> u64 {
        if self.depth == 0 { 0 } else { self.prefix.wrapping_add(1 << (64 - self.depth)) }
    }
}

impl Default for Table {
    fn default() -> Self {
        Table::new()
    }
}

impl Table {
    /// An empty table, which owns no memory yet.
    pub const fn new() -> Table {
        Table {
            directory: Vec::new(),
            segments: Vec::new(),
            depth: 0,
            deepest: 0,
            len: 0,
            with_ttl: 0,
            epoch: 0,
            aborts: 0,
            capture: None,
            _owns: PhantomData,
        }
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries that have an expiry.
    #[inline]
    pub fn with_ttl(&self) -> usize {
        self.with_ttl
    }

    /// Bytes the table itself takes (segments and directory, not entries).
    pub fn overhead_bytes(&self) -> usize {
        self.segments.len() * (size_of::<Segment>() + 8) + self.directory.capacity() * 8
    }

    #[inline]
    fn segment_ptr(&self, hash: u64) -> NonNull<Segment> {
        let i = if self.depth == 0 { 0 } else { (hash >> (64 - self.depth)) as usize };
        self.directory[i]
    }

    #[inline]
    fn segment(&self, hash: u64) -> Option<&Segment> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: directory pointers are live segments owned by self.
        Some(unsafe { self.segment_ptr(hash).as_ref() })
    }

    #[inline]
    fn segment_mut(&mut self, hash: u64) -> Option<&mut Segment> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: directory pointers are live segments owned by self, which is borrowed exclusively.
        Some(unsafe { &mut *self.segment_ptr(hash).as_ptr() })
    }

    /// Looks a key up.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.get_hashed(hash(key), key)
    }

    /// Looks up a key whose hash is known.
    #[inline]
    pub fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<EntryRef<'_>> {
        let seg = self.segment(hash)?;
        seg.find(hash, key).map(|i| seg.entry(i))
    }

    /// Marks a read in the entry's LRU field and returns it: reading does not count as a change.
    #[inline]
    pub(crate) fn touch_hashed(&mut self, hash: u64, key: &[u8], lru: u32) -> Option<EntryRef<'_>> {
        let seg = self.segment_mut(hash)?;
        let i = seg.find(hash, key)?;
        // SAFETY: an occupied slot of a segment borrowed exclusively.
        let mut e = unsafe { EntryMut::from_raw(slot_entry(seg.slots[i])) };
        if e.as_ref().lru() != lru {
            e.set_lru(lru);
        }
        Some(e.into_ref())
    }

    /// Is this entry part of the running cut and not yet delivered?
    #[inline]
    pub(crate) fn unvisited(&self, e: EntryRef<'_>) -> bool {
        self.capture.is_some() && e.epoch() != self.epoch
    }

    /// Looks a key up to change it: its pre-image goes to a running cut first.
    #[inline]
    pub fn get_mut(&mut self, key: &[u8]) -> Option<EntryMut<'_>> {
        self.get_mut_hashed(hash(key), key)
    }

    /// As [`Table::get_mut`], with the hash known.
    #[inline]
    pub fn get_mut_hashed(&mut self, hash: u64, key: &[u8]) -> Option<EntryMut<'_>> {
        if self.len == 0 {
            return None;
        }
        let mut seg = self.segment_ptr(hash);
        // SAFETY: a live segment owned by self, borrowed exclusively until the end of the function.
        let seg = unsafe { seg.as_mut() };
        let i = seg.find(hash, key)?;
        // SAFETY: an occupied slot of a segment borrowed exclusively.
        let mut e = unsafe { EntryMut::from_raw(slot_entry(seg.slots[i])) };
        if let Some(capture) = &self.capture
            && e.as_ref().epoch() != self.epoch
        {
            capture.before_change(&mut e, self.epoch);
        }
        Some(e)
    }

    /// Inserts or replaces; true where the key existed. A replaced entry that a running cut has not visited goes
    /// to the cut.
    pub fn insert(&mut self, entry: Entry) -> bool {
        let h = hash(entry.as_ref().key());
        self.insert_hashed(h, entry)
    }

    /// As [`Table::insert`], with the hash known.
    pub fn insert_hashed(&mut self, hash: u64, mut entry: Entry) -> bool {
        entry.as_mut().set_epoch(self.epoch);
        if self.directory.is_empty() {
            let seg = Segment::alloc(0, 0, 0);
            self.directory.push(seg);
            self.segments.push(seg);
            self.depth = 0;
            self.deepest = 1;
        }
        let ttl = usize::from(entry.as_ref().expire().is_some());
        loop {
            // SAFETY: a live segment owned by self, borrowed exclusively in this iteration.
            let seg = unsafe { &mut *self.segment_ptr(hash).as_ptr() };
            if let Some(i) = seg.find(hash, entry.as_ref().key()) {
                let old = seg.take(i);
                seg.put(i, hash, entry);
                seg.count += 1;
                self.with_ttl = self.with_ttl + ttl - usize::from(old.as_ref().expire().is_some());
                self.dispose(old);
                return true;
            }
            if let Some(i) = seg.free_slot() {
                seg.put(i, hash, entry);
                seg.count += 1;
                self.len += 1;
                self.with_ttl += ttl;
                return false;
            }
            self.split(hash);
        }
    }

    /// Inserts an entry whose key is known to be absent: the loader's path.
    pub fn insert_new(&mut self, hash: u64, entry: Entry) {
        debug_assert!(self.get_hashed(hash, entry.as_ref().key()).is_none());
        self.insert_hashed(hash, entry);
    }

    /// Removes a key; true where it existed. An entry that a running cut has not visited goes to the cut.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.remove_hashed(hash(key), key)
    }

    /// As [`Table::remove`], with the hash known.
    pub fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> bool {
        match self.detach(hash, key) {
            Some(e) => {
                self.dispose(e);
                true
            }
            None => false,
        }
    }

    /// Removes a key and returns its entry. Where a running cut still needs it, the cut gets the original and the
    /// caller a copy.
    pub fn take(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let e = self.detach(hash, key)?;
        if self.unvisited(e.as_ref()) {
            let copy = Entry::duplicate(e.as_ref());
            self.dispose(e);
            return Some(copy);
        }
        Some(e)
    }

    fn detach(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let seg = self.segment_mut(hash)?;
        let i = seg.find(hash, key)?;
        let e = seg.take(i);
        self.len -= 1;
        self.with_ttl -= usize::from(e.as_ref().expire().is_some());
        self.shrink(hash);
        Some(e)
    }

    #[inline]
    fn dispose(&self, old: Entry) {
        if let Some(capture) = &self.capture
            && old.as_ref().epoch() != self.epoch
        {
            capture.take(old);
        }
    }

    /// Changes the expiry of a key; false where there is no such key.
    pub fn set_expire(&mut self, hash: u64, key: &[u8], expire: Option<i64>) -> bool {
        let Some(mut e) = self.get_mut_hashed(hash, key) else { return false };
        let had = e.as_ref().expire().is_some();
        if let Some(ms) = expire
            && e.set_expire_in_place(ms)
        {
            return true;
        }
        if !had && expire.is_none() {
            return true;
        }
        // The block changes size: the entry moves to a new one, keeping its epoch, with its value moved along.
        let epoch = e.as_ref().epoch();
        let seg = self.segment_mut(hash).expect("the key was found above");
        let i = seg.find(hash, key).expect("the key was found above");
        let old = seg.take(i);
        let mut new = old.rekeyed(key, expire);
        new.as_mut().set_epoch(epoch);
        seg.put(i, hash, new);
        seg.count += 1;
        self.with_ttl = self.with_ttl + usize::from(expire.is_some()) - usize::from(had);
        true
    }

    /// Edits a string (see `Entry::splice`); false where the key holds none.
    pub(crate) fn splice(&mut self, hash: u64, key: &[u8], offset: usize, bytes: &[u8], lru: u32) -> bool {
        if !matches!(self.get_hashed(hash, key).map(EntryRef::payload), Some(Payload::Str(_))) {
            return false;
        }
        // Looked up for changing, so that a cut gets its pre-image. The block may move, hence the slot is refilled.
        if let Some(mut e) = self.get_mut_hashed(hash, key) {
            e.set_lru(lru);
        }
        let seg = self.segment_mut(hash).expect("the key was found above");
        let i = seg.find(hash, key).expect("the key was found above");
        let entry = seg.take(i).splice(offset, bytes);
        seg.put(i, hash, entry);
        seg.count += 1;
        true
    }

    fn split(&mut self, hash: u64) {
        // SAFETY: live segment owned by self.
        let old_ptr = self.segment_ptr(hash);
        // SAFETY: as above; the directory and list are separate memory.
        let old = unsafe { &mut *old_ptr.as_ptr() };
        if old.depth == self.depth {
            assert!(self.depth < MAX_DEPTH, "more than 64 keys share {MAX_DEPTH} hash bits");
            let mut wide = Vec::with_capacity(self.directory.len() * 2);
            for p in &self.directory {
                wide.push(*p);
                wide.push(*p);
            }
            self.directory = wide;
            self.depth += 1;
            self.deepest = 0;
        }
        let bit = 63 - old.depth;
        old.depth += 1;
        let new_prefix = old.prefix | (1 << bit);
        let new_ptr = Segment::alloc(new_prefix, old.depth, self.segments.len() as u32);
        self.segments.push(new_ptr);
        // SAFETY: freshly allocated and not yet shared.
        let new = unsafe { &mut *new_ptr.as_ptr() };
        for i in 0..SEGMENT_SLOTS {
            let slot = old.slots[i];
            // The slot itself knows the first 16 bits; deeper splits ask the key again.
            let upper = if bit >= 48 {
                slot >> bit & 1 == 1
            } else {
                crate::hash::hash(old.entry(i).key()) >> bit & 1 == 1
            };
            if upper {
                new.slots[new.count as usize] = slot;
                new.tags[new.count as usize] = old.tags[i];
                new.count += 1;
                old.slots[i] = 0;
                old.tags[i] = 0;
                old.count -= 1;
            }
        }
        if old.depth == self.depth {
            self.deepest += 2;
        }
        self.point(new_ptr);
    }

    /// Points the directory's range of a segment to it.
    fn point(&mut self, seg: NonNull<Segment>) {
        // SAFETY: live segment owned by self.
        let s = unsafe { seg.as_ref() };
        let first = if self.depth == 0 { 0 } else { (s.prefix >> (64 - self.depth)) as usize };
        let n = 1usize << (self.depth - s.depth);
        self.directory[first..first + n].fill(seg);
    }

    fn shrink(&mut self, hash: u64) {
        if self.len == 0 {
            self.free_segments();
            return;
        }
        loop {
            let seg_ptr = self.segment_ptr(hash);
            // SAFETY: live segment owned by self.
            let seg = unsafe { &mut *seg_ptr.as_ptr() };
            if seg.depth == 0 || seg.count as usize > MERGE_AT / 2 {
                return;
            }
            let buddy_ptr = self.segment_ptr(seg.prefix ^ (1 << (64 - seg.depth)));
            // SAFETY: another live segment (a segment is never its own buddy, as their prefixes differ).
            let buddy = unsafe { &mut *buddy_ptr.as_ptr() };
            if buddy.depth != seg.depth || (buddy.count + seg.count) as usize > MERGE_AT {
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
            for i in 0..SEGMENT_SLOTS {
                if gone.tags[i] != 0 {
                    let free = keep.free_slot().expect("MERGE_AT fits in a segment");
                    keep.slots[free] = gone.slots[i];
                    keep.tags[free] = gone.tags[i];
                    keep.count += 1;
                }
            }
            keep.depth -= 1;
            let gone_index = gone.index as usize;
            self.point(keep_ptr);
            self.segments.swap_remove(gone_index);
            if let Some(moved) = self.segments.get(gone_index) {
                // SAFETY: live segment; its index in the list changed.
                unsafe { (*moved.as_ptr()).index = gone_index as u32 };
            }
            // SAFETY: `gone` is in neither the directory nor the list any more; its entries moved to `keep`.
            unsafe { drop(Box::from_raw(gone_ptr.as_ptr())) };
            while self.depth > 0 && self.deepest == 0 {
                self.directory = self.directory.iter().copied().step_by(2).collect();
                self.depth -= 1;
                // SAFETY: live segments owned by self.
                self.deepest =
                    self.segments.iter().filter(|s| unsafe { s.as_ref() }.depth == self.depth).count() as u32;
            }
        }
    }

    fn free_segments(&mut self) {
        for p in self.segments.drain(..) {
            // SAFETY: the list owns each segment once; entries inside are freed first.
            unsafe {
                let mut seg = Box::from_raw(p.as_ptr());
                let mut m = seg.occupied();
                while m != 0 {
                    drop(seg.take(m.trailing_zeros() as usize));
                    m &= m - 1;
                }
            }
        }
        self.directory = Vec::new();
        self.segments = Vec::new();
        self.depth = 0;
        self.deepest = 0;
        self.len = 0;
        self.with_ttl = 0;
    }

    /// Starts fetching what a lookup or insert of this hash will touch first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if !self.directory.is_empty() {
            let at = self.segment_ptr(hash).as_ptr() as usize as u64;
            prefetch(at);
            prefetch(at + 64);
        }
    }

    /// Starts fetching the slot an insert of this hash will take.
    #[inline]
    pub(crate) fn prefetch_free_slot(&self, hash: u64) {
        if !self.directory.is_empty() {
            // SAFETY: live segment owned by self.
            let seg = unsafe { self.segment_ptr(hash).as_ref() };
            if let Some(i) = seg.free_slot() {
                prefetch(std::ptr::from_ref(&seg.slots[i]) as usize as u64);
            }
        }
    }

    /// Prepares an empty table for `n` entries, so that a load splits nothing.
    pub fn reserve(&mut self, n: usize) {
        if !self.directory.is_empty() || n <= SEGMENT_SLOTS / 2 {
            return;
        }
        // An expected fill of at most 48 of 64: the spread of random hashes then splits next to nothing.
        let depth = (n / 48).max(1).next_power_of_two().ilog2().min(24) as u8;
        self.depth = depth;
        for i in 0..1u64 << depth {
            let prefix = if depth == 0 { 0 } else { i << (64 - depth) };
            let seg = Segment::alloc(prefix, depth, self.segments.len() as u32);
            self.segments.push(seg);
            self.directory.push(seg);
        }
        self.deepest = self.segments.len() as u32;
    }

    /// All entries, in hash order of segments.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.segments.iter().flat_map(|p| {
            // SAFETY: live segment owned by self.
            let seg = unsafe { p.as_ref() };
            let mut m = seg.occupied();
            std::iter::from_fn(move || {
                if m == 0 {
                    return None;
                }
                let i = m.trailing_zeros() as usize;
                m &= m - 1;
                Some(seg.entry(i))
            })
        })
    }

    /// A uniformly random entry.
    pub fn random(&self) -> Option<EntryRef<'_>> {
        if self.len == 0 {
            return None;
        }
        loop {
            let r = random_u64();
            let seg = self.segments[(r >> 32) as usize % self.segments.len()];
            // SAFETY: live segment owned by self.
            let seg = unsafe { seg.as_ref() };
            let i = (r & (SEGMENT_SLOTS as u64 - 1)) as usize;
            if seg.tags[i] != 0 {
                return Some(seg.entry(i));
            }
        }
    }

    /// One step of SCAN. The cursor is a position in the order of the hashes' top 48 bits; every entry that is in
    /// the table from the first step to the last is reported exactly once. Returns the next cursor, 0 at the end.
    pub fn scan(&self, cursor: u64, count: usize, mut report: impl FnMut(EntryRef<'_>)) -> u64 {
        if self.len == 0 {
            return 0;
        }
        let mut at = cursor & ((1 << 48) - 1);
        let mut left = count.max(1);
        loop {
            // SAFETY: live segment owned by self.
            let seg = unsafe { self.segment_ptr(at << 16).as_ref() };
            let mut found: smallvec::SmallVec<[(u64, usize); SEGMENT_SLOTS]> = smallvec::SmallVec::new();
            let mut m = seg.occupied();
            while m != 0 {
                let i = m.trailing_zeros() as usize;
                m &= m - 1;
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
            if left == 0 {
                return end;
            }
            at = end;
        }
    }

    /// Removes expired entries of the segment at `position` (a full 64-bit hash position) and returns the next
    /// position, 0 at the end. Only slots flagged as having an expiry are looked at.
    pub(crate) fn expire_segment(
        &mut self,
        position: u64,
        now_ms: i64,
        limit: usize,
        mut expired: impl FnMut(&[u8]),
    ) -> (u64, usize) {
        if self.len == 0 {
            return (0, 0);
        }
        // SAFETY: live segment owned by self.
        let seg = unsafe { self.segment_ptr(position).as_ref() };
        let end = seg.end();
        let mut due: Vec<Vec<u8>> = Vec::new();
        let mut m = seg.occupied();
        while m != 0 && due.len() < limit {
            let i = m.trailing_zeros() as usize;
            m &= m - 1;
            if seg.slots[i] & TTL_FLAG != 0 && seg.entry(i).expire().is_some_and(|at| at <= now_ms) {
                due.push(seg.entry(i).key().to_vec());
            }
        }
        for key in &due {
            self.remove(key);
            expired(key);
        }
        (end, due.len())
    }

    // ---- the cut's side -------------------------------------------------------------------------------------

    /// Attaches a capture: every entry there is now becomes unvisited.
    pub(crate) fn attach(&mut self, capture: Capture) {
        debug_assert!(self.capture.is_none());
        if self.aborts >= MAX_ABORTS {
            self.aborts = 0;
            let epoch = self.epoch;
            self.each_mut(|e| e.set_epoch(epoch));
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.capture = Some(Box::new(capture));
    }

    /// Ends the capture, complete or not.
    pub(crate) fn release(&mut self, complete: bool) -> Option<Box<Capture>> {
        let c = self.capture.take();
        if c.is_some() {
            self.aborts = if complete { 0 } else { self.aborts + 1 };
        }
        c
    }

    pub(crate) fn capture(&self) -> Option<&Capture> {
        self.capture.as_deref()
    }

    pub(crate) fn capture_mut(&mut self) -> Option<&mut Capture> {
        self.capture.as_deref_mut()
    }

    fn each_mut(&mut self, mut f: impl FnMut(&mut EntryMut<'_>)) {
        for p in &self.segments {
            // SAFETY: live segment, self borrowed exclusively.
            let seg = unsafe { &*p.as_ptr() };
            let mut m = seg.occupied();
            while m != 0 {
                let i = m.trailing_zeros() as usize;
                m &= m - 1;
                // SAFETY: occupied slot, exclusive borrow.
                f(&mut unsafe { EntryMut::from_raw(slot_entry(seg.slots[i])) });
            }
        }
    }

    /// Visits the unvisited entries of the segment at `position`. `visit` returns what to do with each; a visited
    /// entry is stamped. Returns the next position, or `None` where the visit stopped before the segment's end
    /// (the same position then continues it).
    pub(crate) fn visit_segment(
        &mut self,
        position: u64,
        mut visit: impl FnMut(EntryMut<'_>) -> Visit,
    ) -> Option<u64> {
        if self.len == 0 {
            return Some(0);
        }
        let epoch = self.epoch;
        // SAFETY: live segment, self borrowed exclusively.
        let seg = unsafe { &*self.segment_ptr(position).as_ptr() };
        let occupied = seg.occupied();
        let mut m = occupied;
        while m != 0 {
            prefetch(seg.slots[m.trailing_zeros() as usize]);
            m &= m - 1;
        }
        let mut m = occupied;
        let mut ahead = occupied;
        for _ in 0..PREFETCH_AHEAD {
            ahead &= ahead.wrapping_sub(1);
        }
        while m != 0 {
            let i = m.trailing_zeros() as usize;
            m &= m - 1;
            if ahead != 0 {
                prefetch_block(seg.entry(ahead.trailing_zeros() as usize));
                ahead &= ahead - 1;
            }
            let raw = slot_entry(seg.slots[i]);
            // SAFETY: occupied slot, exclusive borrow; each EntryMut ends before the next is made.
            let e = unsafe { EntryMut::from_raw(raw) };
            if e.as_ref().epoch() == epoch {
                continue;
            }
            let verdict = visit(e);
            if matches!(verdict, Visit::Done | Visit::DoneStop) {
                // SAFETY: as above.
                unsafe { EntryMut::from_raw(raw) }.set_epoch(epoch);
            }
            if matches!(verdict, Visit::DoneStop | Visit::Stop) {
                return None;
            }
        }
        Some(seg.end())
    }

    /// Stamps one key as visited.
    pub(crate) fn stamp(&mut self, key: &[u8]) {
        let h = hash(key);
        let epoch = self.epoch;
        if let Some(seg) = self.segment_mut(h)
            && let Some(i) = seg.find(h, key)
        {
            // SAFETY: occupied slot, exclusive borrow.
            unsafe { EntryMut::from_raw(slot_entry(seg.slots[i])) }.set_epoch(epoch);
        }
    }

    /// The entry to read without marking anything as changed: for the cut's walker.
    pub(crate) fn peek_mut(&mut self, key: &[u8]) -> Option<EntryMut<'_>> {
        let h = hash(key);
        let seg = self.segment_mut(h)?;
        let i = seg.find(h, key)?;
        // SAFETY: occupied slot, exclusive borrow.
        Some(unsafe { EntryMut::from_raw(slot_entry(seg.slots[i])) })
    }
}

/// What a visitor says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Delivered; go on.
    Done,
    /// Delivered; end this step.
    DoneStop,
    /// Not delivered; end this step.
    Stop,
}

impl Clone for Table {
    /// A deep copy without the capture: every element gets a block of its own.
    fn clone(&self) -> Table {
        let mut t = Table::new();
        t.reserve(self.len);
        for e in self.iter() {
            let copy = Entry::duplicate(e);
            t.insert_hashed(hash(e.key()), copy);
        }
        t
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.free_segments();
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("len", &self.len).field("segments", &self.segments.len()).finish()
    }
}

impl Table {
    /// The score of a sorted set's member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.get(member)?.payload() {
            Payload::Score(s) => Some(s),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(i: u32) -> Vec<u8> {
        format!("key:{i}").into_bytes()
    }

    #[test]
    fn grows_and_shrinks_back_to_nothing() {
        let mut t = Table::new();
        for i in 0..20_000 {
            assert!(!t.insert(Entry::int(&key(i), i as i64, None)));
        }
        assert_eq!(t.len(), 20_000);
        for i in 0..20_000 {
            assert!(matches!(t.get(&key(i)).unwrap().payload(), Payload::Int(v) if v == i as i64));
        }
        assert_eq!(t.iter().count(), 20_000);
        for i in 0..20_000 {
            assert!(t.remove(&key(i)));
        }
        assert_eq!(t.segments.len(), 0);
    }

    #[test]
    fn scan_reports_everything_once_while_the_table_grows() {
        let mut t = Table::new();
        for i in 0..500 {
            t.insert(Entry::unit(&key(i)));
        }
        let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
        let (mut cursor, mut next) = (0, 500);
        loop {
            cursor = t.scan(cursor, 10, |e| *seen.entry(e.key().to_vec()).or_default() += 1);
            for _ in 0..50 {
                t.insert(Entry::unit(&key(next)));
                next += 1;
            }
            if cursor == 0 {
                break;
            }
        }
        for i in 0..500 {
            assert_eq!(seen.get(&key(i)), Some(&1), "key {i}");
        }
    }

    #[test]
    fn a_reserved_table_takes_its_entries_without_splitting() {
        let mut t = Table::new();
        t.reserve(10_000);
        let before = t.segments.len();
        for i in 0..10_000 {
            t.insert(Entry::unit(&key(i)));
        }
        assert!(t.segments.len() < before + before / 2, "{before} -> {}", t.segments.len());
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec((0u8..4, 0u32..400, any::<bool>()), 0..2000)) {
            let mut t = Table::new();
            let mut model: HashMap<Vec<u8>, (Vec<u8>, Option<i64>)> = HashMap::new();
            for (n, (op, k, ttl)) in ops.into_iter().enumerate() {
                let k = key(k);
                let v = n.to_string().into_bytes();
                let expire = ttl.then_some(n as i64);
                match op {
                    0 | 1 => {
                        let was = model.insert(k.clone(), (v.clone(), expire)).is_some();
                        prop_assert_eq!(t.insert(Entry::string(&k, &v, expire)), was);
                    }
                    2 => prop_assert_eq!(t.remove(&k), model.remove(&k).is_some()),
                    _ => {
                        let was = model.get_mut(&k).map(|m| m.1 = expire).is_some();
                        prop_assert_eq!(t.set_expire(hash(&k), &k, expire), was);
                    }
                }
                prop_assert_eq!(t.len(), model.len());
                prop_assert_eq!(t.with_ttl(), model.values().filter(|m| m.1.is_some()).count());
            }
            for (k, (v, expire)) in &model {
                let e = t.get(k).unwrap();
                prop_assert!(matches!(e.payload(), Payload::Str(s) if s == v.as_slice()));
                prop_assert_eq!(e.expire(), *expire);
            }
            prop_assert_eq!(t.iter().count(), model.len());
        }
    }
}
