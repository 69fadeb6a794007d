//! A sequence with fast access by rank: a B+ tree whose inner nodes count what is below them.
//!
//! The tree knows no order of its own. Items are inserted and removed by rank; whoever keeps them sorted finds
//! ranks with [`Tree::partition_point`], as one does in a sorted slice. Everything but iteration takes time by the
//! logarithm of the length; iterating descends once a leaf, that is, once for some dozens of items.
//!
//! ```text
//! inner  | firsts: the first item below each child | counts: items below | nodes | ...up to 64 children
//! leaf   | items, up to 64                                                |
//! ```

use std::ops::Range;

/// Most items of a leaf, and most children of an inner node.
const NODE_MAX: usize = 64;
/// A node with fewer looks for a neighbour to merge with.
const NODE_SPARSE: usize = NODE_MAX / 4;
/// Two neighbours merge where the result leaves room to grow, lest they split again at once.
const MERGED_MAX: usize = NODE_MAX * 3 / 4;

/// The sequence.
pub(super) struct Tree<T> {
    root: Node<T>,
    len: usize,
}

enum Node<T> {
    Leaf(Vec<T>),
    Inner(Box<Inner<T>>),
}

/// Parallel lists, so that a descent reads few cache lines.
struct Inner<T> {
    firsts: Vec<T>,
    counts: Vec<usize>,
    nodes: Vec<Node<T>>,
}

/// Where in the whole sequence an insertion takes place. Runs of insertions at an end are common (a clock as score;
/// files list members from the highest score down): there, full nodes stay full instead of splitting in halves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Front,
    Back,
    Inside,
}

impl Edge {
    /// How many of `len` parts stay in the left node when it splits.
    fn split_at(self, len: usize) -> usize {
        match self {
            Edge::Front => 1,
            Edge::Back => len - 1,
            Edge::Inside => len / 2,
        }
    }
}

impl<T: Copy> Tree<T> {
    /// An empty sequence.
    pub(super) const fn new() -> Self {
        Tree { root: Node::Leaf(Vec::new()), len: 0 }
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated; takes time by the number of nodes.
    pub(super) fn memory(&self) -> usize {
        self.root.memory()
    }

    /// The number of items at the front for which `before` holds. As in slices, no item for which it holds may
    /// follow one for which it does not.
    pub(super) fn partition_point(&self, mut before: impl FnMut(&T) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(items) => return rank + items.partition_point(before),
                Node::Inner(inner) => match inner.firsts.partition_point(&mut before) {
                    0 => return rank,
                    after => {
                        rank += inner.counts[..after - 1].iter().sum::<usize>();
                        node = &inner.nodes[after - 1];
                    }
                },
            }
        }
    }

    /// The item at `rank`.
    pub(super) fn get(&self, rank: usize) -> Option<T> {
        (rank < self.len).then(|| {
            let (leaf, at) = self.leaf(rank);
            leaf[at]
        })
    }

    /// The leaf that holds `rank`, which exists, and where in it.
    fn leaf(&self, rank: usize) -> (&[T], usize) {
        debug_assert!(rank < self.len);
        let (mut node, mut rank) = (&self.root, rank);
        loop {
            match node {
                Node::Leaf(items) => return (items, rank),
                Node::Inner(inner) => {
                    let (child, within) = inner.child_of(rank);
                    (node, rank) = (&inner.nodes[child], within);
                }
            }
        }
    }

    /// The items at these ranks, from either end.
    pub(super) fn range(&self, ranks: Range<usize>) -> Iter<'_, T> {
        let end = ranks.end.min(self.len);
        Iter { tree: self, front: ranks.start.min(end), back: end, ahead: &[], behind: &[] }
    }

    /// Inserts before the item that is now at `rank`, or at the end.
    ///
    /// # Panics
    /// Where `rank` is beyond the end.
    pub(super) fn insert(&mut self, rank: usize, item: T) {
        assert!(rank <= self.len, "rank {rank} of {}", self.len);
        let edge = match rank {
            rank if rank == self.len => Edge::Back,
            0 => Edge::Front,
            _ => Edge::Inside,
        };
        self.len += 1;
        if let Some(right) = self.root.insert(rank, item, edge) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            let mut inner = Inner::with_room();
            inner.push(left);
            inner.push(right);
            self.root = Node::Inner(Box::new(inner));
        }
    }

    /// Removes and returns the item at `rank`.
    ///
    /// # Panics
    /// Where there is none.
    pub(super) fn remove(&mut self, rank: usize) -> T {
        assert!(rank < self.len, "rank {rank} of {}", self.len);
        self.len -= 1;
        let item = self.root.remove(rank);
        while let Node::Inner(inner) = &mut self.root
            && inner.nodes.len() <= 1
        {
            self.root = inner.nodes.pop().unwrap_or(Node::Leaf(Vec::new()));
        }
        item
    }
}

