//! The primary's side: which replicas are attached, what a PSYNC gets, and what time brings.
//!
//! [`super::attached`] is what each replica's connection does, [`super::full_sync`] the threads that serve full syncs.

use super::full_sync::{Staging, kick};
use super::slow_writers::Pressure;
use crate::client::conn::Conn;
use crate::client::registry::Client;
use crate::client::stream::Stream;
use crate::config::{Config, ReplTransport};
use crate::ground::gate;
use crate::server::Server;
use sluice_engine::LogReader;
use sluice_transport::fullsync::SyncControl;
use sluice_transport::fullsync::cut::CutFigures;
use sluice_transport::primary::psync::PsyncDecision;
use sluice_transport::primary::schedule::{Schedule, SyncPolicy, TransportChoice};
use sluice_transport::primary::{PING_RECORD, PeerState, PingTimer, ReplicaPeer, good_replicas};
use sluice_transport::replid::ReplId;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// One attached replica.
pub(crate) struct Replica {
    pub(crate) peer: ReplicaPeer,
    pub(crate) client: Arc<Client>,
    pub(super) stream: Arc<Stream>,
    /// `ip:port` as log lines name it.
    pub(crate) name: String,
    pub(super) ip: String,
    /// Gets the reader of the steady stream.
    pub(super) start: mpsc::UnboundedSender<LogReader>,
    /// How long writers are to wait for it.
    pub(super) pressure: Pressure,
    /// The full sync it takes part in, until it has all of it.
    pub(super) sync: Option<(Arc<SyncControl>, Arc<CutFigures>)>,
}

/// The replicas, and the delay window.
#[derive(Default)]
pub(crate) struct Replicas {
    pub(crate) map: BTreeMap<u64, Replica>,
    pub(crate) schedule: Schedule,
    /// The disk-staged sync others may still join.
    pub(super) staging: Option<Staging>,
    /// Those who asked to join a disk-staged sync between its start and its cut, with its batch.
    pub(super) early: Vec<(u64, u64)>,
    ping: PingTimer,
    /// When the last replica left.
    empty_since: u64,
}

impl Replicas {
    /// A connection ended: what it was as a replica.
    fn leave(&mut self, client: u64, now: u64) -> Option<Replica> {
        self.schedule.leave(client);
        let gone = self.map.remove(&client);
        if gone.is_some() && self.map.is_empty() {
            self.empty_since = now;
        }
        gone
    }

    /// Whether nobody attached takes part in this full sync.
    fn deserted(&self, control: &Arc<SyncControl>) -> bool {
        !self.map.values().any(|r| r.sync.as_ref().is_some_and(|(c, _)| Arc::ptr_eq(c, control)))
    }
}

/// How a connection becomes a replica's.
pub(crate) enum Attach {
    /// Partial resync: this reply, then the stream, while the history is still the one the reply is of.
    Continue { reply: Vec<u8>, reader: LogReader, replid: ReplId },
    /// A full sync.
    Full,
    /// Full sync for a peer that sent SYNC.
    Sync,
}

/// What INFO and ROLE show of a replica.
pub(crate) struct ReplicaView {
    pub(crate) ip: String,
    pub(crate) port: u16,
    pub(crate) state: &'static str,
    pub(crate) offset: u64,
    pub(crate) lag_seconds: u64,
}

/// The replicas as INFO lists them.
pub(crate) fn views(server: &Server) -> Vec<ReplicaView> {
    let now = server.clock();
    let replicas = server.repl.replicas.lock();
    replicas
        .map
        .values()
        .filter_map(|r| {
            Some(ReplicaView {
                ip: r.ip.clone(),
                port: r.peer.listening_port,
                state: r.peer.state_word()?,
                offset: r.peer.ack_offset(),
                lag_seconds: r.peer.lag_ms(now) / 1000,
            })
        })
        .collect()
}

/// Replicas that have acknowledged `offset`.
pub(crate) fn acknowledged(server: &Server, offset: u64) -> usize {
    let replicas = server.repl.replicas.lock();
    replicas.map.values().filter(|r| r.peer.is_online() && r.peer.ack_offset() >= offset).count()
}

