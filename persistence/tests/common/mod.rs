//! What the tests of this crate share: a dataset as plain collections, and a real redis-server.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]

pub mod redis;
pub mod streams;

use sluice_persistence::rdb::*;
use std::collections::{BTreeMap, BTreeSet};

/// A value in its simplest form.
#[derive(Debug, Clone, PartialEq)]
pub enum Plain {
    Str(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    ZSet(BTreeMap<Vec<u8>, f64>),
    /// The type's name, and the value with the byte of its type.
    Opaque(String, Vec<u8>),
}

/// A key's value and expiry, by database and name.
pub type Keys = BTreeMap<(u32, Vec<u8>), (Plain, Option<i64>)>;

/// Collects what a decoder tells.
#[derive(Debug, Default)]
pub struct Model {
    pub keys: Keys,
    pub aux: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sizes: Vec<(u32, u64, u64)>,
    pub idle: BTreeMap<Vec<u8>, u64>,
    pub freq: BTreeMap<Vec<u8>, u8>,
    pub skipped: Vec<String>,
    open: Option<(u32, Vec<u8>)>,
}

impl Model {
    fn add(&mut self, key: &Key<'_>, value: Plain) -> Result<(), Refusal> {
        let id = (key.db, key.name.to_vec());
        if let Some(idle) = key.idle_secs {
            self.idle.insert(key.name.to_vec(), idle);
        }
        if let Some(freq) = key.freq {
            self.freq.insert(key.name.to_vec(), freq);
        }
        match self.keys.insert(id, (value, key.expire_at_ms)) {
            None => Ok(()),
            Some(_) => Err("the key is there already".into()),
        }
    }

    fn item(&mut self, element: Element<'_>) -> bool {
        let open = self.open.as_ref().expect("an element belongs to a collection");
        let (value, _) = self.keys.get_mut(open).unwrap();
        match (value, element) {
            (Plain::List(list), Element::Item(item)) => list.push(item.to_vec()),
            (Plain::List(list), Element::Node(node)) => list.extend(node.iter().map(|item| item.to_vec())),
            (Plain::Set(set), Element::Member(member)) => return set.insert(member.to_vec()),
            (Plain::Hash(hash), Element::Field(field, value)) => {
                return hash.insert(field.to_vec(), value.to_vec()).is_none();
            }
            (Plain::ZSet(zset), Element::Scored(member, score)) => {
                return zset.insert(member.to_vec(), score).is_none();
            }
            (value, element) => panic!("{element:?} does not belong in {value:?}"),
        }
        true
    }
}

impl RdbVisitor for Model {
    fn aux(&mut self, name: &[u8], value: &[u8]) {
        self.aux.insert(name.to_vec(), value.to_vec());
    }
    fn db_size(&mut self, db: u32, keys: u64, expiring: u64) {
        self.sizes.push((db, keys, expiring));
    }
    fn skipped(&mut self, what: Skipped<'_>) {
        self.skipped.push(format!("{what:?}"));
    }
    fn string(&mut self, key: &Key<'_>, value: &[u8]) -> Result<(), Refusal> {
        self.add(key, Plain::Str(value.to_vec()))
    }
    fn int(&mut self, key: &Key<'_>, value: i64) -> Result<(), Refusal> {
        self.add(key, Plain::Str(value.to_string().into_bytes()))
    }
    fn packed(&mut self, key: &Key<'_>, value: Packed) -> Result<(), Refusal> {
        let pairs = |listpack: &sluice_engine::internals::Listpack| {
            let texts: Vec<_> = listpack.iter().map(|item| item.to_vec()).collect();
            let (pairs, rest) = texts.as_chunks::<2>();
            if rest.is_empty() { Ok(pairs.to_vec()) } else { Err(Refusal::from("half a pair")) }
        };
        let (repeated, plain) = match &value {
            Packed::Hash(listpack) => {
                let hash: BTreeMap<_, _> = pairs(listpack)?.into_iter().map(|[f, v]| (f, v)).collect();
                (listpack.len() / 2 - hash.len(), Plain::Hash(hash))
            }
            Packed::ZSet(listpack) => {
                let score =
                    |text: Vec<u8>| sluice_engine::internals::num::parse_f64(&text).ok_or("not a score");
                let mut zset = BTreeMap::new();
                for [member, text] in pairs(listpack)? {
                    zset.insert(member, score(text)?);
                }
                (listpack.len() / 2 - zset.len(), Plain::ZSet(zset))
            }
            Packed::Opaque(value) => {
                (0, Plain::Opaque(value.type_name().as_str().into(), value.as_bytes().into()))
            }
            Packed::Set(intset) => {
                (0, Plain::Set(intset.iter().map(|n| n.to_string().into_bytes()).collect()))
            }
        };
        if repeated > 0 {
            return Err("a field or member twice".into());
        }
        self.add(key, plain)
    }
    fn begin(&mut self, key: &Key<'_>, kind: Kind, _count: u64) -> Result<(), Refusal> {
        self.add(
            key,
            match kind {
                Kind::List => Plain::List(Vec::new()),
                Kind::Hash => Plain::Hash(BTreeMap::new()),
                Kind::Set => Plain::Set(BTreeSet::new()),
                Kind::ZSet => Plain::ZSet(BTreeMap::new()),
            },
        )?;
        self.open = Some((key.db, key.name.to_vec()));
        Ok(())
    }
    fn element(&mut self, element: Element<'_>) -> Result<(), Refusal> {
        if self.item(element) { Ok(()) } else { Err("a field or member twice".into()) }
    }
    fn end(&mut self) -> Result<(), Refusal> {
        self.open.take().expect("a collection was begun");
        Ok(())
    }
}

/// Decodes a whole stream.
pub fn decode(bytes: &[u8]) -> Result<Model, RdbError> {
    let mut model = Model::default();
    RdbDecoder::new(bytes).run(&mut model)?;
    Ok(model)
}

/// Assembles RDB bytes by hand.
pub struct Rdb(pub Vec<u8>);

impl Rdb {
    pub fn new(version: u32) -> Self {
        Self(format!("REDIS{version:04}").into_bytes())
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn string(mut self, string: &[u8]) -> Self {
        length::put_raw_string(&mut self.0, string);
        self
    }

    /// The end marker, and the right checksum if the version has one.
    pub fn end(mut self) -> Vec<u8> {
        self.0.push(format::opcode::EOF);
        if self.0[5..9] >= b"0005"[..] {
            let sum = crc64::crc64(0, &self.0);
            self.0.extend(sum.to_le_bytes());
        }
        self.0
    }
}

/// A ziplist of short strings.
pub fn ziplist(items: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; 10];
    let (mut last, mut previous) = (10, 0);
    for item in items {
        last = bytes.len();
        bytes.push(previous);
        bytes.push(u8::try_from(item.len()).unwrap());
        bytes.extend_from_slice(item);
        previous = u8::try_from(bytes.len() - last).unwrap();
    }
    bytes.push(0xff);
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4..8].copy_from_slice(&(last as u32).to_le_bytes());
    bytes[8..10].copy_from_slice(&(items.len() as u16).to_le_bytes());
    bytes
}
