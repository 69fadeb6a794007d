//! The engine: shards, log, command table, and how a command runs.
//!
//! [`Engine::call`] is the one way in for commands. It takes the locks the command's row asks for (its keys' shards
//! in ascending order, or all), runs it, and appends its effect to the log before it lets go of them; log order is
//! therefore a legal serial order.

use crate::command::{CmdError, Command, Flags, KeySpec, Run};
use crate::config::Limits;
use crate::cut::{Cut, CutBusy, CutShared, QueueLevel};
use crate::expiry::own::{Expiries, OwnExpiries};
use crate::hash::{hash, shard_bits};
use crate::keyspace::events::Listening;
use crate::keyspace::{Ctx, Effects, Held, Keys, Shard, ShardStats};
use crate::log::{Log, LogReader};
use crate::resp::Reply;
use crate::role::RoleCell;
use crate::session::Session;
use crate::table::Table;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Most shards: the hash gives them 8 bits.
pub const MAX_SHARDS: usize = 256;
/// Default of `cut-preimage-limit`, in bytes.
pub const DEFAULT_PREIMAGE_LIMIT: usize = 64 << 20;
/// Most databases.
pub const MAX_DATABASES: u32 = 1 << 10;

#[repr(align(128))]
pub(crate) struct Padded(Mutex<Shard>);

impl Padded {
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shard> {
        self.0.lock()
    }

    /// `None` where it is not to be had within moments.
    #[inline]
    pub(crate) fn lock_soon(&self) -> Option<MutexGuard<'_, Shard>> {
        self.0.try_lock().or_else(|| self.lock_within(crate::locks::BRIEF))
    }

    #[cold]
    pub(crate) fn lock_within(&self, time: Duration) -> Option<MutexGuard<'_, Shard>> {
        self.0.try_lock_for(time)
    }
}

/// Where in the command table a name is.
type ByName = HashMap<&'static [u8], usize, foldhash::fast::RandomState>;

pub(crate) struct Inner {
    pub(crate) shards: Box<[Padded]>,
    mask: usize,
    pub(crate) databases: u32,
    pub(crate) log: Arc<Log>,
    pub(crate) limits: Limits,
    pub(crate) cut: Mutex<Option<Arc<CutShared>>>,
    pub(crate) cut_active: AtomicBool,
    /// For cuts begun from now on.
    pub(crate) preimage_limit: AtomicUsize,
    pub(crate) queue_level: Arc<QueueLevel>,
    pub(crate) watchers: AtomicUsize,
    /// See [`Engine::carry`].
    pub(crate) carried: Mutex<Arc<[u8]>>,
    /// Commands that wait for keys.
    pub(crate) blocked: AtomicUsize,
    pub(crate) role: RoleCell,
    pub(crate) own_expiries: OwnExpiries,
    pub(crate) listening: Listening,
    pub(crate) changes: AtomicU64,
    /// The shard the active expiry begins at: where it ran out of time.
    pub(crate) expire_shard: AtomicUsize,
    commands: Vec<&'static Command>,
    by_name: ByName,
    calls: Vec<CommandStats>,
}

/// Counters of one command.
#[derive(Default, Debug)]
pub struct CommandStats {
    /// Times it ran.
    pub calls: AtomicU64,
    /// Time it took in all, in nanoseconds (the embedder adds to it).
    pub nanos: AtomicU64,
    /// Times it was refused before it ran.
    pub rejected: AtomicU64,
    /// Times it ran and replied an error.
    pub failed: AtomicU64,
}

impl Inner {
    #[inline]
    pub(crate) fn shard_of(&self, hash: u64) -> usize {
        shard_bits(hash) & self.mask
    }
}

/// The data store. Clones share it.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("shards", &self.inner.shards.len())
            .field("log", &self.inner.log)
            .finish()
    }
}

impl Default for Engine {
    fn default() -> Engine {
        Engine::builder().build()
    }
}

/// Settings of an engine that cannot change later.
#[derive(Debug)]
pub struct EngineBuilder {
    shards: usize,
    databases: u32,
    extra: Vec<&'static [Command]>,
}

