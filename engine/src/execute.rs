//! One way to run a row, whoever asks: a client, EXEC, a primary's stream, a typed call, a waiter that is served.
//!
//! ```text
//!   keys resolved, once        begin            the row          conclude          release
//!   (key, hash, shard)   --->  lock, stall  --> runs on a   -->  log, counts  -->  waiters served,
//!                              or hand over     Ctx                                locks let go
//! ```
//!
//! - [`Engine::begin`] locks the shards of the keys that are [`Wanted`] (every shard where somebody waits for one of them and it
//!   may change). Under a running cut it says that a write has to wait, or hands over what the command reads to change
//!   something else.
//! - [`Engine::run_row`] runs a row's function on the locked keys, and remembers which keys a writable replica must expire
//!   itself.
//! - [`Engine::conclude`] appends the effects to the log (or the primary's bytes, see [`Appended`]), counts the changes and
//!   tells who listens, under the locks. [`Engine::release`] serves those who wait for what changed, and lets go.
//!
//! What a primary's stream says is appended as it came, exactly once: under the locks where the command has some, else
//! when it has run ([`Engine::relay`]).

use crate::command::{CmdError, CmdResult, Command, Flags, KeyFn, KeySpec};
use crate::engine::{Engine, Outcome, Row};
use crate::expiry::own::Expiries;
use crate::hash::hash;
use crate::keyspace::{Ctx, Effects, Hashed, Held, Keys, Shard};
use crate::resp::Reply;
use crate::session::Session;
use crate::table::Table;
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

/// A key somebody wants, resolved.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'k> {
    pub(crate) key: &'k [u8],
    pub(crate) hash: u64,
    pub(crate) shard: usize,
    pub(crate) db: u32,
    pub(crate) access: Access,
}

/// Keys fetched together.
const FETCHED: usize = 16;

/// A command that is about to be called, as far as its name and its first key say what it will need: see [`Engine::resolve`].
#[derive(Clone, Copy, Debug)]
pub struct Resolved<'k> {
    /// Its row.
    pub row: Row,
    pub(crate) key: Option<Hashed<'k>>,
}

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is read.
    Read,
    /// It is changed, by itself.
    Write,
    /// It is read to change others, or changed by what others hold: a running cut needs it before.
    Mix,
}

impl Access {
    /// What a command does with its keys.
    #[inline]
    pub(crate) fn of(command: &Command) -> Access {
        let flags = command.flags;
        if !flags.contains(Flags::WRITE) {
            Access::Read
        } else if matches!(command.keys, KeySpec::Range { first: 1, last: 1, .. })
            || flags.contains(Flags::EACH_FOR_ITSELF)
        {
            Access::Write
        } else {
            Access::Mix
        }
    }
}

