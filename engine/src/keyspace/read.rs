//! Keys for reading: looking counts hits and misses, and hides what has expired.
//!
//! Nothing here changes a value, so a running cut learns of nothing, but for an expired key that a read meets: it is
//! removed at once (see the module `visibility`).

use super::events::Event;
use super::keys::{Hashed, Keys, StrRef};
use super::visibility::expire;
use crate::error::Error as CmdError;
use crate::hash::hash;
use crate::value::{Collection, Entry, EntryRef, Payload, Type};
use smallvec::SmallVec;

impl Keys<'_> {
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
        let h = self.hashed(key).hash;
        let (db, now, lru) = (self.db, self.now, self.lru());
        let index = self.inner.shard_of(h);
        let shard = self.held.shard(index);
        let table = &shard.dbs[db as usize];
        let Some(place) = table.place(h, key) else {
            shard.stats.misses += 1;
            self.fx.note(&self.inner.listening, db, key, Event::KeyMiss);
            return None;
        };
        if let Some(at) = table.expiry_at(h, place)
            && at <= now
            && !self.see_expired
        {
            shard.stats.misses += 1;
            if !self.keep_expired {
                expire(self.inner, shard, self.fx, db, Hashed { key, hash: h });
            }
            self.fx.note(&self.inner.listening, db, key, Event::KeyMiss);
            return None;
        }
        shard.stats.hits += 1;
        Some(shard.dbs[db as usize].entry_at(h, place, TOUCH.then_some(lru)))
    }

    /// The entry of a live key, counted nowhere; an expired one is hidden but not removed.
    pub fn peek(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let h = self.hashed(key).hash;
        let (now, see) = (self.now, self.see_expired);
        let e = self.table(h).get_hashed(h, key)?;
        if !see && e.expire().is_some_and(|at| at <= now) {
            return None;
        }
        Some(e)
    }

    /// As [`Keys::peek`], for several keys side by side.
    pub(crate) fn peek_shared(&self, key: &[u8]) -> Option<EntryRef<'_>> {
        let h = hash(key);
        let shard = self.held.shard_ref(self.inner.shard_of(h));
        let e = shard.dbs[self.db as usize].get_hashed(h, key)?;
        (self.see_expired || e.expire().is_none_or(|at| at > self.now)).then_some(e)
    }

    /// The entry of a key, be it live or expired and not removed yet.
    pub fn raw(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let h = self.hashed(key).hash;
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
            Some(_) => Err(CmdError::WrongType),
        }
    }

    /// A collection for reading.
    pub fn read<T: Collection + 'static>(&mut self, key: &[u8]) -> Result<Option<&T>, CmdError> {
        match self.find(key).map(EntryRef::payload) {
            None => Ok(None),
            Some(Payload::Value(v)) => T::from_value(v).map(Some).ok_or(CmdError::WrongType),
            Some(_) => Err(CmdError::WrongType),
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

    /// The expiry of a live key: `None` where there is no key.
    pub fn expiry(&mut self, key: &[u8]) -> Option<Option<i64>> {
        self.peek(key).map(EntryRef::expire)
    }

    /// A copy of a live key's entry.
    pub fn copy(&mut self, key: &[u8]) -> Option<Entry> {
        self.peek(key).map(Entry::duplicate)
    }
}
