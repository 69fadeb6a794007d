//! The list: a quicklist, that is, a sequence of nodes of a few kilobytes, most of them listpacks.
//!
//! Pushing and popping at the ends touch one node. Reaching an index steps over whole runs of nodes
//! from the nearer end, then over the elements of one node. A clone shares everything with its
//! original and costs a reference a few hundred kilobytes of data, whichever of the two is written to
//! afterwards copies just the node it changes: this is how a cut takes a list of any size at once.
//!
//! Node sizes follow `list-max-listpack-size`, which callers pass as a [`NodeLimit`] to whatever may
//! add bytes. An element too large for a node of that size stands alone, outside any listpack, as in
//! the second quicklist format of RDB files, which [`List::nodes`] and the `push_*_node` functions serve.

mod node;
mod spine;

pub use node::{NodeLimit, NodeView};

use crate::encoding::{Listpack, LpValue};
use node::{Node, NodeIter};
use spine::{Place, Spine};

/// The place of a node in a list that does not change meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct NodeCursor(spine::Place);

/// A list of byte strings. Indices count from 0 at the front.
#[derive(Clone, Default)]
pub struct List {
    spine: Spine,
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl List {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.spine.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The list as it is now, for a reader on another thread: shares all nodes, copies no elements.
    pub fn snapshot(&self) -> Self {
        self.clone()
    }

    /// Bytes allocated, by the capacity of every node; takes time by the number of nodes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.spine.memory()
    }

    /// Does it take more bytes than this? Looks at no more nodes than it takes to know.
    pub(crate) fn is_longer_than(&self, bytes: usize) -> bool {
        self.spine.is_longer_than(bytes)
    }

    // The ends.

