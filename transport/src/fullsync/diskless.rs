//! The diskless sender over plain sockets: one window, gathering sends, `poll(2)`.
//!
//! Each round pulls at most one chunk and offers it to every socket while it is warm in the cache. Only when no
//! socket takes anything and the window is full (or the source has ended) does the thread sleep.

use super::group::Group;
use super::{
    CHECK_PERIOD_MS, ChunkSource, CutError, DropReason, SyncControl, SyncEvent, SyncPeer, SyncReport,
    WindowLimits,
};
use crate::primary::schedule::Transport;
use crate::sys;
use std::io::{Error, ErrorKind};

/// Sends `source` to all `peers`; returns when each has got everything or was dropped.
///
/// Blocks the calling thread. Never fails as a whole: what went wrong is told per replica.
pub fn send(
    source: &mut dyn ChunkSource,
    peers: Vec<SyncPeer>,
    limits: WindowLimits,
    control: &SyncControl,
    events: &mut dyn FnMut(SyncEvent),
) -> SyncReport {
    let mut group = Group::new(peers, limits, control, events);
    while !group.window.is_abandoned() {
        if group.stopped() {
            group.drop_all(DropReason::Stopped);
            break;
        }
        let hold = source.hold_ms();
        let pulled = hold == 0 && group.may_pull();
        if pulled && let Err(e) = pull(&mut group, source) {
            group.drop_all(DropReason::CutFailed(e.to_string()));
            break;
        }
        let moved = send_all(&mut group);
        group.check(false);
        if !pulled && !moved {
            if hold == 0 { group.wait_for_room() } else { group.wait(CHECK_PERIOD_MS.min(hold), true) }
        }
    }
    group.report(Transport::Socket)
}

fn pull(group: &mut Group<'_>, source: &mut dyn ChunkSource) -> Result<(), CutError> {
    match group.pull(source)? {
        Some(chunk) => group.window.push(chunk),
        None => group.window.finish(),
    }
    Ok(())
}

/// Offers every socket what it has not got. Returns whether any took something.
fn send_all(group: &mut Group<'_>) -> bool {
    let mut moved = false;
    for i in 0..group.len() {
        let Some(fd) = group.fd(i) else { continue };
        if group.window.has_unread(i) {
            match sys::send_slices(fd, group.window.unread_slices(i)) {
                Ok(n) => {
                    moved = true;
                    group.count_sent(n);
                    group.advance(i, n);
                }
                Err(e) if is_busy(&e) => {}
                Err(e) => group.drop(i, DropReason::Disconnected(e.to_string())),
            }
        }
        group.finish_if_done(i);
    }
    moved
}

/// The socket has no room now.
pub(super) fn is_busy(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
