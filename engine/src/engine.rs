//! The engine: shards, log, command table, and how a command runs.
//!
//! [`Engine::call`] is the one way in for commands. It takes the locks the command's row asks for (its keys' shards
//! in ascending order, or all), runs it, and appends its effect to the log before it lets go of them; log order is
//! therefore a legal serial order. The steps are those of [`crate::execute`].

use crate::clock::Clock;
use crate::command::{CmdError, CmdResult, Command, Flags, KeyFn, KeySpec, Run, TxOp};
use crate::config::Limits;
use crate::cut::{Cut, CutBusy, CutShared, QueueLevel};
use crate::execute::{Access, Appended, Resolved, Wanted};
use crate::expiry::own::OwnExpiries;
use crate::hash::{hash, shard_bits};
use crate::keyspace::events::Listening;
use crate::keyspace::{Ctx, Effects, Hashed, Held, Shard, ShardStats};
use crate::log::{Log, LogReader};
use crate::names::ShortNames;
use crate::resp::Reply;
use crate::role::{Forbidden, RoleCell};
use crate::session::Session;
use crate::table::Table;
use crate::transaction::Caller;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Most shards: the hash gives them 8 bits.
pub const MAX_SHARDS: usize = 256;
/// Default of `cut-preimage-limit`, in bytes.
pub(crate) const DEFAULT_PREIMAGE_LIMIT: usize = 64 << 20;
/// Most databases.
pub const MAX_DATABASES: u32 = 1 << 10;

#[repr(align(128))]
pub(crate) struct Padded(Mutex<Shard>);

impl Padded {
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shard> {
        self.0.lock()
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Shard>> {
        self.0.try_lock()
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
type ByName = HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>;

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
    /// The same as far as they are short, to be found at once.
    short_names: ShortNames,
    /// By index: can it be called at all?
    callable: Vec<bool>,
    calls: Vec<CommandStats>,
    /// See [`EngineBuilder::host`].
    pub(crate) host: Option<Host>,
    clock: Clock,
}

/// The embedder's own, for its rows to reach.
pub(crate) type Host = Arc<dyn Any + Send + Sync>;

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

/// The data store. Clones share it, and any thread may use any of them.
///
/// ```
/// use sluice_engine::Engine;
///
/// let engine = Engine::default(); // or `Engine::builder()`
/// let threads: Vec<_> = (0..4)
///     .map(|_| {
///         let engine = engine.clone();
///         std::thread::spawn(move || (0..100).try_for_each(|_| engine.db(0).incr_by("visits", 1).map(|_| ())))
///     })
///     .collect();
/// for thread in threads {
///     thread.join().expect("it does not panic")?;
/// }
/// assert_eq!(engine.db(0).get("visits")?.as_deref(), Some(b"400".as_slice()));
/// # Ok::<(), sluice_engine::Error>(())
/// ```
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

/// Why a command cannot be renamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// There is none of this name.
    #[error("No such command in rename-command: '{0}'")]
    Unknown(String),
    /// The new name is taken.
    #[error("Target command name already exists: '{0}'")]
    Exists(String),
}

/// Settings of an engine that cannot change later.
///
/// ```
/// use sluice_engine::Engine;
///
/// let engine = Engine::builder().shards(64).databases(1).build();
/// assert_eq!((engine.shards(), engine.databases()), (64, 1));
/// ```
pub struct EngineBuilder {
    shards: usize,
    databases: u32,
    extra: Vec<&'static Command>,
    renames: Vec<(Vec<u8>, Vec<u8>)>,
    host: Option<Host>,
    clock: Clock,
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder")
            .field("shards", &self.shards)
            .field("databases", &self.databases)
            .field("extra", &self.extra)
            .finish_non_exhaustive()
    }
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

    /// Registers more commands. A row replaces a built-in one of the same name. What rows are made of is in
    /// [`internals`](crate::internals), and may change.
    pub fn commands(mut self, rows: impl IntoIterator<Item = &'static Command>) -> Self {
        self.extra.extend(rows);
        self
    }

    /// Calls a command by another name, in any case; an empty one takes it away. Later calls find what earlier ones left. The
    /// row keeps the name it was registered by: see [`Engine::lookup_trusted`].
    pub fn rename(mut self, from: &[u8], to: &[u8]) -> Self {
        self.renames.push((from.to_ascii_lowercase(), to.to_ascii_lowercase()));
        self
    }

    /// Registers what the embedder's rows reach their owner by: see [`Keys::host`](crate::keyspace::Keys::host).
    pub fn host(mut self, host: Arc<impl Any + Send + Sync>) -> Self {
        self.host = Some(host);
        self
    }

