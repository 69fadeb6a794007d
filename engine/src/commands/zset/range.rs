//! Reading, storing, counting and removing ranges: the ZRANGE family and its older spellings.

use super::bounds::{Bounds, By};
use super::{peek, put_pair, store, wrote};
use crate::command::{CmdError, CmdResult};
use crate::keyspace::{Ctx, Event, int_arg};
use crate::value::ZSet;
use std::ops::Range;

/// What a command's name fixes; the rest comes as options.
#[derive(Clone, Copy)]
struct Form {
    by: Option<By>,
    backward: Option<bool>,
    store: bool,
}

/// A range with its options.
struct Query<'a> {
    bounds: Bounds<'a>,
    backward: bool,
    offset: i64,
    /// Negative: all.
    limit: i64,
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// Parses `min max [options]`.
    fn parse(a: &[&'a [u8]], form: Form) -> Result<Query<'a>, CmdError> {
        let (mut by, mut backward) = (form.by, form.backward);
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let mut rest = &a[2..];
        while let [word, tail @ ..] = rest {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            rest = tail;
            if !form.store && is(b"withscores") {
                with_scores = true;
            } else if is(b"limit") && tail.len() >= 2 {
                (offset, limit) = (int_arg(tail[0])?, int_arg(tail[1])?);
                rest = &tail[2..];
            } else if backward.is_none() && is(b"rev") {
                backward = Some(true);
            } else if by.is_none() && is(b"bylex") {
                by = Some(By::Lex);
            } else if by.is_none() && is(b"byscore") {
                by = Some(By::Score);
            } else {
                return Err(CmdError::Syntax);
            }
        }
        let (by, backward) = (by.unwrap_or(By::Rank), backward.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(CmdError::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CmdError::text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        if by == By::Rank {
            (offset, limit) = (0, -1);
        }
        // From the highest down, values are given in that order too; ranks are just counted from there.
        let (min, max) = if backward && by != By::Rank { (a[1], a[0]) } else { (a[0], a[1]) };
        Ok(Query { bounds: Bounds::parse(by, min, max)?, backward, offset, limit, with_scores })
    }

    /// The ranks it selects from a set.
    fn ranks(&self, set: &ZSet) -> Range<usize> {
        let Range { start, end } = self.bounds.ranks(set, self.backward);
        let Ok(offset) = usize::try_from(self.offset) else { return 0..0 };
        let offset = offset.min(end - start);
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX).min(end - start - offset);
        if self.backward {
            end - offset - limit..end - offset
        } else {
            start + offset..start + offset + limit
        }
    }
}

fn reply_range(cx: &mut Ctx<'_>, a: &[&[u8]], form: Form) -> CmdResult {
    let query = Query::parse(&a[2..], form)?;
    let Some(set) = cx.keys.read::<ZSet>(a[1])? else {
        cx.out.array(0);
        return Ok(());
    };
    let ranks = query.ranks(set);
    let flat = query.with_scores && !cx.out.is_resp3();
    cx.out.array(ranks.len() * if flat { 2 } else { 1 });
    for (member, score) in set.range(ranks, query.backward) {
        put_pair(&mut cx.out, member, query.with_scores.then_some(score));
    }
    Ok(())
}

pub(super) fn zrange(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_range(cx, a, Form { by: None, backward: None, store: false })
}

pub(super) fn zrevrange(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_range(cx, a, Form { by: Some(By::Rank), backward: Some(true), store: false })
}

pub(super) fn zrangebyscore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_range(cx, a, Form { by: Some(By::Score), backward: Some(false), store: false })
}

pub(super) fn zrevrangebyscore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_range(cx, a, Form { by: Some(By::Score), backward: Some(true), store: false })
}

pub(super) fn zrangebylex(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_range(cx, a, Form { by: Some(By::Lex), backward: Some(false), store: false })
}

pub(super) fn zrevrangebylex(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_range(cx, a, Form { by: Some(By::Lex), backward: Some(true), store: false })
}

pub(super) fn zrangestore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let query = Query::parse(&a[3..], Form { by: None, backward: None, store: true })?;
    let limits = cx.keys.limits().zset();
    let result = cx.keys.read::<ZSet>(a[2])?.map(|set| {
        let ranks = query.ranks(set);
        // A listpack loses the sign of -0: it shows in which order, and when known to be large, a result is built.
        let room = if matches!(query.bounds, Bounds::Rank(..)) { ranks.len() } else { 0 };
        let mut result = ZSet::with_capacity(room, limits);
        let mut text = itoa::Buffer::new();
        for (member, score) in set.range(ranks, query.backward) {
            result.add(member.as_bytes(&mut text), score, limits);
        }
        result
    });
    store(cx, a[1], result.unwrap_or_default(), Event::ZRangeStore);
    Ok(())
}

// ---- counting ----

fn count(cx: &mut Ctx<'_>, a: &[&[u8]], by: By) -> CmdResult {
    let bounds = Bounds::parse(by, a[2], a[3])?;
    let count = cx.keys.read::<ZSet>(a[1])?.map_or(0, |set| bounds.ranks(set, false).len());
    cx.out.int(count as i64);
    Ok(())
}

pub(super) fn zcount(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    count(cx, a, By::Score)
}

pub(super) fn zlexcount(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    count(cx, a, By::Lex)
}

// ---- removing ----

fn remove(cx: &mut Ctx<'_>, a: &[&[u8]], by: By, event: Event) -> CmdResult {
    let bounds = Bounds::parse(by, a[2], a[3])?;
    let (ranks, len) =
        peek(&mut cx.keys, a[1])?.map_or((0..0, 0), |set| (bounds.ranks(set, false), set.len()));
    if !ranks.is_empty() && ranks == (0..len) {
        // All members are the key.
        cx.delete_emptied(a[1], len, event);
        wrote(cx, len);
        return Ok(());
    }
    let mut removed = 0;
    // A range without members changes nothing, so a running cut need not hear of it.
    if !ranks.is_empty()
        && let Some(set) = cx.keys.write::<ZSet>(a[1])?
    {
        removed = set.remove_range(ranks);
    }
    cx.removed_elements(a[1], removed, event);
    wrote(cx, removed);
    Ok(())
}

pub(super) fn zremrangebyrank(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    remove(cx, a, By::Rank, Event::ZRemRangeByRank)
}

pub(super) fn zremrangebyscore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    remove(cx, a, By::Score, Event::ZRemRangeByScore)
}

pub(super) fn zremrangebylex(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    remove(cx, a, By::Lex, Event::ZRemRangeByLex)
}
