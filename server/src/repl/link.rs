//! The replica's side: a thread that keeps a link to the primary, loads its payloads and applies its stream.
//!
//! The thread owns the socket, with a short read time-out so that it notices time and orders. The protocol is
//! [`ReplicaLink`]'s; here bytes are moved and actions carried out. The thread is joined before the role changes,
//! so nobody else ever applies the stream at the same time.

use super::LoadWay;
use super::prefetch::{Ahead, Prefetch};
use crate::config::os_reason;
use crate::state::{Server, gate};
use parking_lot::{Condvar, Mutex};
use sluice_engine::resp::{Parsed, parse};
use sluice_engine::{Engine, Outcome, Request, Session};
use sluice_persistence::rdb::source::Source;
use sluice_persistence::rdb::{EngineVisitor, RdbDecoder, Step};
use sluice_persistence::storage::AtomicFile;
use sluice_persistence::{LoadOptions, load};
use sluice_transport::replica::{Action, Level, LinkConfig, PayloadKind, RECONNECT_MS, ReplicaLink};
use sluice_transport::replid::ReplId;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a read waits before the thread looks at the time and at its orders.
const READ_WAIT: Duration = Duration::from_millis(50);
/// Bytes read from the socket at once.
const READ_BYTES: usize = 256 << 10;
/// Unparsed stream bytes: one command at most, so this bounds a single command of the primary.
const MAX_INBOX: usize = 1 << 30;
/// Longest write that is waited for.
const WRITE_WAIT: Duration = Duration::from_secs(5);

/// What INFO, ROLE and the gates know of the link.
#[derive(Default)]
pub(crate) struct LinkShared {
    stop: AtomicBool,
    /// 0 connect, 1 connecting, 2 handshake, 3 sync, 4 connected.
    phase: AtomicU8,
    /// Clock of the last byte heard, 0 before the first.
    pub(crate) last_io: AtomicU64,
    /// Clock at which the link went down.
    pub(crate) down_since: AtomicU64,
    /// The payload: bytes in all (-1 unknown) and read.
    pub(crate) sync_total: AtomicI64,
    pub(crate) sync_read: AtomicU64,
    /// Stream bytes received, as an offset.
    pub(crate) read_offset: AtomicU64,
    sleeping: Mutex<()>,
    wake: Condvar,
    socket: Mutex<Option<TcpStream>>,
}

const CONNECT: u8 = 0;
const CONNECTING: u8 = 1;
const HANDSHAKE: u8 = 2;
const SYNC: u8 = 3;
const CONNECTED: u8 = 4;

impl LinkShared {
    /// Does it follow the stream?
    pub(crate) fn is_up(&self) -> bool {
        self.phase.load(Ordering::Acquire) == CONNECTED
    }
    /// Is a payload being received or loaded?
    pub(crate) fn is_syncing(&self) -> bool {
        self.phase.load(Ordering::Acquire) == SYNC
    }
    /// ROLE's word.
    pub(crate) fn role_word(&self) -> &'static str {
        match self.phase.load(Ordering::Acquire) {
            CONNECT => "connect",
            CONNECTING => "connecting",
            HANDSHAKE => "handshake",
            SYNC => "sync",
            _ => "connected",
        }
    }
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The running link.
pub(crate) struct LinkHandle {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) shared: Arc<LinkShared>,
    thread: Option<JoinHandle<()>>,
}

impl LinkHandle {
    /// Starts following `host:port`.
    pub(crate) fn start(server: &Arc<Server>, host: String, port: u16) -> LinkHandle {
        let shared = Arc::new(LinkShared::default());
        shared.sync_total.store(-1, Ordering::Relaxed);
        shared.down_since.store(server.clock(), Ordering::Relaxed);
        let (s, sh, h) = (server.clone(), shared.clone(), host.clone());
        let thread = std::thread::Builder::new()
            .name("replica-link".into())
            .spawn(move || {
                crate::os::long_turns();
                run(&s, &sh, &h, port);
            })
            .map_err(|e| crate::log!(Warning, "Can't start the link to the primary: {e}"))
            .ok();
        LinkHandle { host, port, shared, thread }
    }

