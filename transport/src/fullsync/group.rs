//! The replicas of one diskless sync: their sockets beside the window, and what both senders do with them.

use super::window::Window;
use super::{
    CHECK_PERIOD_MS, ChunkSource, CutError, DropReason, Stopwatch, SyncControl, SyncEvent, SyncPeer,
    SyncReport, WindowLimits, drop_peer,
};
use crate::primary::schedule::Transport;
use crate::sys;
use bytes::Bytes;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(super) struct Group<'a> {
    peers: Vec<Option<SyncPeer>>,
    pub(super) window: Window,
    clock: Stopwatch,
    control: &'a SyncControl,
    events: &'a mut dyn FnMut(SyncEvent),
    source_done: bool,
    sent: u64,
    completed: usize,
    next_check: u64,
}

impl<'a> Group<'a> {
    /// Starts the clock and makes the sockets non-blocking.
    pub(super) fn new(
        peers: Vec<SyncPeer>,
        limits: WindowLimits,
        control: &'a SyncControl,
        events: &'a mut dyn FnMut(SyncEvent),
    ) -> Self {
        let clock = Stopwatch::start();
        let mut group = Self {
            window: Window::new(peers.len(), limits, clock.now()),
            peers: peers.into_iter().map(Some).collect(),
            clock,
            control,
            events,
            source_done: false,
            sent: 0,
            completed: 0,
            next_check: 0,
        };
        for i in 0..group.peers.len() {
            if let Some(Err(e)) = group.fd(i).map(sys::set_nonblocking) {
                group.drop(i, DropReason::Disconnected(e.to_string()));
            }
        }
        group
    }

    /// How many replicas it began with.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// The socket of replica `i`, while it is still with us.
    pub(super) fn fd(&self, i: usize) -> Option<BorrowedFd<'_>> {
        self.peers[i].as_ref().map(SyncPeer::fd)
    }

    /// Whether the source should be pulled: the window has room, and the budget allows it.
    pub(super) fn may_pull(&self) -> bool {
        self.window.has_room() && self.control.may_send()
    }

    /// Asks the source for a chunk. At its end, says so and returns `None`. The budget pays for every replica when the
    /// chunk is pulled: the sends follow from that.
    pub(super) fn pull(&mut self, source: &mut dyn ChunkSource) -> Result<Option<Bytes>, CutError> {
        let chunk = source.next_chunk()?;
        match &chunk {
            Some(bytes) => self.control.spend(bytes.len() as u64 * self.window.active().count() as u64),
            None => self.source_is_done(),
        }
        Ok(chunk)
    }

    /// Where it is the budget that holds the source back: for how long.
    pub(super) fn budget_wait(&self) -> Option<Duration> {
        self.window.has_room().then(|| self.control.budget_wait()).flatten()
    }

    /// A socket took `n` bytes.
    pub(super) fn count_sent(&mut self, n: usize) {
        self.sent += n as u64;
        self.control.sent.fetch_add(n as u64, Ordering::Relaxed);
        self.clock.sent_something();
    }

    /// Replica `i` no longer needs the next `n` bytes of its chunks.
    pub(super) fn advance(&mut self, i: usize, n: usize) {
        self.window.advance(i, n, self.clock.now());
    }

    /// Hands replica `i`'s socket back if it has everything.
    pub(super) fn finish_if_done(&mut self, i: usize) {
        if !self.window.is_done(i) {
            return;
        }
        let bytes = self.window.position(i);
        self.window.remove(i);
        if let Some(peer) = self.peers[i].take() {
            self.completed += 1;
            (self.events)(SyncEvent::Sent { peer, bytes });
        }
    }

    /// Applies the limits, if it is time. `starved_of_room` says that the sender could not take more although the window
    /// has room by its own count.
    pub(super) fn check(&mut self, starved_of_room: bool) -> bool {
        let now = self.clock.now();
        if now < self.next_check {
            return false;
        }
        self.next_check = now + CHECK_PERIOD_MS;
        self.control.queued.store(self.window.held() as u64, Ordering::Relaxed);
        self.window.limits.timeout_ms = self.control.timeout_ms(self.window.limits.timeout_ms);
        for (i, reason) in self.window.overdue(now, starved_of_room) {
            self.drop(i, reason);
        }
        true
    }

    /// Waits until a socket has room, the budget allows more or a replica goes away, but not for long.
    pub(super) fn wait_for_room(&mut self) {
        let Some(wait) = self.budget_wait() else { return self.wait(CHECK_PERIOD_MS, true) };
        let began = Instant::now();
        self.wait((wait.as_millis() as u64).max(1), true);
        self.control.count_wait(began.elapsed());
    }

    /// Waits up to `timeout_ms` until a socket has room or a replica goes away; the latter are dropped.
    pub(super) fn wait(&mut self, timeout_ms: u64, for_room: bool) {
        let active: Vec<usize> = self.window.active().collect();
        let entry = |i: &usize| Some(sys::poll_entry(self.fd(*i)?, for_room && self.window.has_unread(*i)));
        let mut entries: Vec<sys::PollFd> = active.iter().filter_map(entry).collect();
        if sys::poll(&mut entries, timeout_ms).is_err() {
            return; // a bad descriptor shows again as a failed send
        }
        for (i, entry) in active.iter().zip(&entries) {
            if sys::peer_gone(entry) {
                self.drop(*i, DropReason::Disconnected("closed by the replica".into()));
            }
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.control.stopped()
    }

    pub(super) fn drop(&mut self, i: usize, reason: DropReason) {
        self.window.remove(i);
        if let Some(peer) = self.peers[i].take() {
            drop_peer(peer, reason, self.events);
        }
    }

    pub(super) fn drop_all(&mut self, reason: DropReason) {
        for i in 0..self.peers.len() {
            self.drop(i, reason.clone());
        }
    }

    fn source_is_done(&mut self) {
        if !self.source_done {
            self.source_done = true;
            (self.events)(SyncEvent::SourceDone);
        }
    }

    /// The report at the end. The source is done with, also if nobody was left to pull it for.
    pub(super) fn report(&mut self, transport: Transport) -> SyncReport {
        self.source_is_done();
        let mut report = self.clock.report(transport, self.peers.len());
        report.completed = self.completed;
        report.payload_bytes = self.window.total();
        report.sent_bytes = self.sent;
        report.peak_queue_bytes = self.window.peak() as u64;
        report
    }
}
