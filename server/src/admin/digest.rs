//! DEBUG DIGEST and DIGEST-VALUE: a fingerprint of data that does not depend on its order, equal to the one
//! redis-server computes for equal data. Only for opaque values (streams, modules' values) it is our own: of the type's
//! name and the bytes, as nobody here knows what is in them. It differs from Redis', and between two spellings of one
//! stream, but not between two servers of ours that hold the same bytes.
//!
//! The fingerprint is 20 bytes to which things are added in two ways. Where order does not matter (keys, set
//! members) the SHA-1 of the thing is XORed in ([`Digest::add`]); where it does (list elements, a field and its
//! value) that sum is hashed again ([`Digest::mix`]), so that the next thing meets a different state.

use sha1::{Digest as _, Sha1};
use sluice_engine::ValueView;
use sluice_engine::internals::{Keys, LpValue, num::fmt_f64};

/// A fingerprint in the making.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Digest([u8; 20]);

impl Digest {
    /// Adds `bytes`, in no particular order.
    fn add(&mut self, bytes: &[u8]) {
        let hash = Sha1::digest(bytes);
        self.0.iter_mut().zip(hash).for_each(|(a, b)| *a ^= b);
    }

    /// Adds `bytes`, in order.
    fn mix(&mut self, bytes: &[u8]) {
        self.add(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    /// 40 hexadecimal digits.
    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn text<'b>(value: &'b LpValue<'_>, buffer: &'b mut itoa::Buffer) -> &'b [u8] {
    value.as_bytes(buffer)
}

/// Adds a value and its expiry to the fingerprint of its key.
fn add_value(digest: &mut Digest, value: ValueView<'_>, expires: bool) {
    // Redis' numbers of the types.
    let kind = |n: u32| n.to_be_bytes();
    let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
    match value {
        ValueView::Str(bytes) => {
            digest.mix(&kind(0));
            digest.mix(bytes);
        }
        ValueView::Int(n) => {
            digest.mix(&kind(0));
            digest.mix(a.format(n).as_bytes());
        }
        ValueView::List(list) => {
            digest.mix(&kind(1));
            list.iter().for_each(|element| digest.mix(text(&element, &mut a)));
        }
        ValueView::Set(set) => {
            digest.mix(&kind(2));
            set.iter().for_each(|member| digest.add(text(&member, &mut a)));
        }
        ValueView::ZSet(zset) => {
            digest.mix(&kind(3));
            for (member, score) in zset.iter() {
                let mut score_text = Vec::new();
                fmt_f64(score, &mut score_text);
                let mut pair = Digest::default();
                pair.mix(text(&member, &mut a));
                pair.mix(&score_text);
                digest.add(&pair.0);
            }
        }
        ValueView::Hash(hash) => {
            digest.mix(&kind(4));
            for (field, value) in hash.iter() {
                let mut pair = Digest::default();
                pair.mix(text(&field, &mut a));
                pair.mix(text(&value, &mut b));
                digest.add(&pair.0);
            }
        }
        ValueView::Opaque(value) => {
            digest.mix(value.type_name().as_str().as_bytes());
            digest.mix(value.as_bytes());
        }
    }
    if expires {
        digest.add(b"!!expire!!");
    }
}

/// The fingerprint of all databases. Needs every shard locked.
pub(super) fn of_everything(keys: &mut Keys<'_>) -> Digest {
    let mut whole = Digest::default();
    for db in 0..keys.databases() {
        if keys.db_len(db) == 0 {
            continue;
        }
        whole.mix(&db.to_be_bytes());
        keys.each_table(db, |_, table| {
            for entry in table.iter() {
                let Some(value) = ValueView::of(entry) else { continue };
                let mut one = Digest::default();
                one.mix(entry.key());
                add_value(&mut one, value, entry.expire().is_some());
                whole.add(&one.0);
            }
        });
    }
    whole
}

/// The fingerprint of one value, zeroes where there is no such key. Needs its shard locked.
pub(super) fn of_value(keys: &mut Keys<'_>, key: &[u8]) -> Digest {
    let mut digest = Digest::default();
    if let Some(entry) = keys.peek(key)
        && let Some(value) = ValueView::of(entry)
    {
        add_value(&mut digest, value, entry.expire().is_some());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_engine::Engine;
    use sluice_engine::internals::{Hash, List, NodeLimit, Packed, Set, Value, ZSet};

    /// What redis-server 7.0.15 printed for this data.
    #[test]
    fn equal_data_has_the_digest_of_redis() {
        let engine = Engine::default();
        let packed = Packed { entries: 128, value: 64 };
        let mut list = List::new();
        ["a", "b", "3"].iter().for_each(|e| list.push_back(e.as_bytes(), NodeLimit::from_config(-2)));
        let mut hash = Hash::new();
        hash.set(b"f", b"v", packed);
        let mut set = Set::new();
        ["1", "2", "3"].iter().for_each(|m| assert!(set.add(m.as_bytes(), 512)));
        let mut zset = ZSet::new();
        zset.insert(b"a", 1.0, packed);
        zset.insert(b"b", 2.5, packed);
        let mut out = Vec::new();
        engine.exclusive(0, &mut out, |cx| {
            use sluice_engine::internals::NewExpiry;
            cx.keys.set_string(b"a", b"1", NewExpiry::Clear);
            cx.keys.set_string(b"foo", b"bar", NewExpiry::Clear);
            cx.keys.set_string(b"e", b"x", NewExpiry::At(4_000_000_000_000));
            cx.keys.set_value(b"l", Value::List(list), None);
            cx.keys.set_value(b"h", Value::Hash(hash), None);
            cx.keys.set_value(b"s", Value::Set(set), None);
            cx.keys.set_value(b"z", Value::ZSet(zset), None);
            for (key, expected) in [
                ("a", "b4fc66738120fba0b5aa500ab5c2bf89cea1c5da"),
                ("foo", "68467c70ae30376e7ce005bcc8827f5ba7fd67dc"),
                ("l", "09eb1fc9381ee92790d59930ab462945f8cd948b"),
                ("h", "90c76e9e9f4c62d642a34fc97c7dad503b51f906"),
                ("s", "2a462a3f51a1db89738ebbeef0c47ce1bbc85246"),
                ("z", "c45c5b051acd64070e5ed1a949939d5145f806c5"),
                ("e", "0745672cb1bf060476eedeb8a28f5ffe1ff5a2be"),
                ("nope", "0000000000000000000000000000000000000000"),
            ] {
                assert_eq!(of_value(&mut cx.keys, key.as_bytes()).hex(), expected, "{key}");
            }
            assert_eq!(of_everything(&mut cx.keys).hex(), "4be67086b3f779a839cffd8df14cf2c0302ee768");
        });
    }
}
