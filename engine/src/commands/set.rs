//! Set commands.
//!
//! All are logged as they came, except SPOP, which becomes the SREM of what it took, or the DEL of the key where it
//! took everything.

use super::random::{self, Source};
use super::scan::scan;
use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::encoding::LpValue;
use crate::keyspace::{Ctx, Event, Keys, int_arg, syntax};
use crate::num::parse_i64;
use crate::value::set::algebra::{difference, intersect, union};
use crate::value::{Set, Value};
use std::ops::ControlFlow;

// ---- writing ----

fn sadd(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let limit = cx.keys.limits().intset();
    let set = cx.keys.write_or_create::<Set>(a[1])?;
    let added = a[2..].iter().filter(|m| set.add(m, limit)).count();
    cx.changed_elements(a[1], added, Event::SAdd);
    cx.out.int(added as i64);
    Ok(())
}

fn srem(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let removed = match cx.keys.write::<Set>(a[1])? {
        Some(set) => a[2..].iter().filter(|m| set.remove(m)).count(),
        None => 0,
    };
    cx.removed_elements(a[1], removed, Event::SRem);
    cx.out.int(removed as i64);
    Ok(())
}

fn smove(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let &[_, from, to, member] = a else { return Err(CmdError::Syntax) };
    let there = match cx.keys.read_to_change::<Set>(from)? {
        Some(set) => set.contains(member),
        None => {
            cx.out.int(0);
            return Ok(());
        }
    };
    cx.keys.read_to_change::<Set>(to)?;
    cx.out.int(there.into());
    if !there || from == to {
        return Ok(());
    }
    let limit = cx.keys.limits().intset();
    if let Some(set) = cx.keys.write::<Set>(from)? {
        set.remove(member);
    }
    cx.removed_elements(from, 1, Event::SRem);
    if cx.keys.write_or_create::<Set>(to)?.add(member, limit) {
        cx.changed(to, Event::SAdd);
    }
    Ok(())
}

fn spop(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let &[_, key, ref rest @ ..] = a else { return Err(CmdError::Syntax) };
    match *rest {
        [] => spop_one(cx, key),
        [count] => {
            let count = parse_i64(count).and_then(|n| usize::try_from(n).ok());
            spop_many(cx, key, count.ok_or(CmdError::text("ERR value is out of range, must be positive"))?)
        }
        _ => Err(CmdError::Syntax),
    }
}

fn spop_one(cx: &mut Ctx<'_>, key: &[u8]) -> CmdResult {
    let Some(set) = cx.keys.write::<Set>(key)? else {
        cx.out.null();
        return Ok(());
    };
    let Some(member) = set.random().map(|m| m.to_vec()) else { return Err(CmdError::NoSuchKey) };
    set.remove(&member);
    cx.removed_elements(key, 1, Event::SPop);
    cx.propagate(&[b"SREM", key, &member]);
    cx.out.bulk(&member);
    Ok(())
}

fn spop_many(cx: &mut Ctx<'_>, key: &[u8], count: usize) -> CmdResult {
    let Some(set) = cx.keys.read_to_change::<Set>(key)?.filter(|_| count > 0) else {
        cx.out.set(0);
        return Ok(());
    };
    let taken = count.min(set.len());
    cx.out.set(taken);
    if taken == set.len() {
        set.iter().for_each(|m| cx.out.element(m));
        cx.delete_emptied(key, taken, Event::SPop);
        cx.propagate(&[b"DEL", key]);
        return Ok(());
    }
    let members: Vec<Vec<u8>> = random::sample(set, taken)
        .into_iter()
        .map(|m| {
            cx.out.element(m);
            m.to_vec()
        })
        .collect();
    if let Some(set) = cx.keys.write::<Set>(key)? {
        members.iter().for_each(|m| {
            set.remove(m);
        });
    }
    cx.removed_elements(key, taken, Event::SPop);
    cx.propagate_items(&[b"SREM", key], members.iter().map(Vec::as_slice), 1);
    Ok(())
}

// ---- reading ----

