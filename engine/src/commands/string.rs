//! String commands.
//!
//! What they log is absolute: a relative expiry becomes `PXAT` or `PEXPIREAT`, a float increment becomes the `SET` of
//! its result, and a command that ends in a deletion becomes `DEL`. Sizes are bounded by `proto-max-bulk-len`.

use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::entry::MAX_STRING_LEN;
use crate::keyspace::{Ctx, Event, Keys, NewExpiry, StrRef, int_arg};
use crate::num::LongDouble;
use crate::resp::Reply;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

fn reply_string(out: &mut Reply<'_>, value: Option<StrRef<'_>>) {
    match value {
        None => out.null(),
        Some(StrRef::Bytes(b)) => out.bulk(b),
        Some(StrRef::Int(i)) => out.bulk_int(i),
    }
}

// ---- reading ----

fn get(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_string(&mut cx.out, cx.keys.string(a[1])?);
    Ok(())
}

fn mget(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    cx.out.array(a.len() - 1);
    for key in &a[1..] {
        // A key of another type counts as missing.
        reply_string(&mut cx.out, cx.keys.string(key).unwrap_or(None));
    }
    Ok(())
}

fn strlen(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let n = cx.keys.string(a[1])?.map_or(0, StrRef::len);
    cx.out.int(n as i64);
    Ok(())
}

/// GETRANGE and SUBSTR: both ends count, negative positions count from the end.
fn getrange(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (start, end) = (int_arg(a[2])?, int_arg(a[3])?);
    match cx.keys.string(a[1])? {
        None => cx.out.bulk(b""),
        Some(s) => s.with(|bytes| cx.out.bulk(subrange(bytes, start, end))),
    }
    Ok(())
}

fn subrange(s: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let len = s.len() as i64;
    let from = if start < 0 { (len + start).max(0) } else { start };
    let to = if end < 0 { (len + end).max(0) } else { end.min(len - 1) };
    if from > to || from >= len { b"" } else { &s[from as usize..=to as usize] }
}

// ---- options of SET and GETEX ----

/// How an expiry argument is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl Unit {
    fn parse(word: &[u8]) -> Option<Unit> {
        [(b"EX".as_slice(), Unit::Ex), (b"PX", Unit::Px), (b"EXAT", Unit::ExAt), (b"PXAT", Unit::PxAt)]
            .into_iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name))
            .map(|(_, unit)| unit)
    }

    fn is_absolute(self) -> bool {
        matches!(self, Unit::ExAt | Unit::PxAt)
    }

    /// The Unix time in milliseconds that the argument of command `name` means.
    fn at_ms(self, arg: &[u8], now: i64, name: &str) -> Result<i64, CmdError> {
        let n = int_arg(arg)?;
        let factor = if matches!(self, Unit::Ex | Unit::ExAt) { 1000 } else { 1 };
        let base = if self.is_absolute() { 0 } else { now };
        (n > 0).then(|| n.checked_mul(factor)?.checked_add(base)).flatten().ok_or_else(|| bad_expire(name))
    }
}

pub(crate) fn bad_expire(name: &str) -> CmdError {
    format!("ERR invalid expire time in '{name}' command").into()
}

#[derive(Default)]
struct Options<'a> {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expire: Option<(Unit, &'a [u8])>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a [u8]], getex: bool) -> Result<Options<'a>, CmdError> {
        let mut o = Options::default();
        let mut i = 0;
        while i < words.len() {
            let word = words[i];
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if !getex && is("NX") && !o.xx {
                o.nx = true;
            } else if !getex && is("XX") && !o.nx {
                o.xx = true;
            } else if !getex && is("GET") {
                o.get = true;
            } else if !getex && is("KEEPTTL") && o.expire.is_none() {
                o.keep_ttl = true;
            } else if getex && is("PERSIST") && o.expire.is_none() {
                o.persist = true;
            } else if let Some(unit) = Unit::parse(word)
                && !o.keep_ttl
                && !o.persist
                // The same unit twice is allowed: the last one counts.
                && o.expire.is_none_or(|(before, _)| before == unit)
                && let Some(arg) = words.get(i + 1)
            {
                o.expire = Some((unit, arg));
                i += 1;
            } else {
                return Err(CmdError::Syntax);
            }
            i += 1;
        }
        Ok(o)
    }
}

