//! Hash commands.
//!
//! All are logged as they came, except HINCRBYFLOAT, which becomes the HSET of its result: two servers need not
//! agree on how they add.

use super::random::{self, Source};
use super::scan::scan;
use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::encoding::LpValue;
use crate::keyspace::{Ctx, Event, int_arg};
use crate::num::long_double::LongDouble;
use crate::resp::Reply;
use crate::value::Hash;

// ---- writing ----

/// Sets the pairs from argument 2 on; how many fields are new. `name` is for the refusal.
fn set_pairs(cx: &mut Ctx<'_>, a: &[&[u8]], name: &str) -> Result<usize, CmdError> {
    if !a.len().is_multiple_of(2) {
        return Err(CmdError::arity(name));
    }
    let limits = cx.keys.limits().hash();
    let hash = cx.keys.write_or_create::<Hash>(a[1])?;
    let pairs = a[2..].chunks_exact(2);
    let set = pairs.len();
    let new = pairs.filter(|pair| hash.set(pair[0], pair[1], limits)).count();
    cx.changed_elements(a[1], set, Event::HSet);
    Ok(new)
}

fn hset(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let new = set_pairs(cx, a, "hset")?;
    cx.out.int(new as i64);
    Ok(())
}

fn hmset(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    set_pairs(cx, a, "hmset")?;
    cx.out.ok();
    Ok(())
}

fn hsetnx(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    if cx.keys.read_to_change::<Hash>(a[1])?.is_some_and(|h| h.contains(a[2])) {
        cx.out.int(0);
        return Ok(());
    }
    set(cx, a[1], a[2], a[3], Event::HSet)?;
    cx.out.int(1);
    Ok(())
}

fn set(cx: &mut Ctx<'_>, key: &[u8], field: &[u8], value: &[u8], event: Event) -> CmdResult {
    let limits = cx.keys.limits().hash();
    cx.keys.write_or_create::<Hash>(key)?.set(field, value, limits);
    cx.changed(key, event);
    Ok(())
}

fn hdel(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let removed = match cx.keys.write::<Hash>(a[1])? {
        Some(hash) => a[2..].iter().filter(|field| hash.remove(field)).count(),
        None => 0,
    };
    cx.removed_elements(a[1], removed, Event::HDel);
    cx.out.int(removed as i64);
    Ok(())
}

fn hincrby(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let by = int_arg(a[3])?;
    let old = match cx.keys.read_to_change::<Hash>(a[1])?.and_then(|h| h.get(a[2])) {
        Some(old) => old.to_i64().ok_or(CmdError::FieldNotInteger)?,
        None => 0,
    };
    let new = old.checked_add(by).ok_or(CmdError::Overflow)?;
    set(cx, a[1], a[2], itoa::Buffer::new().format(new).as_bytes(), Event::HIncrBy)?;
    cx.out.int(new);
    Ok(())
}

fn hincrbyfloat(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let by = LongDouble::parse(a[3]).ok_or(CmdError::NotFloat)?;
    if by.is_infinite() {
        return Err(CmdError::text("ERR value is NaN or Infinity"));
    }
    let old = match cx.keys.read_to_change::<Hash>(a[1])?.and_then(|h| h.get(a[2])) {
        Some(old) => LongDouble::parse(old.as_bytes(&mut itoa::Buffer::new())),
        None => LongDouble::parse(b"0"),
    };
    let old = old.ok_or(CmdError::FieldNotFloat)?;
    let sum = old.checked_add(by).ok_or(CmdError::NotFinite)?;
    let mut text = Vec::with_capacity(32);
    sum.write(&mut text);
    set(cx, a[1], a[2], &text, Event::HIncrByFloat)?;
    cx.propagate(&[b"HSET", a[1], a[2], &text]);
    cx.out.bulk(&text);
    Ok(())
}

// ---- reading ----

fn hget(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    match cx.keys.read::<Hash>(a[1])?.and_then(|h| h.get(a[2])) {
        Some(value) => cx.out.element(value),
        None => cx.out.null(),
    }
    Ok(())
}

fn hmget(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let hash = cx.keys.read::<Hash>(a[1])?;
    cx.out.array(a.len() - 2);
    for field in &a[2..] {
        match hash.and_then(|h| h.get(field)) {
            Some(value) => cx.out.element(value),
            None => cx.out.null(),
        }
    }
    Ok(())
}

fn hgetall(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let Some(hash) = cx.keys.read::<Hash>(a[1])? else {
        cx.out.map(0);
        return Ok(());
    };
    cx.out.map(hash.len());
    hash.iter().for_each(|(field, value)| {
        cx.out.element(field);
        cx.out.element(value);
    });
    Ok(())
}

fn each(cx: &mut Ctx<'_>, key: &[u8], put: impl Fn(&mut Reply<'_>, LpValue<'_>, LpValue<'_>)) -> CmdResult {
    let Some(hash) = cx.keys.read::<Hash>(key)? else {
        cx.out.array(0);
        return Ok(());
    };
    cx.out.array(hash.len());
    hash.iter().for_each(|(field, value)| put(&mut cx.out, field, value));
    Ok(())
}

