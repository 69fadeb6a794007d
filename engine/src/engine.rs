//! The engine: shards, log, command table, and how a command runs.
//!
//! [`Engine::call`] is the one way in for commands. It takes the locks the command's row asks for (its keys' shards
//! in ascending order, or all), runs it, and appends its effect to the log before it lets go of them; log order is
//! therefore a legal serial order.

use crate::command::{CmdError, Command, Flags, KeySpec, Run, TxOp};
use crate::config::Limits;
use crate::cut::{Cut, CutBusy, CutShared};
use crate::hash::{hash, shard_bits};
use crate::keyspace::{Ctx, Held, Keys, Shard, ShardStats};
use crate::log::Log;
use crate::own_expiry::OwnExpiries;
use crate::resp::Reply;
use crate::session::{MAX_QUEUED, Queued, Session, Transaction, Watch};
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

/// Errors kept for [`Session::exec_errors`].
const MAX_EXEC_ERRORS: usize = 1024;
/// Keys are removed by the active expiry in steps of this many per shard lock.
const EXPIRE_STEP: usize = 64;

#[repr(align(128))]
pub(crate) struct Padded(Mutex<Shard>);

impl Padded {
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shard> {
        self.0.lock()
    }
}

pub(crate) struct Inner {
    pub(crate) shards: Box<[Padded]>,
    mask: usize,
    pub(crate) databases: u32,
    pub(crate) log: Arc<Log>,
    pub(crate) limits: Limits,
    pub(crate) cut: Mutex<Option<Arc<CutShared>>>,
    pub(crate) cut_active: AtomicBool,
    pub(crate) preimage_limit: AtomicUsize,
    pub(crate) watchers: AtomicUsize,
    /// See [`Engine::carry`].
    pub(crate) carried: Mutex<Arc<[u8]>>,
    /// Commands that wait for keys.
    pub(crate) blocked: AtomicUsize,
    pub(crate) replica: AtomicBool,
    /// Expired keys stay, although this is no replica.
    keep_expired: AtomicBool,
    pub(crate) own_expiries: OwnExpiries,
    pub(crate) changes: AtomicU64,
    /// The shard the active expiry begins at: where it ran out of time.
    expire_shard: AtomicUsize,
    commands: Vec<&'static Command>,
    by_name: HashMap<&'static [u8], usize, foldhash::fast::RandomState>,
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

