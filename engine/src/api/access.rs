//! How a typed call comes to its keys: it takes their locks, waits where a cut's queue is full, runs, and logs.

use crate::command::KeySpec;
use crate::engine::{Engine, now_ms};
use crate::hash::hash;
use crate::keyspace::{Ctx, Effects};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a write waits before it looks again whether the cut's queue has room.
const STALL_PAUSE: Duration = Duration::from_micros(100);
/// The slice of keys a typed call names is all keys.
const EVERY_ARGUMENT: KeySpec = KeySpec::Range { first: 0, last: -1, step: 1 };

/// What a call does with its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads them.
    Read,
    /// Changes them, each for itself.
    Write,
    /// Reads some to change others: a running cut needs all of them first.
    Mix,
}

/// A transaction in progress: it holds every lock.
pub(super) trait Within {
    /// Runs `f` in database `db`.
    fn with(&self, db: u32, f: &mut dyn FnMut(&mut Ctx<'_>));
}

impl Within for RefCell<Ctx<'_>> {
    fn with(&self, db: u32, f: &mut dyn FnMut(&mut Ctx<'_>)) {
        let mut cx = self.borrow_mut();
        cx.keys.db = db;
        f(&mut cx);
    }
}

impl super::Db<'_> {
    /// Runs `f` with the keys locked. It says what is logged with `propagate`.
    pub(super) fn run<R>(&self, keys: &[&[u8]], access: Access, f: impl FnOnce(&mut Ctx<'_>) -> R) -> R {
        let Some(within) = self.within else {
            return self.engine.with_keys(self.index, keys, access, f);
        };
        let (mut f, mut r) = (Some(f), None);
        within.with(self.index, &mut |cx| {
            hand_over(self.engine, cx, keys, access);
            r = f.take().map(|f| f(cx));
        });
        r.expect("a transaction runs what it is given")
    }

    /// Runs `f` with everything locked.
    pub(super) fn run_all<R>(&self, f: impl FnOnce(&mut Ctx<'_>) -> R) -> R {
        if self.within.is_some() {
            return self.run(&[], Access::Read, f);
        }
        self.engine.with_all(self.index, |within| {
            let (mut f, mut r) = (Some(f), None);
            within.with(self.index, &mut |cx| r = f.take().map(|f| f(cx)));
            r.expect("a transaction runs what it is given")
        })
    }
}

fn hand_over(engine: &Engine, cx: &mut Ctx<'_>, keys: &[&[u8]], access: Access) {
    if access == Access::Mix && engine.cut_in_progress() {
        for key in keys {
            let (h, db) = (hash(key), cx.keys.db);
            cx.keys.held.hand_over(engine.inner.shard_of(h), db, h, key);
        }
    }
}

impl Engine {
    fn with_keys<R>(&self, db: u32, keys: &[&[u8]], access: Access, f: impl FnOnce(&mut Ctx<'_>) -> R) -> R {
        let (mut fx, mut out) = (Effects::default(), Vec::new());
        let held = loop {
            let indexes = keys.iter().map(|key| self.inner.shard_of(hash(key))).collect();
            let mut held = self.lock_indexes(indexes);
            let stalled = access != Access::Read
                && self.cut_in_progress()
                && self.must_stall(&mut held, db, EVERY_ARGUMENT, keys);
            if !stalled {
                break held;
            }
            drop(held);
            std::thread::sleep(STALL_PAUSE);
        };
        let mut cx = self.context(&mut fx, held, db, false, now_ms(), &mut out, false);
        hand_over(self, &mut cx, keys, access);
        let r = f(&mut cx);
        self.conclude(cx);
        r
    }

    /// Runs `f` with everything locked. Its effects are logged even where it panics: they have happened.
    pub(super) fn with_all<R>(&self, db: u32, f: impl FnOnce(&dyn Within) -> R) -> R {
        // Which keys it will change is unknown, so it waits for any room at all.
        while self.inner.queue_level.is_full() {
            std::thread::sleep(STALL_PAUSE);
        }
        let (mut fx, mut out) = (Effects::default(), Vec::new());
        let held = self.lock_indexes((0..self.shards()).collect());
        let cx = RefCell::new(self.context(&mut fx, held, db, false, now_ms(), &mut out, false));
        let r = catch_unwind(AssertUnwindSafe(|| f(&cx)));
        self.conclude(cx.into_inner());
        r.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Logs what happened and lets go of the locks.
    fn conclude(&self, cx: Ctx<'_>) {
        let (held, fx) = cx.into_parts();
        self.commit(fx, None);
        if fx.dirty > 0 {
            self.inner.changes.fetch_add(fx.dirty, Ordering::Relaxed);
        }
        self.announce(fx);
        drop(held);
    }
}
