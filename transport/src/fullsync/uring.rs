#![allow(unsafe_code)]
//! The diskless sender over io_uring: the same window, but its chunks lie in memory the kernel has pinned, the
//! sends of all replicas go in by one system call, and the network card (where there is one) reads the chunks in place.
//!
//! - Chunks are copied once into the slots of a registered [`Slab`]; however many replicas there are, there is no further
//!   copy in user space, and with `SEND_ZC` none in the kernel on a real link.
//! - One send per replica is in flight (TCP needs the order), of up to a slot, with `MSG_WAITALL` so that the
//!   kernel itself waits for room.
//! - A zero-copy send is answered twice: when it is queued, and when its memory is free again.
//!   The slot is kept, and the replica's cursor with it, until the second: what a stalled replica leaves in the kernel
//!   counts as held by it. That answer also tells whether the kernel copied after all
//!   (`IORING_SEND_ZC_REPORT_USAGE`); on loopback it always does.
//! - Where `SEND_ZC` is refused (old kernels, Unix sockets) plain `IORING_OP_SEND` takes its place; where io_uring is missing,
//!   [`Uring::new`] says why and the caller uses [`super::diskless`].
//!
//! Why unsafe: the kernel reads memory and descriptors after the call that named them. Every operation in
//! flight therefore owns a reference to its bytes in [`Uring::flights`], released only by the kernel's last
//! answer; a socket is closed only after its connection was aborted, which ends its operation.

use super::group::Group;
use super::slab::{SLOT_BYTES, Slab, Slot};
use super::{
    CHECK_PERIOD_MS, ChunkSource, CutError, DropReason, SyncControl, SyncEvent, SyncPeer, SyncReport,
    WindowLimits,
};
use crate::primary::schedule::Transport;
use bytes::{Buf, Bytes};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Entries of the submission queue; more replicas than this take several submissions.
const QUEUE_ENTRIES: u32 = 128;
/// Slots registered: 4 MB pinned. The window uses at most all but two of them.
const SLOTS: u16 = 16;
/// At the end, how long to wait for the kernel's last answers before leaving it the memory.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// `IORING_SEND_ZC_REPORT_USAGE` (linux/io_uring.h): the second answer tells whether the data was copied.
const REPORT_USAGE: u16 = 8;
/// `IORING_NOTIF_USAGE_ZC_COPIED` (linux/io_uring.h), in the result of the second answer.
const USAGE_COPIED: u32 = 1 << 31;

/// Why io_uring cannot be used here; the words are for the log.
#[derive(Debug, Error)]
#[error("io_uring is not available: {0}")]
pub struct Unsupported(String);

/// A ring with registered buffers, ready to send.
pub struct Uring {
    ring: IoUring,
    slab: Arc<Slab>,
    zero_copy: bool,
    /// Operations the kernel has not answered for the last time, by their number.
    flights: Vec<Option<Flight>>,
    zero_copy_sends: u64,
    copied_sends: u64,
}

struct Flight {
    peer: usize,
    /// Kept alive for the kernel.
    bytes: Bytes,
    /// How much was sent, from the first answer.
    sent: Option<usize>,
}

impl Uring {
    /// Sets up a ring and pins its buffers.
    ///
    /// # Errors
    /// When the kernel has no io_uring, forbids it, lacks its send operation, or will not pin the memory.
    pub fn new() -> Result<Self, Unsupported> {
        let step = |what: &'static str| move |e: io::Error| Unsupported(format!("{what}: {e}"));
        let ring = IoUring::new(QUEUE_ENTRIES).map_err(step("setup"))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(step("probe"))?;
        if !probe.is_supported(opcode::Send::CODE) {
            return Err(Unsupported("the kernel has no IORING_OP_SEND".into()));
        }
        if !ring.params().is_feature_ext_arg() {
            return Err(Unsupported("the kernel cannot wait with a time limit (5.11 can)".into()));
        }
        let slab = Slab::new(SLOTS).map_err(step("buffers"))?;
        // SAFETY: the slots are a mapping that outlives the ring: the slab is dropped after it (field order), and even
        // unmapped its pages stay pinned by the registration until the ring is gone.
        unsafe { ring.submitter().register_buffers(&slab.iovecs()) }.map_err(step("registering buffers"))?;
        let zero_copy = probe.is_supported(opcode::SendZc::CODE);
        Ok(Self { ring, slab, zero_copy, flights: Vec::new(), zero_copy_sends: 0, copied_sends: 0 })
    }