    /// The clock by which keys expire; that of the system unless said otherwise. See [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Makes the engine.
    ///
    /// # Panics
    /// Where [`EngineBuilder::try_build`] fails, which only a wrong [`EngineBuilder::rename`] makes it do.
    pub fn build(self) -> Engine {
        self.try_build().unwrap_or_else(|e| panic!("{e}"))
    }

    /// Makes the engine.
    ///
    /// # Errors
    /// A command that is to be renamed does not exist, or its new name does.
    pub fn try_build(self) -> Result<Engine, RenameError> {
        let mut commands: Vec<&'static Command> = Vec::new();
        let mut by_name = ByName::default();
        for row in crate::commands::ALL.iter().copied().flatten().chain(self.extra) {
            match by_name.get(row.name.as_bytes()) {
                Some(at) => commands[*at] = row,
                None => {
                    by_name.insert(row.name.as_bytes().into(), commands.len());
                    commands.push(row);
                }
            }
        }
        for (from, to) in &self.renames {
            let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            if by_name.contains_key(&to[..]) && from != to {
                return Err(RenameError::Exists(shown(to)));
            }
            let id = by_name.remove(&from[..]).ok_or_else(|| RenameError::Unknown(shown(from)))?;
            if !to.is_empty() {
                by_name.insert(to[..].into(), id);
            }
        }
        Ok(Engine::empty(self.shards, self.databases, commands, by_name, self.host, self.clock))
    }
}

impl Engine {
    fn empty(
        shards: usize,
        databases: u32,
        commands: Vec<&'static Command>,
        by_name: ByName,
        host: Option<Host>,
        clock: Clock,
    ) -> Engine {
        let mut callable = vec![false; commands.len()];
        by_name.values().for_each(|id| callable[*id] = true);
        let calls = commands.iter().map(|_| CommandStats::default()).collect();
        let short_names = ShortNames::new(by_name.iter().map(|(name, id)| (&name[..], *id, commands[*id])));
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
                short_names,
                callable,
                calls,
                host,
                clock,
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
    /// EXEC came to a command that the caller has to run without the locks ([`Session::take_interrupting`] has it); its reply
    /// comes next, and then [`Engine::resume`] goes on.
    Interrupted,
}

/// # Making one, and its settings
impl Engine {
    /// Settings to begin with.
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            shards: 32,
            databases: 16,
            extra: Vec::new(),
            renames: Vec::new(),
            host: None,
            clock: Clock::System,
        }
    }

    /// An empty engine of this one's shape, commands and thresholds: to be loaded beside it, and then
    /// [adopted](Engine::adopt).
    pub fn beside(&self) -> Engine {
        let inner = &self.inner;
        let (commands, by_name) = (inner.commands.clone(), inner.by_name.clone());
        let (host, clock) = (inner.host.clone(), inner.clock.clone());
        let engine = Engine::empty(inner.shards.len(), inner.databases, commands, by_name, host, clock);
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

    /// The time the engine sees, in Unix milliseconds: see [`EngineBuilder::clock`].
    #[inline]
    pub fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
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
}

/// # The command table, for servers
impl Engine {
    /// The whole command table, by index.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.inner.commands.iter().enumerate().map(|(id, command)| Row { id, command })
    }

    /// The row at an index.
    pub fn row(&self, id: usize) -> Option<Row> {
        self.inner.commands.get(id).map(|command| Row { id, command })
    }

    /// The commands that can be called: all rows but those that lost their name.
    pub fn commands(&self) -> impl Iterator<Item = Row> + '_ {
        self.rows().filter(|row| self.inner.callable[row.id])
    }

    /// Counters of a command.
    pub fn command_stats(&self, id: usize) -> &CommandStats {
        &self.inner.calls[id]
    }

    /// Finds a command by name, in any case.
    #[inline]
    pub fn lookup(&self, name: &[u8]) -> Option<Row> {
        match self.inner.short_names.get(name) {
            Some((id, command)) => Some(Row { id, command }),
            None => self.lookup_any(name),
        }
    }

    /// A name that was given by [`EngineBuilder::rename`] may have any length.
    #[cold]
    fn lookup_any(&self, name: &[u8]) -> Option<Row> {
        let by_name = &self.inner.by_name;
        let mut lower = [0u8; 32];
        let id = match lower.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                *by_name.get(&*lower)?
            }
            None => by_name.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, id)| *id)?,
        };
        self.row(id)
    }

    /// Finds a command of a stream that is trusted, a primary's or a file's: by the name it has here, or by the one it was
    /// registered by. What this engine logs by itself bears the latter, and so does what a primary without new names sends.
    #[inline]
    pub fn lookup_trusted(&self, name: &[u8]) -> Option<Row> {
        self.lookup(name).or_else(|| self.lookup_original(name))
    }

    /// Finds a command by the name it was registered by, in any case, whatever it is called now.
    pub fn lookup_original(&self, name: &[u8]) -> Option<Row> {
        self.rows().find(|row| row.command.name.as_bytes().eq_ignore_ascii_case(name))
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
}

