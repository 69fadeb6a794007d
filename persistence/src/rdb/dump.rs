//! One value by itself: what DUMP replies and RESTORE takes.
//!
//! ```text
//! type(1)  value, as in an RDB  version(u16, little endian)  crc64(u64, little endian; of all before it)
//! ```
//!
//! A payload comes from a client, so nothing in it is believed: [`restore`] checks packed encodings from end to end,
//! compares nothing but bounds with what the payload claims, and allocates in proportion to what it really holds.

use super::RdbError;
use super::checksum::Checksum;
use super::decoder::RdbDecoder;
use super::encoder::RdbEncoder;
use super::format::{VERSION_NEWEST, VERSION_VALKEY, VERSION_WRITTEN};
use super::values::{self, TWICE};
use super::visitor::{Element, Key, Kind, Packed, RdbVisitor, Refusal};
use sluice_engine::ValueView;
use sluice_engine::internals::{ElementBatch, Entry, Limits, Value};

const FOOTER: usize = PayloadFooter::BYTES;

/// Why a payload was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The footer: a version that is not read here, or another checksum.
    #[error("DUMP payload version or checksum are wrong")]
    Footer,
    /// The value. The offset counts from the start of the payload.
    #[error(transparent)]
    Value(#[from] RdbError),
    /// A collection without elements.
    #[error("a collection without elements")]
    Empty,
}

/// The payload of a value. `compression` as in [`EncoderOptions`](super::EncoderOptions).
pub fn dump(value: ValueView<'_>, compression: bool) -> Vec<u8> {
    let mut encoder = RdbEncoder::bare(compression);
    encoder.value(value, |encoder, value_type| encoder.buffer.push(value_type));
    let mut payload = encoder.take();
    let mut footer = PayloadFooter::default();
    footer.update(&payload);
    payload.extend_from_slice(&footer.finish());
    payload
}

/// What stands behind a value in a payload, computed as the value is written.
#[derive(Debug, Default)]
pub struct PayloadFooter(Checksum);

impl PayloadFooter {
    /// Version and checksum.
    pub const BYTES: usize = 2 + 8;

    /// The value's next bytes, beginning with its type.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The footer.
    pub fn finish(mut self) -> [u8; Self::BYTES] {
        let version = (VERSION_WRITTEN as u16).to_le_bytes();
        self.0.update(&version);
        let mut footer = [0; Self::BYTES];
        footer[..2].copy_from_slice(&version);
        footer[2..].copy_from_slice(&self.0.value().to_le_bytes());
        footer
    }
}

/// A value out of a payload.
#[derive(Debug)]
pub enum Restored {
    /// A string.
    Text(Vec<u8>),
    /// A string that is an integer's decimal form.
    Int(i64),
    /// A collection, not empty, or something opaque.
    Value(Value),
}

impl Restored {
    /// The entry of the keyspace with this value.
    pub fn into_entry(self, key: &[u8], expire_at_ms: Option<i64>) -> Entry {
        match self {
            Self::Text(text) => match sluice_engine::internals::num::parse_i64(&text) {
                Some(value) => Entry::int(key, value, expire_at_ms),
                None => Entry::string(key, &text, expire_at_ms),
            },
            Self::Int(value) => Entry::int(key, value, expire_at_ms),
            Self::Value(value) => Entry::value(key, value, expire_at_ms),
        }
    }
}

/// Reads a payload. `checked` compares the checksum; leaving that out is for tests of everything behind it.
pub fn restore(payload: &[u8], limits: &Limits, checked: bool) -> Result<Restored, RestoreError> {
    let Some((body, footer)) = payload.split_last_chunk::<FOOTER>() else { return Err(RestoreError::Footer) };
    let (version, stored) = footer.split_at(2);
    let number = u32::from(u16::from_le_bytes([version[0], version[1]]));
    if number > VERSION_NEWEST && !VERSION_VALKEY.contains(&number) {
        return Err(RestoreError::Footer);
    }
    if checked {
        let mut checksum = Checksum::new();
        checksum.update(&payload[..payload.len() - 8]);
        if checksum.value().to_le_bytes() != stored {
            return Err(RestoreError::Footer);
        }
    }
    let mut single = Single::new(limits);
    RdbDecoder::with_checksum(body, false).object(number, &mut single)?;
    single.found.ok_or(RestoreError::Empty)
}

/// Builds one value.
pub(super) struct Single<'a> {
    limits: &'a Limits,
    building: Option<Value>,
    found: Option<Restored>,
    waiting: ElementBatch,
}

impl<'a> Single<'a> {
    pub(super) fn new(limits: &'a Limits) -> Self {
        Self { limits, building: None, found: None, waiting: ElementBatch::default() }
    }
}