    /// Ends the link and waits until its thread is gone.
    pub(crate) fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(s) = &*self.shared.socket.lock() {
            let _ = s.shutdown(std::net::Shutdown::Both);
        }
        let guard = self.shared.sleeping.lock();
        self.shared.wake.notify_all();
        drop(guard);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

fn run(server: &Arc<Server>, shared: &Arc<LinkShared>, host: &str, port: u16) {
    while !shared.stopped() {
        shared.phase.store(CONNECTING, Ordering::Release);
        crate::log!(Notice, "Connecting to MASTER {host}:{port}");
        let outcome = connect(server, host, port).and_then(|stream| {
            *shared.socket.lock() = stream.try_clone().ok();
            Attempt::new(server, shared, stream).follow()
        });
        *shared.socket.lock() = None;
        let was_up = shared.is_up();
        shared.phase.store(CONNECT, Ordering::Release);
        if was_up || shared.down_since.load(Ordering::Relaxed) == 0 {
            shared.down_since.store(server.clock(), Ordering::Relaxed);
        }
        if shared.stopped() {
            return;
        }
        gates(server, shared, false);
        if let Err(reason) = outcome {
            crate::log!(Warning, "{reason}");
        }
        let mut guard = shared.sleeping.lock();
        if !shared.stopped() {
            shared.wake.wait_for(&mut guard, Duration::from_millis(RECONNECT_MS));
        }
    }
}

/// The gates as the link knows them: `super::update_gates` would ask for a lock its stopper may hold.
fn gates(server: &Server, shared: &LinkShared, up: bool) {
    if !shared.stopped() {
        server.set_gate(gate::STALE, !up && !server.config.load().replica_serve_stale_data);
    }
}

fn connect(server: &Server, host: &str, port: u16) -> Result<TcpStream, String> {
    let fail = |e: io::Error| format!("Unable to connect to MASTER: {}", os_reason(&e));
    let timeout = Duration::from_secs(server.config.load().repl_timeout.max(1));
    let mut last = io::Error::from(ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs().map_err(fail)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(s) => {
                let _ = s.set_nodelay(true);
                s.set_read_timeout(Some(READ_WAIT)).map_err(fail)?;
                s.set_write_timeout(Some(WRITE_WAIT)).map_err(fail)?;
                return Ok(s);
            }
            Err(e) => last = e,
        }
    }
    Err(fail(last))
}

/// What the link came to, with its bytes moved to where they are used.
enum Event {
    /// Payload bytes were appended to the window.
    Payload,
    /// Log bytes of a framed payload were appended to the inbox.
    Log,
    /// The payload is complete; the log stands at this offset.
    End(u64),
    FullSync(Option<ReplId>, Option<u64>),
    Begins(PayloadKind),
    Continue(Option<ReplId>),
    /// Stream bytes were appended to the inbox.
    Stream,
    /// Nothing for now.
    Quiet,
}

/// One connection to the primary.
struct Attempt<'a> {
    server: &'a Arc<Server>,
    shared: &'a Arc<LinkShared>,
    stream: TcpStream,
    link: ReplicaLink,
    raw: Box<[u8]>,
    /// Reads ahead while a payload comes, and until what it read is used up.
    prefetch: Option<Prefetch>,
    at: usize,
    end: usize,
    /// Payload bytes not yet decoded: `window[start..]`.
    window: Vec<u8>,
    start: usize,
    /// Log bytes not yet applied.
    inbox: Vec<u8>,
    session: Session,
    /// The engine the stream applies to: the live one, or the one being filled beside it.
    target: Engine,
    replid: Option<ReplId>,
    ended: Option<u64>,
    /// Log bytes wait in the inbox while a payload is decoded.
    logged: bool,
    /// The session has the database the new stream begins in.
    stream_begun: bool,
    failed: Option<String>,
    applied: u64,
}

