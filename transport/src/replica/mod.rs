//! The replica's side of replication, from the connection to the command stream, without a socket.
//!
//! [`ReplicaLink`] is a state machine. Its driver owns the connection and the clock: it writes what
//! [`ReplicaLink::output`] holds, passes what it reads to [`ReplicaLink::next`] until that returns
//! `None`, carries out the [`Action`]s, and calls [`ReplicaLink::tick`] about every 100 ms.
//! Time is a number of milliseconds on any monotonic clock.
//!
//! ```text
//!            PING        AUTH, REPLCONF...      PSYNC        +FULLRESYNC
//!  Connecting ---> Ping ---> Handshake ---> Psync ---> Header ---> Payload ---> Loading
//!                                             |          ^ SYNC                    | loaded()
//!                                             |          | (old peers)             v
//!                                             +----------+---- +CONTINUE ----> Streaming
//! ```
//!
//! Anything unexpected in any state ends the link with [`Action::Abort`] and a reason in Redis'
//! words; after that the machine ignores input, and the driver reconnects after [`RECONNECT_MS`].

mod handshake;
mod payload;
#[cfg(test)]
mod tests;

pub use payload::PayloadKind;

use crate::frame::{FrameReader, Piece};
use crate::replid::ReplId;
use crate::state::ResumePoint;
use crate::wire::{LineReader, encode_command, printable};
use payload::PayloadReader;

/// Wait between the end of a link and the next attempt (Redis tries again in its once-a-second cron).
pub const RECONNECT_MS: u64 = 1000;
/// How often the replica reports its offset.
pub const ACK_PERIOD_MS: u64 = 1000;
/// How often it does so between the end of its load and the first byte of the stream, for at most
/// [`ACK_PERIOD_MS`]: a primary that has not noticed yet that its payload is through ignores the first one.
pub const EAGER_ACK_MS: u64 = 100;
/// How often a loading replica sends a newline, so that the primary does not take it for dead.
pub const LOADING_NEWLINE_MS: u64 = 1000;

/// What the handshake says about this server.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// `masteruser`; ignored without a password.
    pub user: Option<String>,
    /// `masterauth`.
    pub password: Option<String>,
    /// The port clients reach us on: `replica-announce-port`, or `port`.
    pub listening_port: u16,
    /// `replica-announce-ip`.
    pub announce_ip: Option<String>,
    /// Whether to offer `capa sluice`.
    pub offer_sluice: bool,
    /// `repl-timeout` in milliseconds.
    pub timeout_ms: u64,
    /// We were its primary and ask it to change roles: `PSYNC <id> <offset> FAILOVER`.
    pub failover: bool,
    /// It is to do so although it lacks some of our log: `FORCE` behind that.
    pub forced: bool,
}

/// How important a log line is, as Redis grades them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the curious (`notice`).
    Notice,
    /// Something is wrong (`warning`).
    Warning,
}