fn smembers(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let Some(set) = cx.keys.read::<Set>(a[1])? else {
        cx.out.set(0);
        return Ok(());
    };
    cx.out.set(set.len());
    set.iter().for_each(|m| cx.out.element(m));
    Ok(())
}

fn sismember(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let there = cx.keys.read::<Set>(a[1])?.is_some_and(|s| s.contains(a[2]));
    cx.out.int(there.into());
    Ok(())
}

fn smismember(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let set = cx.keys.read::<Set>(a[1])?;
    cx.out.array(a.len() - 2);
    a[2..].iter().for_each(|m| cx.out.int(set.is_some_and(|s| s.contains(m)).into()));
    Ok(())
}

fn scard(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let len = cx.keys.read::<Set>(a[1])?.map_or(0, Set::len);
    cx.out.int(len as i64);
    Ok(())
}

fn sscan(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    scan::<Set>(cx, a, |set, cursor, count, found| set.scan(cursor, count, |m| found.add(m, None)))
}

impl<'a> Source for &'a Set {
    type Item = LpValue<'a>;

    fn len(self) -> usize {
        Set::len(self)
    }

    fn each(self, f: impl FnMut(LpValue<'a>)) {
        self.iter().for_each(f);
    }

    fn pick(self) -> Option<LpValue<'a>> {
        self.table()?.random().map(|e| LpValue::Str(e.key()))
    }

    fn place(member: LpValue<'a>) -> usize {
        random::place(member)
    }
}

fn srandmember(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    match *a {
        [_, key] => {
            match cx.keys.read::<Set>(key)?.and_then(Set::random) {
                Some(member) => cx.out.element(member),
                None => cx.out.null(),
            }
            Ok(())
        }
        [_, key, count] => {
            let count = random::count_arg(count)?;
            match cx.keys.read::<Set>(key)? {
                Some(set) => random::reply(&mut cx.out, set, count, 1, |out, m| out.element(m)),
                None => {
                    cx.out.array(0);
                    Ok(())
                }
            }
        }
        _ => Err(CmdError::Syntax),
    }
}

// ---- several sets ----

/// The sets under these names, or `None` where one is missing: then nothing is common to all.
fn all_of<'k>(keys: &'k mut Keys<'_>, names: &[&[u8]]) -> Result<Option<Vec<&'k Set>>, CmdError> {
    Ok(keys.read_all::<Set>(names)?.into_iter().collect())
}

fn sinter(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let sets = all_of(&mut cx.keys, &a[1..])?;
    let head = cx.out.defer_set();
    let mut n = 0;
    intersect(sets.unwrap_or_default(), |member| {
        cx.out.element(member);
        n += 1;
        ControlFlow::Continue(())
    });
    cx.out.fill(head, n);
    Ok(())
}

fn sintercard(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let keys =
        parse_i64(a[1]).filter(|n| *n > 0).ok_or(CmdError::text("ERR numkeys should be greater than 0"))?;
    let keys = usize::try_from(keys).ok().filter(|n| *n <= a.len() - 2);
    let keys = keys.ok_or(CmdError::text("ERR Number of keys can't be greater than number of args"))?;
    let mut limit = 0;
    for option in a[2 + keys..].chunks(2) {
        let &[name, value] = option else { return Err(CmdError::Syntax) };
        syntax(name.eq_ignore_ascii_case(b"LIMIT"))?;
        limit = int_arg(value)
            .ok()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or(CmdError::text("ERR LIMIT can't be negative"))?;
    }
    let mut n = 0;
    intersect(all_of(&mut cx.keys, &a[2..2 + keys])?.unwrap_or_default(), |_| {
        n += 1;
        if n == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    cx.out.int(n as i64);
    Ok(())
}

fn reply_set(cx: &mut Ctx<'_>, set: &Set) {
    cx.out.set(set.len());
    set.iter().for_each(|m| cx.out.element(m));
}

fn sunion(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let limit = cx.keys.limits().intset();
    let set = union(&cx.keys.read_all(&a[1..])?, limit);
    reply_set(cx, &set);
    Ok(())
}

fn sdiff(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let limit = cx.keys.limits().intset();
    let set = difference(&cx.keys.read_all(&a[1..])?, limit);
    reply_set(cx, &set);
    Ok(())
}

/// Puts a result under its key, in place of whatever is there; an empty one removes the key.
fn store(cx: &mut Ctx<'_>, key: &[u8], set: Set, event: Event) {
    let len = set.len();
    if len > 0 {
        cx.keys.set_value(key, Value::Set(set), None);
        cx.changed(key, event);
    } else {
        cx.delete(key);
    }
    cx.out.int(len as i64);
}

fn sinterstore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let limit = cx.keys.limits().intset();
    let mut common = Set::new();
    intersect(all_of(&mut cx.keys, &a[2..])?.unwrap_or_default(), |member| {
        common.add_value(member, limit);
        ControlFlow::Continue(())
    });
    store(cx, a[1], common, Event::SInterStore);
    Ok(())
}

fn sunionstore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let limit = cx.keys.limits().intset();
    let set = union(&cx.keys.read_all(&a[2..])?, limit);
    store(cx, a[1], set, Event::SUnionStore);
    Ok(())
}