impl<'a> Attempt<'a> {
    fn new(server: &'a Arc<Server>, shared: &'a Arc<LinkShared>, stream: TcpStream) -> Attempt<'a> {
        let c = server.config.load();
        let text = |b: &[u8]| (!b.is_empty()).then(|| String::from_utf8_lossy(b).into_owned());
        let config = LinkConfig {
            user: text(&c.masteruser),
            password: text(&c.masterauth),
            listening_port: if c.replica_announce_port != 0 { c.replica_announce_port } else { server.port },
            announce_ip: (!c.replica_announce_ip.is_empty()).then(|| c.replica_announce_ip.clone()),
            // A framed payload cannot go through a file.
            offer_sluice: super::loads_from_socket(server).is_some(),
            timeout_ms: c.repl_timeout * 1000,
        };
        let resume = server.repl.state.lock().resume_point(server.engine.log().end());
        Attempt {
            server,
            shared,
            stream,
            link: ReplicaLink::new(config, resume, server.clock()),
            raw: vec![0; READ_BYTES].into_boxed_slice(),
            prefetch: None,
            at: 0,
            end: 0,
            window: Vec::new(),
            start: 0,
            inbox: Vec::new(),
            session: primary_session(&server.engine),
            target: server.engine.clone(),
            replid: None,
            ended: None,
            logged: false,
            stream_begun: false,
            failed: None,
            applied: server.engine.log().end(),
        }
    }

    /// Follows the primary until the link ends.
    fn follow(mut self) -> Result<(), String> {
        self.shared.phase.store(HANDSHAKE, Ordering::Release);
        self.link.connected(self.server.clock());
        loop {
            match self.event()? {
                Event::FullSync(replid, offset) => {
                    self.replid = replid;
                    self.shared.phase.store(SYNC, Ordering::Release);
                    self.server.repl.state.lock().full_sync_began();
                    self.server.repl.disconnect_replicas();
                    self.shared.read_offset.store(offset.unwrap_or(0), Ordering::Relaxed);
                }
                Event::Begins(kind) => self.receive(kind)?,
                Event::Continue(replid) => {
                    let end = self.server.engine.log().end();
                    self.server.engine.log().activate();
                    self.applied = end;
                    if self.server.repl.state.lock().continued(replid, end) {
                        self.server.repl.disconnect_replicas();
                    }
                    self.link.applied(end);
                    self.online();
                }
                Event::Stream => self.apply()?,
                Event::Payload | Event::Log | Event::End(_) => {
                    return Err("The primary sent payload outside of a full sync".into());
                }
                Event::Quiet => {}
            }
        }
    }

    fn online(&mut self) {
        self.shared.phase.store(CONNECTED, Ordering::Release);
        self.shared.down_since.store(0, Ordering::Relaxed);
        self.shared.read_offset.store(self.applied, Ordering::Relaxed);
        gates(self.server, self.shared, true);
    }

    /// The link's next event; reads from the socket where it needs to.
    fn event(&mut self) -> Result<Event, String> {
        loop {
            let now = self.server.clock();
            self.link.durable(self.server.aof.durable());
            let mut input = &self.raw[self.at..self.end];
            let before = input.len();
            let action = self.link.next(&mut input, now);
            let event = match action {
                None => None,
                Some(Action::Log(level, text)) => {
                    match level {
                        Level::Notice => crate::log!(Notice, "{text}"),
                        Level::Warning => crate::log!(Warning, "{text}"),
                    }
                    self.at += before - input.len();
                    continue;
                }
                Some(Action::FullSync { replid, offset }) => Some(Event::FullSync(replid, offset)),
                Some(Action::PayloadBegins(kind)) => Some(Event::Begins(kind)),
                Some(Action::Payload { bytes, .. }) => {
                    self.window.extend_from_slice(bytes);
                    self.shared.sync_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    Some(Event::Payload)
                }
                Some(Action::LogBytes(bytes)) => {
                    self.inbox.extend_from_slice(bytes);
                    Some(Event::Log)
                }
                Some(Action::PayloadEnd { offset }) => Some(Event::End(offset)),
                Some(Action::Continue { replid }) => Some(Event::Continue(replid)),
                Some(Action::Stream(bytes)) => {
                    self.inbox.extend_from_slice(bytes);
                    self.shared.read_offset.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    Some(Event::Stream)
                }
                Some(Action::Abort { reason }) => return Err(reason),
            };
            self.at += before - input.len();
            if let Some(event) = event {
                return Ok(event);
            }
            self.flush()?;
            if !self.read()? {
                return Ok(Event::Quiet);
            }
        }
    }

    /// Reads once; false where nothing came in time.
    fn read(&mut self) -> Result<bool, String> {
        if self.shared.stopped() {
            return Err("Replication link stopped".into());
        }
        let now = self.server.clock();
        if let Some(Action::Abort { reason }) = self.link.tick(now) {
            return Err(reason);
        }
        self.flush()?;
        if self.at < self.end {
            // Input the link does not take now (it waits for `loaded`).
            return Ok(false);
        }
        (self.at, self.end) = (0, 0);
        let read = match self.prefetch.as_ref().map(|p| p.next(&mut self.raw, READ_WAIT)) {
            Some(Ahead::Bytes(n)) => Ok(n),
            Some(Ahead::Nothing) => return Ok(false),
            Some(Ahead::Failed(e)) => Err(e),
            Some(Ahead::Over) => {
                self.prefetch = None;
                self.stream.read(&mut self.raw)
            }
            None => self.stream.read(&mut self.raw),
        };
        match read {
            Ok(0) => Err(self.disconnected("connection closed by the peer")),
            Ok(n) => {
                self.end = n;
                self.shared.last_io.store(now.max(1), Ordering::Relaxed);
                self.server.stats.net_repl_input_bytes.add(n as u64);
                Ok(true)
            }
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(self.disconnected(&os_reason(&e))),
        }
    }

    fn disconnected(&mut self, why: &str) -> String {
        match self.link.disconnected(why) {
            Action::Abort { reason } => reason,
            _ => why.to_owned(),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        if !self.link.output().is_empty() {
            let out = std::mem::take(self.link.output());
            if let Err(e) = self.stream.write_all(&out) {
                return Err(self.disconnected(&os_reason(&e)));
            }
        }
        Ok(())
    }

    // ---- full sync ----

    fn receive(&mut self, kind: PayloadKind) -> Result<(), String> {
        // The append-only file is of the data that is about to be replaced; it stays as it is until there is a new one.
        crate::aof::suspend(self.server);
        let total = match kind {
            PayloadKind::Sized(n) => n as i64,
            _ => -1,
        };
        self.shared.sync_total.store(total, Ordering::Relaxed);
        self.shared.sync_read.store(0, Ordering::Relaxed);
        self.prefetch = Prefetch::start(&self.stream, READ_BYTES);
        match super::loads_from_socket(self.server) {
            Some(way) => self.load_from_socket(way)?,
            None => self.load_by_file()?,
        }
        if let Some(p) = &self.prefetch {
            p.finish();
        }
        let Some(offset) = self.ended else { return Err("The full sync ended without its end".into()) };
        let engine = &self.server.engine;
        // Loaded: from here on our log is the primary's, from this offset.
        engine.log().reset(offset);
        engine.log().set_selected(self.session.db);
        engine.log().activate();
        self.server.repl.state.lock().full_sync_done(self.replid);
        self.applied = offset;
        self.session = primary_session(engine);
        self.target = engine.clone();
        self.link.loaded(offset, self.server.clock());
        self.online();
        crate::persist::clean_now(self.server);
        crate::aof::resume(self.server);
        crate::log!(Notice, "MASTER <-> REPLICA sync: Finished with success");
        self.flush()
    }

    fn load_from_socket(&mut self, way: LoadWay) -> Result<(), String> {
        crate::log!(
            Notice,
            "MASTER <-> REPLICA sync: receiving streamed RDB from master {}",
            if way == LoadWay::Swap { "beside the current dataset (swapdb)" } else { "into memory" }
        );
        let live = self.server.engine.clone();
        let engine = match way {
            LoadWay::Swap => {
                let e = Engine::builder().shards(live.shards()).databases(live.databases()).build();
                e.limits().copy_from(live.limits());
                e
            }
            LoadWay::Live => {
                self.server.set_gate(gate::LOADING, true);
                live.clear();
                live.clone()
            }
        };
        engine.set_replica(true);
        self.target = engine.clone();
        self.session = primary_session(&engine);
        crate::persist::loading_began(self.server, 0);
        let result = self.decode(&engine);
        self.server.set_gate(gate::LOADING, false);
        match result {
            Ok(()) => {
                if way == LoadWay::Swap {
                    live.adopt(engine);
                }
                Ok(())
            }
            Err(e) => {
                if way == LoadWay::Live {
                    // Half a dataset must not be served.
                    live.clear();
                }
                Err(format!("Failed trying to load the MASTER synchronization DB: {e}"))
            }
        }
    }

    fn decode(&mut self, engine: &Engine) -> Result<(), String> {
        let mut loader = engine.loader();
        let mut visitor = EngineVisitor::new(&mut loader, None);
        // A framed payload has a checksum of its own, which the link compares.
        let checksum = self.server.config.load().rdbchecksum && !self.link.is_framed();
        let mut decoder = RdbDecoder::with_checksum(&mut *self, checksum);
        loop {
            match decoder.step(&mut visitor) {
                Ok(Step::More) => {}
                Ok(Step::Done) => break,
                Ok(Step::Starved) => {
                    let this = decoder.source_mut();
                    if !std::mem::take(&mut this.logged) {
                        return Err(this.failed.take().unwrap_or("the payload ended early".into()));
                    }
                    // What the log is about must be in the tables first.
                    visitor.flush().map_err(|e| e.to_string())?;
                    let begins_in = visitor.report().replication_db;
                    let this = decoder.source_mut();
                    this.begin_stream_in(begins_in);
                    this.apply_logged()?;
                }
                Err(e) => {
                    let failed = decoder.source_mut().failed.take();
                    return Err(failed.unwrap_or_else(|| e.to_string()));
                }
            }
        }
        visitor.flush().map_err(|e| e.to_string())?;
        drop(decoder);
        self.begin_stream_in(visitor.report().replication_db);
        drop(visitor);
        loader.finish();
        // What follows the RDB's own end: the rest of the framing.
        while self.ended.is_none() {
            match self.event()? {
                Event::End(offset) => self.ended = Some(offset),
                Event::Log => self.apply_logged()?,
                Event::Payload if self.window.len() > self.start => {
                    return Err("bytes behind the end of the RDB payload".into());
                }
                _ => {}
            }
        }
        if !self.inbox.is_empty() {
            return Err("the log of a framed payload ends inside of a command".into());
        }
        Ok(())
    }

    /// The first log bytes of a new stream apply to this database (`repl-stream-db`, 0 where the payload says none).
    fn begin_stream_in(&mut self, db: Option<u32>) {
        if !std::mem::replace(&mut self.stream_begun, true) {
            self.session.db = db.filter(|db| *db < self.session.databases()).unwrap_or(0);
        }
    }

    fn load_by_file(&mut self) -> Result<(), String> {
        let dir = self.server.config.load().dir.clone();
        let target = dir.join(&self.server.config.load().dbfilename);
        crate::log!(Notice, "MASTER <-> REPLICA sync: receiving RDB from master to disk");
        let io = |e: io::Error| {
            format!(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                os_reason(&e)
            )
        };
        let mut file = AtomicFile::create(self.server.storage.clone(), &target).map_err(io)?;
        while self.ended.is_none() {
            match self.event()? {
                Event::Payload => {
                    file.write_all(&self.window).map_err(io)?;
                    self.window.clear();
                }
                Event::End(offset) => self.ended = Some(offset),
                Event::Log => return Err("a framed payload cannot be loaded by a file".into()),
                _ => {}
            }
        }
        file.commit().map_err(io)?;
        crate::log!(Notice, "MASTER <-> REPLICA sync: Loading DB in memory");
        self.load_file(&target)
    }

    fn load_file(&mut self, path: &Path) -> Result<(), String> {
        let engine = self.server.engine.clone();
        self.server.set_gate(gate::LOADING, true);
        engine.clear();
        crate::persist::loading_began(self.server, 0);
        let options =
            LoadOptions { checksum: self.server.config.load().rdbchecksum, drop_expired_before: None };
        // The file is read on a thread of its own, so that the primary keeps hearing from us.
        let result = std::thread::scope(|scope| {
            let storage = self.server.storage.clone();
            let worker = scope.spawn(move || {
                let mut loader = engine.loader();
                let r = load(&mut loader, &*storage, path, &options);
                loader.finish();
                r
            });
            while !worker.is_finished() {
                self.link.loading(self.server.clock());
                let _ = self.flush();
                std::thread::sleep(Duration::from_millis(1));
            }
            worker.join()
        });
        self.server.set_gate(gate::LOADING, false);
        match result {
            Ok(Ok(stats)) => {
                self.begin_stream_in(stats.report.replication_db);
                Ok(())
            }
            Ok(Err(e)) => {
                self.server.engine.clear();
                Err(format!("Failed trying to load the MASTER synchronization DB from disk: {e}"))
            }
            Err(_) => Err("the loading thread panicked".into()),
        }
    }

    // ---- the stream ----

    /// Applies complete commands of the stream.
    fn apply(&mut self) -> Result<(), String> {
        let used = self.run_commands(true)?;
        self.applied += used as u64;
        self.inbox.drain(..used);
        let shared = self.shared;
        crate::aof::wait_on_link(self.server, &|| shared.stopped());
        self.link.applied(self.applied);
        Ok(())
    }

    /// Applies complete commands of a framed payload's log.
    fn apply_logged(&mut self) -> Result<(), String> {
        let used = self.run_commands(false)?;
        self.inbox.drain(..used);
        Ok(())
    }

    /// Runs the complete commands in the inbox; returns the bytes they took. With `relay`, the bytes become our log.
    fn run_commands(&mut self, relay: bool) -> Result<usize, String> {
        let inbox = std::mem::take(&mut self.inbox);
        let mut at = 0;
        let mut reply = Vec::new();
        self.session.now_ms = sluice_engine::now_ms();
        let result = loop {
            let (args, used) = match parse(&inbox[at..], usize::MAX, true) {
                Parsed::Command { args, used, .. } => (args, used),
                Parsed::Incomplete(_) if inbox.len() - at > MAX_INBOX => {
                    break Err("the primary's stream holds a command over 1 GB".to_owned());
                }
                Parsed::Incomplete(_) => break Ok(at),
                Parsed::Quoted { .. } => break Err("the primary's stream holds an inline command".to_owned()),
                Parsed::Invalid(why) => break Err(format!("the primary's stream is broken: {why}")),
            };
            let raw = &inbox[at..at + used];
            reply.clear();
            if !args.is_empty() {
                self.run_command(&args, relay.then_some(raw), &mut reply);
            } else if relay {
                self.target.relay_unknown(&mut self.session, raw);
            }
            at += used;
        };
        self.inbox = inbox;
        result
    }

    fn run_command(&mut self, args: &[&[u8]], raw: Option<&[u8]>, reply: &mut Vec<u8>) {
        let engine = self.target.clone();
        let relay = |session: &mut Session| {
            if let Some(raw) = raw {
                engine.relay_unknown(session, raw);
            }
        };
        let Some(row) = engine.lookup(args[0]) else {
            if args[0].eq_ignore_ascii_case(b"replconf") {
                relay(&mut self.session);
                return self.replconf(args);
            }
            relay(&mut self.session);
            let name = String::from_utf8_lossy(args[0]).into_owned();
            crate::log!(
                Warning,
                "== CRITICAL == This replica does not know the command '{name}' its primary sent; the data now differs"
            );
            return;
        };
        loop {
            let outcome =
                engine.call(&mut self.session, row, Request { args, raw }, reply, &mut |_, _, cx| {
                    cx.out.ok();
                });
            match outcome {
                Outcome::Done => return,
                Outcome::Stalled => std::thread::sleep(Duration::from_millis(1)),
                Outcome::External => {
                    relay(&mut self.session);
                    if args[0].eq_ignore_ascii_case(b"replconf") {
                        self.replconf(args);
                    }
                    return;
                }
                Outcome::Refused => {
                    let text = String::from_utf8_lossy(reply).trim_end().to_owned();
                    let name = String::from_utf8_lossy(args[0]).into_owned();
                    crate::log!(
                        Warning,
                        "== CRITICAL == This replica is sending an error to its master: '{text}' after processing the command '{name}'"
                    );
                    return;
                }
            }
        }
    }

    fn replconf(&mut self, args: &[&[u8]]) {
        if args.get(1).is_some_and(|a| a.eq_ignore_ascii_case(b"getack")) {
            // The acknowledgement covers what came before this command.
            let now = self.server.clock();
            self.link.applied(self.server.engine.log().end());
            self.link.getack(now);
        }
    }
}

/// A session for the primary's commands. The stream goes on in the database it had selected where our log ends.
fn primary_session(engine: &Engine) -> Session {
    let mut session = engine.session();
    session.from_primary = true;
    session.db = engine.log().selected().unwrap_or(0);
    session
}

/// The decoder pulls payload bytes; log bytes between them make it pause.
impl Source for &mut Attempt<'_> {
    fn window(&self) -> &[u8] {
        &self.window[self.start..]
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        if self.start > 0 {
            self.window.drain(..self.start);
            self.start = 0;
        }
        while self.window.len() < want {
            if self.ended.is_some() {
                return Ok(false);
            }
            let event = self.event().map(|e| match e {
                Event::Log => self.logged = true,
                Event::End(offset) => self.ended = Some(offset),
                _ => {}
            });
            let now = self.server.clock();
            self.link.loading(now);
            if let Err(e) = event.and_then(|()| self.flush()) {
                self.failed = Some(e.clone());
                return Err(io::Error::other(e));
            }
            if self.logged {
                // Log bytes stand between two entries: the decoder pauses there until they are applied.
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }
}
