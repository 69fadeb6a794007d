//! Those who wait for keys: their queues, which stand in the shards of their keys, and what they are told.
//!
//! Whoever waits holds a [`Blocked`](crate::blocked::Blocked), by which its reply comes. Who is put into the queues, taken out of them and served, and
//! when, is left to [`crate::blocking`].

use crate::value::Type;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// What a handler that found nothing asks for.
pub(crate) struct Wish {
    /// Positions of the keys among the arguments.
    pub(crate) keys: std::ops::Range<usize>,
    /// The type it waits for.
    pub(crate) kind: Type,
    /// `None` waits for ever.
    pub(crate) timeout: Option<Duration>,
    /// What it replies where it may not wait.
    pub(crate) nothing: Nothing,
}

/// What a command that found nothing, and may not wait, replies. A command whose time is up always replies a null array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// A null array: it would reply one with its element.
    Array,
    /// A null: it would reply the element.
    Element,
}

/// A command that waits.
pub(crate) struct Waiter {
    pub(crate) db: u32,
    pub(crate) keys: SmallVec<[Box<[u8]>; 1]>,
    /// Its row's place in the table, which says how it is served.
    pub(crate) id: usize,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) kind: Type,
    pub(crate) resp3: bool,
    /// Lower than that of who comes to the same key later.
    pub(crate) ticket: u64,
    /// In the shards' queues; changes under the locks of its keys' shards.
    waiting: AtomicBool,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    reply: Option<Vec<u8>>,
    waker: Option<Waker>,
}

impl Waiter {
    /// A command that begins to wait, for what `wish` says.
    pub(crate) fn new(wish: Wish, db: u32, id: usize, resp3: bool, args: &[&[u8]]) -> Arc<Waiter> {
        /// Of all engines, so that nobody has to ask which one it is.
        static TICKETS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Waiter {
            db,
            // A name that comes twice is one place in one queue.
            keys: wish.keys.map(|at| args[at].into()).collect(),
            id,
            args: args.iter().map(|a| a.to_vec()).collect(),
            kind: wish.kind,
            resp3,
            ticket: TICKETS.fetch_add(1, Ordering::Relaxed),
            waiting: AtomicBool::new(true),
            slot: Mutex::default(),
        })
    }

    /// Has it neither been served nor given up?
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// It is in no queue any more; the caller has the locks of its keys' shards.
    pub(crate) fn leaves(&self) {
        self.waiting.store(false, Ordering::Release);
    }

    /// Takes the reply, if it is there.
    pub(crate) fn take_reply(&self) -> Option<Vec<u8>> {
        self.slot.lock().reply.take()
    }

    /// The reply, or who is to be woken when it is there.
    pub(crate) fn poll_reply(&self, waker: &Waker) -> Poll<Vec<u8>> {
        let mut slot = self.slot.lock();
        match slot.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                slot.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn deliver(&self, reply: Vec<u8>) {
        let mut slot = self.slot.lock();
        slot.reply = Some(reply);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

/// Those who wait for a key, by database and in the order they came: joining, leaving and finding the next takes the
/// logarithm of their number, whatever they also wait for.
#[derive(Default)]
pub(crate) struct Queue(BTreeMap<(u32, u64), Arc<Waiter>>);

impl Queue {
    pub(crate) fn join(&mut self, waiter: &Arc<Waiter>) {
        self.0.insert((waiter.db, waiter.ticket), waiter.clone());
    }

    pub(crate) fn leave(&mut self, waiter: &Waiter) {
        self.0.remove(&(waiter.db, waiter.ticket));
    }

    /// The first in a database whose ticket is not below this one.
    pub(crate) fn next(&self, db: u32, ticket: u64) -> Option<&Arc<Waiter>> {
        self.0.range((db, ticket)..=(db, u64::MAX)).next().map(|(_, waiter)| waiter)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_awaited_in(&self, db: u32) -> bool {
        self.next(db, 0).is_some()
    }
}

/// Keys that changed and that commands wait for, in the order of their change; each once.
#[derive(Default)]
pub(crate) struct Ready {
    pub(crate) order: Vec<(u32, Box<[u8]>)>,
    seen: HashSet<(u32, Box<[u8]>)>,
}

impl Ready {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.order.is_empty() {
            *self = Ready::default();
        }
    }

    pub(crate) fn add(&mut self, db: u32, key: &[u8]) {
        if self.seen.insert((db, key.into())) {
            self.order.push((db, key.into()));
        }
    }
}
