//! How a typed call comes to its keys: it takes their locks, waits where a cut's queue is full, runs, and logs.

use super::STALL_PAUSE;
use crate::engine::Engine;
pub(super) use crate::execute::Access;
use crate::execute::{Appended, Wanted};
use crate::expiry::own::Expiries;
use crate::hash::hash;
use crate::keyspace::{Ctx, Effects};
use crate::resp::Reply;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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
            r = f.take().map(|f| self.engine.run_typed(cx, keys, access, f));
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
        let wanted: SmallVec<[Wanted<'_>; 4]> = keys.iter().map(|key| self.want(db, key, access)).collect();
        let held = loop {
            match self.begin(false, &wanted) {
                Some(held) => break held,
                None => std::thread::sleep(STALL_PAUSE),
            }
        };
        let mut cx = self.context(&mut fx, held, db, false, self.now_ms(), Reply::new(&mut out, false));
        let r = self.run_typed(&mut cx, keys, access, f);
        let (held, fx) = self.conclude(cx, Appended::Effects);
        self.release(held, fx);
        r
    }

    /// Runs `f` with one shard locked, which changes nothing but that it may remove what has expired.
    pub(super) fn with_shard<R>(&self, db: u32, shard: usize, f: impl FnOnce(&mut Ctx<'_>) -> R) -> R {
        let (mut fx, mut out) = (Effects::default(), Vec::new());
        let held = self.lock_indexes(SmallVec::from_slice(&[shard]));
        let mut cx = self.context(&mut fx, held, db, false, self.now_ms(), Reply::new(&mut out, false));
        let r = f(&mut cx);
        let (held, fx) = self.conclude(cx, Appended::Apart);
        self.release(held, fx);
        r
    }

    /// Runs one typed call on keys that are locked; a writable replica remembers which it must expire itself.
    fn run_typed<R>(
        &self,
        cx: &mut Ctx<'_>,
        keys: &[&[u8]],
        access: Access,
        f: impl FnOnce(&mut Ctx<'_>) -> R,
    ) -> R {
        cx.keys.fx.next_command();
        let notes = cx.keys.replica && access != Access::Read;
        let before = notes.then(|| Expiries::of(cx, keys.iter().copied()));
        let r = f(cx);
        if let Some(before) = before.filter(|_| cx.keys.fx.dirty > 0) {
            self.inner.own_expiries.note(cx, keys.iter().copied(), &before);
        }
        r
    }

    /// Runs `f` with everything locked. Its effects are logged even where it panics: they have happened.
    pub(super) fn with_all<R>(&self, db: u32, f: impl FnOnce(&dyn Within) -> R) -> R {
        // Which keys it will change is unknown, so it waits for any room at all.
        while self.inner.queue_level.is_full() {
            std::thread::sleep(STALL_PAUSE);
        }
        let (mut fx, mut out) = (Effects::default(), Vec::new());
        let cx =
            self.context(&mut fx, self.hold_all(), db, false, self.now_ms(), Reply::new(&mut out, false));
        let cx = RefCell::new(cx);
        let r = catch_unwind(AssertUnwindSafe(|| f(&cx)));
        let (held, fx) = self.conclude(cx.into_inner(), Appended::Effects);
        self.release(held, fx);
        r.unwrap_or_else(|panic| resume_unwind(panic))
    }
}
