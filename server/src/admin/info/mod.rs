//! INFO: sections of `field:value` lines, field by field as Redis 7.0 prints them, and `sync`, which is Sluice's own.
//!
//! Everything shown comes in through [`Sources`], so that a section is a pure function from numbers to text.

mod memory;
mod persistence;
mod replication;
mod sections;

use std::fmt::Write as _;
use std::time::Instant;

use sluice_engine::Engine;

use crate::client::registry::Clients;
use crate::config::Config;
use crate::ground::stats::Stats;

pub(crate) use persistence::{AofInfo, PersistenceInfo};
pub(crate) use replication::{PrimaryLink, ReplicaLine, ReplicationInfo, SyncReport, Transfer};

/// What INFO reports from.
pub(crate) struct Sources<'a> {
    /// The data store.
    pub(crate) engine: &'a Engine,
    /// The settings.
    pub(crate) config: &'a Config,
    /// The counters.
    pub(crate) stats: &'a Stats,
    /// The connections.
    pub(crate) clients: &'a Clients,
    /// 40 hexadecimal digits, new at each start.
    pub(crate) run_id: &'a str,
    /// When the server started.
    pub(crate) started: Instant,
    /// Milliseconds a shutdown may still wait for replicas, while one does.
    pub(crate) shutdown_left: Option<u64>,
    /// The port that is bound.
    pub(crate) port: u16,
    /// Connections MIGRATE keeps.
    pub(crate) migrate_sockets: usize,
    /// Loading and saving.
    pub(crate) persistence: PersistenceInfo,
    /// Role, replicas, backlog.
    pub(crate) replication: ReplicationInfo,
    /// The last full sync served, if any.
    pub(crate) sync: Option<SyncReport>,
    /// `repl-sync-max-bandwidth`, and the milliseconds that full syncs waited for it in all.
    pub(crate) sync_budget: (u64, u64),
    /// Milliseconds that writers wait for a replica in its first sync, and how often they did.
    pub(crate) slow_writers: (u32, u64),
    /// Keys and keys with expiry of each database.
    pub(crate) databases: Vec<(u64, u64)>,
    pub(crate) shards: sluice_engine::internals::ShardStats,
}

/// A text of sections, written line by line.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a section.
    fn section(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\r\n");
        }
        let _ = write!(self.0, "# {title}\r\n");
    }

    /// One `field:value` line.
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// A yes or no, as 1 or 0.
    fn flag(&mut self, name: &str, value: bool) {
        self.field(name, u8::from(value));
    }
}

type Writer = fn(&Sources<'_>, &mut Text);

/// Every section: its name, whether plain INFO shows it, and what writes it. In the order they are shown.
const SECTIONS: [(&str, bool, Writer); 14] = [
    ("server", true, sections::server),
    ("clients", true, sections::clients),
    ("memory", true, memory::section),
    ("persistence", true, persistence::section),
    ("stats", true, sections::stats),
    ("replication", true, replication::section),
    ("sync", true, replication::sync_section),
    ("cpu", true, sections::cpu),
    ("modules", true, sections::modules),
    ("commandstats", false, sections::commandstats),
    ("errorstats", true, sections::errorstats),
    ("latencystats", false, sections::latencystats),
    ("cluster", true, sections::cluster),
    ("keyspace", true, sections::keyspace),
];

/// The text for the sections named in `names` (`default`, `all` and `everything` name several; none is
/// `default`). Unknown names add nothing.
pub(crate) fn info(sources: &Sources<'_>, names: &[&[u8]]) -> String {
    let named = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name.as_bytes()));
    let all = named("all") || named("everything");
    let default = names.is_empty() || named("default");
    let mut text = Text::default();
    for (name, in_default, write) in SECTIONS {
        if all || default && in_default || named(name) {
            write(sources, &mut text);
        }
    }
    text.0
}
