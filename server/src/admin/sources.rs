//! Gathering what INFO and ROLE report from the parts of the server.

use std::sync::atomic::Ordering::Relaxed;

use sluice_engine::internals::ShardStats;
use sluice_transport::primary::schedule::Format;

use super::info::{
    AofInfo, PersistenceInfo, PrimaryLink, ReplicaLine, ReplicationInfo, Sources, SyncReport, Transfer,
};
use crate::config::Config;
use crate::os::unix_seconds;
use crate::server::Server;

impl Server {
    /// What INFO reports from, as of now; of the data what the caller looked up under its locks.
    pub(crate) fn info_sources<'a>(
        &'a self,
        config: &'a Config,
        (databases, shards): (Vec<(u64, u64)>, ShardStats),
    ) -> Sources<'a> {
        Sources {
            engine: &self.engine,
            config,
            stats: &self.stats,
            clients: &self.clients,
            run_id: &self.run_id,
            started: self.started,
            port: self.port,
            shutdown_left: self.ending.left(self.clock()),
            migrate_sockets: self.migrate.len(),
            persistence: self.persistence_info(),
            replication: self.replication_info(),
            sync: self.sync_report(),
            slow_writers: (
                self.repl.slow_writers.wait_ms(self.engine.log()),
                self.repl.slow_writers.waits.get(),
            ),
            sync_budget: (self.repl.sync_budget.rate(), self.repl.sync_budget.waited_ms()),
            databases,
            shards,
        }
    }

    /// Loading and saving, as of now.
    pub(crate) fn persistence_info(&self) -> PersistenceInfo {
        let p = &self.persist;
        let began = p.began_ms.load(Relaxed) / 1000;
        let loading = self.is_loading();
        PersistenceInfo {
            loading,
            load_progress: (loading || self.is_loading_beside()).then(|| {
                // A file's load counts for itself, a log's is counted here.
                let done = p.loading_done.load(Relaxed).max(p.load.bytes.load(Relaxed));
                (p.loading_since.load(Relaxed), p.loading_total.load(Relaxed), done)
            }),
            load_memory: p.load.used_memory.load(Relaxed),
            changes: self.engine.changes().saturating_sub(p.changes_at_save.load(Relaxed)),
            async_loading: self.is_loading_beside(),
            // A cut taken for replicas counts, as their child does in Redis.
            saving_since: (p.bgsave_running.load(Relaxed) || self.repl.cuts.load(Relaxed) > 0)
                .then(|| if began > 0 { unix_seconds().saturating_sub(began) } else { 0 }),
            last_save: p.last_save.load(Relaxed),
            last_ok: !p.last_failed.load(Relaxed),
            last_seconds: u64::try_from(p.last_seconds.load(Relaxed)).ok(),
            saves: p.saves.load(Relaxed),
            save_keys: (p.save_keys.load(Relaxed), p.save_keys_total.load(Relaxed)),
            preimages: (p.save_preimages.load(Relaxed), p.last_preimages.load(Relaxed)),
            loaded: (p.loading_keys.load(Relaxed), p.loading_expired.load(Relaxed)),
            shared_cuts: self.snapshots.shared(),
            budget: (self.snapshot_budget.rate(), self.snapshot_budget.waited_ms()),
            aof: self.aof_info(),
        }
    }

    /// The append-only file, as of now.
    fn aof_info(&self) -> AofInfo {
        let (aof, f) = (&self.aof, &self.aof.figures);
        let began = f.rewrite_began.load(Relaxed);
        AofInfo {
            enabled: aof.mode() != crate::aof::Mode::Off,
            rewriting_since: aof.is_rewriting().then(|| unix_seconds().saturating_sub(began)),
            scheduled: aof.is_rewrite_scheduled(),
            last_seconds: u64::try_from(f.rewrite_seconds.load(Relaxed)).ok(),
            rewrite_failed: f.rewrite_failed.load(Relaxed),
            rewrites: (f.rewrites.load(Relaxed), f.failures.load(Relaxed)),
            write_failed: f.write_error.load(Relaxed) != 0 || f.sync_error.load(Relaxed) != 0,
            preimage_peak: f.preimage_peak.load(Relaxed),
            size: (f.size.load(Relaxed), f.base_size.load(Relaxed)),
            queued: aof.queued(self.engine.log()),
            syncs: (f.syncs_pending.load(Relaxed), f.delayed_syncs.load(Relaxed)),
        }
    }

    /// Role, replicas and backlog, as of now.
    pub(crate) fn replication_info(&self) -> ReplicationInfo {
        let log = self.engine.log();
        let (first, end) = (log.backlog_start(), log.end());
        let state = self.history.lock().clone();
        let now = self.clock();
        let primary = self.repl.link.lock().as_ref().map(|link| {
            let shared = &link.shared;
            let (last, down) = (shared.last_io.load(Relaxed), shared.down_since.load(Relaxed));
            let seconds = |since: u64| (since > 0).then(|| now.saturating_sub(since) / 1000);
            let syncing = shared.is_syncing();
            PrimaryLink {
                host: link.host.clone(),
                port: link.port,
                up: shared.is_up() && !shared.is_hung_up(),
                state: shared.role_word(),
                idle: seconds(last),
                transfer: syncing.then(|| Transfer {
                    total: u64::try_from(shared.sync_total.load(Relaxed)).ok(),
                    read: shared.sync_read.load(Relaxed),
                    idle: seconds(last).unwrap_or(0),
                }),
                syncing,
                offset: end as i64,
                read_offset: (shared.read_offset.load(Relaxed) as i64).max(end as i64),
                down_since: seconds(down),
                failures: shared.failures(now),
                unapplied: self.repl.unapplied.load(Relaxed),
            }
        });
        let replicas = crate::repl::primary::views(self)
            .into_iter()
            .map(|v| ReplicaLine {
                ip: v.ip,
                port: v.port,
                state: v.state,
                offset: v.offset,
                lag: v.lag_seconds,
            })
            .collect();
        ReplicationInfo {
            primary,
            replicas,
            replid: state.replid().as_str().to_owned(),
            replid2: state.replid2().as_str().to_owned(),
            offset: end,
            second_offset: state.second_repl_offset(),
            backlog: log.is_active(),
            // Redis numbers the first byte of the stream 1.
            backlog_first: first + 1,
            backlog_len: end.saturating_sub(first),
            failover: self.repl.failover.lock().word(),
            good_replicas: crate::repl::primary::update_good(self),
        }
    }

    /// The last full sync served.
    pub(crate) fn sync_report(&self) -> Option<SyncReport> {
        let last = self.repl.last_sync.lock().clone()?;
        let r = &last.report;
        Some(SyncReport {
            transport: r.transport.word().into(),
            format: match last.format {
                Format::SizedRdb => "rdb",
                Format::EofRdb => "rdb-stream",
                Format::Sluice => "sluice",
            },
            status: if let Some(why) = &last.failed {
                why.replace(['\r', '\n'], " ")
            } else if r.completed == r.replicas {
                "ok".into()
            } else {
                format!("{} dropped", r.replicas - r.completed.min(r.replicas))
            },
            replicas: r.replicas as u64,
            window_ms: r.window_ms,
            first_byte_ms: r.first_byte_ms,
            duration_ms: r.duration_ms,
            bytes: r.sent_bytes,
            disk_bytes: r.disk_bytes,
            disk_ms: r.disk_ms,
            preimage_bytes: last.preimage_bytes,
            preimage_peak_bytes: last.preimage_peak,
            peak_queue_bytes: r.peak_queue_bytes,
            cpu_ms: r.cpu_ms,
            zero_copy: (r.zero_copy_sends + r.copied_sends, r.zero_copy_sends),
        })
    }
}
