//! Typed operations on keys of any type, and on a whole database.

use super::{Access, Db, Error, Result, fits};
use crate::entry::EntryRef;
use crate::keyspace::Event;
use crate::value::Type;
use std::time::Duration;

/// How long a key lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    NoKey,
    /// It does not expire.
    Forever,
    /// It expires after this time.
    Left(Duration),
}

/// # Keys of any type
///
/// ```
/// # use sluice_engine::{Engine, Error, Ttl, Type};
/// # use std::time::Duration;
/// # let engine = Engine::default();
/// let db = engine.db(0);
/// db.set_many(&[("a", "1"), ("b", "2"), ("c", "3")])?;
/// assert!(db.expire("a", Duration::from_secs(60)));
/// assert!(matches!(db.ttl("a"), Ttl::Left(time) if time <= Duration::from_secs(60)));
/// assert_eq!(db.ttl("b"), Ttl::Forever);
/// assert_eq!(db.type_of("c"), Some(Type::String));
/// assert_eq!(db.del(&["a", "b", "missing"]), 2);
/// db.flush();
/// assert!(db.is_empty());
/// # Ok::<(), Error>(())
/// ```
impl Db<'_> {
    /// Deletes keys; how many there were.
    pub fn del(&self, keys: &[impl AsRef<[u8]>]) -> usize {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        self.run(&keys, Access::Write, |cx| {
            let mut gone: Vec<&[u8]> = Vec::new();
            for key in &keys {
                if cx.delete(key) {
                    gone.push(key);
                }
            }
            if !gone.is_empty() {
                cx.propagate_items(&[b"DEL"], gone.iter().copied(), 1);
            }
            gone.len()
        })
    }

    /// Is there such a key?
    pub fn exists(&self, key: impl AsRef<[u8]>) -> bool {
        self.type_of(key).is_some()
    }

    /// The type of a key's value.
    pub fn type_of(&self, key: impl AsRef<[u8]>) -> Option<Type> {
        let key = key.as_ref();
        self.run(&[key], Access::Read, |cx| cx.keys.look(key).map(Type::of))
    }

    /// Makes a key expire after some time; false where there is no such key.
    pub fn expire(&self, key: impl AsRef<[u8]>, after: Duration) -> bool {
        let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        self.expire_when(key.as_ref(), |now| now.saturating_add(after))
    }

    /// Makes a key expire at a Unix time in milliseconds, which deletes it where that is past; false where there is
    /// no such key.
    pub fn expire_at(&self, key: impl AsRef<[u8]>, at_ms: i64) -> bool {
        self.expire_when(key.as_ref(), |_| at_ms)
    }

    fn expire_when(&self, key: &[u8], at_ms: impl FnOnce(i64) -> i64) -> bool {
        self.run(&[key], Access::Write, |cx| {
            let at_ms = at_ms(cx.keys.now);
            if !cx.keys.live(key) {
                return false;
            }
            if cx.keys.is_past(at_ms) {
                cx.delete(key);
                cx.propagate(&[b"DEL", key]);
            } else {
                cx.keys.set_expiry(key, Some(at_ms));
                cx.changed(key, Event::Expire);
                cx.propagate(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at_ms).as_bytes()]);
            }
            true
        })
    }

    /// Takes a key's expiry away; true where it had one.
    pub fn persist(&self, key: impl AsRef<[u8]>) -> bool {
        let key = key.as_ref();
        self.run(&[key], Access::Write, |cx| {
            let had = cx.keys.live(key) && cx.keys.expiry(key).flatten().is_some();
            if had {
                cx.keys.set_expiry(key, None);
                cx.changed(key, Event::Persist);
                cx.propagate(&[b"PERSIST", key]);
            }
            had
        })
    }

    /// How long a key lives on.
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> Ttl {
        let key = key.as_ref();
        self.run(&[key], Access::Read, |cx| {
            let now = cx.keys.now;
            match cx.keys.look(key).map(EntryRef::expire) {
                None => Ttl::NoKey,
                Some(None) => Ttl::Forever,
                Some(Some(at)) => Ttl::Left(Duration::from_millis(at.saturating_sub(now).max(0) as u64)),
            }
        })
    }

    /// Renames a key, replacing what the new name held.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        fits([to])?;
        self.run(&[from, to], Access::Write, |cx| {
            if !cx.keys.live(from) {
                return Err(Error::NoSuchKey);
            }
            if from == to {
                return Ok(());
            }
            cx.keys.live(to);
            let (db, expire) = (cx.keys.db, cx.keys.expiry(from).flatten());
            let entry = cx.keys.take(from).ok_or(Error::NoSuchKey)?;
            cx.keys.place(db, to, entry, expire);
            cx.changed(from, Event::RenameFrom);
            cx.keys.touched(db, to, Event::RenameTo);
            cx.propagate(&[b"RENAME", from, to]);
            Ok(())
        })
    }

    /// Number of keys, those included that have expired and were not removed yet.
    pub fn len(&self) -> usize {
        self.run_all(|cx| {
            let db = cx.keys.db;
            cx.keys.db_len(db)
        })
    }

    /// True where there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Deletes every key of the database.
    pub fn flush(&self) {
        self.run_all(|cx| {
            let db = cx.keys.db;
            let n = cx.keys.flush_db(db);
            cx.add_dirty(n as u64);
            cx.propagate(&[b"FLUSHDB"]);
        });
    }
}
