//! The replication section of INFO, as Redis prints it for a primary and for a replica, and Sluice's own `sync`.

use super::{Sources, Text};

/// One replica, as a primary sees it.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaLine {
    /// Its address, announced or seen.
    pub(crate) ip: String,
    /// Its listening port.
    pub(crate) port: u16,
    /// `wait_bgsave`, `send_bulk` or `online`.
    pub(crate) state: &'static str,
    /// The offset it acknowledged last.
    pub(crate) offset: u64,
    /// Seconds since that.
    pub(crate) lag: u64,
}

/// A full sync being received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfer {
    /// Bytes in all, if the primary said so.
    pub(crate) total: Option<u64>,
    /// Bytes received.
    pub(crate) read: u64,
    /// Seconds since the last of them.
    pub(crate) idle: u64,
}

/// The link to the primary, as a replica sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrimaryLink {
    /// The primary's host, as configured.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// The link is in the streaming state.
    pub(crate) up: bool,
    /// `connect`, `connecting`, `handshake`, `sync` or `connected`, as ROLE says.
    pub(crate) state: &'static str,
    /// Seconds since anything was heard; `None` before.
    pub(crate) idle: Option<u64>,
    /// The full sync being received.
    pub(crate) transfer: Option<Transfer>,
    /// A sync is under way (Redis: transfer).
    pub(crate) syncing: bool,
    /// Offset up to which the stream was read.
    pub(crate) read_offset: i64,
    /// Offset up to which it was executed.
    pub(crate) offset: i64,
    /// Seconds since the link went down; `None` if it never was up.
    pub(crate) down_since: Option<u64>,
    /// Full syncs in a row whose content could not be used, and the seconds to the next where that is put off.
    pub(crate) failures: (u32, u64),
    /// Commands of the primary that could not be applied here, since the start.
    pub(crate) unapplied: u64,
}

/// Role, replicas and backlog.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplicationInfo {
    /// The link to the primary; `None` on a primary.
    pub(crate) primary: Option<PrimaryLink>,
    /// The replicas attached here.
    pub(crate) replicas: Vec<ReplicaLine>,
    /// The present replication id.
    pub(crate) replid: String,
    /// The one before, valid up to `second_offset`.
    pub(crate) replid2: String,
    /// The log's end.
    pub(crate) offset: u64,
    /// See `replid2`; -1 for none.
    pub(crate) second_offset: i64,
    /// A backlog exists.
    pub(crate) backlog: bool,
    /// Offset of its first byte.
    pub(crate) backlog_first: u64,
    /// Bytes in it.
    pub(crate) backlog_len: u64,
    /// Where a FAILOVER stands.
    pub(crate) failover: &'static str,
    /// Replicas within `min-replicas-max-lag`.
    pub(crate) good_replicas: usize,
}

pub(super) fn section(s: &Sources<'_>, t: &mut Text) {
    let (r, config) = (&s.replication, s.config);
    t.section("Replication");
    t.field("role", if r.primary.is_some() { "slave" } else { "master" });
    if let Some(link) = &r.primary {
        t.field("master_host", &link.host);
        t.field("master_port", link.port);
        t.field("master_link_status", if link.up { "up" } else { "down" });
        t.field("master_last_io_seconds_ago", link.idle.filter(|_| link.up).map_or(-1, |s| s as i64));
        t.flag("master_sync_in_progress", link.syncing);
        t.field("slave_read_repl_offset", link.read_offset);
        t.field("slave_repl_offset", link.offset);
        if let Some(transfer) = &link.transfer {
            let share = match transfer.total {
                Some(total) if total > 0 => transfer.read as f64 * 100.0 / total as f64,
                _ => 0.0,
            };
            t.field("master_sync_total_bytes", transfer.total.map_or(-1, |n| n as i64));
            t.field("master_sync_read_bytes", transfer.read);
            t.field("master_sync_left_bytes", transfer.total.map_or(-1, |n| n as i64 - transfer.read as i64));
            t.field("master_sync_perc", format!("{share:.2}"));
            t.field("master_sync_last_io_seconds_ago", transfer.idle);
        }
        t.field("slave_unapplied_commands", link.unapplied);
        t.field("master_sync_failures", link.failures.0);
        t.field("master_sync_retry_in_seconds", link.failures.1);
        if !link.up {
            t.field("master_link_down_since_seconds", link.down_since.map_or(-1, |s| s as i64));
        }
        t.field("slave_priority", config.replica_priority);
        t.flag("slave_read_only", config.replica_read_only);
        t.flag("replica_announced", config.replica_announced);
    }
    t.field("connected_slaves", r.replicas.len());
    if config.min_replicas_to_write > 0 && config.min_replicas_max_lag > 0 {
        t.field("min_slaves_good_slaves", r.good_replicas);
    }
    for (index, replica) in r.replicas.iter().enumerate() {
        t.field(
            &format!("slave{index}"),
            format!(
                "ip={},port={},state={},offset={},lag={}",
                replica.ip, replica.port, replica.state, replica.offset, replica.lag
            ),
        );
    }
    t.field("master_failover_state", r.failover);
    t.field("master_replid", &r.replid);
    t.field("master_replid2", &r.replid2);
    t.field("master_repl_offset", r.offset);
    t.field("second_repl_offset", r.second_offset);
    t.flag("repl_backlog_active", r.backlog);
    t.field("repl_backlog_size", config.repl_backlog_size);
    t.field("repl_backlog_first_byte_offset", if r.backlog { r.backlog_first } else { 0 });
    t.field("repl_backlog_histlen", if r.backlog { r.backlog_len } else { 0 });
}

