//! Thresholds of the compact encodings, under Redis' names, settable while the engine runs.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// When a collection leaves its compact encoding.
#[derive(Debug)]
pub struct Limits {
    /// `hash-max-listpack-entries`
    pub hash_max_listpack_entries: AtomicUsize,
    /// `hash-max-listpack-value`, in bytes
    pub hash_max_listpack_value: AtomicUsize,
    /// `list-max-listpack-size`: entries where positive, -1 to -5 for 4 to 64 KB
    pub list_max_listpack_size: AtomicI64,
    /// `set-max-intset-entries`
    pub set_max_intset_entries: AtomicUsize,
    /// `zset-max-listpack-entries`
    pub zset_max_listpack_entries: AtomicUsize,
    /// `zset-max-listpack-value`, in bytes
    pub zset_max_listpack_value: AtomicUsize,
    /// `hll-sparse-max-bytes`: longest sparse HyperLogLog, header included
    pub hll_sparse_max_bytes: AtomicUsize,
    /// `proto-max-bulk-len`: longest string, in bytes
    pub max_string: AtomicUsize,
}

impl Default for Limits {
    /// Redis 7.0's defaults.
    fn default() -> Limits {
        Limits {
            hash_max_listpack_entries: AtomicUsize::new(128),
            hash_max_listpack_value: AtomicUsize::new(64),
            list_max_listpack_size: AtomicI64::new(-2),
            set_max_intset_entries: AtomicUsize::new(512),
            zset_max_listpack_entries: AtomicUsize::new(128),
            zset_max_listpack_value: AtomicUsize::new(64),
            hll_sparse_max_bytes: AtomicUsize::new(3000),
            max_string: AtomicUsize::new(512 << 20),
        }
    }
}

/// A pair of limits, read once for a command.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// Most entries.
    pub entries: usize,
    /// Longest element in bytes.
    pub value: usize,
}

impl Limits {
    /// Takes over the settings of another engine.
    pub fn copy_from(&self, other: &Limits) {
        let pairs = [
            (&self.hash_max_listpack_entries, &other.hash_max_listpack_entries),
            (&self.hash_max_listpack_value, &other.hash_max_listpack_value),
            (&self.set_max_intset_entries, &other.set_max_intset_entries),
            (&self.zset_max_listpack_entries, &other.zset_max_listpack_entries),
            (&self.zset_max_listpack_value, &other.zset_max_listpack_value),
            (&self.hll_sparse_max_bytes, &other.hll_sparse_max_bytes),
            (&self.max_string, &other.max_string),
        ];
        for (to, from) in pairs {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.list_max_listpack_size.store(other.list(), Ordering::Relaxed);
    }

    /// The hash's limits.
    pub fn hash(&self) -> Packed {
        Packed {
            entries: self.hash_max_listpack_entries.load(Ordering::Relaxed),
            value: self.hash_max_listpack_value.load(Ordering::Relaxed),
        }
    }

    /// The sorted set's limits.
    pub fn zset(&self) -> Packed {
        Packed {
            entries: self.zset_max_listpack_entries.load(Ordering::Relaxed),
            value: self.zset_max_listpack_value.load(Ordering::Relaxed),
        }
    }

    /// The sparse HyperLogLog's limit in bytes.
    pub fn hll_sparse(&self) -> usize {
        self.hll_sparse_max_bytes.load(Ordering::Relaxed)
    }

    /// The list node's limit.
    pub fn list(&self) -> i64 {
        self.list_max_listpack_size.load(Ordering::Relaxed)
    }

    /// The intset's limit.
    pub fn intset(&self) -> usize {
        self.set_max_intset_entries.load(Ordering::Relaxed)
    }
}
