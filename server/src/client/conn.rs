//! One client connection: the commands that have come are run, their replies go into the outbox, and what the socket
//! takes of it is sent.
//!
//! A connection is a task on one worker's runtime. It runs what has come within one turn's share ([`TURN_TIME`]), then
//! sends, then the other connections of the worker have their turn. A command that cannot answer at once holds back those
//! behind it, and nobody else; a client that does not read holds nothing back. What a connection does while it waits is
//! in [`super::io`].

use crate::client::ahead::Window;
use crate::client::outbox::Outbox;
use crate::client::registry::{Client, kind};
use crate::client::stream::Stream;
use crate::client::waiting::Waited;
use crate::commands::Flow;
use crate::ground::Ground;
use crate::os;
use crate::server::Server;
use bytes::{Buf, BytesMut};
use sluice_engine::Session;
use sluice_engine::internals::Request;
use sluice_engine::internals::resp::{ParseState, Parsed, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

/// Replies gathered before they are sent, although more commands wait.
const FLUSH_AT: usize = 64 << 10;
/// How long a connection's commands may run before others have their turn; a single one is not interrupted.
const TURN_TIME: Duration = Duration::from_micros(250);
/// Commands of one turn, at most: some are so short that nobody looks at the clock.
const TURN_COMMANDS: u64 = 1000;
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
    /// A command of a block that goes on asked for the connection's end.
    pub(super) closing: bool,
    /// The batch being run holds a write.
    pub(super) wrote: bool,
    /// Where the log ended after the last write, as far as batches before this one are concerned.
    pub(super) written: u64,
    /// Which syncs of the append-only file this connection waited for.
    membership: crate::aof::Membership,
    pub(crate) peer: Option<sluice_transport::primary::ReplicaPeer>,
    /// How far the request that is not complete yet was read.
    request: ParseState,
    pub(super) stream: Arc<Stream>,
    pub(super) input: BytesMut,
    /// Bytes the command at the front of the input has in all, where that is known and more than is there.
    pub(super) need: usize,
    /// The last read took all it asked for.
    pub(super) more_to_read: bool,
    pub(super) outbox: Outbox,
}