/// Logs a `SET` with an absolute expiry.
fn propagate_set_at(cx: &mut Ctx<'_>, key: &[u8], value: &[u8], at_ms: i64) {
    let mut n = itoa::Buffer::new();
    cx.propagate(&[b"SET", key, value, b"PXAT", n.format(at_ms).as_bytes()]);
}

// ---- setting ----

fn set(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (key, value) = (a[1], a[2]);
    if a.len() > 3 {
        return set_with_options(cx, a);
    }
    cx.keys.set_string(key, value, NewExpiry::Clear);
    cx.changed(key, Event::Set);
    cx.out.ok();
    Ok(())
}

fn set_with_options(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (key, value) = (a[1], a[2]);
    let o = Options::parse(&a[3..], false)?;
    let at = match o.expire {
        Some((unit, arg)) => Some(unit.at_ms(arg, cx.keys.now, "set")?),
        None => None,
    };
    if o.get {
        reply_string(&mut cx.out, cx.keys.string(key)?);
    }
    // Also where nothing is asked of the old key: KEEPTTL must not keep the expiry of a key that has expired.
    let exists = cx.keys.live(key);
    if (o.nx && exists) || (o.xx && !exists) {
        if !o.get {
            cx.out.null();
        }
        return Ok(());
    }
    let expiry = match at {
        Some(ms) => NewExpiry::At(ms),
        None if o.keep_ttl => NewExpiry::Keep,
        None => NewExpiry::Clear,
    };
    cx.keys.set_string(key, value, expiry);
    cx.changed(key, Event::Set);
    if !o.get {
        cx.out.ok();
    }
    if let Some(ms) = at {
        cx.keys.notify(cx.keys.db, key, Event::Expire);
        propagate_set_at(cx, key, value, ms);
    } else if o.get {
        // GET is of no use to a replica.
        let words = a[3..].iter().copied().filter(|w| !w.eq_ignore_ascii_case(b"GET"));
        let args: SmallVec<[&[u8]; 8]> = a[..3].iter().copied().chain(words).collect();
        cx.propagate(&args);
    }
    Ok(())
}

fn setnx(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let new = !cx.keys.live(a[1]);
    if new {
        cx.keys.set_string(a[1], a[2], NewExpiry::Clear);
        cx.changed(a[1], Event::Set);
    }
    cx.out.int(new.into());
    Ok(())
}

fn set_expiring(cx: &mut Ctx<'_>, a: &[&[u8]], unit: Unit, name: &str) -> CmdResult {
    let at = unit.at_ms(a[2], cx.keys.now, name)?;
    cx.keys.set_string(a[1], a[3], NewExpiry::At(at));
    cx.changed(a[1], Event::Set);
    cx.keys.notify(cx.keys.db, a[1], Event::Expire);
    propagate_set_at(cx, a[1], a[3], at);
    cx.out.ok();
    Ok(())
}

fn setex(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    set_expiring(cx, a, Unit::Ex, "setex")
}

fn psetex(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    set_expiring(cx, a, Unit::Px, "psetex")
}

fn getset(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    reply_string(&mut cx.out, cx.keys.string(a[1])?);
    cx.keys.set_string(a[1], a[2], NewExpiry::Clear);
    cx.changed(a[1], Event::Set);
    cx.propagate(&[b"SET", a[1], a[2]]);
    Ok(())
}

fn getdel(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let value = cx.keys.string(a[1])?;
    let exists = value.is_some();
    reply_string(&mut cx.out, value);
    if exists {
        cx.delete(a[1]);
        cx.propagate(&[b"DEL", a[1]]);
    }
    Ok(())
}

fn getex(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let key = a[1];
    let o = Options::parse(&a[2..], true)?;
    let now = cx.keys.now;
    let Some(value) = cx.keys.string(key)? else {
        cx.out.null();
        return Ok(());
    };
    let at = match o.expire {
        Some((unit, arg)) => Some((unit, unit.at_ms(arg, now, "getex")?)),
        None => None,
    };
    reply_string(&mut cx.out, Some(value));
    match at {
        Some((unit, ms)) if unit.is_absolute() && cx.keys.is_past(ms) => {
            cx.delete(key);
            cx.propagate(&[b"DEL", key]);
        }
        Some((_, ms)) => {
            cx.keys.set_expiry(key, Some(ms));
            cx.changed(key, Event::Expire);
            cx.propagate(&[b"PEXPIREAT", key, itoa::Buffer::new().format(ms).as_bytes()]);
        }
        None if o.persist && cx.keys.expiry(key).flatten().is_some() => {
            cx.keys.set_expiry(key, None);
            cx.changed(key, Event::Persist);
            cx.propagate(&[b"PERSIST", key]);
        }
        None => {}
    }
    Ok(())
}

