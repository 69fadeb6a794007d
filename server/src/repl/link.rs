//! The link to our primary: the thread that keeps one, and what others know of it.
//!
//! A link is superseded, not joined: its thread may wait for the network, or for a name to be looked up. What it does to
//! anything shared it does in a turn ([`super::role`]), and a superseded one gets none. What one connection does is in
//! [`super::attempt`].
//!
//! **How soon it tries again.** A link that was up is made again at once, one that could not be made once a second. A
//! full sync whose content cannot be used is another matter: the next one will most likely bring the same, and costs the
//! primary a cut each time. After each that fails so the pause doubles, up to [`RETRY_MOST`]; `REPLICAOF` of the same
//! primary ends it.

use super::attempt::{Attempt, Ended};
use super::role::link_gate;
use crate::client::registry::{Client, Socket, kind};
use crate::client::stream::Address;
use crate::config::os_reason;
use crate::server::Server;
use parking_lot::{Condvar, Mutex};
use sluice_transport::replica::RECONNECT_MS;
use socket2::{Domain, Socket as Raw, Type};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a read waits before the thread looks at the time and at its orders.
pub(super) const READ_WAIT: Duration = Duration::from_millis(50);
/// Longest write that is waited for.
const WRITE_WAIT: Duration = Duration::from_secs(5);
/// Pause before a link that was up is made again: the backlog that bridges the gap may be small.
const RECONNECT_SOON: Duration = Duration::from_millis(20);
/// Longest pause between two full syncs whose content cannot be used.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// A link that was up for so long has left earlier failures behind.
const SETTLED_MS: u64 = 60_000;
/// Names looked up at once, by superseded threads too: a look-up cannot be broken off. At it the attempt fails.
const LOOKUPS: usize = 8;

/// What INFO, ROLE and the gates know of the link.
#[derive(Default)]
pub(crate) struct LinkShared {
    stop: AtomicBool,
    /// 0 connect, 1 connecting, 2 handshake, 3 sync, 4 connected.
    pub(super) phase: AtomicU8,
    /// Clock of the last byte heard, 0 before the first.
    pub(crate) last_io: AtomicU64,
    /// Clock at which the link went down.
    pub(crate) down_since: AtomicU64,
    /// Clock at which it last came up.
    pub(super) up_since: AtomicU64,
    /// The payload: bytes in all (-1 unknown) and read.
    pub(crate) sync_total: AtomicI64,
    pub(crate) sync_read: AtomicU64,
    /// Stream bytes received, as an offset.
    pub(crate) read_offset: AtomicU64,
    /// Full syncs in a row that came and could not be used.
    failures: AtomicU32,
    /// Clock at which the next is tried, 0 where none is put off.
    retry_at: AtomicU64,
    /// Whether not to wait for that, or for anything.
    sleeping: Mutex<bool>,
    wake: Condvar,
    socket: Mutex<Option<TcpStream>>,
}

const CONNECT: u8 = 0;
const CONNECTING: u8 = 1;
pub(super) const HANDSHAKE: u8 = 2;
pub(super) const SYNC: u8 = 3;
pub(super) const CONNECTED: u8 = 4;

impl LinkShared {
    /// Does it follow the stream?
    pub(crate) fn is_up(&self) -> bool {
        self.phase.load(Ordering::Acquire) == CONNECTED
    }
    /// Has the primary closed the connection, although the link's thread has not come to see it?
    pub(crate) fn is_hung_up(&self) -> bool {
        let socket = self.socket.lock();
        let Some(socket) = &*socket else { return false };
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let mut byte = [std::mem::MaybeUninit::uninit()];
        matches!(socket2::SockRef::from(socket).recv_with_flags(&mut byte, flags), Ok(0))
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
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The running link.
pub(crate) struct LinkHandle {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) shared: Arc<LinkShared>,
}

impl LinkHandle {
    /// Starts following `host:port`.
    pub(super) fn start(server: &Arc<Server>, host: String, port: u16) -> LinkHandle {
        let shared = Arc::new(LinkShared::default());
        shared.sync_total.store(-1, Ordering::Relaxed);
        shared.down_since.store(server.clock(), Ordering::Relaxed);
        let (s, sh, h) = (server.clone(), shared.clone(), host.clone());
        let begun = std::thread::Builder::new().name("replica-link".into()).spawn(move || {
            crate::os::long_turns();
            run(&s, &sh, &h, port);
        });
        if let Err(e) = begun {
            crate::log!(Warning, "Can't start the link to the primary: {e}");
        }
        LinkHandle { host, port, shared }
    }
}

fn run(server: &Arc<Server>, shared: &Arc<LinkShared>, host: &str, port: u16) {
    crate::log!(Notice, "Connecting to MASTER {host}:{port}");
    while !shared.stopped() {
        shared.phase.store(CONNECTING, Ordering::Release);
        drop(server.standstill.read());
        let outcome = connect(server, shared, host, port).map_err(Ended::Link).and_then(|stream| {
            crate::log!(Notice, "MASTER <-> REPLICA sync started");
            *shared.socket.lock() = stream.try_clone().ok();
            let client = register(server, &stream)?;
            let ended = match Attempt::new(server, shared, stream, client.clone()) {
                Some(attempt) => attempt.follow(),
                None => Ok(()),
            };
            server.clients.remove(client.id);
            ended
        });
        *shared.socket.lock() = None;
        let was_up = shared.is_up();
        let up_for = server.clock().saturating_sub(shared.up_since.load(Ordering::Relaxed));
        {
            let Some(turn) = server.roles.turn_unless(|| shared.stopped()) else { return };
            shared.phase.store(CONNECT, Ordering::Release);
            if was_up || shared.down_since.load(Ordering::Relaxed) == 0 {
                shared.down_since.store(server.clock(), Ordering::Relaxed);
            }
            link_gate(server, &turn, false);
        }
        let pause = match outcome {
            Err(Ended::Content(reason)) => {
                crate::log!(Warning, "{reason}");
                shared.put_off(server, was_up && up_for >= SETTLED_MS)
            }
            outcome => {
                if let Err(Ended::Link(reason)) = outcome {
                    crate::log!(Warning, "{reason}");
                }
                if was_up {
                    crate::log!(Notice, "Reconnecting to MASTER {host}:{port}");
                    RECONNECT_SOON
                } else {
                    // Once a second, on the second: as a cron would.
                    Duration::from_millis(RECONNECT_MS - server.clock() % RECONNECT_MS)
                }
            }
        };
        shared.sleep(pause);
    }
}

impl LinkShared {
    /// Ends the link: its thread gets no turn any more. Nobody waits for it.
    pub(super) fn supersede(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(s) = &*self.socket.lock() {
            let _ = s.shutdown(std::net::Shutdown::Both);
        }
        self.hasten();
    }

