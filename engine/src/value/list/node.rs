//! One node of a list: a listpack within the configured size, or one element too large for any.

use crate::encoding::listpack::{self, Listpack, LpValue};

/// What Redis reckons an entry of a listpack to cost beside its text.
const ENTRY_OVERHEAD: usize = 8;
/// Nodes limited by elements are still limited to this many bytes, as in Redis (`SIZE_SAFETY_LIMIT`).
const SAFE_BYTES: usize = 8192;

/// `list-max-listpack-size`: how large a node may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimit {
    pub(super) bytes: usize,
    pub(super) entries: usize,
}

impl Default for NodeLimit {
    /// 8 KB, Redis' default of -2.
    fn default() -> Self {
        Self::from_config(-2)
    }
}

impl NodeLimit {
    /// Reads the directive as Redis does: -1 to -5 are 4 to 64 KB (anything lower is -5), a positive
    /// number is that many elements within 8 KB, and 0 is 1.
    pub fn from_config(size: i64) -> Self {
        if size < 0 {
            Self { bytes: 4096 << (-size.max(-5) - 1), entries: usize::MAX }
        } else {
            let entries = size.clamp(1, i64::from(i16::MAX)) as usize;
            Self { bytes: SAFE_BYTES, entries }
        }
    }

    /// Whether a listpack of this size is within the limit.
    pub(super) fn allows(self, bytes: usize, entries: usize) -> bool {
        bytes <= self.bytes && entries <= self.entries
    }

    /// Whether an element of `len` bytes is too large for any listpack.
    pub(super) fn stands_alone(self, len: usize) -> bool {
        len.saturating_add(ENTRY_OVERHEAD) > self.bytes
    }
}

