//! Random elements of a collection: what SRANDMEMBER, HRANDFIELD and ZRANDMEMBER with a count share, and SPOP.
//!
//! A positive count asks for that many different elements, a negative one for that many picks that may repeat.

use crate::command::{CmdError, CmdResult};
use crate::encoding::LpValue;
use crate::keyspace::int_arg;
use crate::resp::Reply;
use crate::value::hash::below;
use std::collections::HashSet;

/// Most picks a negative count may ask for. Redis has no limit of its own here, and dies of such a command.
const MAX_PICKS: u64 = 1 << 24;
/// Longest reply to a negative count, in bytes: short commands must not make replies without bound.
const MAX_REPLY: usize = 1 << 30;
/// A sample of more than one in this many elements reads them all; a smaller one is picked.
const SAMPLE_BY_PICKING: usize = 3;

/// A collection to choose from.
pub(crate) trait Source: Copy {
    /// An element, borrowed.
    type Item: Copy;
    /// How many elements there are.
    fn len(self) -> usize;
    /// Calls `f` with each element.
    fn each(self, f: impl FnMut(Self::Item));
    /// A random element, or `None` where one is not to be had much cheaper than all of them.
    fn pick(self) -> Option<Self::Item>;
    /// Tells different picks apart.
    fn place(item: Self::Item) -> usize;
}

/// The address of a table's element, which no other element has.
pub(crate) fn place(element: LpValue<'_>) -> usize {
    match element {
        LpValue::Str(s) => s.as_ptr() as usize,
        LpValue::Int(_) => unreachable!("a table's elements are strings"),
    }
}

/// The count argument of the `*RANDMEMBER` commands.
pub(crate) fn count_arg(arg: &[u8]) -> Result<i64, CmdError> {
    match int_arg(arg)? {
        i64::MIN => Err(CmdError::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// Replies random elements as an array, each put there by `put` as `replies` replies.
pub(crate) fn reply<S: Source>(
    out: &mut Reply<'_>,
    source: S,
    count: i64,
    replies: usize,
    mut put: impl FnMut(&mut Reply<'_>, S::Item),
) -> CmdResult {
    let len = source.len();
    if count < 0 {
        if count.unsigned_abs() > MAX_PICKS {
            return Err(CmdError::text("ERR value is out of range"));
        }
        let picks = count.unsigned_abs() as usize;
        out.array(picks * replies);
        let all = if source.pick().is_none() { all(source) } else { Vec::new() };
        for _ in 0..picks {
            match below(all.len()) {
                Some(at) => put(out, all[at]),
                None => source.pick().into_iter().for_each(|item| put(out, item)),
            }
            if out.raw().len() > MAX_REPLY {
                return Err(CmdError::text("ERR the reply would be too long"));
            }
        }
        return Ok(());
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    out.array(count.min(len) * replies);
    if count >= len {
        source.each(|item| put(out, item));
    } else {
        sample(source, count).into_iter().for_each(|item| put(out, item));
    }
    Ok(())
}

/// `count` different elements, uniformly random; all of them where there are no more.
pub(crate) fn sample<S: Source>(source: S, count: usize) -> Vec<S::Item> {
    let len = source.len();
    if count < len / SAMPLE_BY_PICKING && source.pick().is_some() {
        let mut chosen = Vec::with_capacity(count);
        let mut seen = HashSet::with_capacity(count);
        while chosen.len() < count {
            let Some(item) = source.pick() else { break };
            if seen.insert(S::place(item)) {
                chosen.push(item);
            }
        }
        return chosen;
    }
    let mut items = all(source);
    let count = count.min(items.len());
    for i in 0..count {
        // The first `count` steps of a shuffle.
        let other = i + below(items.len() - i).unwrap_or(0);
        items.swap(i, other);
    }
    items.truncate(count);
    items
}

fn all<S: Source>(source: S) -> Vec<S::Item> {
    let mut items = Vec::with_capacity(source.len());
    source.each(|item| items.push(item));
    items
}
