//! The log: one ordered stream of write effects, addressed by byte offset.
//!
//! The offset is the replication offset. Effects are appended by the thread that executed the command while it
//! still holds the shard locks, so the order of the log is an order in which the commands could have run one by one.
//! The bytes live in immutable, reference-counted chunks; replicas, the AOF and the backlog are cursors into them.
//!
//! Retention: the newest `backlog size` bytes, and for each open [`LogReader`] everything from its position on.
//! A reader's owner is expected to drop the reader when it lags beyond the owner's limit; that is the bound.
//! While nobody follows (no reader, no backlog), the log is inactive: appending costs one atomic load and the
//! offset stands still, as in Redis. A reader is always one of an active log: none is given while it is inactive, and it
//! cannot be made inactive while there is one.
//!
//! An offset alone does not say which bytes are meant: after a full sync a replica goes on from another offset of another
//! history, and what was written while the log was inactive is in none. So each stretch of log without a gap is an
//! [`Epoch`] of its own, and a reader ends with the epoch it was opened in.

use crate::resp::command::encode_command;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The highest offset a log can be made to begin at, by a file or a primary: there are as many behind it again, in the signed 64 bits
/// that others count in.
pub const MAX_OFFSET: u64 = 1 << 62;

/// Bytes allocated at a time for the tail of the log, at most.
pub(crate) const LOG_CHUNK: usize = 64 << 10;

/// The same where the backlog is small.
const LOG_CHUNK_LEAST: usize = 4 << 10;

/// Unread bytes of the tail that a reader copies; more become a chunk it shares.
const COPY_MOST: usize = 4 << 10;

/// Error: what is wanted is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogGone {
    /// It is not there any more, or not yet.
    #[error("offset {wanted} is outside of the log, which holds {start} to {end}")]
    Outside {
        /// The offset asked for.
        wanted: u64,
        /// First offset held.
        start: u64,
        /// One past the last offset held.
        end: u64,
    },
    /// The log is inactive.
    #[error("nothing is recorded in the log")]
    Inactive,
    /// It was of an epoch that is over: the log went on from elsewhere, or was inactive meanwhile.
    #[error("the stretch of log this was of has ended")]
    Ended,
}

/// A stretch of the log in which nothing is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

struct Chunk {
    start: u64,
    data: Bytes,
}

/// What a file says in place of a stretch of the log.
#[derive(Clone)]
struct StandIn {
    start: u64,
    end: u64,
    bytes: Bytes,
}

#[derive(Default)]
struct Inner {
    chunks: VecDeque<Chunk>,
    tail: BytesMut,
    tail_start: u64,
    /// In order; as long as the log is held that they are for.
    stand_ins: VecDeque<StandIn>,
    /// The database the stream has selected, `None` where the next effect must select one.
    db: Option<u32>,
    backlog: usize,
    readers: Vec<(u64, u64)>,
    next_reader: u64,
}

type Waker = Box<dyn Fn() + Send + Sync>;

/// The log: one ordered stream of what writes did, as commands in RESP, addressed by byte offset. Cheap to share.
///
/// It keeps the newest bytes, as many as [`Log::set_backlog_size`] says, and everything from the slowest [`LogReader`] on; whoever
/// lets a reader stand still pays with memory. Nothing is recorded, and the offset stands still, until somebody follows
/// or [`Log::activate`] is called.
///
/// ```
/// use sluice_engine::Engine;
///
/// let engine = Engine::default();
/// engine.log().activate();
/// engine.db(0).set("k", "v")?;
/// let mut reader = engine.log().reader(0)?;
/// assert_eq!(&reader.read(usize::MAX)?[23..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"); // behind SELECT 0
/// assert_eq!((reader.offset(), reader.lag()), (engine.log().end(), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Log {
    inner: Mutex<Inner>,
    end: AtomicU64,
    /// Changed under the lock, and only there.
    active: AtomicBool,
    /// Number of the present [`Epoch`]; as above.
    epoch: AtomicU64,
    /// There were stand-ins in this epoch.
    stood_in: AtomicBool,
    waiting: AtomicBool,
    waker: OnceLock<Waker>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("end", &self.end()).field("active", &self.is_active()).finish()
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            inner: Mutex::new(Inner { backlog: 1 << 20, ..Inner::default() }),
            end: AtomicU64::new(0),
            active: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            stood_in: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }
}

