//! The walker of a cut: it begins one, and delivers it in slices.

use super::capture::{Capture, CaptureTo, CutShared, HugeState, begin_huge, deliver_element};
use super::sink::{CutSink, Element, EntryMeta, HugeKind};
use crate::hash::hash;
use crate::keyspace::shard::Shard;
use crate::log::{Epoch, Log, LogReader};
use crate::shared::Shared;
use crate::table::Visit;
use crate::value::list::NodeCursor;
use crate::value::{Entry, EntryMut, EntryRef, List, Opaque, Payload, Table, Value, ValueView};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Bytes that may be delivered under one hold of a shard lock.
const SLICE_BYTES: usize = 64 << 10;
/// Segments visited under one hold of a shard lock.
const SLICE_SEGMENTS: usize = 4;
/// A list with more nodes than this is delivered node by node, outside of the shard lock; so is an opaque value of more
/// than `SLICE_BYTES`, in pieces of that size.
const BIG_LIST_NODES: usize = 4;

/// Error: a cut is already in progress; there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cut is already in progress")]
pub struct CutBusy;

impl From<CutBusy> for crate::error::Error {
    fn from(_: CutBusy) -> crate::error::Error {
        crate::error::Error::CutBusy
    }
}

/// Whether a cut has more to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Call `step` again.
    More,
    /// Everything was delivered.
    Done,
}

/// A cut in progress: every key as it stood at [`Cut::offset`] of the log. Whoever calls [`Cut::step`] is given them, in
/// slices; what others overwrite meanwhile is kept for it, within [`Engine::set_preimage_limit`](crate::Engine::set_preimage_limit). Dropping
/// it before its end gives it up, and costs nobody anything. See [`CutSink`] for an example.
pub struct Cut {
    inner: Arc<Shared>,
    pub(super) shared: Arc<CutShared>,
    offset: u64,
    epoch: Option<Epoch>,
    stream_db: Option<u32>,
    sizes: Vec<(u32, u64, u64)>,
    shard: usize,
    huge: Option<HugeWalk>,
    shared_value: Option<SharedWalk>,
    detached: Vec<Table>,
    finished: bool,
}

struct HugeWalk {
    state: Arc<HugeState>,
    /// The value, where the walker owns it: it left the keyspace.
    owned: Option<Entry>,
}

impl HugeWalk {
    fn begin(state: Arc<HugeState>, owned: Option<Entry>, sink: &mut dyn CutSink) -> HugeWalk {
        sink.begin_huge(&state.meta(), state.kind, state.count);
        state.begun.store(true, Ordering::Relaxed);
        HugeWalk { state, owned }
    }
}

/// A value the walker shares with the keyspace, which changes it by copying: delivered without a lock.
enum SharedWalk {
    List { list: List, next: Option<NodeCursor> },
    Opaque { value: Opaque, at: usize },
}

/// Whether a value is delivered by a [`SharedWalk`].
fn shares(payload: Payload<'_>) -> bool {
    match payload {
        Payload::Value(Value::List(list)) => list.node_count() > BIG_LIST_NODES,
        Payload::Value(Value::Opaque(value)) => value.as_bytes().len() > SLICE_BYTES,
        _ => false,
    }
}

impl SharedWalk {
    /// Begins to deliver a value; `None` where it is not to be shared.
    fn begin(db: u32, e: EntryRef<'_>, sink: &mut dyn CutSink) -> Option<SharedWalk> {
        if !shares(e.payload()) {
            return None;
        }
        let meta = EntryMeta { db, key: e.key(), expire_at_ms: e.expire(), lru: e.lru() };
        match e.payload() {
            Payload::Value(Value::List(list)) => {
                sink.begin_huge(&meta, HugeKind::List, list.node_count() as u64);
                Some(SharedWalk::List { list: list.clone(), next: list.first_node() })
            }
            Payload::Value(Value::Opaque(value)) => {
                let (first, others) = value.split();
                sink.begin_huge(&meta, HugeKind::Opaque(value.type_name(), first), others.len() as u64);
                Some(SharedWalk::Opaque { value: value.clone(), at: 0 })
            }
            _ => None,
        }
    }

