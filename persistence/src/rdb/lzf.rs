//! LZF compression, as in RDB strings (Marc Lehmann's LibLZF format).
//!
//! ```text
//! 000nnnnn                        n+1 literal bytes follow
//! lllooooo oooooooo               copy l+2 bytes (l in 1..=6) from o+1 bytes back
//! 111ooooo llllllll oooooooo      copy l+9 bytes from o+1 bytes back
//! ```

use super::Damage;

/// Longest run of literals.
const LITERALS_MAX: usize = 32;
/// Longest copy: three bytes of input give at most this many of output, which bounds what a hostile
/// stream can make us allocate.
const COPY_MAX: usize = 264;
const COPY_MIN: usize = 3;
/// Farthest copy.
const DISTANCE_MAX: usize = 1 << 13;
const HASH_BITS: u32 = 13;
/// After so many tries without a match the search takes larger steps.
const PATIENCE_SHIFT: u32 = 4;
/// After so many tries (160 bytes) without any match the string counts as noise: it costs little to find out.
const TRIES_MAX: usize = 64;

/// Appends the `len` bytes that `input` decompresses to. `out` grows with what `input` really gives.
pub fn decompress(input: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Damage> {
    if len > input.len().saturating_mul(COPY_MAX / 3) {
        return Err(Damage::new(0, "compressed string claims to be larger than its bytes can give"));
    }
    let start = out.len();
    let end = start + len;
    out.reserve(len);
    let mut at = 0;
    while let Some(&control) = input.get(at) {
        let here = at;
        at += 1;
        let control = usize::from(control);
        if control < LITERALS_MAX {
            let literals = input.get(at..at + control + 1).ok_or(Damage::new(here, "literals end early"))?;
            if out.len() + literals.len() > end {
                return Err(Damage::new(here, "compressed string is longer than it says"));
            }
            out.extend_from_slice(literals);
            at += literals.len();
            continue;
        }
        let mut next = || {
            let byte = input.get(at).copied().ok_or(Damage::new(here, "copy ends early"));
            at += 1;
            byte.map(usize::from)
        };
        let mut count = control >> 5;
        if count == 7 {
            count += next()?;
        }
        count += 2;
        let distance = ((control & 0x1f) << 8 | next()?) + 1;
        if distance > out.len() - start {
            return Err(Damage::new(here, "copy from before the string"));
        }
        if out.len() + count > end {
            return Err(Damage::new(here, "compressed string is longer than it says"));
        }
        copy_back(out, distance, count);
    }
    if out.len() != end {
        return Err(Damage::new(at, "compressed string is shorter than it says"));
    }
    Ok(())
}

/// Appends `count` bytes from `distance` back, which may overlap what is being appended.
fn copy_back(out: &mut Vec<u8>, distance: usize, count: usize) {
    let from = out.len() - distance;
    if distance >= count {
        out.extend_from_within(from..from + count);
    } else {
        // The copy repeats itself: each round doubles what there is to copy from.
        let end = out.len() + count;
        while out.len() < end {
            let n = (out.len() - from).min(end - out.len());
            out.extend_from_within(from..from + n);
        }
    }
}

/// The compressor's memory of where three bytes were last seen.
#[derive(Debug, Clone)]
pub struct Compressor {
    /// Places, counted on from string to string: what is remembered of others is below `base`.
    last_seen: Vec<u32>,
    base: u32,
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    /// A compressor; 32 kB.
    pub fn new() -> Self {
        Self { last_seen: vec![0; 1 << HASH_BITS], base: 1 }
    }

    /// Appends the compressed form of `input` if it takes at most `limit` bytes; else leaves `out` as it was and
    /// returns false.
    pub fn compress(&mut self, input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        let Ok(len) = u32::try_from(input.len()) else { return false };
        let next_base = self.base.checked_add(len).unwrap_or_else(|| {
            self.last_seen.fill(0);
            self.base = 1;
            len.saturating_add(1)
        });
        let start = out.len();
        let mut literals = 0;
        let mut at = 0;
        let mut tries = 0;
        while let Some(&[a, b, c]) = input.get(at..at + COPY_MIN).and_then(|bytes| bytes.first_chunk()) {
            let seen = self.look_up(u32::from_le_bytes([a, b, c, 0]), at);
            let matched = seen.map_or(0, |seen| match_length(input, seen, at));
            let Some(seen) = seen.filter(|_| matched > 0) else {
                tries += 1;
                at += 1 + (tries >> PATIENCE_SHIFT);
                if tries == TRIES_MAX && literals == 0 {
                    self.base = next_base;
                    return false;
                }
                continue;
            };
            tries = 0;
            put_literals(out, &input[literals..at]);
            put_copy(out, at - seen, matched);
            if out.len() - start > limit {
                break;
            }
            at += matched;
            literals = at;
        }
        self.base = next_base;
        let rest = &input[literals..];
        let total = out.len() - start + rest.len() + rest.len().div_ceil(LITERALS_MAX);
        if total > limit {
            out.truncate(start);
            return false;
        }
        put_literals(out, rest);
        true
    }

    /// Where in this string these three bytes, or others of the same hash, were last seen; notes this place.
    #[inline]
    fn look_up(&mut self, bytes: u32, at: usize) -> Option<usize> {
        let slot = (bytes.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize;
        let seen = std::mem::replace(&mut self.last_seen[slot], self.base + at as u32);
        seen.checked_sub(self.base).map(|seen| seen as usize)
    }
}

/// How many bytes at `seen` and `at` are the same; 0 if too few or too far to copy.
fn match_length(input: &[u8], seen: usize, at: usize) -> usize {
    if at - seen > DISTANCE_MAX {
        return 0;
    }
    let most = COPY_MAX.min(input.len() - at);
    let (old, new) = (&input[seen..seen + most], &input[at..at + most]);
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    if same < COPY_MIN { 0 } else { same }
}

fn put_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn put_copy(out: &mut Vec<u8>, distance: usize, count: usize) {
    let (offset, count) = (distance - 1, count - 2);
    let high = (offset >> 8) as u8;
    if count < 7 {
        out.extend_from_slice(&[(count as u8) << 5 | high, offset as u8]);
    } else {
        out.extend_from_slice(&[7 << 5 | high, (count - 7) as u8, offset as u8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(compressor: &mut Compressor, input: &[u8]) -> Option<usize> {
        let mut packed = b"before".to_vec();
        if !compressor.compress(input, input.len(), &mut packed) {
            assert_eq!(packed, b"before");
            return None;
        }
        let mut out = b"kept".to_vec();
        decompress(&packed[6..], input.len(), &mut out).unwrap();
        assert_eq!(&out[4..], input);
        Some(packed.len() - 6)
    }

    #[test]
    fn repetition_shrinks_and_noise_is_left_alone() {
        let mut compressor = Compressor::new();
        assert!(round_trip(&mut compressor, &[b'a'; 10_000]).unwrap() < 150);
        assert!(round_trip(&mut compressor, "the quick brown fox ".repeat(20).as_bytes()).unwrap() < 50);
        let mut noise = Vec::new();
        let mut x = 1u64;
        while noise.len() < 4096 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise.push((x >> 56) as u8);
        }
        assert_eq!(round_trip(&mut compressor, &noise), None);
    }

    #[test]
    fn what_redis_compressed_decompresses() {
        // 40 times 'a', as LibLZF writes it: one literal, then a copy of 39 bytes from one byte back.
        let mut out = Vec::new();
        decompress(&[0, b'a', 0xe0, 30, 0], 40, &mut out).unwrap();
        assert_eq!(out, [b'a'; 40]);
    }

    #[test]
    fn damage_is_named_and_memory_bounded() {
        let mut out = Vec::new();
        for (input, len) in [
            (&[0, b'a', 0xe0, 30, 0][..], 41),
            (&[0, b'a', 0xe0, 30, 0], 39),
            (&[0, b'a', 0xe0, 30, 1], 40),
            (&[0, b'a', 0xe0, 30], 40),
            (&[3, b'a'], 4),
            (&[0, b'a'], usize::MAX),
        ] {
            out.clear();
            assert!(decompress(input, len, &mut out).is_err());
            assert!(out.capacity() <= 5 * COPY_MAX);
        }
    }

    proptest! {
        #[test]
        fn everything_round_trips(pieces in proptest::collection::vec((0usize..4, 1usize..400), 0..40)) {
            let words: [&[u8]; 4] = [b"a", b"abc", b"hello world", b"\0\xff\x01q\x80"];
            let input: Vec<u8> = pieces.iter().flat_map(|&(word, n)| words[word].iter().cycle().take(n)).copied().collect();
            let mut compressor = Compressor::new();
            round_trip(&mut compressor, &input[..input.len() / 2]);
            round_trip(&mut compressor, &input);
        }

        #[test]
        fn noise_never_panics(input in proptest::collection::vec(any::<u8>(), 0..300), len in 0usize..5000) {
            let mut out = Vec::new();
            let _ = decompress(&input, len, &mut out);
            prop_assert!(out.len() <= len);
        }
    }
}