impl EngineBuilder {
    /// Number of shards; rounded up to a power of two, at most [`MAX_SHARDS`]. Default 32.
    pub fn shards(mut self, n: usize) -> Self {
        self.shards = n.clamp(1, MAX_SHARDS).next_power_of_two();
        self
    }

    /// Number of databases, at most [`MAX_DATABASES`]. Default 16.
    pub fn databases(mut self, n: u32) -> Self {
        self.databases = n.clamp(1, MAX_DATABASES);
        self
    }

    /// Registers more commands. A row replaces a built-in one of the same name.
    pub fn commands(mut self, rows: &'static [Command]) -> Self {
        self.extra.push(rows);
        self
    }

    /// Makes the engine.
    pub fn build(self) -> Engine {
        let mut commands: Vec<&'static Command> = Vec::new();
        let mut by_name = ByName::default();
        for row in crate::commands::ALL.iter().copied().chain(self.extra).flatten() {
            match by_name.get(row.name.as_bytes()) {
                Some(at) => commands[*at] = row,
                None => {
                    by_name.insert(row.name.as_bytes(), commands.len());
                    commands.push(row);
                }
            }
        }
        Engine::empty(self.shards, self.databases, commands, by_name)
    }
}

impl Engine {
    fn empty(shards: usize, databases: u32, commands: Vec<&'static Command>, by_name: ByName) -> Engine {
        let calls = commands.iter().map(|_| CommandStats::default()).collect();
        Engine {
            inner: Arc::new(Inner {
                shards: (0..shards).map(|_| Padded(Mutex::new(Shard::new(databases)))).collect(),
                mask: shards - 1,
                databases,
                log: Arc::new(Log::default()),
                limits: Limits::default(),
                cut: Mutex::new(None),
                cut_active: AtomicBool::new(false),
                preimage_limit: AtomicUsize::new(DEFAULT_PREIMAGE_LIMIT),
                queue_level: Arc::default(),
                watchers: AtomicUsize::new(0),
                carried: Mutex::new(Arc::from([])),
                blocked: AtomicUsize::new(0),
                role: RoleCell::default(),
                own_expiries: OwnExpiries::default(),
                listening: Listening::default(),
                changes: AtomicU64::new(0),
                expire_shard: AtomicUsize::new(0),
                commands,
                by_name,
                calls,
            }),
        }
    }
}

/// A command of an engine's table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Index in the table.
    pub id: usize,
    /// The row.
    pub command: &'static Command,
}

/// A command as it came. No argument may be longer than [`MAX_STRING_LEN`](crate::entry::MAX_STRING_LEN): who parses requests with that
/// limit sees to it, for others an entry that is made of a longer one panics.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The arguments, name first.
    pub args: &'a [&'a [u8]],
    /// The same as [`encode_command`](crate::log::encode_command) writes it, where the caller has it at hand
    /// ([`Parsed::Command`](crate::resp::Parsed::Command) says whether it has): copied into the log as it stands, and
    /// trusted by every file and replica behind it.
    pub raw: Option<&'a [u8]>,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran; the reply is complete.
    Done,
    /// It was refused; the reply is an error.
    Refused,
    /// Nothing happened and nothing was replied: it would add a pre-image to a cut whose queue is full, or writes are
    /// held ([`Engine::hold_writes`]). Call again when some time has passed.
    Stalled,
    /// Nothing happened: the command is the embedder's to run.
    External,
    /// The command waits for a key: see [`Session::blocked`].
    Blocked,
}