/// Replicas whose append-only file is durable up to `offset`.
pub(crate) fn acknowledged_aof(server: &Server, offset: u64) -> usize {
    let replicas = server.repl.replicas.lock();
    replicas.map.values().filter(|r| r.peer.is_online() && r.peer.aof_offset() >= Some(offset)).count()
}

/// Replicas that have not acknowledged `offset`.
pub(crate) fn lagging(server: &Server, offset: u64) -> usize {
    let replicas = server.repl.replicas.lock();
    replicas.map.values().filter(|r| r.peer.is_online() && r.peer.ack_offset() < offset).count()
}

/// Says in the log how far replicas are as the server ends.
pub(crate) fn report_lag(server: &Server) {
    let (end, now) = (server.engine.log().end(), server.clock());
    let replicas = server.repl.replicas.lock();
    let (all, mut lagging) = (replicas.map.len(), 0);
    for r in replicas.map.values().filter(|r| r.peer.ack_offset() < end) {
        lagging += 1;
        crate::log!(
            Warning,
            "Lagging replica {} reported offset {} behind master, lag={}, state={}.",
            r.name,
            end - r.peer.ack_offset(),
            r.peer.lag_ms(now) / 1000,
            if r.peer.is_online() { "online" } else { "syncing" }
        );
    }
    if all > 0 {
        crate::log!(Notice, "{} of {all} replicas are in sync when shutting down.", all - lagging);
    }
}

/// Replicas that count for `min-replicas-to-write`, and the gate that follows.
pub(crate) fn update_good(server: &Server) -> usize {
    update_good_by(server, &server.config.load())
}

/// The same, by a configuration that is about to hold.
pub(crate) fn update_good_by(server: &Server, config: &Config) -> usize {
    let good = {
        let replicas = server.repl.replicas.lock();
        good_replicas(
            replicas.map.values().map(|r| &r.peer),
            config.min_replicas_max_lag * 1000,
            server.clock(),
        )
    };
    let wanted = config.min_replicas_to_write as usize;
    server.set_gate(gate::NOREPLICAS, wanted > 0 && config.min_replicas_max_lag > 0 && good < wanted);
    good
}

/// A connection ended. A snapshot that is staged for nobody any more is given up, unless save points make it wanted
/// for itself.
pub(crate) fn forget(server: &Server, client: u64) {
    let mut replicas = server.repl.replicas.lock();
    let Some(gone) = replicas.leave(client, server.clock()) else { return };
    server.repl.slow_writers.update(&replicas.map);
    // A full sync's thread may hold the socket as well.
    gone.client.kill();
    if let Some((control, _)) = &gone.sync
        && gone.peer.state() == PeerState::WaitStaged
        && replicas.deserted(control)
        && server.config.load().save.0.is_empty()
    {
        control.stop();
    }
    drop(replicas);
    crate::log!(Notice, "Connection with replica {} lost.", gone.name);
    update_good(server);
}

pub(super) fn policy(server: &Server) -> SyncPolicy {
    let c = server.config.load();
    SyncPolicy {
        choice: match c.repl_transport {
            ReplTransport::Auto => TransportChoice::Auto,
            ReplTransport::Disk => TransportChoice::Disk,
            ReplTransport::Socket => TransportChoice::Socket,
            ReplTransport::IoUring => TransportChoice::IoUring,
        },
        diskless: c.repl_diskless_sync,
        delay_ms: c.repl_diskless_sync_delay * 1000,
        max_replicas: c.repl_diskless_sync_max_replicas as usize,
        sluice: true,
    }
}

