//! The compact encodings of the Redis family: a whole small collection in one run of bytes.
//!
//! Both are byte-for-byte what Redis keeps in memory and writes into RDB files, so that persistence
//! copies them as they stand, in either direction. Bytes from outside are validated once, completely,
//! when they come in; after that every operation relies on them. What the entries mean (field and
//! value, member and score) is the business of [`crate::value`].

pub(crate) mod intset;
pub(crate) mod listpack;

pub use intset::Intset;
pub use listpack::{Listpack, LpValue};

/// Why bytes are not a valid listpack or intset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad {encoding} at byte {offset} of {length}: {reason}")]
pub struct EncodingError {
    /// `listpack` or `intset`.
    pub encoding: &'static str,
    /// Where in the bytes the trouble starts.
    pub offset: usize,
    /// How many bytes were given.
    pub length: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// The capacity to ask for when a buffer must hold `len` bytes: the size class an allocator would
/// round up to anyway (multiples of 16 up to 128, then four steps a doubling). Growth is thereby
/// geometric, hence amortised, yet wastes a fifth at most.
pub(crate) fn roomy(len: usize) -> usize {
    let step = if len <= 128 { 16 } else { len.next_power_of_two() / 8 };
    len.next_multiple_of(step.max(16))
}

#[cfg(test)]
mod tests {
    use super::roomy;

    #[test]
    fn growth_is_geometric_and_wastes_little() {
        assert_eq!(
            [1, 16, 17, 128, 129, 160, 161, 256, 257, 8192].map(roomy),
            [16, 16, 32, 128, 160, 160, 192, 256, 320, 8192]
        );
        for len in 1..100_000 {
            let room = roomy(len);
            assert!(room >= len && (room - len < 16 || room - len <= len / 4), "{len} {room}");
        }
    }
}
