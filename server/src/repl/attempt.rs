//! One connection to the primary: its bytes in, its actions carried out, its stream applied.
//!
//! The protocol is [`ReplicaLink`]'s; here bytes are moved and actions carried out. The thread owns the socket, with a
//! short read time-out so that it notices time and orders. What a full sync brings is loaded by [`super::receive`], the
//! stream is applied by [`super::apply`].

use super::apply::{Block, Complaints};
use super::link::{CONNECTED, HANDSHAKE, LinkShared, READ_WAIT, SYNC};
use super::prefetch::{Ahead, Prefetch};
use super::role::link_gate;
use crate::client::registry::Client;
use crate::config::os_reason;
use crate::ground::roles::Turn;
use crate::server::Server;
use sluice_engine::internals::resp::ParseState;
use sluice_engine::{Engine, Session};
use sluice_transport::replica::{Action, Level, LinkConfig, PayloadKind, ReplicaLink};
use sluice_transport::replid::ReplId;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes read from the socket at once.
pub(super) const READ_BYTES: usize = 256 << 10;
/// Why a connection to the primary ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Network, time, orders: the next may do better.
    Link(String),
    /// What came cannot be used, and the next will most likely bring the same.
    Content(String),
}

impl From<String> for Ended {
    fn from(reason: String) -> Ended {
        Ended::Link(reason)
    }
}

impl Ended {
    /// What is said of it, after `change`.
    pub(super) fn map(self, change: impl FnOnce(String) -> String) -> Ended {
        match self {
            Ended::Link(reason) => Ended::Link(change(reason)),
            Ended::Content(reason) => Ended::Content(change(reason)),
        }
    }

    /// Another link is there, or none is wanted.
    pub(super) fn superseded() -> Ended {
        Ended::Link("Replication link stopped".into())
    }
}

/// What the link came to, with its bytes moved to where they are used.
pub(super) enum Event {
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
pub(super) struct Attempt<'a> {
    pub(super) server: &'a Arc<Server>,
    pub(super) shared: &'a Arc<LinkShared>,
    pub(super) stream: TcpStream,
    /// The link among the clients.
    client: Arc<Client>,
    pub(super) link: ReplicaLink,
    pub(super) raw: Box<[u8]>,
    /// Reads ahead while a payload comes, and until what it read is used up.
    pub(super) prefetch: Option<Prefetch>,
    pub(super) at: usize,
    pub(super) end: usize,
    /// Payload bytes not yet decoded: `window[start..]`.
    pub(super) window: Vec<u8>,
    pub(super) start: usize,
    /// Log bytes not yet applied.
    pub(super) inbox: Vec<u8>,
    /// How far the command at its front, which is not complete yet, was read.
    pub(super) request: ParseState,
    /// What is applied becomes our log.
    pub(super) relays: bool,
    pub(super) block: Block,
    pub(super) complaints: Complaints,
    /// When it was last said that the disk fails.
    pub(super) disk_said: Option<u64>,
    pub(super) session: Session,
    /// The engine the stream applies to: the live one, or the one being filled beside it.
    pub(super) target: Engine,
    /// The history a full sync brings.
    pub(super) replid: Option<ReplId>,
    pub(super) ended: Option<u64>,
    /// Log bytes wait in the inbox while a payload is decoded.
    pub(super) logged: bool,
    /// The session has the database the new stream begins in.
    pub(super) stream_begun: bool,
    pub(super) failed: Option<Ended>,
    pub(super) applied: u64,
}

