//! The paced probe: one request in flight, each due at a fixed time, its latency counted from
//! then. It runs on a thread with real-time priority where the system allows it, so that the
//! load's own use of the processors is not taken for the server's latency.

use crate::error::{Error, Result};
use crate::latency::Percentiles;
use crate::pace::Pace;
use crate::resp::{Client, Reply};
use crate::sys;
use crate::traffic::Commands;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A sample: when it was due, since the probe's start, and its latency in nanoseconds.
type Sample = (Duration, u64);

/// A running probe.
pub(crate) struct Probe {
    start: Instant,
    stop: mpsc::Sender<Duration>,
    thread: JoinHandle<Result<Vec<Sample>>>,
    realtime: bool,
}

/// What a probe measured.
pub(crate) struct Probed {
    start: Instant,
    samples: Vec<Sample>,
    /// Whether it had real-time priority.
    pub(crate) realtime: bool,
}

impl Probe {
    /// Starts probing at `rate` requests a second.
    pub(crate) fn start(mut client: Client, commands: Commands, rate: u64) -> Result<Probe> {
        let (stop, stopped) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let start = Instant::now();
        let thread = std::thread::spawn(move || {
            let _ = ready.send(sys::become_realtime(sys::OF_THE_PROBE));
            run(&mut client, commands, Pace::per_second(rate), start, &stopped)
        });
        let realtime = is_ready.recv().unwrap_or(false);
        Ok(Probe { start, stop, thread, realtime })
    }

    /// Stops once everything due until `end` has been answered.
    pub(crate) fn finish(self, end: Instant) -> Result<Probed> {
        let _ = self.stop.send(end.saturating_duration_since(self.start));
        let samples =
            self.thread.join().map_err(|_| Error::Usage("the probe's thread panicked".into()))??;
        Ok(Probed { start: self.start, samples, realtime: self.realtime })
    }
}

impl Probed {
    /// Percentiles of what was due from `from` to `to`.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Option<Percentiles> {
        let from = from.saturating_duration_since(self.start);
        let to = to.saturating_duration_since(self.start);
        let due_in = |(due, _): &&Sample| (from..=to).contains(due);
        Percentiles::of(self.samples.iter().filter(due_in).map(|&(_, nanos)| nanos).collect())
    }
}

fn run(
    client: &mut Client,
    mut commands: Commands,
    mut pace: Pace,
    start: Instant,
    stopped: &Receiver<Duration>,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::with_capacity(1 << 16);
    let mut request = Vec::new();
    let mut end = None;
    loop {
        if end.is_none() {
            end = match stopped.try_recv() {
                Ok(end) => Some(end),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return Ok(samples),
            };
        }
        if end.is_some_and(|end| pace.due() > end) {
            return Ok(samples);
        }
        if let Some(wait) = pace.wait(start.elapsed()) {
            std::thread::sleep(wait);
        }
        request.clear();
        commands(&mut request);
        client.send(&request)?;
        if let Reply::Error(reply) = client.reply()? {
            return Err(Error::Reply { command: "the probe's request".into(), reply });
        }
        let latency = start.elapsed().saturating_sub(pace.due());
        samples.push((pace.due(), u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)));
        pace.advance();
    }
}
