//! What the threads of a server share.

use crate::client::registry::Clients;
use crate::config::ConfigHandle;
use crate::persist::Persistence;
use crate::repl::Replication;
use sluice_engine::Engine;
use sluice_persistence::storage::{Budget, Storage};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Conditions under which some commands are refused. One atomic word, zero in the common case.
pub(crate) mod gate {
    /// The dataset is being loaded.
    pub(crate) const LOADING: u32 = 1;
    /// A replica that refuses writes.
    pub(crate) const READONLY: u32 = 1 << 1;
    /// The link to the primary is down and stale data is not served.
    pub(crate) const STALE: u32 = 1 << 2;
    /// Snapshots fail and writes are refused meanwhile.
    pub(crate) const MISCONF: u32 = 1 << 3;
    /// Too few replicas are connected.
    pub(crate) const NOREPLICAS: u32 = 1 << 4;
    /// The append-only file cannot be written or synced and writes are refused meanwhile.
    pub(crate) const AOF_ERROR: u32 = 1 << 5;
    /// A full sync is loaded beside the data, which is served meanwhile.
    pub(crate) const ASYNC_LOADING: u32 = 1 << 6;
    /// CLIENT PAUSE is in force.
    pub(crate) const PAUSED: u32 = 1 << 7;
    /// There is a `maxmemory`.
    pub(crate) const MAXMEMORY: u32 = 1 << 8;
}

/// A running server.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    /// What runs the server's own commands.
    pub(crate) commands: crate::commands::Table,
    /// What DUMP and RESTORE know of the configuration.
    pub(crate) dump: Arc<crate::dump::Settings>,
    pub(crate) config: ConfigHandle,
    pub(crate) stats: Stats,
    pub(crate) clients: Clients,
    pub(crate) repl: Replication,
    pub(crate) persist: Persistence,
    pub(crate) snapshots: crate::snapshot::Snapshots,
    pub(crate) aof: crate::aof::Aof,
    pub(crate) storage: Arc<dyn Storage>,
    /// The same, for big files written in the background: within [`Server::snapshot_budget`].
    pub(crate) paced_storage: Arc<dyn Storage>,
    /// `persistence-max-bandwidth`.
    pub(crate) snapshot_budget: Arc<Budget>,
    pub(crate) memory: crate::maxmemory::MemoryInUse,
    pub(crate) slowlog: crate::slowlog::Slowlog,
    pub(crate) migrate: crate::migrate::Sockets,
    /// 40 random hexadecimal digits, new at each start.
    pub(crate) run_id: String,
    pub(crate) started: Instant,
    /// Unix milliseconds at the start; `now_ms` is monotonic from there for timers.
    pub(crate) gate: AtomicU32,
    /// The port that is really bound.
    pub(crate) port: u16,
    pub(crate) shutdown: tokio::sync::Notify,
    /// Notified when a replica acknowledged something (WAIT).
    pub(crate) acks: tokio::sync::Notify,
    pub(crate) ending: crate::shutdown::Shutdown,
    pub(crate) active_expire: std::sync::atomic::AtomicBool,
    /// CLIENT PAUSE.
    pub(crate) pause: crate::client::pause::Pause,
    /// Held for writing while DEBUG SLEEP stops the server: threads of their own pass it now and then.
    pub(crate) standstill: parking_lot::RwLock<()>,
}

impl Server {
    /// Milliseconds since the start: the clock of timers and of the replication state machines.
    pub(crate) fn clock(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Sets or clears a gate.
    pub(crate) fn set_gate(&self, bit: u32, on: bool) {
        if on {
            self.gate.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.gate.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Is a full sync loaded beside the data that is served?
    pub(crate) fn is_loading_beside(&self) -> bool {
        self.gate.load(Ordering::Acquire) & gate::ASYNC_LOADING != 0
    }

    /// Follows `maxmemory`: where there is a limit, commands that could add data are asked about it.
    pub(crate) fn follow_maxmemory(&self, config: &crate::config::Config) {
        self.memory.set_limit(config.maxmemory);
        if config.maxmemory > 0 {
            self.memory.sample(crate::maxmemory::uncounted(self));
        }
        self.set_gate(gate::MAXMEMORY, config.maxmemory > 0);
    }

    /// Is the dataset being loaded?
    pub(crate) fn is_loading(&self) -> bool {
        self.gate.load(Ordering::Acquire) & gate::LOADING != 0
    }
}

/// How the server is to end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ending {
    /// Save first: `None` saves where save points are configured.
    pub(crate) save: Option<bool>,
    /// Do not wait for replicas to catch up.
    pub(crate) now: bool,
    /// Leave even if saving fails.
    pub(crate) force: bool,
}

/// Unix time in seconds.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

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
    pub(crate) errors: parking_lot::Mutex<std::collections::BTreeMap<String, u64>>,
    /// Calls of subcommands (`config|get`...), for `commandstats`.
    pub(crate) subcommands: crate::admin::SubcommandStats,
    /// How long commands took.
    pub(crate) latency: crate::latency::LatencyStats,
    /// Commands executed during the last samples of 100 ms, for `instantaneous_ops_per_sec`.
    pub(crate) ops: parking_lot::Mutex<Samples>,
    /// The same of bytes read and written, of all connections and of replication.
    pub(crate) input_rate: parking_lot::Mutex<Samples>,
    pub(crate) output_rate: parking_lot::Mutex<Samples>,
    pub(crate) repl_input_rate: parking_lot::Mutex<Samples>,
    pub(crate) repl_output_rate: parking_lot::Mutex<Samples>,
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
