//! Repeatable randomness: the same seed gives every server the same data and the same traffic.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (which must not be 0), by multiplication.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Bytes that do not compress, to cut values from without generating each anew.
pub(crate) struct Blob {
    bytes: Vec<u8>,
}

impl Blob {
    /// Enough bytes that values of `size` start at about a million different places.
    pub(crate) fn new(size: usize) -> Blob {
        let mut random = Random::new(1);
        let len = (1 << 20) + size;
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
        Blob { bytes }
    }

    /// A value of `size` bytes; at most the size the blob was made for.
    pub(crate) fn value(&self, random: &mut Random, size: usize) -> &[u8] {
        let places = (self.bytes.len() - size) as u64;
        let start = random.below(places.max(1)) as usize;
        &self.bytes[start..start + size]
    }
}