/// Runs the embedder's commands inside EXEC, where the shards are locked: it must not call the engine.
pub type ExternalInExec<'a> = &'a mut dyn FnMut(Row, &[&[u8]], &mut Ctx<'_>);

/// The current Unix time in milliseconds.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}

impl Engine {
    /// Settings to begin with.
    pub fn builder() -> EngineBuilder {
        EngineBuilder { shards: 32, databases: 16, extra: Vec::new() }
    }

    /// An empty engine of this one's shape, commands and thresholds: to be loaded beside it, and then
    /// [adopted](Engine::adopt).
    pub fn beside(&self) -> Engine {
        let inner = &self.inner;
        let (commands, by_name) = (inner.commands.clone(), inner.by_name.clone());
        let engine = Engine::empty(inner.shards.len(), inner.databases, commands, by_name);
        engine.limits().copy_from(self.limits());
        engine
    }

    /// Keeps bytes that came with the keys and mean nothing here, in place of those kept before: whoever writes a
    /// snapshot writes them too, so that nothing is lost on the way (function libraries, data of modules).
    pub fn carry(&self, bytes: impl Into<Arc<[u8]>>) {
        *self.inner.carried.lock() = bytes.into();
    }

    /// The bytes kept by [`Engine::carry`].
    pub fn carried(&self) -> Arc<[u8]> {
        self.inner.carried.lock().clone()
    }

    /// A new session in database 0.
    pub fn session(&self) -> Session {
        Session::new(self.inner.databases)
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.inner.log
    }

    /// Thresholds of the encodings.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.inner.databases
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.inner.shards.len()
    }

    /// Bytes of pre-images that may wait for a cut's consumer before writes that would add one are stalled.
    /// Applies to cuts begun later.
    pub fn set_preimage_limit(&self, bytes: usize) {
        self.inner.preimage_limit.store(bytes, Ordering::Relaxed);
    }

    /// Write commands that changed something since the start (`rdb_changes_since_last_save` is a difference).
    pub fn changes(&self) -> u64 {
        self.inner.changes.load(Ordering::Relaxed)
    }

    /// The command table.
    pub fn commands(&self) -> impl Iterator<Item = Row> + '_ {
        self.inner.commands.iter().enumerate().map(|(id, command)| Row { id, command })
    }

    /// Counters of a command.
    pub fn command_stats(&self, id: usize) -> &CommandStats {
        &self.inner.calls[id]
    }

    /// Finds a command by name, in any case.
    #[inline]
    pub fn lookup(&self, name: &[u8]) -> Option<Row> {
        let mut lower = [0u8; 32];
        let n = name.len();
        if n > lower.len() {
            return None;
        }
        for (to, c) in lower.iter_mut().zip(name) {
            *to = c.to_ascii_lowercase();
        }
        let id = *self.inner.by_name.get(&lower[..n])?;
        Some(Row { id, command: self.inner.commands[id] })
    }

    /// Starts fetching what commands on these keys of a database will touch first, so that their cache misses overlap: for
    /// callers that have several commands at hand. It changes nothing.
    pub fn prefetch(&self, db: u32, keys: &[&[u8]]) {
        if db >= self.inner.databases {
            return;
        }
        let hashes: SmallVec<[u64; 32]> = keys.iter().map(|key| hash(key)).collect();
        for step in [Table::prefetch, Table::prefetch_slots, Table::prefetch_entry] {
            for h in &hashes {
                step(&self.inner.shards[self.inner.shard_of(*h)].lock().dbs[db as usize], *h);
            }
        }
    }

    /// Begins a cut at the log's present end.
    pub fn begin_cut(&self) -> Result<Cut, CutBusy> {
        Cut::begin(&self.inner)
    }

    /// The same with a cursor of the log from there on. The log is active from that moment at the latest, and nothing is
    /// missing in it: no command is under way then.
    pub fn begin_cut_with_log(&self) -> Result<(Cut, LogReader), CutBusy> {
        Cut::begin_with_log(&self.inner)
    }

    /// A cursor of the log from a moment at which no command is under way, without the state at that moment: the log is
    /// active from then on at the latest.
    pub fn follow_log(&self) -> LogReader {
        let shards = self.inner.lock_all();
        if !self.inner.role.get().is_replica() {
            self.inner.log.forget_selection();
        }
        let reader = self.inner.log.follow();
        drop(shards);
        reader
    }

    /// Is a cut in progress?
    pub fn cut_in_progress(&self) -> bool {
        self.inner.cut_active.load(Ordering::Acquire)
    }

    /// Keys and elements removed: `(that wait to be freed, that were freed in the background since the start)`, of all
    /// engines of the process.
    pub fn lazy_freed(&self) -> (u64, u64) {
        crate::lazy_free::counts()
    }

    /// Counters of all shards together.
    pub fn shard_stats(&self) -> ShardStats {
        let mut sum = ShardStats::default();
        for s in &self.inner.shards {
            let s = s.lock().stats;
            sum.hits += s.hits;
            sum.misses += s.misses;
            sum.expired += s.expired;
        }
        sum
    }

    /// Sets the shards' counters to zero, and that of objects freed in the background.
    pub fn reset_shard_stats(&self) {
        crate::lazy_free::reset();
        for s in &self.inner.shards {
            s.lock().stats = ShardStats::default();
        }
    }

    /// `(keys, keys with expiry)` of every database.
    pub fn db_sizes(&self) -> Vec<(u64, u64)> {
        let mut sizes = vec![(0, 0); self.inner.databases as usize];
        for s in &self.inner.shards {
            for (db, t) in s.lock().dbs.iter().enumerate() {
                sizes[db].0 += t.len() as u64;
                sizes[db].1 += t.with_ttl() as u64;
            }
        }
        sizes
    }

    /// Runs `f` with every shard locked, in database `db`; effects `f` propagates are logged.
    pub fn exclusive<R>(&self, db: u32, out: &mut Vec<u8>, f: impl FnOnce(&mut Ctx<'_>) -> R) -> R {
        let mut s = self.session();
        s.db = db;
        let held = Held::All(self.inner.lock_all());
        let mut cx = self.context(&mut s.fx, held, db, false, now_ms(), out, false);
        let r = f(&mut cx);
        let (held, fx) = cx.into_parts();
        self.commit(fx, None);
        self.unlock(held, fx);
        r
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn context<'a>(
        &'a self,
        fx: &'a mut Effects,
        held: Held<'a>,
        db: u32,
        from_primary: bool,
        now: i64,
        out: &'a mut Vec<u8>,
        resp3: bool,
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
            },
            out: Reply::new(out, resp3),
        }
    }

    /// Runs one command for a session, appending its reply to `out`. `external` runs registered commands inside
    /// EXEC; outside of it they come back as [`Outcome::External`].
    pub fn call(
        &self,
        s: &mut Session,
        row: Row,
        req: Request<'_>,
        out: &mut Vec<u8>,
        external: ExternalInExec<'_>,
    ) -> Outcome {
        debug_assert!(req.raw.is_none_or(|raw| is_encoded(raw, req.args)), "raw bytes are not the arguments");
        let command = row.command;
        if !command.arity_ok(req.args.len()) {
            s.break_multi();
            self.relay(s, req);
            return self.refuse(row.id, s.resp3, out, &CmdError::arity(command.name), true);
        }
        if s.transaction.is_some()
            && !matches!(command.run, Run::Transaction(_))
            && !is_immediate(command.name)
        {
            return self.queue(s, row, req, out);
        }
        match command.run {
            Run::External => return Outcome::External,
            Run::Session(f) => {
                let resp3 = s.resp3;
                let start = out.len();
                let result = f(s, req.args, &mut Reply::new(out, resp3));
                // After it ran: the stream's bytes go with the database they leave selected.
                self.relay(s, req);
                if let Err(e) = result {
                    out.truncate(start);
                    return self.refuse(row.id, resp3, out, &e, false);
                }
            }
            Run::Transaction(op) => return self.run_transaction(op, row, s, req, out, external),
            Run::Keys(_) | Run::All(_) => return self.run(s, row, req, out),
        }
        self.inner.calls[row.id].calls.fetch_add(1, Ordering::Relaxed);
        Outcome::Done
    }

    /// On a replica, the primary's stream is the log: what changes nothing is appended as it came. Inside MULTI it
    /// waits for EXEC, so that no cut begins in the middle of a block.
    pub(crate) fn relay(&self, s: &mut Session, req: Request<'_>) {
        let Some(raw) = req.raw.filter(|_| s.from_primary) else { return };
        if s.in_multi() {
            s.block.extend_from_slice(raw);
        } else {
            self.inner.log.append_stream(raw, s.db);
        }
    }

    /// Appends bytes of the primary's stream that the engine was not asked to run (see `Session::from_primary`).
    pub fn relay_unknown(&self, s: &mut Session, raw: &[u8]) {
        self.relay(s, Request { args: &[], raw: Some(raw) });
    }

    pub(crate) fn refuse(
        &self,
        id: usize,
        resp3: bool,
        out: &mut Vec<u8>,
        e: &CmdError,
        rejected: bool,
    ) -> Outcome {
        let stats = &self.inner.calls[id];
        if rejected { &stats.rejected } else { &stats.failed }.fetch_add(1, Ordering::Relaxed);
        if !rejected {
            stats.calls.fetch_add(1, Ordering::Relaxed);
        }
        Reply::new(out, resp3).error(&e.0);
        Outcome::Refused
    }

    #[inline]
    fn run(&self, s: &mut Session, row: Row, req: Request<'_>, out: &mut Vec<u8>) -> Outcome {
        let (f, held) = match row.command.run {
            Run::Keys(f) => (f, self.lock_keys(row.command.keys, req.args)),
            Run::All(f) => (f, Held::All(self.inner.lock_all())),
            _ => unreachable!("call() sends only these here"),
        };
        let mut held = held;
        // Whoever let it through may have looked before the role changed; from here on it cannot.
        if self.inner.role.get().refuses_writes()
            && row.command.flags.contains(Flags::WRITE)
            && !s.from_primary
        {
            return self.refuse(row.id, s.resp3, out, &CmdError::READ_ONLY_REPLICA, true);
        }
        if self.inner.role.get().holds_writes()
            && row.command.flags.intersects(Flags::LOGGED)
            && !s.from_primary
        {
            return Outcome::Stalled;
        }
        if self.wakes(&held, row.command, req.args) {
            drop(held);
            held = Held::All(self.inner.lock_all());
        }
        if self.inner.cut_active.load(Ordering::Relaxed)
            && row.command.flags.contains(Flags::WRITE)
            && self.must_stall(&mut held, s.db, row.command.keys, req.args)
        {
            return Outcome::Stalled;
        }
        if self.inner.cut_active.load(Ordering::Relaxed) {
            self.hand_over_read_keys(&mut held, s.db, row.command, req.args);
        }
        let now = if s.now_ms == 0 { now_ms() } else { s.now_ms };
        let start = out.len();
        let (db, resp3, from_primary) = (s.db, s.resp3, s.from_primary);
        let may_block = s.may_block && !from_primary;
        let mut cx = self.context(&mut s.fx, held, db, from_primary, now, out, resp3);
        cx.keys.may_block = may_block;
        let before = Expiries::before(&mut cx, row.command, req.args, from_primary);
        let result = f(&mut cx, req.args);
        if let Some(before) = before.filter(|_| cx.keys.fx.dirty > 0) {
            self.inner.own_expiries.note(&mut cx, row.command, req.args, &before);
        }
        if !cx.keys.fx.replaced && cx.keys.fx.dirty > 0 && cx.keys.fx.enabled {
            if cx.keys.fx.ops.is_empty() && req.raw.is_some() {
                // The common case: one effect, appended as it came.
            } else {
                match req.raw {
                    Some(raw) => cx.keys.fx.push_encoded(db, raw),
                    None => cx.keys.fx.push(db, req.args),
                }
            }
        }
        let (mut held, fx) = cx.into_parts();
        let verbatim = !fx.replaced && fx.dirty > 0 && fx.enabled && fx.ops.is_empty();
        if from_primary {
            // The primary's own bytes are the effect, so that offsets stay equal.
            if let Some(raw) = req.raw {
                self.inner.log.append_stream(raw, db);
            }
        } else if fx.ops.len() > 1 && row.command.flags.contains(Flags::ARBITRARY_KEYS) {
            self.commit_apart(fx);
        } else {
            self.commit(fx, if verbatim { req.raw.map(|raw| (db, raw)) } else { None });
        }
        if fx.dirty > 0 {
            self.inner.changes.fetch_add(fx.dirty, Ordering::Relaxed);
        }
        if let Some(wish) = fx.wish.take() {
            self.announce(fx);
            s.blocked = Some(self.enqueue(&mut held, wish, db, resp3, req.args));
            return Outcome::Blocked;
        }
        self.unlock(held, fx);
        match result {
            Ok(()) => {
                self.inner.calls[row.id].calls.fetch_add(1, Ordering::Relaxed);
                Outcome::Done
            }
            Err(e) => {
                out.truncate(start);
                self.refuse(row.id, resp3, out, &e, false)
            }
        }
    }

    /// Appends effects to the log; the shards are still locked.
    pub(crate) fn commit(&self, fx: &mut Effects, verbatim: Option<(u32, &[u8])>) {
        if !fx.enabled {
            return;
        }
        if let Some((db, raw)) = verbatim {
            return self.inner.log.append(db, raw);
        }
        match fx.ops.len() {
            0 => {}
            1 => self.inner.log.append(fx.ops[0].0, &fx.buf),
            _ => {
                let mut from = 0;
                self.inner.log.append_transaction(fx.ops.iter().map(|(db, end)| {
                    let range = from..*end;
                    from = *end;
                    (*db, &fx.buf[range])
                }));
            }
        }
    }

    /// Appends effects that have nothing to do with each other.
    fn commit_apart(&self, fx: &Effects) {
        let mut from = 0;
        for (db, end) in &fx.ops {
            self.inner.log.append(*db, &fx.buf[from..*end]);
            from = *end;
        }
    }

    /// Lets go of the shards; commands that waited for what changed are served before.
    #[inline]
    pub(crate) fn unlock(&self, held: Held<'_>, fx: &mut Effects) {
        self.announce(fx);
        if !fx.ready.is_empty() {
            self.serve_ready(held, std::mem::take(&mut fx.ready));
        }
    }

    fn lock_keys(&self, keys: KeySpec, args: &[&[u8]]) -> Held<'_> {
        if let KeySpec::Range { first, last, .. } = keys
            && last == first as i32
        {
            let i = self.inner.shard_of(hash(args[first]));
            return Held::One(i, self.inner.shards[i].lock());
        }
        let mut indexes: SmallVec<[usize; 8]> = SmallVec::new();
        keys.each(args, |at| indexes.push(self.inner.shard_of(hash(args[at]))));
        self.lock_indexes(indexes)
    }

    pub(crate) fn lock_indexes(&self, mut indexes: SmallVec<[usize; 8]>) -> Held<'_> {
        indexes.sort_unstable();
        indexes.dedup();
        match indexes.len() {
            0 => Held::None,
            1 => Held::One(indexes[0], self.inner.shards[indexes[0]].lock()),
            n if n == self.inner.shards.len() => Held::All(self.inner.lock_all()),
            _ => Held::Some(self.inner.lock_some(&indexes)),
        }
    }

    /// Would this write add a pre-image to a queue that is full?
    #[cold]
    pub(crate) fn must_stall(&self, held: &mut Held<'_>, db: u32, keys: KeySpec, args: &[&[u8]]) -> bool {
        if !self.inner.queue_level.is_full() {
            return false;
        }
        let mut stall = false;
        keys.each(args, |at| {
            let h = hash(args[at]);
            let index = self.inner.shard_of(h);
            stall |= held.unvisited(index, db, h, args[at]);
        });
        stall
    }

    /// A write that reads one key to change another (COPY, SUNIONSTORE) needs both to be delivered before its effect
    /// where cut and log share a stream. What it changes is handed over when it changes; here the rest follows.
    pub(crate) fn hand_over_read_keys(
        &self,
        held: &mut Held<'_>,
        db: u32,
        command: &Command,
        args: &[&[u8]],
    ) {
        const CHANGE_EVERY_KEY: [&str; 6] = ["del", "unlink", "mset", "msetnx", "rename", "renamenx"];
        if !command.flags.contains(Flags::WRITE)
            || matches!(command.keys, KeySpec::None | KeySpec::Range { first: 1, last: 1, .. })
            || CHANGE_EVERY_KEY.contains(&command.name)
        {
            return;
        }
        command.keys.each(args, |at| {
            let h = hash(args[at]);
            held.hand_over(self.inner.shard_of(h), db, h, args[at]);
        });
    }
}

/// Commands that run at once even inside MULTI.
fn is_immediate(name: &str) -> bool {
    matches!(name, "quit" | "reset")
}

/// Are these bytes what the log would write?
fn is_encoded(raw: &[u8], args: &[&[u8]]) -> bool {
    let mut encoded = Vec::with_capacity(raw.len());
    crate::log::encode_command(&mut encoded, args);
    encoded == raw
}