impl Inner {
    fn end(&self) -> u64 {
        self.tail_start + self.tail.len() as u64
    }

    fn start(&self) -> u64 {
        self.chunks.front().map_or(self.tail_start, |c| c.start)
    }

    /// Bytes allocated at a time: a small backlog is kept in small pieces, so that little more than it is kept.
    fn chunk(&self) -> usize {
        (self.backlog / 4).clamp(LOG_CHUNK_LEAST, LOG_CHUNK)
    }

    fn room(&mut self, n: usize) {
        if self.tail.capacity() - self.tail.len() < n {
            self.seal();
            self.tail = BytesMut::with_capacity(n.max(self.chunk()));
        }
    }

    /// Turns what the tail holds into a chunk that can be shared; the rest of its memory stays the tail.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let data = self.tail.split().freeze();
            let start = self.tail_start;
            self.tail_start += data.len() as u64;
            self.chunks.push_back(Chunk { start, data });
        }
    }

    /// The first offset that is to be kept.
    fn wanted(&self) -> u64 {
        let backlog = self.end().saturating_sub(self.backlog as u64);
        self.readers.iter().map(|(_, at)| *at).fold(backlog, u64::min)
    }

    /// Reader `id` is at `at` now.
    fn advance(&mut self, id: u64, at: u64) -> u64 {
        if let Some(r) = self.readers.iter_mut().find(|r| r.0 == id) {
            r.1 = at;
        }
        self.trim();
        at
    }

    fn trim(&mut self) {
        let keep = self.wanted();
        while let Some(c) = self.chunks.front() {
            if c.start + c.data.len() as u64 > keep {
                break;
            }
            self.chunks.pop_front();
        }
        let start = self.start();
        while self.stand_ins.front().is_some_and(|s| s.end <= start) {
            self.stand_ins.pop_front();
        }
    }
}

impl Log {
    /// One past the last byte: the replication offset.
    #[inline]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The first offset that can still be read.
    pub fn start(&self) -> u64 {
        self.inner.lock().start()
    }

    /// The first offset inside the configured backlog size, or the slowest reader's where that is further back: what
    /// is there for a partial sync (chunks may hold a little more).
    pub fn backlog_start(&self) -> u64 {
        let i = self.inner.lock();
        i.start().max(i.wanted())
    }

    /// Does anybody hold a cursor?
    pub fn followed(&self) -> bool {
        !self.inner.lock().readers.is_empty()
    }

    /// Are effects recorded?
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Starts recording, for the backlog: who follows does so with a reader. Call it where no command is between its
    /// effect and its append (before the engine is shared; see `Engine::begin_cut_with_log`).
    pub fn activate(&self) {
        let _inner = self.inner.lock();
        self.active.store(true, Ordering::Release);
    }

    /// Starts recording, and opens a cursor at the end. As for [`Log::activate`].
    pub fn follow(self: &Arc<Self>) -> LogReader {
        let mut i = self.inner.lock();
        self.active.store(true, Ordering::Release);
        let end = i.end();
        self.open(&mut i, end)
    }

    /// Stops recording and forgets the content, unless somebody follows: then false. The offset stays. Call it where no
    /// command is between its effect and its append.
    pub fn deactivate(&self) -> bool {
        let mut i = self.inner.lock();
        if !i.readers.is_empty() {
            return false;
        }
        self.active.store(false, Ordering::Release);
        let end = i.end();
        self.begin_at(&mut i, end);
        true
    }

    /// Forgets the content and continues at `offset`: a replica after a full sync. Readers find that what they followed
    /// has ended.
    pub fn reset(&self, offset: u64) {
        let mut i = self.inner.lock();
        self.begin_at(&mut i, offset);
        self.end.store(offset, Ordering::Release);
        drop(i);
        // Who waits for more learns that there is none.
        self.wake();
    }

