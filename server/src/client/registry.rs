//! The registry of connected clients: what CLIENT LIST shows and CLIENT KILL finds.
//!
//! A connection's task owns its state; it publishes a few atomics here once a batch of commands. Killing a client
//! shuts its socket down, which its task notices like any other end of the connection.

use crate::client::outbox::Inlet;
use crate::client::stream::{Address, Stream};
use crate::slowlog::Who;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// What kind of peer a connection is.
pub(crate) mod kind {
    /// Runs as a replica of ours.
    pub(crate) const REPLICA: u32 = 1;
    /// CLIENT NO-EVICT on.
    pub(crate) const NO_EVICT: u32 = 1 << 1;
    /// Inside MULTI.
    pub(crate) const MULTI: u32 = 1 << 2;
    /// Will be closed after its reply is sent.
    pub(crate) const CLOSING: u32 = 1 << 3;
    /// Waits in a blocking command (WAIT).
    pub(crate) const BLOCKED: u32 = 1 << 4;
    /// Our own link to the primary.
    pub(crate) const PRIMARY: u32 = 1 << 5;
}

/// What a client is connected by.
pub(crate) enum Socket {
    /// A connection accepted by a worker.
    Accepted(Arc<Stream>),
    /// The link to our primary, which has a thread.
    Link(std::net::TcpStream),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Accepted(stream) => stream.as_fd(),
            Socket::Link(stream) => stream.as_fd(),
        }
    }
}

/// One connection as others see it.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) addr: Address,
    pub(crate) laddr: Address,
    pub(crate) fd: i32,
    pub(crate) created: Instant,
    socket: Socket,
    pub(crate) name: Mutex<String>,
    /// Milliseconds after `created` of the last command.
    pub(crate) last_seen: AtomicU64,
    pub(crate) kind: AtomicU32,
    pub(crate) db: AtomicU32,
    /// Queued commands, -1 outside of MULTI.
    pub(crate) multi: AtomicI32,
    pub(crate) watching: AtomicU32,
    pub(crate) resp: AtomicU32,
    /// Index of the last command in the engine's table, `usize::MAX` for none.
    pub(crate) last_command: AtomicUsize,
    /// Bytes that were read and not run yet, and the room behind them.
    pub(crate) input_bytes: AtomicUsize,
    pub(crate) input_room: AtomicUsize,
    /// Bytes that wait for the socket, and the frames they are in; of a replica, how far it lags.
    pub(crate) output_bytes: AtomicUsize,
    pub(crate) output_frames: AtomicUsize,
    /// Room of the buffer that replies are written to.
    pub(crate) reply_room: AtomicUsize,
    pub(crate) authenticated: AtomicBool,
    /// Where others put what they have for the client.
    pub(crate) inlet: Inlet,
    /// Ends its wait, while it has one.
    pub(crate) waits: Mutex<Option<crate::client::waiting::Reach>>,
}

impl Client {
    /// Ends the connection.
    pub(crate) fn kill(&self) {
        self.set_kind(kind::CLOSING, true);
        let _ = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
        self.inlet.wake();
    }

    /// Whose commands the slow log notes.
    pub(crate) fn who(&self) -> Who {
        Who { addr: self.addr.to_string(), name: self.name.lock().clone() }
    }

    /// Something was heard of it just now.
    pub(crate) fn seen(&self) {
        self.last_seen.store(self.created.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Sets or clears a flag.
    pub(crate) fn set_kind(&self, bit: u32, on: bool) {
        if on {
            self.kind.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.kind.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Has a flag.
    pub(crate) fn is(&self, bit: u32) -> bool {
        self.kind.load(Ordering::Relaxed) & bit != 0
    }

    /// Seconds connected.
    pub(crate) fn age(&self) -> u64 {
        self.created.elapsed().as_secs()
    }

    /// Seconds since the last command.
    pub(crate) fn idle(&self) -> u64 {
        (self.created.elapsed().as_millis() as u64).saturating_sub(self.last_seen.load(Ordering::Relaxed))
            / 1000
    }
}

/// All connections by id.
#[derive(Default)]
pub(crate) struct Clients {
    map: Mutex<BTreeMap<u64, Arc<Client>>>,
    next: AtomicU64,
    count: AtomicUsize,
}

impl Clients {
    /// Registers a connection.
    pub(crate) fn register(&self, socket: Socket, addr: Address, laddr: Address) -> Arc<Client> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            addr,
            laddr,
            fd: socket.as_fd().as_raw_fd(),
            created: Instant::now(),
            socket,
            name: Mutex::new(String::new()),
            last_seen: AtomicU64::new(0),
            kind: AtomicU32::new(0),
            db: AtomicU32::new(0),
            multi: AtomicI32::new(-1),
            watching: AtomicU32::new(0),
            resp: AtomicU32::new(2),
            last_command: AtomicUsize::new(usize::MAX),
            input_bytes: AtomicUsize::new(0),
            input_room: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            output_frames: AtomicUsize::new(0),
            reply_room: AtomicUsize::new(0),
            authenticated: AtomicBool::new(false),
            inlet: Inlet::default(),
            waits: Mutex::new(None),
        });
        self.map.lock().insert(id, client.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        client
    }

    /// Forgets a connection.
    pub(crate) fn remove(&self, id: u64) {
        if self.map.lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Number of connections, replicas included.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// All connections, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.map.lock().values().cloned().collect()
    }
}
