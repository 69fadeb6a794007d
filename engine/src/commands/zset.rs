//! Sorted set commands, but for the blocking ones.

mod add;
mod algebra;
mod bounds;
pub(super) mod pop;
mod range;
mod sample;
#[cfg(test)]
mod tests;

use crate::command::{CmdError, CmdResult, Command, Flags, KeyFn, KeySpec, Run};
use crate::encoding::LpValue;
use crate::entry::Payload;
use crate::keyspace::{Ctx, Event, Keys};
use crate::resp::Reply;
use crate::value::{Value, ZSet};

// ---- what the family shares ----

/// A member, with its score where that was asked for: a pair of its own in RESP3, two replies in RESP2.
fn put_pair(out: &mut Reply<'_>, member: LpValue<'_>, score: Option<f64>) {
    if score.is_some() && out.is_resp3() {
        out.array(2);
    }
    out.element(member);
    if let Some(score) = score {
        out.double(score);
    }
}

/// The set a command is about to change, looked at first; this counts as neither hit nor miss.
fn peek<'k>(keys: &'k mut Keys<'_>, key: &[u8]) -> Result<Option<&'k ZSet>, CmdError> {
    match keys.peek(key).map(|e| e.payload()) {
        None => Ok(None),
        Some(Payload::Value(Value::ZSet(set))) => Ok(Some(set)),
        Some(_) => Err(CmdError::WrongType),
    }
}

/// Replies how many members were written.
fn wrote(cx: &mut Ctx<'_>, n: usize) {
    cx.out.int(n as i64);
}

/// Makes a result the value of a key, whatever was there, and replies its size; an empty one deletes the key.
fn store(cx: &mut Ctx<'_>, key: &[u8], set: ZSet, event: Event) {
    let n = set.len();
    if n > 0 {
        cx.keys.set_value(key, Value::ZSet(set), None);
        cx.changed(key, event);
    } else {
        cx.delete(key);
    }
    wrote(cx, n);
}

// ---- single members ----

fn zcard(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let n = cx.keys.read::<ZSet>(a[1])?.map_or(0, ZSet::len);
    cx.out.int(n as i64);
    Ok(())
}

fn put_score(out: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => out.double(score),
        None => out.null(),
    }
}

fn zscore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let score = cx.keys.read::<ZSet>(a[1])?.and_then(|set| set.score(a[2]));
    put_score(&mut cx.out, score);
    Ok(())
}

fn zmscore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let set = cx.keys.read::<ZSet>(a[1])?;
    cx.out.array(a.len() - 2);
    for member in &a[2..] {
        put_score(&mut cx.out, set.and_then(|set| set.score(member)));
    }
    Ok(())
}

fn rank(cx: &mut Ctx<'_>, a: &[&[u8]], backward: bool) -> CmdResult {
    let place = cx.keys.read::<ZSet>(a[1])?.and_then(|set| Some((set.rank(a[2])?, set.len())));
    match place {
        Some((rank, len)) => cx.out.int(if backward { len - 1 - rank } else { rank } as i64),
        None => cx.out.null(),
    }
    Ok(())
}

fn zrank(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    rank(cx, a, false)
}

fn zrevrank(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    rank(cx, a, true)
}

// ---- the rows ----

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    since: &'static str,
    summary: &'static str,
    run: KeyFn,
) -> Command {
    let (categories, group) = ("sortedset", "sorted-set");
    Command {
        name,
        arity,
        flags,
        keys,
        categories,
        group,
        since,
        summary,
        subcommands: &[],
        run: Run::Keys(run),
    }
}