/// What the driver must do next. Slices borrow from the input: nothing is copied.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Write a log line.
    Log(Level, String),
    /// The primary answered PSYNC with FULLRESYNC (or SYNC is being tried: then no id and no offset are
    /// known). Our data will be replaced, so our own replicas must be disconnected, and there is
    /// no way back to a partial resync.
    FullSync {
        /// The primary's replication id.
        replid: Option<ReplId>,
        /// The log offset of its cut.
        offset: Option<u64>,
    },
    /// The payload is about to come.
    PayloadBegins(PayloadKind),
    /// Bytes of the RDB payload. With [`PayloadKind::Sluice`]: bytes of the cut, and `entry_end` says that
    /// they end between two entries.
    Payload {
        /// The bytes.
        bytes: &'a [u8],
        /// Only set with framed payloads.
        entry_end: bool,
    },
    /// Framed payloads only: log bytes to apply at once, before any later payload bytes.
    LogBytes(&'a [u8]),
    /// The payload is complete. `offset` is where the command stream goes on: that of FULLRESYNC or, after a framed
    /// payload, the end of the log bytes in it. Call [`ReplicaLink::loaded`] once it is loaded; no input
    /// is taken before.
    PayloadEnd {
        /// The log offset, 0 when the primary did not tell (SYNC).
        offset: u64,
    },
    /// Partial resync: our history goes on, perhaps under a new id.
    Continue {
        /// The new id, if the primary named one.
        replid: Option<ReplId>,
    },
    /// Bytes of the command stream. Report progress with [`ReplicaLink::applied`].
    Stream(&'a [u8]),
    /// The link is over. Log the reason as a warning, close, and try again after [`RECONNECT_MS`].
    Abort {
        /// Why, in Redis' words where Redis has some.
        reason: String,
    },
}

#[derive(Debug)]
enum State {
    Connecting,
    Ping,
    Handshake(handshake::Pending),
    Psync,
    Header,
    Payload,
    Framed,
    Loading,
    Streaming,
    Over,
}

/// The states as `master_sync_in_progress` and ROLE need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPhase {
    /// Before the answer to PSYNC (ROLE prints `connecting` or `handshake`).
    Handshake,
    /// Receiving or loading a payload (ROLE prints `sync`).
    Sync,
    /// Following the stream (ROLE prints `connected`).
    Connected,
    /// Aborted.
    Over,
}

/// The replica's end of one connection to a primary. See the module's page.
pub struct ReplicaLink {
    config: LinkConfig,
    resume: Option<ResumePoint>,
    state: State,
    lines: LineReader,
    payload: Option<PayloadReader>,
    frames: Option<FrameReader>,
    out: Vec<u8>,
    /// Log lines and actions decided but not yet handed out.
    queued: std::collections::VecDeque<Action<'static>>,
    last_input: u64,
    last_sent: u64,
    replid: Option<ReplId>,
    offset: u64,
    /// When loading ended, until the stream begins.
    eager_since: Option<u64>,
    /// False with a primary that only knows SYNC: it would not understand REPLCONF ACK.
    acks: bool,
    /// Up to where the append-only file is durable, where there is one.
    durable: Option<u64>,
    refused: bool,
}

impl ReplicaLink {
    /// A link whose connection is being made since `now`. `resume` is what to offer for a partial resync.
    pub fn new(config: LinkConfig, resume: Option<ResumePoint>, now: u64) -> Self {
        Self {
            config,
            resume,
            state: State::Connecting,
            lines: LineReader::default(),
            payload: None,
            frames: None,
            out: Vec::new(),
            queued: Default::default(),
            last_input: now,
            last_sent: now,
            replid: None,
            offset: 0,
            eager_since: None,
            acks: true,
            durable: None,
            refused: false,
        }
    }

    /// The connection is made: sends PING.
    pub fn connected(&mut self, now: u64) {
        if !matches!(self.state, State::Connecting) {
            return;
        }
        self.last_input = now;
        self.log(Level::Notice, "Non blocking connect for SYNC fired the event.".into());
        encode_command(&mut self.out, &[b"PING"]);
        self.state = State::Ping;
    }

    /// Bytes to write to the primary. The driver drains what it wrote.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether the payload comes in frames, whose checksum the link compares.
    pub fn is_framed(&self) -> bool {
        self.frames.is_some()
    }

    /// Whether the peer refused to take over (see [`LinkConfig::failover`]).
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// Where the link stands.
    pub fn phase(&self) -> LinkPhase {
        match self.state {
            State::Connecting | State::Ping | State::Handshake(_) | State::Psync => LinkPhase::Handshake,
            State::Header | State::Payload | State::Framed | State::Loading => LinkPhase::Sync,
            State::Streaming => LinkPhase::Connected,
            State::Over => LinkPhase::Over,
        }
    }

