//! A session: what one client has selected, queued and watched.

use crate::blocked::Blocked;
use crate::command::flags::{Flags, FlagsOfMany};
use crate::error::Error as CmdError;
use crate::hash::hash;
use crate::keyspace::effects::Effects;
use crate::shared::Shared;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most commands a MULTI may queue; beyond it the command is refused and EXEC aborts.
pub(crate) const MAX_QUEUED: usize = 1_000_000;

/// A queued command: owned arguments.
#[derive(Debug)]
pub(crate) struct Queued {
    /// The row's place in the table.
    pub(crate) id: usize,
    pub(crate) args: Vec<Vec<u8>>,
}

impl Queued {
    pub(crate) fn args(&self) -> SmallVec<[&[u8]; 8]> {
        self.args.iter().map(Vec::as_slice).collect()
    }
}

/// A block of MULTI that EXEC runs, and how far it is.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) queued: Vec<Queued>,
    pub(crate) at: usize,
}

/// State of MULTI.
#[derive(Default, Debug)]
pub(crate) struct Transaction {
    pub(crate) queued: Vec<Queued>,
    pub(crate) flags: FlagsOfMany,
    pub(crate) broken: bool,
}

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) db: u32,
    pub(crate) key: Box<[u8]>,
}

/// One client's state in the engine: the selected database, MULTI, what it watches and waits for. It is cheap; an embedder
/// may keep one a thread. Dropped, it leaves nothing behind in the engine. It must not be dropped by what the engine calls
/// while it holds its locks.
///
/// ```
/// # use sluice_engine::Engine;
/// let engine = Engine::default();
/// let mut session = engine.session();
/// engine.execute_in(&mut session, &["SELECT", "3"])?;
/// engine.execute_in(&mut session, &["SET", "greeting", "hello"])?;
/// assert!(engine.db(3).exists("greeting"));
/// # Ok::<(), sluice_engine::Error>(())
/// ```
pub struct Session {
    /// The selected database.
    pub db: u32,
    /// The client speaks RESP3.
    pub resp3: bool,
    /// Commands come from this node's primary: they see expired keys and are not logged again.
    pub from_primary: bool,
    /// The time commands see, in Unix milliseconds; 0 takes the engine's clock for each command.
    pub now_ms: i64,
    /// Blocking commands may wait: [`crate::engine::Outcome::Blocked`] is understood. Otherwise they reply nothing at once.
    pub may_block: bool,
    /// The command that waits, after [`crate::engine::Outcome::Blocked`].
    pub blocked: Option<Blocked>,
    /// Errors that commands of the last EXEC replied, for counters; the embedder takes them out.
    pub exec_errors: Vec<CmdError>,
    pub(crate) transaction: Option<Transaction>,
    /// The rest of a block that a command interrupted.
    pub(crate) interrupted: Option<Block>,
    pub(crate) watches: Vec<Watch>,
    /// Where they are noted, while there are any.
    pub(crate) watched_in: Option<Arc<Shared>>,
    pub(crate) touched: Arc<AtomicBool>,
    pub(crate) fx: Effects,
    /// The primary's bytes of an open MULTI block.
    pub(crate) block: Vec<u8>,
    pub(crate) databases: u32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("db", &self.db).field("multi", &self.transaction.is_some()).finish()
    }
}

impl Session {
    pub(crate) fn new(databases: u32) -> Session {
        Session {
            db: 0,
            resp3: false,
            from_primary: false,
            now_ms: 0,
            may_block: false,
            blocked: None,
            exec_errors: Vec::new(),
            transaction: None,
            interrupted: None,
            watches: Vec::new(),
            watched_in: None,
            touched: Arc::new(AtomicBool::new(false)),
            fx: Effects::default(),
            block: Vec::new(),
            databases,
        }
    }

    /// Is the session inside MULTI?
    #[inline]
    pub fn in_multi(&self) -> bool {
        self.transaction.is_some()
    }

    /// Commands queued by MULTI, or -1 outside of it (CLIENT LIST's `multi`).
    pub fn queued(&self) -> i64 {
        self.transaction.as_ref().map_or(-1, |t| t.queued.len() as i64)
    }

    /// Has MULTI queued a command that empties every database?
    pub fn will_empty(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| !t.broken && t.flags.any.contains(Flags::EMPTIES))
    }

    /// Number of watched keys.
    pub fn watching(&self) -> usize {
        self.watches.len()
    }

    /// Notes that a command was refused before it reached the engine: EXEC will abort.
    pub fn break_multi(&mut self) {
        if let Some(t) = &mut self.transaction {
            t.broken = true;
        }
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.databases
    }

    /// Selects a database, as SELECT does.
    pub fn select(&mut self, db: i64) -> Result<(), CmdError> {
        match u32::try_from(db) {
            Ok(n) if n < self.databases => {
                self.db = n;
                Ok(())
            }
            _ => Err(CmdError::NoSuchDatabase),
        }
    }

    /// The time its commands see.
    #[inline]
    pub(crate) fn now(&self, shared: &Shared) -> i64 {
        if self.now_ms == 0 { shared.clock.now_ms() } else { self.now_ms }
    }

    /// Has a command interrupted a block, whose rest waits for [`crate::Engine::resume`]?
    #[inline]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.is_some()
    }

    pub(crate) fn was_touched(&self) -> bool {
        self.touched.load(Ordering::Acquire)
    }
}

impl Session {
    pub(crate) fn unwatch(&mut self) {
        let Some(shared) = self.watched_in.take() else { return };
        for w in self.watches.drain(..) {
            let mut shard = shared.shards[shared.shard_of(hash(&w.key))].lock();
            shard.watched.remove(w.db, w.key, &self.touched);
            shared.watchers.fetch_sub(1, Ordering::Relaxed);
        }
        self.touched.store(false, Ordering::Release);
    }

    /// Gives up a transaction, and what the session watches with it.
    pub fn discard(&mut self) {
        self.transaction = None;
        self.interrupted = None;
        self.unwatch();
    }
}

impl Drop for Session {
    /// What it watches and waits for is forgotten, and so is what it has queued.
    fn drop(&mut self) {
        self.unwatch();
    }
}