    /// The first element.
    pub fn front(&self) -> Option<LpValue<'_>> {
        self.spine.first().map(|place| self.spine.node(place).get(0))
    }

    /// The last element.
    pub fn back(&self) -> Option<LpValue<'_>> {
        let node = self.spine.node(self.spine.last()?);
        Some(node.get(node.len() - 1))
    }

    /// Adds `text` before all others.
    pub fn push_front(&mut self, text: &[u8], limit: NodeLimit) {
        match self.spine.first() {
            Some(place) if self.spine.node(place).accepts(text.len(), limit) => {
                self.spine.edit(place, |node| node.insert(0, text));
            }
            _ => self.spine.push_front(Node::single(text, limit)),
        }
    }

    /// Adds `text` after all others.
    pub fn push_back(&mut self, text: &[u8], limit: NodeLimit) {
        match self.spine.last() {
            Some(place) if self.spine.node(place).accepts(text.len(), limit) => {
                self.spine.edit(place, |node| node.push_back(text));
            }
            _ => self.spine.push_back(Node::single(text, limit)),
        }
    }

    /// Removes the first element and returns its text.
    pub fn pop_front(&mut self) -> Option<Vec<u8>> {
        let text = self.front()?.to_vec();
        self.drop_front();
        Some(text)
    }

    /// Removes the last element and returns its text.
    pub fn pop_back(&mut self) -> Option<Vec<u8>> {
        let text = self.back()?.to_vec();
        self.drop_back();
        Some(text)
    }

    /// Removes the first element, which the caller has read by [`Self::front`]; false if there is none.
    pub fn drop_front(&mut self) -> bool {
        let Some(place) = self.spine.first() else { return false };
        self.spine.edit(place, |node| node.remove(0, 1));
        true
    }

    /// Removes the last element, which the caller has read by [`Self::back`]; false if there is none.
    pub fn drop_back(&mut self) -> bool {
        let Some(place) = self.spine.last() else { return false };
        self.spine.edit(place, |node| node.remove(node.len() - 1, 1));
        true
    }

    // By index.

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<LpValue<'_>> {
        let (place, offset) = self.spine.seek(index)?;
        Some(self.spine.node(place).get(offset))
    }

    /// Replaces the element at `index`; false if there is no such index.
    pub fn set(&mut self, index: usize, text: &[u8], limit: NodeLimit) -> bool {
        let Some((place, offset)) = self.spine.seek(index) else { return false };
        let node = self.spine.node(place);
        if node.len() == 1 {
            self.spine.edit(place, |node| *node = Node::single(text, limit));
        } else if node.accepts_instead(offset, text.len(), limit) {
            self.spine.edit(place, |node| node.replace(offset, text));
        } else {
            self.spine.edit(place, |node| node.remove(offset, 1));
            self.insert(index, text, limit);
        }
        true
    }

    /// Puts `text` before the element at `index`, or at the end if `index` is the length; false beyond it.
    pub fn insert(&mut self, index: usize, text: &[u8], limit: NodeLimit) -> bool {
        if index == self.len() {
            self.push_back(text, limit);
            return true;
        }
        loop {
            let Some((place, offset)) = self.spine.seek(index) else { return false };
            let node = self.spine.node(place);
            if node.accepts(text.len(), limit) {
                self.spine.edit(place, |node| node.insert(offset, text));
                return true;
            }
            if offset == 0 {
                match self.spine.prev(place) {
                    Some(before) if self.spine.node(before).accepts(text.len(), limit) => {
                        self.spine.edit(before, |node| node.push_back(text));
                    }
                    _ => self.spine.insert(place, Node::single(text, limit)),
                }
                return true;
            }
            // Full, and the place is inside. Halve the node and look again; but an element that has to
            // stand alone needs the node parted just here.
            let at = if limit.stands_alone(text.len()) { offset } else { node.len() / 2 };
            self.spine.split(place, at);
        }
    }

    /// Removes up to `count` elements from `start` on; how many there were.
    pub fn remove_range(&mut self, start: usize, count: usize) -> usize {
        let count = count.min(self.len().saturating_sub(start));
        let mut left = count;
        while left > 0 {
            let (place, offset) = self.spine.seek(start).expect("start + left is within the length");
            left -= match self.spine.remove_whole(place, offset, left) {
                0 => {
                    let run = left.min(self.spine.node(place).len() - offset);
                    self.spine.edit(place, |node| node.remove(offset, run));
                    run
                }
                removed => removed,
            };
        }
        count
    }

    /// Keeps only the `count` elements from `start` on.
    pub fn trim(&mut self, start: usize, count: usize) {
        let end = start.saturating_add(count).min(self.len());
        self.remove_range(end, usize::MAX);
        self.remove_range(0, start);
    }

    // By value.

    /// The index of the first element equal to `text`: the pivot of `LINSERT`.
    pub fn find(&self, text: &[u8]) -> Option<usize> {
        let (mut before, mut place) = (0, self.spine.first());
        while let Some(at) = place {
            let node = self.spine.node(at);
            if let Some(offset) = node.find(text) {
                return Some(before + offset);
            }
            before += node.len();
            place = self.spine.next(at);
        }
        None
    }

    /// Removes elements equal to `text` as `LREM` does: the first `count`, the last `-count` if it is
    /// negative, all if it is 0. How many were removed.
    pub fn remove(&mut self, count: i64, text: &[u8]) -> usize {
        let backward = count < 0;
        let wanted = if count == 0 { u64::MAX } else { count.unsigned_abs() };
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut removed = 0;
        let mut place = if backward { self.spine.last() } else { self.spine.first() };
        while let Some(at) = place {
            if removed == wanted {
                break;
            }
            let mut gone = false;
            // Looking first keeps a node without the element shared with its snapshots.
            if self.spine.node(at).find(text).is_some() {
                let here = |node: &mut Node| node.remove_equal(text, wanted - removed, backward);
                let (n, emptied) = self.spine.edit(at, here);
                (removed, gone) = (removed + n, emptied);
            }
            place = match (backward, gone) {
                (true, _) => self.spine.prev(at),
                (false, false) => self.spine.next(at),
                (false, true) => self.spine.settle(at),
            };
        }
        removed
    }

    // Reading on.

    /// All elements from the front.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// The elements from `index` to the back.
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        let at = self.spine.seek(index);
        Iter {
            spine: &self.spine,
            place: at.map(|(place, _)| place),
            node: at.map(|(place, offset)| self.spine.node(place).iter_from(offset)),
        }
    }

    /// The elements from `index` to the front, in that order.
    pub fn iter_back_from(&self, index: usize) -> IterBack<'_> {
        let at = self.spine.seek(index);
        IterBack {
            spine: &self.spine,
            place: at.map(|(place, _)| place),
            node: at.map(|(place, offset)| self.spine.node(place).iter_to(offset)),
        }
    }

    /// `count` elements from `start` on, as `LRANGE` replies them.
    pub fn range(&self, start: usize, count: usize) -> impl Iterator<Item = LpValue<'_>> + '_ {
        self.iter_from(start).take(count)
    }

    // Nodes, for RDB files.

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.spine.node_count()
    }

    /// A cursor at the first node, for walks that pause; valid while the list does not change.
    pub fn first_node(&self) -> Option<NodeCursor> {
        self.spine.first().map(NodeCursor)
    }

    /// The node at a cursor, and the cursor of the next.
    pub fn node_at(&self, at: NodeCursor) -> (NodeView<'_>, Option<NodeCursor>) {
        (self.spine.node(at.0).view(), self.spine.next(at.0).map(NodeCursor))
    }

    /// The nodes as they stand, from the front.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> + '_ {
        std::iter::successors(self.spine.first(), |&place| self.spine.next(place))
            .map(|place| self.spine.node(place).view())
    }

    /// Adds a node at the back as it stands, or element by element if it is larger than `limit` allows.
    pub fn push_packed_node(&mut self, listpack: Listpack, limit: NodeLimit) {
        if listpack.is_empty() {
            return;
        }
        if limit.allows(listpack.byte_len(), listpack.len()) {
            self.spine.push_back(Node::Packed(listpack));
        } else {
            listpack.iter().for_each(|value| self.push_back(value.as_bytes(&mut itoa::Buffer::new()), limit));
        }
    }

    /// Adds one element at the back that came as a node of its own.
    pub fn push_plain_node(&mut self, text: Vec<u8>, limit: NodeLimit) {
        if limit.stands_alone(text.len()) {
            self.spine.push_back(Node::Plain(text.into_boxed_slice()));
        } else {
            self.push_back(&text, limit);
        }
    }
}

/// Elements from some index to the back.
#[derive(Clone)]
pub struct Iter<'a> {
    spine: &'a Spine,
    place: Option<Place>,
    node: Option<NodeIter<'a>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = LpValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<LpValue<'a>> {
        loop {
            if let Some(value) = self.node.as_mut()?.next() {
                return Some(value);
            }
            self.place = self.place.and_then(|place| self.spine.next(place));
            self.node = self.place.map(|place| self.spine.node(place).iter_from(0));
        }
    }
}

/// Elements from some index to the front.
#[derive(Clone)]
pub struct IterBack<'a> {
    spine: &'a Spine,
    place: Option<Place>,
    node: Option<NodeIter<'a>>,
}

impl<'a> Iterator for IterBack<'a> {
    type Item = LpValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<LpValue<'a>> {
        loop {
            if let Some(value) = self.node.as_mut()?.next_back() {
                return Some(value);
            }
            self.place = self.place.and_then(|place| self.spine.prev(place));
            self.node = self.place.map(|place| {
                let node = self.spine.node(place);
                node.iter_to(node.len() - 1)
            });
        }
    }
}

#[cfg(test)]
mod tests;
