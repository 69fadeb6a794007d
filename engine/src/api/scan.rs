//! Iterators over the keys of a database and the elements of a collection. They hold no lock between their steps.
//!
//! A step takes some [`STEP`] elements under the lock of one shard and copies them. Keys, fields and members are walked
//! in the order of their hashes, which growing and shrinking does not change, so what is there all the time comes once;
//! what comes or goes meanwhile may come or not. A list has no such order: its nodes are shared, as they were at the first step.

use super::{Access, Db, Result};
use crate::keyspace::{Ctx, Keys};
use crate::value::{Collection, Hash, List, Set, ZSet};

/// About so many elements are taken at once.
const STEP: usize = 64;
/// Bits of a cursor over keys below the shard's number.
const IN_SHARD: u32 = 48;

/// Takes elements step by step.
struct Steps<T, F> {
    taken: std::vec::IntoIter<T>,
    /// `None` at the end.
    cursor: Option<u64>,
    /// Adds elements from a cursor on, and returns the next cursor, 0 at the end.
    step: F,
}

impl<T, F: FnMut(u64, &mut Vec<T>) -> Result<u64>> Iterator for Steps<T, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(element) = self.taken.next() {
                return Some(Ok(element));
            }
            let mut elements = Vec::with_capacity(STEP);
            match (self.step)(self.cursor?, &mut elements) {
                Ok(next) => self.cursor = (next != 0).then_some(next),
                Err(e) => {
                    self.cursor = None;
                    return Some(Err(e));
                }
            }
            self.taken = elements.into_iter();
        }
    }
}

fn steps<T, F: FnMut(u64, &mut Vec<T>) -> Result<u64>>(step: F) -> Steps<T, F> {
    Steps { taken: Vec::new().into_iter(), cursor: Some(0), step }
}

/// Walks a collection that is a `C`.
fn elements<'a, C: Collection + 'static, T, F: Fn(&C, u64, &mut Vec<T>) -> u64>(
    db: Db<'a>,
    key: &[u8],
    step: F,
) -> Steps<T, impl FnMut(u64, &mut Vec<T>) -> Result<u64> + use<'a, C, T, F>> {
    let key = key.to_vec();
    steps(move |cursor, found| {
        db.run(&[&key], Access::Read, |cx| {
            let collection = cx.keys.read::<C>(&key)?;
            Ok(collection.map_or(0, |collection| step(collection, cursor, found)))
        })
    })
}

/// # Iterators
///
/// They hold no lock between two items, so anything may be done with the engine meanwhile, by whoever iterates too. What is
/// there from the first step to the last comes at least once (and but once, unless its key was replaced); what comes or goes
/// meanwhile may come or not. Items are copies.
///
/// ```
/// # use sluice_engine::{Engine, Error};
/// # let engine = Engine::default();
/// let db = engine.db(0);
/// db.set_many(&[("session:1", "ada"), ("session:2", "grace"), ("visits", "7")])?;
/// for key in db.scan() {
///     if key.starts_with(b"session:") {
///         db.del(&[key]);
///     }
/// }
/// assert_eq!(db.scan().collect::<Vec<_>>(), [b"visits"]);
///
/// db.hset_many("user:7", &[("name", "Ada"), ("born", "1815")])?;
/// for field in db.hscan("user:7") {
///     let (field, value) = field?;
///     db.hset("copy", field, value)?;
/// }
/// assert_eq!(db.hlen("copy")?, 2);
/// assert_eq!(db.sscan("user:7").next(), Some(Err(Error::WrongType)));
/// # Ok::<(), Error>(())
/// ```
impl<'a> Db<'a> {
    /// The keys. Those that have expired are left out, and removed.
    pub fn scan(&self) -> impl Iterator<Item = Vec<u8>> + use<'a> {
        let db = *self;
        let shards = db.engine.shards() as u64;
        let walk = steps(move |cursor, found: &mut Vec<Vec<u8>>| {
            let (shard, at) = (cursor >> IN_SHARD, cursor & ((1 << IN_SHARD) - 1));
            let next = db.run_shard(shard as usize, |keys| {
                keys.scan_shard(shard as usize, at, STEP, |e| found.push(e.key().to_vec()))
            });
            Ok(match next {
                0 if shard + 1 == shards => 0,
                0 => (shard + 1) << IN_SHARD,
                next => shard << IN_SHARD | next,
            })
        });
        // A step over keys does not fail.
        walk.filter_map(Result::ok)
    }

    /// The fields and values of a hash.
    pub fn hscan<K: AsRef<[u8]>>(
        &self,
        key: K,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + use<'a, K> {
        elements(*self, key.as_ref(), |hash: &Hash, cursor, found| {
            hash.scan(cursor, STEP, |field, value| found.push((field.to_vec(), value.to_vec())))
        })
    }

    /// The members of a set.
    pub fn sscan<K: AsRef<[u8]>>(&self, key: K) -> impl Iterator<Item = Result<Vec<u8>>> + use<'a, K> {
        elements(*self, key.as_ref(), |set: &Set, cursor, found| {
            set.scan(cursor, STEP, |member| found.push(member.to_vec()))
        })
    }

    /// The members of a sorted set with their scores, in no order.
    pub fn zscan<K: AsRef<[u8]>>(&self, key: K) -> impl Iterator<Item = Result<(Vec<u8>, f64)>> + use<'a, K> {
        elements(*self, key.as_ref(), |zset: &ZSet, cursor, found| {
            zset.scan(cursor, STEP, |member, score| found.push((member.to_vec(), score)))
        })
    }

    /// The elements of a list from its head on, as they are when the first is taken. What others write meanwhile costs a
    /// copy of the node it is written to.
    pub fn lscan<K: AsRef<[u8]>>(&self, key: K) -> impl Iterator<Item = Result<Vec<u8>>> + use<'a, K> {
        let (db, key) = (*self, key.as_ref().to_vec());
        let mut snapshot = None;
        steps(move |cursor, found| {
            if snapshot.is_none() {
                let list = |cx: &mut Ctx<'_>| Result::Ok(cx.keys.read::<List>(&key)?.map(List::snapshot));
                snapshot = db.run(&[&key], Access::Read, list)?;
            }
            let Some(list) = &snapshot else { return Ok(0) };
            let at = cursor as usize;
            found.extend(list.range(at, STEP).map(|element| element.to_vec()));
            Ok(if at + STEP < list.len() { (at + STEP) as u64 } else { 0 })
        })
    }

    /// Runs `f` with one shard locked.
    fn run_shard<R>(&self, shard: usize, f: impl FnOnce(&mut Keys<'_>) -> R) -> R {
        if self.within.is_some() {
            return self.run(&[], Access::Read, |cx| f(&mut cx.keys));
        }
        self.engine.with_shard(self.index, shard, |cx| f(&mut cx.keys))
    }
}
