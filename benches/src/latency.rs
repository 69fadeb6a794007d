//! Percentiles of the probe's latencies.

use serde::Serialize;

/// The figures reported of a set of latencies, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) samples: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) worst_ms: f64,
}

impl Percentiles {
    /// Of latencies in nanoseconds, in any order. `None` of nothing.
    pub(crate) fn of(mut nanos: Vec<u64>) -> Option<Percentiles> {
        nanos.sort_unstable();
        let worst = *nanos.last()?;
        let ms = |n: u64| n as f64 / 1e6;
        Some(Percentiles {
            samples: nanos.len(),
            p50_ms: ms(rank(&nanos, 50, 100)),
            p99_ms: ms(rank(&nanos, 99, 100)),
            p999_ms: ms(rank(&nanos, 999, 1000)),
            worst_ms: ms(worst),
        })
    }
}

/// The nearest-rank percentile: the smallest sample that at least `num/den` of all do not exceed.
/// `sorted` must not be empty.
fn rank(sorted: &[u64], num: usize, den: usize) -> u64 {
    let rank = (sorted.len() * num).div_ceil(den);
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Percentiles::of(vec![]), None);
    }

    #[test]
    fn one_sample_is_every_percentile() {
        let p = Percentiles::of(vec![2_000_000]).unwrap();
        assert_eq!((p.p50_ms, p.p99_ms, p.p999_ms, p.worst_ms), (2.0, 2.0, 2.0, 2.0));
    }

    #[test]
    fn percentiles_are_nearest_ranks_in_any_order() {
        let p = Percentiles::of((1..=1000).rev().map(|n| n * 1_000_000).collect()).unwrap();
        assert_eq!((p.p50_ms, p.p99_ms, p.p999_ms, p.worst_ms), (500.0, 990.0, 999.0, 1000.0));
        assert_eq!(p.samples, 1000);
    }

    #[test]
    fn one_stall_in_a_hundred_shows_in_the_worst_only() {
        let mut nanos = vec![100_000; 99];
        nanos.push(50_000_000);
        let p = Percentiles::of(nanos).unwrap();
        assert_eq!((p.p99_ms, p.worst_ms), (0.1, 50.0));
    }
}
