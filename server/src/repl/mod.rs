//! Replication: what the two sides share, and the commands that steer them.
//!
//! - [`primary`]: the replicas attached to this server and the delay window; [`attached`]: what the connection of each
//!   does, up to the steady stream; [`full_sync`]: the threads that serve full syncs;
//! - [`link`]: the thread that keeps a connection to our primary; [`attempt`]: one such connection; [`receive`]: loading
//!   the full sync that comes over it; [`apply`]: its stream; [`dialect`]: what newer primaries say in it;
//! - [`role`]: which of the two this server is, and the changes between them; [`failover`]: changing roles with a replica;
//!
//! The protocol's logic is in the transport crate; here are its drivers.

mod apply;
mod attached;
mod attempt;
pub(crate) mod commands;
mod dialect;
pub(crate) mod failover;
mod full_sync;
pub(crate) mod link;
mod paced;
mod prefetch;
pub(crate) mod primary;
mod receive;
pub(crate) mod role;
pub(crate) mod slow_writers;

pub(crate) use attached::serve_replica;
pub(crate) use primary::Attach;
pub(crate) use role::{follow, promote, start_as_replica, update_gates_by};

use crate::server::Server;
use link::LinkHandle;
use parking_lot::Mutex;
use primary::Replicas;
use sluice_persistence::storage::Budget;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// The state of replication.
pub(crate) struct Replication {
    pub(crate) replicas: Mutex<Replicas>,
    /// The link to our primary, on a replica.
    pub(crate) link: Mutex<Option<LinkHandle>>,
    /// What the last full sync served cost.
    pub(crate) last_sync: Mutex<Option<SyncSummary>>,
    /// Replicas that were given up because they lagged beyond their limit, and the like.
    pub(crate) dropped: AtomicU64,
    /// Commands of a primary that could not be applied.
    pub(crate) unapplied: AtomicU64,
    /// `repl-sync-max-bandwidth`.
    pub(crate) sync_budget: Arc<Budget>,
    /// Full syncs may begin (not while shutting down).
    pub(crate) open: AtomicBool,
    /// The FAILOVER under way.
    pub(crate) failover: Mutex<failover::Failover>,
    /// Cuts being taken for replicas.
    pub(crate) cuts: AtomicUsize,
    /// `repl-sync-slow-writers`.
    pub(crate) slow_writers: slow_writers::SlowWriters,
}

/// What INFO's `sync` section shows.
#[derive(Clone, Debug)]
pub(crate) struct SyncSummary {
    pub(crate) report: sluice_transport::fullsync::SyncReport,
    /// Why it failed as a whole.
    pub(crate) failed: Option<String>,
    pub(crate) format: sluice_transport::primary::schedule::Format,
    pub(crate) preimage_bytes: u64,
    pub(crate) preimage_peak: u64,
}

impl Replication {
    pub(crate) fn new() -> Replication {
        Replication {
            replicas: Mutex::new(Replicas::default()),
            link: Mutex::new(None),
            last_sync: Mutex::new(None),
            dropped: AtomicU64::new(0),
            unapplied: AtomicU64::new(0),
            sync_budget: Budget::new(0),
            open: AtomicBool::new(true),
            failover: Mutex::default(),
            cuts: AtomicUsize::new(0),
            slow_writers: Default::default(),
        }
    }

    /// Ends the connections of all replicas: their copies no longer follow from ours.
    pub(crate) fn disconnect_replicas(&self) {
        for r in self.replicas.lock().map.values() {
            r.client.kill();
        }
    }
}

/// True where `repl-diskless-load` lets this server load straight from the socket now.
pub(crate) fn loads_from_socket(server: &Server) -> Option<LoadWay> {
    use crate::config::DisklessLoad;
    let empty = server.engine.db_sizes().iter().all(|(keys, _)| *keys == 0);
    match server.config.load().repl_diskless_load {
        DisklessLoad::Disabled => None,
        DisklessLoad::OnEmptyDb if empty => Some(LoadWay::Live),
        DisklessLoad::OnEmptyDb => None,
        DisklessLoad::Swapdb => Some(LoadWay::Swap),
    }
}

/// Where a full sync is loaded to without a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadWay {
    /// Into the emptied keyspace.
    Live,
    /// Into a keyspace beside the live one, which it replaces when complete.
    Swap,
}
