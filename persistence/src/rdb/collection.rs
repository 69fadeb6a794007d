//! Reads lists, hashes, sets and sorted sets, in every encoding real Redis ever wrote. What else a key may hold is in
//! [`opaque`](super::opaque).
//!
//! Three shapes: one string that the engine takes as it stands (listpack, intset); one string of an older
//! packed encoding, told element by element; and a count with that many elements, which may be huge and
//! is read in bounded steps.

use super::format::{quicklist_node, text_score, value_type};
use super::reading::{Reading, Step};
use super::source::Source;
use super::visitor::{Element, Kind, Packed, RdbVisitor, Refusal, Skipped};
use super::ziplist::{Item, Ziplist};
use super::zipmap::Zipmap;
use super::{Damage, RdbError};
use sluice_engine::internals::{Intset, Listpack};

/// Elements, or nodes, read before the decoder returns to its caller.
const ELEMENTS_PER_STEP: u64 = 512;

/// What is left of a collection that is read element by element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Collection {
    shape: Shape,
    left: u64,
}

/// How one element is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Item,
    ZiplistNode,
    Node,
    Member,
    Field,
    TextScored,
    Scored,
}

impl Collection {
    /// A value that was told whole.
    const DONE: Self = Self { shape: Shape::Item, left: 0 };

    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }
}

impl<S: Source> Reading<S> {
    /// Reads the value of the key in `self.key`, or its count and first elements.
    pub(super) fn value(&mut self, kind: u8, visitor: &mut impl RdbVisitor) -> Result<Collection, RdbError> {
        let (kind, shape) = match kind {
            value_type::LIST => (Kind::List, Shape::Item),
            value_type::LIST_QUICKLIST => (Kind::List, Shape::ZiplistNode),
            value_type::LIST_QUICKLIST_2 => (Kind::List, Shape::Node),
            value_type::SET => (Kind::Set, Shape::Member),
            value_type::HASH => (Kind::Hash, Shape::Field),
            value_type::ZSET => (Kind::ZSet, Shape::TextScored),
            value_type::ZSET_2 => (Kind::ZSet, Shape::Scored),
            packed => return self.packed(packed, visitor).map(|()| Collection::DONE),
        };
        let count = self.input.length()?;
        if count == 0 {
            visitor.skipped(Skipped::Empty(&self.key));
            return Ok(Collection::DONE);
        }
        let key = self.describe(&self.key);
        visitor.begin(&key, kind, count).map_err(|refusal| self.refused(refusal))?;
        let mut collection = Collection { shape, left: count };
        self.elements(&mut collection, visitor)?;
        Ok(collection)
    }

    /// Reads on in a collection.
    pub(super) fn elements(
        &mut self,
        collection: &mut Collection,
        visitor: &mut impl RdbVisitor,
    ) -> Result<Step, RdbError> {
        for _ in 0..ELEMENTS_PER_STEP.min(collection.left) {
            self.input.settle();
            if !self.input.has_next()? {
                return Ok(Step::Starved);
            }
            self.scratch.clear();
            self.element(collection.shape, visitor)?;
            collection.left -= 1;
        }
        if collection.is_done() {
            // A list of nothing but empty nodes told no element: the visitor leaves it out.
            visitor.end().map_err(|refusal| self.refused(refusal))?;
        }
        Ok(Step::More)
    }

    /// Reads one element, or one node of a list.
    #[inline]
    fn element(&mut self, shape: Shape, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let outcome = match shape {
            Shape::Item => {
                let item = self.input.text(&mut self.scratch)?;
                visitor.element(Element::Item(self.input.resolve(&item, &self.scratch)))
            }
            Shape::Member => {
                let member = self.input.text(&mut self.scratch)?;
                visitor.element(Element::Member(self.input.resolve(&member, &self.scratch)))
            }
            Shape::Field => {
                let field = self.input.text(&mut self.scratch)?;
                let value = self.input.text(&mut self.scratch)?;
                visitor.element(Element::Field(
                    self.input.resolve(&field, &self.scratch),
                    self.input.resolve(&value, &self.scratch),
                ))
            }
            Shape::Scored | Shape::TextScored => {
                let member = self.input.text(&mut self.scratch)?;
                let score = if shape == Shape::Scored {
                    f64::from_le_bytes(self.input.array()?)
                } else {
                    self.text_score()?
                };
                if score.is_nan() {
                    return self.input.corrupt("a score that is not a number");
                }
                visitor.element(Element::Scored(self.input.resolve(&member, &self.scratch), score))
            }
            Shape::ZiplistNode => return self.ziplist_node(visitor),
            Shape::Node => return self.node(visitor),
        };
        outcome.map_err(|refusal| self.refused(refusal))
    }

