//! The paced writer: overwrites in small pipelines at a fixed rate, so that the data changes
//! during the sync. It counts what the server acknowledged, which is what it served.

use crate::error::{Error, Result};
use crate::pace::Pace;
use crate::resp::Client;
use crate::traffic::Commands;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Writes in one pipeline at most.
const MAX_BATCH: u64 = 50;
/// Pipelines a second aimed at, for rates too low to fill the largest.
const BATCHES_A_SECOND: u64 = 200;

/// A running writer.
pub(crate) struct Writer {
    served: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    /// Starts `rate` writes a second.
    pub(crate) fn start(mut client: Client, mut commands: Commands, rate: u64) -> Writer {
        let (served, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&served), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let batch = (rate / BATCHES_A_SECOND).clamp(1, MAX_BATCH);
            let mut pace = Pace::per_second((rate / batch).max(1));
            let start = Instant::now();
            let mut pipeline = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Some(wait) = pace.wait(start.elapsed()) {
                    std::thread::sleep(wait);
                }
                pipeline.clear();
                (0..batch).for_each(|_| commands(&mut pipeline));
                client.send(&pipeline)?;
                client.expect(batch as usize)?;
                count.fetch_add(batch, Ordering::Relaxed);
                pace.advance();
            }
            Ok(())
        });
        Writer { served, stop, thread }
    }

    /// Writes acknowledged so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Stops, and says whether all went well.
    pub(crate) fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Error::Usage("the writer's thread panicked".into()))?
    }
}