/// Serves a connection to its end.
pub(crate) async fn serve(server: Arc<Server>, stream: Arc<Stream>, client: Arc<Client>) {
    let mut session = server.engine.session();
    session.may_block = true;
    let authenticated = server.config.load().requirepass.is_empty();
    client.authenticated.store(authenticated, Ordering::Relaxed);
    client.inlet.belongs_to(std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let mut conn = Conn {
        server: server.clone(),
        client: client.clone(),
        session,
        authenticated,
        reply_off: false,
        reply_skip: 0,
        closing: false,
        wrote: false,
        written: 0,
        membership: crate::aof::Membership::default(),
        peer: None,
        request: ParseState::default(),
        stream,
        input: BytesMut::new(),
        need: 0,
        more_to_read: false,
        outbox: Outbox::default(),
    };
    let _ = conn.run(&server.ground).await;
    crate::repl::primary::forget(&server, client.id);
    server.clients.remove(client.id);
}

/// Writes all of `out`, or fails.
pub(crate) async fn write_all(stream: &Stream, out: &[u8]) -> std::io::Result<()> {
    use std::io::ErrorKind;
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

impl Conn {
    async fn run(&mut self, ground: &Ground) -> std::io::Result<()> {
        while self.receive().await? {
            if self.input.len() < self.need {
                self.publish();
                continue;
            }
            while !self.client.is(kind::CLOSING) {
                let flow = self.batch(ground);
                let wrote = std::mem::take(&mut self.wrote);
                if wrote {
                    self.written = ground.engine.log().end();
                }
                if let Some(hold) = self.server.aof.hold(ground.engine.log(), wrote) {
                    crate::aof::wait(&self.server, hold, &mut self.membership).await;
                }
                if wrote && let Some(wait) = self.server.repl.slow_writers.wait(ground.engine.log()) {
                    tokio::time::sleep(wait).await;
                }
                if !self.send()? {
                    return Ok(());
                }
                self.publish();
                match flow {
                    Flow::Next => break,
                    Flow::Turn => tokio::task::yield_now().await,
                    Flow::Close => return self.drain().await.map(|_| ()),
                    Flow::Replica(attach) => {
                        if !self.drain().await? {
                            return Ok(());
                        }
                        let (stream, input) = (self.stream.clone(), std::mem::take(&mut self.input));
                        return crate::repl::serve_replica(self, &stream, input, attach).await;
                    }
                    waits => {
                        if !self.wait(waits).await {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for what holds the connection's commands up; false where the connection ended.
    async fn wait(&mut self, flow: Flow) -> bool {
        let server = self.server.clone();
        match flow {
            Flow::Stalled => self.attend(tokio::time::sleep(STALL_WAIT)).await.is_some(),
            Flow::Paused => {
                self.client.set_kind(kind::BLOCKED, true);
                let over = self.attend(server.pause.wait(server.clock())).await;
                self.client.set_kind(kind::BLOCKED, false);
                over.is_some()
            }
            Flow::Later(reply) => {
                self.client.set_kind(kind::BLOCKED, true);
                let reply = self.attend(reply).await;
                self.client.set_kind(kind::BLOCKED, false);
                let Some(Ok(reply)) = reply else { return false };
                // It may have written: MIGRATE removes keys.
                self.wrote = true;
                self.late_reply(&reply);
                true
            }
            Flow::Wait(wait) => match self.wait_for(*wait).await {
                Waited::Reply(reply) => {
                    self.late_reply(&reply);
                    true
                }
                Waited::Last(reply) => {
                    self.late_reply(&reply);
                    let _ = self.drain().await;
                    false
                }
                Waited::Gone => false,
            },
            Flow::Next | Flow::Turn | Flow::Close | Flow::Apart | Flow::Replica(_) => true,
        }
    }

    /// Runs complete commands, for one turn.
    fn batch(&mut self, ground: &Ground) -> Flow {
        let mut input = std::mem::take(&mut self.input);
        let mut out = self.outbox.take_tail();
        let (used, flow) = self.run_commands(ground, &input, &mut out);
        input.advance(used);
        self.input = input;
        self.outbox.put_tail(out);
        flow
    }

    /// Returns the bytes that were taken as well. [`Flow::Next`]: everything complete was run.
    fn run_commands(&mut self, ground: &Ground, input: &[u8], out: &mut Vec<u8>) -> (usize, Flow) {
        self.session.now_ms = sluice_engine::internals::now_ms();
        self.need = 0;
        let max_bulk = ground.engine.limits().max_string.load(Ordering::Relaxed);
        let (mut at, mut count) = (0, 0);
        let mut clock = os::nanos();
        let deadline = clock + TURN_TIME.as_nanos() as u64;
        let mut window = Window::new(input);
        let flow = loop {
            if out.len() > FLUSH_AT || count >= TURN_COMMANDS || clock > deadline {
                break Flow::Turn;
            }
            let start = out.len();
            if self.session.is_interrupted() {
                match self.resume(out) {
                    Flow::Next => self.honour_reply_mode(out, start),
                    other => break other,
                }
                continue;
            }
            let (flow, end) = if let Some((ahead, args)) = window.next() {
                let end = ahead.bytes.end;
                if args.is_empty() {
                    // An empty line keeps a replica's connection alive.
                    if let Some(peer) = &mut self.peer {
                        peer.newline(ground.clock());
                    }
                    at = end;
                    continue;
                }
                let raw = ahead.canonical.then(|| &input[at..end]);
                (self.command(ground, ahead.resolved, Request { args, raw }, out, &mut clock), end)
            } else if window.fill(
                &ground.engine,
                self.session.db,
                max_bulk,
                self.authenticated,
                &mut self.request,
            ) {
                continue;
            } else {
                match window.take_behind() {
                    Parsed::Incomplete(need) => {
                        self.need = need;
                        break Flow::Next;
                    }
                    Parsed::Quoted { args, used } => {
                        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                        window.step(used);
                        let resolved = ground.engine.resolve(&args);
                        let request = Request { args: &args, raw: None };
                        (self.command(ground, resolved, request, out, &mut clock), window.parsed())
                    }
                    Parsed::Invalid(message) => {
                        self.protocol_error(&message, out);
                        (Flow::Close, at)
                    }
                    Parsed::Command { .. } => unreachable!("it is in the window"),
                }
            };
            match flow {
                Flow::Stalled | Flow::Paused => break flow,
                Flow::Later(_) | Flow::Wait(_) => {}
                _ => self.honour_reply_mode(out, start),
            }
            at = end;
            count += 1;
            if !matches!(flow, Flow::Next) {
                break flow;
            }
            if !window.knew(self.authenticated) {
                window.give_back(at, &mut self.request);
            }
        };
        if at != window.parsed() {
            window.give_back(at, &mut self.request);
        }
        ground.stats.commands_processed.add(count);
        (at, flow)
    }

    #[cold]
    fn protocol_error(&self, message: &str, out: &mut Vec<u8>) {
        let (id, addr) = (self.client.id, &self.client.addr);
        crate::log!(Verbose, "Protocol error ({message}) from client: id={id} addr={addr}");
        Reply::new(out, false).error(message);
    }

    /// CLIENT REPLY: drops what a command replied from `start` on where nothing is to be replied. Every reply passes here,
    /// once, when it is complete.
    #[inline]
    fn honour_reply_mode(&mut self, out: &mut Vec<u8>, start: usize) {
        if self.reply_off {
            out.truncate(start);
        } else if self.reply_skip > 0 {
            self.reply_skip -= 1;
            if self.reply_skip == 0 {
                out.truncate(start);
            }
        }
    }

    /// The reply of a command that had to wait for it.
    fn late_reply(&mut self, reply: &[u8]) {
        let mut out = self.outbox.take_tail();
        let start = out.len();
        out.extend_from_slice(reply);
        self.honour_reply_mode(&mut out, start);
        self.outbox.put_tail(out);
    }

    /// Somebody made a web browser, or a server that fetches pages, talk to us. The connection ends here and now: nothing
    /// behind this line may run, and nothing is replied.
    #[cold]
    pub(super) fn refuse_web_request(&self) -> Flow {
        /// The log tells of it once in so many milliseconds.
        const TOLD_EVERY: u64 = 60_000;
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let now = self.server.clock() + TOLD_EVERY;
        let told = TOLD.load(Ordering::Relaxed);
        if now - told >= TOLD_EVERY
            && TOLD.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            crate::log!(
                Warning,
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. \
                 This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis \
                 instance. Connection aborted."
            );
        }
        self.client.kill();
        Flow::Close
    }

    /// Where the log ended after this client's last write; 0 where there was none.
    pub(super) fn last_write(&self) -> u64 {
        if self.wrote { self.server.engine.log().end() } else { self.written }
    }

    /// Publishes what CLIENT LIST shows.
    pub(super) fn publish(&self) {
        let c = &*self.client;
        c.last_seen.store(c.created.elapsed().as_millis() as u64, Ordering::Relaxed);
        c.db.store(self.session.db, Ordering::Relaxed);
        c.input_bytes.store(self.input.len(), Ordering::Relaxed);
        c.input_room.store(self.input.capacity() - self.input.len(), Ordering::Relaxed);
        c.output_bytes.store(self.outbox.len(), Ordering::Relaxed);
        c.output_frames.store(self.outbox.frames(), Ordering::Relaxed);
        c.reply_room.store(self.outbox.tail_capacity(), Ordering::Relaxed);
        c.multi.store(self.session.queued() as i32, Ordering::Relaxed);
        c.watching.store(self.session.watching() as u32, Ordering::Relaxed);
    }
}
