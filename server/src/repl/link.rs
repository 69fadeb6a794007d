//! The link to our primary: the thread that keeps one, and what others know of it.
//!
//! The thread is joined before the role changes, so nobody else ever applies the stream at the same time. What one
//! connection does is in [`super::attempt`].

use super::attempt::Attempt;
use crate::client::registry::{Client, Socket, kind};
use crate::config::os_reason;
use crate::state::{Server, gate};
use parking_lot::{Condvar, Mutex};
use sluice_transport::replica::RECONNECT_MS;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a read waits before the thread looks at the time and at its orders.
pub(super) const READ_WAIT: Duration = Duration::from_millis(50);
/// Longest write that is waited for.
const WRITE_WAIT: Duration = Duration::from_secs(5);
/// Pause before a link that was up is made again: the backlog that bridges the gap may be small.
const RECONNECT_SOON: Duration = Duration::from_millis(20);

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
    crate::log!(Notice, "Connecting to MASTER {host}:{port}");
    while !shared.stopped() {
        shared.phase.store(CONNECTING, Ordering::Release);
        drop(server.standstill.read());
        let outcome = connect(server, host, port).and_then(|stream| {
            crate::log!(Notice, "MASTER <-> REPLICA sync started");
            *shared.socket.lock() = stream.try_clone().ok();
            let client = register(server, &stream)?;
            let ended = Attempt::new(server, shared, stream, client.clone()).follow();
            server.clients.remove(client.id);
            ended
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
        let pause = if was_up {
            crate::log!(Notice, "Reconnecting to MASTER {host}:{port}");
            RECONNECT_SOON
        } else {
            // Once a second, on the second: as a cron would.
            Duration::from_millis(RECONNECT_MS - server.clock() % RECONNECT_MS)
        };
        let mut guard = shared.sleeping.lock();
        if !shared.stopped() {
            shared.wake.wait_for(&mut guard, pause);
        }
        drop(guard);
    }
}

/// The link among the clients, where CLIENT LIST shows it and CLIENT KILL finds it.
fn register(server: &Server, stream: &TcpStream) -> Result<Arc<Client>, String> {
    let fail = |e: io::Error| format!("Unable to connect to MASTER: {}", os_reason(&e));
    let (peer, local) = (stream.peer_addr().map_err(fail)?, stream.local_addr().map_err(fail)?);
    let client = server.clients.register(Socket::Link(stream.try_clone().map_err(fail)?), peer, local);
    client.set_kind(kind::PRIMARY, true);
    client.authenticated.store(true, Ordering::Relaxed);
    Ok(client)
}

/// The gates as the link knows them: `super::update_gates` would ask for a lock its stopper may hold.
pub(super) fn gates(server: &Server, shared: &LinkShared, up: bool) {
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