    /// Ends the pause before the next attempt.
    pub(super) fn hasten(&self) {
        *self.sleeping.lock() = true;
        self.wake.notify_all();
    }

    fn sleep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut hastened = self.sleeping.lock();
        while !*hastened && !self.stopped() && !self.wake.wait_until(&mut hastened, until).timed_out() {}
        *hastened = false;
        self.retry_at.store(0, Ordering::Relaxed);
    }

    /// The content of a full sync, or of the stream behind it, cannot be used: how long to wait before the next.
    fn put_off(&self, server: &Server, settled: bool) -> Duration {
        let failures = if settled { 1 } else { self.failures.load(Ordering::Relaxed).saturating_add(1) };
        self.failures.store(failures, Ordering::Relaxed);
        let pause = Duration::from_millis(RECONNECT_MS << (failures - 1).min(16)).min(RETRY_MOST);
        self.retry_at.store(server.clock() + pause.as_millis() as u64, Ordering::Relaxed);
        crate::log!(
            Warning,
            "What the primary sent cannot be used ({failures} in a row): the next full sync is tried in {} s. REPLICAOF of \
             the same primary tries it at once.",
            pause.as_secs()
        );
        pause
    }

    /// Full syncs in a row that could not be used, and the seconds to the next where it is put off.
    pub(crate) fn failures(&self, now: u64) -> (u32, u64) {
        let failures = if self.is_up() { 0 } else { self.failures.load(Ordering::Relaxed) };
        (failures, self.retry_at.load(Ordering::Relaxed).saturating_sub(now).div_ceil(1000))
    }
}

/// The link among the clients, where CLIENT LIST shows it and CLIENT KILL finds it.
fn register(server: &Server, stream: &TcpStream) -> Result<Arc<Client>, Ended> {
    let fail = |e: io::Error| Ended::Link(format!("Unable to connect to MASTER: {}", os_reason(&e)));
    let (peer, local) = (stream.peer_addr().map_err(fail)?, stream.local_addr().map_err(fail)?);
    let client = server.clients.register(
        Socket::Link(stream.try_clone().map_err(fail)?),
        Address::Ip(peer),
        Address::Ip(local),
    );
    client.set_kind(kind::PRIMARY, true);
    client.authenticated.store(true, Ordering::Relaxed);
    Ok(client)
}

fn connect(server: &Server, shared: &LinkShared, host: &str, port: u16) -> Result<TcpStream, String> {
    let fail = |e: io::Error| format!("Unable to connect to MASTER: {}", os_reason(&e));
    let timeout = Duration::from_secs(server.config.load().repl_timeout.max(1));
    let mut last = io::Error::from(ErrorKind::NotFound);
    for address in look_up(host, port).map_err(fail)? {
        match connect_to(shared, address, timeout) {
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

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = if RUNNING.fetch_add(1, Ordering::AcqRel) < LOOKUPS {
        (host, port).to_socket_addrs().map(Iterator::collect)
    } else {
        Err(io::Error::other("too many names are being looked up"))
    };
    RUNNING.fetch_sub(1, Ordering::AcqRel);
    found
}

/// Connects, for as long as the link is wanted: a superseded thread is gone in a moment, however dead its primary.
fn connect_to(shared: &LinkShared, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Raw::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {
            let until = Instant::now() + timeout;
            while !crate::os::is_ready(&socket, READ_WAIT) {
                if shared.stopped() || Instant::now() >= until {
                    return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
                }
            }
            if let Some(e) = socket.take_error()? {
                return Err(e);
            }
        }
        other => other?,
    }
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}