    /// Delivers the next part; false where there is none.
    fn part(&mut self, sink: &mut dyn CutSink) -> bool {
        match self {
            SharedWalk::List { list, next } => {
                let Some(at) = *next else { return false };
                let (node, behind) = list.node_at(at);
                sink.element(Element::Node(node));
                *next = behind;
            }
            SharedWalk::Opaque { value, at } => {
                let others = &value.split().1[*at..];
                if others.is_empty() {
                    return false;
                }
                let part = &others[..others.len().min(SLICE_BYTES)];
                sink.element(Element::Bytes(part));
                *at += part.len();
            }
        }
        true
    }
}

impl std::fmt::Debug for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cut").field("offset", &self.offset).field("shard", &self.shard).finish()
    }
}

impl Cut {
    pub(crate) fn begin(inner: &Arc<Shared>) -> Result<Cut, CutBusy> {
        Cut::begin_then(inner, |_| ()).map(|(cut, ())| cut)
    }

    /// The same with a reader of the log from its offset on. Since no command is under way at that moment, the log may
    /// begin with it.
    pub(crate) fn begin_with_log(inner: &Arc<Shared>) -> Result<(Cut, LogReader), CutBusy> {
        Cut::begin_then(inner, Log::follow)
    }

    /// Begins a cut; `then` sees the log while every shard is locked.
    fn begin_then<T>(inner: &Arc<Shared>, then: impl FnOnce(&Arc<Log>) -> T) -> Result<(Cut, T), CutBusy> {
        if inner.cut.lock().is_some() {
            return Err(CutBusy);
        }
        // Shards before the slot, as everywhere: commands look at the slot with shards locked.
        let mut shards = inner.shards.lock_all();
        let mut slot = inner.cut.lock();
        if slot.is_some() {
            return Err(CutBusy);
        }
        let shared = Arc::new(CutShared {
            queue: Mutex::new(VecDeque::new()),
            level: inner.queue_level.clone(),
            queued_total: AtomicU64::new(0),
            queued_peak: AtomicUsize::new(0),
            barrier: AtomicU64::new(u64::MAX),
            over: AtomicBool::new(false),
            detached: Mutex::new(Vec::new()),
            moved: Mutex::default(),
            huge: Mutex::default(),
            log: inner.log.clone(),
        });
        debug_assert_eq!(
            inner.queue_level.bytes.load(Ordering::Relaxed),
            0,
            "the cut before left nothing behind"
        );
        inner.queue_level.limit.store(inner.preimage_limit.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut sizes = vec![(0u64, 0u64); inner.databases as usize];
        for shard in &mut shards {
            for (db, table) in shard.dbs.iter_mut().enumerate() {
                if !table.is_empty() {
                    sizes[db].0 += table.len() as u64;
                    sizes[db].1 += table.with_ttl() as u64;
                    table.attach(Capture {
                        to: CaptureTo::Db { cut: shared.clone(), db: db as u32 },
                        cursor: 0,
                    });
                }
            }
        }
        // A primary's log selects its database anew after every cut; a replica's is its primary's.
        let replica = inner.role.get().is_replica();
        if !replica {
            inner.log.forget_selection();
        }
        let with = then(&inner.log);
        let (offset, stream_db) = inner.log.position();
        let epoch = inner.log.epoch();
        *slot = Some(shared.clone());
        inner.cut_active.store(true, Ordering::Release);
        drop(slot);
        drop(shards);
        let cut = Cut {
            inner: inner.clone(),
            shared,
            offset,
            epoch,
            stream_db,
            sizes: sizes
                .iter()
                .enumerate()
                .filter(|(_, s)| s.0 > 0)
                .map(|(db, s)| (db as u32, s.0, s.1))
                .collect(),
            shard: 0,
            huge: None,
            shared_value: None,
            detached: Vec::new(),
            finished: false,
        };
        Ok((cut, with))
    }

    /// The log offset at which the keyspace is delivered.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The log's epoch at the cut; none where nothing was recorded, so that the log has a gap behind the cut.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Is the cut's offset a place in the log as it is now? Not where nothing was recorded at the cut, although the offset
    /// is the same when recording begins later, nor where the log went on from elsewhere since.
    pub fn is_in_log(&self) -> bool {
        self.epoch.is_some() && self.epoch == self.inner.log.epoch()
    }

    /// The database that whoever applies the log from that offset begins with (`repl-stream-db`).
    pub fn stream_db(&self) -> u32 {
        self.stream_db.unwrap_or(0)
    }

    /// The database the log has selected at that offset, where it goes on without selecting one again: on a
    /// replica, whose log is its primary's. Whoever begins a log of its own there has to select it first.
    pub fn selected(&self) -> Option<u32> {
        self.stream_db
    }

    /// `(database, keys, keys with expiry)` of each database that is not empty, as of the cut.
    pub fn db_sizes(&self) -> &[(u32, u64, u64)] {
        &self.sizes
    }

    /// Bytes that belong with the keys and mean nothing here: see [`Engine::carry`](crate::Engine::carry).
    pub fn carried(&self) -> Arc<[u8]> {
        self.inner.carried.lock().clone()
    }

    /// Bytes of pre-images handed over so far.
    pub fn preimage_bytes(&self) -> u64 {
        self.shared.queued_total.load(Ordering::Relaxed)
    }

    /// Most bytes of pre-images that waited at once.
    pub fn preimage_peak(&self) -> usize {
        self.shared.queued_peak.load(Ordering::Relaxed)
    }

    /// Log bytes from this offset on must not precede the end of the cut in a stream that carries both.
    /// `u64::MAX` where there is no such effect.
    pub fn barrier(&self) -> u64 {
        self.shared.barrier.load(Ordering::Acquire)
    }

    /// True where no pre-image waits and no value is half delivered: everything that changed so far has been
    /// delivered, but for what the barrier names.
    pub fn is_drained(&self) -> bool {
        self.huge.is_none() && self.shared_value.is_none() && self.shared.queue.lock().is_empty()
    }

    /// True between two whole entries.
    pub fn at_entry_boundary(&self) -> bool {
        self.huge.is_none() && self.shared_value.is_none()
    }

    /// Delivers waiting pre-images only, until the sink holds `max_pending` bytes or [`Cut::is_drained`].
    pub fn drain(&mut self, sink: &mut dyn CutSink, max_pending: usize) {
        while sink.pending() < max_pending {
            if self.continue_value(sink, max_pending) {
                continue;
            }
            let Some((db, e)) = self.shared.pop() else { return };
            self.deliver_owned(db, e, sink);
        }
    }

    /// Delivers until the sink holds `max_pending` bytes, or all is delivered.
    pub fn step(&mut self, sink: &mut dyn CutSink, max_pending: usize) -> Step {
        loop {
            self.drain(sink, max_pending);
            if sink.pending() >= max_pending {
                return Step::More;
            }
            if self.shard < self.inner.shards.len() {
                self.walk_shard(sink, max_pending);
            } else if !self.walk_moved(sink) && !self.walk_detached(sink, max_pending) {
                // No table has a capture any more, so nothing can be queued after this look.
                if self.is_drained() {
                    self.end(true);
                    return Step::Done;
                }
            }
        }
    }

    /// Goes on with a value that is half delivered; false where there is none.
    fn continue_value(&mut self, sink: &mut dyn CutSink, max_pending: usize) -> bool {
        if let Some(walk) = &mut self.shared_value {
            while sink.pending() < max_pending {
                if !walk.part(sink) {
                    sink.end_huge();
                    self.shared_value = None;
                    break;
                }
            }
            return true;
        }
        if self.huge.is_some() {
            self.continue_huge(sink, max_pending);
            return true;
        }
        false
    }

    fn walk_shard(&mut self, sink: &mut dyn CutSink, max_pending: usize) {
        let inner = self.inner.clone();
        let mut guard = inner.shards[self.shard].lock();
        let shard: &mut Shard = &mut guard;
        let Some(table) = shard.dbs.iter_mut().find(|t| t.capture().is_some()) else {
            self.shard += 1;
            return;
        };
        for _ in 0..SLICE_SEGMENTS {
            if self.visit(table, sink, max_pending) {
                break;
            }
        }
        // Whoever waits for this shard comes next, before the walker's next slice of it.
        MutexGuard::unlock_fair(guard);
    }

    /// Visits one segment of a table; true where the table is done or the slice should end.
    fn visit(&mut self, table: &mut Table, sink: &mut dyn CutSink, max_pending: usize) -> bool {
        let Some(capture) = table.capture() else { return true };
        let (db, cursor) = (capture.home().expect("databases have database captures"), capture.cursor);
        let stop_at = max_pending.min(sink.pending() + SLICE_BYTES);
        let (shared, huge) = (self.shared.clone(), &mut self.huge);
        let next = table.visit_segment(cursor, |mut e| {
            if let Some(state) = begin_huge(&shared, db, &mut e) {
                *huge = Some(HugeWalk::begin(state, None, sink));
                return Visit::Stop;
            }
            let e = e.into_ref();
            if shares(e.payload()) {
                // It is shared with the copy, which is then delivered without the lock.
                shared.push(db, Entry::duplicate(e));
                return Visit::DoneStop;
            }
            deliver(db, e, sink);
            if sink.pending() >= stop_at { Visit::DoneStop } else { Visit::Done }
        });
        match next {
            None => true,
            Some(0) => {
                table.release(true);
                true
            }
            Some(next) => {
                if let Some(c) = table.capture_mut() {
                    c.cursor = next;
                }
                sink.pending() >= stop_at
            }
        }
    }

    /// Begins to deliver a huge value that moved away before the walker came to it; false where there is none.
    fn walk_moved(&mut self, sink: &mut dyn CutSink) -> bool {
        let Some(state) = self.shared.moved.lock().pop() else { return false };
        if !state.begun.load(Ordering::Relaxed) {
            self.huge = Some(HugeWalk::begin(state, None, sink));
        }
        true
    }

    fn walk_detached(&mut self, sink: &mut dyn CutSink, max_pending: usize) -> bool {
        self.adopt_detached();
        let Some(mut table) = self.detached.pop() else { return false };
        while table.capture().is_some() && self.huge.is_none() && sink.pending() < max_pending {
            self.visit(&mut table, sink, max_pending);
        }
        if table.capture().is_some() {
            self.detached.push(table);
        }
        true
    }

    fn adopt_detached(&mut self) {
        self.detached.append(&mut self.shared.detached.lock());
    }

    fn deliver_owned(&mut self, db: u32, mut e: Entry, sink: &mut dyn CutSink) {
        if let Some(state) = begin_huge(&self.shared, db, &mut e.as_mut()) {
            self.huge = Some(HugeWalk::begin(state, Some(e), sink));
            return;
        }
        self.shared_value = SharedWalk::begin(db, e.as_ref(), sink);
        if self.shared_value.is_some() {
            return;
        }
        deliver(db, e.as_ref(), sink);
    }

    fn continue_huge(&mut self, sink: &mut dyn CutSink, max_pending: usize) {
        let Some(mut walk) = self.huge.take() else { return };
        walk.state.drain(sink);
        if sink.pending() >= max_pending {
            self.huge = Some(walk);
            return;
        }
        if walk.owned.is_none() {
            let inner = self.inner.clone();
            let (mut guard, place) = loop {
                let place = walk.state.place.lock().clone();
                let key = place.as_ref().map_or(&walk.state.key, |place| &place.1);
                let guard = inner.shards[inner.shard_of(hash(key))].lock();
                // It may have moved on before the lock was taken, and cannot now.
                if *walk.state.place.lock() == place {
                    break (guard, place);
                }
            };
            let (table, key) = match &place {
                Some((db, key)) => (guard.dbs.get_mut(*db as usize), key),
                None => {
                    let home = Some(walk.state.db);
                    let at_home = |t: &&mut Table| t.capture().and_then(Capture::home) == home;
                    (guard.dbs.iter_mut().find(at_home), &walk.state.key)
                }
            };
            let done = table.and_then(|t| {
                let done = walk_elements(&walk.state, t.peek_mut(key)?, sink, max_pending)?;
                if done {
                    t.stamp(key);
                }
                Some(done)
            });
            if done.is_none() {
                // It left the table under the shard's lock: it is in the queue or in a flushed database.
                walk.owned = self.shared.take_huge(&walk.state);
            }
            // Slice follows slice under this one lock: without the hand-over a writer might never get in between.
            MutexGuard::unlock_fair(guard);
            match done {
                Some(true) => return sink.end_huge(),
                Some(false) => {
                    self.huge = Some(walk);
                    return;
                }
                None => {}
            }
        }
        if let Some(e) = &mut walk.owned {
            if walk_elements(&walk.state, e.as_mut(), sink, max_pending) != Some(false) {
                return sink.end_huge();
            }
            self.huge = Some(walk);
            return;
        }
        self.adopt_detached();
        for t in &mut self.detached {
            let key = &walk.state.key;
            let Some(e) = t.peek_mut(key) else { continue };
            match walk_elements(&walk.state, e, sink, max_pending) {
                Some(true) => {
                    t.stamp(key);
                    return sink.end_huge();
                }
                Some(false) => {
                    self.huge = Some(walk);
                    return;
                }
                None => {}
            }
        }
        unreachable!("a huge value under a cut is in its table, in the queue or in a flushed table");
    }

    fn end(&mut self, complete: bool) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.shared.over.store(true, Ordering::Release);
        if !complete {
            for shard in self.inner.shards.iter() {
                let mut shard = shard.lock();
                for t in &mut shard.dbs {
                    t.release(false);
                }
            }
        }
        let mut slot = self.inner.cut.lock();
        // No table has a capture any more, so this cut adds nothing to the level from here on: the next one may have it.
        self.shared.level.bytes.store(0, Ordering::Relaxed);
        self.inner.cut_active.store(false, Ordering::Release);
        *slot = None;
        drop(slot);
        for state in self.shared.huge.lock().drain(..).filter_map(|state| state.upgrade()) {
            state.handed.lock().clear();
        }
        // What is there still refers to the cut, and would keep itself alive with it: a flushed database, say.
        let left = (
            std::mem::take(&mut *self.shared.queue.lock()),
            std::mem::take(&mut *self.shared.moved.lock()),
            std::mem::take(&mut *self.shared.detached.lock()),
        );
        drop(left);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.end(false);
    }
}

