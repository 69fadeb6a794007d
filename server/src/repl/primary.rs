//! The primary's side: replicas attached to this server, full syncs, and the steady stream.
//!
//! A connection that sends PSYNC stays on its task. What it sends from then on is acknowledgements; what it
//! receives is written by exactly one party at a time: its own task (reply, keep-alives, stream), or the full sync's
//! thread while a payload is under way. The hand-over is the peer's state, changed under the registry's lock.

use super::{SyncSummary, replid};
use crate::clients::{Client, kind};
use crate::config::{ClientClass, Config, ReplTransport};
use crate::conn::{Conn, write_all};
use crate::state::{Server, gate};
use bytes::{Buf, Bytes, BytesMut};
use sluice_engine::cut::Cut;
use sluice_engine::log::LogReader;
use sluice_engine::resp::{Parsed, parse};
use sluice_persistence::SaveOptions;
use sluice_transport::fullsync::cut::{CutFigures, FramedSource, RdbSource};
use sluice_transport::fullsync::disk::StagedFile;
use sluice_transport::fullsync::pool::BufferPool;
use sluice_transport::fullsync::sluice::{Compression, SluicePayload};
use sluice_transport::fullsync::uring::Uring;
use sluice_transport::fullsync::{
    ChunkSource, EofPayload, SyncControl, SyncEvent, SyncPeer, SyncReport, WindowLimits, disk, diskless,
};
use sluice_transport::primary::psync::PsyncDecision;
use sluice_transport::primary::schedule::{
    Batch, Format, Requested, Schedule, SyncPolicy, Transport, TransportChoice,
};
use sluice_transport::primary::{PeerState, PingTimer, ReplconfReply, ReplicaPeer, good_replicas};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Log bytes written to a replica at once.
const STREAM_CHUNK: usize = 64 << 10;
/// How often a replica's task looks at time-outs, limits and keep-alives.
const TICK: Duration = Duration::from_millis(100);
/// How long a full sync waits before it asks again for the one cut there may be.
const CUT_RETRY: Duration = Duration::from_millis(5);
/// Input a replica may send without a complete command in it.
const MAX_REPLICA_INPUT: usize = 64 << 10;

/// One attached replica.
pub(crate) struct Replica {
    pub(crate) peer: ReplicaPeer,
    pub(crate) client: Arc<Client>,
    /// `ip:port` as log lines name it.
    pub(crate) name: String,
    ip: String,
    start: mpsc::UnboundedSender<LogReader>,
    control: Option<Arc<SyncControl>>,
}

/// The replicas, and the delay window.
#[derive(Default)]
pub(crate) struct Replicas {
    pub(crate) map: BTreeMap<u64, Replica>,
    pub(crate) schedule: Schedule,
    /// The disk-staged sync others may still join: batch and the cut's offset, with a reader that keeps the log.
    staging: Option<(u64, u64, LogReader, Vec<u64>)>,
    /// Those who asked to join a disk-staged sync between its start and its cut, with its batch.
    early: Vec<(u64, u64)>,
    ping: PingTimer,
}

