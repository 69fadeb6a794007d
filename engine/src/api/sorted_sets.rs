//! Typed operations on sorted sets.

use super::{Access, Db, Error, Result, fits, ranks};
use crate::keyspace::Event;
use crate::value::ZSet;
use std::ops::RangeInclusive;

fn score_text(score: f64) -> Vec<u8> {
    let mut text = Vec::with_capacity(24);
    crate::num::fmt_f64(score, &mut text);
    text
}

/// # Sorted sets
///
/// Members are ordered by score, then by their bytes. Ranks count from 0, or from -1 backwards from the end.
///
/// ```
/// # use sluice_engine::{Engine, Error};
/// # let engine = Engine::default();
/// let db = engine.db(0);
/// assert_eq!(db.zadd("scores", &[(50.0, "ann"), (20.5, "bob"), (70.0, "cleo")])?, 3);
/// assert_eq!(db.zincr_by("scores", 30.0, "bob")?, 50.5);
/// assert_eq!(db.zrange("scores", 0, -1)?[0], (b"ann".to_vec(), 50.0));
/// assert_eq!(db.zrange_by_score("scores", 50.5..=100.0)?.len(), 2);
/// assert_eq!(db.zrank("scores", "cleo")?, Some(2));
/// assert_eq!(db.zrem("scores", &["ann"])?, 1);
/// assert_eq!(db.zscore("scores", "bob")?, Some(50.5));
/// assert_eq!(db.zadd("scores", &[(f64::NAN, "dora")]), Err(Error::NotFloat));
/// # Ok::<(), Error>(())
/// ```
impl Db<'_> {
    fn read_zset<R>(&self, key: &[u8], f: impl FnOnce(&ZSet) -> R) -> Result<Option<R>> {
        self.run(&[key], Access::Read, |cx| Ok(cx.keys.read::<ZSet>(key)?.map(f)))
    }

    /// Adds members with their scores, or gives them new ones; how many are new.
    pub fn zadd(&self, key: impl AsRef<[u8]>, members: &[(f64, impl AsRef<[u8]>)]) -> Result<usize> {
        let key = key.as_ref();
        if members.iter().any(|(score, _)| score.is_nan()) {
            return Err(Error::NotFloat);
        }
        if members.is_empty() {
            return Ok(0);
        }
        fits([key].into_iter().chain(members.iter().map(|(_, m)| m.as_ref())))?;
        self.run(&[key], Access::Write, |cx| {
            let limits = cx.keys.limits().zset();
            let zset = cx.keys.write_or_create::<ZSet>(key)?;
            let new = members.iter().filter(|(s, m)| zset.insert(m.as_ref(), *s, limits).is_none()).count();
            cx.changed(key, Event::ZAdd);
            let scores: Vec<Vec<u8>> = members.iter().map(|(s, _)| score_text(*s)).collect();
            let each = members.iter().zip(&scores).flat_map(|((_, m), s)| [s.as_slice(), m.as_ref()]);
            cx.propagate_items(&[b"ZADD", key], each, 2);
            Ok(new)
        })
    }

    /// Adds to a member's score (a missing member counts as 0) and returns the sum.
    pub fn zincr_by(&self, key: impl AsRef<[u8]>, by: f64, member: impl AsRef<[u8]>) -> Result<f64> {
        let (key, member) = (key.as_ref(), member.as_ref());
        if by.is_nan() {
            return Err(Error::NotFloat);
        }
        fits([key, member])?;
        self.run(&[key], Access::Write, |cx| {
            let old = cx.keys.read_to_change::<ZSet>(key)?.and_then(|z| z.score(member));
            let sum = old.unwrap_or(0.0) + by;
            if sum.is_nan() {
                return Err(Error::NotANumber);
            }
            let limits = cx.keys.limits().zset();
            cx.keys.write_or_create::<ZSet>(key)?.insert(member, sum, limits);
            cx.changed(key, Event::ZIncr);
            cx.propagate(&[b"ZADD", key, &score_text(sum), member]);
            Ok(sum)
        })
    }

    /// Removes members, and the key with the last of them; how many there were.
    pub fn zrem(&self, key: impl AsRef<[u8]>, members: &[impl AsRef<[u8]>]) -> Result<usize> {
        let key = key.as_ref();
        self.run(&[key], Access::Write, |cx| {
            let Some(zset) = cx.keys.write::<ZSet>(key)? else { return Ok(0) };
            let removed = members.iter().filter(|m| zset.remove(m.as_ref())).count();
            if removed > 0 {
                cx.removed_elements(key, removed, Event::ZRem);
                cx.propagate_items(&[b"ZREM", key], members.iter().map(AsRef::as_ref), 1);
            }
            Ok(removed)
        })
    }

    /// A member's score.
    pub fn zscore(&self, key: impl AsRef<[u8]>, member: impl AsRef<[u8]>) -> Result<Option<f64>> {
        Ok(self.read_zset(key.as_ref(), |z| z.score(member.as_ref()))?.flatten())
    }

    /// A member's rank from the lowest score.
    pub fn zrank(&self, key: impl AsRef<[u8]>, member: impl AsRef<[u8]>) -> Result<Option<usize>> {
        Ok(self.read_zset(key.as_ref(), |z| z.rank(member.as_ref()))?.flatten())
    }

    /// Number of members.
    pub fn zcard(&self, key: impl AsRef<[u8]>) -> Result<usize> {
        Ok(self.read_zset(key.as_ref(), ZSet::len)?.unwrap_or(0))
    }

    /// Members and scores from rank `start` to rank `stop`, both included.
    pub fn zrange(&self, key: impl AsRef<[u8]>, start: i64, stop: i64) -> Result<Vec<(Vec<u8>, f64)>> {
        let found = self.read_zset(key.as_ref(), |z| {
            z.range(ranks(start, stop, z.len()), false).map(|(m, s)| (m.to_vec(), s)).collect()
        });
        Ok(found?.unwrap_or_default())
    }

    /// Members and scores by score.
    pub fn zrange_by_score(
        &self,
        key: impl AsRef<[u8]>,
        scores: RangeInclusive<f64>,
    ) -> Result<Vec<(Vec<u8>, f64)>> {
        let found = self.read_zset(key.as_ref(), |z| {
            let from = z.partition_point(|_, s| s < *scores.start());
            let to = z.partition_point(|_, s| s <= *scores.end());
            z.range(from..to.max(from), false).map(|(m, s)| (m.to_vec(), s)).collect()
        });
        Ok(found?.unwrap_or_default())
    }
}
