//! Typed operations on lists.

use super::{Access, Db, Error, Result, fits, ranks};
use crate::keyspace::Event;
use crate::value::List;
use crate::value::list::NodeLimit;

#[derive(Clone, Copy)]
enum End {
    Left,
    Right,
}

/// # Lists
///
/// Indices count from 0, or from -1 backwards from the end.
///
/// ```
/// # use sluice_engine::{Engine, Error};
/// # let engine = Engine::default();
/// let db = engine.db(0);
/// assert_eq!(db.rpush("jobs", &["a", "b", "c"])?, 3);
/// db.lpush("jobs", &["urgent"])?;
/// assert_eq!(db.lrange("jobs", 0, 1)?, [&b"urgent"[..], b"a"]);
/// assert_eq!(db.lindex("jobs", -1)?.unwrap(), b"c");
/// assert_eq!(db.rpop("jobs")?.unwrap(), b"c");
/// assert_eq!(db.lrem("jobs", 0, "b")?, 1);
/// assert_eq!(db.llen("jobs")?, 2);
/// # Ok::<(), Error>(())
/// ```
impl Db<'_> {
    fn read_list<R>(&self, key: &[u8], f: impl FnOnce(&List) -> R) -> Result<Option<R>> {
        self.run(&[key], Access::Read, |cx| Ok(cx.keys.read::<List>(key)?.map(f)))
    }

    fn push(&self, key: &[u8], values: &[impl AsRef<[u8]>], end: End) -> Result<usize> {
        if values.is_empty() {
            return self.llen(key);
        }
        fits([key].into_iter().chain(values.iter().map(AsRef::as_ref)))?;
        self.run(&[key], Access::Write, |cx| {
            let limit = NodeLimit::from_config(cx.keys.limits().list());
            let list = cx.keys.write_or_create::<List>(key)?;
            for value in values {
                match end {
                    End::Left => list.push_front(value.as_ref(), limit),
                    End::Right => list.push_back(value.as_ref(), limit),
                }
            }
            let len = list.len();
            let name: &[u8] = if matches!(end, End::Left) { b"LPUSH" } else { b"RPUSH" };
            let event = if matches!(end, End::Left) { Event::LPush } else { Event::RPush };
            cx.changed(key, event);
            cx.propagate_items(&[name, key], values.iter().map(AsRef::as_ref), 1);
            Ok(len)
        })
    }

    fn pop(&self, key: &[u8], end: End) -> Result<Option<Vec<u8>>> {
        self.run(&[key], Access::Write, |cx| {
            let Some(list) = cx.keys.write::<List>(key)? else { return Ok(None) };
            let (value, name, event): (_, &[u8], _) = match end {
                End::Left => (list.pop_front(), b"LPOP", Event::LPop),
                End::Right => (list.pop_back(), b"RPOP", Event::RPop),
            };
            cx.removed_elements(key, 1, event);
            cx.propagate(&[name, key]);
            Ok(value)
        })
    }

    /// Pushes values to the front, one after the other; the length afterwards.
    pub fn lpush(&self, key: impl AsRef<[u8]>, values: &[impl AsRef<[u8]>]) -> Result<usize> {
        self.push(key.as_ref(), values, End::Left)
    }

    /// Pushes values to the back; the length afterwards.
    pub fn rpush(&self, key: impl AsRef<[u8]>, values: &[impl AsRef<[u8]>]) -> Result<usize> {
        self.push(key.as_ref(), values, End::Right)
    }

    /// Removes the first element; the key goes with the last one.
    pub fn lpop(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.pop(key.as_ref(), End::Left)
    }

    /// Removes the last element; the key goes with the last one.
    pub fn rpop(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.pop(key.as_ref(), End::Right)
    }

    /// Number of elements.
    pub fn llen(&self, key: impl AsRef<[u8]>) -> Result<usize> {
        Ok(self.read_list(key.as_ref(), List::len)?.unwrap_or(0))
    }

    /// The elements from `start` to `stop`, both included.
    pub fn lrange(&self, key: impl AsRef<[u8]>, start: i64, stop: i64) -> Result<Vec<Vec<u8>>> {
        let found = self.read_list(key.as_ref(), |list| {
            let at = ranks(start, stop, list.len());
            list.range(at.start, at.len()).map(|v| v.to_vec()).collect()
        });
        Ok(found?.unwrap_or_default())
    }

    /// The element at an index.
    pub fn lindex(&self, key: impl AsRef<[u8]>, index: i64) -> Result<Option<Vec<u8>>> {
        Ok(self.lrange(key, index, index)?.pop())
    }

    /// Replaces the element at an index.
    pub fn lset(&self, key: impl AsRef<[u8]>, index: i64, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        fits([value])?;
        self.run(&[key], Access::Write, |cx| {
            let len = cx.keys.read_to_change::<List>(key)?.ok_or(Error::NoSuchKey)?.len();
            let at = ranks(index, index, len);
            if at.is_empty() {
                return Err(Error::IndexOutOfRange);
            }
            let limit = NodeLimit::from_config(cx.keys.limits().list());
            if let Some(list) = cx.keys.write::<List>(key)? {
                list.set(at.start, value, limit);
            }
            cx.changed(key, Event::LSet);
            cx.propagate(&[b"LSET", key, itoa::Buffer::new().format(index).as_bytes(), value]);
            Ok(())
        })
    }

    /// Removes elements equal to a value: the first `count`, the last `-count` where it is negative, all where it is
    /// 0. How many were removed.
    pub fn lrem(&self, key: impl AsRef<[u8]>, count: i64, value: impl AsRef<[u8]>) -> Result<usize> {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.run(&[key], Access::Write, |cx| {
            let Some(list) = cx.keys.write::<List>(key)? else { return Ok(0) };
            let removed = list.remove(count, value);
            if removed > 0 {
                cx.removed_elements(key, removed, Event::LRem);
                cx.propagate(&[b"LREM", key, itoa::Buffer::new().format(count).as_bytes(), value]);
            }
            Ok(removed)
        })
    }
}
