//! Replication ids: the 40 hexadecimal characters that name one history of writes.
//!
//! Two servers that share a replication id and an offset hold the same data, and that is all a
//! partial resync needs to know. The same 40-character alphabet serves as the mark that ends an
//! `$EOF:` payload, so the generator lives here for both. Ids are unguessable enough to be unique,
//! not secrets.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Length of a replication id and of an end-of-payload mark, in characters (Redis: `CONFIG_RUN_ID_SIZE`).
pub const REPLID_LEN: usize = 40;

/// A replication id: 40 printable characters, hexadecimal when we generate them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplId([u8; REPLID_LEN]);

impl ReplId {
    /// The id of "no history": forty zeroes, as Redis prints for an unset `master_replid2`.
    pub const NONE: ReplId = ReplId([b'0'; REPLID_LEN]);

    /// A fresh random id.
    pub fn random() -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut id = [0u8; REPLID_LEN];
        for block in id.chunks_mut(16) {
            // Every `RandomState` is keyed from the operating system's randomness.
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_usize(block.as_ptr() as usize);
            let bits = hasher.finish();
            for (i, c) in block.iter_mut().enumerate() {
                *c = HEX[(bits >> (4 * i)) as usize & 15];
            }
        }
        ReplId(id)
    }

    /// Takes an id from the wire. `None` unless it is exactly 40 graphic ASCII characters; Redis does
    /// not insist on hexadecimal digits either.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let id: [u8; REPLID_LEN] = text.try_into().ok()?;
        id.iter().all(u8::is_ascii_graphic).then_some(ReplId(id))
    }

    /// The characters.
    pub fn as_bytes(&self) -> &[u8; REPLID_LEN] {
        &self.0
    }

    /// The characters as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("parse and random only admit ASCII")
    }

    /// Whether this is [`ReplId::NONE`].
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ_and_parse_back() {
        let (a, b) = (ReplId::random(), ReplId::random());
        assert_ne!(a, b);
        assert_eq!(ReplId::parse(a.as_bytes()), Some(a));
        assert!(a.as_str().bytes().all(|c| c.is_ascii_hexdigit()));
    }

    #[test]
    fn only_forty_graphic_characters_are_an_id() {
        assert_eq!(ReplId::parse(b"short"), None);
        assert_eq!(ReplId::parse(&[b'a'; 41]), None);
        assert_eq!(ReplId::parse(&[b' '; 40]), None);
        assert_eq!(ReplId::parse(&[0xff; 40]), None);
        assert_eq!(ReplId::parse(&[b'0'; 40]), Some(ReplId::NONE));
    }
}