fn hkeys(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    each(cx, a[1], |out, field, _| out.element(field))
}

fn hvals(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    each(cx, a[1], |out, _, value| out.element(value))
}

fn hlen(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let len = cx.keys.read::<Hash>(a[1])?.map_or(0, Hash::len);
    cx.out.int(len as i64);
    Ok(())
}

fn hexists(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let there = cx.keys.read::<Hash>(a[1])?.is_some_and(|h| h.contains(a[2]));
    cx.out.int(there.into());
    Ok(())
}

fn hstrlen(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let value = cx.keys.read::<Hash>(a[1])?.and_then(|h| h.get(a[2]));
    cx.out.int(value.map_or(0, |v| v.text_len() as i64));
    Ok(())
}

fn hscan(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    scan::<Hash>(cx, a, |hash, cursor, count, found| {
        hash.scan(cursor, count, |field, value| found.add(field, Some(value)))
    })
}

type Pair<'a> = (LpValue<'a>, LpValue<'a>);

impl<'a> Source for &'a Hash {
    type Item = Pair<'a>;

    fn len(self) -> usize {
        Hash::len(self)
    }

    fn each(self, f: impl FnMut(Pair<'a>)) {
        self.iter().for_each(f);
    }

    fn pick(self) -> Option<Pair<'a>> {
        self.table()?.random().map(Hash::pair)
    }

    fn place((field, _): Pair<'a>) -> usize {
        random::place(field)
    }
}

fn hrandfield(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    if a.len() == 2 {
        match cx.keys.read::<Hash>(a[1])?.and_then(Hash::random) {
            Some((field, _)) => cx.out.element(field),
            None => cx.out.null(),
        }
        return Ok(());
    }
    let count = random::count_arg(a[2])?;
    let values = match a[3..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"WITHVALUES") => true,
        _ => return Err(CmdError::Syntax),
    };
    if values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CmdError::text("ERR value is out of range"));
    }
    let Some(hash) = cx.keys.read::<Hash>(a[1])? else {
        cx.out.array(0);
        return Ok(());
    };
    // RESP3 nests each pair; RESP2 has them flat.
    let nested = values && cx.out.is_resp3();
    let each = if values && !nested { 2 } else { 1 };
    random::reply(&mut cx.out, hash, count, each, |out, (field, value)| {
        if nested {
            out.array(2);
        }
        out.element(field);
        if values {
            out.element(value);
        }
    })
}

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    since: &'static str,
    summary: &'static str,
    run: Run,
) -> Command {
    Command::row(name, arity, flags, KeySpec::ONE, "hash", since, summary, run)
}

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row("hset", -4, Flags::WRITE_OOM_FAST, "2.0.0", "Sets fields of a hash and counts the new ones", Run::Keys(hset)),
    row("hget", 3, Flags::READ_FAST, "2.0.0", "The value of one field", Run::Keys(hget)),
    row("hmset", -4, Flags::WRITE_OOM_FAST, "2.0.0", "Sets fields of a hash", Run::Keys(hmset)),
    row("hmget", -3, Flags::READ_FAST, "2.0.0", "The values of some fields", Run::Keys(hmget)),
    row("hgetall", 2, Flags::READONLY, "2.0.0", "All fields of a hash with their values", Run::Keys(hgetall)),
    row("hdel", -3, Flags::WRITE_FAST, "2.0.0", "Removes fields of a hash", Run::Keys(hdel)),
    row("hlen", 2, Flags::READ_FAST, "2.0.0", "Counts the fields of a hash", Run::Keys(hlen)),
    row("hexists", 3, Flags::READ_FAST, "2.0.0", "Tells whether a hash has a field", Run::Keys(hexists)),
    row("hkeys", 2, Flags::READONLY, "2.0.0", "The names of all fields of a hash", Run::Keys(hkeys)),
    row("hvals", 2, Flags::READONLY, "2.0.0", "The values of all fields of a hash", Run::Keys(hvals)),
    row("hincrby", 4, Flags::WRITE_OOM_FAST, "2.0.0",
        "Raises the integer of a field by an amount", Run::Keys(hincrby)),
    row("hincrbyfloat", 4, Flags::WRITE_OOM_FAST, "2.6.0",
        "Raises the number of a field by an amount with a fraction", Run::Keys(hincrbyfloat)),
    row("hsetnx", 4, Flags::WRITE_OOM_FAST, "2.0.0",
        "Sets a field that is not there yet", Run::Keys(hsetnx)),
    row("hstrlen", 3, Flags::READ_FAST, "3.2.0", "The length of a field's value", Run::Keys(hstrlen)),
    row("hscan", -3, Flags::READONLY, "2.8.0",
        "Walks through a hash in steps", Run::Keys(hscan)),
    row("hrandfield", -2, Flags::READONLY, "6.2.0", "Fields of a hash, chosen at random", Run::Keys(hrandfield)),
];
