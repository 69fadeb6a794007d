//! Taking members out: ZREM by name, ZPOPMIN, ZPOPMAX and ZMPOP from an end.
//!
//! Logged as they came, except ZMPOP, which becomes the ZPOPMIN or ZPOPMAX of the key it found.

use super::{peek, wrote};
use crate::command::{CmdError, CmdResult};
use crate::keyspace::{Ctx, Event, int_arg};
use crate::value::ZSet;

/// An end of a sorted set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum End {
    Min,
    Max,
}

impl End {
    /// The command that pops there.
    fn command(self) -> &'static [u8] {
        if self == End::Min { b"ZPOPMIN" } else { b"ZPOPMAX" }
    }
}

pub(super) fn zrem(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let mut removed = 0;
    if let Some(set) = cx.keys.write::<ZSet>(a[1])? {
        removed = a[2..].iter().filter(|member| set.remove(member)).count();
    }
    cx.removed_elements(a[1], removed, Event::ZRem);
    wrote(cx, removed);
    Ok(())
}

/// Writes the `n` members at an end, pairs nested or not, and removes them.
fn take(cx: &mut Ctx<'_>, key: &[u8], end: End, n: usize, nested: bool) -> CmdResult {
    let Some(set) = cx.keys.write::<ZSet>(key)? else { return Ok(()) };
    let len = set.len();
    let ranks = if end == End::Min { 0..n } else { len - n..len };
    for (member, score) in set.range(ranks.clone(), end == End::Max) {
        if nested {
            cx.out.array(2);
        }
        cx.out.element(member);
        cx.out.double(score);
    }
    set.remove_range(ranks);
    cx.removed_elements(key, n, if end == End::Min { Event::ZPopMin } else { Event::ZPopMax });
    Ok(())
}

fn pop(cx: &mut Ctx<'_>, a: &[&[u8]], end: End) -> CmdResult {
    let count = match a {
        [_, _] => None,
        [_, _, count] => {
            let count = int_arg(count).ok().and_then(|count| usize::try_from(count).ok());
            Some(count.ok_or(CmdError::text("ERR value is out of range, must be positive"))?)
        }
        _ => return Err(CmdError::Syntax),
    };
    let len = peek(&mut cx.keys, a[1])?.map_or(0, ZSet::len);
    let n = count.unwrap_or(1).min(len);
    if n == 0 {
        cx.out.array(0);
        return Ok(());
    }
    let nested = cx.out.is_resp3() && count.is_some();
    cx.out.array(if nested { n } else { 2 * n });
    take(cx, a[1], end, n, nested)
}

pub(super) fn zpopmin(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    pop(cx, a, End::Min)
}

pub(super) fn zpopmax(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    pop(cx, a, End::Max)
}

/// The words of ZMPOP behind its name (BZMPOP's behind its timeout).
pub(in crate::commands) struct MultiPop {
    /// Position of the first word that is no key.
    keys_end: usize,
    end: End,
    count: usize,
}

impl MultiPop {
    /// Reads `? NUMKEYS KEY ... MIN|MAX [COUNT n]`.
    pub(in crate::commands) fn parse(a: &[&[u8]]) -> Result<MultiPop, CmdError> {
        let positive = |arg: &[u8], error| int_arg(arg).ok().filter(|n| *n > 0).ok_or(CmdError::text(error));
        let keys = positive(a[1], "ERR numkeys should be greater than 0")? as usize;
        let keys_end = keys.saturating_add(2);
        let rest = a.get(keys_end..).unwrap_or_default();
        let (&end, options) = rest.split_first().ok_or(CmdError::Syntax)?;
        let end = match end.to_ascii_lowercase().as_slice() {
            b"min" => End::Min,
            b"max" => End::Max,
            _ => return Err(CmdError::Syntax),
        };
        let count = match options {
            [] => 1,
            [word, count, rest @ ..] if word.eq_ignore_ascii_case(b"count") => {
                let count = positive(count, "ERR count should be greater than 0")?;
                if !rest.is_empty() {
                    return Err(CmdError::Syntax);
                }
                count as usize
            }
            _ => return Err(CmdError::Syntax),
        };
        Ok(MultiPop { keys_end, end, count })
    }

    /// Takes members out of `key`, and replies, where there is a sorted set; false where there is none.
    pub(in crate::commands) fn take(&self, cx: &mut Ctx<'_>, key: &[u8]) -> Result<bool, CmdError> {
        let Some(set) = peek(&mut cx.keys, key)? else { return Ok(false) };
        let n = self.count.min(set.len());
        cx.out.array(2);
        cx.out.bulk(key);
        cx.out.array(n);
        take(cx, key, self.end, n, true)?;
        cx.propagate(&[self.end.command(), key, itoa::Buffer::new().format(n).as_bytes()]);
        Ok(true)
    }
}

pub(super) fn zmpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let pop = MultiPop::parse(a)?;
    for key in &a[2..pop.keys_end] {
        if pop.take(cx, key)? {
            return Ok(());
        }
    }
    cx.out.null_array();
    Ok(())
}

/// Takes one member out of a sorted set that is there and replies it with its key and score (BZPOPMIN, BZPOPMAX).
pub(in crate::commands) fn serve_pop(cx: &mut Ctx<'_>, key: &[u8], end: End) -> CmdResult {
    cx.out.array(3);
    cx.out.bulk(key);
    take(cx, key, end, 1, false)?;
    cx.propagate(&[end.command(), key]);
    Ok(())
}
