//! The nodes of a list, in two levels so that neither seeking nor sharing goes node by node.
//!
//! ```text
//! Spine ── chunk ──┬─ slot (count, node)
//!       │          └─ ... up to 64
//!       └─ chunk ─ ...
//! ```
//!
//! Chunks and nodes are reference-counted and copied when written to while shared, so a clone counts
//! up one reference a chunk: about one for each half megabyte of elements. Counts are kept beside the
//! nodes, and [`Spine::edit`] is the one way to change a node, hence they cannot part.

use super::node::Node;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// Nodes in a chunk: a compromise between copying a chunk and walking the chunks.
const CHUNK: usize = 64;

#[derive(Clone)]
struct Slot {
    count: u32,
    node: Arc<Node>,
}

impl Slot {
    fn new(node: Node) -> Self {
        Self { count: count(&node), node: Arc::new(node) }
    }
}

fn count(node: &Node) -> u32 {
    u32::try_from(node.len()).expect("a listpack is smaller than 4 GB")
}

#[derive(Clone)]
struct Chunk {
    /// Elements in all slots.
    count: usize,
    slots: SmallVec<[Slot; 1]>,
}

/// All nodes of a list.
#[derive(Clone, Default)]
pub(super) struct Spine {
    /// Elements in all chunks.
    count: usize,
    chunks: SmallVec<[Arc<Chunk>; 1]>,
}

/// The place of a node, valid until a node is added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    chunk: usize,
    slot: usize,
}