fn sdiffstore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let limit = cx.keys.limits().intset();
    let set = difference(&cx.keys.read_all(&a[2..])?, limit);
    store(cx, a[1], set, Event::SDiffStore);
    Ok(())
}

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    since: &'static str,
    summary: &'static str,
    run: Run,
) -> Command {
    Command::row(name, arity, flags, keys, "set", since, summary, run)
}

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row("sadd", -3, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.0.0", "Puts members into a set", Run::Keys(sadd)),
    row("srem", -3, Flags::WRITE_FAST, KeySpec::ONE, "1.0.0",
        "Takes members out of a set", Run::Keys(srem)),
    row("smembers", 2, Flags::READONLY, KeySpec::ONE, "1.0.0", "All members of a set", Run::Keys(smembers)),
    row("sismember", 3, Flags::READ_FAST, KeySpec::ONE, "1.0.0",
        "Tells whether a set has a member", Run::Keys(sismember)),
    row("smismember", -3, Flags::READ_FAST, KeySpec::ONE, "6.2.0",
        "Tells of several members whether a set has them", Run::Keys(smismember)),
    row("scard", 2, Flags::READ_FAST, KeySpec::ONE, "1.0.0", "Counts the members of a set", Run::Keys(scard)),
    row("spop", -2, Flags::WRITE_FAST, KeySpec::ONE, "1.0.0",
        "Takes members of a set, chosen at random", Run::Keys(spop)),
    row("srandmember", -2, Flags::READONLY, KeySpec::ONE, "1.0.0",
        "Members of a set, chosen at random", Run::Keys(srandmember)),
    row("smove", 4, Flags::WRITE_FAST, KeySpec::TWO, "1.0.0", "Moves a member from one set to another", Run::Keys(smove)),
    row("sinter", -2, Flags::READONLY, KeySpec::ALL, "1.0.0", "The members that all of the sets have", Run::Keys(sinter)),
    row("sintercard", -3, Flags::READONLY.union(Flags::MOVABLEKEYS), KeySpec::Counted { at: 1, also: 0 }, "7.0.0",
        "Counts the members that all of the sets have", Run::Keys(sintercard)),
    row("sunion", -2, Flags::READONLY, KeySpec::ALL, "1.0.0", "The members that any of the sets has", Run::Keys(sunion)),
    row("sdiff", -2, Flags::READONLY, KeySpec::ALL, "1.0.0", "The members of the first set that no other has", Run::Keys(sdiff)),
    row("sinterstore", -3, Flags::WRITE_OOM, KeySpec::ALL, "1.0.0",
        "Stores the members that all of the sets have", Run::Keys(sinterstore)),
    row("sunionstore", -3, Flags::WRITE_OOM, KeySpec::ALL, "1.0.0",
        "Stores the members that any of the sets has", Run::Keys(sunionstore)),
    row("sdiffstore", -3, Flags::WRITE_OOM, KeySpec::ALL, "1.0.0",
        "Stores the members of the first set that no other has", Run::Keys(sdiffstore)),
    row("sscan", -3, Flags::READONLY, KeySpec::ONE, "2.8.0", "Walks through a set in steps", Run::Keys(sscan)),
];