    /// Sends `source` to all `peers`; returns when each has got everything or was dropped.
    ///
    /// Blocks the calling thread. Never fails as a whole: what went wrong is told per replica.
    pub fn send(
        mut self,
        source: &mut dyn ChunkSource,
        peers: Vec<SyncPeer>,
        mut limits: WindowLimits,
        control: &SyncControl,
        events: &mut dyn FnMut(SyncEvent),
    ) -> SyncReport {
        limits.window_bytes = limits.window_bytes.min(usize::from(SLOTS - 2) * SLOT_BYTES);
        let mut group = Group::new(peers, limits, control, events);
        let mut filler = Filler::default();
        if let Err(reason) = self.run(&mut group, &mut filler, source) {
            group.drop_all(reason);
        }
        self.drain(&mut group);
        let mut report = group.report(Transport::IoUring);
        report.zero_copy_sends = self.zero_copy_sends;
        report.copied_sends = self.copied_sends;
        report
    }

    fn run(
        &mut self,
        group: &mut Group<'_>,
        filler: &mut Filler,
        source: &mut dyn ChunkSource,
    ) -> Result<(), DropReason> {
        let mut busy = vec![false; group.len()];
        while !group.window.is_abandoned() {
            if group.stopped() {
                return Err(DropReason::Stopped);
            }
            let hold = source.hold_ms();
            let can_pull = hold == 0 && group.may_pull() && filler.can_take(&self.slab);
            if can_pull {
                // A half-filled slot is sent only when somebody has nothing to do.
                let idle = group.window.active().any(|i| !busy[i] && !group.window.has_unread(i));
                filler
                    .pull(group, source, &self.slab, idle)
                    .map_err(|e| DropReason::CutFailed(e.to_string()))?;
            }
            let mut queued = false;
            for (i, busy) in busy.iter_mut().enumerate() {
                if !*busy && group.window.has_unread(i) {
                    *busy = self.queue(group, i).map_err(ring_failed)?;
                    queued |= *busy;
                } else if !*busy {
                    group.finish_if_done(i);
                }
            }
            let in_flight = self.flights.iter().any(Option::is_some);
            if can_pull {
                if queued {
                    self.ring.submit().map_err(ring_failed)?;
                }
            } else if in_flight {
                self.wait().map_err(ring_failed)?;
            } else if hold > 0 {
                // What came before the pause goes out before it.
                filler.flush(group);
                group.wait(CHECK_PERIOD_MS.min(hold), false);
            } else if group.budget_wait().is_some() {
                group.wait_for_room();
            }
            self.reap(group, &mut busy);
            let waits = hold > 0 || group.budget_wait().is_some();
            let starved_of_room = !can_pull && !group.window.ended() && !waits;
            if group.check(starved_of_room) {
                group.wait(0, false);
            }
        }
        Ok(())
    }

