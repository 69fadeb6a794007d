//! One client connection: read a batch, run it, write the replies.
//!
//! A connection is a task on one worker's runtime. Everything a read brought is parsed and run in one go, and its
//! replies leave in one write. A command that cannot answer at once ([`Flow::Later`]) holds back those behind it.

use crate::clients::{Client, kind};
use crate::commands::{self, Flow};
use crate::state::{Server, gate};
use crate::waiting::{Wait, Waited};
use bytes::BytesMut;
use sluice_engine::command::{Command, Flags};
use sluice_engine::resp::{Parsed, Reply, parse};
use sluice_engine::{Outcome, Request, Row, Session};
use std::borrow::Cow;
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
    wrote: bool,
    /// Which syncs of the append-only file this connection waited for.
    membership: crate::aof::Membership,
    pub(crate) peer: Option<sluice_transport::primary::ReplicaPeer>,
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
            let (args, used, canonical) = match parse(&input[at..], max_bulk, self.authenticated) {
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

    /// Runs one command.
    fn command(
        &mut self,
        args: &[&[u8]],
        raw: Option<&[u8]>,
        out: &mut Vec<u8>,
        clock: &mut Instant,
    ) -> Flow {
        let start = out.len();
        let server = self.server.clone();
        let Some(row) = server.engine.lookup(args[0]) else {
            self.session.break_multi();
            self.error(out, &unknown_command(args));
            return self.replied(out, start);
        };
        let gate = server.gate.load(Ordering::Relaxed);
        if (gate != 0 || !self.authenticated)
            && let Some(text) = self.refusal(row.command, args.len(), gate)
        {
            self.session.break_multi();
            server.engine.command_stats(row.id).rejected.fetch_add(1, Ordering::Relaxed);
            self.error(out, &text);
            return self.replied(out, start);
        }
        if gate & gate::PAUSED != 0 && self.is_paused(row.command) {
            return Flow::Paused;
        }
        self.wrote |= row.command.flags.intersects(Flags::LOGGED) || self.session.in_multi();
        self.client.last_command.store(row.id, Ordering::Relaxed);
        // A subcommand that cannot run is refused when it is queued, so that EXEC refuses the whole.
        if self.session.in_multi()
            && let Err(e) = crate::admin::subcommand_check(row.command.name, args)
        {
            self.session.break_multi();
            self.error(out, &e.0);
            return self.replied(out, start);
        }
        let mut deferred: Vec<(usize, Row, Vec<Vec<u8>>)> = Vec::new();
        let outcome =
            server.engine.call(&mut self.session, row, Request { args, raw }, out, &mut |row, args, cx| {
                if row.command.name == "debug"
                    && crate::admin::debug_in_place(&server, &self.client, args, &mut cx.out)
                {
                    return;
                }
                // Their turn comes when the locks are gone; the place of the reply is kept.
                let owned = args.iter().map(|a| a.to_vec()).collect();
                deferred.push((cx.out.raw().len(), row, owned));
            });
        let mut flow = match outcome {
            Outcome::Done => {
                if row.command.name == "flushall" {
                    crate::persist::flushed_all(&server);
                }
                Flow::Next
            }
            Outcome::Refused => {
                let line = out[start + 1..].to_vec();
                server.stats.error(&line);
                Flow::Next
            }
            Outcome::Stalled => return Flow::Stalled,
            Outcome::Blocked => {
                let Some(blocked) = self.session.blocked.take() else { return Flow::Next };
                // What it counts and how long it took is noted when it ends.
                return Flow::Wait(Box::new(Wait { blocked, command: row.id, since: *clock }));
            }
            Outcome::External => {
                server.engine.command_stats(row.id).calls.fetch_add(1, Ordering::Relaxed);
                let flow = commands::run(self, row, args, out);
                self.count_failure(row, &out[start..]);
                flow
            }
        };
        if !self.session.exec_errors.is_empty() {
            for e in std::mem::take(&mut self.session.exec_errors) {
                server.stats.error(e.0.as_bytes());
            }
        }
        if !deferred.is_empty() {
            flow = self.run_deferred(deferred, out);
        }
        let now = Instant::now();
        let took = now - *clock;
        *clock = now;
        server.engine.command_stats(row.id).nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        if outcome != Outcome::Refused {
            server.stats.latency.note(row.id, took);
        }
        if !row.command.flags.contains(Flags::SKIP_SLOWLOG) {
            server.slowlog.note(took, args, &self.client);
        }
        match flow {
            Flow::Next => self.replied(out, start),
            other => other,
        }
    }

    /// Runs the server's own commands of a transaction and puts their replies in place.
    fn run_deferred(&mut self, deferred: Vec<(usize, Row, Vec<Vec<u8>>)>, out: &mut Vec<u8>) -> Flow {
        let mut shift = 0;
        let mut last = Flow::Next;
        for (at, row, args) in deferred {
            let refs: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let mut reply = Vec::new();
            match commands::run(self, row, &refs, &mut reply) {
                Flow::Next => {}
                Flow::Later(_) | Flow::Replica(_) | Flow::Wait(_) => {
                    reply.clear();
                    Reply::new(&mut reply, false).error("ERR Command not allowed inside a transaction");
                }
                other => last = other,
            }
            self.count_failure(row, &reply);
            out.splice(at + shift..at + shift, reply.iter().copied());
            shift += reply.len();
        }
        last
    }

    /// Counts the error a command of the server replied, if it did.
    fn count_failure(&self, row: Row, reply: &[u8]) {
        if let Some(line) = reply.strip_prefix(b"-") {
            self.server.stats.error(line);
            self.server.engine.command_stats(row.id).failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A reply that came after its batch.
    fn late_reply(&mut self, out: &mut Vec<u8>, reply: &[u8]) {
        // What served it is a write.
        self.wrote = true;
        let start = out.len();
        out.extend_from_slice(reply);
        self.replied(out, start);
    }

    /// Honours CLIENT REPLY.
    fn replied(&mut self, out: &mut Vec<u8>, start: usize) -> Flow {
        if self.reply_off {
            out.truncate(start);
        } else if self.reply_skip > 0 {
            self.reply_skip -= 1;
            if self.reply_skip == 0 {
                out.truncate(start);
            }
        }
        Flow::Next
    }

    /// Replies an error and counts it.
    pub(crate) fn error(&self, out: &mut Vec<u8>, text: &str) {
        self.server.stats.error(text.as_bytes());
        Reply::new(out, self.session.resp3).error(text);
    }

    /// Why a command may not run now, in Redis' order of checks.
    #[cold]
    fn refusal(&self, c: &Command, argc: usize, gates: u32) -> Option<Cow<'static, str>> {
        if !c.arity_ok(argc) {
            // The engine says so.
            return None;
        }
        if !self.authenticated && !c.flags.contains(Flags::NO_AUTH) {
            return Some("NOAUTH Authentication required.".into());
        }
        let writes = c.flags.contains(Flags::WRITE);
        // PING tells of a disk that fails too, so that whoever watches the server learns of it.
        let disk = writes || c.name == "ping";
        if disk && gates & gate::MISCONF != 0 && gates & gate::READONLY == 0 {
            return Some(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                 Commands that may modify the data set are disabled, because this instance is configured to report \
                 errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check \
                 the Redis logs for details about the RDB error."
                    .into(),
            );
        }
        if disk && gates & gate::AOF_ERROR != 0 && gates & gate::READONLY == 0 {
            return Some(crate::aof::refusal(&self.server).into());
        }
        if writes && gates & gate::NOREPLICAS != 0 && gates & gate::READONLY == 0 {
            return Some("NOREPLICAS Not enough good replicas to write.".into());
        }
        if writes && gates & gate::READONLY != 0 {
            return Some("READONLY You can't write against a read only replica.".into());
        }
        if gates & gate::STALE != 0 && !c.flags.contains(Flags::STALE) {
            return Some(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.".into(),
            );
        }
        if gates & gate::OOM != 0 && c.flags.contains(Flags::DENYOOM) {
            return Some("OOM command not allowed when used memory > 'maxmemory'.".into());
        }
        let beside = gates & gate::ASYNC_LOADING != 0 && c.flags.contains(Flags::NO_ASYNC_LOADING);
        if beside || gates & gate::LOADING != 0 && !c.flags.contains(Flags::LOADING) {
            return Some("LOADING Redis is loading the dataset in memory".into());
        }
        None
    }

    /// Does CLIENT PAUSE hold this command back?
    #[cold]
    fn is_paused(&self, c: &Command) -> bool {
        use crate::pause::Mode;
        match self.server.pause.mode(self.server.clock()) {
            None => false,
            Some(Mode::All) => true,
            Some(Mode::Write) => {
                c.flags.intersects(Flags::LOGGED) || c.name == "exec" && self.session.queued_a_write()
            }
        }
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

/// Longest part of the arguments an error repeats.
const SHOWN_ARGS: usize = 128;

pub(crate) fn unknown_command(args: &[&[u8]]) -> String {
    let shown = |a: &[u8]| String::from_utf8_lossy(&a[..a.len().min(SHOWN_ARGS)]).into_owned();
    let mut list = String::new();
    for a in &args[1..] {
        if list.len() >= SHOWN_ARGS {
            break;
        }
        list.push_str(&format!("'{}' ", shown(a)));
    }
    format!("ERR unknown command '{}', with args beginning with: {list}", shown(args[0]))
}
