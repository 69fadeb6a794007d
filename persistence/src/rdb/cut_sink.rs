//! A cut, as an RDB stream: the encoder as the engine's [`CutSink`].
//!
//! What the engine holds in a packed encoding is copied as it stands; a table is written element by element,
//! at once or, if it is huge, in the pieces in which the cut delivers it. An opaque value is bytes of this format already.

use super::encoder::RdbEncoder;
use super::format::{quicklist_node, value_type};
use sluice_engine::internals::{EntryRef, NodeView, Payload, Table};
use sluice_engine::{CutSink, Element, EntryMeta, HugeKind, ValueView};

impl RdbEncoder {
    #[inline]
    fn head(&mut self, meta: &EntryMeta<'_>, value_type: u8) {
        self.key(meta.db, meta.key, meta.expire_at_ms, meta.lru, value_type);
    }

    fn node(&mut self, node: NodeView<'_>) {
        match node {
            NodeView::Packed(listpack) => {
                self.length(quicklist_node::PACKED);
                self.string(listpack.as_bytes());
            }
            NodeView::Plain(item) => {
                self.length(quicklist_node::PLAIN);
                self.string(item);
            }
        }
    }

    fn table(&mut self, table: &Table) {
        self.length(table.len() as u64);
        table.iter().for_each(|element| self.table_element(element));
    }

    /// A whole value behind its `head`, which is given the byte of its type.
    #[inline]
    pub(super) fn value(&mut self, value: ValueView<'_>, head: impl Fn(&mut Self, u8)) {
        match value {
            ValueView::Str(string) => {
                head(self, value_type::STRING);
                self.string(string);
            }
            ValueView::Int(value) => {
                head(self, value_type::STRING);
                self.int(value);
            }
            ValueView::List(list) => {
                head(self, value_type::LIST_QUICKLIST_2);
                self.length(list.node_count() as u64);
                list.nodes().for_each(|node| self.node(node));
            }
            ValueView::Hash(hash) => match (hash.listpack(), hash.table()) {
                (Some(pairs), _) => {
                    head(self, value_type::HASH_LISTPACK);
                    self.string(pairs.as_bytes());
                }
                (None, Some(table)) => {
                    head(self, value_type::HASH);
                    self.table(table);
                }
                (None, None) => debug_assert!(false, "a hash in an encoding unknown here"),
            },
            ValueView::Set(set) => match (set.intset(), set.table()) {
                (Some(members), _) => {
                    head(self, value_type::SET_INTSET);
                    self.string(members.as_bytes());
                }
                (None, Some(table)) => {
                    head(self, value_type::SET);
                    self.table(table);
                }
                (None, None) => debug_assert!(false, "a set in an encoding unknown here"),
            },
            ValueView::ZSet(zset) => match (zset.listpack(), zset.table()) {
                (Some(pairs), _) => {
                    head(self, value_type::ZSET_LISTPACK);
                    self.string(pairs.as_bytes());
                }
                (None, Some(table)) => {
                    head(self, value_type::ZSET_2);
                    self.table(table);
                }
                (None, None) => debug_assert!(false, "a sorted set in an encoding unknown here"),
            },
            ValueView::Opaque(value) => {
                let (value_type, bytes) = value.split();
                head(self, value_type);
                self.buffer.extend_from_slice(bytes);
            }
        }
    }

    #[inline]
    fn table_element(&mut self, element: EntryRef<'_>) {
        self.string(element.key());
        match element.payload() {
            Payload::Str(value) => self.string(value),
            Payload::Int(value) => self.int(value),
            Payload::Score(score) => self.score(score),
            Payload::Unit => {}
            Payload::Value(_) => debug_assert!(false, "a collection inside a collection"),
        }
    }
}

impl CutSink for RdbEncoder {
    #[inline]
    fn entry(&mut self, meta: &EntryMeta<'_>, value: ValueView<'_>) {
        self.value(value, |encoder, value_type| encoder.head(meta, value_type));
    }

    fn begin_huge(&mut self, meta: &EntryMeta<'_>, kind: HugeKind, count: u64) {
        let value_type = match kind {
            HugeKind::Hash => value_type::HASH,
            HugeKind::Set => value_type::SET,
            HugeKind::ZSet => value_type::ZSET_2,
            HugeKind::List => value_type::LIST_QUICKLIST_2,
            // It begins with the type it came as, and has no count but its own.
            HugeKind::Opaque(_, value_type) => return self.head(meta, value_type),
        };
        self.head(meta, value_type);
        self.length(count);
    }

    #[inline]
    fn element(&mut self, element: Element<'_>) {
        match element {
            Element::Field(field, value) => {
                self.string(field);
                self.string(value);
            }
            Element::Member(member) => self.string(member),
            Element::Scored(member, score) => {
                self.string(member);
                self.score(score);
            }
            Element::Node(node) => self.node(node),
            Element::Bytes(bytes) => self.buffer.extend_from_slice(bytes),
        }
    }

    fn end_huge(&mut self) {}

    #[inline]
    fn pending(&self) -> usize {
        RdbEncoder::pending(self)
    }
}
