//! Commands that wait for a list or a sorted set to have something: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP, BZPOPMIN,
//! BZPOPMAX, BZMPOP.
//!
//! Each looks at its keys as the command without the `B` would; what it takes is logged as that one. Finding nothing,
//! it waits (see the module `blocking` of the crate) and the same function takes from the key that became ready.

use super::list::{self, End};
use super::zset::pop as zset;
use crate::blocking::{Nothing, ServeFn, Wish, timeout_arg};
use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::keyspace::Ctx;
use crate::value::{List, Type, ZSet};
use std::ops::Range;
use std::time::Duration;

/// Takes from the first of the keys that has something, or waits for one.
fn pop_or_wait(
    cx: &mut Ctx<'_>,
    a: &[&[u8]],
    keys: Range<usize>,
    kind: Type,
    timeout: Option<Duration>,
    serve: ServeFn,
    nothing: Nothing,
) -> CmdResult {
    for at in keys.clone() {
        let there = match kind {
            Type::List => cx.keys.read_to_change::<List>(a[at])?.is_some(),
            _ => cx.keys.read_to_change::<ZSet>(a[at])?.is_some(),
        };
        if there {
            return serve(cx, a, a[at]);
        }
    }
    cx.block(Wish { keys, kind, timeout, serve, nothing });
    Ok(())
}

/// `KEY [KEY ...] TIMEOUT`
fn keys_then_timeout(cx: &mut Ctx<'_>, a: &[&[u8]], kind: Type, serve: ServeFn) -> CmdResult {
    let last = a.len() - 1;
    let timeout = timeout_arg(a[last])?;
    pop_or_wait(cx, a, 1..last, kind, timeout, serve, Nothing::Array)
}

fn blpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    keys_then_timeout(cx, a, Type::List, |cx, _, key| list::serve_pop(cx, key, End::Left))
}

fn brpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    keys_then_timeout(cx, a, Type::List, |cx, _, key| list::serve_pop(cx, key, End::Right))
}

fn bzpopmin(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    keys_then_timeout(cx, a, Type::ZSet, |cx, _, key| zset::serve_pop(cx, key, zset::End::Min))
}

fn bzpopmax(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    keys_then_timeout(cx, a, Type::ZSet, |cx, _, key| zset::serve_pop(cx, key, zset::End::Max))
}

/// `FROM TO ... TIMEOUT`: one list is waited for.
fn move_or_wait(cx: &mut Ctx<'_>, a: &[&[u8]], serve: ServeFn) -> CmdResult {
    let timeout = timeout_arg(a[a.len() - 1])?;
    pop_or_wait(cx, a, 1..2, Type::List, timeout, serve, Nothing::Element)
}

fn blmove(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    End::parse(a[3])?;
    End::parse(a[4])?;
    move_or_wait(cx, a, |cx, a, key| {
        list::move_element(cx, key, a[2], End::parse(a[3])?, End::parse(a[4])?)?;
        cx.propagate(&[b"LMOVE", key, a[2], a[3], a[4]]);
        Ok(())
    })
}

fn brpoplpush(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    move_or_wait(cx, a, |cx, a, key| {
        list::move_element(cx, key, a[2], End::Right, End::Left)?;
        cx.propagate(&[b"RPOPLPUSH", key, a[2]]);
        Ok(())
    })
}

/// The keys of `TIMEOUT NUMKEYS KEY ...`, which `parse` has checked.
fn counted(a: &[&[u8]]) -> Result<Range<usize>, CmdError> {
    let n = crate::num::parse_i64(a[2]).and_then(|n| usize::try_from(n).ok()).ok_or(CmdError::Syntax)?;
    Ok(3..3 + n)
}

fn blmpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let timeout = timeout_arg(a[1])?;
    list::MultiPop::parse(&a[1..])?;
    pop_or_wait(
        cx,
        a,
        counted(a)?,
        Type::List,
        timeout,
        |cx, a, key| list::MultiPop::parse(&a[1..])?.take(cx, key).map(drop),
        Nothing::Array,
    )
}

fn bzmpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let timeout = timeout_arg(a[1])?;
    zset::MultiPop::parse(&a[1..])?;
    pop_or_wait(
        cx,
        a,
        counted(a)?,
        Type::ZSet,
        timeout,
        |cx, a, key| zset::MultiPop::parse(&a[1..])?.take(cx, key).map(drop),
        Nothing::Array,
    )
}

const BLOCKS: Flags = Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::BLOCKING);
const BLOCKS_FAST: Flags = BLOCKS.union(Flags::FAST);
const BLOCKS_OOM: Flags = BLOCKS.union(Flags::DENYOOM);
/// As in Redis, scripts may use these two.
const BLOCKS_COUNTED: Flags = Flags::WRITE.union(Flags::BLOCKING).union(Flags::MOVABLEKEYS);
/// Every argument but the last, the timeout.
const BUT_LAST: KeySpec = KeySpec::Range { first: 1, last: -2, step: 1 };
/// A count behind the timeout.
const COUNTED: KeySpec = KeySpec::Counted { at: 2, also: 0 };

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    Command::row("blpop", -3, BLOCKS, BUT_LAST, "list", "2.0.0",
        "Takes the first element of the first list that has one, waiting if none has", Run::Keys(blpop)),
    Command::row("brpop", -3, BLOCKS, BUT_LAST, "list", "2.0.0",
        "Takes the last element of the first list that has one, waiting if none has", Run::Keys(brpop)),
    Command::row("blmove", 6, BLOCKS_OOM, KeySpec::TWO, "list", "6.2.0",
        "Moves an end element of one list to an end of another, waiting for one to come",
        Run::Keys(blmove)),
    Command::row("brpoplpush", 4, BLOCKS_OOM, KeySpec::TWO, "list", "2.2.0",
        "Moves the last element of one list to the front of another, waiting for one to come",
        Run::Keys(brpoplpush)),
    Command::row("blmpop", -5, BLOCKS_COUNTED, COUNTED, "list", "7.0.0",
        "Takes elements from the first list that has some, waiting if none has", Run::Keys(blmpop)),
    Command { categories: "sortedset", ..Command::row("bzpopmin", -3, BLOCKS_FAST, BUT_LAST, "sorted-set", "5.0.0",
        "Takes the lowest member of the first sorted set that has one, waiting if none has", Run::Keys(bzpopmin)) },
    Command { categories: "sortedset", ..Command::row("bzpopmax", -3, BLOCKS_FAST, BUT_LAST, "sorted-set", "5.0.0",
        "Takes the highest member of the first sorted set that has one, waiting if none has", Run::Keys(bzpopmax)) },
    Command { categories: "sortedset", ..Command::row("bzmpop", -5, BLOCKS_COUNTED, COUNTED,
        "sorted-set", "7.0.0", "Takes members from an end of the first sorted set that has some, waiting if none has",
        Run::Keys(bzmpop)) },
];
