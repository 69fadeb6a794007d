//! The bounded window between one producer and several replicas, shared by both diskless transports.
//!
//! ```text
//!   source --> [ chunk | chunk | chunk | chunk ] <-- at most `window_bytes`
//!                 ^ slow replica's cursor   ^ fast replica's cursor
//! ```
//!
//! A chunk is kept while any cursor has not passed it. When the window is full the source is not pulled: the
//! cut waits, nothing queues. So one replica could hold all the others, and two limits say for how long:
//!
//! - a replica that takes nothing for `timeout_ms` (`repl-timeout`) is dropped;
//! - a replica that holds a full window while another has nothing left to read is charged for that time, and credited
//!   for time without; at `stall_limit_ms` of debt it is dropped. In effect: one that makes the others wait more than half the time.
//!
//! No sockets here: senders report progress and are told whom to drop.

use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;

/// Chunks held at most, whatever their size.
pub(crate) const MAX_CHUNKS: usize = 1024;

/// The limits of a window.
#[derive(Clone, Copy, Debug)]
pub struct WindowLimits {
    /// Bytes held at most (one chunk may exceed it).
    pub window_bytes: usize,
    /// See the module's page.
    pub timeout_ms: u64,
    /// See the module's page.
    pub stall_limit_ms: u64,
}

/// Bytes in the window by default.
pub const DEFAULT_WINDOW_BYTES: usize = 2 << 20;
/// How long one replica may hold the others, by default.
pub const DEFAULT_STALL_LIMIT_MS: u64 = 5000;

impl Default for WindowLimits {
    fn default() -> Self {
        Self {
            window_bytes: DEFAULT_WINDOW_BYTES,
            timeout_ms: 60_000,
            stall_limit_ms: DEFAULT_STALL_LIMIT_MS,
        }
    }
}

/// Why a replica was dropped from a full sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It closed the connection, or the connection broke.
    Disconnected(String),
    /// It took nothing for `repl-timeout`.
    NoProgress {
        /// Milliseconds without progress.
        ms: u64,
    },
    /// It held the full window while others waited.
    HeldOthers {
        /// The limit it exceeded.
        limit_ms: u64,
    },
    /// The cut failed; whoever did not have all of it is told by being disconnected.
    CutFailed(String),
    /// The sync was stopped (shutdown, role change).
    Stopped,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(why) => write!(f, "connection lost during the full sync: {why}"),
            Self::NoProgress { ms } => write!(f, "no progress for {ms} ms (repl-timeout)"),
            Self::HeldOthers { limit_ms } => {
                write!(f, "held the other replicas of the same full sync for more than {limit_ms} ms")
            }
            Self::CutFailed(why) => write!(f, "the snapshot failed: {why}"),
            Self::Stopped => write!(f, "the full sync was stopped"),
        }
    }
}

#[derive(Debug)]
struct Cursor {
    /// Bytes sent whose memory is free again.
    position: u64,
    /// Bytes after those that are with the kernel (only io_uring leaves any there).
    in_flight: u64,
    last_progress: u64,
    debt_ms: u64,
}

/// The window and its cursors. A cursor's number is its index at creation and stays valid.
#[derive(Debug)]
pub(crate) struct Window {
    chunks: VecDeque<(u64, Bytes)>,
    end: u64,
    ended: bool,
    /// May change under way.
    pub(crate) limits: WindowLimits,
    cursors: Vec<Option<Cursor>>,
    peak: usize,
    last_check: u64,
}

impl Window {
    pub(crate) fn new(replicas: usize, limits: WindowLimits, now: u64) -> Self {
        let cursor = || Some(Cursor { position: 0, in_flight: 0, last_progress: now, debt_ms: 0 });
        Self {
            chunks: VecDeque::new(),
            end: 0,
            ended: false,
            limits,
            cursors: (0..replicas).map(|_| cursor()).collect(),
            peak: 0,
            last_check: now,
        }
    }

    fn start(&self) -> u64 {
        self.chunks.front().map_or(self.end, |(at, _)| *at)
    }

    /// Bytes held.
    pub(crate) fn held(&self) -> usize {
        (self.end - self.start()) as usize
    }

    /// The most bytes ever held.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// All bytes that went in.
    pub(crate) fn total(&self) -> u64 {
        self.end
    }

    /// Whether the source should be pulled.
    pub(crate) fn has_room(&self) -> bool {
        !self.ended && self.held() < self.limits.window_bytes && self.chunks.len() < MAX_CHUNKS
    }

