//! One client connection: read a batch, run it, write the replies.
//!
//! A connection is a task on one worker's runtime. Everything a read brought is parsed and run in one go, and its
//! replies leave in one write. A command that cannot answer at once ([`Flow::Later`]) holds back those behind it.

use crate::client::registry::{Client, kind};
use crate::client::waiting::{Wait, Waited};
use crate::commands::Flow;
use crate::state::Server;
use bytes::BytesMut;
use sluice_engine::Session;
use sluice_engine::resp::{ParseState, Parsed, Reply, resume};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Input buffer to begin with, and the least free space offered to a read.
const READ_SIZE: usize = 16 << 10;
/// Replies gathered before they are written, although more commands wait.
const FLUSH_AT: usize = 64 << 10;
/// Output and input buffers larger than this are given back when idle.
const KEEP_BUFFER: usize = 64 << 10;
/// `client-query-buffer-limit` is at least this, so smaller buffers need no look at it.
const QUERY_LIMIT_CHECK: usize = 1 << 20;
/// Replies kept for a client that has not signed on and does not read.
const UNAUTHENTICATED_OUTPUT: usize = 1 << 10;
/// How long a command waits before it tries again while a cut's pre-image queue is full.
const STALL_WAIT: Duration = Duration::from_millis(1);

/// The connection's own state.
pub(crate) struct Conn {
    pub(crate) server: Arc<Server>,
    pub(crate) client: Arc<Client>,
    pub(crate) session: Session,
    pub(crate) authenticated: bool,
    /// CLIENT REPLY OFF, and the number of replies SKIP still drops.
    pub(crate) reply_off: bool,
    pub(crate) reply_skip: u8,
    /// The batch being run holds a write.
    pub(super) wrote: bool,
    /// Which syncs of the append-only file this connection waited for.
    membership: crate::aof::Membership,
    pub(crate) peer: Option<sluice_transport::primary::ReplicaPeer>,
    /// How far the request that is not complete yet was read.
    request: ParseState,
}

/// What running a batch came to.
enum Batch {
    /// Everything complete was run.
    Drained,
    /// Write first, there is more.
    Flush,
    /// Write what there is, wait for the rest of the reply.
    Later(tokio::sync::oneshot::Receiver<Vec<u8>>),
    /// Write what there is, wait for a key.
    Wait(Box<Wait>),
    /// Try the same command again in a moment.
    Stalled,
    /// Try the same command again when CLIENT PAUSE is over.
    Paused,
    /// Write what there is and close.
    Close,
    /// The connection becomes a replica's.
    Replica(crate::repl::Attach),
}

/// Serves a connection to its end.
pub(crate) async fn serve(server: Arc<Server>, stream: Arc<TcpStream>, client: Arc<Client>) {
    let mut session = server.engine.session();
    session.may_block = true;
    let authenticated = server.config.load().requirepass.is_empty();
    client.authenticated.store(authenticated, Ordering::Relaxed);
    let mut conn = Conn {
        server: server.clone(),
        client: client.clone(),
        session,
        authenticated,
        reply_off: false,
        reply_skip: 0,
        wrote: false,
        membership: crate::aof::Membership::default(),
        peer: None,
        request: ParseState::default(),
    };
    let _ = conn.run(&stream).await;
    server.engine.end_session(&mut conn.session);
    crate::repl::primary::forget(&server, client.id);
    server.clients.remove(client.id);
}