/// Decides what a PSYNC gets. `None` where the request is to be refused with the text.
pub(crate) fn psync(conn: &mut Conn, replid_arg: &[u8], offset_arg: &[u8]) -> Result<Attach, String> {
    use sluice_transport::primary::psync::PsyncRequest;
    let server = conn.server.clone();
    refuse(conn)?;
    let name = replica_name(conn);
    let Some(request) = PsyncRequest::parse(replid_arg, offset_arg) else {
        crate::log!(Warning, "Replica {name} asks for synchronization but with a wrong offset");
        return Err("ERR value is not an integer or out of range".into());
    };
    crate::log!(Notice, "Replica {name} asks for synchronization");
    let log = server.engine.log();
    // The log first: what the state says of its history is then no older than what the reader is of.
    let (epoch, held) = log.held().unzip();
    let state = server.history.lock().clone();
    let capa = conn.peer.as_ref().map(|p| p.capa).unwrap_or_default();
    match sluice_transport::primary::psync::decide(&state, held, &request, capa, &name) {
        PsyncDecision::Continue { from, reply, log: line } => match epoch.map(|e| log.reader_in(e, from)) {
            Some(Ok(reader)) => {
                crate::log!(Notice, "{line}");
                server.stats.sync_partial_ok.bump();
                return Ok(Attach::Continue { reply, reader, replid: state.replid() });
            }
            None => {}
            Some(Err(e)) => crate::log!(Notice, "Unable to partial resync with replica {name}: {e}"),
        },
        PsyncDecision::Full { log: line } => crate::log!(Notice, "{line}"),
    }
    if request.wants_partial() {
        server.stats.sync_partial_err.bump();
    }
    Ok(Attach::Full)
}

/// Why a connection can have no sync at all.
pub(crate) fn refuse(conn: &Conn) -> Result<(), String> {
    refuse_while_unconnected(&conn.server)?;
    conn.peer.as_ref().and_then(ReplicaPeer::refusal).map_or(Ok(()), |text| Err(text.into()))
}

/// A replica without data of its own cannot serve others.
fn refuse_while_unconnected(server: &Server) -> Result<(), String> {
    let link = server.repl.link.lock();
    match &*link {
        Some(l) if !l.shared.is_up() => {
            Err("NOMASTERLINK Can't SYNC while not connected with my master".into())
        }
        _ => Ok(()),
    }
}

pub(super) fn replica_ip(conn: &Conn) -> String {
    let announced = conn.peer.as_ref().and_then(|p| p.announced_ip.clone());
    announced.unwrap_or_else(|| {
        let ip = conn.client.addr.ip().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
        ip.to_canonical().to_string()
    })
}

pub(super) fn replica_name(conn: &Conn) -> String {
    let port = conn.peer.as_ref().map_or(0, |p| p.listening_port);
    match port {
        0 => format!("{}:<unknown-replica-port>", replica_ip(conn)),
        port => format!("{}:{port}", replica_ip(conn)),
    }
}

/// Every 100 ms: PING into the stream, the gate of min-replicas, the backlog's end, and due full syncs.
pub(crate) fn cron(server: &Arc<Server>) {
    let config = server.config.load();
    let now = server.clock();
    let ping = {
        let mut replicas = server.repl.replicas.lock();
        !replicas.map.is_empty() && replicas.ping.due(now, config.repl_ping_replica_period * 1000)
    };
    if ping && server.engine.log().is_active() && !server.pause.by_failover() {
        server.engine.append_own(PING_RECORD);
    }
    server.roles.as_primary(|| free_backlog(server, &config, now));
    update_good(server);
    super::failover::cron(server);
    kick(server);
}

/// Frees the backlog after `repl-backlog-ttl` seconds without replicas. The history ends with it: from here on writes
/// are not recorded, so nobody may resume from before. Both happen at one moment, at which no command is under way and no
/// cut begins: a cut, and who follows from it, is of the history before or of the one after.
fn free_backlog(server: &Server, config: &Config, now: u64) {
    let log = server.engine.log();
    let ttl = config.repl_backlog_ttl;
    let replicas = server.repl.replicas.lock();
    let over = now.saturating_sub(replicas.empty_since) > ttl.saturating_mul(1000);
    if ttl == 0 || !replicas.map.is_empty() || !over || !log.is_active() {
        return;
    }
    let freed = server.engine.exclusive(0, &mut Vec::new(), |_| {
        // Others than replicas may follow (an append-only file): it stays then, and so do its offsets.
        let freed = log.deactivate();
        if freed {
            server.history.lock().new_history();
        }
        freed
    });
    drop(replicas);
    if !freed {
        return;
    }
    crate::log!(Notice, "Replication backlog freed after {ttl} seconds without connected replicas.");
}
