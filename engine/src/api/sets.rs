//! Typed operations on sets.

use super::{Access, Db, Result, fits};
use crate::keyspace::Event;
use crate::value::Set;

/// # Sets
///
/// ```
/// # use sluice_engine::{Engine, Error};
/// # let engine = Engine::default();
/// let db = engine.db(0);
/// assert_eq!(db.sadd("tags", &["red", "green", "red"])?, 2);
/// assert!(db.sismember("tags", "red")?);
/// assert_eq!(db.srem("tags", &["red"])?, 1);
/// assert_eq!(db.smembers("tags")?, [b"green"]);
/// assert_eq!(db.scard("tags")?, 1);
/// assert_eq!(db.spop("tags")?.unwrap(), b"green");
/// # Ok::<(), Error>(())
/// ```
impl Db<'_> {
    fn read_set<R>(&self, key: &[u8], f: impl FnOnce(&Set) -> R) -> Result<Option<R>> {
        self.run(&[key], Access::Read, |cx| Ok(cx.keys.read::<Set>(key)?.map(f)))
    }

    /// Adds members; how many are new.
    pub fn sadd(&self, key: impl AsRef<[u8]>, members: &[impl AsRef<[u8]>]) -> Result<usize> {
        let key = key.as_ref();
        if members.is_empty() {
            return Ok(0);
        }
        fits([key].into_iter().chain(members.iter().map(AsRef::as_ref)))?;
        self.run(&[key], Access::Write, |cx| {
            let limit = cx.keys.limits().intset();
            let set = cx.keys.write_or_create::<Set>(key)?;
            let new = members.iter().filter(|m| set.add(m.as_ref(), limit)).count();
            if new > 0 {
                cx.changed(key, Event::SAdd);
                cx.propagate_items(&[b"SADD", key], members.iter().map(AsRef::as_ref), 1);
            }
            Ok(new)
        })
    }

    /// Removes members, and the key with the last of them; how many there were.
    pub fn srem(&self, key: impl AsRef<[u8]>, members: &[impl AsRef<[u8]>]) -> Result<usize> {
        let key = key.as_ref();
        self.run(&[key], Access::Write, |cx| {
            let Some(set) = cx.keys.write::<Set>(key)? else { return Ok(0) };
            let removed = members.iter().filter(|m| set.remove(m.as_ref())).count();
            if removed > 0 {
                cx.removed_elements(key, removed, Event::SRem);
                cx.propagate_items(&[b"SREM", key], members.iter().map(AsRef::as_ref), 1);
            }
            Ok(removed)
        })
    }

    /// Removes a random member and returns it; logged as the removal of just that member.
    pub fn spop(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let key = key.as_ref();
        self.run(&[key], Access::Write, |cx| {
            let Some(set) = cx.keys.write::<Set>(key)? else { return Ok(None) };
            let Some(member) = set.random().map(|m| m.to_vec()) else { return Ok(None) };
            set.remove(&member);
            cx.removed_elements(key, 1, Event::SPop);
            cx.propagate(&[b"SREM", key, &member]);
            Ok(Some(member))
        })
    }

    /// All members: ascending while they are few integers, else in no order.
    pub fn smembers(&self, key: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        let all = self.read_set(key.as_ref(), |s| s.iter().map(|m| m.to_vec()).collect());
        Ok(all?.unwrap_or_default())
    }

    /// Is it a member?
    pub fn sismember(&self, key: impl AsRef<[u8]>, member: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.read_set(key.as_ref(), |s| s.contains(member.as_ref()))?.unwrap_or(false))
    }

    /// Number of members.
    pub fn scard(&self, key: impl AsRef<[u8]>) -> Result<usize> {
        Ok(self.read_set(key.as_ref(), Set::len)?.unwrap_or(0))
    }
}
