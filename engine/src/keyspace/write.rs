//! Keys for changing: setting, editing, moving and deleting values.
//!
//! Every method sees to it that an expired key goes first, and that a running cut gets what it still needs (the tables
//! do that, see [`crate::table`]). That something changed is for the command to say: [`Ctx::changed`](super::Ctx::changed). Types are
//! checked before anything is handed to a cut, so a refused command costs it nothing.

use super::events::Event;
use super::keys::{Hashed, Keys, NewExpiry, StrRef};
use crate::cut::capture::placed;
use crate::error::Error as CmdError;
use crate::value::{Collection, Entry, EntryRef, Payload, Value};

impl Keys<'_> {
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

    /// A string that a command is about to change: an expired one goes first, and nothing is counted as a hit.
    #[inline]
    pub fn string_to_change(&mut self, key: &[u8]) -> Result<Option<StrRef<'_>>, CmdError> {
        match self.touch_live(key).map(EntryRef::payload) {
            None => Ok(None),
            Some(Payload::Str(b)) => Ok(Some(StrRef::Bytes(b))),
            Some(Payload::Int(i)) => Ok(Some(StrRef::Int(i))),
            Some(_) => Err(CmdError::WrongType),
        }
    }

    /// A collection that a command may be about to change: an expired one goes first, nothing is counted as a hit,
    /// and nothing is handed to a cut yet.
    pub fn read_to_change<T: Collection + 'static>(&mut self, key: &[u8]) -> Result<Option<&T>, CmdError> {
        match self.touch_live(key).map(EntryRef::payload) {
            None => Ok(None),
            Some(Payload::Value(v)) => T::from_value(v).map(Some).ok_or(CmdError::WrongType),
            Some(_) => Err(CmdError::WrongType),
        }
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
            Some(_) => return Err(CmdError::WrongType),
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
            Some(_) => return Err(CmdError::WrongType),
        };
        if !exists {
            self.put(Entry::value(key, T::empty().into_value(), None), k);
        }
        let lru = self.lru();
        let mut e = self.table(k.hash).get_mut_hashed(k.hash, key).ok_or(CmdError::NoSuchKey)?;
        e.set_lru(lru);
        e.value_mut().and_then(T::from_value_mut).ok_or(CmdError::WrongType)
    }

    /// Removes the key where its collection has become empty; true where it did.
    pub fn remove_if_empty(&mut self, key: &[u8]) -> bool {
        let h = self.hashed(key).hash;
        let empty = matches!(
            self.table(h).get_hashed(h, key).map(EntryRef::payload),
            Some(Payload::Value(v)) if v.is_empty()
        );
        empty && self.table(h).remove_hashed(h, key)
    }

    fn put(&mut self, mut e: Entry, k: Hashed<'_>) {
        let lru = self.lru();
        e.as_mut().set_lru(lru);
        if !self.table(k.hash).insert_hashed(k.hash, e) {
            self.notify(self.db, k.key, Event::New);
        }
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

    /// Sets a string as [`Keys::set_string`] does, but keeps it as text even where it spells an integer.
    pub fn set_text(&mut self, key: &[u8], value: &[u8], expiry: NewExpiry) {
        let k = self.hashed(key);
        self.set_payload(k, Payload::Str(value), expiry);
    }

    /// Overwrites a string from `offset` on, growing it (with zeros in a gap) where needed and creating it where
    /// missing; its expiry stays. The key holds a live string or nothing, and the caller has bounded the new length.
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
            Some(StrRef::Bytes(b)) => crate::num::parse_i64(b).ok_or(CmdError::NotInteger)?,
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
        if let Some(place) = table.place(k.hash, k.key) {
            let had = table.expiry_at(k.hash, place);
            if !see && had.is_some_and(|at| at <= now) {
                self.remove_expired(k);
            } else {
                if expiry == NewExpiry::Keep {
                    expire = had;
                }
                // Same shape and no cut that needs the old one: overwrite in place, allocate nothing.
                if had.is_some() == expire.is_some()
                    && let Some(mut e) = table.visited_at(k.hash, place)
                    && e.overwrite(new)
                {
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
        self.put(entry, k);
    }

    /// Sets a collection (which must not be empty), replacing whatever the key held.
    pub fn set_value(&mut self, key: &[u8], value: Value, expire: Option<i64>) {
        let k = self.hashed(key);
        self.expire_now(k);
        self.put(Entry::value(key, value, expire), k);
    }

    /// Deletes a live key; true where there was one.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let k = self.hashed(key);
        self.expire_now(k);
        self.table(k.hash).remove_hashed(k.hash, key)
    }

    /// Takes a live key's entry out of the keyspace (RENAME, MOVE).
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let k = self.hashed(key);
        self.expire_now(k);
        self.table(k.hash).take(k.hash, key)
    }

    /// Puts an entry under `key` into database `db`, replacing what is there.
    pub fn place(&mut self, db: u32, key: &[u8], entry: Entry, expire: Option<i64>) {
        let h = self.hashed(key).hash;
        if let Some(at) = expire
            && self.replica
            && !self.see_expired
        {
            self.inner.own_expiries.insert(at, db, key);
        }
        let entry = entry.rekeyed(key, expire);
        placed(db, entry.as_ref());
        self.shard(h).dbs[db as usize].insert_hashed(h, entry);
        self.notify(db, key, Event::New);
    }

    /// Sets or clears the expiry of a live key; false where there is no key.
    pub fn set_expiry(&mut self, key: &[u8], at_ms: Option<i64>) -> bool {
        let k = self.hashed(key);
        self.expire_now(k);
        self.table(k.hash).set_expire(k.hash, key, at_ms)
    }
}
