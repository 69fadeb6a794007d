//! Ziplists: the packed lists of RDB files before version 10 (`ziplist.c` of Redis 6).
//!
//! ```text
//! bytes(u32) offset-of-last(u32) count(u16, 65535: count them) entry* 0xFF        little endian
//! entry    = previous-length encoding data
//! previous = n (below 254) | 0xFE n(u32)
//! encoding = 00nnnnnn | 01nnnnnn n | 0x80 n(u32, big endian)      then that many bytes
//!          | 0xC0 i16 | 0xD0 i32 | 0xE0 i64 | 0xF0 i24 | 0xFE i8   little endian
//!          | 0xF1..=0xFD                                           the integers 0..=12
//! ```

use super::Damage;

const HEADER: usize = 10;
const END: u8 = 0xff;
const COUNT_UNKNOWN: u16 = u16::MAX;
const WIDE_PREVIOUS: u8 = 0xfe;

/// An element of a packed encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// The string of an integer.
    Int(i64),
}

/// A ziplist, checked from end to end.
#[derive(Debug, Clone, Copy)]
pub struct Ziplist<'a> {
    bytes: &'a [u8],
    count: usize,
}

/// An entry's content and where the next one begins.
struct Parsed<'a> {
    previous: usize,
    item: Item<'a>,
    next: usize,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Damage> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or(Damage::new(at, "ziplist entry ends early"))
}

fn parse(bytes: &[u8], at: usize) -> Result<Parsed<'_>, Damage> {
    let [first] = array(bytes, at)?;
    let (previous, at) = match first {
        WIDE_PREVIOUS => (u32::from_le_bytes(array(bytes, at + 1)?) as usize, at + 5),
        END => return Err(Damage::new(at, "ziplist ends early")),
        small => (usize::from(small), at + 1),
    };
    let [encoding] = array(bytes, at)?;
    let data = at + 1;
    let (item, next) = match encoding {
        0x00..=0x3f => string(bytes, data, usize::from(encoding))?,
        0x40..=0x7f => {
            let [low] = array(bytes, data)?;
            string(bytes, data + 1, usize::from(encoding & 0x3f) << 8 | usize::from(low))?
        }
        0x80 => string(bytes, data + 4, u32::from_be_bytes(array(bytes, data)?) as usize)?,
        0xc0 => (Item::Int(i16::from_le_bytes(array(bytes, data)?).into()), data + 2),
        0xd0 => (Item::Int(i32::from_le_bytes(array(bytes, data)?).into()), data + 4),
        0xe0 => (Item::Int(i64::from_le_bytes(array(bytes, data)?)), data + 8),
        0xf0 => {
            let [a, b, c] = array(bytes, data)?;
            (Item::Int((i32::from_le_bytes([0, a, b, c]) >> 8).into()), data + 3)
        }
        0xfe => (Item::Int(i8::from_le_bytes(array(bytes, data)?).into()), data + 1),
        0xf1..=0xfd => (Item::Int(i64::from(encoding - 0xf1)), data),
        _ => return Err(Damage::new(at, "unknown ziplist encoding")),
    };
    Ok(Parsed { previous, item, next })
}

fn string(bytes: &[u8], at: usize, len: usize) -> Result<(Item<'_>, usize), Damage> {
    let end = at.checked_add(len).ok_or(Damage::new(at, "ziplist string ends early"))?;
    let string = bytes.get(at..end).ok_or(Damage::new(at, "ziplist string ends early"))?;
    Ok((Item::Bytes(string), end))
}

