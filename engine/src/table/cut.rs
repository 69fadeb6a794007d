//! The cut's side of a table: attaching a capture, and the walker's way through the segments.
//!
//! While a capture is attached, an entry whose epoch is not the table's is *unvisited*: part of the cut and not yet
//! delivered. The writers' methods hand such an entry over before they change it; here the walker visits the others in
//! hash order and stamps them. What is delivered to whom, and in what steps, is left to [`crate::cut`].

use super::Table;
use crate::cut::capture::Capture;
use crate::entry::{EntryMut, EntryRef};
use crate::hash::hash;

/// Aborted walks in a row after which the next one restamps the table, so that 16-bit epochs never meet again.
const MAX_ABORTS: u16 = 60_000;
/// Entries ahead of the one being visited whose blocks are fetched.
const PREFETCH_AHEAD: usize = 3;

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

impl Table {
    /// Is this entry part of the running cut and not yet delivered?
    #[inline]
    pub(crate) fn unvisited(&self, e: EntryRef<'_>) -> bool {
        self.capture.is_some() && e.epoch() != self.epoch
    }

    /// Attaches a capture: every entry there is now becomes unvisited.
    pub(crate) fn attach(&mut self, capture: Capture) {
        debug_assert!(self.capture.is_none());
        if self.aborts >= MAX_ABORTS {
            self.aborts = 0;
            let epoch = self.epoch;
            for seg in self.directory.iter_mut() {
                seg.occupied().for_each(|i| seg.entry_mut(i).set_epoch(epoch));
            }
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
        let seg = self.directory.get_mut(position);
        let occupied = seg.occupied();
        occupied.for_each(|i| seg.prefetch_header(i));
        let mut ahead = occupied.skip(PREFETCH_AHEAD);
        for i in occupied {
            if let Some(next) = ahead.next() {
                seg.prefetch_block(next);
            }
            let e = seg.entry_mut(i);
            if e.as_ref().epoch() == epoch {
                continue;
            }
            let verdict = visit(e);
            if matches!(verdict, Visit::Done | Visit::DoneStop) {
                seg.entry_mut(i).set_epoch(epoch);
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
            seg.entry_mut(i).set_epoch(epoch);
        }
    }

    /// The entry to read without marking anything as changed: for the cut's walker.
    pub(crate) fn peek_mut(&mut self, key: &[u8]) -> Option<EntryMut<'_>> {
        let h = hash(key);
        let seg = self.segment_mut(h)?;
        let i = seg.find(h, key)?;
        Some(seg.entry_mut(i))
    }
}
