//! One allocation per entry: header, optional expiry, payload and key in one block.
//!
//! ```text
//!  0        2      3       4      8       12      16            24            (+8)
//! | epoch16 | kind | flags | lru  | klen  | vlen  | expiry i64? | word 8 B ? | key ... | inline value ...
//! ```
//!
//! The expiry is there when the flag says so. The word holds an integer, a score or a pointer to a boxed
//! [`Value`] or [`Buffer`], depending on the kind; a string has no word but its bytes behind the key, unless it is long
//! (see [`crate::buffer`]). A 16-byte key with a 64-byte value takes 96 bytes, which is a size class of common allocators.
//!
//! The module is `unsafe` inside because the block has a dynamic layout. Its promise: an [`Entry`] owns its
//! block, [`EntryRef`] and [`EntryMut`] borrow it, and no method reads outside of the sizes in the header.
#![allow(unsafe_code)]

use crate::buffer::{Buffer, LONG_STRING};
use crate::lazy_free::{self, LAZY_FREE_BYTES};
use crate::value::Value;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Longest string value in bytes.
pub const MAX_STRING_LEN: usize = u32::MAX as usize;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    epoch: u16,
    kind: u8,
    flags: u8,
    lru: u32,
    klen: u32,
    vlen: u32,
}

const HEADER: usize = size_of::<Header>();
const KIND_STR: u8 = 0;
const KIND_INT: u8 = 1;
const KIND_VALUE: u8 = 2;
const KIND_SCORE: u8 = 3;
const KIND_UNIT: u8 = 4;
const KIND_LONG: u8 = 5;
const FLAG_EXPIRE: u8 = 1;
/// The string was edited in place: `OBJECT ENCODING` calls it raw, whatever its length.
const FLAG_RAW: u8 = 2;

/// What an entry holds beside its key.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// A string.
    Str(&'a [u8]),
    /// A string that is a canonical 64-bit integer.
    Int(i64),
    /// A collection.
    Value(&'a Value),
    /// A sorted set member's score.
    Score(f64),
    /// Nothing: a set member.
    Unit,
}

impl Payload<'_> {
    /// The score, where it is one.
    #[inline]
    pub fn score(self) -> Option<f64> {
        match self {
            Payload::Score(score) => Some(score),
            _ => None,
        }
    }
}

/// An owned entry.
pub struct Entry(NonNull<Header>);

// SAFETY: an entry owns its block and everything it points to (`Value` is `Send + Sync`), like a `Box`.
unsafe impl Send for Entry {}
// SAFETY: shared access only reads (see `EntryRef`).
unsafe impl Sync for Entry {}

/// A shared borrow of an entry.
#[derive(Clone, Copy)]
pub struct EntryRef<'a>(NonNull<Header>, PhantomData<&'a Entry>);

/// An exclusive borrow of an entry whose block stays where it is.
pub struct EntryMut<'a>(NonNull<Header>, PhantomData<&'a mut Entry>);

fn block_size(h: &Header) -> usize {
    let extra = if h.flags & FLAG_EXPIRE != 0 { 8 } else { 0 };
    let word = matches!(h.kind, KIND_INT | KIND_VALUE | KIND_SCORE | KIND_LONG);
    HEADER + extra + if word { 8 } else { 0 } + h.klen as usize + h.vlen as usize
}

fn layout(h: &Header) -> Layout {
    Layout::from_size_align(block_size(h), 8).expect("klen and vlen are u32, so the size fits in isize")
}

impl Entry {
    fn build(kind: u8, key: &[u8], inline: &[u8], word: u64, expire: Option<i64>) -> Entry {
        assert!(key.len() <= u32::MAX as usize && inline.len() <= MAX_STRING_LEN, "key or value over 4 GiB");
        let head = Header {
            epoch: 0,
            kind,
            flags: if expire.is_some() { FLAG_EXPIRE } else { 0 },
            lru: 0,
            klen: key.len() as u32,
            vlen: inline.len() as u32,
        };
        let layout = layout(&head);
        // SAFETY: the layout's size is at least HEADER, so not zero; every write below stays within
        // block_size(&head), which is the sum of the parts written.
        unsafe {
            let base = alloc(layout);
            if base.is_null() {
                handle_alloc_error(layout);
            }
            base.cast::<Header>().write(head);
            let mut at = base.add(HEADER);
            if let Some(ms) = expire {
                at.cast::<i64>().write(ms);
                at = at.add(8);
            }
            if matches!(kind, KIND_INT | KIND_VALUE | KIND_SCORE | KIND_LONG) {
                at.cast::<u64>().write(word);
                at = at.add(8);
            }
            at.copy_from_nonoverlapping(key.as_ptr(), key.len());
            at.add(key.len()).copy_from_nonoverlapping(inline.as_ptr(), inline.len());
            Entry(NonNull::new_unchecked(base.cast()))
        }
    }

