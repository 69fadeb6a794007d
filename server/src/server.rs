//! A running server: what it is made of.
//!
//! Below is the ground, which many need and which knows none of them; above it what belongs to one part of the server.
//! Connections and their commands reach all of it from here. `start` puts it together.

use crate::client::registry::Clients;
use crate::ground::Ground;
use crate::persist::Persistence;
use crate::repl::Replication;
use sluice_persistence::storage::Budget;
use std::ops::Deref;
use std::sync::Arc;

/// A running server.
pub(crate) struct Server {
    pub(crate) ground: Ground,
    /// What runs the server's own commands.
    pub(crate) commands: crate::commands::Table,
    /// What DUMP and RESTORE know of the configuration.
    pub(crate) dump: Arc<crate::dump::Settings>,
    pub(crate) clients: Clients,
    pub(crate) repl: Replication,
    pub(crate) persist: Persistence,
    pub(crate) snapshots: crate::snapshot::Snapshots,
    pub(crate) aof: crate::aof::Aof,
    /// `persistence-max-bandwidth`.
    pub(crate) snapshot_budget: Arc<Budget>,
    pub(crate) migrate: crate::migrate::Sockets,
    pub(crate) shutdown: tokio::sync::Notify,
    pub(crate) ending: crate::shutdown::Shutdown,
    /// CLIENT PAUSE.
    pub(crate) pause: crate::client::pause::Pause,
}

/// The ground is everybody's.
impl Deref for Server {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.ground
    }
}
