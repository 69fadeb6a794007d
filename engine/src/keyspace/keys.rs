//! What a running command works with: [`Ctx`], and in it [`Keys`]; see the front of the [`keyspace`](crate::keyspace).

use super::effects::Effects;
use super::shard::{Held, Shard};
use crate::config::Limits;
use crate::hash::hash;
use crate::resp::Reply;
use crate::shared::Shared;
use crate::value::Table;
use smallvec::SmallVec;

/// Items of a collection, or keys, in one command of the log that was not sent as one.
pub(crate) const ITEMS_PER_EFFECT: usize = 1024;
/// Such a command of fewer items ends when they are this long, in bytes.
pub(crate) const BYTES_PER_EFFECT: usize = 1 << 20;

/// What a running command works with.
pub struct Ctx<'a> {
    /// The keys.
    pub keys: Keys<'a>,
    /// The reply.
    pub out: Reply<'a>,
}

/// Access to the keys of a running command; see the module's text.
pub struct Keys<'a> {
    pub(crate) inner: &'a Shared,
    pub(crate) held: Held<'a>,
    pub(crate) fx: &'a mut Effects,
    /// The selected database.
    pub db: u32,
    /// Now, in Unix milliseconds; one value for a whole command or transaction.
    pub now: i64,
    /// Expired keys stay until the primary deletes them: this node is a replica.
    pub(crate) keep_expired: bool,
    /// This node follows a primary.
    pub(crate) replica: bool,
    /// Expiry does not hide keys: the command comes from the primary.
    pub(crate) see_expired: bool,
    /// The command may wait for its keys.
    pub(crate) may_block: bool,
    /// The key whose hash was needed to lock its shard.
    pub(crate) known: Option<Hashed<'a>>,
}

/// A key and its hash, computed once.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'k> {
    /// The key.
    pub key: &'k [u8],
    /// Its hash.
    pub hash: u64,
}

impl<'k> Hashed<'k> {
    /// Hashes a key.
    #[inline]
    pub(crate) fn of(key: &'k [u8]) -> Hashed<'k> {
        Hashed { key, hash: hash(key) }
    }

    /// The same, unless the key is the very one that is known.
    #[inline(always)]
    pub(crate) fn known(known: Option<Hashed<'k>>, key: &'k [u8]) -> Hashed<'k> {
        match known {
            Some(known) if std::ptr::eq(known.key, key) => known,
            _ => Hashed::of(key),
        }
    }
}

/// What a string read finds.
#[derive(Clone, Copy, Debug)]
pub enum StrRef<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// A canonical integer.
    Int(i64),
}

impl StrRef<'_> {
    /// Calls `f` with the bytes.
    #[inline]
    pub fn with<R>(self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            StrRef::Bytes(b) => f(b),
            StrRef::Int(i) => f(itoa::Buffer::new().format(i).as_bytes()),
        }
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.with(<[u8]>::len)
    }

    /// True where there are no bytes.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What happens to a key's expiry when its value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewExpiry {
    /// None afterwards.
    Clear,
    /// As it was.
    Keep,
    /// At this Unix time in milliseconds.
    At(i64),
}

impl<'a> Ctx<'a> {
    pub(crate) fn into_parts(self) -> (Held<'a>, &'a mut Effects) {
        (self.keys.held, self.keys.fx)
    }
}

impl Ctx<'_> {
    /// Logs this command, in the selected database, in place of the one that came. Several calls make a
    /// transaction.
    pub fn propagate(&mut self, args: &[&[u8]]) {
        let db = self.keys.db;
        self.propagate_in(db, args);
    }

    /// As [`Ctx::propagate`], for a command with items of `each` arguments behind the `first` ones, however many there are: who reads
    /// the log holds no more than [`ITEMS_PER_EFFECT`] of them, or [`BYTES_PER_EFFECT`], in one command.
    pub(crate) fn propagate_items<'x>(
        &mut self,
        first: &[&'x [u8]],
        items: impl Iterator<Item = &'x [u8]>,
        each: usize,
    ) {
        let mut args: SmallVec<[&[u8]; 8]> = SmallVec::from_slice(first);
        let (mut count, mut bytes, mut parts) = (0, 0, 0);
        for arg in items {
            if count >= ITEMS_PER_EFFECT * each || (bytes >= BYTES_PER_EFFECT && count % each == 0) {
                self.propagate(&args);
                args.truncate(first.len());
                (count, bytes) = (0, 0);
                parts += 1;
            }
            args.push(arg);
            count += 1;
            bytes += arg.len();
        }
        // A command without items is one, too (PFADD makes a key).
        if count > 0 || parts == 0 {
            self.propagate(&args);
        }
    }

    /// As [`Ctx::propagate`], in another database.
    pub fn propagate_in(&mut self, db: u32, args: &[&[u8]]) {
        self.keys.fx.replaced = true;
        self.keys.fx.push(db, args);
    }

    /// Logs nothing, whatever changed.
    pub fn propagate_nothing(&mut self) {
        self.keys.fx.replaced = true;
    }
}

impl Keys<'_> {
    #[inline(always)]
    pub(super) fn hashed<'k>(&self, key: &'k [u8]) -> Hashed<'k> {
        match self.known {
            // As long as it is borrowed nothing else has its address.
            Some(known) if std::ptr::eq(known.key, key) => Hashed { key, hash: known.hash },
            _ => Hashed::of(key),
        }
    }

    #[inline]
    pub(super) fn shard(&mut self, hash: u64) -> &mut Shard {
        let index = self.inner.shard_of(hash);
        self.held.shard(index)
    }

    #[inline]
    pub(super) fn table(&mut self, hash: u64) -> &mut Table {
        let db = self.db as usize;
        &mut self.shard(hash).dbs[db]
    }

    #[inline]
    pub(super) fn lru(&self) -> u32 {
        (self.now / 1000) as u32 & 0x00ff_ffff
    }

    /// What the embedder registered for its rows, if it is a `T`: see [`crate::EngineBuilder::host`].
    pub fn host<T: std::any::Any>(&self) -> Option<&T> {
        self.inner.host.as_ref()?.downcast_ref()
    }

    /// Encoding thresholds.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.inner.databases
    }

    /// May a read change a key beside (PFCOUNT keeps its estimate)? Not where that would add a pre-image to a cut whose
    /// queue is full: a write would wait, and reads never do.
    pub(crate) fn may_change_beside(&mut self, key: &[u8]) -> bool {
        if !self.inner.queue_level.is_full() {
            return true;
        }
        let h = hash(key);
        let index = self.inner.shard_of(h);
        !self.held.unvisited(index, self.db, h, key)
    }
}
