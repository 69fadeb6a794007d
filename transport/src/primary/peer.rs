//! One replica as its primary knows it.

use super::NEWLINE_PERIOD_MS;
use crate::wire::{parse_i64, printable};

/// Longest announced address (Redis: `NET_HOST_STR_LEN`).
const MAX_HOST: usize = 256;

/// What a replica said it can do, in `REPLCONF capa`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Reads `$EOF:` payloads.
    pub eof: bool,
    /// Understands `+CONTINUE <new id>`.
    pub psync2: bool,
    /// Reads the framed stream of [`crate::frame`].
    pub sluice: bool,
}

/// Which parts of the data a replica wants in its RDB (`REPLCONF rdb-filter-only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdbFilter {
    /// Keys.
    pub data: bool,
    /// Function libraries.
    pub functions: bool,
}

impl RdbFilter {
    /// Everything.
    pub const ALL: RdbFilter = RdbFilter { data: true, functions: true };
}

/// Where a replica stands; the words are those of INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Still an ordinary client that may send REPLCONF.
    Handshake,
    /// Waits for a full sync to start.
    WaitStart,
    /// Its cut is being taken to disk; the payload has not begun.
    WaitStaged,
    /// Receiving the payload.
    SendBulk,
    /// The payload is sent, the stream begins with its first ACK.
    Loading,
    /// Follows the stream.
    Online,
    /// Asked for an RDB only and has it.
    RdbOnlyDone,
}

/// What to do about a REPLCONF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplconfReply {
    /// Reply `+OK`.
    Ok,
    /// Reply nothing.
    Silent,
    /// It was an ACK; reply nothing. The first one after a payload starts the stream.
    Ack {
        /// Start sending the stream now.
        start_stream: bool,
    },
    /// `GETACK` from our primary: the replica's side of this server must acknowledge now.
    GetAck,
    /// Reply with this error (with its code).
    Error(String),
}

/// One replica's record. Made when a client first sends REPLCONF, SYNC or PSYNC.
#[derive(Clone, Debug)]
pub struct ReplicaPeer {
    id: u64,
    /// As announced, 0 before.
    pub listening_port: u16,
    /// As announced; otherwise the connection's address counts.
    pub announced_ip: Option<String>,
    /// `REPLCONF capa`.
    pub capa: Capabilities,
    /// `REPLCONF rdb-only 1`: wants a payload and no stream.
    pub rdb_only: bool,
    /// `REPLCONF rdb-filter-only`.
    pub filter: RdbFilter,
    /// Used SYNC: will not acknowledge, so its silence means nothing.
    pub pre_psync: bool,
    state: PeerState,
    /// Its payload comes from a file.
    staged: bool,
    ack_offset: u64,
    /// The offset up to which its append-only file is durable, where it has said so.
    aof_offset: Option<u64>,
    ack_time: u64,
    /// It acknowledged while, as far as we knew, its payload was still on the way.
    acked_early: bool,
    last_newline: u64,
}

impl ReplicaPeer {
    /// A client with this id (chosen by the caller) may become a replica.
    pub fn new(id: u64, now: u64) -> Self {
        Self {
            id,
            listening_port: 0,
            announced_ip: None,
            capa: Capabilities::default(),
            rdb_only: false,
            filter: RdbFilter::ALL,
            pre_psync: false,
            state: PeerState::Handshake,
            staged: false,
            ack_offset: 0,
            aof_offset: None,
            ack_time: now,
            acked_early: false,
            last_newline: now,
        }
    }

    /// The caller's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The state.
    pub fn state(&self) -> PeerState {
        self.state
    }

    /// Follows the stream, or is about to.
    pub fn is_online(&self) -> bool {
        matches!(self.state, PeerState::Online | PeerState::Loading)
    }