impl<'a> Attempt<'a> {
    /// None where the link was superseded.
    pub(super) fn new(
        server: &'a Arc<Server>,
        shared: &'a Arc<LinkShared>,
        stream: TcpStream,
        client: Arc<Client>,
    ) -> Option<Attempt<'a>> {
        // Place and history belong together.
        let _turn = server.roles.turn_unless(|| shared.stopped())?;
        let c = server.config.load();
        let text = |b: &[u8]| (!b.is_empty()).then(|| String::from_utf8_lossy(b).into_owned());
        let (failover, forced) = server.repl.failover.lock().handover();
        let config = LinkConfig {
            user: text(&c.masteruser),
            password: text(&c.masterauth),
            listening_port: if c.replica_announce_port != 0 { c.replica_announce_port } else { server.port },
            announce_ip: (!c.replica_announce_ip.is_empty()).then(|| c.replica_announce_ip.clone()),
            // A framed payload cannot go through a file.
            offer_sluice: super::loads_from_socket(server).is_some(),
            timeout_ms: c.repl_timeout * 1000,
            failover,
            forced,
        };
        let resume = server.history.lock().resume_point(server.engine.log().end());
        Some(Attempt {
            server,
            shared,
            stream,
            client,
            link: ReplicaLink::new(config, resume, server.clock()),
            raw: vec![0; READ_BYTES].into_boxed_slice(),
            prefetch: None,
            at: 0,
            end: 0,
            window: Vec::new(),
            start: 0,
            inbox: Vec::new(),
            request: ParseState::default(),
            relays: false,
            block: Block::default(),
            complaints: Complaints::default(),
            disk_said: None,
            session: primary_session(&server.engine),
            target: server.engine.clone(),
            replid: None,
            ended: None,
            logged: false,
            stream_begun: false,
            failed: None,
            applied: server.engine.log().end(),
        })
    }

    /// See [`super::role`].
    pub(super) fn turn(&self) -> Result<Turn<'a>, Ended> {
        self.server.roles.turn_unless(|| self.shared.stopped()).ok_or_else(Ended::superseded)
    }

    /// Follows the primary until the link ends.
    pub(super) fn follow(mut self) -> Result<(), Ended> {
        self.shared.phase.store(HANDSHAKE, Ordering::Release);
        self.link.connected(self.server.clock());
        loop {
            match self.event()? {
                Event::FullSync(replid, offset) => {
                    let turn = self.turn()?;
                    super::failover::succeeded(self.server);
                    // Our data is still what it was, for us and for our replicas, until the new is being loaded.
                    self.replid = replid;
                    self.shared.phase.store(SYNC, Ordering::Release);
                    self.shared.read_offset.store(offset.unwrap_or(0), Ordering::Relaxed);
                    drop(turn);
                }
                Event::Begins(kind) => self.receive(kind)?,
                Event::Continue(replid) => {
                    let turn = self.turn()?;
                    super::failover::succeeded(self.server);
                    let end = self.server.engine.log().end();
                    self.server.engine.log().activate();
                    self.applied = end;
                    if self.server.history.lock().continued(replid, end) {
                        self.server.repl.disconnect_replicas();
                    }
                    self.link.applied(end);
                    self.online(&turn);
                }
                Event::Stream => self.apply()?,
                Event::Payload | Event::Log | Event::End(_) => {
                    return Err(Ended::Content("The primary sent payload outside of a full sync".into()));
                }
                Event::Quiet => {}
            }
        }
    }

    pub(super) fn online(&mut self, turn: &Turn<'_>) {
        self.shared.up_since.store(self.server.clock(), Ordering::Relaxed);
        self.shared.phase.store(CONNECTED, Ordering::Release);
        self.shared.down_since.store(0, Ordering::Relaxed);
        self.shared.read_offset.store(self.applied, Ordering::Relaxed);
        link_gate(self.server, turn, true);
    }

    /// The link's next event; reads from the socket where it needs to.
    pub(super) fn event(&mut self) -> Result<Event, Ended> {
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
                Some(Action::Abort { reason }) => {
                    if self.link.was_refused() {
                        // Not from here: this thread is to end for it.
                        let server = self.server.clone();
                        std::thread::spawn(move || {
                            super::failover::abort(&server, "Failover target rejected psync request");
                        });
                    }
                    return Err(match self.shared.is_syncing() {
                        true => Ended::Content(reason),
                        false => Ended::Link(reason),
                    });
                }
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
    fn read(&mut self) -> Result<bool, Ended> {
        // DEBUG SLEEP stops the whole server, this thread included.
        drop(self.server.standstill.read());
        if self.shared.stopped() {
            return Err(Ended::superseded());
        }
        let now = self.server.clock();
        if let Some(Action::Abort { reason }) = self.link.tick(now) {
            return Err(Ended::Link(reason));
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
                self.client.seen();
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

    fn disconnected(&mut self, why: &str) -> Ended {
        match self.link.disconnected(why) {
            Action::Abort { reason } => Ended::Link(reason),
            _ => Ended::Link(why.to_owned()),
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), Ended> {
        if !self.link.output().is_empty() {
            let out = std::mem::take(self.link.output());
            if let Err(e) = self.stream.write_all(&out) {
                return Err(self.disconnected(&os_reason(&e)));
            }
        }
        Ok(())
    }
}

/// A session for the primary's commands. The stream goes on in the database it had selected where our log ends.
pub(super) fn primary_session(engine: &Engine) -> Session {
    let mut session = engine.session();
    session.from_primary = true;
    session.db = engine.log().selected().unwrap_or(0);
    session
}