fn mset(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    if a.len().is_multiple_of(2) {
        return Err(CmdError::arity("mset"));
    }
    set_pairs(cx, a);
    cx.out.ok();
    Ok(())
}

fn msetnx(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    if a.len().is_multiple_of(2) {
        return Err(CmdError::arity("msetnx"));
    }
    let taken = a[1..].chunks_exact(2).any(|pair| cx.keys.live(pair[0]));
    if !taken {
        set_pairs(cx, a);
    }
    cx.out.int((!taken).into());
    Ok(())
}

fn set_pairs(cx: &mut Ctx<'_>, a: &[&[u8]]) {
    for pair in a[1..].chunks_exact(2) {
        cx.keys.set_string(pair[0], pair[1], NewExpiry::Clear);
        cx.changed(pair[0], Event::Set);
    }
}

// ---- editing ----

/// Refuses a string of more than `proto-max-bulk-len` bytes; the primary's word is obeyed.
fn check_length(keys: &Keys<'_>, len: usize) -> CmdResult {
    let limit = keys.limits().max_string.load(Ordering::Relaxed).min(MAX_STRING_LEN);
    let limit = if keys.see_expired { MAX_STRING_LEN } else { limit };
    if len > limit {
        return Err(CmdError::TooLong);
    }
    Ok(())
}

fn append(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let old = cx.keys.string_to_change(a[1])?.map(StrRef::len);
    let len = old.unwrap_or(0).saturating_add(a[2].len());
    match old {
        None => cx.keys.set_string(a[1], a[2], NewExpiry::Clear),
        Some(end) => {
            check_length(&cx.keys, len)?;
            cx.keys.splice_string(a[1], end, a[2]);
        }
    }
    cx.changed(a[1], Event::Append);
    cx.out.int(len as i64);
    Ok(())
}

fn setrange(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let offset = int_arg(a[2])?;
    let Ok(offset) = usize::try_from(offset) else {
        return Err(CmdError::text("ERR offset is out of range"));
    };
    let old = cx.keys.string_to_change(a[1])?.map_or(0, StrRef::len);
    if a[3].is_empty() {
        cx.out.int(old as i64);
        return Ok(());
    }
    let end = offset.saturating_add(a[3].len());
    check_length(&cx.keys, end)?;
    cx.keys.splice_string(a[1], offset, a[3]);
    cx.changed(a[1], Event::SetRange);
    cx.out.int(old.max(end) as i64);
    Ok(())
}

// ---- counting ----

fn add(cx: &mut Ctx<'_>, key: &[u8], by: i64) -> CmdResult {
    let new = cx.keys.update_int(key, |old| old.checked_add(by).ok_or(CmdError::Overflow))?;
    cx.changed(key, Event::IncrBy);
    cx.out.int(new);
    Ok(())
}

fn incr(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    add(cx, a[1], 1)
}

fn decr(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    add(cx, a[1], -1)
}

fn incrby(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    add(cx, a[1], int_arg(a[2])?)
}

fn decrby(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let by = int_arg(a[2])?.checked_neg().ok_or(CmdError::text("ERR decrement would overflow"))?;
    add(cx, a[1], by)
}

fn incrbyfloat(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let old = match cx.keys.string_to_change(a[1])? {
        None => LongDouble::parse(b"0"),
        Some(s) => s.with(LongDouble::parse),
    };
    let (Some(old), Some(by)) = (old, LongDouble::parse(a[2])) else { return Err(CmdError::NotFloat) };
    let sum = old.checked_add(by).ok_or(CmdError::NotFinite)?;
    let mut text = Vec::with_capacity(32);
    sum.write(&mut text);
    cx.keys.set_text(a[1], &text, NewExpiry::Keep);
    cx.changed(a[1], Event::IncrByFloat);
    cx.propagate(&[b"SET", a[1], &text, b"KEEPTTL"]);
    cx.out.bulk(&text);
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
    Command::row(name, arity, flags, keys, "string", since, summary, run)
}

