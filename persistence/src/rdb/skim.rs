//! Finds where keys end, without reading them: what the thread that reads a stream does before it hands whole keys to
//! others. It looks at lengths only, and only at bytes that are there; whatever it does not understand at a glance
//! it leaves to the decoder, which also finds the damage.

use super::format::{opcode, text_score, value_type};
use super::length::First;

/// A collection of more elements is read by the thread that reads the stream: it may be larger than anything that
/// should be held whole.
const ELEMENTS_MAX: u64 = 1024;

/// Length of the whole keys at the beginning of `bytes`, up to the first that ends at or behind `limit`.
pub(super) fn skim(bytes: &[u8], limit: usize) -> usize {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut whole = 0;
    while whole < limit && cursor.key().is_some() && cursor.at <= bytes.len() {
        whole = cursor.at;
    }
    whole
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let found = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(found)
    }

    /// May go beyond the end, where the next look finds nothing.
    #[inline]
    fn skip(&mut self, n: usize) -> Option<()> {
        self.at = self.at.checked_add(n)?;
        Some(())
    }

    #[inline]
    fn finish_length(&mut self, first: First) -> Option<u64> {
        Some(match first {
            First::Len(len) => len,
            First::Len14(high) => u64::from(high) << 8 | u64::from(self.byte()?),
            First::Len32 => u64::from(u32::from_be_bytes(self.array()?)),
            First::Len64 => u64::from_be_bytes(self.array()?),
            First::Int(_) | First::Lzf | First::Unknown => return None,
        })
    }

    #[inline]
    fn length(&mut self) -> Option<u64> {
        let first = First::of(self.byte()?);
        self.finish_length(first)
    }

    #[inline]
    fn string(&mut self) -> Option<()> {
        let first = First::of(self.byte()?);
        match first {
            First::Int(n) => self.skip(n),
            First::Lzf => {
                let (packed, _) = (self.length()?, self.length()?);
                self.skip(usize::try_from(packed).ok()?)
            }
            First::Unknown => None,
            plain => {
                let len = self.finish_length(plain)?;
                self.skip(usize::try_from(len).ok()?)
            }
        }
    }

    fn strings(&mut self, each: u64) -> Option<()> {
        let count = self.count()?;
        (0..count * each).try_for_each(|_| self.string())
    }

    fn count(&mut self) -> Option<u64> {
        self.length().filter(|count| *count <= ELEMENTS_MAX)
    }

    /// Moves behind the next key.
    #[inline]
    fn key(&mut self) -> Option<()> {
        let kind = loop {
            match self.byte()? {
                opcode::EXPIRETIME_MS => self.skip(8)?,
                opcode::EXPIRETIME => self.skip(4)?,
                opcode::FREQ => self.skip(1)?,
                opcode::IDLE => drop(self.length()?),
                kind => break kind,
            }
        };
        if kind > value_type::SET_LISTPACK {
            return None;
        }
        self.string()?;
        match kind {
            value_type::STRING
            | value_type::HASH_ZIPMAP
            | value_type::LIST_ZIPLIST
            | value_type::SET_INTSET
            | value_type::ZSET_ZIPLIST
            | value_type::HASH_ZIPLIST
            | value_type::HASH_LISTPACK
            | value_type::ZSET_LISTPACK
            | value_type::SET_LISTPACK => self.string(),
            value_type::LIST | value_type::SET | value_type::LIST_QUICKLIST => self.strings(1),
            value_type::HASH => self.strings(2),
            value_type::ZSET_2 => {
                for _ in 0..self.count()? {
                    self.string()?;
                    self.skip(8)?;
                }
                Some(())
            }
            value_type::ZSET => {
                for _ in 0..self.count()? {
                    self.string()?;
                    match self.byte()? {
                        text_score::NAN | text_score::INFINITY | text_score::NEG_INFINITY => {}
                        len => self.skip(len.into())?,
                    }
                }
                Some(())
            }
            value_type::LIST_QUICKLIST_2 => {
                for _ in 0..self.count()? {
                    self.length()?;
                    self.string()?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_end_where_they_end() {
        let keys: [&[u8]; 9] = [
            b"\x00\x01k\x05value",
            b"\xfc12345678\xf9\x07\x00\x01k\xc1\x01\x02",
            b"\xfd1234\xf8\x40\x50\x00\x01k\xc3\x03\x14abc",
            b"\x01\x01l\x02\x01a\xc0\x05",
            b"\x04\x01h\x01\x01f\x01v",
            b"\x05\x01z\x01\x01m12345678",
            b"\x03\x01z\x02\x01m\x03123\x01n\xfe",
            b"\x12\x01l\x02\x02\x03abc\x01\x02xy",
            b"\x10\x01h\x03abc",
        ];
        let all: Vec<u8> = keys.concat();
        assert_eq!(skim(&all, usize::MAX), all.len());
        let mut end = 0;
        for key in keys {
            assert_eq!(skim(&all, end + 1), end + key.len());
            for part in 1..key.len() {
                assert_eq!(skim(&all[..end + part], usize::MAX), end, "{part} bytes of {key:?}");
            }
            end += key.len();
        }
    }

    #[test]
    fn what_is_no_key_or_no_small_one_is_left_alone() {
        let cases: [&[u8]; 9] = [
            b"",
            b"\xff",
            b"\xfa\x01a\x01b",
            // Streams and a module's value, which may be long.
            b"\x0f\x01s\x00\x00\x00\x00\x00",
            b"\x13\x01s\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x15\x01s\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x07\x01s\x01\x00",
            b"\x02\x01s\x80\0\0\x10\0",
            b"\x00\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        ];
        for bytes in cases {
            assert_eq!(skim(bytes, usize::MAX), 0, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(skim(&bytes, usize::MAX) <= bytes.len());
        }
    }
}