impl<T: Copy> Node<T> {
    /// The first item below; nodes in a tree are not empty, but for the root.
    fn first(&self) -> T {
        match self {
            Node::Leaf(items) => items[0],
            Node::Inner(inner) => inner.firsts[0],
        }
    }

    fn count(&self) -> usize {
        match self {
            Node::Leaf(items) => items.len(),
            Node::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    /// Items of a leaf, children of an inner node.
    fn fill(&self) -> usize {
        match self {
            Node::Leaf(items) => items.len(),
            Node::Inner(inner) => inner.nodes.len(),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Node::Leaf(items) => items.capacity() * size_of::<T>(),
            Node::Inner(inner) => {
                size_of::<Inner<T>>()
                    + inner.firsts.capacity() * size_of::<T>()
                    + inner.counts.capacity() * size_of::<usize>()
                    + inner.nodes.capacity() * size_of::<Node<T>>()
                    + inner.nodes.iter().map(Node::memory).sum::<usize>()
            }
        }
    }

    /// Inserts at `rank`. A node that was full hands back its right part.
    fn insert(&mut self, rank: usize, item: T, edge: Edge) -> Option<Node<T>> {
        match self {
            Node::Leaf(items) => {
                if items.len() < NODE_MAX {
                    items.insert(rank, item);
                    return None;
                }
                let mut all = std::mem::take(items);
                all.insert(rank, item);
                let right = all.split_off(edge.split_at(all.len()));
                if edge == Edge::Front {
                    all.shrink_to(NODE_SPARSE);
                } else {
                    all.shrink_to(NODE_MAX);
                }
                *items = all;
                Some(Node::Leaf(right))
            }
            Node::Inner(inner) => inner.insert(rank, item, edge).map(|right| Node::Inner(Box::new(right))),
        }
    }

    fn remove(&mut self, rank: usize) -> T {
        match self {
            Node::Leaf(items) => items.remove(rank),
            Node::Inner(inner) => inner.remove(rank),
        }
    }

    /// Takes over all of the right neighbour.
    fn append(&mut self, right: Node<T>) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => left.extend(right),
            (Node::Inner(left), Node::Inner(right)) => {
                left.firsts.extend(right.firsts);
                left.counts.extend(right.counts);
                left.nodes.extend(right.nodes);
            }
            _ => unreachable!("neighbours are of one height"),
        }
    }
}

impl<T: Copy> Inner<T> {
    fn with_room() -> Self {
        Inner { firsts: Vec::new(), counts: Vec::new(), nodes: Vec::new() }
    }

    fn push(&mut self, node: Node<T>) {
        self.firsts.push(node.first());
        self.counts.push(node.count());
        self.nodes.push(node);
    }

    /// The child that holds `rank`, and the rank within it. A rank between two children belongs to the right one,
    /// so that only insertions at the very end meet a child's end.
    fn child_of(&self, mut rank: usize) -> (usize, usize) {
        let last = self.counts.len() - 1;
        let mut child = 0;
        while child < last && rank >= self.counts[child] {
            rank -= self.counts[child];
            child += 1;
        }
        (child, rank)
    }

    fn insert(&mut self, rank: usize, item: T, edge: Edge) -> Option<Inner<T>> {
        let (child, within) = self.child_of(rank);
        self.counts[child] += 1;
        if within == 0 {
            self.firsts[child] = item;
        }
        let right = self.nodes[child].insert(within, item, edge)?;
        let moved = right.count();
        self.counts[child] -= moved;
        self.firsts.insert(child + 1, right.first());
        self.counts.insert(child + 1, moved);
        self.nodes.insert(child + 1, right);
        if self.nodes.len() <= NODE_MAX {
            return None;
        }
        let at = edge.split_at(self.nodes.len());
        Some(Inner {
            firsts: self.firsts.split_off(at),
            counts: self.counts.split_off(at),
            nodes: self.nodes.split_off(at),
        })
    }

    fn remove(&mut self, rank: usize) -> T {
        let (child, within) = self.child_of(rank);
        let item = self.nodes[child].remove(within);
        self.counts[child] -= 1;
        if self.counts[child] == 0 {
            self.forget(child);
            return item;
        }
        if within == 0 {
            self.firsts[child] = self.nodes[child].first();
        }
        if self.nodes[child].fill() < NODE_SPARSE {
            self.merge(child);
        }
        item
    }

    fn forget(&mut self, child: usize) -> Node<T> {
        self.firsts.remove(child);
        self.counts.remove(child);
        self.nodes.remove(child)
    }

