#![allow(unsafe_code)]
//! A fixed block of memory, divided into slots, that io_uring has registered: the kernel has its pages pinned
//! and sends from them without looking them up or copying them.
//!
//! Why unsafe: the block is one anonymous mapping, handed out slot by slot. The rules that make it sound: a slot
//! is in the free list or owned by exactly one [`Slot`], never both; only an owned, not yet frozen slot is written;
//! a frozen one is only read, until its last reference is dropped. The block is a mapping of its own,
//! and not heap memory, so that even after `munmap` a send the kernel has not finished reads the old pages, not somebody else's.

use bytes::Bytes;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Size of a slot in bytes.
pub(crate) const SLOT_BYTES: usize = 256 << 10;

/// The block.
pub(crate) struct Slab {
    base: NonNull<u8>,
    slots: usize,
    free: Mutex<Vec<u16>>,
}

// SAFETY: the mapping belongs to the slab alone and slots are handed out once at a time (see above), so threads never
// share a slot that is being written; the free list has its lock.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Slab {
    /// Maps `slots` slots.
    pub(crate) fn new(slots: u16) -> io::Result<Arc<Self>> {
        let len = usize::from(slots) * SLOT_BYTES;
        // SAFETY: a fresh anonymous private mapping; no existing memory is touched.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(at.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Arc::new(Self { base, slots: slots.into(), free: Mutex::new((0..slots).rev().collect()) }))
    }

    /// The slots as the kernel wants them described, in order.
    pub(crate) fn iovecs(&self) -> Vec<libc::iovec> {
        let at = |i: usize| self.base.as_ptr().wrapping_add(i * SLOT_BYTES).cast();
        (0..self.slots).map(|i| libc::iovec { iov_base: at(i), iov_len: SLOT_BYTES }).collect()
    }

    /// An empty slot, if one is free.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Slot> {
        let index = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Slot { slab: Arc::clone(self), index, len: 0 })
    }

    /// Whether a slot is free.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Which slot these bytes lie in, if any.
    pub(crate) fn slot_of(&self, bytes: &[u8]) -> Option<u16> {
        let offset = (bytes.as_ptr() as usize).checked_sub(self.base.as_ptr() as usize)?;
        (offset + bytes.len() <= self.slots * SLOT_BYTES).then_some((offset / SLOT_BYTES) as u16)
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; every slot holds an Arc of the slab, so none is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.slots * SLOT_BYTES) };
    }
}

/// A slot being filled.
pub(crate) struct Slot {
    slab: Arc<Slab>,
    index: u16,
    len: usize,
}

impl Slot {
    /// Copies as much of `bytes` as fits; returns how much that was.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(SLOT_BYTES - self.len);
        // SAFETY: the target lies in this slot, which nobody else refers to before it is frozen; `bytes` is another borrow, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start().add(self.len), n) };
        self.len += n;
        n
    }

    /// Bytes filled.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes it shared and read-only.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn start(&self) -> *mut u8 {
        self.slab.base.as_ptr().wrapping_add(usize::from(self.index) * SLOT_BYTES)
    }
}

impl AsRef<[u8]> for Slot {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the first `len` bytes of the slot were written by `fill`, and `fill` needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slab.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_filled_found_and_returned() {
        let slab = Slab::new(2).unwrap();
        let mut a = slab.take().unwrap();
        let b = slab.take().unwrap();
        assert!(slab.take().is_none() && !slab.has_free());
        assert_eq!(a.fill(b"hello"), 5);
        assert_eq!(a.fill(&vec![b'x'; SLOT_BYTES]), SLOT_BYTES - 5);
        assert_eq!((a.len(), a.fill(b"more")), (SLOT_BYTES, 0));
        let index = a.index;
        let a = a.freeze();
        let part = a.slice(3..8);
        drop(a);
        assert_eq!((&part[..], slab.slot_of(&part)), (&b"loxxx"[..], Some(index)));
        assert_eq!(slab.slot_of(b"elsewhere"), None);
        drop(part);
        drop(b);
        assert!(slab.take().is_some());
    }
}