    /// A new epoch.
    fn begin_at(&self, i: &mut Inner, offset: u64) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        i.readers.clear();
        i.chunks.clear();
        i.stand_ins.clear();
        self.stood_in.store(false, Ordering::Release);
        i.tail = BytesMut::new();
        i.tail_start = offset;
        i.db = None;
    }

    /// Moves every offset up by `by`: what was appended turns out to go on from there. Without readers only.
    pub fn rebase(&self, by: u64) {
        let mut i = self.inner.lock();
        debug_assert!(i.readers.is_empty(), "readers know the offsets as they were");
        self.epoch.fetch_add(1, Ordering::AcqRel);
        i.chunks.iter_mut().for_each(|c| c.start += by);
        i.tail_start += by;
        self.end.store(i.end(), Ordering::SeqCst);
    }

    /// The present epoch, where something is recorded.
    pub fn epoch(&self) -> Option<Epoch> {
        let _inner = self.inner.lock();
        self.is_active().then(|| Epoch(self.epoch.load(Ordering::Acquire)))
    }

    /// The present epoch, and what of it is there for a partial sync; `None` where nothing is recorded.
    pub fn held(&self) -> Option<(Epoch, std::ops::Range<u64>)> {
        let i = self.inner.lock();
        let epoch = Epoch(self.epoch.load(Ordering::Acquire));
        self.is_active().then(|| (epoch, i.start().max(i.wanted())..i.end()))
    }

    /// Makes the next effect select its database again: a new reader knows no selection.
    pub fn forget_selection(&self) {
        self.inner.lock().db = None;
    }

    /// The database the stream has selected at its end, where that is known.
    pub fn selected(&self) -> Option<u32> {
        self.inner.lock().db
    }

    /// Says which database the stream has selected at its end: on a replica, after [`Log::reset`].
    pub fn set_selected(&self, db: u32) {
        self.inner.lock().db = Some(db);
    }

    /// Bytes of history kept for partial syncs.
    pub fn set_backlog_size(&self, bytes: usize) {
        let mut i = self.inner.lock();
        i.backlog = bytes;
        i.trim();
    }

    /// Bytes of memory the held history takes (payload bytes).
    pub fn held_bytes(&self) -> usize {
        let i = self.inner.lock();
        (i.end() - i.start()) as usize
    }

    /// Bytes of memory the held history takes, room for what comes next included.
    pub fn memory(&self) -> usize {
        let i = self.inner.lock();
        (i.tail_start - i.start()) as usize + i.tail.capacity()
    }

    /// Sets the function called when something was appended while a reader waits. It must be quick: it runs with
    /// locks held.
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        let _ = self.waker.set(Box::new(waker));
    }

    /// Asks for one call of the waker at the next append. Check `end` after this and before sleeping.
    pub fn want_wake(&self) {
        self.waiting.store(true, Ordering::SeqCst);
    }

    #[inline]
    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst)
            && self.waiting.swap(false, Ordering::SeqCst)
            && let Some(w) = self.waker.get()
        {
            w();
        }
    }

    /// Appends encoded commands that apply to database `db`, selecting it first where needed.
    pub(crate) fn append(&self, db: u32, encoded: &[u8]) {
        let mut i = self.inner.lock();
        Self::select(&mut i, db);
        i.room(encoded.len());
        i.tail.extend_from_slice(encoded);
        self.finish(i);
    }

    /// Appends one transaction: effects of possibly several databases between MULTI and EXEC.
    pub(crate) fn append_transaction<'a>(&self, effects: impl Iterator<Item = (u32, &'a [u8])>) {
        let mut i = self.inner.lock();
        let mut open = false;
        for (db, encoded) in effects {
            Self::select(&mut i, db);
            if !open {
                open = true;
                i.room(15);
                i.tail.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
            }
            i.room(encoded.len());
            i.tail.extend_from_slice(encoded);
        }
        if open {
            i.room(14);
            i.tail.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
        }
        self.finish(i);
    }

    fn select(i: &mut Inner, db: u32) {
        if i.db == Some(db) {
            return;
        }
        i.db = Some(db);
        i.room(64);
        let mut n = itoa::Buffer::new();
        encode_command(&mut i.tail, &[b"SELECT", n.format(db).as_bytes()]);
    }

    fn finish(&self, mut i: parking_lot::MutexGuard<'_, Inner>) {
        if i.chunks
            .front()
            .is_some_and(|c| i.end().saturating_sub(c.start + c.data.len() as u64) > i.backlog as u64)
        {
            i.trim();
        }
        // Under the lock: of two appenders, the later one must not be overtaken by the earlier one's smaller end.
        self.end.store(i.end(), Ordering::SeqCst);
        drop(i);
        self.wake();
    }

    /// Appends bytes as they are, which must not select a database: a primary's PING. Nothing where nothing is recorded.
    pub fn append_raw(&self, raw: &[u8]) {
        let mut i = self.inner.lock();
        if !self.is_active() {
            return;
        }
        i.room(raw.len());
        i.tail.extend_from_slice(raw);
        self.finish(i);
    }

    /// Appends bytes of a primary's stream, after which that stream has `db` selected.
    pub(crate) fn append_stream(&self, raw: &[u8], db: u32) {
        let mut i = self.inner.lock();
        i.db = Some(db);
        i.room(raw.len());
        i.tail.extend_from_slice(raw);
        self.finish(i);
    }

    /// On a replica: the `len` bytes from offset `from` on, whole commands that are about to be appended, mean nothing to
    /// who loads commands from a file here. There `bytes` stand in for them, perhaps none; see [`LogReader::read_loadable`].
    pub fn stand_in(&self, from: u64, len: u64, bytes: Vec<u8>) {
        let mut i = self.inner.lock();
        i.stand_ins.push_back(StandIn { start: from, end: from + len, bytes: bytes.into() });
        self.stood_in.store(true, Ordering::Release);
    }

    /// The end, with the database selected there: a cut on a replica, whose stream it cannot make select again.
    pub(crate) fn position(&self) -> (u64, Option<u32>) {
        let i = self.inner.lock();
        (i.end(), i.db)
    }

    /// Opens a cursor at `from`.
    ///
    /// # Errors
    /// The log does not hold that offset, or records nothing.
    pub fn reader(self: &Arc<Self>, from: u64) -> Result<LogReader, LogGone> {
        self.reader_if(None, from)
    }

    /// Opens a cursor at `from`, an offset that was seen in `epoch`.
    ///
    /// # Errors
    /// As [`Log::reader`]; and that epoch is over, so that the offset means something else now.
    pub fn reader_in(self: &Arc<Self>, epoch: Epoch, from: u64) -> Result<LogReader, LogGone> {
        self.reader_if(Some(epoch), from)
    }

    fn reader_if(self: &Arc<Self>, epoch: Option<Epoch>, from: u64) -> Result<LogReader, LogGone> {
        let mut i = self.inner.lock();
        if epoch.is_some_and(|wanted| wanted.0 != self.epoch.load(Ordering::Acquire)) {
            return Err(LogGone::Ended);
        }
        if !self.is_active() {
            return Err(LogGone::Inactive);
        }
        let (start, end) = (i.start(), i.end());
        if from < start || from > end {
            return Err(LogGone::Outside { wanted: from, start, end });
        }
        Ok(self.open(&mut i, from))
    }

    fn open(self: &Arc<Self>, i: &mut Inner, at: u64) -> LogReader {
        let id = i.next_reader;
        i.next_reader += 1;
        i.readers.push((id, at));
        LogReader { log: self.clone(), id, at, epoch: self.epoch.load(Ordering::Acquire) }
    }
}