    /// A score in decimal, or one of the length bytes that stand for a value.
    fn text_score(&mut self) -> Result<f64, RdbError> {
        let len = match self.input.byte()? {
            text_score::NAN => return Ok(f64::NAN),
            text_score::INFINITY => return Ok(f64::INFINITY),
            text_score::NEG_INFINITY => return Ok(f64::NEG_INFINITY),
            len => len,
        };
        let mut digits = [0u8; 256];
        for digit in &mut digits[..usize::from(len)] {
            *digit = self.input.byte()?;
        }
        match sluice_engine::internals::num::parse_f64(&digits[..usize::from(len)]) {
            Some(score) => Ok(score),
            None => self.input.corrupt("a score that is not a number"),
        }
    }

    fn ziplist_node(&mut self, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let at = self.input.offset();
        let bytes = self.input.owned()?;
        let ziplist = Ziplist::parse(&bytes).map_err(|damage| unsound(at, "Ziplist", damage))?;
        let mut print = itoa::Buffer::new();
        for item in ziplist.iter() {
            visitor
                .element(Element::Item(text_of(item, &mut print)))
                .map_err(|refusal| self.refused(refusal))?;
        }
        Ok(())
    }

    fn node(&mut self, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let container = self.input.length()?;
        let outcome = match container {
            quicklist_node::PLAIN => {
                let item = self.input.text(&mut self.scratch)?;
                let item = self.input.resolve(&item, &self.scratch);
                if item.is_empty() {
                    return self.input.corrupt("Quicklist integrity check failed: an empty plain node");
                }
                visitor.element(Element::Item(item))
            }
            quicklist_node::PACKED => {
                let node = self.listpack("Listpack")?;
                if node.is_empty() {
                    return Ok(());
                }
                visitor.element(Element::Node(node))
            }
            unknown => {
                let reason =
                    format!("Quicklist integrity check failed: unknown container {unknown} of a node");
                return self.input.corrupt(reason);
            }
        };
        outcome.map_err(|refusal| self.refused(refusal))
    }

    /// A listpack, checked from end to end; `what` it holds.
    pub(super) fn listpack(&mut self, what: &str) -> Result<Listpack, RdbError> {
        let at = self.input.offset();
        Listpack::from_bytes(self.input.owned()?).map_err(|error| unsound(at, what, error))
    }

    /// Reads a collection that is one string.
    fn packed(&mut self, kind: u8, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let packed = match kind {
            value_type::HASH_ZIPMAP => return self.zipmap(visitor),
            value_type::LIST_ZIPLIST | value_type::HASH_ZIPLIST | value_type::ZSET_ZIPLIST => {
                return self.ziplist(kind, visitor);
            }
            value_type::SET_LISTPACK => return self.set_listpack(visitor),
            value_type::MODULE_2
            | value_type::STREAM_LISTPACKS
            | value_type::STREAM_LISTPACKS_2
            | value_type::STREAM_LISTPACKS_3 => return self.opaque(kind, visitor),
            value_type::SET_INTSET => {
                let at = self.input.offset();
                let set =
                    Intset::from_bytes(self.input.owned()?).map_err(|error| unsound(at, "Intset", error))?;
                (!set.is_empty()).then_some(Packed::Set(set))
            }
            value_type::HASH_LISTPACK => {
                let pairs = self.listpack("Hash listpack")?;
                (!pairs.is_empty()).then_some(Packed::Hash(pairs))
            }
            value_type::ZSET_LISTPACK => {
                let pairs = self.listpack("Zset listpack")?;
                (!pairs.is_empty()).then_some(Packed::ZSet(pairs))
            }
            refused => return self.refuse(refused),
        };
        let key = self.describe(&self.key);
        match packed {
            Some(packed) => visitor.packed(&key, packed).map_err(|refusal| self.refused(refusal)),
            None => {
                visitor.skipped(Skipped::Empty(key.name));
                Ok(())
            }
        }
    }

    /// Names a type this server does not hold, and the key.
    fn refuse(&self, kind: u8) -> Result<(), RdbError> {
        let what = match kind {
            // One number, two dialects.
            value_type::VALKEY_HASH_2 if self.is_valkey() => "a hash with fields that expire, of Valkey 9",
            22.. if self.is_valkey() => "a value of a type that is Valkey's alone",
            value_type::HASH_METADATA_PRE_GA..=value_type::HASH_LISTPACK_EX => {
                "a hash with fields that expire"
            }
            value_type::MODULE_PRE_GA => "a module value of a pre-release Redis 4.0",
            _ => {
                let reason = format!("unknown value type {kind}");
                return Err(RdbError::Corrupt { offset: self.entry_at, reason: reason.into() });
            }
        };
        let shown = self.key[..self.key.len().min(128)].escape_ascii();
        let at = if self.key.is_empty() { String::new() } else { format!(" at key \"{shown}\"") };
        let what = format!("{what} (value type {kind}){at}");
        Err(RdbError::Unsupported { offset: self.entry_at, what })
    }

