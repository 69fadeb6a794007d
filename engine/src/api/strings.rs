//! Typed operations on strings.

use super::{Access, Db, Error, Result, fits};
use crate::entry::MAX_STRING_LEN;
use crate::keyspace::{Event, Keys, NewExpiry, StrRef};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What happens to the key's expiry when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expiry {
    /// None afterwards.
    #[default]
    Never,
    /// As it was.
    Keep,
    /// After this time.
    In(Duration),
    /// At this Unix time in milliseconds.
    At(i64),
}

/// Whether a key is set at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Only {
    /// In any case.
    #[default]
    Always,
    /// Where there is no such key.
    IfAbsent,
    /// Where there is one.
    IfPresent,
}

/// Options of [`Db::set_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SetOptions {
    /// The key's expiry.
    pub expiry: Expiry,
    /// Whether it is set at all.
    pub only: Only,
}

impl Expiry {
    /// Unix milliseconds, where there is a time.
    fn at(self, now: i64) -> Option<i64> {
        match self {
            Expiry::Never | Expiry::Keep => None,
            Expiry::In(time) => Some(now.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))),
            Expiry::At(ms) => Some(ms),
        }
    }
}

fn check_length(keys: &Keys<'_>, len: usize) -> Result<()> {
    let limit = keys.limits().max_string.load(Ordering::Relaxed).min(MAX_STRING_LEN);
    if len > limit { Err(Error::TooLong) } else { Ok(()) }
}

fn text(s: StrRef<'_>) -> Vec<u8> {
    s.with(<[u8]>::to_vec)
}