const PAIRS: KeySpec = KeySpec::Range { first: 1, last: -1, step: 2 };

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row("set", -3, Flags::WRITE_OOM, KeySpec::ONE, "1.0.0", "Stores a string, on conditions if wanted", Run::Keys(set)),
    row("get", 2, Flags::READ_FAST, KeySpec::ONE, "1.0.0", "The string of a key", Run::Keys(get)),
    row("getex", -2, Flags::WRITE_FAST, KeySpec::ONE, "6.2.0",
        "The string of a key, whose time to live may be changed with it", Run::Keys(getex)),
    row("getdel", 2, Flags::WRITE_FAST, KeySpec::ONE, "6.2.0",
        "The string of a key, which is removed", Run::Keys(getdel)),
    row("getset", 3, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.0.0",
        "Stores a string and answers the one that was there", Run::Keys(getset)),
    row("mset", -3, Flags::WRITE_OOM.union(Flags::EACH_FOR_ITSELF), PAIRS, "1.0.1", "Stores several strings", Run::Keys(mset)),
    row("msetnx", -3, Flags::WRITE_OOM.union(Flags::EACH_FOR_ITSELF), PAIRS, "1.0.1",
        "Stores several strings if none of the keys is there", Run::Keys(msetnx)),
    row("mget", -2, Flags::READ_FAST, KeySpec::ALL, "1.0.0", "The strings of several keys", Run::Keys(mget)),
    row("setnx", 3, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.0.0",
        "Stores a string if the key is not there", Run::Keys(setnx)),
    row("setex", 4, Flags::WRITE_OOM, KeySpec::ONE, "2.0.0",
        "Stores a string with a time to live in seconds", Run::Keys(setex)),
    row("psetex", 4, Flags::WRITE_OOM, KeySpec::ONE, "2.6.0",
        "Stores a string with a time to live in milliseconds", Run::Keys(psetex)),
    row("append", 3, Flags::WRITE_OOM_FAST, KeySpec::ONE, "2.0.0", "Adds bytes to the end of a string", Run::Keys(append)),
    row("strlen", 2, Flags::READ_FAST, KeySpec::ONE, "2.2.0",
        "The length of a string", Run::Keys(strlen)),
    row("incr", 2, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.0.0",
        "Raises an integer by one", Run::Keys(incr)),
    row("decr", 2, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.0.0",
        "Lowers an integer by one", Run::Keys(decr)),
    row("incrby", 3, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.0.0",
        "Raises an integer by an amount", Run::Keys(incrby)),
    row("decrby", 3, Flags::WRITE_OOM_FAST, KeySpec::ONE, "1.0.0",
        "Lowers an integer by an amount", Run::Keys(decrby)),
    row("incrbyfloat", 3, Flags::WRITE_OOM_FAST, KeySpec::ONE, "2.6.0",
        "Raises a number by an amount with a fraction", Run::Keys(incrbyfloat)),
    row("getrange", 4, Flags::READONLY, KeySpec::ONE, "2.4.0",
        "A part of a string", Run::Keys(getrange)),
    row("substr", 4, Flags::READONLY, KeySpec::ONE, "1.0.0",
        "A part of a string", Run::Keys(getrange)),
    row("setrange", 4, Flags::WRITE_OOM, KeySpec::ONE, "2.2.0",
        "Overwrites a part of a string", Run::Keys(setrange)),
];

#[cfg(test)]
mod tests {
    use crate::commands::console::{Console, START_MS};

    #[test]
    fn relative_expiries_are_logged_as_absolute_times() {
        let mut c = Console::new();
        let at = START_MS + 100_000;
        c.run("SET warm up");
        for line in ["SET k v EX 100", "set k v px 100000 get", "SETEX k 100 v", "PSETEX k 100000 v"] {
            assert_eq!(c.effects(line), [format!("SET k v PXAT {at}")], "{line}");
        }
        assert_eq!(c.effects("GETEX k EX 100"), [format!("PEXPIREAT k {at}")]);
        assert_eq!(c.effects("GETEX k PERSIST"), ["PERSIST k"]);
        assert!(c.effects("GETEX k PERSIST").is_empty());
        assert!(c.effects("GETEX k").is_empty());
        assert_eq!(c.effects("GETEX k PXAT 1"), ["DEL k"]);
        assert_eq!(c.run("GET k"), "$-1");
    }

