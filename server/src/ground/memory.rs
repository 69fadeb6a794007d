//! How memory is measured: what the allocator hands out (`used_memory`), what the kernel keeps resident for it, and the peak
//! seen so far.

use crate::os;
use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of the allocator and the kernel, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Handed out to the program.
    pub(crate) used: u64,
    /// In pages that hold something handed out.
    pub(crate) active: u64,
    /// Mapped by the allocator and backed by memory.
    pub(crate) resident: u64,
    /// Resident for the whole process.
    pub(crate) rss: u64,
    /// The most that was handed out at any reading.
    pub(crate) peak: u64,
    /// Handed out when the server had started and held no data.
    pub(crate) startup: u64,
}

static PEAK: AtomicU64 = AtomicU64::new(0);
static STARTUP: AtomicU64 = AtomicU64::new(0);

impl Memory {
    /// Reads the allocator now. The first reading is remembered as the one of the start.
    pub(crate) fn now() -> Memory {
        use tikv_jemalloc_ctl::stats;
        // A statistic that cannot be read shows as 0, and so does one of a build with another allocator.
        let used = sample_peak();
        let _ = STARTUP.compare_exchange(0, used, Ordering::Relaxed, Ordering::Relaxed);
        Memory {
            used,
            active: stats::active::read().unwrap_or(0) as u64,
            resident: stats::resident::read().unwrap_or(0) as u64,
            rss: os::resident_memory(),
            peak: PEAK.load(Ordering::Relaxed),
            startup: STARTUP.load(Ordering::Relaxed),
        }
    }
}

/// Reads how much is handed out, for the peak; called every 100 ms. Returns it.
pub(crate) fn sample_peak() -> u64 {
    use tikv_jemalloc_ctl::{epoch, stats};
    let _ = epoch::advance();
    let used = stats::allocated::read().unwrap_or(0) as u64;
    PEAK.fetch_max(used, Ordering::Relaxed);
    used
}