/// A cursor into the log. What lies behind it is retained until it has been read, or the reader is dropped.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<Log>,
    id: u64,
    at: u64,
    epoch: u64,
}

impl LogReader {
    /// The offset of the next byte to read.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Bytes not read yet.
    pub fn lag(&self) -> u64 {
        if self.is_over() { 0 } else { self.log.end().saturating_sub(self.at) }
    }

    /// What it follows.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// Has the epoch it follows ended?
    pub fn is_over(&self) -> bool {
        self.log.epoch.load(Ordering::Acquire) != self.epoch
    }

    /// Another cursor, at `from`.
    ///
    /// # Errors
    /// The log does not hold that offset, which it does from this cursor on; or the epoch is over.
    pub fn another(&self, from: u64) -> Result<LogReader, LogGone> {
        self.log.reader_in(self.epoch(), from)
    }

    /// The next bytes, at most `max`, without copying them; empty where there are none.
    ///
    /// # Errors
    /// [`LogGone::Ended`]: there will never be more. What the log holds now is not what this follows.
    pub fn read(&mut self, max: usize) -> Result<Bytes, LogGone> {
        if self.is_over() {
            return Err(LogGone::Ended);
        }
        if self.log.end() <= self.at {
            return Ok(Bytes::new());
        }
        let mut i = self.log.inner.lock();
        if self.is_over() {
            return Err(LogGone::Ended);
        }
        if self.at >= i.tail_start {
            let skip = (self.at - i.tail_start) as usize;
            let unread = &i.tail[skip.min(i.tail.len())..];
            // A little is copied: a reader that keeps up would otherwise leave a chunk for each of its reads.
            if unread.len() <= COPY_MOST {
                let data = Bytes::copy_from_slice(&unread[..unread.len().min(max)]);
                self.at = i.advance(self.id, self.at + data.len() as u64);
                return Ok(data);
            }
            i.seal();
        }
        let n = i.chunks.partition_point(|c| c.start <= self.at);
        let Some(c) = n.checked_sub(1).and_then(|n| i.chunks.get(n)) else { return Ok(Bytes::new()) };
        let skip = (self.at - c.start) as usize;
        if skip >= c.data.len() {
            return Ok(Bytes::new());
        }
        let data = c.data.slice(skip..c.data.len().min(skip.saturating_add(max)));
        self.at = i.advance(self.id, self.at + data.len() as u64);
        Ok(data)
    }
}