    #[test]
    fn what_depends_on_state_or_arithmetic_is_logged_as_its_result() {
        let mut c = Console::new();
        c.run("SET f 10.5");
        assert_eq!(c.effects("INCRBYFLOAT f 0.1"), ["SET f 10.6 KEEPTTL"]);
        assert_eq!(c.effects("GETSET f x"), ["SET f x"]);
        assert_eq!(c.effects("SET f y XX GET KEEPTTL"), ["SET f y XX KEEPTTL"]);
        assert_eq!(c.effects("GETDEL f"), ["DEL f"]);
        assert_eq!(c.effects("INCR n"), ["INCR n"]);
        for nothing in ["SET n 5 NX", "SET none v XX", "GETDEL none", "SETNX n 1", "MSETNX a 1 n 2", "GET n"]
        {
            assert!(c.effects(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn an_expired_key_is_logged_as_deleted_before_what_follows() {
        let mut c = Console::new();
        c.run("SET k v PX 5");
        c.session.now_ms = START_MS + 10;
        // Were the DEL missing, a replica that keeps expired keys would keep the old expiry.
        assert_eq!(c.effects("SET k w KEEPTTL"), ["MULTI", "DEL k", "SET k w KEEPTTL", "EXEC"]);
        assert_eq!(c.run("TTL k"), ":-1");
        c.run("SET n 7 PX 5");
        c.session.now_ms = START_MS + 20;
        assert_eq!(c.effects("INCR n"), ["MULTI", "DEL n", "INCR n", "EXEC"]);
        assert_eq!(c.run("GET n"), "$1 1");
    }

    #[test]
    fn incr_overwrites_in_place_and_keeps_the_expiry() {
        let mut c = Console::new();
        c.run("SET n 41 PX 1000");
        let block = |c: &Console| {
            c.engine.exclusive(0, &mut Vec::new(), |cx| cx.keys.peek(b"n").map(|e| e.key().as_ptr() as usize))
        };
        let before = block(&c);
        assert_eq!(c.run("INCR n"), ":42");
        assert_eq!(block(&c), before);
        assert_eq!(c.run("PTTL n"), ":1000");
    }

    #[test]
    fn a_refused_command_changes_nothing() {
        let mut c = Console::new();
        c.run("SET n 9223372036854775807");
        c.run("RPUSH l x");
        c.logged();
        for (line, text) in [
            ("INCR n", "-ERR increment or decrement would overflow"),
            ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
            ("APPEND l x", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SET l v GET", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SET n 1 EX 0", "-ERR invalid expire time in 'set' command"),
            ("SET n 1 EX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
            ("SET n 1 NX XX", "-ERR syntax error"),
            ("SET n 1 KEEPTTL EX 5", "-ERR syntax error"),
            ("INCRBYFLOAT n nan", "-ERR value is not a valid float"),
            ("INCRBYFLOAT n inf", "-ERR increment would produce NaN or Infinity"),
            ("SETRANGE n -1 x", "-ERR offset is out of range"),
            ("SETRANGE n 536870912 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
        ] {
            assert_eq!(c.run(line), text, "{line}");
        }
        assert!(c.logged().is_empty());
        assert_eq!(c.run("GET n"), "$19 9223372036854775807");
    }

    #[test]
    fn edited_strings_read_back_whole() {
        let mut c = Console::new();
        assert_eq!(c.run("APPEND k 12"), ":2");
        assert_eq!(c.run("OBJECT ENCODING k"), "$3 int");
        assert_eq!(c.run("APPEND k 34"), ":4");
        assert_eq!(c.run("OBJECT ENCODING k"), "$3 raw");
        assert_eq!(c.run("INCR k"), ":1235");
        assert_eq!(c.run("SETRANGE k 6 x"), ":7");
        assert_eq!(c.run("GET k"), "$7 1235\0\0x");
        assert_eq!(c.run("GETRANGE k -3 -2"), "$2 \0\0");
        assert_eq!(c.run("SETRANGE none 0 ''"), ":0");
        assert_eq!(c.run("EXISTS none"), ":0");
    }
}