/// A node, as an RDB writer sees it.
#[derive(Clone, Copy, Debug)]
pub enum NodeView<'a> {
    /// Many elements.
    Packed(&'a Listpack),
    /// One large element.
    Plain(&'a [u8]),
}

/// A node; never empty while it is in a list.
#[derive(Clone)]
pub(super) enum Node {
    Packed(Listpack),
    Plain(Box<[u8]>),
}

impl Node {
    pub(super) fn single(text: &[u8], limit: NodeLimit) -> Self {
        if limit.stands_alone(text.len()) {
            return Self::Plain(text.into());
        }
        let mut listpack = Listpack::new();
        listpack.push_back(text);
        Self::Packed(listpack)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Packed(listpack) => listpack.len(),
            Self::Plain(_) => 1,
        }
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Packed(listpack) => listpack.memory(),
                Self::Plain(text) => text.len(),
            }
    }

    pub(super) fn view(&self) -> NodeView<'_> {
        match self {
            Self::Packed(listpack) => NodeView::Packed(listpack),
            Self::Plain(text) => NodeView::Plain(text),
        }
    }

    /// Whether one more element of `len` bytes may go in.
    #[inline]
    pub(super) fn accepts(&self, len: usize, limit: NodeLimit) -> bool {
        match self {
            Self::Packed(listpack) => limit.allows(
                listpack.byte_len().saturating_add(len).saturating_add(ENTRY_OVERHEAD),
                listpack.len() + 1,
            ),
            Self::Plain(_) => false,
        }
    }

    /// Whether an element of `len` bytes may take the place of the one at `index`.
    pub(super) fn accepts_instead(&self, index: usize, len: usize, limit: NodeLimit) -> bool {
        match self {
            Self::Packed(listpack) => {
                let without = listpack.byte_len() - self.get(index).text_len().min(listpack.byte_len());
                limit.allows(without.saturating_add(len).saturating_add(ENTRY_OVERHEAD), listpack.len())
            }
            Self::Plain(_) => false,
        }
    }

    /// The element at `index`, which must exist.
    pub(super) fn get(&self, index: usize) -> LpValue<'_> {
        match self {
            Self::Packed(listpack) => listpack.value(pos(listpack, index)),
            Self::Plain(text) => LpValue::Str(text),
        }
    }

    pub(super) fn find(&self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Packed(listpack) => {
                let found = listpack.find(text, 0)?;
                // Counting again costs only where there is something to find.
                let before = listpack.iter_to(found).count() - 1;
                Some(before)
            }
            Self::Plain(own) => (**own == *text).then_some(0),
        }
    }

    pub(super) fn iter_from(&self, index: usize) -> NodeIter<'_> {
        match self {
            Self::Packed(listpack) => NodeIter::Packed(listpack.iter_from(pos(listpack, index))),
            Self::Plain(text) => NodeIter::Plain(Some(text)),
        }
    }

    pub(super) fn iter_to(&self, index: usize) -> NodeIter<'_> {
        match self {
            Self::Packed(listpack) => NodeIter::Packed(listpack.iter_to(pos(listpack, index))),
            Self::Plain(text) => NodeIter::Plain(Some(text)),
        }
    }

    // Changes. Those that add are preceded by `accepts`, which no plain node passes.

    pub(super) fn push_back(&mut self, text: &[u8]) {
        self.packed().push_back(text);
    }

    pub(super) fn insert(&mut self, index: usize, text: &[u8]) {
        let listpack = self.packed();
        listpack.insert_before(pos(listpack, index), text);
    }

    pub(super) fn replace(&mut self, index: usize, text: &[u8]) {
        let listpack = self.packed();
        listpack.replace(pos(listpack, index), text);
    }

    /// Cuts off the elements from `index` on, which must leave some on either side.
    pub(super) fn split_off(&mut self, index: usize) -> Self {
        Self::Packed(self.packed().split_off(index))
    }

    /// Removes `count` elements from `index` on. May leave the node empty, for the list to drop it.
    pub(super) fn remove(&mut self, index: usize, count: usize) {
        match self {
            Self::Packed(listpack) => {
                listpack.remove_run(pos(listpack, index), count);
            }
            Self::Plain(_) => *self = Self::Packed(Listpack::new()),
        }
    }

    /// Removes up to `wanted` elements equal to `text`, the last ones if `backward`; how many.
    pub(super) fn remove_equal(&mut self, text: &[u8], wanted: usize, backward: bool) -> usize {
        let Self::Packed(listpack) = self else {
            self.remove(0, 1);
            return 1;
        };
        let mut removed = 0;
        if backward {
            let mut next = listpack.last();
            while let Some(pos) = next.filter(|_| removed < wanted) {
                next = listpack.prev(pos);
                if listpack.value(pos).eq_bytes(text) {
                    listpack.remove(pos);
                    removed += 1;
                }
            }
        } else {
            let mut next = listpack.find(text, 0);
            while let Some(pos) = next.filter(|_| removed < wanted) {
                removed += 1;
                next = listpack.remove(pos).and_then(|pos| listpack.find_from(pos, text, 0));
            }
        }
        removed
    }

    fn packed(&mut self) -> &mut Listpack {
        match self {
            Self::Packed(listpack) => listpack,
            Self::Plain(_) => unreachable!("a plain node accepts no further element"),
        }
    }
}

fn pos(listpack: &Listpack, index: usize) -> listpack::Pos {
    listpack.at(index as i64).expect("the list's counts are those of its nodes")
}

/// Elements of one node.
#[derive(Clone)]
pub(super) enum NodeIter<'a> {
    Packed(listpack::Iter<'a>),
    Plain(Option<&'a [u8]>),
}

impl<'a> NodeIter<'a> {
    #[inline]
    pub(super) fn next(&mut self) -> Option<LpValue<'a>> {
        match self {
            Self::Packed(iter) => iter.next(),
            Self::Plain(text) => text.take().map(LpValue::Str),
        }
    }

    #[inline]
    pub(super) fn next_back(&mut self) -> Option<LpValue<'a>> {
        match self {
            Self::Packed(iter) => iter.next_back(),
            Self::Plain(text) => text.take().map(LpValue::Str),
        }
    }
}
