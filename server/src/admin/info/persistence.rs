//! The persistence section of INFO.

use super::{Sources, Text};

/// What is loading and saving, and how the last save went.
#[derive(Clone, Debug)]
pub(crate) struct PersistenceInfo {
    /// The dataset is being loaded and cannot be used.
    pub(crate) loading: bool,
    /// A replica loads beside the data it serves.
    pub(crate) async_loading: bool,
    /// While loading: Unix seconds of the start, bytes in all and bytes loaded.
    pub(crate) load_progress: Option<(u64, u64, u64)>,
    /// Memory its writer used, as the file being loaded says.
    pub(crate) load_memory: u64,
    /// Keys of the cut being saved: done and in all.
    pub(crate) save_keys: (u64, u64),
    /// Bytes of pre-images of the snapshot being written, and of the last one: what a forking server copies as pages.
    pub(crate) preimages: (u64, u64),
    /// Changes since the last save that succeeded.
    pub(crate) changes: u64,
    /// A background save runs, since this many seconds.
    pub(crate) saving_since: Option<u64>,
    /// Unix seconds of the last save that succeeded.
    pub(crate) last_save: u64,
    /// The last background save succeeded.
    pub(crate) last_ok: bool,
    /// Seconds the last background save took.
    pub(crate) last_seconds: Option<u64>,
    /// Saves that succeeded.
    pub(crate) saves: u64,
    /// Keys loaded at the last load, and keys left out as expired.
    pub(crate) loaded: (u64, u64),
    /// Cuts that served several of a snapshot, a rewrite and full syncs.
    pub(crate) shared_cuts: u64,
    /// `persistence-max-bandwidth`, and the milliseconds that writers waited for it in all.
    pub(crate) budget: (u64, u64),
    /// The append-only file.
    pub(crate) aof: AofInfo,
}

/// The append-only file.
#[derive(Clone, Debug, Default)]
pub(crate) struct AofInfo {
    /// It is on, or about to be.
    pub(crate) enabled: bool,
    /// A rewrite runs, since this many seconds.
    pub(crate) rewriting_since: Option<u64>,
    /// One waits for its turn.
    pub(crate) scheduled: bool,
    /// Seconds the last rewrite took.
    pub(crate) last_seconds: Option<u64>,
    /// The last rewrite failed.
    pub(crate) rewrite_failed: bool,
    /// Rewrites begun, and failures since the last that succeeded.
    pub(crate) rewrites: (u64, u64),
    /// The file cannot be written or synced.
    pub(crate) write_failed: bool,
    /// Most bytes of pre-images of the last rewrite.
    pub(crate) preimage_peak: u64,
    /// Bytes of all files, now and after the last rewrite.
    pub(crate) size: (u64, u64),
    /// Log not written yet.
    pub(crate) queued: u64,
    /// Syncs under way, and syncs that took too long.
    pub(crate) syncs: (u64, u64),
}

fn seconds(value: Option<u64>) -> i64 {
    value.map_or(-1, |s| s as i64)
}

pub(super) fn section(s: &Sources<'_>, t: &mut Text) {
    let p = &s.persistence;
    let (done, total) = p.save_keys;
    t.section("Persistence");
    t.flag("loading", p.loading);
    t.flag("async_loading", p.async_loading);
    // What copy-on-write costs a forking server, pre-images cost here.
    t.field("current_cow_peak", p.preimages.0);
    t.field("current_cow_size", p.preimages.0);
    t.field("current_cow_size_age", 0);
    let share = if total == 0 { 0.0 } else { done as f64 * 100.0 / total as f64 };
    t.field("current_fork_perc", format!("{share:.2}"));
    t.field("current_save_keys_processed", done);
    t.field("current_save_keys_total", total);
    t.field("rdb_changes_since_last_save", p.changes);
    t.flag("rdb_bgsave_in_progress", p.saving_since.is_some());
    t.field("rdb_last_save_time", p.last_save);
    t.field("rdb_last_bgsave_status", if p.last_ok { "ok" } else { "err" });
    t.field("rdb_last_bgsave_time_sec", seconds(p.last_seconds));
    t.field("rdb_current_bgsave_time_sec", seconds(p.saving_since));
    t.field("rdb_saves", p.saves);
    t.field("rdb_last_cow_size", p.preimages.1);
    t.field("rdb_last_load_keys_expired", p.loaded.1);
    t.field("rdb_last_load_keys_loaded", p.loaded.0);
    let aof = &p.aof;
    t.flag("aof_enabled", aof.enabled);
    t.flag("aof_rewrite_in_progress", aof.rewriting_since.is_some());
    t.flag("aof_rewrite_scheduled", aof.scheduled);
    t.field("aof_last_rewrite_time_sec", seconds(aof.last_seconds));
    t.field("aof_current_rewrite_time_sec", seconds(aof.rewriting_since));
    t.field("aof_last_bgrewrite_status", if aof.rewrite_failed { "err" } else { "ok" });
    t.field("aof_rewrites", aof.rewrites.0);
    t.field("aof_rewrites_consecutive_failures", aof.rewrites.1);
    t.field("aof_last_write_status", if aof.write_failed { "err" } else { "ok" });
    t.field("aof_last_cow_size", aof.preimage_peak);
    t.field("module_fork_in_progress", 0);
    t.field("module_fork_last_cow_size", 0);
    if aof.enabled {
        t.field("aof_current_size", aof.size.0);
        t.field("aof_base_size", aof.size.1);
        t.field("aof_pending_rewrite", 0);
        // The buffer is the log itself, as far as it is not written.
        t.field("aof_buffer_length", aof.queued);
        t.field("aof_pending_bio_fsync", aof.syncs.0);
        t.field("aof_delayed_fsync", aof.syncs.1);
    }
    t.field("persistence_shared_cuts", p.shared_cuts);
    t.field("persistence_max_bandwidth", p.budget.0);
    t.field("persistence_paced_ms", p.budget.1);
    if let Some((started, total, loaded)) = p.load_progress {
        let share = if total == 0 { 0.0 } else { loaded as f64 * 100.0 / total as f64 };
        let elapsed = (crate::os::unix_micros() / 1_000_000).saturating_sub(started);
        let left = (elapsed * total.saturating_sub(loaded)).checked_div(loaded).unwrap_or(1);
        t.field("loading_start_time", started);
        t.field("loading_total_bytes", total);
        t.field("loading_rdb_used_mem", p.load_memory);
        t.field("loading_loaded_bytes", loaded);
        t.field("loading_loaded_perc", format!("{share:.2}"));
        t.field("loading_eta_seconds", left);
    }
}
