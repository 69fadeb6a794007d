//! Sending a full sync: one cut, several replicas, three ways.
//!
//! A [`ChunkSource`] is the encoded cut, pulled: when nobody pulls, the cut waits and nothing piles up.
//! A sender runs on a thread of its own, moves the chunks to a set of sockets, and
//! tells what happened to each by [`SyncEvent`]s:
//!
//! | sender | source | moves bytes by |
//! |---|---|---|
//! | [`disk::send`] | a staged file | `sendfile(2)` |
//! | [`diskless::send`] | chunks | gathering `sendmsg(2)`, `poll(2)` |
//! | [`uring::Uring::send`] | chunks | io_uring: registered buffers, zero-copy sends, one submission for all sockets |
//!
//! The two diskless ones share the window of chunks and its limits ([`window`]). What the chunks contain they do not
//! know: [`EofPayload`] wraps an RDB stream for the Redis family, [`sluice::SluicePayload`] frames cut and log for our own.

pub mod cut;
pub mod disk;
pub mod diskless;
mod group;
pub mod pool;
mod slab;
pub mod sluice;
#[cfg(test)]
mod tests;
pub mod uring;
pub mod window;

use crate::primary::schedule::Transport;
use crate::replid::ReplId;
use bytes::Bytes;
use sluice_persistence::storage::Budget;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
pub use window::{DropReason, WindowLimits};

/// How often limits and the stop flag are looked at, in milliseconds.
pub(crate) const CHECK_PERIOD_MS: u64 = 20;

/// The cut could not be produced.
#[derive(Debug, Error)]
pub enum CutError {
    /// The cut was aborted (its limit was reached, or the server is going down).
    #[error("the cut was aborted: {0}")]
    Aborted(String),
    /// The log no longer holds what a framed stream needs.
    #[error("the log is gone from offset {0}")]
    LogGone(u64),
    /// Reading a staged file failed.
    #[error("reading the staged snapshot: {0}")]
    Io(#[from] std::io::Error),
}

/// The encoded cut, pulled chunk by chunk. A source with nothing to give yet blocks; it runs on the sender's thread.
pub trait ChunkSource: Send {
    /// The next chunk, about [`pool::CHUNK_BYTES`]; `None` at the end.
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError>;

    /// How long the source is to be left alone before it is pulled again, in milliseconds: what paces a sync says so
    /// here rather than sleep, so that the sender goes on watching its sockets.
    fn hold_ms(&mut self) -> u64 {
        0
    }
}

impl<T: ChunkSource + ?Sized> ChunkSource for Box<T> {
    fn hold_ms(&mut self) -> u64 {
        (**self).hold_ms()
    }

    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        (**self).next_chunk()
    }
}

/// A replica's socket while a full sync goes to it. May be a duplicate of the one a session reads from.
#[derive(Debug)]
pub struct SyncPeer {
    /// The caller's id.
    pub id: u64,
    /// Made non-blocking by the sender.
    pub socket: OwnedFd,
}

impl SyncPeer {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What happened during a full sync. Replicas finish one by one: a fast one need not wait for a slow one.
#[derive(Debug)]
pub enum SyncEvent {
    /// The source is used up: the next cut may begin (`Schedule::cut_taken`).
    SourceDone,
    /// This replica has been sent everything.
    Sent {
        /// Its socket back.
        peer: SyncPeer,
        /// Payload bytes.
        bytes: u64,
    },
    /// This replica is dropped: its connection is about to be closed, for all holders of the socket.
    Dropped {
        /// Its id.
        id: u64,
        /// Why.
        reason: DropReason,
    },
}

/// Shared between a running sync and whoever watches it.
#[derive(Debug, Default)]
pub struct SyncControl {
    stop: AtomicBool,
    /// Bytes sent to all replicas so far.
    sent: AtomicU64,
    /// Bytes in the window now.
    queued: AtomicU64,
    /// The time limit for a replica that takes nothing, where it changed since the beginning; 0 where not.
    timeout_ms: AtomicU64,
    /// Bytes a second all full syncs of this primary may send (`repl-sync-max-bandwidth`).
    budget: Option<Arc<Budget>>,
}

impl SyncControl {
    /// A new one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// One whose sends spend of a budget.
    pub fn within(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget: Some(budget), ..Self::default() })
    }

    /// Whether the budget allows more to be sent now.
    fn may_send(&self) -> bool {
        self.budget.as_ref().is_none_or(|b| b.wait_time().is_zero())
    }

    /// Spends of the budget.
    fn spend(&self, bytes: u64) {
        if let Some(budget) = &self.budget {
            budget.spend(bytes);
        }
    }

    /// How long to wait where nothing else is to be waited for: until the budget allows more, `CHECK_PERIOD_MS` at most.
    /// `None` where it is not the budget that holds things up.
    fn budget_wait(&self) -> Option<Duration> {
        let wait = self.budget.as_ref()?.wait_time();
        (!wait.is_zero()).then(|| wait.min(Duration::from_millis(CHECK_PERIOD_MS)))
    }

    /// Counts time that went by for want of budget.
    fn count_wait(&self, waited: Duration) {
        if let Some(budget) = &self.budget {
            budget.count_wait(waited);
        }
    }

    /// Changes the time limit for a replica that takes nothing (`repl-timeout`).
    pub fn set_timeout_ms(&self, ms: u64) {
        self.timeout_ms.store(ms, Ordering::Relaxed);
    }

    /// The time limit that holds now; it began with `first`.
    fn timeout_ms(&self, first: u64) -> u64 {
        match self.timeout_ms.load(Ordering::Relaxed) {
            0 => first,
            ms => ms,
        }
    }

    /// Makes the sync end soon; its replicas are dropped.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether [`SyncControl::stop`] was called.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Bytes sent to all replicas so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes waiting in the window.
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }
}

