//! Long strings: bytes that several may hold, and that are edited in place by whoever holds them alone.
//!
//! Half a gigabyte takes a quarter of a second to copy, and whoever copies it holds a shard's lock or a thread that others
//! wait for. So a string of [`LONG_STRING`] bytes and more is a [`Buffer`]: a copy of its entry (for a cut, or under another
//! key) shares the bytes, and RENAME moves them. Shorter ones are copied, which is cheaper than to share them. Commands still
//! copy what comes from a client, and replies what goes to one.
//!
//! A change of bytes that somebody else holds makes a copy first. Bytes nobody holds any more are freed in the background.

use crate::lazy_free::{self, LAZY_FREE_BYTES};
use bytes::Bytes;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A string as long as this is shared rather than copied.
pub const LONG_STRING: usize = 1 << 20;
/// Room that an edit which makes a buffer longer leaves behind it, at most: the next one then moves nothing.
const SLACK: usize = 1 << 20;

/// Where the bytes are.
struct Block(Vec<u8>);

impl Drop for Block {
    fn drop(&mut self) {
        if self.0.capacity() > LAZY_FREE_BYTES && lazy_free::defers() {
            lazy_free::free(std::mem::take(&mut self.0), 1);
        }
    }
}

/// Bytes that may be shared; a part of a block.
#[derive(Clone)]
pub struct Buffer {
    block: Arc<Block>,
    start: usize,
    end: usize,
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        let end = bytes.len();
        Buffer { block: Arc::new(Block(bytes)), start: 0, end }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.block.0[self.start..self.end]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Bytes {
        Bytes::from_owner(buffer)
    }
}

impl Buffer {
    /// A part of it, which shares the bytes.
    ///
    /// # Panics
    /// Where it has no such part.
    pub fn slice(&self, range: Range<usize>) -> Buffer {
        assert!(range.start <= range.end && range.end <= self.len(), "a part of the buffer");
        Buffer { block: self.block.clone(), start: self.start + range.start, end: self.start + range.end }
    }

    /// The part that `bytes` are, if they lie in it.
    pub fn slice_of(&self, bytes: &[u8]) -> Option<Buffer> {
        let from = (bytes.as_ptr() as usize).checked_sub(self.as_ptr() as usize)?;
        let to = from.checked_add(bytes.len())?;
        (to <= self.len()).then(|| self.slice(from..to))
    }

    /// Does somebody else hold these bytes, or others of their block?
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.block) > 1
    }

    /// Overwrites it from `offset` on. It grows where needed, a gap is filled with zeros. Nothing else is copied where
    /// nobody else holds the bytes.
    pub(crate) fn splice(&mut self, offset: usize, bytes: &[u8]) {
        let len = self.len().max(offset + bytes.len());
        let (start, end) = (self.start, self.end);
        match Arc::get_mut(&mut self.block) {
            Some(block) => {
                let v = &mut block.0;
                // What is behind it in the block is nobody's.
                v.truncate(end);
                if start + len > v.capacity() {
                    v.reserve_exact(start + len - v.len() + SLACK.min(len));
                }
                v.resize(start + len, 0);
                v[start + offset..start + offset + bytes.len()].copy_from_slice(bytes);
                self.end = start + len;
            }
            None => {
                let mut v = Vec::with_capacity(len + if len > self.len() { SLACK.min(len) } else { 0 });
                v.extend_from_slice(&self[..self.len().min(offset)]);
                v.resize(offset, 0);
                v.extend_from_slice(bytes);
                if v.len() < self.len() {
                    v.extend_from_slice(&self[v.len()..]);
                }
                *self = Buffer::from(v);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_the_bytes_and_are_found_by_where_they_lie() {
        let whole = Buffer::from(b"*1 value ..".to_vec());
        let value = whole.slice(3..8);
        assert_eq!(&value[..], b"value");
        assert!(std::ptr::eq(&whole[3], &value[0]));
        let found = whole.slice_of(&value[1..3]).expect("it lies there");
        assert_eq!(&found[..], b"al");
        assert!(value.slice_of(&whole).is_none() && whole.slice_of(b"value").is_none());
        assert_eq!(&Bytes::from(value)[..], b"value");
    }

    #[test]
    fn a_buffer_held_alone_is_edited_in_place_and_a_shared_one_is_copied() {
        let edits: [(usize, &[u8], &[u8]); 6] = [
            (0, b"V", b"Value"),
            (3, b"id", b"valid"),
            (4, b"e and more", b"value and more"),
            (7, b"!", b"value\0\0!"),
            (5, b"", b"value"),
            (6, b"", b"value\0"),
        ];
        for (offset, bytes, wanted) in edits {
            let mut alone = Buffer::from(b"<value>".to_vec()).slice(1..6);
            alone.splice(offset, bytes);
            assert_eq!(&alone[..], wanted);
            let whole = Buffer::from(b"<value>".to_vec());
            let mut shared = whole.slice(1..6);
            shared.splice(offset, bytes);
            assert_eq!((&shared[..], &whole[..]), (wanted, &b"<value>"[..]));
        }
        let mut long = Buffer::from(vec![b'x'; 100]);
        long.splice(100, b"y");
        let at = long.as_ptr();
        (0..50).for_each(|n| long.splice(101 + n, b"z"));
        assert_eq!((long.as_ptr(), long.len()), (at, 151), "the second edit found room");
    }
}
