//! The keyspace as a command sees it: locked shards, the selected database, expiry, and the effects to log.
//!
//! A [`Ctx`] exists while a command runs. `cx.keys` gives access to values; going through its methods keeps the
//! promises that every write makes: expired keys are gone (and their DEL is in the log before the command's effect),
//! a running cut gets pre-images, watchers learn of changes. `cx.out` is the reply. By default a command that
//! changed something (`cx.changed(key)`) is logged as it came; `cx.propagate` logs something deterministic instead.

use crate::command::{CmdError, CmdResult};
use crate::engine::Inner;
use crate::entry::{Entry, EntryRef, Payload};
use crate::hash::hash;
use crate::log::encode_command;
use crate::resp::Reply;
use crate::table::Table;
use crate::value::{Collection, Type, Value};
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// More elements than this are freed on a thread of their own.
const LAZY_FREE_ELEMENTS: usize = 10_000;

/// A database and a key in it.
type WatchedKey = (u32, Box<[u8]>);

/// Which keys of a shard are watched, each with the flags of the sessions that watch it.
#[derive(Default)]
pub(crate) struct Watched(HashMap<WatchedKey, Vec<Arc<AtomicBool>>>);

impl Watched {
    pub(crate) fn add(&mut self, db: u32, key: &[u8], flag: Arc<AtomicBool>) {
        self.0.entry((db, key.into())).or_default().push(flag);
    }

    pub(crate) fn remove(&mut self, db: u32, key: Box<[u8]>, flag: &Arc<AtomicBool>) {
        let id = (db, key);
        if let Some(flags) = self.0.get_mut(&id) {
            flags.retain(|f| !Arc::ptr_eq(f, flag));
            if flags.is_empty() {
                self.0.remove(&id);
            }
        }
    }

    /// Tells those who watch this key that it changed.
    pub(crate) fn raise(&self, db: u32, key: &[u8]) {
        if let Some(flags) = self.0.get(&(db, key.into())) {
            raise(flags);
        }
    }

    /// Tells those who watch a key that `changed` says yes to.
    pub(crate) fn raise_where(&self, changed: impl Fn(u32, &[u8]) -> bool) {
        self.0.iter().filter(|((db, key), _)| changed(*db, key)).for_each(|(_, flags)| raise(flags));
    }
}

fn raise(flags: &[Arc<AtomicBool>]) {
    flags.iter().for_each(|f| f.store(true, Ordering::Release));
}

/// A part of the keyspace behind one lock.
pub struct Shard {
    pub(crate) dbs: Vec<Table>,
    pub(crate) watched: Watched,
    /// Commands that wait for a key, of whichever database, by its name.
    pub(crate) blocked: HashMap<Box<[u8]>, crate::blocking::Queue>,
    pub(crate) stats: ShardStats,
    /// Where the active expiry goes on: database and hash position.
    pub(crate) expire_cursor: (usize, u64),
}

/// Counters kept under the shard's lock.
#[derive(Default, Clone, Copy, Debug)]
pub struct ShardStats {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys removed because they expired.
    pub expired: u64,
}

impl Shard {
    pub(crate) fn new(databases: u32) -> Shard {
        Shard {
            dbs: (0..databases).map(|_| Table::new()).collect(),
            watched: Watched::default(),
            blocked: HashMap::new(),
            stats: ShardStats::default(),
            expire_cursor: (0, 0),
        }
    }
}

