//! Long strings: bytes that several may hold, and that are edited in place by whoever holds them alone.
//!
//! Half a gigabyte takes a quarter of a second to copy, and whoever copies it holds a shard's lock or a thread that others
//! wait for. So a string of [`LONG_STRING`] bytes and more is a [`Buffer`]: a copy of its entry (for a cut, or under another
//! key) shares the bytes, and RENAME moves them. Shorter ones are copied, which is cheaper than to share them. Commands still
//! copy what comes from a client, and replies what goes to one.
//!
//! A change of bytes that somebody else holds makes a copy first. Bytes nobody holds any more are freed in the background.

use crate::lazy_free::{self, LAZY_FREE_BYTES};
use std::ops::Deref;
use std::sync::Arc;

/// A string as long as this is shared rather than copied.
pub(crate) const LONG_STRING: usize = 1 << 20;
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

/// Bytes that may be shared.
#[derive(Clone)]
pub(crate) struct Buffer(Arc<Block>);

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        Buffer(Arc::new(Block(bytes)))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0.0
    }
}

impl Buffer {
    /// Overwrites it from `offset` on. It grows where needed, a gap is filled with zeros. Nothing else is copied where
    /// nobody else holds the bytes.
    pub(crate) fn splice(&mut self, offset: usize, bytes: &[u8]) {
        let len = self.len().max(offset + bytes.len());
        match Arc::get_mut(&mut self.0) {
            Some(Block(v)) => {
                if len > v.capacity() {
                    v.reserve_exact(len - v.len() + SLACK.min(len));
                }
                v.resize(len, 0);
                v[offset..offset + bytes.len()].copy_from_slice(bytes);
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
            let mut alone = Buffer::from(b"value".to_vec());
            alone.splice(offset, bytes);
            assert_eq!(&alone[..], wanted);
            let other = Buffer::from(b"value".to_vec());
            let mut shared = other.clone();
            shared.splice(offset, bytes);
            assert_eq!((&shared[..], &other[..]), (wanted, &b"value"[..]));
        }
        let mut long = Buffer::from(vec![b'x'; 100]);
        long.splice(100, b"y");
        let at = long.as_ptr();
        (0..50).for_each(|n| long.splice(101 + n, b"z"));
        assert_eq!((long.as_ptr(), long.len()), (at, 151), "the second edit found room");
    }
}
