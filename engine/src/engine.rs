//! The engine: the handle that everyone has, and what it tells of the floor it stands on.
//!
//! How one is made is in `build`, its command table in `rows`, its role in `role`. How a command runs is on the floors above:
//! [`crate::execute`] and [`crate::call`].

mod build;
pub(crate) mod role;
pub(crate) mod rows;

pub use build::EngineBuilder;
pub use rows::{CommandStats, RenameError, Row};

use crate::config::Limits;
use crate::cut::{Cut, CutBusy};
use crate::keyspace::ShardStats;
use crate::keyspace::events::{Class, Happening};
use crate::log::{Log, LogReader};
use crate::session::Session;
use crate::shared::Shared;
use rows::Rows;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most shards: the hash gives them 8 bits.
pub const MAX_SHARDS: usize = 256;
/// Most databases.
pub const MAX_DATABASES: u32 = 1 << 10;

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
    pub(crate) inner: Arc<Shared>,
    pub(crate) rows: Arc<Rows>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("shards", &self.inner.shards.len())
            .field("log", &self.inner.log)
            .finish()
    }
}

/// A command as it came. No argument may be longer than [`MAX_STRING_LEN`](crate::entry::MAX_STRING_LEN): who parses requests with that
/// limit sees to it, for others an entry that is made of a longer one panics.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The arguments, name first.
    pub args: &'a [&'a [u8]],
    /// The same as [`encode_command`](crate::resp::encode_command) writes it, where the caller has it at hand
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
    /// EXEC came to a command that the caller has to run without the locks ([`Engine::take_interrupting`] has it); its reply
    /// comes next, and then [`Engine::resume`] goes on.
    Interrupted,
}

/// # Making one, and its settings
impl Engine {
    fn of(rows: Rows, shared: Shared) -> Engine {
        Engine { inner: Arc::new(shared), rows: Arc::new(rows) }
    }

    /// An empty engine of this one's shape, commands and thresholds: to be loaded beside it, and then
    /// [adopted](Engine::adopt).
    pub fn beside(&self) -> Engine {
        let inner = &self.inner;
        let shared =
            Shared::new(inner.shards.len(), inner.databases, inner.host.clone(), inner.clock.clone());
        let engine = Engine::of(self.rows.anew(), shared);
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
        self.rows.each()
    }

    /// The row at an index.
    pub fn row(&self, id: usize) -> Option<Row> {
        self.rows.get(id)
    }

    /// The commands that can be called: all rows but those that lost their name.
    pub fn commands(&self) -> impl Iterator<Item = Row> + '_ {
        self.rows.callable()
    }

    /// Counters of a command.
    pub fn command_stats(&self, id: usize) -> &CommandStats {
        self.rows.stats(id)
    }

    /// Finds a command by name, in any case.
    #[inline]
    pub fn lookup(&self, name: &[u8]) -> Option<Row> {
        self.rows.lookup(name)
    }

    /// Finds a command of a stream that is trusted, a primary's or a file's: by the name it has here, or by the one it was
    /// registered by. What this engine logs by itself bears the latter, and so does what a primary without new names sends.
    #[inline]
    pub fn lookup_trusted(&self, name: &[u8]) -> Option<Row> {
        self.lookup(name).or_else(|| self.lookup_original(name))
    }

    /// Finds a command by the name it was registered by, in any case, whatever it is called now.
    pub fn lookup_original(&self, name: &[u8]) -> Option<Row> {
        self.rows.lookup_original(name)
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
        let shards = self.inner.shards.lock_all();
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
        for s in self.inner.shards.iter() {
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

/// # Events
impl Engine {
    /// Has `listener` told of events of these classes, in place of who listened before. It is called under the locks of
    /// the shards that the events happened in: it must be quick, and must not call the engine.
    ///
    /// ```
    /// use sluice_engine::{Class, Engine, Event};
    /// use std::sync::mpsc;
    ///
    /// let engine = Engine::default();
    /// let (told, heard) = mpsc::channel();
    /// engine.listen(Class::EXPIRED | Class::LIST, move |happening| {
    ///     let _ = told.send((happening.event, happening.key.to_vec()));
    /// });
    /// engine.db(0).set("no list", "x")?;
    /// engine.db(0).rpush("jobs", &["wash"])?;
    /// assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(Event::RPush, b"jobs".to_vec())]);
    /// # Ok::<(), sluice_engine::Error>(())
    /// ```
    pub fn listen(&self, classes: Class, listener: impl Fn(Happening<'_>) + Send + Sync + 'static) {
        self.inner.listening.begin(classes, Arc::new(listener));
    }

    /// Has nobody told of events any more.
    pub fn listen_no_more(&self) {
        self.inner.listening.end();
    }
}
