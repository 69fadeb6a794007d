//! What everything of the server stands on: the engine, the configuration, counters, gates, the clock, the role and the
//! history, the files' storage. Nothing here knows who uses it. The rooms above reach it by [`Server`](crate::server::Server),
//! which holds it; `start` makes both.

pub(crate) mod gate;
pub(crate) mod history;
pub(crate) mod memory;
pub(crate) mod pace;
pub(crate) mod roles;
pub(crate) mod stats;

use crate::config::{Config, ConfigHandle};
use crate::maxmemory::MemoryInUse;
use crate::slowlog::Slowlog;
use parking_lot::{Mutex, RwLock};
use sluice_engine::Engine;
use sluice_persistence::storage::Storage;
use sluice_transport::replid::ReplId;
use sluice_transport::state::ReplicationState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

/// The ground of a running server.
pub(crate) struct Ground {
    pub(crate) engine: Engine,
    pub(crate) config: ConfigHandle,
    pub(crate) stats: stats::Stats,
    pub(crate) slowlog: Slowlog,
    pub(crate) memory: MemoryInUse,
    /// What is refused now: bits of [`gate`].
    pub(crate) gate: AtomicU32,
    pub(crate) roles: roles::Roles,
    /// Where the data stands in which history.
    pub(crate) history: Mutex<ReplicationState>,
    /// Notified when the log grew while a replica waits for it, or when more of it may go out.
    pub(crate) grown: Arc<Notify>,
    /// Notified when a replica acknowledged something.
    pub(crate) acks: Notify,
    pub(crate) storage: Arc<dyn Storage>,
    /// The same, for big files written in the background: within `persistence-max-bandwidth`.
    pub(crate) paced_storage: Arc<dyn Storage>,
    pub(crate) active_expire: AtomicBool,
    /// Held for writing while DEBUG SLEEP stops the server: threads of their own pass it now and then.
    pub(crate) standstill: RwLock<()>,
    /// 40 random hexadecimal digits, new at each start.
    pub(crate) run_id: String,
    /// The port that is really bound.
    pub(crate) port: u16,
    pub(crate) started: Instant,
}

impl Ground {
    /// Of an engine that holds nothing yet.
    pub(crate) fn new(
        engine: Engine,
        config: ConfigHandle,
        (storage, paced_storage): (Arc<dyn Storage>, Arc<dyn Storage>),
    ) -> Ground {
        Ground {
            engine,
            stats: stats::Stats::default(),
            slowlog: Slowlog::default(),
            memory: MemoryInUse::default(),
            gate: AtomicU32::new(0),
            roles: roles::Roles::default(),
            history: Mutex::new(ReplicationState::new()),
            grown: Arc::default(),
            acks: Notify::new(),
            storage,
            paced_storage,
            active_expire: AtomicBool::new(true),
            standstill: RwLock::default(),
            run_id: ReplId::random().as_str().to_owned(),
            port: config.load().port,
            started: Instant::now(),
            config,
        }
    }

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

    /// Is the dataset being loaded?
    pub(crate) fn is_loading(&self) -> bool {
        self.gate.load(Ordering::Acquire) & gate::LOADING != 0
    }

    /// Is a full sync loaded beside the data that is served?
    pub(crate) fn is_loading_beside(&self) -> bool {
        self.gate.load(Ordering::Acquire) & gate::ASYNC_LOADING != 0
    }

    /// Whether this server follows a primary.
    pub(crate) fn is_replica(&self) -> bool {
        self.roles.is_replica()
    }

    /// The current replication id.
    pub(crate) fn replid(&self) -> ReplId {
        self.history.lock().replid()
    }

    /// Follows `maxmemory`: where there is a limit, commands that could add data are asked about it.
    pub(crate) fn follow_maxmemory(&self, config: &Config) {
        self.memory.set_limit(config.maxmemory);
        if config.maxmemory > 0 {
            self.memory.sample(crate::maxmemory::uncounted(&self.engine, &self.config.load()));
        }
        self.set_gate(gate::MAXMEMORY, config.maxmemory > 0);
    }

    /// Whether a command that could add data must be refused for the memory in use.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.memory.is_over(|| crate::maxmemory::uncounted(&self.engine, &self.config.load()))
            && !(self.config.load().replica_ignore_maxmemory && self.is_replica())
    }
}