/// Writes all of `out`, or fails.
pub(crate) async fn write_all(stream: &TcpStream, out: &[u8]) -> std::io::Result<()> {
    let mut at = 0;
    while at < out.len() {
        match stream.try_write(&out[at..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => at += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes to a client that has not signed on: while it does not read, what it sends is still looked at, and false
/// comes back once more than a little has piled up, for nothing is kept for strangers.
async fn write_stranger(stream: &TcpStream, out: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        match stream.try_write(out) {
            Ok(n) => drop(out.drain(..n)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        if out.is_empty() {
            return Ok(true);
        }
        if out.len() > UNAUTHENTICATED_OUTPUT {
            return Ok(false);
        }
        tokio::select! {
            ready = stream.writable() => ready?,
            ready = stream.readable() => return ready.map(|()| true),
        }
    }
}

impl Conn {
    async fn run(&mut self, stream: &Arc<TcpStream>) -> std::io::Result<()> {
        let mut input = BytesMut::with_capacity(READ_SIZE);
        let mut out: Vec<u8> = Vec::with_capacity(READ_SIZE);
        loop {
            if !self.read(stream, &mut input).await? {
                return Ok(());
            }
            loop {
                let (used, batch) = self.batch(&input, &mut out);
                let _ = input.split_to(used);
                self.publish(&input, &out);
                let wrote = std::mem::take(&mut self.wrote);
                if let Some(hold) = self.server.aof.hold(self.server.engine.log(), wrote) {
                    crate::aof::wait(&self.server, hold, &mut self.membership).await;
                }
                if wrote && let Some(wait) = self.server.repl.slow_writers.wait(self.server.engine.log()) {
                    tokio::time::sleep(wait).await;
                }
                if !out.is_empty() {
                    self.server.stats.net_output_bytes.add(out.len() as u64);
                    self.server.stats.writes_processed.bump();
                    if self.authenticated {
                        write_all(stream, &out).await?;
                        out.clear();
                    } else if !write_stranger(stream, &mut out).await? {
                        return Ok(());
                    }
                }
                match batch {
                    Batch::Drained => break,
                    Batch::Flush => {}
                    Batch::Close => return Ok(()),
                    Batch::Stalled => tokio::time::sleep(STALL_WAIT).await,
                    Batch::Wait(wait) => match self.wait_for_key(stream, &mut input, *wait).await {
                        Waited::Reply(reply) => self.late_reply(&mut out, &reply),
                        Waited::Last(reply) => return write_all(stream, &reply).await,
                        Waited::Gone => return Ok(()),
                    },
                    Batch::Paused => {
                        self.client.set_kind(kind::BLOCKED, true);
                        self.server.pause.wait(self.server.clock()).await;
                        self.client.set_kind(kind::BLOCKED, false);
                    }
                    Batch::Later(reply) => {
                        self.client.set_kind(kind::BLOCKED, true);
                        let reply = reply.await;
                        self.client.set_kind(kind::BLOCKED, false);
                        match reply {
                            Ok(reply) => {
                                // It may have written: MIGRATE removes keys.
                                self.wrote = true;
                                out.extend_from_slice(&reply);
                            }
                            Err(_) => return Ok(()),
                        }
                    }
                    Batch::Replica(attach) => {
                        return crate::repl::serve_replica(self, stream, input, attach).await;
                    }
                }
            }
            if out.capacity() > KEEP_BUFFER {
                out = Vec::with_capacity(READ_SIZE);
            }
        }
    }

    /// Reads at least one byte; false at the end of the connection.
    pub(crate) async fn read(&mut self, stream: &TcpStream, input: &mut BytesMut) -> std::io::Result<bool> {
        if input.len() > QUERY_LIMIT_CHECK
            && input.len() as u64 > self.server.config.load().client_query_buffer_limit
        {
            crate::log!(
                Warning,
                "Closing client that reached max query buffer length: id={}",
                self.client.id
            );
            return Ok(false);
        }
        if input.is_empty() && input.capacity() > KEEP_BUFFER {
            *input = BytesMut::with_capacity(READ_SIZE);
        }
        // Doubling keeps the copies of a large argument in proportion.
        input.reserve(READ_SIZE.max(input.len()));
        loop {
            match stream.try_read_buf(input) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.server.stats.net_input_bytes.add(n as u64);
                    self.server.stats.reads_processed.bump();
                    return Ok(true);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if self.client.is(kind::CLOSING) {
                        return Ok(false);
                    }
                    stream.readable().await?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Runs complete commands; returns the bytes they took.
    fn batch(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Batch) {
        self.session.now_ms = sluice_engine::now_ms();
        let max_bulk = self.server.engine.limits().max_string.load(Ordering::Relaxed);
        let (mut at, mut count) = (0, 0);
        let mut clock = Instant::now();
        let batch = loop {
            if out.len() > FLUSH_AT {
                break Batch::Flush;
            }
            let parsed = resume(&input[at..], max_bulk, self.authenticated, &mut self.request);
            let (args, used, canonical) = match parsed {
                Parsed::Incomplete(_) => break Batch::Drained,
                Parsed::Command { args, used, canonical } => (args, used, canonical),
                Parsed::Quoted { args, used } => {
                    let refs: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                    let flow = self.command(&refs, None, out, &mut clock);
                    if !matches!(flow, Flow::Stalled | Flow::Paused) {
                        at += used;
                        count += 1;
                    }
                    match batch_of(flow) {
                        Some(b) => break b,
                        None => continue,
                    }
                }
                Parsed::Invalid(message) => {
                    crate::log!(
                        Verbose,
                        "Protocol error ({message}) from client: id={} addr={}",
                        self.client.id,
                        self.client.addr
                    );
                    Reply::new(out, false).error(&message);
                    break Batch::Close;
                }
            };
            if args.is_empty() {
                // An empty line keeps a replica's connection alive.
                if let Some(peer) = &mut self.peer {
                    peer.newline(self.server.clock());
                }
                at += used;
                continue;
            }
            let raw = canonical.then(|| &input[at..at + used]);
            let flow = self.command(&args, raw, out, &mut clock);
            if !matches!(flow, Flow::Stalled | Flow::Paused) {
                at += used;
                count += 1;
            }
            if let Some(b) = batch_of(flow) {
                break b;
            }
        };
        self.server.stats.commands_processed.add(count);
        (at, batch)
    }

    /// Publishes what CLIENT LIST shows.
    fn publish(&self, input: &BytesMut, out: &[u8]) {
        let c = &*self.client;
        c.last_seen.store(c.created.elapsed().as_millis() as u64, Ordering::Relaxed);
        c.db.store(self.session.db, Ordering::Relaxed);
        c.input_bytes.store(input.len(), Ordering::Relaxed);
        c.output_bytes.store(out.len(), Ordering::Relaxed);
        c.multi.store(self.session.queued() as i32, Ordering::Relaxed);
        c.watching.store(self.session.watching() as u32, Ordering::Relaxed);
    }
}

fn batch_of(flow: Flow) -> Option<Batch> {
    match flow {
        Flow::Next => None,
        Flow::Stalled => Some(Batch::Stalled),
        Flow::Paused => Some(Batch::Paused),
        Flow::Close => Some(Batch::Close),
        Flow::Later(r) => Some(Batch::Later(r)),
        Flow::Wait(wait) => Some(Batch::Wait(wait)),
        Flow::Replica(attach) => Some(Batch::Replica(attach)),
    }
}