    /// An entry that holds a string.
    pub fn string(key: &[u8], value: &[u8], expire: Option<i64>) -> Entry {
        if value.len() >= LONG_STRING {
            return Entry::long(key, value.to_vec().into(), expire);
        }
        Entry::build(KIND_STR, key, value, 0, expire)
    }

    /// An entry that holds a string, which it need not copy where it is long.
    pub(crate) fn long(key: &[u8], value: Buffer, expire: Option<i64>) -> Entry {
        assert!(value.len() <= MAX_STRING_LEN, "value over 4 GiB");
        if value.len() < LONG_STRING {
            return Entry::build(KIND_STR, key, &value, 0, expire);
        }
        let raw = Box::into_raw(Box::new(value)) as usize as u64;
        Entry::build(KIND_LONG, key, &[], raw, expire)
    }

    /// An entry that holds an integer string.
    pub fn int(key: &[u8], value: i64, expire: Option<i64>) -> Entry {
        Entry::build(KIND_INT, key, &[], value as u64, expire)
    }

    /// An entry that holds a collection.
    pub fn value(key: &[u8], value: Value, expire: Option<i64>) -> Entry {
        let raw = Box::into_raw(Box::new(value)) as usize as u64;
        Entry::build(KIND_VALUE, key, &[], raw, expire)
    }

    /// A sorted set member with its score.
    pub fn score(member: &[u8], score: f64) -> Entry {
        Entry::build(KIND_SCORE, member, &[], score.to_bits(), None)
    }

    /// A set member.
    pub fn unit(member: &[u8]) -> Entry {
        Entry::build(KIND_UNIT, member, &[], 0, None)
    }

