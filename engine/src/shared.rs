//! The ground floor: what everything of one engine shares, and knows nothing of those who use it.
//!
//! That is the shards with their locks, the log, the thresholds, and the words everyone looks at: the role, whether a cut is in
//! progress, who listens, watches and waits. How a command uses them is told on the floors above.

use crate::clock::Clock;
use crate::config::Limits;
use crate::cut::capture::{CutShared, QueueLevel};
use crate::keyspace::events::Listening;
use crate::keyspace::own::OwnExpiries;
use crate::locks::Shards;
use crate::log::Log;
use crate::role::RoleCell;
use parking_lot::Mutex;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// Default of `cut-preimage-limit`, in bytes.
pub(crate) const DEFAULT_PREIMAGE_LIMIT: usize = 64 << 20;

/// What the clones of an engine, its cuts and its commands share.
pub(crate) struct Shared {
    pub(crate) shards: Shards,
    pub(crate) databases: u32,
    pub(crate) log: Arc<Log>,
    pub(crate) limits: Limits,
    pub(crate) cut: Mutex<Option<Arc<CutShared>>>,
    pub(crate) cut_active: AtomicBool,
    /// For cuts begun from now on.
    pub(crate) preimage_limit: AtomicUsize,
    pub(crate) queue_level: Arc<QueueLevel>,
    pub(crate) watchers: AtomicUsize,
    /// See [`Engine::carry`](crate::Engine::carry).
    pub(crate) carried: Mutex<Arc<[u8]>>,
    /// Commands that wait for keys.
    pub(crate) blocked: AtomicUsize,
    pub(crate) role: RoleCell,
    pub(crate) own_expiries: OwnExpiries,
    pub(crate) listening: Listening,
    pub(crate) changes: AtomicU64,
    /// The shard the active expiry begins at: where it ran out of time.
    pub(crate) expire_shard: AtomicUsize,
    /// See [`EngineBuilder::host`](crate::EngineBuilder::host).
    pub(crate) host: Option<Host>,
    pub(crate) clock: Clock,
}

/// The embedder's own, for its rows to reach.
pub(crate) type Host = Arc<dyn Any + Send + Sync>;

impl Shared {
    /// An empty keyspace.
    pub(crate) fn new(shards: usize, databases: u32, host: Option<Host>, clock: Clock) -> Shared {
        Shared {
            shards: Shards::new(shards, databases),
            databases,
            log: Arc::new(Log::default()),
            limits: Limits::default(),
            cut: Mutex::new(None),
            cut_active: AtomicBool::new(false),
            preimage_limit: AtomicUsize::new(DEFAULT_PREIMAGE_LIMIT),
            queue_level: Arc::default(),
            watchers: AtomicUsize::new(0),
            carried: Mutex::new(Arc::from([])),
            blocked: AtomicUsize::new(0),
            role: RoleCell::default(),
            own_expiries: OwnExpiries::default(),
            listening: Listening::default(),
            changes: AtomicU64::new(0),
            expire_shard: AtomicUsize::new(0),
            host,
            clock,
        }
    }

    /// The shard that a key of this hash is in.
    #[inline]
    pub(crate) fn shard_of(&self, hash: u64) -> usize {
        self.shards.index_of(hash)
    }
}
