//! The writers' side of a cut: who is about to change something the walker has not delivered hands it over here.
//!
//! A [`Capture`] hangs on each table of the cut and says where pre-images go: to the queue of [`CutShared`], or, for the
//! elements of a huge value, to its [`HugeState`]. Tables call it ([`crate::table`]); what is delivered, and when, is the
//! walker's business.

use super::sink::{CutSink, Element, EntryMeta, HugeKind};
use crate::log::Log;
use crate::value::{Entry, EntryMut, EntryRef, Payload, Table};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// How many bytes of pre-images wait for the running cut, and how many may. It is the engine's, for one cut after the
/// other, so that a write sees whether there is room without taking a lock.
#[derive(Default)]
pub(crate) struct QueueLevel {
    pub(super) bytes: AtomicUsize,
    pub(super) limit: AtomicUsize,
}

impl QueueLevel {
    /// Above the limit? Never where there is no cut.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit.load(Ordering::Relaxed)
    }

    /// Counts bytes that begin to wait; returns how many there are now.
    pub(super) fn add(&self, bytes: usize) -> usize {
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What the writers and the walker of one cut share.
pub(crate) struct CutShared {
    pub(super) queue: Mutex<VecDeque<(u32, Entry)>>,
    pub(super) level: Arc<QueueLevel>,
    pub(super) queued_total: AtomicU64,
    pub(super) queued_peak: AtomicUsize,
    pub(super) barrier: AtomicU64,
    pub(super) over: AtomicBool,
    pub(super) detached: Mutex<Vec<Table>>,
    /// Huge values that left their key for another, and that the walker therefore does not meet.
    pub(super) moved: Mutex<Vec<Arc<HugeState>>>,
    /// Huge values that hand over elements: where a cut is given up, their tables keep a capture until the next cut.
    pub(super) huge: Mutex<Vec<Weak<HugeState>>>,
    pub(super) log: Arc<Log>,
}

/// A huge value that began to change, or to be walked, during a cut.
pub(crate) struct HugeState {
    pub(super) db: u32,
    pub(super) key: Box<[u8]>,
    pub(super) expire: Option<i64>,
    pub(super) lru: u32,
    pub(super) kind: HugeKind,
    pub(super) count: u64,
    /// Its delivery has begun.
    pub(super) begun: AtomicBool,
    /// Database and key it moved to; `None` while it is where the cut found it. Changes under the lock of its shard.
    pub(super) place: Mutex<Option<(u32, Box<[u8]>)>>,
    pub(super) handed: Mutex<Vec<Entry>>,
    pub(super) cut: Arc<CutShared>,
}

/// What a table under a running cut holds: where pre-images go, and how far the walker is.
pub(crate) struct Capture {
    pub(super) to: CaptureTo,
    pub(super) cursor: u64,
}

pub(super) enum CaptureTo {
    Db { cut: Arc<CutShared>, db: u32 },
    Huge(Arc<HugeState>),
}

pub(super) fn cost(e: EntryRef<'_>) -> usize {
    e.bytes()
        + match e.payload() {
            Payload::Value(v) => v.quick_size(),
            _ => 0,
        }
}

impl CutShared {
    pub(super) fn push(&self, db: u32, e: Entry) {
        self.account(cost(e.as_ref()));
        self.queue.lock().push_back((db, e));
    }

    pub(super) fn account(&self, bytes: usize) {
        let now = self.level.add(bytes);
        self.queued_total.fetch_add(bytes as u64, Ordering::Relaxed);
        self.queued_peak.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn pop(&self) -> Option<(u32, Entry)> {
        let item = self.queue.lock().pop_front()?;
        self.level.sub(cost(item.1.as_ref()));
        Some(item)
    }

    /// Finds the huge value that moved into the queue while it was being walked.
    pub(super) fn take_huge(&self, state: &Arc<HugeState>) -> Option<Entry> {
        let mut q = self.queue.lock();
        let at = q.iter().position(|(_, e)| huge_of(e.as_ref()).is_some_and(|s| Arc::ptr_eq(s, state)))?;
        let (_, e) = q.remove(at)?;
        self.level.sub(cost(e.as_ref()));
        Some(e)
    }

    /// Effects from here on must wait for the end of the cut where log and cut share a stream.
    pub(crate) fn raise_barrier(&self) {
        self.barrier.fetch_min(self.log.end(), Ordering::AcqRel);
    }

    /// A flushed database whose entries the walker still has to deliver.
    pub(crate) fn adopt(&self, table: Table) {
        self.raise_barrier();
        self.detached.lock().push(table);
    }

    /// Huge values that are not where the cut found them.
    pub(super) fn elsewhere(&self) -> Vec<Arc<HugeState>> {
        let huge = self.huge.lock();
        huge.iter().filter_map(Weak::upgrade).filter(|state| state.place.lock().is_some()).collect()
    }

    /// Keys of a database that huge values of the cut moved to.
    pub(crate) fn moved_to(&self, db: u32) -> Vec<Box<[u8]>> {
        let states = self.elsewhere();
        let places = states.iter().filter_map(|state| state.place.lock().clone());
        places.filter(|place| place.0 == db).map(|place| place.1).collect()
    }

    /// Two databases change places.
    pub(crate) fn swapped(&self, a: u32, b: u32) {
        self.raise_barrier();
        for state in self.elsewhere() {
            if let Some((db, _)) = &mut *state.place.lock() {
                *db = if *db == a {
                    b
                } else if *db == b {
                    a
                } else {
                    *db
                };
            }
        }
    }
}

/// The huge value in an entry that a running cut has not delivered whole.
pub(super) fn captured(e: EntryRef<'_>) -> Option<&Arc<HugeState>> {
    huge_of(e).filter(|state| !state.cut.over.load(Ordering::Acquire))
}

/// Does a change of this value hand over elements to a running cut?
pub(crate) fn hands_over(e: EntryRef<'_>) -> bool {
    captured(e).is_some()
}

/// An entry was put under a key: a huge value that a running cut still needs is found there from now on.
pub(crate) fn placed(db: u32, e: EntryRef<'_>) {
    if let Some(state) = captured(e) {
        *state.place.lock() = Some((db, e.key().into()));
    }
}

/// An entry goes for good: what a running cut still needs of it goes to the cut. That is a huge value that moved here;
/// others are known by their epoch.
#[inline]
pub(crate) fn leave(e: Entry) {
    if let Payload::Value(_) = e.as_ref().payload()
        && let Some(state) = captured(e.as_ref()).cloned()
    {
        state.cut.push(state.db, e);
    }
}

pub(super) fn huge_of(e: EntryRef<'_>) -> Option<&Arc<HugeState>> {
    let Payload::Value(v) = e.payload() else { return None };
    v.element_table()?.1.capture()?.huge()
}

impl HugeState {
    pub(super) fn push(&self, e: Entry) {
        self.cut.account(e.as_ref().bytes());
        self.handed.lock().push(e);
    }

    pub(super) fn meta(&self) -> EntryMeta<'_> {
        EntryMeta { db: self.db, key: &self.key, expire_at_ms: self.expire, lru: self.lru }
    }

    pub(super) fn drain(&self, sink: &mut dyn CutSink) {
        let handed = std::mem::take(&mut *self.handed.lock());
        for e in &handed {
            deliver_element(self.kind, e.as_ref(), sink);
            self.cut.level.sub(e.as_ref().bytes());
        }
    }
}

impl Capture {
    pub(super) fn huge(&self) -> Option<&Arc<HugeState>> {
        match &self.to {
            CaptureTo::Huge(s) => Some(s),
            CaptureTo::Db { .. } => None,
        }
    }

    pub(super) fn home(&self) -> Option<u32> {
        match &self.to {
            CaptureTo::Db { db, .. } => Some(*db),
            CaptureTo::Huge(_) => None,
        }
    }

    /// Hands over an entry that leaves its table.
    pub(crate) fn take(&self, old: Entry) {
        match &self.to {
            _ if self.is_over() => {}
            CaptureTo::Db { cut, db } => cut.push(*db, old),
            CaptureTo::Huge(state) => state.push(old),
        }
    }

    /// Hands over a copy of an entry that changes in place; `epoch` marks it as visited.
    pub(crate) fn before_change(&self, e: &mut EntryMut<'_>, epoch: u16) {
        if self.is_over() {
            return;
        }
        match &self.to {
            CaptureTo::Db { cut, db } => {
                if begin_huge(cut, *db, e).is_some() {
                    cut.raise_barrier();
                    return;
                }
                cut.push(*db, Entry::duplicate(e.as_ref()));
            }
            CaptureTo::Huge(state) => state.push(Entry::duplicate(e.as_ref())),
        }
        e.set_epoch(epoch);
    }

    /// An unvisited entry leaves its table for another place. A huge value takes its capture along; false where it is
    /// none, and the cut needs the entry itself.
    pub(crate) fn follow(&self, e: &mut Entry) -> bool {
        if self.is_over() {
            return true;
        }
        let CaptureTo::Db { cut, db } = &self.to else { return false };
        let Some(state) = begin_huge(cut, *db, &mut e.as_mut()) else { return false };
        // Only the walk can deliver it.
        cut.raise_barrier();
        cut.moved.lock().push(state);
        true
    }

    pub(super) fn is_over(&self) -> bool {
        match &self.to {
            CaptureTo::Db { cut, .. } => cut.over.load(Ordering::Acquire),
            CaptureTo::Huge(s) => s.cut.over.load(Ordering::Acquire),
        }
    }
}

/// Attaches a capture to the inner table of a huge value, or finds the one that is there.
pub(super) fn begin_huge(cut: &Arc<CutShared>, db: u32, e: &mut EntryMut<'_>) -> Option<Arc<HugeState>> {
    e.reborrow().value_mut()?.huge_table_mut()?;
    let (key, expire, lru) = (e.as_ref().key().to_vec(), e.as_ref().expire(), e.as_ref().lru());
    let (kind, table) = e.reborrow().value_mut()?.huge_table_mut()?;
    if let Some(state) = table.capture().and_then(Capture::huge)
        && Arc::ptr_eq(&state.cut, cut)
    {
        return Some(state.clone());
    }
    // A capture of an earlier, aborted cut may still be there.
    table.release(false);
    let state = Arc::new(HugeState {
        db,
        key: key.into_boxed_slice(),
        expire,
        lru,
        kind,
        count: table.len() as u64,
        begun: AtomicBool::new(false),
        place: Mutex::new(None),
        handed: Mutex::new(Vec::new()),
        cut: cut.clone(),
    });
    cut.huge.lock().push(Arc::downgrade(&state));
    table.attach(Capture { to: CaptureTo::Huge(state.clone()), cursor: 0 });
    Some(state)
}

pub(super) fn deliver_element(kind: HugeKind, e: EntryRef<'_>, sink: &mut dyn CutSink) {
    match (kind, e.payload()) {
        (HugeKind::Hash, Payload::Str(v)) => sink.element(Element::Field(e.key(), v)),
        (HugeKind::Hash, Payload::Int(v)) => {
            sink.element(Element::Field(e.key(), itoa::Buffer::new().format(v).as_bytes()));
        }
        (HugeKind::ZSet, Payload::Score(s)) => sink.element(Element::Scored(e.key(), s)),
        _ => sink.element(Element::Member(e.key())),
    }
}
