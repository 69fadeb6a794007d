//! Gathering what INFO and ROLE report from the parts of the server.

use std::sync::atomic::Ordering::Relaxed;

use sluice_transport::state::Role;

use super::info::{PersistenceInfo, PrimaryLink, ReplicationInfo, Sources, SyncReport};
use crate::config::Config;
use crate::state::{Server, unix_seconds};

impl Server {
    /// Whether this server follows a primary.
    pub(crate) fn is_replica(&self) -> bool {
        matches!(self.repl.state.lock().role(), Role::Replica { .. })
    }

    /// What INFO reports from, as of now.
    pub(crate) fn info_sources<'a>(&'a self, config: &'a Config) -> Sources<'a> {
        Sources {
            engine: &self.engine,
            config,
            stats: &self.stats,
            clients: &self.clients,
            run_id: &self.run_id,
            started: self.started,
            port: self.port,
            persistence: self.persistence_info(),
            replication: self.replication_info(),
            sync: self.sync_report(),
            databases: self.engine.db_sizes(),
        }
    }

    /// Loading and saving, as of now.
    pub(crate) fn persistence_info(&self) -> PersistenceInfo {
        let p = &self.persist;
        let began = p.began_ms.load(Relaxed) / 1000;
        let loading = self.is_loading();
        PersistenceInfo {
            loading,
            load_progress: loading.then(|| {
                (p.loading_since.load(Relaxed), p.loading_total.load(Relaxed), p.loading_done.load(Relaxed))
            }),
            preimages: (0, p.last_preimage_bytes.load(Relaxed)),
            changes: self.engine.changes().saturating_sub(p.changes_at_save.load(Relaxed)),
            saving_since: p.bgsave_running.load(Relaxed).then(|| unix_seconds().saturating_sub(began)),
            last_save: p.last_save.load(Relaxed),
            last_ok: !p.last_failed.load(Relaxed),
            last_seconds: u64::try_from(p.last_seconds.load(Relaxed)).ok(),
            saves: p.saves.load(Relaxed),
            loaded: (p.loading_keys.load(Relaxed), 0),
            ..PersistenceInfo::default()
        }
    }

    /// Role, replicas and backlog, as of now.
    pub(crate) fn replication_info(&self) -> ReplicationInfo {
        let log = self.engine.log();
        let (first, end) = (log.backlog_start(), log.end());
        let state = self.repl.state.lock().clone();
        let primary = match state.role() {
            Role::Primary => None,
            Role::Replica { .. } => self.config.load().replicaof.0.clone().map(|(host, port)| PrimaryLink {
                host,
                port,
                offset: end as i64,
                read_offset: end as i64,
                ..PrimaryLink::default()
            }),
        };
        ReplicationInfo {
            primary,
            replicas: Vec::new(),
            replid: state.replid().as_str().to_owned(),
            replid2: state.replid2().as_str().to_owned(),
            offset: end,
            second_offset: state.second_repl_offset(),
            backlog: log.is_active(),
            // Redis numbers the first byte of the stream 1.
            backlog_first: first + 1,
            backlog_len: end.saturating_sub(first),
            good_replicas: 0,
        }
    }

    /// The last full sync served.
    pub(crate) fn sync_report(&self) -> Option<SyncReport> {
        None
    }
}