/// # Strings
///
/// ```
/// # use sluice_engine::{Engine, Error, Expiry, Only, SetOptions};
/// # use std::time::Duration;
/// # let engine = Engine::default();
/// let db = engine.db(0);
/// db.set("greeting", "hello")?;
/// assert_eq!(db.append("greeting", ", world")?, 12);
/// assert_eq!(db.get("greeting")?.as_deref(), Some(b"hello, world".as_slice()));
///
/// let lock = SetOptions { expiry: Expiry::In(Duration::from_secs(10)), only: Only::IfAbsent };
/// assert!(db.set_with("lock", "me", lock)?);
/// assert!(!db.set_with("lock", "you", lock)?);
///
/// assert_eq!(db.incr_by("visits", 2)?, 2);
/// assert_eq!(db.incr_by("greeting", 1), Err(Error::NotInteger));
/// # Ok::<(), Error>(())
/// ```
impl Db<'_> {
    /// The value of a key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let key = key.as_ref();
        self.run(&[key], Access::Read, |cx| Ok(cx.keys.string(key)?.map(text)))
    }

    /// What `f` makes of the value of a key, which is not copied. `f` runs under the lock of the key's shard: it must be
    /// quick, as others wait, and must not call the engine.
    ///
    /// ```
    /// # use sluice_engine::{Engine, Error};
    /// # let engine = Engine::default();
    /// let db = engine.db(0);
    /// db.set("page", "<html>")?;
    /// assert_eq!(db.get_with("page", |bytes| bytes.starts_with(b"<"))?, Some(true));
    /// assert_eq!(db.get_with("none", <[u8]>::len)?, None);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn get_with<R>(&self, key: impl AsRef<[u8]>, f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let key = key.as_ref();
        self.run(&[key], Access::Read, |cx| Ok(cx.keys.string(key)?.map(|value| value.with(f))))
    }

    /// The values of several keys; `None` also where a key holds something else than a string.
    pub fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Vec<Option<Vec<u8>>> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        self.run(&keys, Access::Read, |cx| {
            keys.iter().map(|key| cx.keys.string(key).ok().flatten().map(text)).collect()
        })
    }

    /// Sets a key to a string, whatever it held before, without expiry.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.set_with(key, value, SetOptions::default()).map(|_| ())
    }

    /// Sets a key to a string as the options say; true where it was set.
    pub fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<bool> {
        let (key, value) = (key.as_ref(), value.as_ref());
        fits([key])?;
        self.run(&[key], Access::Write, |cx| {
            check_length(&cx.keys, value.len())?;
            let wanted = match options.only {
                Only::Always => true,
                Only::IfAbsent => !cx.keys.live(key),
                Only::IfPresent => cx.keys.live(key),
            };
            if !wanted {
                return Ok(false);
            }
            let mut digits = itoa::Buffer::new();
            match (options.expiry.at(cx.keys.now), options.expiry) {
                (Some(at), _) if cx.keys.is_past(at) => {
                    if cx.delete(key) {
                        cx.propagate(&[b"DEL", key]);
                    }
                    return Ok(true);
                }
                (Some(at), _) => {
                    cx.keys.set_string(key, value, NewExpiry::At(at));
                    cx.changed(key, Event::Set);
                    cx.keys.notify(cx.keys.db, key, Event::Expire);
                    cx.propagate(&[b"SET", key, value, b"PXAT", digits.format(at).as_bytes()]);
                }
                (None, Expiry::Keep) => {
                    cx.keys.set_string(key, value, NewExpiry::Keep);
                    cx.changed(key, Event::Set);
                    cx.propagate(&[b"SET", key, value, b"KEEPTTL"]);
                }
                _ => {
                    cx.keys.set_string(key, value, NewExpiry::Clear);
                    cx.changed(key, Event::Set);
                    cx.propagate(&[b"SET", key, value]);
                }
            }
            Ok(true)
        })
    }

    /// Sets several keys at once.
    pub fn set_many(&self, pairs: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Result<()> {
        let keys: Vec<&[u8]> = pairs.iter().map(|p| p.0.as_ref()).collect();
        fits(keys.iter().copied())?;
        self.run(&keys, Access::Write, |cx| {
            for (_, value) in pairs {
                check_length(&cx.keys, value.as_ref().len())?;
            }
            for (key, value) in pairs {
                cx.keys.set_string(key.as_ref(), value.as_ref(), NewExpiry::Clear);
                cx.changed(key.as_ref(), Event::Set);
            }
            if !pairs.is_empty() {
                let each = pairs.iter().flat_map(|(k, v)| [k.as_ref(), v.as_ref()]);
                cx.propagate_items(&[b"MSET"], each, 2);
            }
            Ok(())
        })
    }

    /// Deletes a key and returns the string it held.
    pub fn get_del(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let key = key.as_ref();
        self.run(&[key], Access::Write, |cx| {
            let Some(value) = cx.keys.string_to_change(key)?.map(text) else { return Ok(None) };
            cx.delete(key);
            cx.propagate(&[b"DEL", key]);
            Ok(Some(value))
        })
    }

    /// Adds to the end of a string (a missing key counts as empty) and returns its new length.
    pub fn append(&self, key: impl AsRef<[u8]>, more: impl AsRef<[u8]>) -> Result<usize> {
        let (key, more) = (key.as_ref(), more.as_ref());
        fits([key])?;
        self.run(&[key], Access::Write, |cx| {
            let old = cx.keys.string_to_change(key)?.map_or(0, StrRef::len);
            let len = old.saturating_add(more.len());
            check_length(&cx.keys, len)?;
            cx.keys.splice_string(key, old, more);
            cx.changed(key, Event::Append);
            cx.propagate(&[b"APPEND", key, more]);
            Ok(len)
        })
    }

    /// The length of a string, 0 without one.
    pub fn str_len(&self, key: impl AsRef<[u8]>) -> Result<usize> {
        let key = key.as_ref();
        self.run(&[key], Access::Read, |cx| Ok(cx.keys.string(key)?.map_or(0, StrRef::len)))
    }

    /// Adds to an integer (a missing key counts as 0) and returns the sum.
    pub fn incr_by(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        let key = key.as_ref();
        fits([key])?;
        self.run(&[key], Access::Write, |cx| {
            let sum = cx.keys.update_int(key, |old| old.checked_add(by).ok_or(Error::Overflow))?;
            cx.changed(key, Event::IncrBy);
            cx.propagate(&[b"INCRBY", key, itoa::Buffer::new().format(by).as_bytes()]);
            Ok(sum)
        })
    }
}
