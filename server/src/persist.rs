//! Snapshots: SAVE, BGSAVE, save points, loading at start.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

/// The state of saving, as INFO's `persistence` section shows it.
#[derive(Default)]
pub(crate) struct Persistence {
    /// A snapshot is being written by BGSAVE or a save point.
    pub(crate) bgsave_running: AtomicBool,
    /// One more BGSAVE was asked for meanwhile.
    pub(crate) bgsave_scheduled: AtomicBool,
    /// Unix seconds of the last good save (or the start).
    pub(crate) last_save: AtomicU64,
    /// Unix seconds of the last attempt.
    pub(crate) last_try: AtomicU64,
    /// The last BGSAVE failed.
    pub(crate) last_failed: AtomicBool,
    /// Seconds the last BGSAVE took, -1 before the first.
    pub(crate) last_seconds: AtomicI64,
    /// Unix milliseconds at which the running one began, 0 for none.
    pub(crate) began_ms: AtomicU64,
    /// The engine's change counter at the last good save.
    pub(crate) changes_at_save: AtomicU64,
    /// Good saves since the start.
    pub(crate) saves: AtomicU64,
    /// Bytes of pre-images during the last save's cut.
    pub(crate) last_preimage_bytes: AtomicU64,
    /// Loading: bytes in all, bytes read, keys loaded, start in Unix seconds.
    pub(crate) loading_total: AtomicU64,
    pub(crate) loading_done: AtomicU64,
    pub(crate) loading_keys: AtomicU64,
    pub(crate) loading_since: AtomicU64,
}