    pub(crate) fn lock_all(&self) -> Vec<MutexGuard<'_, Shard>> {
        self.shards.iter().map(Padded::lock).collect()
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
        let mut by_name: HashMap<&'static [u8], usize, _> = HashMap::default();
        for row in crate::commands::ALL.iter().copied().chain(self.extra).flatten() {
            match by_name.get(row.name.as_bytes()) {
                Some(at) => commands[*at] = row,
                None => {
                    by_name.insert(row.name.as_bytes(), commands.len());
                    commands.push(row);
                }
            }
        }
        let calls = commands.iter().map(|_| CommandStats::default()).collect();
        Engine {
            inner: Arc::new(Inner {
                shards: (0..self.shards).map(|_| Padded(Mutex::new(Shard::new(self.databases)))).collect(),
                mask: self.shards - 1,
                databases: self.databases,
                log: Arc::new(Log::default()),
                limits: Limits::default(),
                cut: Mutex::new(None),
                cut_active: AtomicBool::new(false),
                preimage_limit: AtomicUsize::new(DEFAULT_PREIMAGE_LIMIT),
                watchers: AtomicUsize::new(0),
                carried: Mutex::new(Arc::from([])),
                blocked: AtomicUsize::new(0),
                replica: AtomicBool::new(false),
                keep_expired: AtomicBool::new(false),
                own_expiries: OwnExpiries::default(),
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

/// A command as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The arguments, name first.
    pub args: &'a [&'a [u8]],
    /// The same as a RESP array, where the caller has it at hand: copied into the log as it stands.
    pub raw: Option<&'a [u8]>,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran; the reply is complete.
    Done,
    /// It was refused; the reply is an error.
    Refused,
    /// Nothing happened and nothing was replied: it would add a pre-image to a cut whose queue is full. Call again
    /// when some time has passed.
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

    /// On a replica, expired keys are hidden but stay until the primary deletes them, and what local clients write is
    /// not logged: the log is the primary's.
    pub fn set_replica(&self, replica: bool) {
        self.inner.replica.store(replica, Ordering::Release);
    }

    /// Has expired keys hidden and not deleted, as on a replica, for as long as nothing may change.
    pub fn set_keep_expired(&self, keep: bool) {
        self.inner.keep_expired.store(keep, Ordering::Release);
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

    /// Begins a cut at the log's present end.
    pub fn begin_cut(&self) -> Result<Cut, CutBusy> {
        Cut::begin(&self.inner)
    }

    /// Is a cut in progress?
    pub fn cut_in_progress(&self) -> bool {
        self.inner.cut_active.load(Ordering::Acquire)
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

    /// Sets the shards' counters to zero.
    pub fn reset_shard_stats(&self) {
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
        cx.keys.remove_doomed();
        let (held, fx) = cx.into_parts();
        self.commit(fx, None);
        let ready = std::mem::take(&mut fx.ready);
        if !ready.is_empty() {
            self.serve_ready(held, ready);
        } else {
            drop(held);
        }
        r
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn context<'a>(
        &'a self,
        fx: &'a mut crate::keyspace::Effects,
        held: Held<'a>,
        db: u32,
        from_primary: bool,
        now: i64,
        out: &'a mut Vec<u8>,
        resp3: bool,
    ) -> Ctx<'a> {
        fx.clear();
        let replica = self.inner.replica.load(Ordering::Acquire);
        fx.enabled = !from_primary && !replica && self.inner.log.is_active();
        Ctx {
            keys: Keys {
                inner: &self.inner,
                held,
                fx,
                db,
                now,
                doomed: SmallVec::new(),
                replica,
                keep_expired: replica || self.inner.keep_expired.load(Ordering::Relaxed),
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
    fn relay(&self, s: &mut Session, req: Request<'_>) {
        let Some(raw) = req.raw.filter(|_| s.from_primary) else { return };
        if s.in_multi() {
            s.block.extend_from_slice(raw);
        } else {
            self.inner.log.append_stream(raw, s.db);
        }
    }

    /// Appends the bytes of a MULTI block that has ended.
    fn relay_block(&self, s: &mut Session) {
        let block = std::mem::take(&mut s.block);
        if !block.is_empty() {
            self.inner.log.append_stream(&block, s.db);
        }
    }

    /// Appends bytes of the primary's stream that the engine was not asked to run (see `Session::from_primary`).
    pub fn relay_unknown(&self, s: &mut Session, raw: &[u8]) {
        self.relay(s, Request { args: &[], raw: Some(raw) });
    }

    fn refuse(&self, id: usize, resp3: bool, out: &mut Vec<u8>, e: &CmdError, rejected: bool) -> Outcome {
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
        let result = f(&mut cx, req.args);
        let wrote = row.command.flags.contains(Flags::WRITE) && cx.keys.fx.dirty > 0;
        if cx.keys.replica && !from_primary && wrote {
            self.inner.own_expiries.note(&mut cx, |f| row.command.keys.each(req.args, f), req.args);
        }
        cx.keys.remove_doomed();
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
            s.blocked = Some(self.enqueue(&mut held, wish, db, resp3, req.args));
            return Outcome::Blocked;
        }
        if !fx.ready.is_empty() {
            let ready = std::mem::take(&mut fx.ready);
            self.serve_ready(held, ready);
        } else {
            drop(held);
        }
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
    pub(crate) fn commit(&self, fx: &mut crate::keyspace::Effects, verbatim: Option<(u32, &[u8])>) {
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
    fn commit_apart(&self, fx: &crate::keyspace::Effects) {
        let mut from = 0;
        for (db, end) in &fx.ops {
            self.inner.log.append(*db, &fx.buf[from..*end]);
            from = *end;
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
            _ => Held::Some(indexes.into_iter().map(|i| (i, self.inner.shards[i].lock())).collect()),
        }
    }

    #[cold]
    pub(crate) fn must_stall(&self, held: &mut Held<'_>, db: u32, keys: KeySpec, args: &[&[u8]]) -> bool {
        let full = self.inner.cut.lock().as_ref().is_some_and(|c| c.is_full());
        if !full {
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
    fn hand_over_read_keys(&self, held: &mut Held<'_>, db: u32, command: &Command, args: &[&[u8]]) {
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

    // ---- transactions ----

    fn queue(&self, s: &mut Session, row: Row, req: Request<'_>, out: &mut Vec<u8>) -> Outcome {
        self.relay(s, req);
        let args = req.args;
        if row.command.flags.contains(crate::command::Flags::NO_MULTI) {
            s.break_multi();
            let e = CmdError::text("ERR Command not allowed inside a transaction");
            return self.refuse(row.id, s.resp3, out, &e, true);
        }
        let t = s.transaction.as_mut().expect("the caller checked");
        if t.queued.len() >= MAX_QUEUED {
            t.broken = true;
            let e = CmdError(format!("ERR MULTI queue is full ({MAX_QUEUED} commands)").into());
            return self.refuse(row.id, s.resp3, out, &e, true);
        }
        t.queued.push(Queued {
            id: row.id,
            command: row.command,
            args: args.iter().map(|a| a.to_vec()).collect(),
        });
        out.extend_from_slice(b"+QUEUED\r\n");
        Outcome::Done
    }

    fn run_transaction(
        &self,
        op: TxOp,
        row: Row,
        s: &mut Session,
        req: Request<'_>,
        out: &mut Vec<u8>,
        external: ExternalInExec<'_>,
    ) -> Outcome {
        let refusal = match op {
            TxOp::Multi if s.in_multi() => Some("ERR MULTI calls can not be nested"),
            TxOp::Exec if !s.in_multi() => Some("ERR EXEC without MULTI"),
            TxOp::Discard if !s.in_multi() => Some("ERR DISCARD without MULTI"),
            TxOp::Watch if s.in_multi() => Some("ERR WATCH inside MULTI is not allowed"),
            _ => None,
        };
        if let Some(text) = refusal {
            self.relay(s, req);
            return self.refuse(row.id, s.resp3, out, &CmdError::text(text), false);
        }
        let resp3 = s.resp3;
        match op {
            TxOp::Multi => {
                s.transaction = Some(Transaction::default());
                self.relay(s, req);
            }
            TxOp::Discard => {
                self.relay(s, req);
                s.transaction = None;
                self.relay_block(s);
                self.unwatch(s);
            }
            TxOp::Watch => {
                self.relay(s, req);
                self.watch(s, &req.args[1..]);
            }
            TxOp::Unwatch if s.in_multi() => return self.queue(s, row, req, out),
            TxOp::Unwatch => {
                self.relay(s, req);
                self.unwatch(s);
            }
            TxOp::Exec => return self.exec(s, row, req, out, external),
        }
        self.inner.calls[row.id].calls.fetch_add(1, Ordering::Relaxed);
        Reply::new(out, resp3).ok();
        Outcome::Done
    }

    fn watch(&self, s: &mut Session, keys: &[&[u8]]) {
        let now = if s.now_ms == 0 { now_ms() } else { s.now_ms };
        for key in keys {
            if s.watches.iter().any(|w| w.db == s.db && &*w.key == *key) {
                continue;
            }
            let h = hash(key);
            let mut shard = self.inner.shards[self.inner.shard_of(h)].lock();
            let was_due = shard.dbs[s.db as usize]
                .get_hashed(h, key)
                .and_then(|e| e.expire())
                .is_some_and(|at| at <= now);
            shard.watched.entry((s.db, (*key).into())).or_default().push(s.touched.clone());
            self.inner.watchers.fetch_add(1, Ordering::Relaxed);
            s.watches.push(Watch { db: s.db, key: (*key).into(), was_due });
        }
    }

    fn unwatch(&self, s: &mut Session) {
        for w in s.watches.drain(..) {
            let mut shard = self.inner.shards[self.inner.shard_of(hash(&w.key))].lock();
            let id = (w.db, w.key);
            if let Some(list) = shard.watched.get_mut(&id) {
                list.retain(|f| !Arc::ptr_eq(f, &s.touched));
                if list.is_empty() {
                    shard.watched.remove(&id);
                }
            }
            self.inner.watchers.fetch_sub(1, Ordering::Relaxed);
        }
        s.touched.store(false, Ordering::Release);
    }

    /// Ends a session: its watches go. Call it before dropping a session that may watch keys.
    pub fn end_session(&self, s: &mut Session) {
        s.transaction = None;
        self.unwatch(s);
    }

    fn exec(
        &self,
        s: &mut Session,
        row: Row,
        req: Request<'_>,
        out: &mut Vec<u8>,
        external: ExternalInExec<'_>,
    ) -> Outcome {
        let t = s.transaction.take().expect("the caller checked");
        if t.broken {
            if let Some(raw) = req.raw.filter(|_| s.from_primary) {
                s.block.extend_from_slice(raw);
                self.relay_block(s);
            }
            self.unwatch(s);
            let e = CmdError::text("EXECABORT Transaction discarded because of previous errors.");
            return self.refuse(row.id, s.resp3, out, &e, false);
        }
        let mut indexes: SmallVec<[usize; 8]> = SmallVec::new();
        let mut all = false;
        for q in &t.queued {
            let args: SmallVec<[&[u8]; 8]> = q.args.iter().map(Vec::as_slice).collect();
            match q.command.run {
                Run::All(_) | Run::External => all = true,
                _ => q.command.keys.each(&args, |at| indexes.push(self.inner.shard_of(hash(args[at])))),
            }
        }
        for w in &s.watches {
            indexes.push(self.inner.shard_of(hash(&w.key)));
        }
        let mut held = if all { Held::All(self.inner.lock_all()) } else { self.lock_indexes(indexes) };
        if !all && self.each_queued(&t, s.db, |_, q, args| self.wakes(&held, q.command, args)) {
            drop(held);
            held = Held::All(self.inner.lock_all());
        }
        if self.inner.cut_active.load(Ordering::Relaxed) {
            if self.each_queued(&t, s.db, |db, q, args| self.must_stall(&mut held, db, q.command.keys, args))
            {
                drop(held);
                s.transaction = Some(t);
                return Outcome::Stalled;
            }
            self.each_queued(&t, s.db, |db, q, args| {
                self.hand_over_read_keys(&mut held, db, q.command, args);
                false
            });
        }
        let now = if s.now_ms == 0 { now_ms() } else { s.now_ms };
        let mut fx = std::mem::take(&mut s.fx);
        let (mut db, resp3, from_primary) = (s.db, s.resp3, s.from_primary);
        let mut cx = self.context(&mut fx, held, db, from_primary, now, out, resp3);
        let due = s.watches.iter().any(|w| !w.was_due && cx.keys.is_due_key(w.db, &w.key));
        if s.was_touched() || due {
            cx.out.null_array();
        } else {
            cx.out.array(t.queued.len());
            for q in &t.queued {
                let args: SmallVec<[&[u8]; 8]> = q.args.iter().map(Vec::as_slice).collect();
                self.exec_one(s, Row { id: q.id, command: q.command }, &args, &mut cx, external);
                db = s.db;
                cx.keys.db = db;
            }
        }
        cx.keys.remove_doomed();
        let (held, effects) = cx.into_parts();
        if from_primary {
            if let Some(raw) = req.raw {
                s.block.extend_from_slice(raw);
                self.relay_block(s);
            }
        } else {
            self.commit(effects, None);
        }
        let ready = std::mem::take(&mut effects.ready);
        if !ready.is_empty() {
            self.serve_ready(held, ready);
        } else {
            drop(held);
        }
        s.fx = fx;
        self.unwatch(s);
        self.inner.calls[row.id].calls.fetch_add(1, Ordering::Relaxed);
        Outcome::Done
    }

    /// Calls `f` with the queued commands and the databases they will run in, until it returns true.
    fn each_queued(
        &self,
        t: &Transaction,
        mut db: u32,
        mut f: impl FnMut(u32, &Queued, &[&[u8]]) -> bool,
    ) -> bool {
        t.queued.iter().any(|q| {
            let args: SmallVec<[&[u8]; 8]> = q.args.iter().map(Vec::as_slice).collect();
            if q.command.name == "select" {
                let wanted = crate::num::parse_i64(args[1]).and_then(|n| u32::try_from(n).ok());
                db = wanted.filter(|n| *n < self.inner.databases).unwrap_or(db);
            }
            f(db, q, &args)
        })
    }

    fn exec_one(
        &self,
        s: &mut Session,
        row: Row,
        args: &[&[u8]],
        cx: &mut Ctx<'_>,
        external: ExternalInExec<'_>,
    ) {
        let start = cx.out.raw().len();
        let db = cx.keys.db;
        cx.keys.fx.dirty = 0;
        cx.keys.fx.replaced = false;
        let result = match row.command.run {
            Run::Keys(f) | Run::All(f) => f(cx, args),
            Run::Session(f) => f(s, args, &mut cx.out),
            Run::External => {
                external(row, args, cx);
                Ok(())
            }
            // UNWATCH inside MULTI does nothing: EXEC unwatches anyway.
            Run::Transaction(_) => {
                cx.out.ok();
                Ok(())
            }
        };
        let wrote = row.command.flags.contains(Flags::WRITE) && cx.keys.fx.dirty > 0;
        if cx.keys.replica && !s.from_primary && wrote {
            self.inner.own_expiries.note(cx, |f| row.command.keys.each(args, f), args);
        }
        if cx.keys.fx.dirty > 0 {
            self.inner.changes.fetch_add(cx.keys.fx.dirty, Ordering::Relaxed);
            if !cx.keys.fx.replaced {
                cx.keys.fx.push(db, args);
            }
        }
        let stats = &self.inner.calls[row.id];
        stats.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(e) = result {
            stats.failed.fetch_add(1, Ordering::Relaxed);
            cx.out.raw().truncate(start);
            cx.out.error(&e.0);
            if !s.from_primary && s.exec_errors.len() < MAX_EXEC_ERRORS {
                s.exec_errors.push(e);
            }
        }
    }

    // ---- time ----

    /// Removes expired keys for at most `budget`; returns how many. Call it regularly on a primary.
    pub fn expire_cycle(&self, budget: Duration) -> usize {
        if self.inner.replica.load(Ordering::Acquire) {
            return 0;
        }
        let started = std::time::Instant::now();
        let mut removed = 0;
        let (count, first) = (self.inner.shards.len(), self.inner.expire_shard.load(Ordering::Relaxed));
        for index in (first..first + count).map(|i| i % count) {
            let padded = &self.inner.shards[index];
            // The next call goes on here, so that one shard with much to do does not keep the others from their turn.
            self.inner.expire_shard.store(index, Ordering::Relaxed);
            // Expired keys a cut still needs would become pre-images: while its queue is full they can wait.
            let full = || self.inner.cut.lock().as_ref().is_some_and(|c| c.is_full());
            if started.elapsed() >= budget || (self.cut_in_progress() && full()) {
                break;
            }
            let mut empty_dbs = 0;
            // A whole turn over the shard's databases, or until the time is up; the lock is taken per segment.
            while started.elapsed() < budget && empty_dbs < self.inner.databases as usize {
                let mut shard = padded.lock();
                let shard = &mut *shard;
                let (db, position) = shard.expire_cursor;
                if shard.dbs[db].with_ttl() == 0 {
                    shard.expire_cursor = ((db + 1) % self.inner.databases as usize, 0);
                    empty_dbs += 1;
                    continue;
                }
                let log = self.inner.log.is_active().then_some(&self.inner.log);
                let now = now_ms();
                let (watched, mut buf) = (&shard.watched, Vec::new());
                let (next, n) = shard.dbs[db].expire_segment(position, now, EXPIRE_STEP, |key| {
                    if log.is_some() {
                        crate::log::encode_command(&mut buf, &[b"DEL", key]);
                    }
                    if let Some(list) = watched.get(&(db as u32, key.into())) {
                        list.iter().for_each(|f| f.store(true, Ordering::Release));
                    }
                });
                if let (Some(log), false) = (log, buf.is_empty()) {
                    log.append(db as u32, &buf);
                }
                shard.stats.expired += n as u64;
                removed += n;
                shard.expire_cursor = if next == 0 {
                    empty_dbs += 1;
                    ((db + 1) % self.inner.databases as usize, 0)
                } else {
                    (db, next)
                };
            }
        }
        removed
    }
}

/// Commands that run at once even inside MULTI.
fn is_immediate(name: &str) -> bool {
    matches!(name, "quit" | "reset")
}