/// The last full sync served: what it cost, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SyncReport {
    /// `disk`, `socket` or `io-uring`.
    pub(crate) transport: String,
    /// `rdb` (a file), `rdb-stream`, or `sluice` (cut and log in one stream).
    pub(crate) format: &'static str,
    /// `ok`, `running`, or what went wrong.
    pub(crate) status: String,
    /// Replicas served by it.
    pub(crate) replicas: u64,
    /// Milliseconds spent gathering replicas.
    pub(crate) window_ms: u64,
    /// Milliseconds from the request to the first byte of data sent.
    pub(crate) first_byte_ms: u64,
    /// Milliseconds from the request to the last replica being in sync.
    pub(crate) duration_ms: u64,
    /// Bytes sent to all replicas together.
    pub(crate) bytes: u64,
    /// Bytes written to disk.
    pub(crate) disk_bytes: u64,
    /// Milliseconds spent writing them.
    pub(crate) disk_ms: u64,
    /// Bytes of pre-images handed over by writers during the cut.
    pub(crate) preimage_bytes: u64,
    /// The most of them that waited at one time.
    pub(crate) preimage_peak_bytes: u64,
    /// The most bytes that waited in the window or the output queues at one time.
    pub(crate) peak_queue_bytes: u64,
    /// Processor time of the threads that served it.
    pub(crate) cpu_ms: u64,
    /// Sends over io_uring, and those the kernel did without copying.
    pub(crate) zero_copy: (u64, u64),
}

pub(super) fn sync_section(s: &Sources<'_>, t: &mut Text) {
    t.section("Sync");
    t.field("sync_max_bandwidth", s.sync_budget.0);
    t.field("sync_paced_ms", s.sync_budget.1);
    t.field("sync_slow_writers_wait_ms", s.slow_writers.0);
    t.field("sync_slow_writers_waits", s.slow_writers.1);
    let Some(r) = &s.sync else {
        t.field("sync_transport", "none");
        return;
    };
    let rate = r.bytes.saturating_mul(1000).checked_div(r.duration_ms).unwrap_or(0);
    t.field("sync_transport", &r.transport);
    t.field("sync_format", r.format);
    t.field("sync_status", &r.status);
    t.field("sync_replicas", r.replicas);
    t.field("sync_window_ms", r.window_ms);
    t.field("sync_first_byte_ms", r.first_byte_ms);
    t.field("sync_duration_ms", r.duration_ms);
    t.field("sync_bytes", r.bytes);
    t.field("sync_bytes_per_sec", rate);
    t.field("sync_disk_bytes", r.disk_bytes);
    t.field("sync_disk_ms", r.disk_ms);
    t.field("sync_preimage_bytes", r.preimage_bytes);
    t.field("sync_preimage_peak_bytes", r.preimage_peak_bytes);
    t.field("sync_peak_queue_bytes", r.peak_queue_bytes);
    t.field("sync_cpu_ms", r.cpu_ms);
    t.field("sync_sends", r.zero_copy.0);
    t.field("sync_zero_copy_sends", r.zero_copy.1);
}
