//! The disk-staged sender: a complete file, to several sockets, by `sendfile(2)`.
//!
//! The bytes go from the page cache to the sockets without passing through this process. The replicas do not depend on one another:
//! each has its own place in the file.

use super::diskless::is_busy;
use super::{
    CHECK_PERIOD_MS, DropReason, Stopwatch, SyncControl, SyncEvent, SyncPeer, SyncReport, drop_peer,
};
use crate::primary::schedule::Transport;
use crate::sys::{self, PollFd};
use sluice_persistence::storage::FileReader;
use std::io;
use std::sync::atomic::Ordering;

/// Bytes offered to a socket per call, so that replicas take turns.
const SLICE_BYTES: usize = 1 << 20;

/// A complete RDB file.
pub struct StagedFile {
    /// Opened through the storage it was staged by. Without a descriptor (in memory) its bytes are sent as they lie there.
    pub file: Box<dyn FileReader>,
    /// How long it took to write, in milliseconds.
    pub staged_ms: u64,
}

struct Place {
    peer: SyncPeer,
    header_sent: usize,
    offset: u64,
    last_progress: u64,
}

/// Sends `$<length>\r\n` and the file to all `peers`; returns when each has got everything or was dropped.
/// A replica that takes nothing for `timeout_ms` is dropped. Blocks the calling thread.
pub fn send(
    staged: &StagedFile,
    peers: Vec<SyncPeer>,
    timeout_ms: u64,
    control: &SyncControl,
    events: &mut dyn FnMut(SyncEvent),
) -> SyncReport {
    let mut clock = Stopwatch::start();
    let replicas = peers.len();
    let len = staged.file.len();
    let header = format!("${len}\r\n").into_bytes();
    let (mut sent_bytes, mut completed) = (0, 0);
    let mut places = Vec::with_capacity(replicas);
    for peer in peers {
        match sys::set_nonblocking(peer.fd()) {
            Ok(()) => places.push(Place { peer, header_sent: 0, offset: 0, last_progress: 0 }),
            Err(e) => drop_peer(peer, DropReason::Disconnected(e.to_string()), events),
        }
    }
    while !places.is_empty() {
        if let Some(wait) = control.budget_wait()
            && !control.stopped()
        {
            std::thread::sleep(wait);
            control.count_wait(wait);
            // It was not they who took nothing.
            places.iter_mut().for_each(|place| place.last_progress = clock.now());
            continue;
        }
        let mut moved = false;
        let mut i = 0;
        while i < places.len() {
            let place = &mut places[i];
            let verdict = match send_some(place, &header, staged) {
                Ok(n) => {
                    moved = true;
                    sent_bytes += n;
                    control.sent.fetch_add(n, Ordering::Relaxed);
                    control.spend(n);
                    clock.sent_something();
                    place.last_progress = clock.now();
                    None
                }
                Err(e) if is_busy(&e) => {
                    let idle = clock.now().saturating_sub(place.last_progress);
                    (idle > control.timeout_ms(timeout_ms)).then_some(DropReason::NoProgress { ms: idle })
                }
                Err(e) => Some(DropReason::Disconnected(e.to_string())),
            };
            let verdict = if control.stopped() { Some(DropReason::Stopped) } else { verdict };
            if let Some(reason) = verdict {
                drop_peer(places.swap_remove(i).peer, reason, events);
            } else if place.offset == len && place.header_sent == header.len() {
                completed += 1;
                events(SyncEvent::Sent { peer: places.swap_remove(i).peer, bytes: len });
            } else {
                i += 1;
            }
        }
        if !moved {
            wait(&mut places, events);
        }
    }
    let mut report = clock.report(Transport::Disk, replicas);
    report.completed = completed;
    report.payload_bytes = len;
    report.sent_bytes = sent_bytes;
    report.disk_bytes = len;
    report.disk_ms = staged.staged_ms;
    report.first_byte_ms += staged.staged_ms;
    report.duration_ms += staged.staged_ms;
    report
}

fn send_some(place: &mut Place, header: &[u8], staged: &StagedFile) -> io::Result<u64> {
    if place.header_sent < header.len() {
        let n = sys::send_slices(place.peer.fd(), [&header[place.header_sent..]].into_iter())?;
        place.header_sent += n;
        return Ok(n as u64);
    }
    let left = staged.file.len() - place.offset;
    if left == 0 {
        return Ok(0);
    }
    let count = usize::try_from(left).unwrap_or(SLICE_BYTES).min(SLICE_BYTES);
    let fd = place.peer.fd();
    let sent = match staged.file.raw_fd() {
        Some(file) => sys::send_file(fd, file, &mut place.offset, count)?,
        None => {
            let from = place.offset as usize;
            let n = sys::send_slices(fd, [&staged.file.bytes()[from..from + count]].into_iter())?;
            place.offset += n as u64;
            n
        }
    };
    match sent {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the staged file became shorter")),
        n => Ok(n as u64),
    }
}

fn wait(places: &mut Vec<Place>, events: &mut dyn FnMut(SyncEvent)) {
    let mut entries: Vec<PollFd> = places.iter().map(|p| sys::poll_entry(p.peer.fd(), true)).collect();
    if sys::poll(&mut entries, CHECK_PERIOD_MS).is_err() {
        return;
    }
    for i in (0..places.len()).rev() {
        if sys::peer_gone(&entries[i]) {
            let reason = DropReason::Disconnected("closed by the replica".into());
            drop_peer(places.swap_remove(i).peer, reason, events);
        }
    }
}