    /// Milliseconds since the primary was last heard (`master_last_io_seconds_ago`).
    pub fn idle_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.last_input)
    }

    /// Bytes of a sized payload still to come, for progress (`master_sync_left_bytes`).
    pub fn payload_left(&self) -> Option<u64> {
        self.payload.as_ref()?.left()
    }

    /// Takes some of `input` and says what to do. Call until it returns `None`: then all input is consumed,
    /// or none may be for now (while loading), or the link is over.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], now: u64) -> Option<Action<'a>> {
        if !input.is_empty() {
            self.last_input = now;
        }
        loop {
            if let Some(action) = self.queued.pop_front() {
                return Some(action);
            }
            match self.state {
                State::Ping | State::Handshake(_) | State::Psync | State::Header => {
                    if input.is_empty() {
                        return None;
                    }
                    self.read_line(input);
                    if input.is_empty() && self.queued.is_empty() {
                        return None;
                    }
                }
                State::Payload => return self.read_payload(input),
                State::Framed => return self.read_frames(input),
                State::Streaming => {
                    if input.is_empty() {
                        return None;
                    }
                    self.eager_since = None;
                    return Some(Action::Stream(std::mem::take(input)));
                }
                State::Loading => return None,
                State::Connecting | State::Over => {
                    *input = &[];
                    return None;
                }
            }
        }
    }

    /// Time passes: ACKs and time-outs. Returns an [`Action::Abort`] when the primary was silent for too long.
    pub fn tick(&mut self, now: u64) -> Option<Action<'static>> {
        self.tick_acks(now);
        if matches!(self.state, State::Over | State::Loading) || self.idle_ms(now) <= self.config.timeout_ms {
            return None;
        }
        let reason = match self.phase() {
            LinkPhase::Sync => {
                "Timeout receiving bulk data from MASTER... If the problem persists try to set the \
                 'repl-timeout' parameter in redis.conf to a larger value."
            }
            LinkPhase::Connected => "MASTER timeout: no data nor PING received...",
            _ => "Timeout connecting to the MASTER...",
        };
        self.abort(reason.into());
        self.queued.pop_back()
    }

    /// The part of [`ReplicaLink::tick`] that is due even while input keeps coming: the periodic ACK.
    pub fn tick_acks(&mut self, now: u64) {
        let eager = self.eager_since.is_some_and(|since| now.saturating_sub(since) < ACK_PERIOD_MS);
        let period = if eager { EAGER_ACK_MS } else { ACK_PERIOD_MS };
        if let State::Streaming = self.state
            && now.saturating_sub(self.last_sent) >= period
        {
            self.send_ack(now);
        }
    }

    /// The log offset of the cut, as FULLRESYNC told it (0 before, or without).
    pub fn base_offset(&self) -> u64 {
        self.offset
    }

    /// The connection broke or was closed by the peer.
    pub fn disconnected(&mut self, why: &str) -> Action<'static> {
        let reason = match self.phase() {
            LinkPhase::Connected => "Connection with master lost.".to_owned(),
            LinkPhase::Sync => format!("I/O error trying to sync with MASTER: {why}"),
            _ => format!("Error condition on socket for SYNC: {why}"),
        };
        self.state = State::Over;
        Action::Abort { reason }
    }

    /// The payload is loaded and the log stands at `offset`: acknowledges it, which makes the primary start the stream.
    pub fn loaded(&mut self, offset: u64, now: u64) {
        if let State::Loading = self.state {
            self.offset = offset;
            self.last_input = now;
            self.state = State::Streaming;
            self.eager_since = Some(now);
            self.send_ack(now);
        }
    }

    /// To be called now and then while loading (or emptying the old data): the newline keeps the primary's patience.
    pub fn loading(&mut self, now: u64) {
        if now.saturating_sub(self.last_sent) >= LOADING_NEWLINE_MS {
            self.last_sent = now;
            self.out.push(b'\n');
        }
    }

    /// The stream is applied up to `offset`; the next ACK will say so.
    pub fn applied(&mut self, offset: u64) {
        if let State::Streaming = self.state {
            self.offset = offset;
        }
    }

    /// Up to which offset the append-only file is durable, none without one: ACKs say so (`FACK`).
    pub fn durable(&mut self, offset: Option<u64>) {
        self.durable = offset;
    }

    /// `REPLCONF GETACK *` came in the stream: answers at once.
    pub fn getack(&mut self, now: u64) {
        if let State::Streaming = self.state {
            self.send_ack(now);
        }
    }

    fn send_ack(&mut self, now: u64) {
        self.last_sent = now;
        if self.acks {
            let offset = self.offset.to_string();
            match self.durable {
                None => encode_command(&mut self.out, &[b"REPLCONF", b"ACK", offset.as_bytes()]),
                Some(durable) => {
                    let durable = durable.min(self.offset).to_string();
                    let words: [&[u8]; 5] =
                        [b"REPLCONF", b"ACK", offset.as_bytes(), b"FACK", durable.as_bytes()];
                    encode_command(&mut self.out, &words);
                }
            }
        }
    }

    fn log(&mut self, level: Level, text: String) {
        self.queued.push_back(Action::Log(level, text));
    }

    fn abort(&mut self, reason: String) {
        self.state = State::Over;
        self.queued.push_back(Action::Abort { reason });
    }

    fn read_line(&mut self, input: &mut &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        match lines.read(input) {
            Err(e) => self.abort(format!("Protocol error from MASTER during the handshake: {e}")),
            // Nothing yet, or a newline to say "I am alive, wait".
            Ok(None) | Ok(Some([])) => {}
            Ok(Some(line)) => self.on_line(line),
        }
        self.lines = lines;
    }

    fn on_line(&mut self, line: &[u8]) {
        match self.state {
            State::Ping => self.on_pong(line),
            State::Handshake(pending) => self.on_handshake_reply(pending, line),
            State::Psync => self.on_psync_reply(line),
            State::Header => self.on_payload_header(line),
            _ => unreachable!("lines are only read in the four states above"),
        }
    }

    fn on_payload_header(&mut self, line: &[u8]) {
        if line[0] == b'-' {
            return self
                .abort(format!("MASTER aborted replication with an error: {}", printable(&line[1..])));
        }
        if line[0] != b'$' {
            return self.abort(format!(
                "Bad protocol from MASTER, the first byte is not '$' (we received '{}'), are you sure the \
                 host and port are right?",
                printable(line)
            ));
        }
        match PayloadKind::parse(line, self.config.offer_sluice) {
            Ok(PayloadKind::Sluice { mark }) => {
                self.log(
                    Level::Notice,
                    "MASTER <-> REPLICA sync: receiving cut and log in one stream".into(),
                );
                self.queued.push_back(Action::PayloadBegins(PayloadKind::Sluice { mark }));
                self.frames = Some(FrameReader::new(mark, self.offset));
                self.state = State::Framed;
            }
            Ok(kind) => {
                self.queued.push_back(Action::PayloadBegins(kind));
                self.payload = Some(PayloadReader::new(kind));
                self.state = State::Payload;
            }
            Err(why) => self.abort(format!("Bad protocol from MASTER, {why}: '{}'", printable(line))),
        }
    }

    fn read_payload<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Action<'a>> {
        let reader = self.payload.as_mut()?;
        if reader.done() {
            self.state = State::Loading;
            return Some(Action::PayloadEnd { offset: self.offset });
        }
        let bytes = reader.read(input)?;
        Some(Action::Payload { bytes, entry_end: false })
    }

    fn read_frames<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Action<'a>> {
        let frames = self.frames.as_mut()?;
        match frames.next(input) {
            Ok(None) => None,
            Ok(Some(Piece::Cut { bytes, entry_end })) => Some(Action::Payload { bytes, entry_end }),
            Ok(Some(Piece::Log(bytes))) => Some(Action::LogBytes(bytes)),
            Ok(Some(Piece::End { offset })) => {
                self.offset = offset;
                self.state = State::Loading;
                Some(Action::PayloadEnd { offset })
            }
            Err(e) => {
                self.state = State::Over;
                *input = &[];
                Some(Action::Abort { reason: format!("Bad protocol from MASTER: {e}") })
            }
        }
    }
}
