//! An attached replica's connection.
//!
//! A connection that sends PSYNC stays on its task. What it sends from then on is acknowledgements; what it
//! receives is written by exactly one party at a time: its own task (reply, keep-alives, stream), or the full sync's
//! thread while a payload is under way. The hand-over is the peer's state, changed under the registry's lock.

use super::full_sync::{join_staging, kick};
use super::primary::{Attach, Replica, policy, replica_ip, replica_name, update_good};
use super::slow_writers::Pressure;
use crate::client::conn::{Conn, write_all};
use crate::client::registry::kind;
use crate::client::stream::Stream;
use crate::config::ClientClass;
use crate::server::Server;
use bytes::{Buf, Bytes, BytesMut};
use sluice_engine::LogReader;
use sluice_engine::internals::{
    CmdError, Flags,
    resp::{Parsed, parse},
};
use sluice_transport::primary::schedule::Requested;
use sluice_transport::primary::{PeerState, ReplconfReply, ReplicaPeer};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Log bytes written to a replica at once.
const STREAM_CHUNK: usize = 64 << 10;
/// How often a replica's task looks at time-outs, limits and keep-alives.
const TICK: Duration = Duration::from_millis(100);
/// Input a replica may send without a complete command in it.
const MAX_REPLICA_INPUT: usize = 64 << 10;

/// The rest of a replica's connection.
pub(crate) async fn serve_replica(
    conn: &mut Conn,
    stream: &Arc<Stream>,
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
    let mut answer = None;
    let full = match attach {
        Attach::Continue { reply, reader: r, replid } => {
            peer.continued(r.offset(), now);
            reader = Some(r);
            answer = Some((reply, replid));
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
        // Who ends a history disconnects the replicas that are in the map: this one is to be among them, or to know.
        if answer.as_ref().is_some_and(|(_, replid)| *replid != server.replid()) {
            crate::log!(
                Notice,
                "The history replica {name} wanted to go on with has ended; it is to ask again"
            );
            return Ok(());
        }
        let client = conn.client.clone();
        let pressure = Pressure::new(full);
        let replica =
            Replica { peer, client, stream: stream.clone(), name, ip, start: to, pressure, sync: None };
        replicas.map.insert(id, replica);
        if full
            && let Requested::Attached { batch } =
                replicas.schedule.request(id, capa, filter, &policy(&server), now)
        {
            join_staging(&server, &mut replicas, batch, id);
        }
    }
    if let Some((reply, _)) = answer {
        write_all(stream, &reply).await?;
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
        let grown = server.grown.notified();
        tokio::pin!(grown);
        if let Some(r) = &reader
            && !blocked
        {
            grown.as_mut().enable();
            server.engine.log().want_wake();
            if r.offset() < server.aof.sendable(server.engine.log()) {
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
    stream: &Stream,
    reader: &mut LogReader,
    pending: &mut Bytes,
) -> std::io::Result<bool> {
    loop {
        if pending.is_empty() {
            // Nothing reaches a replica that this server could still lose while it promises not to (`always`).
            let most = server.aof.sendable(server.engine.log()).saturating_sub(reader.offset());
            *pending = reader.read(STREAM_CHUNK.min(most as usize)).map_err(|e| {
                // A full sync of our own replaced the data and its history.
                crate::log!(Notice, "A replica is disconnected, it is to ask again: {e}");
                std::io::Error::other(e)
            })?;
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
    stream: &Stream,
    input: &mut BytesMut,
    id: u64,
    reader: &mut Option<LogReader>,
    held: &mut Option<LogReader>,
) -> std::io::Result<bool> {
    loop {
        input.reserve(4096);
        match stream.try_read(input) {
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
            } else if args[0].eq_ignore_ascii_case(b"replconf") {
                if let ReplconfReply::Ack { start_stream } = r.peer.replconf(&args[1..], now) {
                    if start_stream {
                        crate::log!(Notice, "Synchronization with replica {} succeeded", r.name);
                        *reader = held.take();
                    }
                    drop(replicas);
                    conn.server.acks.notify_waiters();
                    update_good(&conn.server);
                }
            } else {
                drop(replicas);
                misused(conn, &args);
                return Ok(false);
            }
            at += used;
        }
        let _ = input.split_to(at);
    }
}

/// A replica sent a command, whose reply would break into its stream. Nothing is run; the lines are those of Redis.
fn misused(conn: &Conn, args: &[&[u8]]) {
    let (server, client) = (&conn.server, &conn.client);
    let row = server.engine.lookup(args[0]);
    let name = row.map_or("<unknown>".into(), |row| crate::admin::full_name(row.command, args));
    let refusal = match row {
        None => Some(CmdError::unknown_command(args)),
        Some(row) if row.command.flags.intersects(Flags::WRITE.union(Flags::READONLY)) => {
            Some(CmdError::text("ERR Replica can't interact with the keyspace"))
        }
        Some(_) => None,
    };
    if let Some(text) = refusal.as_ref().map(CmdError::message) {
        let text = text.strip_prefix("ERR ").unwrap_or(&text);
        crate::log!(
            Warning,
            "== CRITICAL == This master is sending an error to its replica: '{text}' after processing the command '{name}'"
        );
    }
    let client = crate::admin::describe_client(server, client);
    crate::log!(Warning, "Replica generated a reply to command '{name}', disconnecting it: {client}");
}

/// Time-outs, limits and keep-alives; false where the replica is to be dropped.
fn check(server: &Server, id: u64, stream: &Stream, lag: u64, soft_since: &mut Option<Instant>) -> bool {
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
    if let Some((control, _)) = &r.sync {
        control.set_timeout_ms(config.repl_timeout * 1000);
    }
    // What waits for the end of its full sync is held for it as well.
    let waiting = r.sync.as_ref().map(|(_, figures)| figures.log_offset.load(Ordering::Acquire));
    let lag = lag.max(waiting.map_or(0, |from| server.engine.log().end().saturating_sub(from)));
    // None before its first acknowledgement, which is of something unless there is nothing.
    let online = r.sync.is_none() && r.peer.is_online();
    let acknowledged = Some(r.peer.ack_offset()).filter(|offset| online && *offset > 0);
    let held = (server.engine.log().end(), lag);
    r.pressure.note(&server.repl.slow_writers, &config, held, acknowledged);
    server.repl.slow_writers.update(&replicas.map);
    let Some(r) = replicas.map.get_mut(&id) else { return false };
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
            "Client {} scheduled to be closed ASAP for overcoming of output buffer limits.",
            crate::admin::describe_client(server, &r.client)
        );
        return false;
    }
    true
}
