//! What the machine withholds by itself: on every processor a real-time thread that only sleeps and looks how late it woke.
//!
//! A virtual machine's processors are stopped by their host at times, for milliseconds. No server can
//! answer then, so a worst latency means little without this figure beside it: one of 15 ms while a
//! thread with nothing to do was 14 ms late says something about the host, not about the server.

use crate::sys;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread sleeps at a time.
const NAP: Duration = Duration::from_micros(500);
/// Lateness that is kept: what is below is the timer's own.
const WORTH_KEEPING: Duration = Duration::from_micros(100);
/// Stalls kept a processor; later ones replace nothing.
const MAX_STALLS: usize = 1 << 16;

/// A nap that ended late: when it should have ended, and by how much.
type Stall = (Instant, Duration);

/// The running threads.
pub(crate) struct Stalls {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Option<Vec<Stall>>>>,
}

/// What they saw.
pub(crate) struct Stalled(Vec<Stall>);

impl Stalls {
    /// Starts a thread on each of so many processors.
    pub(crate) fn start(processors: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..processors)
            .map(|processor| {
                let stop = stop.clone();
                std::thread::spawn(move || watch(processor, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Ends them. `None` without the right to real-time priority: they would have measured the load.
    pub(crate) fn finish(mut self) -> Option<Stalled> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        let seen: Option<Vec<_>> = threads.into_iter().map(|t| t.join().ok().flatten()).collect();
        Some(Stalled(seen?.into_iter().flatten().collect()))
    }
}

/// A case that fails half-way leaves no thread behind.
impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Stalled {
    /// The worst stall that ended or began between two moments, in milliseconds; 0 for none.
    pub(crate) fn worst_between(&self, from: Instant, to: Instant) -> f64 {
        let within = |&&(due, late): &&Stall| due + late >= from && due <= to;
        let worst = self.0.iter().filter(within).map(|&(_, late)| late).max().unwrap_or_default();
        worst.as_secs_f64() * 1000.0
    }
}

fn watch(processor: usize, stop: &AtomicBool) -> Option<Vec<Stall>> {
    if !sys::stay_on(processor) || !sys::become_realtime(sys::ABOVE_THE_PROBE) {
        return None;
    }
    let mut stalls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let due = Instant::now() + NAP;
        std::thread::sleep(NAP);
        let late = due.elapsed();
        if late > WORTH_KEEPING && stalls.len() < MAX_STALLS {
            stalls.push((due, late));
        }
    }
    Some(stalls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_counts_where_it_overlaps_the_sync() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let stalled = Stalled(vec![
            (at(10), Duration::from_millis(7)),
            (at(100), Duration::from_millis(3)),
            (at(200), Duration::from_millis(90)),
        ]);
        assert_eq!(stalled.worst_between(at(15), at(150)), 7.0);
        assert_eq!(stalled.worst_between(at(50), at(150)), 3.0);
        assert_eq!(stalled.worst_between(at(50), at(200)), 90.0);
        assert_eq!(stalled.worst_between(at(20), at(30)), 0.0);
    }
}