    /// Borrows the entry.
    #[inline]
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef(self.0, PhantomData)
    }

    /// Borrows the entry exclusively.
    #[inline]
    pub fn as_mut(&mut self) -> EntryMut<'_> {
        EntryMut(self.0, PhantomData)
    }

    /// A copy with its own block; a collection is cloned (a list shares its nodes), a long string is shared.
    pub(crate) fn duplicate(e: EntryRef<'_>) -> Entry {
        let copy = match e.payload() {
            Payload::Str(v) => match e.long() {
                Some(long) => Entry::long(e.key(), long.clone(), e.expire()),
                None => Entry::string(e.key(), v, e.expire()),
            },
            Payload::Int(v) => Entry::int(e.key(), v, e.expire()),
            Payload::Value(v) => Entry::value(e.key(), v.clone(), e.expire()),
            Payload::Score(s) => Entry::score(e.key(), s),
            Payload::Unit => Entry::unit(e.key()),
        };
        let mut copy = copy;
        copy.as_mut().set_lru(e.lru());
        copy.as_mut().set_raw(e.is_raw());
        copy
    }

    /// The same content under another key and expiry; a collection or long string inside moves.
    pub(crate) fn rekeyed(self, key: &[u8], expire: Option<i64>) -> Entry {
        let (lru, raw) = (self.as_ref().lru(), self.as_ref().is_raw());
        let mut new = match self.as_ref().payload() {
            Payload::Str(v) => match self.as_ref().long() {
                Some(long) => Entry::long(key, long.clone(), expire),
                None => Entry::string(key, v, expire),
            },
            Payload::Int(v) => Entry::int(key, v, expire),
            Payload::Score(s) => Entry::score(key, s),
            Payload::Unit => Entry::unit(key),
            Payload::Value(_) => {
                Entry::value(key, self.into_value().expect("the payload is a value"), expire)
            }
        };
        new.as_mut().set_lru(lru);
        new.as_mut().set_raw(raw);
        new
    }

    /// Overwrites a string from `offset` on. The block grows where needed, in place where the allocator can; a gap
    /// is filled with zeros. Everything else about the entry stays.
    pub(crate) fn splice(self, offset: usize, bytes: &[u8]) -> Entry {
        let old = self.as_ref().head();
        if old.kind == KIND_LONG {
            return self.splice_long(offset, bytes);
        }
        assert!(old.kind == KIND_STR, "only strings are edited");
        let old_len = old.vlen as usize;
        let new_len = old_len.max(offset + bytes.len());
        if new_len >= LONG_STRING {
            return self.lengthened(offset, bytes);
        }
        let new = Header { vlen: new_len as u32, flags: old.flags | FLAG_RAW, ..old };
        let base = self.into_raw().as_ptr().cast::<u8>();
        // SAFETY: `base` was allocated with layout(&old) and is owned here; layout(&new) has the same alignment and a
        // valid size. The value is the block's last new_len bytes, and all writes stay within them.
        unsafe {
            let base = if new_len == old_len { base } else { realloc(base, layout(&old), block_size(&new)) };
            if base.is_null() {
                handle_alloc_error(layout(&new));
            }
            base.cast::<Header>().write(new);
            let value = base.add(block_size(&new) - new_len);
            if offset > old_len {
                value.add(old_len).write_bytes(0, offset - old_len);
            }
            value.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Entry(NonNull::new_unchecked(base.cast()))
        }
    }

    /// As [`Entry::splice`], where the string is long.
    fn splice_long(mut self, offset: usize, bytes: &[u8]) -> Entry {
        assert!(offset + bytes.len() <= MAX_STRING_LEN, "value over 4 GiB");
        // SAFETY: the word of a KIND_LONG entry is the Box made in `long`; we own the entry.
        unsafe { (*(self.as_ref().word_ptr().read() as usize as *mut Buffer)).splice(offset, bytes) };
        self.as_mut().set_raw(true);
        self
    }

    /// As [`Entry::splice`], where the string becomes long.
    #[cold]
    fn lengthened(self, offset: usize, bytes: &[u8]) -> Entry {
        let old = self.as_ref();
        let Payload::Str(inline) = old.payload() else { unreachable!("only strings are edited") };
        let mut long = Buffer::from(inline.to_vec());
        long.splice(offset, bytes);
        let mut new = Entry::long(old.key(), long, old.expire());
        new.as_mut().set_epoch(old.epoch());
        new.as_mut().set_lru(old.lru());
        new.as_mut().set_raw(true);
        new
    }

    /// Takes the collection out, or `None` where the entry holds something else.
    pub(crate) fn into_value(mut self) -> Option<Value> {
        // SAFETY: the word of a KIND_VALUE entry is the Box made in `value`; the kind is changed to one whose
        // block has the same size (INT, word 8 B) so that dropping `self` frees the block only.
        unsafe {
            let head = self.0.as_mut();
            if head.kind != KIND_VALUE {
                return None;
            }
            let word = self.as_ref().word_ptr().read();
            self.0.as_mut().kind = KIND_INT;
            Some(*Box::from_raw(word as usize as *mut Value))
        }
    }

    pub(crate) fn into_raw(self) -> NonNull<Header> {
        let p = self.0;
        std::mem::forget(self);
        p
    }

    /// # Safety
    /// `p` came from [`Entry::into_raw`] and is not used as an owner again.
    pub(crate) unsafe fn from_raw(p: NonNull<Header>) -> Entry {
        Entry(p)
    }
}