/// The shards a command holds.
pub(crate) enum Held<'a> {
    None,
    One(usize, MutexGuard<'a, Shard>),
    /// Ascending by index.
    Some(SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>),
    All(Vec<MutexGuard<'a, Shard>>),
}

impl<'a> Held<'a> {
    #[inline]
    pub(crate) fn shard(&mut self, index: usize) -> &mut Shard {
        match self {
            Held::One(i, g) => {
                debug_assert_eq!(*i, index, "a command touches only the keys of its key spec");
                g
            }
            Held::Some(v) => {
                let at = v.binary_search_by_key(&index, |x| x.0);
                &mut v[at.expect("a command touches only the keys of its key spec")].1
            }
            Held::All(v) => &mut v[index],
            Held::None => unreachable!("a command without keys does not touch the keyspace"),
        }
    }

    #[inline]
    pub(crate) fn shard_ref(&self, index: usize) -> &Shard {
        match self {
            Held::One(i, g) => {
                debug_assert_eq!(*i, index, "a command touches only the keys of its key spec");
                g
            }
            Held::Some(v) => {
                let at = v.binary_search_by_key(&index, |x| x.0);
                &v[at.expect("a command touches only the keys of its key spec")].1
            }
            Held::All(v) => &v[index],
            Held::None => unreachable!("a command without keys does not touch the keyspace"),
        }
    }

    pub(crate) fn each(&mut self, mut f: impl FnMut(usize, &mut Shard)) {
        match self {
            Held::None => {}
            Held::One(i, g) => f(*i, g),
            Held::Some(v) => v.iter_mut().for_each(|(i, g)| f(*i, g)),
            Held::All(v) => v.iter_mut().enumerate().for_each(|(i, g)| f(i, g)),
        }
    }
}

/// The effects a command, or a transaction, will append to the log.
#[derive(Default)]
pub struct Effects {
    pub(crate) buf: Vec<u8>,
    /// Database and end offset in `buf` of each effect.
    pub(crate) ops: SmallVec<[(u32, usize); 2]>,
    /// Changes made by the running command.
    pub(crate) dirty: u64,
    /// The command said itself what is logged.
    pub(crate) replaced: bool,
    pub(crate) enabled: bool,
    /// The command found nothing and wants to wait.
    pub(crate) wish: Option<crate::blocking::Wish>,
    /// Keys that changed and that commands wait for, in the order of their change.
    pub(crate) ready: Vec<(u32, Box<[u8]>)>,
}

impl Effects {
    pub(crate) fn push(&mut self, db: u32, args: &[&[u8]]) {
        if self.enabled {
            encode_command(&mut self.buf, args);
            self.ops.push((db, self.buf.len()));
        }
    }

    pub(crate) fn push_encoded(&mut self, db: u32, raw: &[u8]) {
        if self.enabled {
            self.buf.extend_from_slice(raw);
            self.ops.push((db, self.buf.len()));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.buf.clear();
        self.ops.clear();
        self.dirty = 0;
        self.replaced = false;
        self.wish = None;
        self.ready.clear();
    }
}

/// What a running command works with.
pub struct Ctx<'a> {
    /// The keys.
    pub keys: Keys<'a>,
    /// The reply.
    pub out: Reply<'a>,
}

/// Access to the keys of a running command; see the module's text.
pub struct Keys<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) held: Held<'a>,
    pub(crate) fx: &'a mut Effects,
    /// The selected database.
    pub db: u32,
    /// Now, in Unix milliseconds; one value for a whole command or transaction.
    pub now: i64,
    /// Keys seen expired while they were borrowed; removed when the command ends.
    pub(crate) doomed: SmallVec<[(u32, Box<[u8]>); 1]>,
    /// Expired keys stay until the primary deletes them: this node is a replica.
    pub(crate) keep_expired: bool,
    /// This node follows a primary.
    pub(crate) replica: bool,
    /// Expiry does not hide keys: the command comes from the primary.
    pub(crate) see_expired: bool,
    /// The command may wait for its keys.
    pub(crate) may_block: bool,
}

/// A key and its hash, computed once.
#[derive(Clone, Copy)]
pub struct Hashed<'k> {
    /// The key.
    pub key: &'k [u8],
    /// Its hash.
    pub hash: u64,
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
    /// Counts a change of `key`: the command will be logged, and watchers of the key learn of it.
    #[inline]
    pub fn changed(&mut self, key: &[u8]) {
        self.keys.changed(key);
    }

    /// Logs this command, in the selected database, in place of the one that came. Several calls make a
    /// transaction.
    pub fn propagate(&mut self, args: &[&[u8]]) {
        let db = self.keys.db;
        self.propagate_in(db, args);
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

    /// Changes counted so far by this command.
    pub fn dirty(&self) -> u64 {
        self.keys.fx.dirty
    }

    /// Counts `n` changes without a key (FLUSHALL).
    pub fn add_dirty(&mut self, n: u64) {
        self.keys.fx.dirty += n;
    }
}

