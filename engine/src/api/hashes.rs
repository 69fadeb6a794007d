//! Typed operations on hashes.

use super::{Access, Db, Error, Result, fits};
use crate::encoding::LpValue;
use crate::keyspace::Event;
use crate::value::Hash;

/// # Hashes
///
/// ```
/// # use sluice_engine::{Engine, Error};
/// # let engine = Engine::default();
/// let db = engine.db(0);
/// assert!(db.hset("user:7", "name", "Ada")?);
/// assert_eq!(db.hset_many("user:7", &[("name", "Ada L."), ("born", "1815")])?, 1);
/// assert_eq!(db.hget("user:7", "name")?.unwrap(), b"Ada L.");
/// assert_eq!(db.hincr_by("user:7", "born", 1)?, 1816);
/// assert_eq!(db.hdel("user:7", &["name", "none"])?, 1);
/// assert_eq!(db.hgetall("user:7")?, [(b"born".to_vec(), b"1816".to_vec())]);
/// # Ok::<(), Error>(())
/// ```
impl Db<'_> {
    fn read_hash<R>(&self, key: &[u8], f: impl FnOnce(&Hash) -> R) -> Result<Option<R>> {
        self.run(&[key], Access::Read, |cx| Ok(cx.keys.read::<Hash>(key)?.map(f)))
    }

    /// Sets a field; true where it is new.
    pub fn hset(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool> {
        Ok(self.hset_many(key, &[(field, value)])? == 1)
    }

    /// Sets several fields; how many are new.
    pub fn hset_many(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)],
    ) -> Result<usize> {
        let key = key.as_ref();
        if fields.is_empty() {
            return Ok(0);
        }
        fits([key].into_iter().chain(fields.iter().flat_map(|(f, v)| [f.as_ref(), v.as_ref()])))?;
        self.run(&[key], Access::Write, |cx| {
            let limits = cx.keys.limits().hash();
            let hash = cx.keys.write_or_create::<Hash>(key)?;
            let new = fields.iter().filter(|(f, v)| hash.set(f.as_ref(), v.as_ref(), limits)).count();
            cx.changed(key, Event::HSet);
            let each = fields.iter().flat_map(|(f, v)| [f.as_ref(), v.as_ref()]);
            cx.propagate_items(&[b"HSET", key], each, 2);
            Ok(new)
        })
    }

    /// The value of a field.
    pub fn hget(&self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let field = field.as_ref();
        Ok(self.read_hash(key.as_ref(), |h| h.get(field).map(|v| v.to_vec()))?.flatten())
    }

    /// What `f` makes of the value of a field, which is not copied. `f` runs under the lock of the key's shard: see
    /// [`Db::get_with`].
    pub fn hget_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let field = field.as_ref();
        let found = self.read_hash(key.as_ref(), |hash| {
            hash.get(field).map(|value| f(value.as_bytes(&mut itoa::Buffer::new())))
        });
        Ok(found?.flatten())
    }

    /// All fields and values: in the order of insertion while the hash is small, in no order when large.
    pub fn hgetall(&self, key: impl AsRef<[u8]>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let all = self.read_hash(key.as_ref(), |h| h.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect());
        Ok(all?.unwrap_or_default())
    }

    /// Number of fields.
    pub fn hlen(&self, key: impl AsRef<[u8]>) -> Result<usize> {
        Ok(self.read_hash(key.as_ref(), Hash::len)?.unwrap_or(0))
    }

    /// Is there such a field?
    pub fn hexists(&self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.read_hash(key.as_ref(), |h| h.contains(field.as_ref()))?.unwrap_or(false))
    }

    /// Removes fields, and the key with the last of them; how many there were.
    pub fn hdel(&self, key: impl AsRef<[u8]>, fields: &[impl AsRef<[u8]>]) -> Result<usize> {
        let key = key.as_ref();
        self.run(&[key], Access::Write, |cx| {
            let Some(hash) = cx.keys.write::<Hash>(key)? else { return Ok(0) };
            let removed = fields.iter().filter(|f| hash.remove(f.as_ref())).count();
            if removed > 0 {
                cx.removed_elements(key, removed, Event::HDel);
                cx.propagate_items(&[b"HDEL", key], fields.iter().map(AsRef::as_ref), 1);
            }
            Ok(removed)
        })
    }

    /// Adds to an integer field (a missing one counts as 0) and returns the sum.
    pub fn hincr_by(&self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        let (key, field) = (key.as_ref(), field.as_ref());
        fits([key, field])?;
        self.run(&[key], Access::Write, |cx| {
            let old = match cx.keys.read_to_change::<Hash>(key)?.and_then(|h| h.get(field)) {
                None => 0,
                Some(value) => LpValue::to_i64(&value).ok_or(Error::FieldNotInteger)?,
            };
            let sum = old.checked_add(by).ok_or(Error::Overflow)?;
            let mut digits = itoa::Buffer::new();
            let sum_text = digits.format(sum).as_bytes();
            let limits = cx.keys.limits().hash();
            cx.keys.write_or_create::<Hash>(key)?.set(field, sum_text, limits);
            cx.changed(key, Event::HIncrBy);
            cx.propagate(&[b"HSET", key, field, sum_text]);
            Ok(sum)
        })
    }
}