    /// Joins a sparse child with a neighbour, where both fit in one node.
    fn merge(&mut self, child: usize) {
        let fits = |left: usize| {
            let right = self.nodes.get(left + 1)?;
            (self.nodes[left].fill() + right.fill() <= MERGED_MAX).then_some(left)
        };
        let Some(left) = child.checked_sub(1).and_then(fits).or_else(|| fits(child)) else { return };
        let moved = self.counts[left + 1];
        let right = self.forget(left + 1);
        self.counts[left] += moved;
        self.nodes[left].append(right);
    }
}

/// Items at a run of ranks, from either end.
pub(super) struct Iter<'a, T> {
    tree: &'a Tree<T>,
    front: usize,
    back: usize,
    /// The rest of the leaf at the front; it may reach beyond `back`.
    ahead: &'a [T],
    /// The rest of the leaf at the back; it may reach before `front`.
    behind: &'a [T],
}

impl<T: Copy> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.front >= self.back {
            return None;
        }
        if self.ahead.is_empty() {
            let (leaf, at) = self.tree.leaf(self.front);
            self.ahead = &leaf[at..];
        }
        let (first, rest) = self.ahead.split_first()?;
        (self.ahead, self.front) = (rest, self.front + 1);
        Some(*first)
    }
}

impl<T: Copy> DoubleEndedIterator for Iter<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        if self.front >= self.back {
            return None;
        }
        if self.behind.is_empty() {
            let (leaf, at) = self.tree.leaf(self.back - 1);
            self.behind = &leaf[..=at];
        }
        let (last, rest) = self.behind.split_last()?;
        (self.behind, self.back) = (rest, self.back - 1);
        Some(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl<T: Copy + PartialEq + std::fmt::Debug> Tree<T> {
        fn check(&self) {
            assert_eq!(self.root.check(true), self.len);
        }
    }

    impl<T: Copy + PartialEq + std::fmt::Debug> Node<T> {
        fn check(&self, root: bool) -> usize {
            assert!(root || self.fill() > 0);
            assert!(self.fill() <= NODE_MAX);
            if let Node::Inner(inner) = self {
                assert!(!root || inner.nodes.len() > 1);
                assert_eq!((inner.firsts.len(), inner.counts.len()), (inner.nodes.len(), inner.nodes.len()));
                for (i, node) in inner.nodes.iter().enumerate() {
                    assert_eq!(inner.counts[i], node.check(false));
                    assert_eq!(inner.firsts[i], node.first());
                }
            }
            self.count()
        }
    }

    #[test]
    fn runs_at_either_end_fill_their_nodes() {
        for front in [false, true] {
            let mut tree = Tree::new();
            for i in 0..100_000u64 {
                tree.insert(if front { 0 } else { tree.len() }, i);
            }
            tree.check();
            assert!(tree.memory() < 100_000 * 8 * 12 / 10, "{}", tree.memory());
        }
    }

    #[test]
    fn emptied_from_the_middle_it_gives_its_memory_back() {
        let mut tree = Tree::new();
        for i in 0..50_000u64 {
            tree.insert(i as usize / 2, i);
        }
        tree.check();
        while tree.len() > 10 {
            tree.remove(tree.len() / 3);
        }
        tree.check();
        assert!(tree.memory() < 4096);
        while tree.len() > 0 {
            tree.remove(0);
        }
        tree.check();
        assert!(matches!(tree.root, Node::Leaf(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn behaves_like_a_sorted_vector(
            seed in prop::collection::vec(any::<u32>(), 0..6000),
            ops in prop::collection::vec((any::<bool>(), any::<u32>()), 0..6000),
        ) {
            let mut model: Vec<u32> = Vec::new();
            let mut tree = Tree::new();
            for item in seed {
                let at = tree.partition_point(|x| *x < item);
                prop_assert_eq!(at, model.partition_point(|x| *x < item));
                model.insert(at, item);
                tree.insert(at, item);
            }
            tree.check();
            for (add, n) in ops {
                if add || model.is_empty() {
                    let at = n as usize % (model.len() + 1);
                    // Keep it sorted: repeat a neighbour.
                    let item = model.get(at).or(model.last()).copied().unwrap_or(n);
                    model.insert(at, item);
                    tree.insert(at, item);
                } else {
                    let at = n as usize % model.len();
                    prop_assert_eq!(tree.remove(at), model.remove(at));
                }
            }
            tree.check();
            prop_assert_eq!(tree.range(0..usize::MAX).collect::<Vec<_>>(), model.clone());
            let mut back: Vec<_> = tree.range(0..model.len()).rev().collect();
            back.reverse();
            prop_assert_eq!(back, model.clone());
            for at in (0..model.len()).step_by(97) {
                prop_assert_eq!(tree.get(at), Some(model[at]));
                let part: Vec<_> = tree.range(at..at + 70).collect();
                prop_assert_eq!(part, model[at..(at + 70).min(model.len())].to_vec());
            }
            prop_assert_eq!(tree.get(model.len()), None);
        }
    }
}