/// Keys behind their number at argument 1.
const COUNTED: KeySpec = KeySpec::Counted { at: 1, also: 0 };
/// A destination at argument 1, and keys behind their number at argument 2.
const COUNTED_TO: KeySpec = KeySpec::Counted { at: 2, also: 1 };

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row("zadd", -4, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.2.0",
        "Puts members into a sorted set, or gives them other scores", add::zadd),
    row("zincrby", 4, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.2.0",
        "Raises a member's score by an amount", add::zincrby),
    row("zrem", -3, Flags::WRITE_FAST, KeySpec::ONE, "1.2.0",
        "Takes members out of a sorted set", pop::zrem),
    row("zcard", 2, Flags::READ_FAST, KeySpec::ONE, "1.2.0",
        "Counts the members of a sorted set", zcard),
    row("zscore", 3, Flags::READ_FAST, KeySpec::ONE, "1.2.0",
        "The score of a member", zscore),
    row("zmscore", -3, Flags::READ_FAST, KeySpec::ONE, "6.2.0",
        "The scores of several members", zmscore),
    row("zrank", 3, Flags::READ_FAST, KeySpec::ONE, "2.0.0",
        "The place of a member, counted from the lowest score", zrank),
    row("zrevrank", 3, Flags::READ_FAST, KeySpec::ONE, "2.0.0",
        "The place of a member, counted from the highest score", zrevrank),
    row("zcount", 4, Flags::READ_FAST, KeySpec::ONE, "2.0.0",
        "Counts the members between two scores", range::zcount),
    row("zlexcount", 4, Flags::READ_FAST, KeySpec::ONE, "2.8.9",
        "Counts the members between two of equal score, by name", range::zlexcount),
    row("zrange", -4, Flags::READONLY, KeySpec::ONE, "1.2.0",
        "Members between two ranks, scores or names", range::zrange),
    row("zrangestore", -5, Flags::WRITE_OOM, KeySpec::TWO, "6.2.0",
        "Stores the members between two ranks, scores or names", range::zrangestore),
    row("zrangebyscore", -4, Flags::READONLY, KeySpec::ONE, "1.0.5",
        "Members between two scores", range::zrangebyscore),
    row("zrevrange", -4, Flags::READONLY, KeySpec::ONE, "1.2.0",
        "Members between two ranks, the highest score first",
        range::zrevrange),
    row("zrevrangebyscore", -4, Flags::READONLY, KeySpec::ONE, "2.2.0",
        "Members between two scores, the highest first",
        range::zrevrangebyscore),
    row("zrangebylex", -4, Flags::READONLY, KeySpec::ONE, "2.8.9",
        "Members between two names, of equal score", range::zrangebylex),
    row("zrevrangebylex", -4, Flags::READONLY, KeySpec::ONE, "2.8.9",
        "Members between two names, the last one first",
        range::zrevrangebylex),
    row("zremrangebyrank", 4, Flags::WRITE, KeySpec::ONE, "2.0.0",
        "Removes members between two ranks", range::zremrangebyrank),
    row("zremrangebyscore", 4, Flags::WRITE, KeySpec::ONE, "1.2.0",
        "Removes members between two scores", range::zremrangebyscore),
    row("zremrangebylex", 4, Flags::WRITE, KeySpec::ONE, "2.8.9",
        "Removes members between two names, of equal score", range::zremrangebylex),
    row("zpopmin", -2, Flags::WRITE_FAST, KeySpec::ONE, "5.0.0",
        "Takes the lowest members of a sorted set", pop::zpopmin),
    row("zpopmax", -2, Flags::WRITE_FAST, KeySpec::ONE, "5.0.0",
        "Takes the highest members of a sorted set", pop::zpopmax),
    row("zmpop", -4, Flags::WRITE.union(Flags::MOVABLEKEYS), COUNTED, "7.0.0",
        "Takes members from an end of the first sorted set that has some", pop::zmpop),
    row("zscan", -3, Flags::READONLY, KeySpec::ONE, "2.8.0",
        "Walks through a sorted set in steps", sample::zscan),
    row("zrandmember", -2, Flags::READONLY, KeySpec::ONE, "6.2.0",
        "Members of a sorted set, chosen at random", sample::zrandmember),
    row("zunion", -3, Flags::READONLY.union(Flags::MOVABLEKEYS), COUNTED, "6.2.0",
        "The members that any of the sorted sets has", algebra::zunion),
    row("zinter", -3, Flags::READONLY.union(Flags::MOVABLEKEYS), COUNTED, "6.2.0",
        "The members that all of the sorted sets have", algebra::zinter),
    row("zdiff", -3, Flags::READONLY.union(Flags::MOVABLEKEYS), COUNTED, "6.2.0",
        "The members of the first sorted set that no other has", algebra::zdiff),
    row("zintercard", -3, Flags::READONLY.union(Flags::MOVABLEKEYS), COUNTED, "7.0.0",
        "Counts the members that all of the sorted sets have", algebra::zintercard),
    row("zunionstore", -4, Flags::WRITE_OOM.union(Flags::MOVABLEKEYS), COUNTED_TO, "2.0.0",
        "Stores the members that any of the sorted sets has", algebra::zunionstore),
    row("zinterstore", -4, Flags::WRITE_OOM.union(Flags::MOVABLEKEYS), COUNTED_TO, "2.0.0",
        "Stores the members that all of the sorted sets have", algebra::zinterstore),
    row("zdiffstore", -4, Flags::WRITE_OOM.union(Flags::MOVABLEKEYS), COUNTED_TO, "6.2.0",
        "Stores the members of the first sorted set that no other has", algebra::zdiffstore),
];
