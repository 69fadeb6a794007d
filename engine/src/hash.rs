//! The one hash of keys and elements.
//!
//! Every table, and the choice of a key's shard, uses the same 64-bit hash, seeded at random once a process so
//! that nobody can prepare keys that collide. Bits are spent as follows, so that no two uses share any:
//!
//! ```text
//! 63 ............ 48 | 47 ......... 16 | 15 ..... 8 | 7 ..... 0
//! directory, stored  | directory, deep | tag        | shard
//! in the slot        |                 |            |
//! ```

use std::hash::BuildHasher;
use std::sync::LazyLock;

static SEED: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);

/// Hashes a key or an element.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    SEED.hash_one(key)
}

/// The bits that choose a shard (the caller masks them).
#[inline]
pub(crate) fn shard_bits(hash: u64) -> usize {
    (hash & 0xff) as usize
}

/// A small fast random number for sampling keys; not for secrets.
pub(crate) fn random_u64() -> u64 {
    use std::cell::Cell;
    thread_local! {
        static STATE: Cell<u64> = Cell::new(SEED.hash_one(std::thread::current().id()) | 1);
    }
    STATE.with(|s| {
        // splitmix64: one addition and a finaliser, period 2^64.
        let x = s.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        s.set(x);
        let mut z = x;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
