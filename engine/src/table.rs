//! The table of entries: extendible hashing over small fixed segments.
//!
//! A segment has 64 slots. A full one splits in two by the next hash bit, so growth costs one segment at a time and
//! nothing is ever rehashed as a whole; two emptied neighbours merge. Segments are ordered by hash, which gives SCAN a
//! cursor that survives splits (a hash position) and the cut's walker an order.
//!
//! The table is also where a running cut learns of changes: while a capture is attached, replacing, removing or
//! changing an entry the walker has not visited hands over the entry as it was. An entry is unvisited when its epoch
//! is not the table's. Commands and values therefore need to know nothing of cuts.
//!
//! The same type holds a database of a shard, and the elements of a big hash, set or sorted set.
//!
//! The parts: `segment` and `directory` are the structure, and have what `unsafe` there is; `walk` goes over the
//! entries; `cut` is the running cut's side. Here are looking up, inserting and removing.

mod cut;
mod directory;
mod segment;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use cut::Visit;
pub(crate) use segment::SEGMENT_SLOTS;

use crate::cut::capture::{Capture, leave};
use crate::entry::{Entry, EntryMut, EntryRef, Payload};
use crate::hash::hash;
use crate::lazy_free::{self, LAZY_FREE_ELEMENTS};
use directory::Directory;
use segment::Segment;

/// With fewer entries than this for each segment there is more room than a table comes by itself to have.
const SPARSE: usize = 4;

/// A hash table of [`Entry`]s by key.
pub struct Table {
    directory: Directory,
    len: usize,
    with_ttl: usize,
    epoch: u16,
    aborts: u16,
    capture: Option<Box<Capture>>,
}

impl Default for Table {
    fn default() -> Self {
        Table::new()
    }
}

impl Table {
    /// An empty table, which owns no memory yet.
    pub const fn new() -> Table {
        Table { directory: Directory::new(), len: 0, with_ttl: 0, epoch: 0, aborts: 0, capture: None }
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
        self.directory.bytes()
    }

    #[inline]
    fn segment(&self, hash: u64) -> Option<&Segment> {
        if self.len == 0 {
            return None;
        }
        Some(self.directory.get(hash))
    }

    #[inline]
    fn segment_mut(&mut self, hash: u64) -> Option<&mut Segment> {
        if self.len == 0 {
            return None;
        }
        Some(self.directory.get_mut(hash))
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
        let mut e = seg.entry_mut(i);
        if e.as_ref().lru() != lru {
            e.set_lru(lru);
        }
        Some(e.into_ref())
    }

    /// Where a key is, until the table changes: for those who have to look at an entry's expiry before they borrow it.
    #[inline]
    pub(crate) fn place(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.segment(hash)?.find(hash, key)
    }

    /// The expiry of the entry at a place.
    #[inline]
    pub(crate) fn expiry_at(&self, hash: u64, place: usize) -> Option<i64> {
        let seg = self.directory.get(hash);
        if seg.has_expiry(place) { seg.entry(place).expire() } else { None }
    }