impl<'a> Ziplist<'a> {
    /// Checks all of `bytes`: sizes, counts, back links and every entry.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let stated = u32::from_le_bytes(array(bytes, 0)?) as usize;
        let last = u32::from_le_bytes(array(bytes, 4)?) as usize;
        let count = u16::from_le_bytes(array(bytes, 8)?);
        if stated != bytes.len() {
            return Err(Damage::new(0, "ziplist's size is not that of its string"));
        }
        if bytes.len() <= HEADER || bytes[bytes.len() - 1] != END {
            return Err(Damage::new(bytes.len(), "ziplist without an end"));
        }
        let entries = &bytes[..bytes.len() - 1];
        let (mut at, mut previous, mut start, mut counted) = (HEADER, 0, HEADER, 0usize);
        while at < entries.len() {
            let entry = parse(entries, at)?;
            if entry.previous != previous {
                return Err(Damage::new(at, "ziplist entry's back link is wrong"));
            }
            previous = entry.next - at;
            start = at;
            at = entry.next;
            counted += 1;
        }
        if last != start {
            return Err(Damage::new(4, "ziplist's offset of the last entry is wrong"));
        }
        if count != COUNT_UNKNOWN && usize::from(count) != counted {
            return Err(Damage::new(8, "ziplist's count is wrong"));
        }
        Ok(Self { bytes, count: counted })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        let entries = &self.bytes[..self.bytes.len() - 1];
        let mut at = HEADER;
        std::iter::from_fn(move || {
            // Checked when the ziplist was made, so this ends at its end and nowhere else.
            let entry = (at < entries.len()).then(|| parse(entries, at))?.ok()?;
            at = entry.next;
            Some(entry.item)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ziplist of raw entries (encoding and data, without the back link).
    fn build(entries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let (mut previous, mut last) = (0usize, HEADER);
        for entry in entries {
            last = bytes.len();
            if previous < 254 {
                bytes.push(previous as u8);
            } else {
                bytes.push(WIDE_PREVIOUS);
                bytes.extend((previous as u32).to_le_bytes());
            }
            bytes.extend_from_slice(entry);
            previous = bytes.len() - last;
        }
        bytes.push(END);
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes[4..8].copy_from_slice(&(last as u32).to_le_bytes());
        bytes[8..10].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        bytes
    }

    fn sample() -> Vec<u8> {
        let mut medium = vec![0x41, 0x2c];
        medium.extend([b'm'; 300]);
        let mut long = vec![0x80, 0, 0, 0x40, 0];
        long.extend([b'l'; 16384]);
        build(&[
            &[2, b'h', b'i'],
            &medium,
            &long,
            &[0xf1],
            &[0xfd],
            &[0xfe, 0x80],
            &[0xc0, 0, 0x80],
            &[0xf0, 0, 0, 0x80],
            &[0xd0, 0, 0, 0, 0x80],
            &[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80],
        ])
    }

    #[test]
    fn every_encoding_reads_back() {
        let bytes = sample();
        let ziplist = Ziplist::parse(&bytes).unwrap();
        let items: Vec<_> = ziplist.iter().collect();
        assert_eq!(ziplist.len(), items.len());
        assert_eq!(items[0], Item::Bytes(b"hi"));
        assert_eq!(items[1], Item::Bytes(&[b'm'; 300]));
        assert_eq!(items[2], Item::Bytes(&[b'l'; 16384]));
        let ints = [0, 12, -128, -32768, -8388608, i64::from(i32::MIN), i64::MIN];
        assert_eq!(items[3..], ints.map(Item::Int));
        assert!(Ziplist::parse(&build(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_ziplist_cut_anywhere_is_refused() {
        let bytes = sample();
        for len in (0..400).chain(bytes.len() - 60..bytes.len()) {
            assert!(Ziplist::parse(&bytes[..len]).is_err());
            let mut consistent = bytes[..len].to_vec();
            if len > HEADER {
                consistent[..4].copy_from_slice(&(len as u32).to_le_bytes());
                consistent[len - 1] = END;
                assert!(Ziplist::parse(&consistent).is_err(), "{len}");
            }
        }
    }

    proptest! {
        #[test]
        fn flipped_bits_never_panic(at in 0usize..400, bit in 0u8..8) {
            let mut bytes = sample();
            bytes[at] ^= 1 << bit;
            if let Ok(ziplist) = Ziplist::parse(&bytes) {
                prop_assert_eq!(ziplist.iter().count(), ziplist.len());
            }
        }
    }
}