impl RdbVisitor for Single<'_> {
    fn string(&mut self, _: &Key<'_>, value: &[u8]) -> Result<(), Refusal> {
        self.found = Some(Restored::Text(value.to_vec()));
        Ok(())
    }

    fn int(&mut self, _: &Key<'_>, value: i64) -> Result<(), Refusal> {
        self.found = Some(Restored::Int(value));
        Ok(())
    }

    fn packed(&mut self, _: &Key<'_>, value: Packed) -> Result<(), Refusal> {
        self.found = Some(Restored::Value(values::from_packed(value, self.limits)?));
        Ok(())
    }

    fn begin(&mut self, _: &Key<'_>, kind: Kind, count: u64) -> Result<(), Refusal> {
        self.building = Some(values::empty(kind, count, self.limits));
        Ok(())
    }

    fn element(&mut self, element: Element<'_>) -> Result<(), Refusal> {
        let Some(value) = &mut self.building else { return Ok(()) };
        if values::add(value, element, self.limits, &mut self.waiting) { Ok(()) } else { Err(TWICE.into()) }
    }

    fn end(&mut self) -> Result<(), Refusal> {
        let Some(mut value) = self.building.take() else { return Ok(()) };
        if !values::complete(&mut value, &mut self.waiting) {
            return Err(TWICE.into());
        }
        self.found = (!value.is_empty()).then_some(Restored::Value(value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sluice_engine::Engine;
    use sluice_engine::internals::{List, NodeLimit};

    fn samples() -> Vec<Vec<u8>> {
        let engine = Engine::default();
        let limits = engine.limits();
        let mut list = Value::List(Default::default());
        let mut hash = values::empty(Kind::Hash, 0, limits);
        let mut large = values::empty(Kind::Hash, 1000, limits);
        let mut set = values::empty(Kind::Set, 0, limits);
        let mut zset = values::empty(Kind::ZSet, 0, limits);
        let mut waiting = ElementBatch::default();
        for n in 0..20u32 {
            let text = format!("{}text", n % 7 * n);
            let member = n.to_string();
            let pair = Element::Field(member.as_bytes(), text.as_bytes());
            assert!(values::add(&mut hash, pair, limits, &mut waiting));
            let pair = Element::Field(member.as_bytes(), text.as_bytes());
            assert!(values::add(&mut large, pair, limits, &mut waiting));
            assert!(values::add(&mut list, Element::Item(text.as_bytes()), limits, &mut waiting));
            assert!(values::add(&mut set, Element::Member(member.as_bytes()), limits, &mut waiting));
            assert!(
                values::add(&mut zset, Element::Scored(text.as_bytes(), n.into()), limits, &mut waiting)
                    || n > 0
            );
        }
        assert!(values::complete(&mut large, &mut waiting));
        let mut all: Vec<Vec<u8>> = [&list, &hash, &large, &set, &zset]
            .into_iter()
            .flat_map(|value| {
                let view = match value {
                    Value::List(v) => ValueView::List(v),
                    Value::Hash(v) => ValueView::Hash(v),
                    Value::Set(v) => ValueView::Set(v),
                    Value::ZSet(v) => ValueView::ZSet(v),
                    Value::Opaque(v) => ValueView::Opaque(v),
                };
                [dump(view, false), dump(view, true)]
            })
            .collect();
        all.push(dump(ValueView::Int(12345), true));
        all.push(dump(ValueView::Str(&[b'a'; 100]), true));
        all
    }

    #[test]
    fn a_list_is_dumped_byte_for_byte_as_redis_does() {
        let mut list = List::new();
        for item in [b"a", b"b", b"c"] {
            list.push_back(item, NodeLimit::from_config(-2));
        }
        // RPUSH l a b c; DUMP l of redis-server 7.0.15.
        let expected = b"\x12\x01\x02\x10\x10\0\0\0\x03\0\x81a\x02\x81b\x02\x81c\x02\xff\x0a\0\xc8\x18\xb9\x0c\x95\x33\x52\x9e";
        assert_eq!(dump(ValueView::List(&list), true), expected);
    }

    #[test]
    fn what_is_dumped_restores() {
        let engine = Engine::default();
        for payload in samples() {
            let entry = restore(&payload, engine.limits(), true).unwrap().into_entry(b"k", None);
            let view = ValueView::of(entry.as_ref()).unwrap();
            let again = restore(&dump(view, false), engine.limits(), true).unwrap().into_entry(b"k", None);
            let compare = |view| dump(view, false).len();
            assert_eq!(compare(view), compare(ValueView::of(again.as_ref()).unwrap()));
        }
    }

    #[test]
    fn a_footer_that_is_not_right_is_refused() {
        let engine = Engine::default();
        let good = dump(ValueView::Str(b"bar"), true);
        for len in 0..good.len() {
            let refused = restore(&good[..len], engine.limits(), true).unwrap_err();
            assert!(matches!(refused, RestoreError::Footer), "{len}: {refused}");
        }
        let mut newer = good;
        let at = newer.len() - FOOTER;
        newer[at] = VERSION_NEWEST as u8 + 1;
        assert!(matches!(restore(&newer, engine.limits(), false), Err(RestoreError::Footer)));
    }

    proptest! {
        #[test]
        fn damaged_payloads_never_panic(sample in 0usize..12, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let engine = Engine::default();
            let mut payload = samples().swap_remove(sample);
            let len = payload.len() - FOOTER;
            for (at, byte) in changes {
                payload[at.index(len)] = byte;
            }
            if let Ok(restored) = restore(&payload, engine.limits(), false) {
                let entry = restored.into_entry(b"k", None);
                dump(ValueView::of(entry.as_ref()).unwrap(), true);
            }
        }
    }
}