impl<'a> Keys<'a> {
    #[inline]
    fn hashed<'k>(&self, key: &'k [u8]) -> Hashed<'k> {
        Hashed { key, hash: hash(key) }
    }

    #[inline]
    fn shard(&mut self, hash: u64) -> &mut Shard {
        let index = self.inner.shard_of(hash);
        self.held.shard(index)
    }

    #[inline]
    fn table(&mut self, hash: u64) -> &mut Table {
        let db = self.db as usize;
        &mut self.shard(hash).dbs[db]
    }

    #[inline]
    fn lru(&self) -> u32 {
        (self.now / 1000) as u32 & 0x00ff_ffff
    }

    /// Encoding thresholds.
    pub fn limits(&self) -> &crate::config::Limits {
        &self.inner.limits
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.inner.databases
    }

    // ---- reading ----

    /// The entry of a live key; counts as an access (LRU, hits and misses).
    #[inline]
    pub fn find(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.find_as::<true>(key)
    }

    /// As [`Keys::find`], but the key's idle time goes on (TTL, TYPE, EXISTS, OBJECT).
    #[inline]
    pub fn look(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.find_as::<false>(key)
    }

    #[inline]
    fn find_as<const TOUCH: bool>(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let h = hash(key);
        let (db, now, lru) = (self.db, self.now, self.lru());
        let (see_expired, keep) = (self.see_expired, self.keep_expired);
        let index = self.inner.shard_of(h);
        let shard = self.held.shard(index);
        let table = &mut shard.dbs[db as usize];
        let found = if TOUCH { table.touch_hashed(h, key, lru) } else { table.get_hashed(h, key) };
        let Some(e) = found else {
            shard.stats.misses += 1;
            return None;
        };
        if let Some(at) = e.expire()
            && at <= now
            && !see_expired
        {
            shard.stats.misses += 1;
            if !keep {
                // The key is borrowed here: it is logged as deleted now and removed when the command ends.
                if !self.doomed.iter().any(|(d, k)| *d == db && &**k == key) {
                    self.fx.push(db, &[b"DEL", key]);
                    self.doomed.push((db, key.into()));
                }
            }
            return None;
        }
        shard.stats.hits += 1;
        Some(e)
    }

    /// The entry of a live key, counted nowhere; an expired one is hidden but not removed.
    pub fn peek(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let h = hash(key);
        let (now, see) = (self.now, self.see_expired);
        let e = self.table(h).get_hashed(h, key)?;
        if !see && e.expire().is_some_and(|at| at <= now) {
            return None;
        }
        Some(e)
    }

    /// The entry of a key, be it live or expired and not removed yet.
    pub fn raw(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let h = hash(key);
        self.table(h).get_hashed(h, key)
    }

    /// Is there a live key?
    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// The key's type, `None` where there is no live key.
    pub fn type_of(&mut self, key: &[u8]) -> Option<Type> {
        self.peek(key).map(Type::of)
    }

    /// A string for reading.
    #[inline]
    pub fn string(&mut self, key: &[u8]) -> Result<Option<StrRef<'_>>, CmdError> {
        match self.find(key).map(EntryRef::payload) {
            None => Ok(None),
            Some(Payload::Str(b)) => Ok(Some(StrRef::Bytes(b))),
            Some(Payload::Int(i)) => Ok(Some(StrRef::Int(i))),
            Some(_) => Err(CmdError::WRONG_TYPE),
        }
    }

    /// A string that a command is about to change: an expired one goes first, and nothing is counted as a hit.
    #[inline]
    pub fn string_to_change(&mut self, key: &[u8]) -> Result<Option<StrRef<'_>>, CmdError> {
        match self.touch_live(key).map(EntryRef::payload) {
            None => Ok(None),
            Some(Payload::Str(b)) => Ok(Some(StrRef::Bytes(b))),
            Some(Payload::Int(i)) => Ok(Some(StrRef::Int(i))),
            Some(_) => Err(CmdError::WRONG_TYPE),
        }
    }

    /// A collection for reading.
    pub fn read<T: Collection + 'static>(&mut self, key: &[u8]) -> Result<Option<&T>, CmdError> {
        match self.find(key).map(EntryRef::payload) {
            None => Ok(None),
            Some(Payload::Value(v)) => T::from_value(v).map(Some).ok_or(CmdError::WRONG_TYPE),
            Some(_) => Err(CmdError::WRONG_TYPE),
        }
    }

    /// A collection that a command may be about to change: an expired one goes first, nothing is counted as a hit,
    /// and nothing is handed to a cut yet.
    pub fn read_to_change<T: Collection + 'static>(&mut self, key: &[u8]) -> Result<Option<&T>, CmdError> {
        match self.touch_live(key).map(EntryRef::payload) {
            None => Ok(None),
            Some(Payload::Value(v)) => T::from_value(v).map(Some).ok_or(CmdError::WRONG_TYPE),
            Some(_) => Err(CmdError::WRONG_TYPE),
        }
    }

    /// Several collections for reading, side by side; `None` stands for a key that does not exist.
    pub fn read_all<T: Collection + 'static>(&mut self, keys: &[&[u8]]) -> Result<Vec<Option<&T>>, CmdError> {
        // First as single reads, with all that goes with them; then the shards stay as they are.
        let mut found: SmallVec<[bool; 8]> = SmallVec::new();
        for key in keys {
            found.push(self.read::<T>(key)?.is_some());
        }
        let this = &*self;
        let get = |(key, found): (&&[u8], bool)| {
            let h = hash(key);
            let shard = this.held.shard_ref(this.inner.shard_of(h));
            match shard.dbs[this.db as usize].get_hashed(h, key).filter(|_| found)?.payload() {
                Payload::Value(v) => T::from_value(v),
                _ => None,
            }
        };
        Ok(keys.iter().zip(found).map(get).collect())
    }

    // ---- writing ----

    /// Removes the key where it has expired. Call order is: expired keys go first, then the write.
    fn expire_now(&mut self, k: Hashed<'_>) {
        let due = match self.table(k.hash).get_hashed(k.hash, k.key) {
            Some(e) => e.expire(),
            None => None,
        };
        if let Some(at) = due
            && at <= self.now
            && !self.see_expired
            && !self.keep_expired
        {
            self.remove_expired(k);
        }
    }

    fn remove_expired(&mut self, k: Hashed<'_>) {
        let db = self.db;
        self.table(k.hash).remove_hashed(k.hash, k.key);
        self.shard(k.hash).stats.expired += 1;
        if !self.doomed.iter().any(|(d, key)| *d == db && &**key == k.key) {
            self.fx.push(db, &[b"DEL", k.key]);
        }
        self.signal(k.key);
    }

    /// Is there a live key, for a command that is about to write? An expired one goes first.
    #[inline]
    pub fn live(&mut self, key: &[u8]) -> bool {
        self.touch_live(key).is_some()
    }

    /// A live key for a command that is about to write: an expired one goes first, and looking is an access.
    #[inline]
    fn touch_live(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let k = self.hashed(key);
        self.expire_now(k);
        let (now, see, lru) = (self.now, self.see_expired, self.lru());
        let e = self.table(k.hash).touch_hashed(k.hash, key, lru)?;
        (see || e.expire().is_none_or(|at| at > now)).then_some(e)
    }

    /// Does a key given this expiry vanish at once? Not where a primary decides about expiry, or decided already.
    pub fn is_past(&self, at_ms: i64) -> bool {
        at_ms <= self.now && !self.see_expired && !self.keep_expired
    }

    /// A collection for changing. It must not be left empty: see [`Keys::remove_if_empty`].
    pub fn write<T: Collection + 'static>(&mut self, key: &[u8]) -> Result<Option<&mut T>, CmdError> {
        let k = self.hashed(key);
        self.expire_now(k);
        let lru = self.lru();
        // The type is checked before, so that a refused command hands nothing to a cut.
        match self.table(k.hash).get_hashed(k.hash, key).map(EntryRef::payload) {
            None => return Ok(None),
            Some(Payload::Value(v)) if T::from_value(v).is_some() => {}
            Some(_) => return Err(CmdError::WRONG_TYPE),
        }
        let Some(mut e) = self.table(k.hash).get_mut_hashed(k.hash, key) else { return Ok(None) };
        e.set_lru(lru);
        Ok(e.value_mut().and_then(T::from_value_mut))
    }

    /// A collection for changing, created empty where there is none; it must not be left empty.
    pub fn write_or_create<T: Collection + 'static>(&mut self, key: &[u8]) -> Result<&mut T, CmdError> {
        let k = self.hashed(key);
        self.expire_now(k);
        let exists = match self.table(k.hash).get_hashed(k.hash, key).map(EntryRef::payload) {
            None => false,
            Some(Payload::Value(v)) if T::from_value(v).is_some() => true,
            Some(_) => return Err(CmdError::WRONG_TYPE),
        };
        if !exists {
            self.put(Entry::value(key, T::empty().into_value(), None), k.hash);
        }
        let lru = self.lru();
        let mut e = self.table(k.hash).get_mut_hashed(k.hash, key).ok_or(CmdError::NO_KEY)?;
        e.set_lru(lru);
        e.value_mut().and_then(T::from_value_mut).ok_or(CmdError::WRONG_TYPE)
    }

    /// Removes the key where its collection has become empty; true where it did.
    pub fn remove_if_empty(&mut self, key: &[u8]) -> bool {
        let h = hash(key);
        let empty = matches!(
            self.table(h).get_hashed(h, key).map(EntryRef::payload),
            Some(Payload::Value(v)) if v.is_empty()
        );
        empty && self.table(h).remove_hashed(h, key)
    }

    fn put(&mut self, mut e: Entry, hash: u64) {
        let lru = self.lru();
        e.as_mut().set_lru(lru);
        self.table(hash).insert_hashed(hash, e);
    }

    /// Sets a string, replacing whatever the key held. Canonical integers are stored as such.
    pub fn set_string(&mut self, key: &[u8], value: &[u8], expiry: NewExpiry) {
        let k = self.hashed(key);
        match crate::num::parse_i64(value) {
            Some(i) => self.set_payload(k, Payload::Int(i), expiry),
            None => self.set_payload(k, Payload::Str(value), expiry),
        }
    }

    /// Sets an integer string, replacing whatever the key held.
    pub fn set_int(&mut self, key: &[u8], value: i64, expiry: NewExpiry) {
        let k = self.hashed(key);
        self.set_payload(k, Payload::Int(value), expiry);
    }

    /// Overwrites a string from `offset` on, growing it (with zeros in a gap) where needed and creating it where
    /// missing; its expiry stays. The key holds a string or nothing, and the caller has bounded the new length.
    pub fn splice_string(&mut self, key: &[u8], offset: usize, bytes: &[u8]) {
        let k = self.hashed(key);
        let lru = self.lru();
        if self.table(k.hash).splice(k.hash, key, offset, bytes, lru) {
            return;
        }
        match self.table(k.hash).get_hashed(k.hash, key).map(EntryRef::payload) {
            // An integer becomes text first.
            Some(Payload::Int(i)) => {
                self.set_payload(k, Payload::Str(itoa::Buffer::new().format(i).as_bytes()), NewExpiry::Keep);
            }
            _ => self.set_payload(k, Payload::Str(b""), NewExpiry::Keep),
        }
        self.table(k.hash).splice(k.hash, key, offset, bytes, lru);
    }

    /// Sets a string as [`Keys::set_string`] does, but keeps it as text even where it spells an integer.
    pub fn set_text(&mut self, key: &[u8], value: &[u8], expiry: NewExpiry) {
        let k = self.hashed(key);
        self.set_payload(k, Payload::Str(value), expiry);
    }

    /// Changes an integer string (a missing key counts as 0) and returns what it became; its expiry stays. Where
    /// there is an integer already, nothing is allocated.
    #[inline]
    pub fn update_int(
        &mut self,
        key: &[u8],
        change: impl FnOnce(i64) -> Result<i64, CmdError>,
    ) -> Result<i64, CmdError> {
        let k = self.hashed(key);
        let (now, lru, see) = (self.now, self.lru(), self.see_expired);
        let table = self.table(k.hash);
        if let Some(e) = table.get_hashed(k.hash, key)
            && let Payload::Int(old) = e.payload()
            && (see || e.expire().is_none_or(|at| at > now))
        {
            let new = change(old)?;
            let mut e = table.get_mut_hashed(k.hash, key).expect("found above");
            e.overwrite(Payload::Int(new));
            e.set_lru(lru);
            return Ok(new);
        }
        let old = match self.string_to_change(key)? {
            None => 0,
            Some(StrRef::Int(i)) => i,
            Some(StrRef::Bytes(b)) => crate::num::parse_i64(b).ok_or(CmdError::NOT_INT)?,
        };
        let new = change(old)?;
        self.set_payload(k, Payload::Int(new), NewExpiry::Keep);
        Ok(new)
    }

    fn set_payload(&mut self, k: Hashed<'_>, new: Payload<'_>, expiry: NewExpiry) {
        let lru = self.lru();
        let (now, see) = (self.now, self.see_expired);
        let table = self.table(k.hash);
        let mut expire = match expiry {
            NewExpiry::At(ms) => Some(ms),
            NewExpiry::Clear | NewExpiry::Keep => None,
        };
        if let Some(old) = table.get_hashed(k.hash, k.key) {
            let live = see || old.expire().is_none_or(|at| at > now);
            if expiry == NewExpiry::Keep && live {
                expire = old.expire();
            }
            // Same shape and no cut that needs the old one: overwrite in place, allocate nothing.
            if old.expire().is_some() == expire.is_some() && !table.unvisited(old) {
                let mut e = table.get_mut_hashed(k.hash, k.key).expect("found above");
                if e.overwrite(new) {
                    e.set_lru(lru);
                    if let Some(ms) = expire {
                        e.set_expire_in_place(ms);
                    }
                    return;
                }
            }
        }
        let entry = match new {
            Payload::Int(i) => Entry::int(k.key, i, expire),
            Payload::Str(s) => Entry::string(k.key, s, expire),
            _ => unreachable!("strings only"),
        };
        self.put(entry, k.hash);
    }

    /// Sets a collection (which must not be empty), replacing whatever the key held.
    pub fn set_value(&mut self, key: &[u8], value: Value, expire: Option<i64>) {
        let h = hash(key);
        self.put(Entry::value(key, value, expire), h);
    }

    /// Deletes a live key; true where there was one.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let k = self.hashed(key);
        self.expire_now(k);
        if self.keep_expired && self.peek(key).is_none() {
            return false;
        }
        self.table(k.hash).remove_hashed(k.hash, key)
    }

    /// As [`Keys::delete`], but nobody waits for a large collection to be freed.
    pub fn unlink(&mut self, key: &[u8]) -> bool {
        let k = self.hashed(key);
        self.expire_now(k);
        let table = self.table(k.hash);
        let large = table.get_hashed(k.hash, key).is_some_and(|e| {
            // What a cut still needs goes to the cut whole.
            !table.unvisited(e) && matches!(e.payload(), Payload::Value(v) if v.len() > LAZY_FREE_ELEMENTS)
        });
        if !large {
            return self.delete(key);
        }
        let entry = table.take(k.hash, key);
        let exists = entry.is_some();
        std::thread::spawn(move || drop(entry));
        exists
    }

    /// Takes a live key's entry out of the keyspace (RENAME, MOVE).
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let k = self.hashed(key);
        self.expire_now(k);
        self.table(k.hash).take(k.hash, key)
    }

    /// A copy of a live key's entry.
    pub fn copy(&mut self, key: &[u8]) -> Option<Entry> {
        self.peek(key).map(Entry::duplicate)
    }

    /// Puts an entry under `key` into database `db`, replacing what is there.
    pub fn place(&mut self, db: u32, key: &[u8], entry: Entry, expire: Option<i64>) {
        let h = hash(key);
        let entry = entry.rekeyed(key, expire);
        self.shard(h).dbs[db as usize].insert_hashed(h, entry);
    }

    /// The expiry of a live key: `None` where there is no key.
    pub fn expiry(&mut self, key: &[u8]) -> Option<Option<i64>> {
        self.peek(key).map(EntryRef::expire)
    }

    /// Sets or clears the expiry of a live key; false where there is no key.
    pub fn set_expiry(&mut self, key: &[u8], at_ms: Option<i64>) -> bool {
        let k = self.hashed(key);
        self.expire_now(k);
        self.table(k.hash).set_expire(k.hash, key, at_ms)
    }

    /// Counts a change of `key` and tells its watchers.
    #[inline]
    pub fn changed(&mut self, key: &[u8]) {
        self.fx.dirty += 1;
        self.signal(key);
    }

    /// Tells watchers of a key in the selected database.
    pub fn signal(&mut self, key: &[u8]) {
        self.signal_in(self.db, key);
    }

    /// Tells watchers of a key in a database, and notes whether commands wait for it.
    pub fn signal_in(&mut self, db: u32, key: &[u8]) {
        if self.inner.blocked.load(Ordering::Relaxed) != 0 {
            self.note_ready(db, key);
        }
        if self.inner.watchers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let h = hash(key);
        self.shard(h).watched.raise(db, key);
    }

    // ---- exclusive access (commands that run with `Run::All`) ----

    /// Calls `f` with the table of each shard for one database, in shard order.
    pub fn each_table(&mut self, db: u32, mut f: impl FnMut(usize, &mut Table)) {
        self.held.each(|i, shard| f(i, &mut shard.dbs[db as usize]));
    }

    /// Keys in a database, expired ones included.
    pub fn db_len(&mut self, db: u32) -> usize {
        let mut n = 0;
        self.each_table(db, |_, t| n += t.len());
        n
    }

    /// Empties a database and tells watchers; returns how many keys there were. A running cut adopts what it still
    /// has to deliver.
    pub fn flush_db(&mut self, db: u32) -> usize {
        let cut = self.inner.cut.lock().clone();
        let mut n = 0;
        self.held.each(|_, shard| {
            let there = |key: &[u8]| shard.dbs[db as usize].get(key).is_some();
            shard.watched.raise_where(|d, key| d == db && there(key));
            let table = std::mem::take(&mut shard.dbs[db as usize]);
            n += table.len();
            if table.capture().is_some()
                && let Some(cut) = &cut
            {
                cut.adopt(table);
            } else if table.len() > LAZY_FREE_ELEMENTS {
                // Freeing a million entries takes a tenth of a second: nobody should wait for it.
                std::thread::spawn(move || drop(table));
            }
        });
        n
    }

    /// Exchanges two databases and tells watchers of keys in either.
    pub fn swap_dbs(&mut self, a: u32, b: u32) {
        if let Some(cut) = &*self.inner.cut.lock() {
            cut.raise_barrier();
        }
        self.held.each(|_, shard| {
            let there = |db: u32, key: &[u8]| shard.dbs[db as usize].get(key).is_some();
            shard.watched.raise_where(|d, key| (d == a || d == b) && (there(a, key) || there(b, key)));
            shard.dbs.swap(a as usize, b as usize);
        });
        if self.inner.blocked.load(Ordering::Relaxed) != 0 {
            self.note_all_ready(a);
            self.note_all_ready(b);
        }
    }

    /// One step of SCAN over the selected database; `report` gets live entries, expired ones are removed on the way.
    /// Needs `Run::All`.
    pub fn scan(&mut self, cursor: u64, count: usize, mut report: impl FnMut(EntryRef<'_>)) -> u64 {
        let (now, see) = (self.now, self.see_expired);
        let mut due: Vec<Vec<u8>> = Vec::new();
        let next = self.scan_entries(cursor, count, |e| {
            if see || e.expire().is_none_or(|t| t > now) {
                report(e);
            } else {
                due.push(e.key().to_vec());
            }
        });
        for key in &due {
            let k = self.hashed(key);
            self.expire_now(k);
        }
        next
    }

    fn scan_entries(&mut self, cursor: u64, count: usize, mut visit: impl FnMut(EntryRef<'_>)) -> u64 {
        let db = self.db as usize;
        let shards = self.inner.shards.len();
        let mut shard = (cursor >> 48) as usize;
        let mut at = cursor & ((1 << 48) - 1);
        let mut left = count.max(1) as i64;
        while shard < shards {
            let next = self.held.shard(shard).dbs[db].scan(at, left.max(1) as usize, |e| {
                left -= 1;
                visit(e);
            });
            if next != 0 {
                return (shard as u64) << 48 | next;
            }
            shard += 1;
            at = 0;
            if left <= 0 && shard < shards {
                return (shard as u64) << 48;
            }
        }
        0
    }

    /// A random live key of the selected database. Needs `Run::All`.
    pub fn random_key(&mut self) -> Option<Vec<u8>> {
        let db = self.db as usize;
        // A bounded number of tries: a database full of expired keys on a replica must not hold everyone.
        let mut last = None;
        for _ in 0..100 {
            let total = self.db_len(self.db);
            if total == 0 {
                return None;
            }
            let mut skip = crate::hash::random_u64() as usize % total;
            let mut found = None;
            self.held.each(|_, s| {
                let table = &s.dbs[db];
                if found.is_none() && skip < table.len() {
                    found = table.random().map(|e| (e.key().to_vec(), e.expire()));
                } else if found.is_none() {
                    skip -= table.len();
                }
            });
            let (key, expire) = found?;
            if self.see_expired || expire.is_none_or(|at| at > self.now) {
                return Some(key);
            }
            if !self.keep_expired {
                let k = self.hashed(&key);
                self.remove_expired(k);
            }
            last = Some(key);
        }
        last
    }

    // ---- the end of a command ----

    /// Removes keys that were found expired while they were borrowed.
    pub(crate) fn remove_doomed(&mut self) {
        if self.doomed.is_empty() {
            return;
        }
        let selected = self.db;
        for (db, key) in std::mem::take(&mut self.doomed) {
            self.db = db;
            let k = Hashed { key: &key, hash: hash(&key) };
            let due = match self.table(k.hash).get_hashed(k.hash, &key) {
                Some(e) => {
                    let at = e.expire();
                    at.is_some_and(|at| at <= self.now)
                }
                None => false,
            };
            if due {
                self.table(k.hash).remove_hashed(k.hash, &key);
                self.shard(k.hash).stats.expired += 1;
                self.signal(&key);
            }
        }
        self.db = selected;
    }

    pub(crate) fn is_due_key(&mut self, db: u32, key: &[u8]) -> bool {
        let h = hash(key);
        let now = self.now;
        self.shard(h).dbs[db as usize]
            .get_hashed(h, key)
            .and_then(EntryRef::expire)
            .is_some_and(|at| at <= now)
    }
}

/// Parses an integer argument.
#[inline]
pub fn int_arg(arg: &[u8]) -> Result<i64, CmdError> {
    crate::num::parse_i64(arg).ok_or(CmdError::NOT_INT)
}

/// Refuses with `ERR syntax error` unless `ok`.
pub fn syntax(ok: bool) -> CmdResult {
    if ok { Ok(()) } else { Err(CmdError::SYNTAX) }
}

impl Held<'_> {
    /// Hands a key's value to a running cut that has not delivered it.
    pub(crate) fn hand_over(&mut self, index: usize, db: u32, hash: u64, key: &[u8]) {
        // Looking it up for changing is what hands it over.
        let _ = self.shard(index).dbs[db as usize].get_mut_hashed(hash, key);
    }

    pub(crate) fn unvisited(&mut self, index: usize, db: u32, hash: u64, key: &[u8]) -> bool {
        let table = &self.shard(index).dbs[db as usize];
        table.get_hashed(hash, key).is_some_and(|e| table.unvisited(e))
    }
}
