//! The typed API: what an embedder calls instead of composing commands.
//!
//! [`Engine::db`] gives a [`Db`], whose methods take keys and values as anything that is bytes and reply Rust types.
//! They run on the caller's thread, under the locks of just their keys, and their effects are in the log as a
//! command's are. [`Engine::transaction`] runs several as one. Whatever has no method of its own is a command away:
//! [`Engine::execute`]. Neither is built on the other: both use the same operations on values.
//!
//! Where a write would add a pre-image to a cut whose queue is full, it waits for the cut's consumer. A thread that
//! itself steps a cut must therefore not write in between, or raise [`Engine::set_preimage_limit`] first.

mod access;
mod feed;
mod follow;
mod hashes;
mod hyperloglogs;
mod keys;
mod lists;
mod reply;
mod scan;
mod sets;
mod sorted_sets;
mod strings;

pub use feed::{Change, Feed};
pub use follow::{ApplyError, Follower};
pub use keys::Ttl;
pub use reply::ReplyValue;
pub use strings::{Expiry, Only, SetOptions};

use crate::engine::Engine;
use crate::entry::MAX_STRING_LEN;
use crate::error::{Error, Result};
use access::{Access, Within};
use smallvec::SmallVec;
use std::time::Duration;

/// How long a write waits before it looks again whether the queue of a cut has room.
const STALL_PAUSE: Duration = Duration::from_micros(100);

/// One database of an engine, or of a transaction; cheap to make and to copy.
///
/// Methods stand by type: [strings](#strings), [keys](#keys-of-any-type), [hashes](#hashes), [lists](#lists),
/// [sets](#sets), [sorted sets](#sorted-sets), [HyperLogLogs](#hyperloglogs).
#[derive(Clone, Copy)]
pub struct Db<'a> {
    engine: &'a Engine,
    index: u32,
    within: Option<&'a dyn Within>,
}

impl std::fmt::Debug for Db<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("index", &self.index).field("within", &self.within.is_some()).finish()
    }
}

/// # Typed calls
impl Engine {
    /// A database, where the engine has one of that number.
    ///
    /// ```
    /// # use sluice_engine::{Engine, Error};
    /// let engine = Engine::builder().databases(4).build();
    /// engine.try_db(3)?.set("k", "v")?;
    /// assert_eq!(engine.try_db(4).unwrap_err(), Error::NoSuchDatabase);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`].
    pub fn try_db(&self, index: u32) -> Result<Db<'_>> {
        if index < self.databases() {
            Ok(Db { engine: self, index, within: None })
        } else {
            Err(Error::NoSuchDatabase)
        }
    }

    /// A database.
    ///
    /// # Panics
    /// Where the engine has no database of that number; see [`crate::EngineBuilder::databases`] and [`Engine::try_db`].
    pub fn db(&self, index: u32) -> Db<'_> {
        assert!(index < self.databases(), "there is no database {index} of {}", self.databases());
        Db { engine: self, index, within: None }
    }

    /// Runs `f` while nothing else runs: what it does through its [`Db`] is one step for everyone else, and one
    /// block in the log. There is no way back: what `f` did before it returned an error, or panicked, stays done.
    ///
    /// `f` must use the [`Db`] it is given and not the engine, whose locks are held.
    ///
    /// # Panics
    /// Where the engine has no database of that number; see [`Engine::try_db`], whose [`Db::transaction`] does the same.
    ///
    /// ```
    /// # use sluice_engine::Engine;
    /// let engine = Engine::default();
    /// engine.db(0).set("alice", "100")?;
    /// let moved = engine.transaction(0, |db| {
    ///     db.incr_by("alice", -30)?;
    ///     db.incr_by("bob", 30)
    /// })?;
    /// assert_eq!(moved, 30);
    /// # Ok::<(), sluice_engine::Error>(())
    /// ```
    pub fn transaction<R>(&self, db: u32, f: impl FnOnce(&Db<'_>) -> R) -> R {
        assert!(db < self.databases(), "there is no database {db} of {}", self.databases());
        self.with_all(db, |within| f(&Db { engine: self, index: db, within: Some(within) }))
    }
}

impl<'a> Db<'a> {
    /// The number of the database.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// As [`Engine::transaction`], in this database; inside of a transaction, a part of it.
    pub fn transaction<R>(&self, f: impl FnOnce(&Db<'_>) -> R) -> R {
        match self.within {
            Some(_) => f(self),
            None => self.engine.transaction(self.index, f),
        }
    }

    /// Another database of the same engine, or transaction.
    pub fn select(&self, index: u32) -> Result<Db<'a>> {
        self.engine.try_db(index)?;
        Ok(Db { index, ..*self })
    }
}

/// Refuses what is too long for a key or any element, before anything happens.
fn fits<'x>(items: impl IntoIterator<Item = &'x [u8]>) -> Result<()> {
    let mut items = items.into_iter();
    if items.any(|item| item.len() > MAX_STRING_LEN) { Err(Error::TooLong) } else { Ok(()) }
}

/// The arguments of an effect: some fixed ones, then many.
fn args<'x>(first: &[&'x [u8]], rest: impl Iterator<Item = &'x [u8]>) -> SmallVec<[&'x [u8]; 8]> {
    first.iter().copied().chain(rest).collect()
}

/// `start` and `stop`, from 0, or negative from the end, as a range of ranks.
fn ranks(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let absolute = |i: i64| if i < 0 { i.saturating_add(len) } else { i };
    let (start, stop) = (absolute(start).max(0), absolute(stop).min(len - 1));
    if start > stop { 0..0 } else { start as usize..stop as usize + 1 }
}