/// # Cuts, the log, and counters
impl Engine {
    /// Begins a cut at the log's present end. There is one at a time; see [`CutSink`](crate::CutSink) for who takes it.
    ///
    /// # Errors
    /// Another is in progress.
    pub fn begin_cut(&self) -> Result<Cut, CutBusy> {
        Cut::begin(&self.inner)
    }

    /// The same with a cursor of the log from there on. The log is active from that moment at the latest, and nothing is
    /// missing in it: no command is under way then.
    ///
    /// # Errors
    /// Another is in progress.
    pub fn begin_cut_with_log(&self) -> Result<(Cut, LogReader), CutBusy> {
        Cut::begin_with_log(&self.inner)
    }

    /// A cursor of the log from a moment at which no command is under way, without the state at that moment: the log is
    /// active from then on at the latest.
    pub fn follow_log(&self) -> LogReader {
        self.follow_here().0
    }

    /// The same with the database that is selected there, if the log does not select one again.
    pub(crate) fn follow_here(&self) -> (LogReader, Option<u32>) {
        let shards = self.inner.lock_all();
        if !self.inner.role.get().is_replica() {
            self.inner.log.forget_selection();
        }
        let here = (self.inner.log.follow(), self.inner.log.selected());
        drop(shards);
        here
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
        self.inner.shards.iter().for_each(|s| sum.add(&s.lock().stats));
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
        self.inner.shards.iter().for_each(|s| s.lock().add_sizes(&mut sizes));
        sizes
    }
}

/// # Running rows, for servers
impl Engine {
    /// Runs `f` with every shard locked, in database `db`; effects `f` propagates are logged.
    pub fn exclusive<R>(&self, db: u32, out: &mut Vec<u8>, f: impl FnOnce(&mut Ctx<'_>) -> R) -> R {
        let mut fx = Effects::default();
        let mut cx = self.context(&mut fx, self.hold_all(), db, false, self.now_ms(), Reply::new(out, false));
        let r = f(&mut cx);
        let (held, fx) = self.conclude(cx, Appended::Effects);
        self.release(held, fx);
        r
    }

    /// Runs one command for a caller, appending its reply to `out`. Commands of the embedder's come back as
    /// [`Outcome::External`]; inside EXEC they run at their place, see [`Caller`].
    pub fn call<C: Caller>(&self, caller: &mut C, row: Row, req: Request<'_>, out: &mut Vec<u8>) -> Outcome {
        self.call_resolved(caller, Resolved { row, key: None }, req, out)
    }

    /// As [`Engine::call`], for a command that was [resolved](Engine::resolve) from these arguments.
    #[inline]
    pub fn call_resolved<C: Caller>(
        &self,
        caller: &mut C,
        resolved: Resolved<'_>,
        req: Request<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Resolved { row, key } = resolved;
        let s = caller.session();
        // What nearly all are.
        if let Run::Keys(f) = row.command.run
            && s.transaction.is_none()
            && !s.from_primary
            && row.command.arity_ok(req.args.len())
        {
            return self.run(s, row, f, false, req, out, &mut None, key);
        }
        self.call_any(caller, row, req, out)
    }

    #[inline(never)]
    fn call_any<C: Caller>(&self, caller: &mut C, row: Row, req: Request<'_>, out: &mut Vec<u8>) -> Outcome {
        if matches!(row.command.run, Run::Transaction(TxOp::Exec)) {
            return self.exec(caller, row, req, out);
        }
        let s = caller.session();
        let mut raw = req.raw.filter(|_| s.from_primary);
        let outcome = self.dispatch(s, row, req, out, &mut raw);
        if raw.is_some() && !matches!(outcome, Outcome::Stalled | Outcome::External) {
            // After it ran: the stream's bytes go with the database they leave selected.
            self.relay(s, raw);
        }
        outcome
    }

    /// Runs a command, or queues it. `raw` are the bytes of a primary's stream; they are taken where they are logged under
    /// the command's locks.
    pub(crate) fn dispatch(
        &self,
        s: &mut Session,
        row: Row,
        req: Request<'_>,
        out: &mut Vec<u8>,
        raw: &mut Option<&[u8]>,
    ) -> Outcome {
        let command = row.command;
        if !command.arity_ok(req.args.len()) {
            s.break_multi();
            return self.refuse(row.id, s.resp3, out, &CmdError::arity(command.name), true);
        }
        if s.transaction.is_some()
            && !matches!(command.run, Run::Transaction(_))
            && !command.flags.contains(Flags::IMMEDIATE)
        {
            return self.queue(s, row, req.args, out);
        }
        match command.run {
            Run::Keys(f) => self.run(s, row, f, false, req, out, raw, None),
            Run::All(f) => self.run(s, row, f, true, req, out, raw, None),
            Run::External => Outcome::External,
            Run::Transaction(op) => self.run_transaction(op, row, s, req.args, out),
            Run::Session(f) => {
                let (resp3, start) = (s.resp3, out.len());
                let result = f(s, req.args, &mut Reply::new(out, resp3));
                self.replied(row.id, resp3, result, start, out)
            }
        }
    }

    /// Appends bytes of the primary's stream that the engine was not asked to run (see `Session::from_primary`).
    pub fn relay_unknown(&self, s: &mut Session, raw: &[u8]) {
        self.relay(s, Some(raw));
    }

    #[cold]
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
        Reply::new(out, resp3).error(&e.message());
        Outcome::Refused
    }