    /// `state=` in `INFO replication`; `None` for one INFO does not list. As in Redis, `send_bulk` is said of a file
    /// being sent only: a replica of a diskless sync waits for the snapshot until it has all of it.
    pub fn state_word(&self) -> Option<&'static str> {
        match self.state {
            PeerState::Handshake | PeerState::RdbOnlyDone => None,
            PeerState::WaitStart | PeerState::WaitStaged => Some("wait_bgsave"),
            PeerState::SendBulk if self.staged => Some("send_bulk"),
            PeerState::SendBulk => Some("wait_bgsave"),
            PeerState::Loading | PeerState::Online => Some("online"),
        }
    }

    /// The offset up to which its append-only file is durable (`FACK`), where it has said so.
    pub fn aof_offset(&self) -> Option<u64> {
        self.aof_offset
    }

    /// Last acknowledged offset.
    pub fn ack_offset(&self) -> u64 {
        self.ack_offset
    }

    /// Milliseconds since the last ACK; 0 before it is online, as INFO shows it.
    pub fn lag_ms(&self, now: u64) -> u64 {
        if self.is_online() { now.saturating_sub(self.ack_time) } else { 0 }
    }

    /// `REPLCONF` with these arguments (without the command's name).
    pub fn replconf(&mut self, args: &[&[u8]], now: u64) -> ReplconfReply {
        if !args.len().is_multiple_of(2) {
            return ReplconfReply::Error("ERR syntax error".into());
        }
        for pair in args.chunks_exact(2) {
            let (option, value) = (pair[0], pair[1]);
            let result = match option.to_ascii_lowercase().as_slice() {
                b"listening-port" => self.set_port(value),
                b"ip-address" => self.set_ip(value),
                b"capa" => {
                    self.set_capa(value);
                    Ok(())
                }
                b"ack" => return self.ack(value, args, now),
                b"getack" => return ReplconfReply::GetAck,
                b"rdb-only" => self.set_rdb_only(value),
                b"rdb-filter-only" => self.set_filter(value),
                _ => Err(format!("ERR Unrecognized REPLCONF option: {}", printable(option))),
            };
            if let Err(e) = result {
                return ReplconfReply::Error(e);
            }
        }
        ReplconfReply::Ok
    }

    fn set_port(&mut self, value: &[u8]) -> Result<(), String> {
        let port = parse_i64(value).ok_or("ERR value is not an integer or out of range")?;
        self.listening_port = u16::try_from(port).unwrap_or(0);
        Ok(())
    }

    fn set_ip(&mut self, value: &[u8]) -> Result<(), String> {
        if value.len() >= MAX_HOST {
            let len = value.len();
            return Err(format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {len} bytes"
            ));
        }
        self.announced_ip = (!value.is_empty()).then(|| printable(value));
        Ok(())
    }

    /// Capabilities we do not know are ignored: that is how new ones can be offered.
    fn set_capa(&mut self, value: &[u8]) {
        match value.to_ascii_lowercase().as_slice() {
            b"eof" => self.capa.eof = true,
            b"psync2" => self.capa.psync2 = true,
            b"sluice" => self.capa.sluice = true,
            _ => {}
        }
    }

    fn set_rdb_only(&mut self, value: &[u8]) -> Result<(), String> {
        match parse_i64(value) {
            None => Err("ERR value is not an integer or out of range".into()),
            Some(n @ (0 | 1)) => {
                self.rdb_only = n == 1;
                Ok(())
            }
            Some(_) => Err("ERR value is out of range, value must between 0 and 1".into()),
        }
    }

    fn set_filter(&mut self, value: &[u8]) -> Result<(), String> {
        let mut filter = RdbFilter { data: false, functions: false };
        for word in value.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()) {
            if !word.eq_ignore_ascii_case(b"functions") {
                return Err(format!("ERR Unsupported rdb-filter-only option: {}", printable(word)));
            }
            filter.functions = true;
        }
        self.filter = filter;
        Ok(())
    }

    /// Why it can have no full sync, in Redis' words.
    pub fn refusal(&self) -> Option<&'static str> {
        (self.filter != RdbFilter::ALL && !self.capa.eof)
            .then_some("ERR Filtered replica requires EOF capability")
    }

    /// `ACK offset [FACK offset]`.
    fn ack(&mut self, value: &[u8], args: &[&[u8]], now: u64) -> ReplconfReply {
        if self.state == PeerState::Handshake {
            return ReplconfReply::Silent; // not a replica: ignored, as Redis does
        }
        let Some(offset) = parse_i64(value).and_then(|n| u64::try_from(n).ok()) else {
            return ReplconfReply::Silent;
        };
        self.ack_offset = self.ack_offset.max(offset);
        if let [_, _, option, durable] = args
            && option.eq_ignore_ascii_case(b"fack")
        {
            let durable = parse_i64(durable).and_then(|n| u64::try_from(n).ok());
            self.aof_offset = self.aof_offset.max(durable);
        }
        self.ack_time = now;
        self.acked_early |= self.state == PeerState::SendBulk;
        let start_stream = self.state == PeerState::Loading;
        if start_stream {
            self.state = PeerState::Online;
        }
        ReplconfReply::Ack { start_stream }
    }

    /// A bare newline came: the replica is loading and alive.
    pub fn newline(&mut self, now: u64) {
        self.ack_time = now;
    }

    /// SYNC or PSYNC could not be continued: the replica waits for a full sync.
    pub fn wait_for_sync(&mut self) {
        self.state = PeerState::WaitStart;
    }

    /// Its full sync began; `staged` when the cut goes to a file first.
    pub fn sync_began(&mut self, staged: bool) {
        self.acked_early = false;
        self.staged = staged;
        self.state = if staged { PeerState::WaitStaged } else { PeerState::SendBulk };
    }

    /// The payload begins to be sent (disk-staged).
    pub fn payload_began(&mut self) {
        self.state = PeerState::SendBulk;
    }

    /// The payload is sent. Returns whether the stream starts at once: it does after a framed payload and for peers
    /// that never acknowledge, if their payload had a length; otherwise the first ACK starts it, which may have come already (a
    /// small payload is loaded before a zero-copy send is known to be over). A replica that wanted an RDB only gets no
    /// stream and is disconnected.
    pub fn payload_sent(&mut self, stream_at_once: bool, now: u64) -> bool {
        self.ack_time = now;
        if self.rdb_only {
            self.state = PeerState::RdbOnlyDone;
            return false;
        }
        let online = stream_at_once || self.acked_early;
        self.state = if online { PeerState::Online } else { PeerState::Loading };
        online
    }

    /// PSYNC was continued from `offset`: online at once.
    pub fn continued(&mut self, offset: u64, now: u64) {
        self.ack_offset = offset;
        self.ack_time = now;
        self.state = PeerState::Online;
    }

    /// Whether to send a newline now, because the replica waits for a payload that has not begun.
    pub fn newline_due(&mut self, now: u64) -> bool {
        let waiting = matches!(self.state, PeerState::WaitStart | PeerState::WaitStaged);
        let due = waiting && now.saturating_sub(self.last_newline) >= NEWLINE_PERIOD_MS;
        if due {
            self.last_newline = now;
        }
        due
    }

    /// Whether the replica was silent for too long, with Redis' words for the log. `name` is `ip:port`.
    /// While a payload is being sent its sender watches the progress instead.
    pub fn timed_out(&self, name: &str, timeout_ms: u64, now: u64) -> Option<String> {
        let silent = now.saturating_sub(self.ack_time) > timeout_ms;
        (self.is_online() && !self.pre_psync && silent)
            .then(|| format!("Disconnecting timedout replica (streaming sync): {name}"))
    }
}