/// What goes to the log when a command, or a block, has run.
pub(crate) enum Appended<'r> {
    /// Its effects; several are one block.
    Effects,
    /// Its effects, which have nothing to do with each other.
    Apart,
    /// The command as it came, for the database.
    AsItCame(u32, &'r [u8]),
    /// The bytes of the primary's stream it came as, after which the stream has the database selected.
    Relayed(u32, &'r [u8]),
}

impl Engine {
    /// Finds the row of a command and hashes its first key, so that neither has to be done again when it is called.
    #[inline]
    pub fn resolve<'k>(&self, args: &[&'k [u8]]) -> Option<Resolved<'k>> {
        let row = self.lookup(args.first()?)?;
        let key = match row.command.keys {
            KeySpec::Range { first, .. } => args.get(first).map(|key| Hashed::of(key)),
            _ => None,
        };
        Some(Resolved { row, key })
    }

    /// Starts fetching what commands that were resolved will touch first, so that their cache misses overlap: for callers that
    /// have several at hand. It changes nothing and waits for nobody: a shard that is in use is left out. Not more than sixteen
    /// keys are looked at.
    pub fn prefetch_resolved<'r>(&self, db: u32, commands: impl Iterator<Item = &'r Resolved<'r>>) {
        self.fetch(db, commands.filter_map(|command| command.key).map(|key| key.hash));
    }

    /// The same for commands on these keys, of which there may be any number.
    pub fn prefetch(&self, db: u32, keys: &[&[u8]]) {
        keys.chunks(FETCHED).for_each(|some| self.fetch(db, some.iter().map(|key| hash(key))));
    }

    /// Each shard's lock is taken once, for as long as the three steps take; more than [`FETCHED`] keys are not looked at.
    fn fetch(&self, db: u32, hashes: impl Iterator<Item = u64>) {
        let mut locked: SmallVec<[(usize, MutexGuard<'_, Shard>); FETCHED]> = SmallVec::new();
        let mut keys: SmallVec<[(u64, usize); FETCHED]> = SmallVec::new();
        for hash in hashes.take(FETCHED) {
            let shard = self.inner.shard_of(hash);
            if let Some(guard) = self.inner.shards[shard].try_lock() {
                locked.push((shard, guard));
                keys.push((hash, locked.len() - 1));
            } else if let Some(at) = locked.iter().position(|(held, _)| *held == shard) {
                keys.push((hash, at));
            }
        }
        for step in [Table::prefetch, Table::prefetch_slots, Table::prefetch_entry] {
            for (hash, at) in &keys {
                if let Some(table) = locked[*at].1.dbs.get(db as usize) {
                    step(table, *hash);
                }
            }
        }
    }

    /// A key, resolved.
    #[inline]
    pub(crate) fn want<'k>(&self, db: u32, key: &'k [u8], access: Access) -> Wanted<'k> {
        self.want_hashed(db, Hashed::of(key), access)
    }

    #[inline]
    pub(crate) fn want_hashed<'k>(&self, db: u32, k: Hashed<'k>, access: Access) -> Wanted<'k> {
        Wanted { key: k.key, hash: k.hash, shard: self.inner.shard_of(k.hash), db, access }
    }

    /// Adds the keys of a command to `wanted`.
    pub(crate) fn want_all<'k>(
        &self,
        wanted: &mut SmallVec<[Wanted<'k>; 8]>,
        db: u32,
        command: &Command,
        args: &[&'k [u8]],
    ) {
        let access = Access::of(command);
        command.keys.each(args, |at| wanted.push(self.want(db, args[at], access)));
    }

    /// Locks what is wanted, or everything; `None` where a write has to wait because it would add a pre-image to a
    /// cut whose queue is full. Nothing has happened then.
    #[inline(always)]
    pub(crate) fn begin(&self, all: bool, wanted: &[Wanted<'_>]) -> Option<Held<'_>> {
        let held = match wanted {
            _ if all => self.hold_all(),
            [one] => Held::One(one.shard, self.inner.shards[one.shard].lock()),
            many => self.lock_indexes(many.iter().map(|w| w.shard).collect()),
        };
        if self.inner.blocked.load(Ordering::Relaxed) == 0 && !self.inner.cut_active.load(Ordering::Relaxed) {
            return Some(held);
        }
        self.begin_with_others(held, wanted)
    }

    /// The rest of it, where somebody waits for keys or a cut is under way.
    #[cold]
    fn begin_with_others<'a>(&'a self, mut held: Held<'a>, wanted: &[Wanted<'_>]) -> Option<Held<'a>> {
        if self.inner.blocked.load(Ordering::Relaxed) != 0 && wakes(&held, wanted) {
            drop(held);
            held = self.hold_all();
        }
        if self.inner.cut_active.load(Ordering::Relaxed) && !self.prepare_for_cut(&mut held, wanted) {
            return None;
        }
        Some(held)
    }

    #[inline(always)]
    pub(crate) fn hold_all(&self) -> Held<'_> {
        self.inner.shards.hold_all()
    }

    #[inline(always)]
    pub(crate) fn lock_indexes(&self, indexes: SmallVec<[usize; 8]>) -> Held<'_> {
        self.inner.shards.hold(indexes)
    }

    /// False where a write would add a pre-image to a queue that is full. Else a write that reads one key to change another
    /// (COPY, SUNIONSTORE) has both delivered before its effect, as cut and log may share a stream: what it
    /// changes is handed over when it changes, here the rest follows.
    #[cold]
    fn prepare_for_cut(&self, held: &mut Held<'_>, wanted: &[Wanted<'_>]) -> bool {
        let full = self.inner.queue_level.is_full();
        let writes = wanted.iter().filter(|w| w.access != Access::Read);
        if full && writes.clone().any(|w| held.unvisited(w.shard, w.db, w.hash, w.key)) {
            return false;
        }
        for w in writes.filter(|w| w.access == Access::Mix) {
            held.hand_over(w.shard, w.db, w.hash, w.key);
        }
        true
    }

    /// What a row works with: the locked keys, and where reply and effects go.
    #[inline(always)]
    pub(crate) fn context<'a>(
        &'a self,
        fx: &'a mut Effects,
        held: Held<'a>,
        db: u32,
        from_primary: bool,
        now: i64,
        out: Reply<'a>,
    ) -> Ctx<'a> {
        fx.clear();
        let role = self.inner.role.get();
        let replica = role.is_replica();
        fx.enabled = !from_primary && !replica && self.inner.log.is_active();
        Ctx {
            keys: Keys {
                inner: &self.inner,
                held,
                fx,
                db,
                now,
                replica,
                keep_expired: role.keeps_expired(),
                see_expired: from_primary,
                may_block: false,
                known: None,
            },
            out,
        }
    }

    /// Runs a row's function on keys that are locked.
    #[inline(always)]
    pub(crate) fn run_row(
        &self,
        cx: &mut Ctx<'_>,
        command: &Command,
        args: &[&[u8]],
        from_primary: bool,
        f: KeyFn,
    ) -> CmdResult {
        if cx.keys.replica && !from_primary && command.flags.contains(Flags::WRITE) {
            return self.run_row_on_replica(cx, command, args, f);
        }
        f(cx, args)
    }

    /// A client writes to a replica: an expiry it gives a key is one that no primary will heed.
    #[cold]
    fn run_row_on_replica(&self, cx: &mut Ctx<'_>, command: &Command, args: &[&[u8]], f: KeyFn) -> CmdResult {
        let mut keys: SmallVec<[&[u8]; 4]> = SmallVec::new();
        command.keys.each(args, |at| keys.push(args[at]));
        let before = Expiries::of(cx, keys.iter().copied());
        let result = f(cx, args);
        if cx.keys.fx.dirty > 0 {
            self.inner.own_expiries.note(cx, keys.into_iter(), &before);
        }
        result
    }

    /// Ends what ran on `cx`: appends it to the log and counts its changes, under the locks it gives back.
    #[inline(always)]
    pub(crate) fn conclude<'a>(&self, cx: Ctx<'a>, appended: Appended<'_>) -> (Held<'a>, &'a mut Effects) {
        let (held, fx) = cx.into_parts();
        match appended {
            Appended::AsItCame(db, raw) => self.inner.log.append(db, raw),
            Appended::Relayed(db, raw) => self.inner.log.append_stream(raw, db),
            _ if !fx.enabled || fx.ops.is_empty() => {}
            Appended::Effects if fx.ops.len() == 1 => self.inner.log.append(fx.ops[0].0, &fx.buf),
            Appended::Effects => self.inner.log.append_transaction(fx.each()),
            Appended::Apart => fx.each().for_each(|(db, effect)| self.inner.log.append(db, effect)),
        }
        let changes = fx.changes + fx.dirty;
        if changes > 0 {
            self.inner.changes.fetch_add(changes, Ordering::Relaxed);
        }
        self.announce(fx);
        (held, fx)
    }

    /// Tells what has happened, while the shards are locked still.
    #[inline]
    pub(crate) fn announce(&self, fx: &mut Effects) {
        if !fx.events.is_empty() {
            self.inner.listening.tell(&mut fx.events);
        }
    }

    /// Lets go of the shards; commands that waited for what changed are served before.
    #[inline(always)]
    pub(crate) fn release(&self, held: Held<'_>, fx: &mut Effects) {
        match held {
            held if !fx.ready.is_empty() => self.serve_ready(held, std::mem::take(&mut fx.ready)),
            Held::One(_, guard) => drop(guard),
            others => others.let_go(),
        }
    }

    /// Appends bytes of the primary's stream that no command appended under its locks. Inside MULTI they wait for EXEC,
    /// so that no cut begins in the middle of a block.
    pub(crate) fn relay(&self, s: &mut Session, raw: Option<&[u8]>) {
        let Some(raw) = raw else { return };
        if s.in_multi() || !s.block.is_empty() {
            s.block.extend_from_slice(raw);
        }
        if !s.in_multi() {
            let block = std::mem::take(&mut s.block);
            self.inner.log.append_stream(if block.is_empty() { raw } else { &block }, s.db);
        }
    }
}