impl Spine {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn node_count(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.slots.len()).sum()
    }

    pub(super) fn memory(&self) -> usize {
        /// The two counters of an `Arc`.
        const COUNTERS: usize = 2 * size_of::<usize>();
        let slots = |chunk: &Arc<Chunk>| -> usize {
            let spilled = if chunk.slots.spilled() { chunk.slots.capacity() * size_of::<Slot>() } else { 0 };
            let nodes: usize = chunk.slots.iter().map(|slot| COUNTERS + slot.node.memory()).sum();
            COUNTERS + size_of::<Chunk>() + spilled + nodes
        };
        let spilled =
            if self.chunks.spilled() { self.chunks.capacity() * size_of::<Arc<Chunk>>() } else { 0 };
        spilled + self.chunks.iter().map(slots).sum::<usize>()
    }

    pub(super) fn is_longer_than(&self, bytes: usize) -> bool {
        let mut sum = 0;
        self.chunks.iter().flat_map(|chunk| &chunk.slots).any(|slot| {
            sum += slot.node.memory();
            sum > bytes
        })
    }

    // Places.

    pub(super) fn first(&self) -> Option<Place> {
        self.settle(Place { chunk: 0, slot: 0 })
    }

    pub(super) fn last(&self) -> Option<Place> {
        let chunk = self.chunks.len().checked_sub(1)?;
        Some(Place { chunk, slot: self.chunks[chunk].slots.len() - 1 })
    }

    pub(super) fn next(&self, place: Place) -> Option<Place> {
        self.settle(Place { slot: place.slot + 1, ..place })
    }

    /// The place before `place`, even if the node at `place` itself has just gone.
    pub(super) fn prev(&self, place: Place) -> Option<Place> {
        match place.slot.checked_sub(1) {
            Some(slot) => Some(Place { slot, ..place }),
            None => {
                let chunk = place.chunk.checked_sub(1)?;
                Some(Place { chunk, slot: self.chunks[chunk].slots.len() - 1 })
            }
        }
    }

    /// What is at `place` now that the node there has gone: the one that followed it.
    pub(super) fn settle(&self, place: Place) -> Option<Place> {
        let chunk = self.chunks.get(place.chunk)?;
        if place.slot < chunk.slots.len() {
            return Some(place);
        }
        (place.chunk + 1 < self.chunks.len()).then_some(Place { chunk: place.chunk + 1, slot: 0 })
    }

    /// The node that holds the element at `index`, and its index in there; steps from the nearer end.
    pub(super) fn seek(&self, index: usize) -> Option<(Place, usize)> {
        if index >= self.count {
            return None;
        }
        let (chunk, index) = step(&self.chunks, self.count, index, |chunk| chunk.count);
        let slots = &self.chunks[chunk];
        let (slot, index) = step(&slots.slots, slots.count, index, |slot| slot.count as usize);
        Some((Place { chunk, slot }, index))
    }

    pub(super) fn node(&self, place: Place) -> &Node {
        &self.chunks[place.chunk].slots[place.slot].node
    }

    // Changes.

    /// Changes the node at `place`, copying it first if it is shared; drops it if that left it empty,
    /// which the second result tells.
    pub(super) fn edit<R>(&mut self, place: Place, change: impl FnOnce(&mut Node) -> R) -> (R, bool) {
        let chunk = Arc::make_mut(&mut self.chunks[place.chunk]);
        let slot = &mut chunk.slots[place.slot];
        let node = Arc::make_mut(&mut slot.node);
        let result = change(node);
        let (before, now) = (slot.count, count(node));
        slot.count = now;
        chunk.count = chunk.count - before as usize + now as usize;
        self.count = self.count - before as usize + now as usize;
        if now == 0 {
            self.remove(place);
        }
        (result, now == 0)
    }

    pub(super) fn push_back(&mut self, node: Node) {
        match self.last() {
            Some(last) => self.insert(Place { slot: last.slot + 1, ..last }, node),
            None => self.insert_chunk(0, smallvec![Slot::new(node)]),
        }
    }

    pub(super) fn push_front(&mut self, node: Node) {
        match self.first() {
            Some(first) => self.insert(first, node),
            None => self.insert_chunk(0, smallvec![Slot::new(node)]),
        }
    }

    /// Puts a node where `place` is; a slot one past the last of its chunk is a place too.
    pub(super) fn insert(&mut self, place: Place, node: Node) {
        let slot = Slot::new(node);
        let full = self.chunks[place.chunk].slots.len() == CHUNK;
        if full && place.slot == CHUNK {
            return self.insert_chunk(place.chunk + 1, smallvec![slot]);
        }
        if full && place.slot == 0 {
            return self.insert_chunk(place.chunk, smallvec![slot]);
        }
        let mut place = place;
        if full {
            let chunk = Arc::make_mut(&mut self.chunks[place.chunk]);
            let tail: SmallVec<[Slot; 1]> = chunk.slots.drain(CHUNK / 2..).collect();
            let moved: usize = tail.iter().map(|slot| slot.count as usize).sum();
            chunk.count -= moved;
            self.count -= moved;
            self.insert_chunk(place.chunk + 1, tail);
            if place.slot > CHUNK / 2 {
                place = Place { chunk: place.chunk + 1, slot: place.slot - CHUNK / 2 };
            }
        }
        let chunk = Arc::make_mut(&mut self.chunks[place.chunk]);
        chunk.count += slot.count as usize;
        self.count += slot.count as usize;
        chunk.slots.insert(place.slot, slot);
    }

    /// Parts the node at `place` in two before its element `index`.
    pub(super) fn split(&mut self, place: Place, index: usize) {
        let (tail, _) = self.edit(place, |node| node.split_off(index));
        self.insert(Place { slot: place.slot + 1, ..place }, tail);
    }

    /// Removes the chunk or else the node that begins with element `offset` of `place`, if `limit`
    /// covers all of it. How many elements went, 0 if neither could.
    pub(super) fn remove_whole(&mut self, place: Place, offset: usize, limit: usize) -> usize {
        let chunk = &self.chunks[place.chunk];
        let in_slot = chunk.slots[place.slot].count as usize;
        if offset != 0 || in_slot > limit {
            0
        } else if place.slot == 0 && chunk.count <= limit {
            let removed = self.chunks.remove(place.chunk).count;
            self.count -= removed;
            removed
        } else {
            self.remove(place);
            in_slot
        }
    }

    fn remove(&mut self, place: Place) {
        let chunk = Arc::make_mut(&mut self.chunks[place.chunk]);
        let slot = chunk.slots.remove(place.slot);
        chunk.count -= slot.count as usize;
        self.count -= slot.count as usize;
        if chunk.slots.is_empty() {
            self.chunks.remove(place.chunk);
        }
    }

    fn insert_chunk(&mut self, at: usize, slots: SmallVec<[Slot; 1]>) {
        let count = slots.iter().map(|slot| slot.count as usize).sum();
        self.count += count;
        self.chunks.insert(at, Arc::new(Chunk { count, slots }));
    }

    /// Checks that every count is what it counts and nothing is empty or too long.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.count, self.chunks.iter().map(|chunk| chunk.count).sum::<usize>());
        for chunk in &self.chunks {
            assert!((1..=CHUNK).contains(&chunk.slots.len()));
            assert_eq!(chunk.count, chunk.slots.iter().map(|slot| slot.count as usize).sum::<usize>());
            for slot in &chunk.slots {
                assert_eq!(slot.count as usize, slot.node.len());
                assert_ne!(slot.count, 0);
            }
        }
    }
}

/// Finds the part that holds element `index` of `total`, stepping from the nearer end; the index of
/// the part, and that of the element in it.
fn step<T>(parts: &[T], total: usize, index: usize, count: impl Fn(&T) -> usize) -> (usize, usize) {
    const SUM: &str = "the index is below the sum of all counts";
    debug_assert!(index < total);
    if index < total / 2 {
        let mut before = 0;
        let part = parts.iter().position(|part| {
            before += count(part);
            index < before
        });
        let part = part.expect(SUM);
        (part, index - (before - count(&parts[part])))
    } else {
        let mut start = total;
        let part = parts.iter().rposition(|part| {
            start -= count(part);
            index >= start
        });
        (part.expect(SUM), index - start)
    }
}
