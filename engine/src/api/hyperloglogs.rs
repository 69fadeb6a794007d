//! Typed operations on HyperLogLogs.

use super::{Access, Db, Result, args, fits};
use crate::commands::hyperloglog as operations;

/// # HyperLogLogs
///
/// How many distinct elements there were, to about 1 %, in at most 12 KB a key. The values are strings.
///
/// ```
/// # use sluice_engine::{Engine, Error};
/// # let engine = Engine::default();
/// let db = engine.db(0);
/// assert!(db.pfadd("monday", &["ada", "grace", "ada"])?);
/// assert!(!db.pfadd("monday", &["grace"])?, "nothing new");
/// assert_eq!(db.pfcount(&["monday"])?, 2);
///
/// db.pfadd("tuesday", &["ada", "edsger"])?;
/// assert_eq!(db.pfcount(&["monday", "tuesday"])?, 3);
/// db.pfmerge("week", &["monday", "tuesday"])?;
/// assert_eq!(db.pfcount(&["week"])?, 3);
///
/// db.set("name", "ada")?;
/// assert_eq!(db.pfcount(&["name"]), Err(Error::NotHyperLogLog));
/// # Ok::<(), Error>(())
/// ```
impl Db<'_> {
    /// Adds elements, and the key where it is missing, even without elements; true where the estimate may have
    /// changed.
    pub fn pfadd(&self, key: impl AsRef<[u8]>, elements: &[impl AsRef<[u8]>]) -> Result<bool> {
        let key = key.as_ref();
        fits([key].into_iter().chain(elements.iter().map(AsRef::as_ref)))?;
        self.run(&[key], Access::Write, |cx| {
            let risen = operations::add(cx, key, elements.iter().map(AsRef::as_ref))?;
            if risen > 0 {
                cx.propagate_items(&[b"PFADD", key], elements.iter().map(AsRef::as_ref), 1);
            }
            Ok(risen > 0)
        })
    }

    /// The estimated number of distinct elements of all keys together; a missing key has none. Of a single key the
    /// estimate is kept in its value, until an element changes it.
    pub fn pfcount(&self, keys: &[impl AsRef<[u8]>]) -> Result<u64> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        self.run(&keys, Access::Read, |cx| match keys.as_slice() {
            [] => Ok(0),
            [key] => {
                let (estimate, kept) = operations::count_one(cx, key)?;
                if kept {
                    cx.propagate(&[b"PFCOUNT", key]);
                }
                Ok(estimate)
            }
            several => Ok(operations::count_union(cx, several)?),
        })
    }

    /// Makes a key the union of itself, where it exists, and the sources.
    pub fn pfmerge(&self, key: impl AsRef<[u8]>, sources: &[impl AsRef<[u8]>]) -> Result<()> {
        let keys = args(&[key.as_ref()], sources.iter().map(AsRef::as_ref));
        fits(keys.iter().copied())?;
        self.run(&keys, Access::Mix, |cx| {
            operations::merge(cx, &keys)?;
            cx.propagate(&args(&[b"PFMERGE"], keys.iter().copied()));
            Ok(())
        })
    }
}