impl Engine {
    /// Replies an error, and counts it: of a command that was rejected before it ran, or failed.
    #[cold]
    pub(crate) fn refuse(
        &self,
        id: usize,
        resp3: bool,
        out: &mut Vec<u8>,
        e: &CmdError,
        rejected: bool,
    ) -> Outcome {
        let stats = self.rows.stats(id);
        if rejected { &stats.rejected } else { &stats.failed }.fetch_add(1, Ordering::Relaxed);
        if !rejected {
            stats.calls.fetch_add(1, Ordering::Relaxed);
        }
        Reply::new(out, resp3).error(&e.message());
        Outcome::Refused
    }

    /// Runs `f` with every shard locked, in database `db`; effects `f` propagates are logged.
    pub fn exclusive<R>(&self, db: u32, out: &mut Vec<u8>, f: impl FnOnce(&mut Ctx<'_>) -> R) -> R {
        let mut fx = Effects::default();
        let mut cx = self.context(&mut fx, self.hold_all(), db, false, self.now_ms(), Reply::new(out, false));
        let r = f(&mut cx);
        let (held, fx) = self.conclude(cx, Appended::Effects);
        self.release(held, fx);
        r
    }
}

/// Would one of these change a key that somebody waits for? The key's name decides, whatever the database: MOVE and COPY
/// reach into others.
#[cold]
fn wakes(held: &Held<'_>, wanted: &[Wanted<'_>]) -> bool {
    let waited = |w: &Wanted<'_>| held.shard_ref(w.shard).blocked.contains_key(w.key);
    wanted.iter().any(|w| w.access != Access::Read && waited(w))
}

