//! How long commands took: a histogram each, for INFO's `latencystats` and LATENCY HISTOGRAM.
//!
//! Buckets grow by powers of two, each divided in sixteen: a percentile is right within a sixteenth. A command's
//! histogram comes into being with its first call.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Commands with a histogram of their own, by index in the command table.
const MAX_COMMANDS: usize = 512;
/// Buckets a power of two.
const PARTS: u64 = 16;
const BUCKETS: usize = 40 * PARTS as usize;

/// Calls by their duration in nanoseconds.
pub(crate) struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([const { AtomicU64::new(0) }; BUCKETS])
    }
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < PARTS {
        return nanos as usize;
    }
    let power = nanos.ilog2() as u64;
    let part = (nanos >> (power - 4)) & (PARTS - 1);
    (((power - 3) * PARTS + part) as usize).min(BUCKETS - 1)
}

/// The largest duration of a bucket.
fn top_of(bucket: usize) -> u64 {
    let (power, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    if power == 0 { part } else { ((PARTS + part + 1) << (power - 1)) - 1 }
}

impl Histogram {
    #[inline]
    fn note(&self, nanos: u64) {
        self.0[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> Vec<u64> {
        self.0.iter().map(|n| n.load(Ordering::Relaxed)).collect()
    }

    /// The durations in nanoseconds that these percentages of the calls did not exceed; `None` without calls.
    pub(crate) fn percentiles(&self, percents: &[f64]) -> Option<Vec<u64>> {
        let counts = self.counts();
        let total: u64 = counts.iter().sum();
        let at = |percent: f64| {
            let rank = ((percent / 100.0 * total as f64).ceil() as u64).clamp(1, total);
            let mut seen = 0;
            let bucket = counts.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            top_of(bucket.unwrap_or(BUCKETS - 1))
        };
        (total > 0).then(|| percents.iter().map(|p| at(*p)).collect())
    }

    /// Calls, and `(microseconds, calls that took no longer)` for the powers of two at which the number grows.
    pub(crate) fn cumulative(&self) -> (u64, Vec<(u64, u64)>) {
        let (mut seen, mut lines) = (0, Vec::<(u64, u64)>::new());
        for (bucket, n) in self.counts().into_iter().enumerate().filter(|(_, n)| *n > 0) {
            seen += n;
            let micros = (top_of(bucket) / 1000 + 1).next_power_of_two();
            match lines.last_mut() {
                Some((last, calls)) if *last == micros => *calls = seen,
                _ => lines.push((micros, seen)),
            }
        }
        (seen, lines)
    }

    fn reset(&self) {
        self.0.iter().for_each(|n| n.store(0, Ordering::Relaxed));
    }
}

/// All histograms.
pub(crate) struct LatencyStats {
    /// `latency-tracking`
    pub(crate) on: AtomicBool,
    commands: Box<[OnceLock<Box<Histogram>>]>,
    subcommands: Mutex<BTreeMap<(&'static str, &'static str), Box<Histogram>>>,
}

impl Default for LatencyStats {
    fn default() -> Self {
        LatencyStats {
            on: AtomicBool::new(true),
            commands: (0..MAX_COMMANDS).map(|_| OnceLock::new()).collect(),
            subcommands: Mutex::default(),
        }
    }
}

impl LatencyStats {
    /// Notes a call of the command with this index in the table, which took so many nanoseconds.
    #[inline]
    pub(crate) fn note(&self, command: usize, took: u64) {
        if self.on.load(Ordering::Relaxed)
            && let Some(place) = self.commands.get(command)
        {
            place.get_or_init(Box::default).note(took);
        }
    }

    /// Notes a call of a subcommand.
    pub(crate) fn note_sub(&self, command: &'static str, sub: &'static str, took: Duration) {
        if self.on.load(Ordering::Relaxed) {
            self.subcommands.lock().entry((command, sub)).or_default().note(took.as_nanos() as u64);
        }
    }

    /// The histogram of a command that was called.
    pub(crate) fn of(&self, command: usize) -> Option<&Histogram> {
        self.commands.get(command)?.get().map(|h| &**h)
    }

    /// Calls `f` with each subcommand's histogram.
    pub(crate) fn each_sub(&self, mut f: impl FnMut(&str, &str, &Histogram)) {
        self.subcommands.lock().iter().for_each(|((command, sub), h)| f(command, sub, h));
    }

    /// CONFIG RESETSTAT.
    pub(crate) fn reset(&self) {
        self.commands.iter().filter_map(OnceLock::get).for_each(|h| h.reset());
        self.subcommands.lock().clear();
    }
}

impl std::fmt::Debug for LatencyStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LatencyStats").field("on", &self.on).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_right_within_a_sixteenth() {
        let h = Histogram::default();
        (1..=1000u64).for_each(|us| h.note(us * 1000));
        let found = h.percentiles(&[0.0, 50.0, 99.0, 100.0]).unwrap();
        for (found, exact) in found.into_iter().zip([1_000, 500_000, 990_000, 1_000_000]) {
            assert!(found >= exact && found <= exact + exact / 16 + 1, "{found} for {exact}");
        }
        assert_eq!(h.cumulative().0, 1000);
        h.reset();
        assert_eq!(h.percentiles(&[50.0]), None);
    }

    #[test]
    fn buckets_follow_each_other_and_hold_every_duration() {
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(top_of(bucket)), bucket);
            assert_eq!(bucket_of(top_of(bucket) + 1), bucket + 1);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