impl Entry {
    /// Elements of what takes so long to free that it is left to the background; 0 of all else.
    #[inline]
    fn is_large(&self) -> usize {
        let head = self.as_ref().head();
        match self.as_ref().payload() {
            Payload::Value(v) if v.is_large() => v.len().max(1),
            _ => usize::from(head.klen as usize + head.vlen as usize > LAZY_FREE_BYTES),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let large = self.is_large();
        if large > 0 && lazy_free::defers() {
            return lazy_free::free(Entry(self.0), large);
        }
        // SAFETY: we own the block; the word of a KIND_VALUE or KIND_LONG entry is a live Box (see `value` and `long`).
        unsafe {
            let head = *self.0.as_ref();
            if head.kind == KIND_VALUE {
                drop(Box::from_raw(self.as_ref().word_ptr().read() as usize as *mut Value));
            } else if head.kind == KIND_LONG {
                drop(Box::from_raw(self.as_ref().word_ptr().read() as usize as *mut Buffer));
            }
            dealloc(self.0.as_ptr().cast(), layout(&head));
        }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({:?})", String::from_utf8_lossy(self.as_ref().key()))
    }
}

impl<'a> EntryRef<'a> {
    /// # Safety
    /// `p` is a live entry that nobody changes for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw(p: NonNull<Header>) -> EntryRef<'a> {
        EntryRef(p, PhantomData)
    }

    /// The block's address, which an index beside a table may keep while the entry stays in the table.
    #[inline]
    pub(crate) fn as_raw(self) -> NonNull<Header> {
        self.0
    }

    #[inline]
    fn head(self) -> Header {
        // SAFETY: the pointer is a live header for 'a.
        unsafe { *self.0.as_ref() }
    }

    #[inline]
    fn body(self) -> *mut u8 {
        let skip = HEADER + if self.head().flags & FLAG_EXPIRE != 0 { 8 } else { 0 };
        // SAFETY: the expiry, when flagged, is part of the block.
        unsafe { self.0.as_ptr().cast::<u8>().add(skip) }
    }

    #[inline]
    fn word_ptr(self) -> *mut u64 {
        debug_assert!(matches!(self.head().kind, KIND_INT | KIND_VALUE | KIND_SCORE | KIND_LONG));
        self.body().cast()
    }

    #[inline]
    fn key_ptr(self) -> *const u8 {
        let word = matches!(self.head().kind, KIND_INT | KIND_VALUE | KIND_SCORE | KIND_LONG);
        // SAFETY: within the block, see the layout.
        unsafe { self.body().add(if word { 8 } else { 0 }) }
    }

    /// The key or element.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        // SAFETY: klen bytes of key lie there, written by `build`, alive for 'a.
        unsafe { std::slice::from_raw_parts(self.key_ptr(), self.head().klen as usize) }
    }

    /// What the entry holds.
    #[inline]
    pub fn payload(self) -> Payload<'a> {
        let head = self.head();
        // SAFETY: per kind, the word or the inline bytes were written by `build`, alive for 'a.
        unsafe {
            match head.kind {
                KIND_STR => Payload::Str(std::slice::from_raw_parts(
                    self.key_ptr().add(head.klen as usize),
                    head.vlen as usize,
                )),
                KIND_INT => Payload::Int(self.word_ptr().read() as i64),
                KIND_VALUE => Payload::Value(&*(self.word_ptr().read() as usize as *const Value)),
                KIND_SCORE => Payload::Score(f64::from_bits(self.word_ptr().read())),
                KIND_LONG => Payload::Str(&*(self.word_ptr().read() as usize as *const Buffer)),
                _ => Payload::Unit,
            }
        }
    }

    /// The string where it is long, so that it can be shared.
    #[inline]
    pub(crate) fn long(self) -> Option<&'a Buffer> {
        if self.head().kind != KIND_LONG {
            return None;
        }
        // SAFETY: the word is the Box made in `long`, alive for 'a.
        Some(unsafe { &*(self.word_ptr().read() as usize as *const Buffer) })
    }

    /// Expiry in Unix milliseconds.
    #[inline]
    pub fn expire(self) -> Option<i64> {
        if self.head().flags & FLAG_EXPIRE == 0 {
            return None;
        }
        // SAFETY: flagged, so the 8 bytes behind the header are the expiry.
        Some(unsafe { self.0.as_ptr().cast::<u8>().add(HEADER).cast::<i64>().read() })
    }

    /// The table epoch at which this entry was made or last visited by a cut.
    #[inline]
    pub(crate) fn epoch(self) -> u16 {
        self.head().epoch
    }

    /// LRU clock (seconds) or LFU bits.
    #[inline]
    pub fn lru(self) -> u32 {
        self.head().lru
    }

    /// Was this string edited in place?
    #[inline]
    pub fn is_raw(self) -> bool {
        self.head().flags & FLAG_RAW != 0
    }

    /// Bytes of the block, without what a collection owns, or a long string.
    pub fn block_bytes(self) -> usize {
        block_size(&self.head())
    }

    /// Bytes of the block and of a long string, without what a collection owns.
    pub fn bytes(self) -> usize {
        self.block_bytes() + self.long().map_or(0, |long| size_of::<Buffer>() + long.len())
    }
}