/// How a connection becomes a replica's.
pub(crate) enum Attach {
    /// Partial resync: this reply, then the stream.
    Continue { reply: Vec<u8>, reader: LogReader },
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

fn policy(server: &Server) -> SyncPolicy {
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
    let request =
        PsyncRequest::parse(replid_arg, offset_arg).ok_or("ERR value is not an integer or out of range")?;
    refuse_while_unconnected(&server)?;
    let name = replica_name(conn);
    crate::log!(Notice, "Replica {name} asks for synchronization");
    let log = server.engine.log();
    let held = log.is_active().then(|| log.backlog_start()..log.end());
    let state = server.repl.state.lock().clone();
    let capa = conn.peer.as_ref().map(|p| p.capa).unwrap_or_default();
    match sluice_transport::primary::psync::decide(&state, held, &request, capa, &name) {
        PsyncDecision::Continue { from, reply, log: line } => match log.reader(from) {
            Ok(reader) => {
                crate::log!(Notice, "{line}");
                server.stats.sync_partial_ok.bump();
                return Ok(Attach::Continue { reply, reader });
            }
            Err(e) => crate::log!(Notice, "Unable to partial resync with replica {name}: {e}"),
        },
        PsyncDecision::Full { log: line } => crate::log!(Notice, "{line}"),
    }
    if request.wants_partial() {
        server.stats.sync_partial_err.bump();
    }
    Ok(Attach::Full)
}

/// A replica without data of its own cannot serve others.
pub(crate) fn refuse_while_unconnected(server: &Server) -> Result<(), String> {
    let link = server.repl.link.lock();
    match &*link {
        Some(l) if !l.shared.is_up() => {
            Err("NOMASTERLINK Can't SYNC while not connected with my master".into())
        }
        _ => Ok(()),
    }
}

fn replica_ip(conn: &Conn) -> String {
    let announced = conn.peer.as_ref().and_then(|p| p.announced_ip.clone());
    announced.unwrap_or_else(|| conn.client.addr.ip().to_canonical().to_string())
}

fn replica_name(conn: &Conn) -> String {
    let port = conn.peer.as_ref().map_or(0, |p| p.listening_port);
    match port {
        0 => format!("{}:<unknown-replica-port>", replica_ip(conn)),
        port => format!("{}:{port}", replica_ip(conn)),
    }
}

/// The rest of a replica's connection.
pub(crate) async fn serve_replica(
    conn: &mut Conn,
    stream: &TcpStream,
    mut input: BytesMut,
    attach: Attach,
) -> std::io::Result<()> {
    let server = conn.server.clone();
    let id = conn.client.id;
    let now = server.clock();
    let name = replica_name(conn);
    let ip = replica_ip(conn);
    let mut peer = conn.peer.take().unwrap_or_else(|| ReplicaPeer::new(id, now));
    conn.client.set_kind(kind::REPLICA, true);
    let (to, mut from) = mpsc::unbounded_channel();
    let mut reader = None;
    let full = match attach {
        Attach::Continue { reply, reader: r } => {
            write_all(stream, &reply).await?;
            peer.continued(r.offset(), now);
            reader = Some(r);
            false
        }
        Attach::Full => true,
        Attach::Sync => {
            peer.pre_psync = true;
            true
        }
    };
    if full {
        peer.wait_for_sync();
        server.stats.sync_full.bump();
    }
    let capa = peer.capa;
    let filter = peer.filter;
    {
        let mut replicas = server.repl.replicas.lock();
        let replica = Replica { peer, client: conn.client.clone(), name, ip, start: to, control: None };
        replicas.map.insert(id, replica);
        if full
            && let Requested::Attached { batch } =
                replicas.schedule.request(id, capa, filter, &policy(&server), now)
        {
            join_staging(&server, &mut replicas, batch, id);
        }
    }
    if full {
        kick(&server);
    } else {
        update_good(&server);
    }
    // A reader that waits for the replica's first acknowledgement.
    let mut held: Option<LogReader> = None;
    let mut soft_since: Option<Instant> = None;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pending = Bytes::new();
    loop {
        let blocked = match &mut reader {
            Some(r) => push(&server, stream, r, &mut pending)?,
            None => false,
        };
        let grown = server.repl.grown.notified();
        tokio::pin!(grown);
        if let Some(r) = &reader
            && !blocked
        {
            grown.as_mut().enable();
            server.engine.log().want_wake();
            if r.lag() > 0 {
                // It grew between the last read and the wish to be woken.
                continue;
            }
        }
        tokio::select! {
            readable = stream.readable() => {
                readable?;
                if !read_acks(conn, stream, &mut input, id, &mut reader, &mut held)? {
                    return Ok(());
                }
            }
            writable = stream.writable(), if blocked => writable?,
            () = &mut grown, if reader.is_some() && !blocked => {}
            start = from.recv() => {
                let Some(r) = start else { return Ok(()) };
                let state = server.repl.replicas.lock().map.get(&id).map(|r| r.peer.state());
                if state == Some(PeerState::Online) { reader = Some(r) } else { held = Some(r) }
                update_good(&server);
            }
            _ = tick.tick() => {
                let lag = reader.as_ref().or(held.as_ref()).map_or(0, LogReader::lag) + pending.len() as u64;
                if !check(&server, id, stream, lag, &mut soft_since) {
                    return Ok(());
                }
            }
        }
    }
}

/// Writes log bytes until there are none, or until the socket takes no more for now (true).
fn push(
    server: &Server,
    stream: &TcpStream,
    reader: &mut LogReader,
    pending: &mut Bytes,
) -> std::io::Result<bool> {
    loop {
        if pending.is_empty() {
            *pending = reader.read(STREAM_CHUNK);
            if pending.is_empty() {
                return Ok(false);
            }
        }
        match stream.try_write(pending) {
            Ok(n) => {
                server.stats.net_repl_output_bytes.add(n as u64);
                pending.advance(n);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(e) => return Err(e),
        }
    }
}

/// Takes what the replica sent: acknowledgements, newlines. False at the end of the connection.
fn read_acks(
    conn: &mut Conn,
    stream: &TcpStream,
    input: &mut BytesMut,
    id: u64,
    reader: &mut Option<LogReader>,
    held: &mut Option<LogReader>,
) -> std::io::Result<bool> {
    loop {
        input.reserve(4096);
        match stream.try_read_buf(input) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(e) => return Err(e),
        }
        let mut at = 0;
        loop {
            let (args, used) = match parse(&input[at..], MAX_REPLICA_INPUT, true) {
                Parsed::Command { args, used, .. } => (args, used),
                Parsed::Quoted { used, .. } => {
                    at += used;
                    continue;
                }
                Parsed::Incomplete(_) if input.len() - at > MAX_REPLICA_INPUT => return Ok(false),
                Parsed::Incomplete(_) => break,
                Parsed::Invalid(why) => {
                    crate::log!(Warning, "Protocol error ({why}) from replica, closing its connection");
                    return Ok(false);
                }
            };
            let now = conn.server.clock();
            let mut replicas = conn.server.repl.replicas.lock();
            let Some(r) = replicas.map.get_mut(&id) else { return Ok(false) };
            if args.is_empty() {
                r.peer.newline(now);
            } else if args[0].eq_ignore_ascii_case(b"replconf")
                && let ReplconfReply::Ack { start_stream } = r.peer.replconf(&args[1..], now)
            {
                if start_stream {
                    crate::log!(Notice, "Synchronization with replica {} succeeded", r.name);
                    *reader = held.take();
                }
                drop(replicas);
                conn.server.acks.notify_waiters();
                update_good(&conn.server);
            }
            at += used;
        }
        let _ = input.split_to(at);
    }
}

/// Time-outs, limits and keep-alives; false where the replica is to be dropped.
fn check(server: &Server, id: u64, stream: &TcpStream, lag: u64, soft_since: &mut Option<Instant>) -> bool {
    let config = server.config.load();
    let now = server.clock();
    let mut replicas = server.repl.replicas.lock();
    let Some(r) = replicas.map.get_mut(&id) else { return false };
    if r.peer.state() == PeerState::RdbOnlyDone {
        return false;
    }
    if let Some(text) = r.peer.timed_out(&r.name, config.repl_timeout * 1000, now) {
        crate::log!(Warning, "{text}");
        return false;
    }
    // Under the lock: a full sync's thread takes the socket over by changing the state.
    if r.peer.newline_due(now) {
        let _ = stream.try_write(b"\n");
    }
    let limit = config.client_output_buffer_limit.of(ClientClass::Replica);
    r.client.output_bytes.store(lag as usize, Ordering::Relaxed);
    // The backlog is there anyway: a limit below its size would only cause resync loops.
    let over = |limit: u64| limit > 0 && lag > limit.max(config.repl_backlog_size);
    if !over(limit.soft) {
        *soft_since = None;
    } else if soft_since.is_none() {
        *soft_since = Some(Instant::now());
    }
    let soft = soft_since.is_some_and(|t| t.elapsed().as_secs() >= limit.seconds && limit.soft > 0);
    if over(limit.hard) || soft {
        server.repl.dropped.fetch_add(1, Ordering::Relaxed);
        crate::log!(
            Warning,
            "Client id={id} addr={} scheduled to be closed ASAP for overcoming of output buffer limits.",
            r.client.addr
        );
        return false;
    }
    true
}

/// Once a second or so: PING into the stream, the gate of min-replicas, and due full syncs.
pub(crate) fn cron(server: &Arc<Server>) {
    let config = server.config.load();
    let now = server.clock();
    let ping = {
        let mut replicas = server.repl.replicas.lock();
        !replicas.map.is_empty() && replicas.ping.due(now, config.repl_ping_replica_period * 1000)
    };
    if ping && !super::is_replica(server) && server.engine.log().is_active() {
        server.engine.log().append_raw(b"*1\r\n$4\r\nPING\r\n");
    }
    update_good(server);
    kick(server);
}

/// Starts the full sync that is due, if one is.
pub(crate) fn kick(server: &Arc<Server>) {
    if !server.repl.open.load(Ordering::Acquire) {
        return;
    }
    let batch = server.repl.replicas.lock().schedule.poll(&policy(server), server.clock());
    let Some(batch) = batch else { return };
    let owner = server.clone();
    let id = batch.id;
    let spawned = std::thread::Builder::new().name("full-sync".into()).spawn(move || {
        crate::os::short_turns();
        let id = batch.id;
        run(&owner, batch);
        end_staging(&owner, id);
        kick(&owner);
    });
    if let Err(e) = spawned {
        crate::log!(Warning, "Can't start a full sync: {e}");
        server.repl.replicas.lock().schedule.cut_taken(id);
    }
}

/// Waits for the one cut there may be, then begins it.
fn begin_cut(server: &Server) -> Cut {
    server.engine.log().activate();
    loop {
        match server.engine.begin_cut() {
            Ok(cut) => return cut,
            Err(_) => std::thread::sleep(CUT_RETRY),
        }
    }
}

fn socket(r: &Replica) -> std::io::Result<SyncPeer> {
    Ok(SyncPeer { id: r.peer.id(), socket: r.client.stream.as_fd().try_clone_to_owned()? })
}

/// Serves one batch; blocks.
fn run(server: &Arc<Server>, mut batch: Batch) {
    let cut = begin_cut(server);
    let offset = cut.offset();
    let staged = batch.transport == Transport::Disk;
    let keep = staged.then(|| server.engine.log().reader(offset).ok()).flatten();
    {
        // From here on `join_staging` has a snapshot to name; those who came before it become members.
        let mut replicas = server.repl.replicas.lock();
        batch.replicas.extend(replicas.early.drain(..).filter(|e| e.0 == batch.id).map(|e| e.1));
        replicas.staging = keep.map(|keep| (batch.id, offset, keep, Vec::new()));
    }
    let batch = &batch;
    let Ok(base) = server.engine.log().reader(offset) else {
        crate::log!(
            Warning,
            "The log moved past the cut at {offset} before it was opened; the full sync is dropped"
        );
        return drop_all(server, &batch.replicas);
    };
    let control = SyncControl::within(server.repl.sync_budget.clone());
    let line = sluice_transport::primary::psync::fullresync_line(&replid(server), offset);
    let mut peers = Vec::new();
    {
        let mut replicas = server.repl.replicas.lock();
        for id in &batch.replicas {
            let Some(r) = replicas.map.get_mut(id) else { continue };
            match announce(r, &line, staged, &control) {
                Ok(peer) => peers.push(peer),
                Err(e) => {
                    crate::log!(Warning, "Can't begin the full sync of replica {}: {e}", r.name);
                    r.client.kill();
                }
            }
        }
    }
    if peers.is_empty() {
        return;
    }
    let figures = Arc::new(CutFigures::default());
    let report = match batch.transport {
        Transport::Disk => send_staged(server, batch, cut, &base, peers, &control),
        Transport::Socket | Transport::IoUring => {
            send_chunks(server, batch, cut, base, peers, &control, &figures)
        }
    };
    if let Some(mut report) = report {
        report.window_ms = batch.window_ms;
        crate::log!(
            Notice,
            "Full sync by {} of {} replica(s): {} bytes in {} ms, {} bytes of pre-images",
            report.transport.word(),
            report.completed,
            report.payload_bytes,
            report.duration_ms,
            figures.preimage_bytes.load(Ordering::Relaxed)
        );
        *server.repl.last_sync.lock() = Some(SyncSummary {
            report,
            format: batch.format,
            preimage_bytes: figures.preimage_bytes.load(Ordering::Relaxed),
            preimage_peak: figures.preimage_peak.load(Ordering::Relaxed),
        });
    }
}

/// Sends the FULLRESYNC line; from here on the socket is the sync's.
fn announce(
    r: &mut Replica,
    line: &[u8],
    staged: bool,
    control: &Arc<SyncControl>,
) -> std::io::Result<SyncPeer> {
    let peer = socket(r)?;
    r.peer.sync_began(staged);
    r.control = Some(control.clone());
    if !r.peer.pre_psync {
        // A line of 56 bytes into a socket that carried next to nothing yet: it fits, or the peer is broken.
        let n = r.client.stream.try_write(line)?;
        if n != line.len() {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(peer)
}

fn drop_all(server: &Server, ids: &[u64]) {
    let replicas = server.repl.replicas.lock();
    for r in ids.iter().filter_map(|id| replicas.map.get(id)) {
        r.client.kill();
    }
}

/// A replica asks while a file is being staged that it can share.
fn join_staging(server: &Server, replicas: &mut Replicas, batch: u64, id: u64) {
    let Some((_, offset, _, guests)) = replicas.staging.as_mut().filter(|s| s.0 == batch) else {
        replicas.early.push((batch, id));
        return;
    };
    guests.push(id);
    let line = sluice_transport::primary::psync::fullresync_line(&replid(server), *offset);
    if let Some(r) = replicas.map.get_mut(&id) {
        crate::log!(Notice, "Replica {} joins the snapshot being staged", r.name);
        if let Err(e) = announce(r, &line, true, &SyncControl::new()) {
            crate::log!(Warning, "Can't begin the full sync of replica {}: {e}", r.name);
            r.client.kill();
        }
    }
}

/// Nobody joins this batch any more. Returns who did; where the sync failed before its file was complete they are
/// nobody's, and closed.
fn take_guests(server: &Server, batch: u64) -> Vec<u64> {
    let mut replicas = server.repl.replicas.lock();
    replicas.schedule.cut_taken(batch);
    replicas.staging.take_if(|s| s.0 == batch).map(|s| s.3).unwrap_or_default()
}

/// The end of a batch, however it went.
fn end_staging(server: &Server, batch: u64) {
    let guests = take_guests(server, batch);
    drop_all(server, &guests);
}

fn options(server: &Server) -> SaveOptions {
    crate::persist::save_options(server)
}

/// The sender's events: who has everything starts its stream, who was dropped is logged.
fn on_event(server: &Arc<Server>, batch: &Batch, event: SyncEvent, reader: impl Fn() -> Option<LogReader>) {
    match event {
        SyncEvent::SourceDone => {
            server.repl.replicas.lock().schedule.cut_taken(batch.id);
            let server = server.clone();
            kick(&server);
        }
        SyncEvent::Sent { peer, .. } => {
            drop(peer.socket);
            let mut replicas = server.repl.replicas.lock();
            let Some(r) = replicas.map.get_mut(&peer.id) else { return };
            // Framed: the end frame closes the payload, so the stream follows. By length: as well.
            let at_once = batch.format != Format::EofRdb;
            let streams = r.peer.payload_sent(at_once, server.clock());
            r.control = None;
            if streams {
                crate::log!(Notice, "Synchronization with replica {} succeeded", r.name);
            } else {
                crate::log!(
                    Notice,
                    "Streamed replica with replica {} succeeded (socket). Waiting for REPLCONF ACK from replica to enable streaming",
                    r.name
                );
            }
            match reader() {
                Some(reader) => drop(r.start.send(reader)),
                None => r.client.kill(),
            }
        }
        SyncEvent::Dropped { id, reason } => {
            server.repl.dropped.fetch_add(1, Ordering::Relaxed);
            let replicas = server.repl.replicas.lock();
            if let Some(r) = replicas.map.get(&id) {
                crate::log!(Warning, "Full sync of replica {} given up: {reason}", r.name);
                r.client.kill();
            }
        }
    }
}

fn send_chunks(
    server: &Arc<Server>,
    batch: &Batch,
    cut: Cut,
    base: LogReader,
    peers: Vec<SyncPeer>,
    control: &SyncControl,
    figures: &Arc<CutFigures>,
) -> Option<SyncReport> {
    let config = server.config.load();
    let limits = WindowLimits {
        window_bytes: config.repl_diskless_window as usize,
        timeout_ms: config.repl_timeout * 1000,
        ..WindowLimits::default()
    };
    let pool = BufferPool::new();
    // Between two of our own, compressing strings would cost more than the link does.
    let compression = batch.format != Format::Sluice && config.rdbcompression;
    // Their frames have a checksum of their own.
    let checksum = batch.format != Format::Sluice && config.rdbchecksum;
    let encoder = SaveOptions { compression, checksum, ..options(server) }.encoder(&cut);
    let offset = cut.offset();
    let log = server.engine.log().clone();
    // Sources are boxed so that one sender call serves both payloads; the log reader that keeps what the stream
    // will need lives in the source (framed) or here (plain), until the last replica has started.
    let (mut source, keep): (Box<dyn ChunkSource>, Option<LogReader>) = if batch.format == Format::Sluice {
        let framed = FramedSource::new(server.engine.clone(), cut, encoder, base, figures.clone());
        (Box::new(SluicePayload::new(framed, offset, Compression::Off, pool)), None)
    } else {
        figures.log_offset.store(offset, Ordering::Relaxed);
        (Box::new(EofPayload::new(RdbSource::new(cut, encoder, pool, figures.clone()))), Some(base))
    };
    let reader = || log.reader(figures.log_offset.load(Ordering::Acquire)).ok();
    let mut events = |event| on_event(server, batch, event, reader);
    let report = if batch.transport == Transport::IoUring {
        match Uring::new() {
            Ok(ring) => ring.send(&mut *source, peers, limits, control, &mut events),
            Err(e) => {
                crate::log!(Warning, "repl-transport io-uring: {e}; falling back to plain sockets");
                diskless::send(&mut *source, peers, limits, control, &mut events)
            }
        }
    } else {
        diskless::send(&mut *source, peers, limits, control, &mut events)
    };
    drop(keep);
    Some(report)
}

/// Stages a cut in a file and sends that to everybody who asked before it was complete.
fn send_staged(
    server: &Arc<Server>,
    batch: &Batch,
    cut: Cut,
    base: &LogReader,
    mut peers: Vec<SyncPeer>,
    control: &SyncControl,
) -> Option<SyncReport> {
    let config = server.config.load();
    let path: PathBuf = config.dir.join(format!("temp-{}.{}.rdb", std::process::id(), batch.id));
    let began = Instant::now();
    let saved =
        sluice_persistence::save_cut(cut, &server.paced_storage, &path, &options(server), &mut |_| {
            if control.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    let (offset, guests) = (base.offset(), take_guests(server, batch.id));
    let all: Vec<u64> = batch.replicas.iter().copied().chain(guests.iter().copied()).collect();
    let staged = saved.map_err(|e| e.to_string()).and_then(|stats| {
        let file = server.storage.open(&path).map_err(|e| e.to_string())?;
        debug_assert_eq!(file.len(), stats.bytes);
        Ok(StagedFile { file, staged_ms: began.elapsed().as_millis() as u64 })
    });
    let staged = match staged {
        Ok(staged) => staged,
        Err(e) => {
            crate::log!(Warning, "SYNC failed. Staging the snapshot for replicas failed: {e}");
            let _ = server.storage.remove(&path);
            drop_all(server, &all);
            return None;
        }
    };
    {
        let mut replicas = server.repl.replicas.lock();
        for id in &guests {
            if let Some(r) = replicas.map.get_mut(id)
                && let Ok(peer) = socket(r)
            {
                peers.push(peer);
            }
        }
        for id in &all {
            if let Some(r) = replicas.map.get_mut(id) {
                r.peer.payload_began();
            }
        }
    }
    let log = server.engine.log().clone();
    let reader = || log.reader(offset).ok();
    let report = disk::send(&staged, peers, config.repl_timeout * 1000, control, &mut |event| {
        on_event(server, batch, event, reader);
    });
    let _ = server.storage.remove(&path);
    Some(report)
}
