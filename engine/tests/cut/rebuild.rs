//! A consumer of cuts: keeps what was delivered, checks the protocol of delivery, loads it into a fresh engine.

use crate::DATABASES;
use crate::replay::Replay;
use sluice_engine::internals::{Hash, List, Loader, NodeLimit, NodeView, Opaque, Set, TypeName, Value, ZSet};
use sluice_engine::{Cut, CutSink, Element, Engine, EntryMeta, HugeKind, ValueView};
use std::collections::HashMap;

/// A delivered value.
#[derive(Clone)]
pub(crate) enum Content {
    Str(Vec<u8>),
    Int(i64),
    Value(Value),
}

/// A delivered key.
#[derive(Clone)]
pub(crate) struct Delivered {
    pub(crate) db: u32,
    pub(crate) key: Vec<u8>,
    expire: Option<i64>,
    lru: u32,
    content: Content,
}

impl Delivered {
    fn new(meta: &EntryMeta<'_>, content: Content) -> Delivered {
        let EntryMeta { db, key, expire_at_ms, lru } = *meta;
        Delivered { db, key: key.to_vec(), expire: expire_at_ms, lru, content }
    }

    /// Loads the key; false where it was there.
    pub(crate) fn load(&self, loader: &mut Loader) -> bool {
        match &self.content {
            Content::Str(v) => loader.string(self.db, &self.key, v, self.expire, self.lru),
            Content::Int(v) => loader.int(self.db, &self.key, *v, self.expire, self.lru),
            Content::Value(v) => loader.value(self.db, &self.key, v.clone(), self.expire, self.lru),
        }
    }
}

/// A huge value whose elements come in.
struct Huge {
    key: Delivered,
    expected: u64,
    received: u64,
    /// What an opaque value consists of, so far.
    bytes: Vec<u8>,
}

/// An opaque value: all in these tests are of this type.
pub(crate) fn opaque(bytes: Vec<u8>) -> Value {
    let name = TypeName::new("stream").expect("a name");
    Value::Opaque(Opaque::new(name, bytes).expect("it is not empty"))
}

/// Everything a cut delivered.
pub(crate) struct Image {
    offset: u64,
    sizes: Vec<(u32, u64, u64)>,
    pub(crate) entries: Vec<Delivered>,
    huge: Option<Huge>,
    pending: usize,
    limits: sluice_engine::internals::Limits,
}

impl Image {
    pub(crate) fn new(cut: &Cut) -> Image {
        Image {
            offset: cut.offset(),
            sizes: cut.db_sizes().to_vec(),
            entries: Vec::new(),
            huge: None,
            pending: 0,
            limits: sluice_engine::internals::Limits::default(),
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The consumer has taken the bytes gathered so far.
    pub(crate) fn take_pending(&mut self) {
        self.pending = 0;
    }

    /// Every key came once, and as many as the cut announced.
    pub(crate) fn check_complete(&self) {
        assert!(self.huge.is_none(), "a huge value was left half delivered");
        let mut seen = HashMap::new();
        let mut sizes: HashMap<u32, (u64, u64)> = HashMap::new();
        for e in &self.entries {
            let key = String::from_utf8_lossy(&e.key);
            assert!(seen.insert((e.db, &e.key), ()).is_none(), "{key:?} of database {} came twice", e.db);
            let size = sizes.entry(e.db).or_default();
            size.0 += 1;
            size.1 += u64::from(e.expire.is_some());
        }
        let announced: HashMap<u32, (u64, u64)> = self.sizes.iter().map(|s| (s.0, (s.1, s.2))).collect();
        assert_eq!(sizes, announced, "keys and keys with expiry by database");
    }

    /// Loads the image into a fresh engine.
    pub(crate) fn load(&self) -> Replay {
        let engine = Engine::builder().databases(DATABASES).build();
        let mut loader = engine.loader();
        for e in &self.entries {
            assert!(e.load(&mut loader), "each key is loaded once");
        }
        assert!(loader.flush(), "each key is loaded once");
        loader.finish();
        Replay::new(engine)
    }
}

impl CutSink for Image {
    fn entry(&mut self, meta: &EntryMeta<'_>, value: ValueView<'_>) {
        assert!(self.huge.is_none(), "an entry inside of a huge value");
        let content = match value {
            ValueView::Str(v) => Content::Str(v.to_vec()),
            ValueView::Int(v) => Content::Int(v),
            ValueView::List(v) => Content::Value(Value::List(v.clone())),
            ValueView::Hash(v) => Content::Value(Value::Hash(v.clone())),
            ValueView::Set(v) => Content::Value(Value::Set(v.clone())),
            ValueView::ZSet(v) => Content::Value(Value::ZSet(v.clone())),
            ValueView::Opaque(v) => Content::Value(Value::Opaque(v.clone())),
        };
        if let Content::Value(v) = &content {
            assert!(!v.is_empty(), "an empty collection was delivered");
        }
        self.pending += 50;
        self.entries.push(Delivered::new(meta, content));
    }

    fn begin_huge(&mut self, meta: &EntryMeta<'_>, kind: HugeKind, count: u64) {
        assert!(self.huge.is_none(), "a huge value inside of another");
        assert!(count > 0, "an empty collection was delivered");
        let mut bytes = Vec::new();
        let value = match kind {
            HugeKind::Hash => Value::Hash(Hash::new()),
            HugeKind::Set => Value::Set(Set::new()),
            HugeKind::ZSet => Value::ZSet(ZSet::new()),
            HugeKind::List => Value::List(List::new()),
            HugeKind::Opaque(_, first) => {
                bytes.push(first);
                opaque(vec![first])
            }
        };
        self.pending += 50;
        let key = Delivered::new(meta, Content::Value(value));
        self.huge = Some(Huge { key, expected: count, received: 0, bytes });
    }

    fn element(&mut self, element: Element<'_>) {
        let huge = self.huge.as_mut().expect("an element outside of a huge value");
        let Content::Value(value) = &mut huge.key.content else { unreachable!() };
        huge.received += 1;
        self.pending += 20;
        let fresh = match (value, element) {
            (Value::Hash(h), Element::Field(field, text)) => h.set(field, text, self.limits.hash()),
            (Value::Set(s), Element::Member(m)) => s.add(m, self.limits.intset()),
            (Value::ZSet(z), Element::Scored(m, score)) => z.insert(m, score, self.limits.zset()).is_none(),
            (Value::List(l), Element::Node(NodeView::Packed(p))) => {
                l.push_packed_node(p.clone(), NodeLimit::default());
                true
            }
            (Value::List(l), Element::Node(NodeView::Plain(p))) => {
                l.push_plain_node(p.to_vec(), NodeLimit::default());
                true
            }
            (Value::Opaque(_), Element::Bytes(bytes)) => {
                huge.bytes.extend_from_slice(bytes);
                huge.received += bytes.len() as u64 - 1;
                !bytes.is_empty()
            }
            (_, other) => panic!("{other:?} in a value of another kind"),
        };
        let key = String::from_utf8_lossy(&huge.key.key);
        assert!(fresh, "an element of {key:?} came twice: {element:?}");
    }

    fn end_huge(&mut self) {
        let mut huge = self.huge.take().expect("the end of a huge value that never began");
        if !huge.bytes.is_empty() {
            huge.key.content = Content::Value(opaque(huge.bytes));
        }
        let key = String::from_utf8_lossy(&huge.key.key);
        assert_eq!(huge.received, huge.expected, "elements of {key:?}");
        self.entries.push(huge.key);
    }

    fn pending(&self) -> usize {
        self.pending
    }
}