impl<'a> EntryMut<'a> {
    /// # Safety
    /// `p` is a live entry that nobody else uses for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw(p: NonNull<Header>) -> EntryMut<'a> {
        EntryMut(p, PhantomData)
    }

    /// A shared view.
    #[inline]
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef(self.0, PhantomData)
    }

    /// A shorter exclusive borrow.
    #[inline]
    pub fn reborrow(&mut self) -> EntryMut<'_> {
        EntryMut(self.0, PhantomData)
    }

    /// Gives up exclusiveness for the rest of the borrow.
    #[inline]
    pub fn into_ref(self) -> EntryRef<'a> {
        EntryRef(self.0, PhantomData)
    }

    /// The collection inside, if it is one.
    #[inline]
    pub fn value_mut(self) -> Option<&'a mut Value> {
        if self.as_ref().head().kind != KIND_VALUE {
            return None;
        }
        // SAFETY: the word is the Box made in `value`; we hold the entry exclusively for 'a.
        Some(unsafe { &mut *(self.as_ref().word_ptr().read() as usize as *mut Value) })
    }

    #[inline]
    pub(crate) fn set_epoch(&mut self, epoch: u16) {
        // SAFETY: exclusive borrow of a live header.
        unsafe { self.0.as_mut().epoch = epoch }
    }

    /// Sets the LRU clock or LFU bits.
    #[inline]
    pub fn set_lru(&mut self, lru: u32) {
        // SAFETY: exclusive borrow of a live header.
        unsafe { self.0.as_mut().lru = lru }
    }

    fn set_raw(&mut self, raw: bool) {
        // SAFETY: exclusive borrow of a live header.
        let head = unsafe { self.0.as_mut() };
        head.flags = if raw { head.flags | FLAG_RAW } else { head.flags & !FLAG_RAW };
    }

    /// Overwrites the expiry in place; false where the block has no room for one.
    pub(crate) fn set_expire_in_place(&mut self, ms: i64) -> bool {
        if self.as_ref().head().flags & FLAG_EXPIRE == 0 {
            return false;
        }
        // SAFETY: flagged, so the 8 bytes behind the header are the expiry.
        unsafe { self.0.as_ptr().cast::<u8>().add(HEADER).cast::<i64>().write(ms) };
        true
    }

    /// Overwrites a string of the same length, an integer or a score in place; false where it can't.
    pub(crate) fn overwrite(&mut self, new: Payload<'_>) -> bool {
        let head = self.as_ref().head();
        // SAFETY: exclusive borrow; the kind and length checks prove the target bytes are there.
        unsafe {
            match (head.kind, new) {
                (KIND_STR, Payload::Str(v)) if v.len() == head.vlen as usize => {
                    let to = self.as_ref().key_ptr().add(head.klen as usize).cast_mut();
                    to.copy_from_nonoverlapping(v.as_ptr(), v.len());
                }
                (KIND_INT, Payload::Int(v)) => self.as_ref().word_ptr().write(v as u64),
                (KIND_SCORE, Payload::Score(v)) => self.as_ref().word_ptr().write(v.to_bits()),
                _ => return false,
            }
        }
        if head.flags & FLAG_RAW != 0 {
            self.set_raw(false);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_keeps_its_parts() {
        for expire in [None, Some(1_700_000_000_123)] {
            let e = Entry::string(b"key", b"value", expire);
            assert_eq!(e.as_ref().key(), b"key");
            assert!(matches!(e.as_ref().payload(), Payload::Str(b"value")));
            assert_eq!(e.as_ref().expire(), expire);
            let e = Entry::int(b"", -5, expire);
            assert_eq!(e.as_ref().key(), b"");
            assert!(matches!(e.as_ref().payload(), Payload::Int(-5)));
            assert_eq!(e.as_ref().expire(), expire);
        }
        assert!(matches!(Entry::score(b"m", 1.5).as_ref().payload(), Payload::Score(s) if s == 1.5));
        assert!(matches!(Entry::unit(b"m").as_ref().payload(), Payload::Unit));
    }

    #[test]
    fn splicing_keeps_everything_around_the_edit() {
        for expire in [None, Some(7)] {
            let e = Entry::string(b"key", b"value", expire).splice(3, b"id");
            assert!(matches!(e.as_ref().payload(), Payload::Str(b"valid")));
            let e = e.splice(7, b"!").splice(8, b"").splice(8, &[b'x'; 1000]);
            let Payload::Str(s) = e.as_ref().payload() else { panic!("a string") };
            assert_eq!(&s[..10], b"valid\0\0!xx");
            assert_eq!((s.len(), e.as_ref().key(), e.as_ref().expire()), (1008, b"key".as_slice(), expire));
            assert!(e.as_ref().is_raw());
            let mut e = e.rekeyed(b"other", Some(9));
            assert!(e.as_ref().is_raw());
            assert!(e.as_mut().overwrite(Payload::Str(&[b'y'; 1008])));
            assert!(!e.as_ref().is_raw());
        }
    }

    #[test]
    fn a_long_string_is_shared_by_copies_and_moves_and_edited_in_place_when_it_is_alone() {
        for expire in [None, Some(7)] {
            let given = Buffer::from(vec![b'x'; LONG_STRING]);
            let mut e = Entry::long(b"key", given.clone(), expire);
            e.as_mut().set_lru(5);
            let Payload::Str(s) = e.as_ref().payload() else { panic!("a string") };
            assert!(std::ptr::eq(s, &given[..]));
            assert!(e.as_ref().bytes() > LONG_STRING && e.as_ref().block_bytes() < 100);
            let copy = Entry::duplicate(e.as_ref());
            assert!(std::ptr::eq(copy.as_ref().long().expect("long").as_ptr(), s.as_ptr()));
            assert!(!e.as_mut().overwrite(Payload::Str(&[b'y'; LONG_STRING])), "it is not copied over");
            drop((given, copy));
            let at = e.as_ref().long().expect("long").as_ptr();
            let e = e.rekeyed(b"other", Some(9)).splice(0, b"y");
            assert_eq!(
                e.as_ref().long().map(|long| (long.as_ptr(), long[0], long[1])),
                Some((at, b'y', b'x'))
            );
            assert_eq!(
                (e.as_ref().key(), e.as_ref().expire(), e.as_ref().lru()),
                (&b"other"[..], Some(9), 5)
            );
            assert!(e.as_ref().is_raw());
        }
    }

    #[test]
    fn a_string_becomes_long_when_it_is_edited_to_be() {
        let mut e = Entry::string(b"key", b"value", Some(7));
        e.as_mut().set_epoch(3);
        e.as_mut().set_lru(5);
        let e = e.splice(LONG_STRING, b"!");
        let long = e.as_ref().long().expect("long");
        assert_eq!((long.len(), &long[..7], long[LONG_STRING]), (LONG_STRING + 1, &b"value\0\0"[..], b'!'));
        assert_eq!((e.as_ref().key(), e.as_ref().expire()), (&b"key"[..], Some(7)));
        assert_eq!((e.as_ref().epoch(), e.as_ref().lru(), e.as_ref().is_raw()), (3, 5, true));
        assert!(Entry::string(b"key", &[b'x'; LONG_STRING], None).as_ref().long().is_some());
        assert!(Entry::string(b"key", &[b'x'; LONG_STRING - 1], None).as_ref().long().is_none());
    }

    #[test]
    fn overwriting_in_place_needs_the_same_shape() {
        let mut e = Entry::string(b"key", b"value", None);
        assert!(e.as_mut().overwrite(Payload::Str(b"VALUE")));
        assert!(matches!(e.as_ref().payload(), Payload::Str(b"VALUE")));
        assert!(!e.as_mut().overwrite(Payload::Str(b"longer")));
        assert!(!e.as_mut().set_expire_in_place(1));
        let r = e.rekeyed(b"other", Some(9));
        assert_eq!(r.as_ref().key(), b"other");
        assert_eq!(r.as_ref().expire(), Some(9));
    }
}
