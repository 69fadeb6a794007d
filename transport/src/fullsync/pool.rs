//! Buffers that come back: chunks are encoded into vectors that return to the pool when the last replica
//! has been sent them, so a full sync of any size lives on a handful of allocations.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Size of the chunks a source should produce, in bytes. Large enough that system calls do not matter, small
/// enough that a chunk is still in the core's cache when it is sent.
pub const CHUNK_BYTES: usize = 256 << 10;
/// A returned buffer that grew beyond this many bytes (for one huge value) is freed instead of kept.
const MAX_KEPT_CAPACITY: usize = 4 * CHUNK_BYTES;
/// Buffers kept at most.
const MAX_KEPT: usize = 32;

/// A pool of buffers. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct BufferPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl BufferPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer of at least [`CHUNK_BYTES`] capacity.
    pub fn take(&self) -> PoolBuf {
        let kept = self.lock().pop();
        let vec = kept.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8));
        PoolBuf { vec, pool: self.clone() }
    }

    /// Buffers waiting for use.
    pub fn idle(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer on loan. Dropped, or frozen and all references dropped, it returns to its pool.
#[derive(Debug)]
pub struct PoolBuf {
    vec: Vec<u8>,
    pool: BufferPool,
}

impl PoolBuf {
    /// Makes it shared and read-only, without copying.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for PoolBuf {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.vec
    }
}

impl DerefMut for PoolBuf {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.vec
    }
}

impl AsRef<[u8]> for PoolBuf {
    fn as_ref(&self) -> &[u8] {
        &self.vec
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        let mut vec = std::mem::take(&mut self.vec);
        let mut free = self.pool.lock();
        if vec.capacity() <= MAX_KEPT_CAPACITY && free.len() < MAX_KEPT {
            vec.clear();
            free.push(vec);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_when_its_last_reader_is_done() {
        let pool = BufferPool::new();
        let mut buf = pool.take();
        buf.extend_from_slice(b"chunk");
        let at = buf.as_ptr();
        let a = buf.freeze();
        let b = a.slice(1..3);
        drop(a);
        assert_eq!((pool.idle(), &b[..]), (0, &b"hu"[..]));
        drop(b);
        assert_eq!(pool.idle(), 1);
        let again = pool.take();
        assert!(again.is_empty() && again.as_ptr() == at);
    }

    #[test]
    fn a_buffer_grown_for_a_huge_value_is_not_kept() {
        let pool = BufferPool::new();
        pool.take().resize(MAX_KEPT_CAPACITY * 2, 0);
        assert_eq!(pool.idle(), 0);
    }
}