    /// The entry at a place; marked as used where an access time is given.
    #[inline]
    pub(crate) fn entry_at(&mut self, hash: u64, place: usize, lru: Option<u32>) -> EntryRef<'_> {
        let mut e = self.directory.get_mut(hash).entry_mut(place);
        if let Some(lru) = lru
            && e.as_ref().lru() != lru
        {
            e.set_lru(lru);
        }
        e.into_ref()
    }

    /// The entry at a place, to change it; `None` where a running cut needs it as it is.
    #[inline]
    pub(crate) fn visited_at(&mut self, hash: u64, place: usize) -> Option<EntryMut<'_>> {
        let e = self.directory.get_mut(hash).entry_mut(place);
        (self.capture.is_none() || e.as_ref().epoch() == self.epoch).then_some(e)
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
        let seg = self.directory.get_mut(hash);
        let i = seg.find(hash, key)?;
        let mut e = seg.entry_mut(i);
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
            self.directory.fill(0);
        }
        let ttl = usize::from(entry.as_ref().expire().is_some());
        loop {
            let seg = self.directory.get_mut(hash);
            if let Some(i) = seg.find(hash, entry.as_ref().key()) {
                let old = seg.take(i);
                seg.put(i, hash, entry);
                self.with_ttl = self.with_ttl + ttl - usize::from(old.as_ref().expire().is_some());
                self.dispose(old);
                return true;
            }
            if let Some(i) = seg.free_slot() {
                seg.put(i, hash, entry);
                self.len += 1;
                self.with_ttl += ttl;
                return false;
            }
            self.directory.split(hash);
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

    /// Removes a key and returns its entry, which goes elsewhere. Where a running cut still needs it, the cut gets the
    /// original and the caller a copy; but a huge value goes elsewhere as it is and takes its capture along.
    pub fn take(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let mut e = self.detach(hash, key)?;
        if self.unvisited(e.as_ref()) && !self.capture().is_some_and(|capture| capture.follow(&mut e)) {
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
        } else {
            leave(old);
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
        true
    }

    fn shrink(&mut self, hash: u64) {
        if self.len == 0 {
            self.directory.clear();
        } else {
            self.directory.merge(hash);
        }
    }

    /// Starts fetching what a lookup or insert of this hash will touch first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if !self.directory.is_empty() {
            self.directory.prefetch(hash);
        }
    }

    /// The second step of fetching what a lookup of this hash touches, when the first has had its time.
    #[inline]
    pub(crate) fn prefetch_slots(&self, hash: u64) {
        if let Some(seg) = self.segment(hash) {
            seg.prefetch_slots_of(hash);
        }
    }

    /// The third: the entry itself.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u64) {
        if let Some(seg) = self.segment(hash) {
            seg.prefetch_entry_of(hash);
        }
    }

    /// Starts fetching the slot an insert of this hash will take.
    #[inline]
    pub(crate) fn prefetch_free_slot(&self, hash: u64) {
        if !self.directory.is_empty() {
            let seg = self.directory.get(hash);
            if let Some(i) = seg.free_slot() {
                seg.prefetch_slot(i);
            }
        }
    }

    /// Prepares an empty table for `n` entries, so that a load splits nothing.
    pub fn reserve(&mut self, n: usize) {
        if !self.directory.is_empty() || n <= SEGMENT_SLOTS / 2 {
            return;
        }
        let depth = depth_for(n);
        self.directory.fill(depth);
    }
}

/// An expected fill of at most 48 of 64: the spread of random hashes then splits next to nothing.
fn depth_for(n: usize) -> u8 {
    (n / 48).max(1).next_power_of_two().ilog2().min(24) as u8
}

impl Table {
    /// Gives back the room that was reserved for entries which did not come: walks over a table with next to nothing in
    /// it take as long as over a full one.
    pub(crate) fn fit(&mut self) {
        if self.len >= self.directory.len() * SPARSE {
            return;
        }
        let mut wide = std::mem::replace(&mut self.directory, Directory::new());
        if self.len == 0 {
            return;
        }
        self.directory.fill(depth_for(self.len));
        for seg in wide.iter_mut() {
            for i in seg.occupied() {
                let entry = seg.take(i);
                let h = hash(entry.as_ref().key());
                // As it is: a running cut may know it by its epoch.
                loop {
                    let to = self.directory.get_mut(h);
                    if let Some(free) = to.free_slot() {
                        to.put(free, h, entry);
                        break;
                    }
                    self.directory.split(h);
                }
            }
        }
    }

    /// Drops a table of keys: in the background, as few keys may hold much.
    pub(crate) fn discard(self) {
        if !self.is_empty() && lazy_free::defers() {
            let objects = self.len;
            lazy_free::free(self, objects);
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.len > LAZY_FREE_ELEMENTS && lazy_free::defers() {
            lazy_free::free(std::mem::replace(&mut self.directory, Directory::new()), self.len);
        }
    }
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

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("len", &self.len).field("segments", &self.directory.len()).finish()
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