/// Everything INFO's `sync` section shows of a full sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReport {
    /// How it went.
    pub transport: Transport,
    /// Replicas it began with.
    pub replicas: usize,
    /// Replicas that got all of it.
    pub completed: usize,
    /// How long the delay window was open (filled in by the caller), in milliseconds.
    pub window_ms: u64,
    /// From the start of sending (disk: of staging) to the first byte accepted by a socket, in milliseconds.
    pub first_byte_ms: u64,
    /// From the start to the last byte, in milliseconds.
    pub duration_ms: u64,
    /// Size of the payload, in bytes.
    pub payload_bytes: u64,
    /// Bytes sent, over all replicas.
    pub sent_bytes: u64,
    /// Bytes staged on disk.
    pub disk_bytes: u64,
    /// Time it took to stage them, in milliseconds.
    pub disk_ms: u64,
    /// The most bytes the window held.
    pub peak_queue_bytes: u64,
    /// CPU time of the sending thread, which for the diskless transports includes encoding, in milliseconds.
    pub cpu_ms: u64,
    /// io_uring: sends the kernel really did without copying.
    pub zero_copy_sends: u64,
    /// io_uring: sends it copied after all, as on loopback.
    pub copied_sends: u64,
}

impl SyncReport {
    /// A sync that failed before anything was sent.
    pub fn failed(transport: Transport, replicas: usize, after: std::time::Duration) -> Self {
        let clock = Stopwatch::start();
        SyncReport { duration_ms: after.as_millis() as u64, ..clock.report(transport, replicas) }
    }
}

/// Measures one sync.
struct Stopwatch {
    start: Instant,
    cpu_start: u64,
    first_byte_ms: Option<u64>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { start: Instant::now(), cpu_start: crate::sys::thread_cpu_us(), first_byte_ms: None }
    }

    /// Milliseconds since the start: the sender's clock.
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn sent_something(&mut self) {
        if self.first_byte_ms.is_none() {
            self.first_byte_ms = Some(self.now());
        }
    }

    fn report(&self, transport: Transport, replicas: usize) -> SyncReport {
        SyncReport {
            transport,
            replicas,
            completed: 0,
            window_ms: 0,
            first_byte_ms: self.first_byte_ms.unwrap_or(0),
            duration_ms: self.now(),
            payload_bytes: 0,
            sent_bytes: 0,
            disk_bytes: 0,
            disk_ms: 0,
            peak_queue_bytes: 0,
            cpu_ms: (crate::sys::thread_cpu_us() - self.cpu_start).div_ceil(1000),
            zero_copy_sends: 0,
            copied_sends: 0,
        }
    }
}

/// Drops a replica: its connection ends for every holder of the socket.
fn drop_peer(peer: SyncPeer, reason: DropReason, events: &mut dyn FnMut(SyncEvent)) {
    // In this order: whoever reads from the connection forgets the replica when it ends, and its name with it.
    events(SyncEvent::Dropped { id: peer.id, reason });
    crate::sys::abort_connection(peer.fd());
}

/// An RDB stream for peers that offered `capa eof`: `$EOF:<mark>\r\n`, the stream, the mark.
pub struct EofPayload<S> {
    inner: S,
    mark: ReplId,
    state: EofState,
}

#[derive(Clone, Copy)]
enum EofState {
    Header,
    Body,
    Done,
}

impl<S: ChunkSource> EofPayload<S> {
    /// Wraps an RDB stream, with a random mark.
    pub fn new(inner: S) -> Self {
        Self { inner, mark: ReplId::random(), state: EofState::Header }
    }
}

impl<S: ChunkSource> ChunkSource for EofPayload<S> {
    fn hold_ms(&mut self) -> u64 {
        self.inner.hold_ms()
    }

    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        match self.state {
            EofState::Header => {
                self.state = EofState::Body;
                Ok(Some(Bytes::from(format!("$EOF:{}\r\n", self.mark))))
            }
            EofState::Body => {
                if let Some(chunk) = self.inner.next_chunk()? {
                    return Ok(Some(chunk));
                }
                self.state = EofState::Done;
                Ok(Some(Bytes::copy_from_slice(self.mark.as_bytes())))
            }
            EofState::Done => Ok(None),
        }
    }
}