    /// Counts a command that ran; where it failed its reply is the error.
    #[inline(always)]
    fn replied(&self, id: usize, resp3: bool, result: CmdResult, start: usize, out: &mut Vec<u8>) -> Outcome {
        match result {
            Ok(()) => {
                self.inner.calls[id].calls.fetch_add(1, Ordering::Relaxed);
                Outcome::Done
            }
            Err(e) => {
                out.truncate(start);
                self.refuse(id, resp3, out, &e, false)
            }
        }
    }

    /// Begins a command: see [`Engine::begin`].
    #[inline(always)]
    fn begin_command<'k>(
        &self,
        command: &Command,
        args: &[&'k [u8]],
        db: u32,
        all: bool,
        known: &mut Option<Hashed<'k>>,
    ) -> Option<Held<'_>> {
        if let KeySpec::Range { first, last, .. } = command.keys
            && last == first as i32
        {
            let key = Hashed::known(*known, args[first]);
            *known = Some(key);
            return self.begin(all, &[self.want_hashed(db, key, Access::of(command))]);
        }
        self.begin_many(command, args, db, all)
    }

    #[inline(never)]
    fn begin_many(&self, command: &Command, args: &[&[u8]], db: u32, all: bool) -> Option<Held<'_>> {
        let mut wanted: SmallVec<[Wanted<'_>; 8]> = SmallVec::new();
        self.want_all(&mut wanted, db, command, args);
        self.begin(all, &wanted)
    }

    // Twice in all, and the steps of `execute` with it: what goes from one to the next stays where it is.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn run<'k>(
        &self,
        s: &mut Session,
        row: Row,
        f: KeyFn,
        all: bool,
        req: Request<'k>,
        out: &mut Vec<u8>,
        stream: &mut Option<&[u8]>,
        mut key: Option<Hashed<'k>>,
    ) -> Outcome {
        let (command, args, db) = (row.command, req.args, s.db);
        let Some(held) = self.begin_command(command, args, db, all, &mut key) else {
            return Outcome::Stalled;
        };
        let (resp3, from_primary, start) = (s.resp3, s.from_primary, out.len());
        // Whoever let it through may have looked before the role changed; from here on it cannot.
        if let Some(why) = self.inner.role.get().forbids(command.flags)
            && !from_primary
        {
            return match why {
                Forbidden::ForNow => Outcome::Stalled,
                Forbidden::ReadOnly => self.refuse(row.id, resp3, out, &CmdError::ReadOnlyReplica, true),
            };
        }
        let (now, may_block) = (s.now(self), s.may_block && !from_primary);
        let mut cx = self.context(&mut s.fx, held, db, from_primary, now, Reply::new(out, resp3));
        cx.keys.may_block = may_block;
        cx.keys.known = key;
        let result = self.run_row(&mut cx, command, args, from_primary, f);
        let fx = &mut *cx.keys.fx;
        let as_it_came = !fx.replaced && fx.dirty > 0 && fx.enabled;
        let appended = match (stream.take(), req.raw) {
            // The primary's own bytes are the effect, so that offsets stay equal.
            (Some(raw), _) => Appended::Relayed(db, raw),
            (None, Some(raw)) if as_it_came && fx.ops.is_empty() => Appended::AsItCame(db, raw),
            (None, raw) => {
                match raw {
                    Some(raw) if as_it_came => fx.push_encoded(db, raw),
                    None if as_it_came => fx.push(db, args),
                    _ => {}
                }
                let apart = command.flags.contains(Flags::ARBITRARY_KEYS);
                if apart { Appended::Apart } else { Appended::Effects }
            }
        };
        let (mut held, fx) = self.conclude(cx, appended);
        if let Some(wish) = fx.wish.take() {
            let blocked = self.enqueue(&mut held, wish, db, resp3, args);
            // One that the caller left there gives up its place, which takes locks.
            drop(held);
            s.blocked = Some(blocked);
            return Outcome::Blocked;
        }
        self.release(held, fx);
        self.replied(row.id, resp3, result, start, out)
    }
}
