//! The intset: a small set of integers as one sorted array.
//!
//! ```text
//! +----------------+---------------+---------------------------------------+
//! | width: u32 LE  | length: u32 LE| length integers, sorted, width bytes  |
//! | 2, 4 or 8      |               | each, two's complement, little-endian |
//! +----------------+---------------+---------------------------------------+
//! ```
//!
//! As in Redis, all integers take the width of the widest ever added; removal never narrows it.

use super::{EncodingError, roomy};

const HEADER: usize = 8;

/// A sorted set of `i64` in Redis' own bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Intset {
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Intset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Default for Intset {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes one integer needs.
fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

impl Intset {
    /// An empty set, two bytes wide.
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&2u32.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        Self { bytes }
    }

    /// Takes bytes from outside, for instance from an RDB file.
    ///
    /// # Errors
    /// Unless the width is 2, 4 or 8, the length is that of the bytes, and the integers ascend strictly.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, EncodingError> {
        let length = bytes.len();
        let error = |offset, reason| EncodingError { encoding: "intset", offset, length, reason };
        if length < HEADER {
            return Err(error(0, "shorter than its header"));
        }
        let set = Self { bytes };
        let width = set.header(0);
        if !matches!(width, 2 | 4 | 8) {
            return Err(error(0, "width is not 2, 4 or 8"));
        }
        // In u64 the product of two u32 cannot wrap.
        if set.header(4) as u64 * width as u64 != (length - HEADER) as u64 {
            return Err(error(4, "length disagrees with the bytes"));
        }
        let mut previous = None;
        for (i, value) in set.iter().enumerate() {
            if previous >= Some(value) {
                return Err(error(HEADER + i * width, "integers do not ascend"));
            }
            previous = Some(value);
        }
        Ok(set)
    }

    /// The whole encoding, header included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many integers there are.
    pub fn len(&self) -> usize {
        self.header(4)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer at `index`, in ascending order.
    pub fn get(&self, index: usize) -> Option<i64> {
        let width = self.width();
        let start = HEADER.checked_add(index.checked_mul(width)?)?;
        let raw = self.bytes.get(start..start.checked_add(width)?)?;
        Some(match *raw {
            [a, b] => i64::from(i16::from_le_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => i64::from_le_bytes(raw.try_into().expect("a width is 2, 4 or 8")),
        })
    }

    /// A member chosen by `random`, any 64 random bits; `None` only of the empty set.
    pub fn random(&self, random: u64) -> Option<i64> {
        // The high half of the product maps the bits evenly onto 0..len.
        self.get(((u128::from(random) * self.len() as u128) >> 64) as usize)
    }

    /// Whether `value` is a member.
    pub fn contains(&self, value: i64) -> bool {
        width_of(value) <= self.width() && self.search(value).is_ok()
    }

    /// Adds `value`; false if it was there.
    pub fn add(&mut self, value: i64) -> bool {
        let index = if width_of(value) > self.width() {
            self.widen(width_of(value));
            // Wider than all others: it goes to one of the ends.
            if value < 0 { 0 } else { self.len() }
        } else {
            match self.search(value) {
                Ok(_) => return false,
                Err(index) => index,
            }
        };
        let (width, old_end) = (self.width(), self.bytes.len());
        let start = HEADER + index * width;
        let new_end = old_end + width;
        if new_end > self.bytes.capacity() {
            self.bytes.reserve_exact(roomy(new_end) - old_end);
        }
        self.bytes.resize(new_end, 0);
        self.bytes.copy_within(start..old_end, start + width);
        self.bytes[start..start + width].copy_from_slice(&value.to_le_bytes()[..width]);
        self.set_len(self.len() + 1);
        true
    }

    /// Removes `value`; false if it was not there.
    pub fn remove(&mut self, value: i64) -> bool {
        if width_of(value) > self.width() {
            return false;
        }
        let Ok(index) = self.search(value) else {
            return false;
        };
        let width = self.width();
        let start = HEADER + index * width;
        self.bytes.drain(start..start + width);
        self.set_len(self.len() - 1);
        if self.bytes.capacity() > 2 * self.bytes.len() + 64 {
            self.bytes.shrink_to(roomy(self.bytes.len()));
        }
        true
    }

    /// All members in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + '_ {
        (0..self.len()).map(|index| self.get(index).expect("the index is below the length"))
    }

    /// The smallest and the largest member.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        Some((self.get(0)?, self.get(self.len() - 1)?))
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    fn header(&self, at: usize) -> usize {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes")) as usize
    }

    fn width(&self) -> usize {
        self.header(0)
    }

    fn set_len(&mut self, len: usize) {
        let len = u32::try_from(len).expect("an intset is bounded by set-max-intset-entries");
        self.bytes[4..HEADER].copy_from_slice(&len.to_le_bytes());
    }

    /// Where `value` is, or where it would go.
    fn search(&self, value: i64) -> Result<usize, usize> {
        // Sets are often filled in ascending order.
        match self.bounds() {
            None => return Err(0),
            Some((_, last)) if value > last => return Err(self.len()),
            _ => {}
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).expect("the middle is below the length").cmp(&value) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn widen(&mut self, width: usize) {
        let len = self.len();
        let mut bytes = Vec::with_capacity(roomy(HEADER + (len + 1) * width));
        bytes.extend_from_slice(&(width as u32).to_le_bytes());
        bytes.extend_from_slice(&(len as u32).to_le_bytes());
        for value in self.iter() {
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn any_width() -> impl Strategy<Value = i64> {
        prop_oneof![-3i64..3, -40_000i64..40_000, -5_000_000_000i64..5_000_000_000, any::<i64>()]
    }

    #[test]
    fn the_layout_is_that_of_redis() {
        let mut set = Intset::new();
        for value in [5, -1, 70_000] {
            assert!(set.add(value));
        }
        assert_eq!(set.as_bytes(), b"\x04\0\0\0\x03\0\0\0\xff\xff\xff\xff\x05\0\0\0\x70\x11\x01\0");
        assert!(set.remove(70_000));
        assert_eq!(set.as_bytes(), b"\x04\0\0\0\x02\0\0\0\xff\xff\xff\xff\x05\0\0\0");
    }

    #[test]
    fn damage_is_refused_with_its_offset() {
        for (bytes, offset) in [
            (&b""[..], 0),
            (b"\x02\0\0\0\0\0\0", 0),
            (b"\x03\0\0\0\0\0\0\0", 0),
            (b"\x02\0\0\0\x01\0\0\0", 4),
            (b"\x08\0\0\0\xff\xff\xff\xff\0", 4),
            (b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0", 10),
        ] {
            assert_eq!(Intset::from_bytes(bytes.to_vec()).unwrap_err().offset, offset);
        }
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set(ops in prop::collection::vec((any::<bool>(), any_width()), 0..200), random: u64) {
            let (mut set, mut model) = (Intset::new(), BTreeSet::new());
            for (add, value) in ops {
                if add {
                    prop_assert_eq!(set.add(value), model.insert(value));
                    prop_assert!(set.contains(value));
                } else {
                    prop_assert_eq!(set.contains(value), model.contains(&value));
                    prop_assert_eq!(set.remove(value), model.remove(&value));
                }
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(set.random(random).is_some(), !model.is_empty());
            prop_assert!(set.random(random).is_none_or(|value| model.contains(&value)));
            prop_assert_eq!(Intset::from_bytes(set.as_bytes().to_vec()).unwrap(), set);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(set) = Intset::from_bytes(bytes) {
                prop_assert_eq!(set.iter().count(), set.len());
            }
        }
    }
}
