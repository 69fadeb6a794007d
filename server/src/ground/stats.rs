//! Counters and rates, as INFO's `stats` section and its like show them. Whoever does something counts it here.

use crate::latency::LatencyStats;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A counter that only grows, until CONFIG RESETSTAT.
#[derive(Default, Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub(crate) fn bump(&self) {
        self.add(1);
    }
    /// Adds `n`.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    /// Starts anew.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Counters of INFO's `stats` section.
#[derive(Default, Debug)]
pub(crate) struct Stats {
    pub(crate) connections_received: Counter,
    pub(crate) commands_processed: Counter,
    pub(crate) net_input_bytes: Counter,
    pub(crate) net_output_bytes: Counter,
    pub(crate) net_repl_input_bytes: Counter,
    pub(crate) net_repl_output_bytes: Counter,
    pub(crate) rejected_connections: Counter,
    pub(crate) sync_full: Counter,
    pub(crate) sync_partial_ok: Counter,
    pub(crate) sync_partial_err: Counter,
    pub(crate) error_replies: Counter,
    /// Errors in reply to a primary, or to a file, which had none from them.
    pub(crate) unexpected_error_replies: Counter,
    /// Snapshots and rewrites begun: what a server that forks counts as forks.
    pub(crate) background_jobs: Counter,
    pub(crate) reads_processed: Counter,
    pub(crate) writes_processed: Counter,
    /// Replies by error code (`ERR`, `WRONGTYPE`...), for `errorstats`.
    pub(crate) errors: Mutex<BTreeMap<String, u64>>,
    /// Calls of subcommands (`config|get`...), for `commandstats`.
    pub(crate) subcommands: SubcommandStats,
    /// How long commands took.
    pub(crate) latency: LatencyStats,
    /// Commands executed during the last samples of 100 ms, for `instantaneous_ops_per_sec`.
    pub(crate) ops: Mutex<Samples>,
    /// The same of bytes read and written, of all connections and of replication.
    pub(crate) input_rate: Mutex<Samples>,
    pub(crate) output_rate: Mutex<Samples>,
    pub(crate) repl_input_rate: Mutex<Samples>,
    pub(crate) repl_output_rate: Mutex<Samples>,
}

/// Error codes counted separately at most; Redis 7.0 has no limit, which let a script fill memory.
const MAX_ERROR_CODES: usize = 128;

/// Sixteen samples of a rate, as Redis keeps them.
#[derive(Default, Debug)]
pub(crate) struct Samples {
    rates: [u64; 16],
    at: usize,
    last: Option<(Instant, u64)>,
}

impl Samples {
    /// Takes the counter's present value.
    pub(crate) fn sample(&mut self, value: u64) {
        let now = Instant::now();
        if let Some((then, before)) = self.last {
            let ms = now.duration_since(then).as_millis().max(1) as u64;
            self.rates[self.at % 16] = value.saturating_sub(before) * 1000 / ms;
            self.at += 1;
        }
        self.last = Some((now, value));
    }
    /// The mean rate a second.
    pub(crate) fn mean(&self) -> u64 {
        self.rates.iter().sum::<u64>() / 16
    }
}

impl Stats {
    /// Takes one sample of every rate; called every 100 ms.
    pub(crate) fn sample(&self) {
        self.ops.lock().sample(self.commands_processed.get());
        self.input_rate.lock().sample(self.net_input_bytes.get());
        self.output_rate.lock().sample(self.net_output_bytes.get());
        self.repl_input_rate.lock().sample(self.net_repl_input_bytes.get());
        self.repl_output_rate.lock().sample(self.net_repl_output_bytes.get());
    }

    /// Counts an error reply, `line` without the leading `-`.
    pub(crate) fn error(&self, line: &[u8]) {
        self.error_replies.bump();
        let code = line.split(|c| *c == b' ' || *c == b'\r').next().unwrap_or_default();
        let mut errors = self.errors.lock();
        let code = String::from_utf8_lossy(code);
        if let Some(n) = errors.get_mut(code.as_ref()) {
            *n += 1;
        } else if errors.len() < MAX_ERROR_CODES {
            errors.insert(code.into_owned(), 1);
        }
    }

    /// CONFIG RESETSTAT.
    pub(crate) fn reset(&self) {
        for c in [
            &self.connections_received,
            &self.commands_processed,
            &self.net_input_bytes,
            &self.net_output_bytes,
            &self.net_repl_input_bytes,
            &self.net_repl_output_bytes,
            &self.rejected_connections,
            &self.sync_full,
            &self.sync_partial_ok,
            &self.sync_partial_err,
            &self.error_replies,
            &self.unexpected_error_replies,
            &self.reads_processed,
            &self.writes_processed,
        ] {
            c.reset();
        }
        self.errors.lock().clear();
        self.latency.reset();
    }
}

/// How often a subcommand was called, for `commandstats`.
#[derive(Default, Debug)]
pub(crate) struct SubcommandStats(Mutex<BTreeMap<(&'static str, &'static str), Calls>>);

/// Counters of one subcommand.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Calls {
    /// Times it ran, and how long in all.
    pub(crate) calls: u64,
    /// Microseconds in all.
    pub(crate) micros: u64,
    /// Times it had the wrong number of words.
    pub(crate) rejected: u64,
    /// Times it replied an error.
    pub(crate) failed: u64,
}

impl SubcommandStats {
    /// Counts one call.
    pub(crate) fn note(&self, command: &'static str, sub: &'static str, change: impl FnOnce(&mut Calls)) {
        change(self.0.lock().entry((command, sub)).or_default());
    }

    /// The counters of a command's subcommands.
    pub(crate) fn of(&self, command: &str) -> Vec<(&'static str, Calls)> {
        self.0
            .lock()
            .iter()
            .filter(|((c, _), _)| *c == command)
            .map(|((_, sub), calls)| (*sub, *calls))
            .collect()
    }

    /// CONFIG RESETSTAT.
    pub(crate) fn reset(&self) {
        self.0.lock().clear();
    }
}