    /// Tells a collection whose elements are all at hand.
    fn tell<'a, V: RdbVisitor>(
        &self,
        visitor: &mut V,
        what: &str,
        kind: Kind,
        count: usize,
        elements: impl FnOnce(&mut V) -> Result<(), Refusal> + 'a,
    ) -> Result<(), RdbError> {
        if count == 0 {
            visitor.skipped(Skipped::Empty(&self.key));
            return Ok(());
        }
        let told = visitor.begin(&self.describe(&self.key), kind, count as u64);
        let told = told.and_then(|()| elements(visitor)).and_then(|()| visitor.end());
        told.map_err(|refusal| self.refused(format!("{what} integrity check failed: {refusal}").into()))
    }

    fn zipmap(&mut self, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let at = self.input.offset();
        let bytes = self.input.owned()?;
        let zipmap = Zipmap::parse(&bytes).map_err(|damage| unsound(at, "Zipmap", damage))?;
        if zipmap.is_empty() {
            return Err(unsound(at, "Zipmap", "no fields"));
        }
        self.tell(visitor, "Zipmap", Kind::Hash, zipmap.len(), |visitor| {
            zipmap.iter().try_for_each(|(field, value)| visitor.element(Element::Field(field, value)))
        })
    }

    fn ziplist(&mut self, kind: u8, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let at = self.input.offset();
        let bytes = self.input.owned()?;
        let what = match kind {
            value_type::LIST_ZIPLIST => "List ziplist",
            value_type::HASH_ZIPLIST => "Hash ziplist",
            _ => "Zset ziplist",
        };
        let ziplist = Ziplist::parse(&bytes).map_err(|damage| unsound(at, what, damage))?;
        let (mut print, mut print_value) = (itoa::Buffer::new(), itoa::Buffer::new());
        let mut items = ziplist.iter();
        if kind == value_type::LIST_ZIPLIST {
            return self.tell(visitor, what, Kind::List, ziplist.len(), |visitor| {
                items.try_for_each(|item| visitor.element(Element::Item(text_of(item, &mut print))))
            });
        }
        if !ziplist.len().is_multiple_of(2) {
            return Err(unsound(at, what, Damage::new(0, "ziplist of pairs with an odd count")));
        }
        if kind == value_type::HASH_ZIPLIST {
            return self.tell(visitor, what, Kind::Hash, ziplist.len() / 2, |visitor| {
                while let (Some(field), Some(value)) = (items.next(), items.next()) {
                    let (field, value) = (text_of(field, &mut print), text_of(value, &mut print_value));
                    visitor.element(Element::Field(field, value))?;
                }
                Ok(())
            });
        }
        let score_of = |item| match item {
            Item::Int(score) => Some(score as f64),
            Item::Bytes(text) => {
                sluice_engine::internals::num::parse_f64(text).filter(|score| !score.is_nan())
            }
        };
        if ziplist.iter().skip(1).step_by(2).any(|score| score_of(score).is_none()) {
            return Err(unsound(at, what, Damage::new(0, "ziplist with a score that is not a number")));
        }
        self.tell(visitor, what, Kind::ZSet, ziplist.len() / 2, |visitor| {
            while let (Some(member), Some(score)) = (items.next(), items.next().and_then(score_of)) {
                visitor.element(Element::Scored(text_of(member, &mut print), score))?;
            }
            Ok(())
        })
    }

    fn set_listpack(&mut self, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let members = self.listpack("Set listpack")?;
        let mut print = itoa::Buffer::new();
        self.tell(visitor, "Set listpack", Kind::Set, members.len(), |visitor| {
            members
                .iter()
                .try_for_each(|member| visitor.element(Element::Member(member.as_bytes(&mut print))))
        })
    }
}

/// An error in the words Redis logs it with, which operators and its test suite look for.
pub(super) fn unsound(offset: u64, what: &str, why: impl std::fmt::Display) -> RdbError {
    RdbError::Corrupt { offset, reason: format!("{what} integrity check failed: {why}").into() }
}

fn text_of<'a>(item: Item<'a>, print: &'a mut itoa::Buffer) -> &'a [u8] {
    match item {
        Item::Bytes(bytes) => bytes,
        Item::Int(value) => print.format(value).as_bytes(),
    }
}