impl LogReader {
    /// As [`LogReader::read`], for a file to be loaded from here: with what stands in for commands we do not know
    /// ([`Log::stand_in`]). It may be empty although the cursor has moved.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn read_loadable(&mut self, max: usize) -> Result<Bytes, LogGone> {
        // What is there now, in whole commands: all that stands in for some of it was told before it was appended.
        let (from, end) = (self.at, self.log.end());
        let max = max.min(usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX));
        if !self.log.stood_in.load(Ordering::Acquire) {
            return self.read(max);
        }
        let stand_ins: Vec<StandIn> = {
            let i = self.log.inner.lock();
            let first = i.stand_ins.partition_point(|s| s.end <= from);
            i.stand_ins.range(first..).take_while(|s| s.start < from + max as u64).cloned().collect()
        };
        let data = self.read(max)?;
        let mut loadable = BytesMut::new();
        let (mut at, until) = (from, from + data.len() as u64);
        let within = |at: u64| (at.clamp(from, until) - from) as usize;
        for s in stand_ins.iter().filter(|s| s.start < until) {
            loadable.extend_from_slice(&data[within(at)..within(s.start)]);
            if s.start >= from {
                loadable.extend_from_slice(&s.bytes);
            }
            at = s.end;
        }
        if at == from {
            return Ok(data);
        }
        loadable.extend_from_slice(&data[within(at)..]);
        Ok(loadable.freeze())
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        let mut i = self.log.inner.lock();
        i.readers.retain(|r| r.0 != self.id);
        i.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active() -> Arc<Log> {
        let log = Arc::new(Log::default());
        log.activate();
        log
    }

    fn drain(r: &mut LogReader) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let b = r.read(7).unwrap();
            if b.is_empty() {
                return all;
            }
            all.extend_from_slice(&b);
        }
    }

    #[test]
    fn a_file_gets_what_stands_in_for_commands_and_nobody_else_does() {
        let log = Arc::new(Log::default());
        log.activate();
        let (mut replica, mut file) = (log.reader(0).unwrap(), log.reader(0).unwrap());
        let stream = |raw: &[u8], stand_in: Option<&[u8]>| {
            if let Some(bytes) = stand_in {
                log.stand_in(log.end(), raw.len() as u64, bytes.to_vec());
            }
            log.append_stream(raw, 0);
        };
        stream(b"<unknown>", Some(b""));
        assert_eq!(&file.read_loadable(usize::MAX).unwrap()[..], b"");
        assert_eq!(file.offset(), 9, "passed over");
        stream(b"<known>", None);
        stream(b"<newer>", Some(b"<older>"));
        stream(b"<newer>", Some(b"<a><b>"));
        stream(b"<known>", None);
        stream(b"<unknown>", Some(b""));
        assert_eq!(&file.read_loadable(usize::MAX).unwrap()[..], b"<known><older><a><b><known>");
        assert_eq!(file.offset(), log.end());
        let all = b"<unknown><known><newer><newer><known><unknown>";
        assert_eq!(&replica.read(usize::MAX).unwrap()[..], all);
        drop((file, replica));
        log.set_backlog_size(0);
        log.append_raw(&[b'x'; 2 * LOG_CHUNK]);
        log.append_raw(&[b'x'; 2 * LOG_CHUNK]);
        assert!(log.inner.lock().stand_ins.is_empty(), "they go with what they are for");
    }

    #[test]
    fn readers_see_every_byte_once_and_in_order() {
        let log = active();
        log.set_backlog_size(10);
        log.append_raw(b"before");
        let mut r = log.reader(6).unwrap();
        log.append(3, b"hello");
        log.append(3, b"world");
        assert_eq!(drain(&mut r), b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\nhelloworld");
        assert_eq!(r.offset(), log.end());
        assert_eq!(r.lag(), 0);
        assert_eq!(log.backlog_start(), log.end() - 10);
        assert!(log.reader(log.end() + 1).is_err());
    }

    #[test]
    fn an_open_reader_keeps_what_it_has_not_read() {
        let log = active();
        log.set_backlog_size(10);
        let mut r = log.reader(0).unwrap();
        let big = vec![b'x'; LOG_CHUNK * 3];
        log.append_raw(&big);
        log.append_raw(b"tail");
        assert_eq!(drain(&mut r).len(), big.len() + 4);
        assert!(log.held_bytes() <= LOG_CHUNK * 3 + 4);
    }

    #[test]
    fn a_transaction_is_one_block() {
        let log = active();
        let mut r = log.reader(0).unwrap();
        log.append_transaction([(0, b"A".as_slice()), (0, b"B".as_slice())].into_iter());
        let s = drain(&mut r);
        assert!(s.ends_with(b"*1\r\n$5\r\nMULTI\r\nAB*1\r\n$4\r\nEXEC\r\n"));
    }

    #[test]
    fn what_was_logged_can_turn_out_to_go_on_from_elsewhere() {
        let log = active();
        log.append(0, b"first");
        let len = log.end();
        log.rebase(1000);
        log.append(0, b"second");
        assert_eq!((log.backlog_start(), log.end()), (1000, 1000 + len + 6));
        assert!(drain(&mut log.reader(1000).unwrap()).ends_with(b"firstsecond"));
        assert!(!log.followed());
    }

    #[test]
    fn the_waker_is_called_once_per_wish() {
        use std::sync::atomic::AtomicU32;
        let log = active();
        let calls = Arc::new(AtomicU32::new(0));
        let c = calls.clone();
        log.set_waker(move || {
            c.fetch_add(1, Ordering::Relaxed);
        });
        log.append_raw(b"x");
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        log.want_wake();
        log.append_raw(b"x");
        log.append_raw(b"x");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn whoever_holds_a_reader_follows_an_active_log() {
        let log = Arc::new(Log::default());
        assert_eq!(log.reader(0).unwrap_err(), LogGone::Inactive);
        let mut r = log.follow();
        assert!(!log.deactivate(), "somebody follows");
        log.append(0, b"X");
        assert!(drain(&mut r).ends_with(b"X"));
        drop(r);
        assert!(log.deactivate());
        assert_eq!(log.reader(log.end()).unwrap_err(), LogGone::Inactive);
        log.append_raw(b"nobody hears it");
        assert_eq!(log.follow().offset(), log.end());
    }

    #[test]
    fn a_reader_ends_with_its_history_whether_the_next_one_is_ahead_or_behind() {
        for next in [0, 3, 1000] {
            let log = active();
            log.append_raw(b"old history");
            let mut r = log.reader(4).unwrap();
            let epoch = r.epoch();
            log.reset(next);
            log.append_raw(b"new history, and a good deal longer than the old one");
            assert_eq!(r.read(100), Err(LogGone::Ended), "{next}");
            assert_eq!(r.another(next).unwrap_err(), LogGone::Ended);
            assert_eq!(log.reader_in(epoch, log.end()).unwrap_err(), LogGone::Ended);
            assert_eq!(r.lag(), 0);
            assert!(!log.followed(), "what has ended keeps nothing");
            let mut new = log.reader(next).unwrap();
            drop(r);
            assert!(log.followed());
            assert!(drain(&mut new).starts_with(b"new history"));
        }
    }

    #[test]
    fn an_offset_from_before_a_pause_of_the_log_is_not_the_same_offset_after_it() {
        let log = active();
        let (epoch, held) = log.held().unwrap();
        assert!(log.deactivate());
        assert_eq!(log.held(), None);
        // Something is written, and not recorded.
        log.activate();
        assert_eq!(log.reader_in(epoch, held.end).unwrap_err(), LogGone::Ended);
    }
}