#[cfg(test)]
mod tests {
    use crate::Engine;
    use crate::commands::console::Console;

    #[test]
    fn a_prefetch_changes_nothing_and_waits_for_no_shard() {
        let mut c = Console::new();
        let words: Vec<String> = (0..100).map(|n| format!("key:{n}")).collect();
        words.iter().step_by(2).for_each(|key| assert_eq!(c.run(&format!("SET {key} v")), "+OK"));
        let engine: &Engine = &c.engine;
        let resolve = |name: &'static str| {
            words
                .iter()
                .map(move |key| engine.resolve(&[name.as_bytes(), key.as_bytes()]).expect("a command"))
        };
        let (gets, sets): (Vec<_>, Vec<_>) = (resolve("GET").collect(), resolve("set").collect());
        let busy = engine.inner.shards[0].lock();
        for db in [0, 3, u32::MAX] {
            // All of them, of which some are in the shard that is held, and two of one shard.
            engine.prefetch_resolved(db, gets.iter());
            sets.chunks(5).for_each(|some| engine.prefetch_resolved(db, some.iter()));
        }
        drop(busy);
        // Whatever was locked is free again.
        assert!(engine.inner.shards.iter().all(|shard| shard.try_lock().is_some()));
        assert_eq!((engine.db_sizes()[0].0, engine.shard_stats().hits), (50, 0));
    }

    #[test]
    fn a_hash_that_goes_with_a_command_is_used_for_the_key_it_is_of_alone() {
        let mut c = Console::new();
        c.run("SET a 1");
        c.run("SET b 2");
        let (a, b): (&[u8], &[u8]) = (b"a", b"b");
        let resolved = c.engine.resolve(&[b"GET", a]).expect("a command");
        let mut out = Vec::new();
        let request = crate::engine::Request { args: &[b"GET", b], raw: None };
        c.engine.call_resolved(&mut c.session, resolved, request, &mut out);
        assert_eq!(out, b"$1\r\n2\r\n");
    }
}
