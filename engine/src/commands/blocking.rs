//! Commands that wait for a list or a sorted set to have something: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP, BZPOPMIN,
//! BZPOPMAX, BZMPOP.
//!
//! Each looks at its keys as the command without the `B` would; what it takes is logged as that one. Finding nothing,
//! it waits (see the module `blocking` of the crate) and the same function takes from the key that became ready.

use super::list::{self, End};
use super::zset::pop as zset;
use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run, ServeFn};
use crate::keyspace::Ctx;
use crate::keyspace::waiting::{Nothing, Wish};
use crate::value::{List, Type, ZSet};
use std::ops::Range;
use std::time::Duration;

/// Parses a timeout in seconds, as blocking commands take it; 0 is for ever.
fn timeout_arg(arg: &[u8]) -> Result<Option<Duration>, CmdError> {
    let seconds = crate::num::parse_f64(arg)
        .filter(|s| s.is_finite())
        .ok_or(CmdError::text("ERR timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(CmdError::text("ERR timeout is negative"));
    }
    let ms = (seconds * 1000.0).ceil();
    if ms >= i64::MAX as f64 {
        return Err(CmdError::text("ERR timeout is out of range"));
    }
    Ok((ms > 0.0).then(|| Duration::from_millis(ms as u64)))
}

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
    cx.block(Wish { keys, kind, timeout, nothing });
    Ok(())
}

/// `KEY [KEY ...] TIMEOUT`
fn keys_then_timeout(cx: &mut Ctx<'_>, a: &[&[u8]], kind: Type, serve: ServeFn) -> CmdResult {
    let last = a.len() - 1;
    let timeout = timeout_arg(a[last])?;
    pop_or_wait(cx, a, 1..last, kind, timeout, serve, Nothing::Array)
}

fn serve_blpop(cx: &mut Ctx<'_>, _: &[&[u8]], key: &[u8]) -> CmdResult {
    list::serve_pop(cx, key, End::Left)
}

fn blpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    keys_then_timeout(cx, a, Type::List, serve_blpop)
}

fn serve_brpop(cx: &mut Ctx<'_>, _: &[&[u8]], key: &[u8]) -> CmdResult {
    list::serve_pop(cx, key, End::Right)
}

fn brpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    keys_then_timeout(cx, a, Type::List, serve_brpop)
}

fn serve_bzpopmin(cx: &mut Ctx<'_>, _: &[&[u8]], key: &[u8]) -> CmdResult {
    zset::serve_pop(cx, key, zset::End::Min)
}

fn bzpopmin(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    keys_then_timeout(cx, a, Type::ZSet, serve_bzpopmin)
}

fn serve_bzpopmax(cx: &mut Ctx<'_>, _: &[&[u8]], key: &[u8]) -> CmdResult {
    zset::serve_pop(cx, key, zset::End::Max)
}

fn bzpopmax(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    keys_then_timeout(cx, a, Type::ZSet, serve_bzpopmax)
}

/// `FROM TO ... TIMEOUT`: one list is waited for.
fn move_or_wait(cx: &mut Ctx<'_>, a: &[&[u8]], serve: ServeFn) -> CmdResult {
    let timeout = timeout_arg(a[a.len() - 1])?;
    pop_or_wait(cx, a, 1..2, Type::List, timeout, serve, Nothing::Element)
}

fn blmove(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    End::parse(a[3])?;
    End::parse(a[4])?;
    move_or_wait(cx, a, serve_blmove)
}

fn serve_blmove(cx: &mut Ctx<'_>, a: &[&[u8]], key: &[u8]) -> CmdResult {
    list::move_element(cx, key, a[2], End::parse(a[3])?, End::parse(a[4])?)?;
    cx.propagate(&[b"LMOVE", key, a[2], a[3], a[4]]);
    Ok(())
}

fn brpoplpush(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    move_or_wait(cx, a, serve_brpoplpush)
}

fn serve_brpoplpush(cx: &mut Ctx<'_>, a: &[&[u8]], key: &[u8]) -> CmdResult {
    list::move_element(cx, key, a[2], End::Right, End::Left)?;
    cx.propagate(&[b"RPOPLPUSH", key, a[2]]);
    Ok(())
}

/// The keys of `TIMEOUT NUMKEYS KEY ...`, which `parse` has checked.
fn counted(a: &[&[u8]]) -> Result<Range<usize>, CmdError> {
    let n = crate::num::parse_i64(a[2]).and_then(|n| usize::try_from(n).ok()).ok_or(CmdError::Syntax)?;
    Ok(3..3 + n)
}

fn blmpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let timeout = timeout_arg(a[1])?;
    list::MultiPop::parse(&a[1..])?;
    pop_or_wait(cx, a, counted(a)?, Type::List, timeout, serve_blmpop, Nothing::Array)
}

fn serve_blmpop(cx: &mut Ctx<'_>, a: &[&[u8]], key: &[u8]) -> CmdResult {
    list::MultiPop::parse(&a[1..])?.take(cx, key).map(drop)
}

fn bzmpop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let timeout = timeout_arg(a[1])?;
    zset::MultiPop::parse(&a[1..])?;
    pop_or_wait(cx, a, counted(a)?, Type::ZSet, timeout, serve_bzmpop, Nothing::Array)
}

fn serve_bzmpop(cx: &mut Ctx<'_>, a: &[&[u8]], key: &[u8]) -> CmdResult {
    zset::MultiPop::parse(&a[1..])?.take(cx, key).map(drop)
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
        "Takes the first element of the first list that has one, waiting if none has", Run::Waits { run: blpop, serve: serve_blpop }),
    Command::row("brpop", -3, BLOCKS, BUT_LAST, "list", "2.0.0",
        "Takes the last element of the first list that has one, waiting if none has", Run::Waits { run: brpop, serve: serve_brpop }),
    Command::row("blmove", 6, BLOCKS_OOM, KeySpec::TWO, "list", "6.2.0",
        "Moves an end element of one list to an end of another, waiting for one to come",
        Run::Waits { run: blmove, serve: serve_blmove }),
    Command::row("brpoplpush", 4, BLOCKS_OOM, KeySpec::TWO, "list", "2.2.0",
        "Moves the last element of one list to the front of another, waiting for one to come",
        Run::Waits { run: brpoplpush, serve: serve_brpoplpush }),
    Command::row("blmpop", -5, BLOCKS_COUNTED, COUNTED, "list", "7.0.0",
        "Takes elements from the first list that has some, waiting if none has", Run::Waits { run: blmpop, serve: serve_blmpop }),
    Command { categories: "sortedset", ..Command::row("bzpopmin", -3, BLOCKS_FAST, BUT_LAST, "sorted-set", "5.0.0",
        "Takes the lowest member of the first sorted set that has one, waiting if none has", Run::Waits { run: bzpopmin, serve: serve_bzpopmin }) },
    Command { categories: "sortedset", ..Command::row("bzpopmax", -3, BLOCKS_FAST, BUT_LAST, "sorted-set", "5.0.0",
        "Takes the highest member of the first sorted set that has one, waiting if none has", Run::Waits { run: bzpopmax, serve: serve_bzpopmax }) },
    Command { categories: "sortedset", ..Command::row("bzmpop", -5, BLOCKS_COUNTED, COUNTED,
        "sorted-set", "7.0.0", "Takes members from an end of the first sorted set that has some, waiting if none has",
        Run::Waits { run: bzmpop, serve: serve_bzmpop }) },
];