    /// Whether the source has ended.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Adds a chunk. Empty ones are ignored.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(!self.ended, "nothing follows the end");
        if chunk.is_empty() {
            return;
        }
        let at = self.end;
        self.end += chunk.len() as u64;
        self.chunks.push_back((at, chunk));
        self.peak = self.peak.max(self.held());
    }

    /// The source has nothing more.
    pub(crate) fn finish(&mut self) {
        self.ended = true;
    }

    /// Cursors still reading.
    pub(crate) fn active(&self) -> impl Iterator<Item = usize> + '_ {
        self.cursors.iter().enumerate().filter_map(|(i, c)| c.as_ref().map(|_| i))
    }

    /// Whether any cursor is left.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.cursors.iter().all(Option::is_none)
    }

    /// What cursor `i` has to read next: the rest of its chunk, then whole chunks.
    pub(crate) fn unread(&self, i: usize) -> impl Iterator<Item = Bytes> + '_ {
        let from = self.cursors[i].as_ref().map_or(self.end, |c| c.position + c.in_flight);
        let first = self.chunks.partition_point(|(at, chunk)| at + chunk.len() as u64 <= from);
        self.chunks.range(first..).map(move |(at, chunk)| chunk.slice(from.saturating_sub(*at) as usize..))
    }

    /// As [`Window::unread`], without touching reference counts.
    pub(crate) fn unread_slices(&self, i: usize) -> impl Iterator<Item = &[u8]> + '_ {
        let from = self.cursors[i].as_ref().map_or(self.end, |c| c.position + c.in_flight);
        let first = self.chunks.partition_point(|(at, chunk)| at + chunk.len() as u64 <= from);
        self.chunks.range(first..).map(move |(at, chunk)| &chunk[from.saturating_sub(*at) as usize..])
    }

    /// Whether cursor `i` has something to read.
    pub(crate) fn has_unread(&self, i: usize) -> bool {
        self.cursors[i].as_ref().is_some_and(|c| c.position + c.in_flight < self.end)
    }

    /// The next `n` unread bytes of cursor `i` are with the kernel: read, but their memory is not free.
    pub(crate) fn lend(&mut self, i: usize, n: usize) {
        if let Some(c) = &mut self.cursors[i] {
            c.in_flight += n as u64;
            debug_assert!(c.position + c.in_flight <= self.end);
        }
    }

    /// The kernel did not take the last `n` bytes lent by cursor `i`: they are unread again.
    pub(crate) fn take_back(&mut self, i: usize, n: usize) {
        if let Some(c) = &mut self.cursors[i] {
            debug_assert!(c.in_flight >= n as u64);
            c.in_flight -= n as u64;
        }
    }

    /// Cursor `i` is done with the next `n` bytes. Returns whether it has now sent everything there will ever be.
    pub(crate) fn advance(&mut self, i: usize, n: usize, now: u64) -> bool {
        let (end, ended) = (self.end, self.ended);
        let Some(c) = &mut self.cursors[i] else { return false };
        c.position += n as u64;
        c.in_flight = c.in_flight.saturating_sub(n as u64);
        debug_assert!(c.position <= end);
        if n > 0 {
            c.last_progress = now;
        }
        let done = ended && c.position == end;
        if n > 0 {
            self.release();
        }
        done
    }

    /// Whether cursor `i` has sent everything there will ever be.
    pub(crate) fn is_done(&self, i: usize) -> bool {
        self.ended && self.cursors[i].as_ref().is_some_and(|c| c.position == self.end)
    }

    /// Bytes cursor `i` has sent.
    pub(crate) fn position(&self, i: usize) -> u64 {
        self.cursors[i].as_ref().map_or(0, |c| c.position)
    }

    /// Cursor `i` is finished or dropped and holds nothing any more.
    pub(crate) fn remove(&mut self, i: usize) {
        self.cursors[i] = None;
        self.release();
    }

    fn release(&mut self) {
        let low = self.cursors.iter().flatten().map(|c| c.position).min().unwrap_or(self.end);
        while self.chunks.front().is_some_and(|(at, chunk)| at + chunk.len() as u64 <= low) {
            self.chunks.pop_front();
        }
    }

    /// Applies the two limits; call every few dozen milliseconds. Returns whom to drop. `starved_of_room`: the
    /// sender has no memory for another chunk, which counts as a full window.
    pub(crate) fn overdue(&mut self, now: u64, starved_of_room: bool) -> Vec<(usize, DropReason)> {
        let elapsed = now.saturating_sub(self.last_check).min(1000);
        self.last_check = now;
        let (limits, end) = (self.limits, self.end);
        let full = !self.ended && (starved_of_room || !self.has_room());
        let starving = self.cursors.iter().flatten().any(|c| c.position == end);
        let holds_until = self.chunks.front().map_or(0, |(at, chunk)| at + chunk.len() as u64);
        let mut overdue = Vec::new();
        for (i, slot) in self.cursors.iter_mut().enumerate() {
            let Some(c) = slot else { continue };
            if c.position == end {
                c.last_progress = now; // it waits for us, not we for it
            }
            let holds = full && starving && c.position < holds_until;
            c.debt_ms = if holds { c.debt_ms + elapsed } else { c.debt_ms.saturating_sub(elapsed) };
            let idle = now.saturating_sub(c.last_progress);
            if idle > limits.timeout_ms {
                overdue.push((i, DropReason::NoProgress { ms: idle }));
            } else if c.debt_ms > limits.stall_limit_ms {
                overdue.push((i, DropReason::HeldOthers { limit_ms: limits.stall_limit_ms }));
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> WindowLimits {
        WindowLimits { window_bytes: 10, timeout_ms: 1000, stall_limit_ms: 300 }
    }

    fn text(w: &Window, i: usize) -> String {
        w.unread_slices(i).map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn chunks_stay_until_the_slowest_has_passed_them() {
        let mut w = Window::new(2, limits(), 0);
        w.push(Bytes::from_static(b"abcd"));
        w.push(Bytes::from_static(b"efgh"));
        assert!(w.has_room());
        w.push(Bytes::from_static(b"ijkl"));
        assert!(!w.has_room());
        w.advance(0, 6, 1);
        assert_eq!((text(&w, 0), text(&w, 1)), ("gh|ijkl".into(), "abcd|efgh|ijkl".into()));
        assert_eq!(w.held(), 12);
        w.advance(1, 4, 2);
        assert_eq!(w.held(), 8);
        assert!(w.has_room());
        w.remove(1);
        assert_eq!((w.held(), text(&w, 0)), (8, "gh|ijkl".into()));
        w.finish();
        assert!(!w.has_room() && w.advance(0, 6, 3) && w.is_done(0));
        assert_eq!((w.held(), w.peak(), w.total()), (0, 12, 12));
    }

    #[test]
    fn who_takes_nothing_is_dropped_at_the_timeout() {
        let mut w = Window::new(1, limits(), 0);
        w.push(Bytes::from_static(b"abcd"));
        assert!(w.overdue(1000, false).is_empty());
        assert_eq!(w.overdue(1001, false), [(0, DropReason::NoProgress { ms: 1001 })]);
        // Waiting for the source is no stall.
        let mut w = Window::new(1, limits(), 0);
        assert!(w.overdue(5000, false).is_empty());
        w.push(Bytes::from_static(b"abcd"));
        assert!(w.overdue(5500, false).is_empty());
    }

    #[test]
    fn who_holds_the_others_is_dropped_at_the_stall_limit_and_alone_it_may_be_slow() {
        let mut w = Window::new(2, limits(), 0);
        w.push(Bytes::from_static(b"0123456789"));
        w.advance(0, 10, 0);
        for t in 1..=6 {
            assert!(w.overdue(t * 50, false).is_empty(), "{t}");
            w.advance(1, 1, t * 50); // crawling is not enough
        }
        assert_eq!(w.overdue(350, false), [(1, DropReason::HeldOthers { limit_ms: 300 })]);
        let mut w = Window::new(1, limits(), 0);
        w.push(Bytes::from_static(b"0123456789"));
        for t in 1..=9 {
            w.advance(0, 1, t * 500);
            assert!(w.overdue(t * 500, false).is_empty());
        }
    }

    #[test]
    fn debt_is_paid_back_by_keeping_up() {
        let mut w = Window::new(2, limits(), 0);
        let mut now = 0;
        for _ in 0..20 {
            w.push(Bytes::from_static(b"0123456789"));
            w.advance(0, 10, now);
            now += 200;
            assert!(w.overdue(now, false).is_empty());
            w.advance(1, 10, now);
            now += 250;
            assert!(w.overdue(now, false).is_empty());
        }
    }
}