fn deliver(db: u32, e: EntryRef<'_>, sink: &mut dyn CutSink) {
    let meta = EntryMeta { db, key: e.key(), expire_at_ms: e.expire(), lru: e.lru() };
    if let Some(view) = ValueView::of(e) {
        sink.entry(&meta, view);
    }
}

/// Walks a slice of a huge value's elements: `Some(true)` at its end, `None` where the entry is not that value.
fn walk_elements(
    state: &Arc<HugeState>,
    e: EntryMut<'_>,
    sink: &mut dyn CutSink,
    max_pending: usize,
) -> Option<bool> {
    let (_, table) = e.value_mut()?.huge_table_mut()?;
    if !table.capture().and_then(Capture::huge).is_some_and(|s| Arc::ptr_eq(s, state)) {
        return None;
    }
    let stop_at = max_pending.min(sink.pending() + SLICE_BYTES);
    for _ in 0..SLICE_SEGMENTS * 2 {
        let cursor = table.capture().map_or(0, |c| c.cursor);
        let next = table.visit_segment(cursor, |e| {
            deliver_element(state.kind, e.into_ref(), sink);
            if sink.pending() >= stop_at { Visit::DoneStop } else { Visit::Done }
        });
        match next {
            None => return Some(false),
            Some(0) => {
                // Under the same lock hold: what was handed over since the last slice is the rest.
                state.drain(sink);
                table.release(true);
                return Some(true);
            }
            Some(next) => {
                if let Some(c) = table.capture_mut() {
                    c.cursor = next;
                }
            }
        }
    }
    Some(false)
}