    /// Queues a send of the next unread bytes of replica `i`.
    fn queue(&mut self, group: &mut Group<'_>, i: usize) -> io::Result<bool> {
        let (Some(fd), Some(bytes)) = (group.fd(i), group.window.unread(i).next()) else { return Ok(false) };
        let at = self.flights.iter().position(Option::is_none).unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        let slot = self.slab.slot_of(&bytes);
        let (fd, from, len) = (Fd(fd.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32);
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = if self.zero_copy {
            opcode::SendZc::new(fd, from, len).flags(flags).buf_index(slot).zc_flags(REPORT_USAGE).build()
        } else {
            opcode::Send::new(fd, from, len).flags(flags).build()
        };
        group.window.lend(i, bytes.len());
        self.flights[at] = Some(Flight { peer: i, bytes, sent: None });
        self.push(&entry.user_data(at as u64))?;
        Ok(true)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the bytes of the entry are owned by its flight until the last answer, and its socket is not closed before
            // its connection was aborted.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?; // the queue is full: hand it over and try again
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let limit = Timespec::from(Duration::from_millis(CHECK_PERIOD_MS));
        match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit)) {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => Err(e),
            _ => Ok(()),
        }
    }

    /// Takes the kernel's answers.
    fn reap(&mut self, group: &mut Group<'_>, busy: &mut [bool]) {
        loop {
            let Some(answer) = self.ring.completion().next() else { return };
            let at = answer.user_data() as usize;
            let Some(flight) = self.flights.get_mut(at).and_then(Option::as_mut) else { continue };
            if cqueue::notif(answer.flags()) {
                match answer.result() as u32 & USAGE_COPIED {
                    0 => self.zero_copy_sends += 1,
                    _ => self.copied_sends += 1,
                }
                if let Some(n) = flight.sent {
                    group.advance(flight.peer, n);
                    group.finish_if_done(flight.peer);
                    self.flights[at] = None;
                }
                continue;
            }
            let (peer, len, result) = (flight.peer, flight.bytes.len(), answer.result());
            let sent = usize::try_from(result).unwrap_or(0).min(len);
            flight.sent = Some(sent);
            busy[peer] = false;
            group.window.take_back(peer, len - sent);
            group.count_sent(sent);
            if !cqueue::more(answer.flags()) {
                // No second answer will come: the memory is free now.
                self.flights[at] = None;
                group.advance(peer, sent);
                group.finish_if_done(peer);
            }
            if group.fd(peer).is_none() {
                continue; // dropped meanwhile
            }
            match -result {
                n if n <= 0 => {}
                libc::EAGAIN | libc::EINTR => {}
                libc::EOPNOTSUPP | libc::EINVAL | libc::ENOMEM if self.zero_copy => self.zero_copy = false,
                e => group.drop(peer, DropReason::Disconnected(io::Error::from_raw_os_error(e).to_string())),
            }
        }
    }

    /// Every replica is finished or its connection aborted: waits for the kernel's last answers. What it still owes after the
    /// limit keeps its memory: slots belong to the slab, which is safe to leave (see there), anything else is leaked.
    fn drain(&mut self, group: &mut Group<'_>) {
        let mut busy = vec![false; group.len()];
        let until = Instant::now() + DRAIN_LIMIT;
        while self.flights.iter().any(Option::is_some) && Instant::now() < until {
            if self.wait().is_err() {
                break;
            }
            self.reap(group, &mut busy);
        }
        for flight in self.flights.drain(..).flatten() {
            std::mem::forget(flight.bytes);
        }
    }
}

fn ring_failed(e: io::Error) -> DropReason {
    DropReason::CutFailed(format!("io_uring: {e}"))
}

/// Copies chunks into slots.
#[derive(Default)]
struct Filler {
    slot: Option<Slot>,
    /// The part of a chunk that found no slot.
    rest: Bytes,
    source_ended: bool,
}

impl Filler {
    /// Whether pulling makes sense: there is memory to copy to, or only the end is left to be told.
    fn can_take(&self, slab: &Slab) -> bool {
        self.slot.is_some() || slab.has_free()
    }

    /// Pulls one chunk (or goes on with the last), fills slots, and pushes the full ones; a partly filled one
    /// too if `flush`.
    fn pull(
        &mut self,
        group: &mut Group<'_>,
        source: &mut dyn ChunkSource,
        slab: &Arc<Slab>,
        flush: bool,
    ) -> Result<(), CutError> {
        if self.rest.is_empty() && !self.source_ended {
            match group.pull(source)? {
                Some(chunk) => self.rest = chunk,
                None => self.source_ended = true,
            }
        }
        while !self.rest.is_empty() {
            let Some(mut slot) = self.slot.take().or_else(|| slab.take()) else { return Ok(()) };
            let n = slot.fill(&self.rest);
            self.rest.advance(n);
            if slot.len() == SLOT_BYTES {
                group.window.push(slot.freeze());
            } else {
                self.slot = Some(slot);
            }
        }
        self.rest = Bytes::new();
        if flush || self.source_ended {
            self.flush(group);
        }
        if self.source_ended {
            group.window.finish();
        }
        Ok(())
    }

    /// Pushes a partly filled slot.
    fn flush(&mut self, group: &mut Group<'_>) {
        if let Some(slot) = self.slot.take() {
            group.window.push(slot.freeze());
        }
    }
}
