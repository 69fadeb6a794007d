//! Commands on keys of any type: existence, expiry, naming, iteration, whole databases, OBJECT.
//!
//! Expiry is logged as an absolute time, or as the deletion it amounts to where that time has passed. What needs a
//! whole database runs exclusively.

use super::scan::{ScanOptions, cursor_arg};
use super::string::bad_expire;
use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::entry::{EntryRef, Payload};
use crate::glob::glob_match;
use crate::keyspace::{Ctx, Event, int_arg, syntax};
use crate::resp::Reply;
use crate::value::{Type, Value};
use smallvec::SmallVec;

/// Strings up to this many bytes are called `embstr`.
const EMBSTR_MAX: usize = 44;
/// Integers below this are shared objects in Redis, with a reference count of their own.
const SHARED_INTEGERS: i64 = 10_000;

// ---- existence ----

/// DEL and UNLINK: nobody waits for memory to be freed, whichever it is.
fn del(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let mut n = 0;
    for key in &a[1..] {
        n += i64::from(cx.delete(key));
    }
    cx.out.int(n);
    Ok(())
}

fn exists(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let n = a[1..].iter().filter(|key| cx.keys.look(key).is_some()).count();
    cx.out.int(n as i64);
    Ok(())
}

fn touch(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let n = a[1..].iter().filter(|key| cx.keys.find(key).is_some()).count();
    cx.out.int(n as i64);
    Ok(())
}

fn type_of(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let found = cx.keys.look(a[1]).map(Type::of);
    cx.out.simple(found.as_ref().map_or("none", Type::name));
    Ok(())
}

// ---- expiry ----

#[derive(Default)]
struct ExpireIf {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl ExpireIf {
    fn parse(words: &[&[u8]]) -> Result<ExpireIf, CmdError> {
        let mut o = ExpireIf::default();
        for word in words {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("NX") {
                o.nx = true;
            } else if is("XX") {
                o.xx = true;
            } else if is("GT") {
                o.gt = true;
            } else if is("LT") {
                o.lt = true;
            } else {
                return Err(format!("ERR Unsupported option {}", String::from_utf8_lossy(word)).into());
            }
        }
        if o.nx && (o.xx || o.gt || o.lt) {
            return Err(CmdError::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if o.gt && o.lt {
            return Err(CmdError::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(o)
    }

    /// A key without expiry counts as one that lives for ever.
    fn allows(&self, current: Option<i64>, at: i64) -> bool {
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|c| at <= c)
            || self.lt && current.is_some_and(|c| at >= c))
    }
}

fn expire_generic(cx: &mut Ctx<'_>, a: &[&[u8]], name: &str, base: i64, factor: i64) -> CmdResult {
    let key = a[1];
    let conditions = ExpireIf::parse(&a[3..])?;
    let at = int_arg(a[2])?
        .checked_mul(factor)
        .and_then(|ms| ms.checked_add(base))
        .ok_or_else(|| bad_expire(name))?;
    if !cx.keys.live(key) || !conditions.allows(cx.keys.expiry(key).flatten(), at) {
        cx.out.int(0);
        return Ok(());
    }
    if cx.keys.is_past(at) {
        cx.delete(key);
        cx.propagate(&[b"DEL", key]);
    } else {
        cx.keys.set_expiry(key, Some(at));
        cx.changed(key, Event::Expire);
        if name == "pexpireat" {
            // Absolute already: logged as it came.
            cx.out.int(1);
            return Ok(());
        }
        let mut n = itoa::Buffer::new();
        let mut args: SmallVec<[&[u8]; 6]> =
            SmallVec::from_slice(&[b"PEXPIREAT", key, n.format(at).as_bytes()]);
        args.extend_from_slice(&a[3..]);
        cx.propagate(&args);
    }
    cx.out.int(1);
    Ok(())
}

fn expire(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    expire_generic(cx, a, "expire", cx.keys.now, 1000)
}

fn pexpire(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    expire_generic(cx, a, "pexpire", cx.keys.now, 1)
}

fn expireat(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    expire_generic(cx, a, "expireat", 0, 1000)
}

fn pexpireat(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    expire_generic(cx, a, "pexpireat", 0, 1)
}

/// -2 without key, -1 without expiry, else what `f` makes of the expiry.
fn expiry_reply(cx: &mut Ctx<'_>, key: &[u8], f: impl FnOnce(i64) -> i64) -> CmdResult {
    let n = match cx.keys.look(key).map(EntryRef::expire) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => f(at),
    };
    cx.out.int(n);
    Ok(())
}

fn seconds(ms: i64) -> i64 {
    ms.saturating_add(500) / 1000
}

fn ttl(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let now = cx.keys.now;
    expiry_reply(cx, a[1], |at| seconds(at.saturating_sub(now).max(0)))
}

fn pttl(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let now = cx.keys.now;
    expiry_reply(cx, a[1], |at| at.saturating_sub(now).max(0))
}

fn expiretime(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    expiry_reply(cx, a[1], seconds)
}

fn pexpiretime(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    expiry_reply(cx, a[1], |at| at)
}

fn persist(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let had = cx.keys.live(a[1]) && cx.keys.expiry(a[1]).flatten().is_some();
    if had {
        cx.keys.set_expiry(a[1], None);
        cx.changed(a[1], Event::Persist);
    }
    cx.out.int(had.into());
    Ok(())
}

// ---- naming ----

/// Moves `a[1]` to `a[2]`; true where it happened, `NO_KEY` where there is nothing to move.
fn rename_generic(cx: &mut Ctx<'_>, a: &[&[u8]], only_new: bool) -> Result<bool, CmdError> {
    let (from, to) = (a[1], a[2]);
    if !cx.keys.live(from) {
        return Err(CmdError::NoSuchKey);
    }
    if from == to {
        return Ok(!only_new);
    }
    let expire = cx.keys.expiry(from).flatten();
    if cx.keys.live(to) && only_new {
        return Ok(false);
    }
    let db = cx.keys.db;
    let entry = cx.keys.take(from).ok_or(CmdError::NoSuchKey)?;
    cx.keys.place(db, to, entry, expire);
    cx.changed(from, Event::RenameFrom);
    cx.keys.touched(db, to, Event::RenameTo);
    Ok(true)
}

fn rename(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    rename_generic(cx, a, false)?;
    cx.out.ok();
    Ok(())
}

fn renamenx(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let moved = rename_generic(cx, a, true)?;
    cx.out.int(moved.into());
    Ok(())
}

/// A database number as SELECT, COPY and MOVE read it.
pub(crate) fn db_arg(arg: &[u8]) -> Result<i64, CmdError> {
    let n = int_arg(arg)?;
    if i32::try_from(n).is_err() {
        return Err(
            format!("ERR value is out of range, value must between {} and {}", i32::MIN, i32::MAX).into()
        );
    }
    Ok(n)
}

fn check_db(cx: &Ctx<'_>, n: i64) -> Result<u32, CmdError> {
    u32::try_from(n).ok().filter(|db| *db < cx.keys.databases()).ok_or(CmdError::NoSuchDatabase)
}

const SAME_OBJECT: CmdError = CmdError::text("ERR source and destination objects are the same");

/// Is there a live key in another database? It lies in the same shard as its namesake in this one.
fn live_in(cx: &mut Ctx<'_>, db: u32, key: &[u8]) -> bool {
    let selected = std::mem::replace(&mut cx.keys.db, db);
    let live = cx.keys.live(key);
    cx.keys.db = selected;
    live
}

fn copy(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (from, to) = (a[1], a[2]);
    let (mut db, mut replace) = (cx.keys.db, false);
    let mut i = 3;
    while i < a.len() {
        if a[i].eq_ignore_ascii_case(b"REPLACE") {
            replace = true;
        } else if a[i].eq_ignore_ascii_case(b"DB") && i + 1 < a.len() {
            db = check_db(cx, db_arg(a[i + 1])?)?;
            i += 1;
        } else {
            return Err(CmdError::Syntax);
        }
        i += 1;
    }
    if db == cx.keys.db && from == to {
        return Err(SAME_OBJECT);
    }
    let Some(expire) = cx.keys.find(from).map(EntryRef::expire) else {
        cx.out.int(0);
        return Ok(());
    };
    if live_in(cx, db, to) && !replace {
        cx.out.int(0);
        return Ok(());
    }
    let entry = cx.keys.copy(from).ok_or(CmdError::NoSuchKey)?;
    cx.keys.place(db, to, entry, expire);
    cx.add_dirty(1);
    cx.keys.touched(db, to, Event::CopyTo);
    cx.out.int(1);
    Ok(())
}

fn move_key(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let key = a[1];
    let db = check_db(cx, db_arg(a[2])?)?;
    if db == cx.keys.db {
        return Err(SAME_OBJECT);
    }
    if !cx.keys.live(key) || live_in(cx, db, key) {
        cx.out.int(0);
        return Ok(());
    }
    let expire = cx.keys.expiry(key).flatten();
    let entry = cx.keys.take(key).ok_or(CmdError::NoSuchKey)?;
    cx.keys.place(db, key, entry, expire);
    cx.changed(key, Event::MoveFrom);
    cx.keys.touched(db, key, Event::MoveTo);
    cx.out.int(1);
    Ok(())
}

// ---- iteration ----

fn keys(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let (db, now, see) = (cx.keys.db, cx.keys.now, cx.keys.see_expired);
    let (all, mut n) = (a[1] == b"*", 0);
    let place = cx.out.defer_array();
    cx.keys.each_table(db, |_, table| {
        for e in table.iter() {
            let live = see || e.expire().is_none_or(|at| at > now);
            if live && (all || glob_match(a[1], e.key(), false)) {
                cx.out.bulk(e.key());
                n += 1;
            }
        }
    });
    cx.out.fill(place, n);
    Ok(())
}

fn scan(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let cursor = cursor_arg(a[1])?;
    let options = ScanOptions::parse(&a[2..], true)?;
    // The cursor stands before the keys in the reply but is known after them.
    let mut found = Vec::new();
    let mut n = 0;
    let mut reply = Reply::new(&mut found, cx.out.is_resp3());
    let next = cx.keys.scan(cursor, options.count, |e| {
        if options.kind.is_none_or(|t| t.eq_ignore_ascii_case(Type::of(e).name().as_bytes()))
            && options.pattern.is_none_or(|p| glob_match(p, e.key(), false))
        {
            reply.bulk(e.key());
            n += 1;
        }
    });
    cx.out.array(2);
    cx.out.bulk(next.to_string().as_bytes());
    cx.out.array(n);
    cx.out.raw().extend_from_slice(&found);
    Ok(())
}

fn randomkey(cx: &mut Ctx<'_>, _: &[&[u8]]) -> CmdResult {
    match cx.keys.random_key() {
        Some(key) => cx.out.bulk(&key),
        None => cx.out.null(),
    }
    Ok(())
}

// ---- whole databases ----

fn dbsize(cx: &mut Ctx<'_>, _: &[&[u8]]) -> CmdResult {
    let n = cx.keys.db_len(cx.keys.db);
    cx.out.int(n as i64);
    Ok(())
}

/// ASYNC or SYNC or nothing. Either way nobody waits for memory to be freed.
fn check_flush_mode(a: &[&[u8]]) -> CmdResult {
    syntax(match a {
        [_] => true,
        [_, mode] => mode.eq_ignore_ascii_case(b"ASYNC") || mode.eq_ignore_ascii_case(b"SYNC"),
        _ => false,
    })
}

fn flushdb(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    check_flush_mode(a)?;
    let n = cx.keys.flush_db(cx.keys.db);
    cx.add_dirty(n as u64);
    // Logged even where there was nothing to remove.
    cx.propagate(a);
    cx.out.ok();
    Ok(())
}

fn flushall(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    check_flush_mode(a)?;
    let n: usize = (0..cx.keys.databases()).map(|db| cx.keys.flush_db(db)).sum();
    cx.add_dirty(n as u64 + 1);
    cx.propagate(a);
    cx.out.ok();
    Ok(())
}

fn swapdb(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let first = db_arg(a[1]).map_err(|_| CmdError::text("ERR invalid first DB index"))?;
    let second = db_arg(a[2]).map_err(|_| CmdError::text("ERR invalid second DB index"))?;
    let (first, second) = (check_db(cx, first)?, check_db(cx, second)?);
    if first != second {
        cx.keys.swap_dbs(first, second);
    }
    cx.add_dirty(1);
    cx.out.ok();
    Ok(())
}

// ---- OBJECT ----

/// The name of a value's encoding.
pub(crate) fn encoding(e: EntryRef<'_>) -> &'static str {
    match e.payload() {
        Payload::Str(s) if s.len() <= EMBSTR_MAX && !e.is_raw() => "embstr",
        Payload::Str(_) => "raw",
        Payload::Int(_) | Payload::Score(_) | Payload::Unit => "int",
        Payload::Value(Value::List(_)) => "quicklist",
        Payload::Value(Value::Hash(h)) if h.table().is_some() => "hashtable",
        Payload::Value(Value::Hash(_)) => "listpack",
        Payload::Value(Value::Set(s)) if s.table().is_some() => "hashtable",
        Payload::Value(Value::Set(_)) => "intset",
        Payload::Value(Value::ZSet(z)) if z.table().is_some() => "skiplist",
        Payload::Value(Value::ZSet(_)) => "listpack",
        Payload::Value(Value::Opaque(v)) => v.encoding(),
    }
}

fn object(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let names = ["encoding", "freq", "idletime", "refcount", "help"];
    let Some(name) = names.into_iter().find(|n| a[1].eq_ignore_ascii_case(n.as_bytes())) else {
        let shown = &a[1][..a[1].len().min(128)];
        let shown = String::from_utf8_lossy(shown);
        return Err(format!("ERR unknown subcommand '{shown}'. Try OBJECT HELP.").into());
    };
    let arity = if name == "help" { 2 } else { 3 };
    if a.len() != arity {
        return Err(CmdError::arity(&format!("object|{name}")));
    }
    if name == "help" {
        cx.out.array(OBJECT_HELP.len());
        OBJECT_HELP.iter().for_each(|line| cx.out.simple(line));
        return Ok(());
    }
    let now = cx.keys.now;
    let Some(e) = cx.keys.look(a[2]) else {
        cx.out.null();
        return Ok(());
    };
    match name {
        "encoding" => cx.out.bulk(encoding(e).as_bytes()),
        "idletime" => {
            let clock = (now / 1000) as u32 & 0x00ff_ffff;
            cx.out.int((clock.wrapping_sub(e.lru()) & 0x00ff_ffff).into());
        }
        "refcount" => {
            let shared = matches!(e.payload(), Payload::Int(0..SHARED_INTEGERS));
            cx.out.int(if shared { i32::MAX.into() } else { 1 });
        }
        _ => {
            return Err(CmdError::text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(())
}

const OBJECT_HELP: [&str; 15] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

fn object_keys(args: &[&[u8]]) -> Vec<usize> {
    if args.len() == 3 { vec![2] } else { Vec::new() }
}

// ---- rows ----

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    since: &'static str,
    summary: &'static str,
    run: Run,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys,
        categories: "keyspace",
        group: "generic",
        since,
        summary,
        subcommands: &[],
        run,
    }
}

/// A row for whole databases, in the group `server`.
const fn server_row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    categories: &'static str,
    since: &'static str,
    summary: &'static str,
    run: Run,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys: KeySpec::None,
        categories,
        group: "server",
        since,
        summary,
        subcommands: &[],
        run,
    }
}

const ONE: KeySpec = KeySpec::ONE;
const R: Flags = Flags::READONLY;
const RF: Flags = Flags::READ_FAST;
const W: Flags = Flags::WRITE;
const WF: Flags = Flags::WRITE_FAST;
const EACH: Flags = Flags::EACH_FOR_ITSELF;

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row("del", -2, W.union(EACH), KeySpec::ALL, "1.0.0", "Removes keys", Run::Keys(del)),
    row("unlink", -2, WF.union(EACH), KeySpec::ALL, "4.0.0",
        "Removes keys, their memory later",
        Run::Keys(del)),
    row("exists", -2, RF, KeySpec::ALL, "1.0.0", "Counts how many of the keys there are", Run::Keys(exists)),
    row("touch", -2, RF, KeySpec::ALL, "3.2.1",
        "Counts keys as used just now", Run::Keys(touch)),
    row("type", 2, RF, ONE, "1.0.0", "What kind of value a key holds", Run::Keys(type_of)),
    row("expire", -3, WF, ONE, "1.0.0", "Gives a key a time to live, in seconds", Run::Keys(expire)),
    row("pexpire", -3, WF, ONE, "2.6.0", "Gives a key a time to live, in milliseconds", Run::Keys(pexpire)),
    row("expireat", -3, WF, ONE, "1.2.0", "Has a key end at a Unix time, in seconds", Run::Keys(expireat)),
    row("pexpireat", -3, WF, ONE, "2.6.0",
        "Has a key end at a Unix time, in milliseconds", Run::Keys(pexpireat)),
    row("ttl", 2, RF, ONE, "1.0.0", "How long a key has to live, in seconds", Run::Keys(ttl)),
    row("pttl", 2, RF, ONE, "2.6.0", "How long a key has to live, in milliseconds", Run::Keys(pttl)),
    row("expiretime", 2, RF, ONE, "7.0.0", "When a key will end, as Unix time in seconds", Run::Keys(expiretime)),
    row("pexpiretime", 2, RF, ONE, "7.0.0",
        "When a key will end, as Unix time in milliseconds", Run::Keys(pexpiretime)),
    row("persist", 2, WF, ONE, "2.2.0", "Takes a key's time to live away", Run::Keys(persist)),
    row("rename", 3, W.union(EACH), KeySpec::TWO, "1.0.0", "Gives a key another name, replacing a key that has it", Run::Keys(rename)),
    row("renamenx", 3, WF.union(EACH), KeySpec::TWO, "1.0.0",
        "Gives a key another name if no key has it", Run::Keys(renamenx)),
    row("copy", -3, Flags::WRITE_OOM, KeySpec::TWO, "6.2.0", "Stores what one key holds under another key as well", Run::Keys(copy)),
    row("move", 3, WF, ONE, "1.0.0", "Moves a key to another database", Run::Keys(move_key)),
    Command { categories: "keyspace dangerous", ..row("keys", 2, R, KeySpec::None, "1.0.0",
        "The names of all keys that match a pattern", Run::All(keys)) },
    row("scan", -2, R.union(Flags::ARBITRARY_KEYS), KeySpec::None, "2.8.0", "Walks through the keys of the database in steps", Run::All(scan)),
    row("randomkey", 1, R.union(Flags::ARBITRARY_KEYS), KeySpec::None, "1.0.0", "The name of some key", Run::All(randomkey)),
    server_row("dbsize", 1, RF, "keyspace", "1.0.0",
        "Counts the keys of the database", Run::All(dbsize)),
    server_row("flushdb", -1, W, "keyspace dangerous", "1.0.0",
        "Removes the keys of this database", Run::All(flushdb)),
    server_row("flushall", -1, W.union(Flags::EMPTIES), "keyspace dangerous", "1.0.0",
        "Removes the keys of every database", Run::All(flushall)),
    server_row("swapdb", 3, WF, "keyspace dangerous", "4.0.0", "Has two databases change places", Run::All(swapdb)),
    // A container: its subcommands are read-only, but COMMAND shows no flags for it.
    row("object", -2, Flags::empty(), KeySpec::Custom(object_keys), "2.2.3",
        "How the value of a key is kept", Run::Keys(object)).in_categories("").holding(&[
        object_row("encoding", 3, R, OBJECT_KEY, "2.2.3", "The name of the form in which a value is kept"),
        object_row("freq", 3, R, OBJECT_KEY, "4.0.0", "How often a key is used, on a logarithmic scale"),
        object_row("help", 2, Flags::LOADING.union(Flags::STALE), KeySpec::None, "6.2.0", "Lists the subcommands"),
        object_row("idletime", 3, R, OBJECT_KEY, "2.2.3", "Seconds since a key was last used"),
        object_row("refcount", 3, R, OBJECT_KEY, "2.2.3", "How many references there are to a value"),
    ]),
];

/// The key of OBJECT's subcommands.
const OBJECT_KEY: KeySpec = KeySpec::Range { first: 2, last: 2, step: 1 };

const fn object_row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    since: &'static str,
    summary: &'static str,
) -> Command {
    row(name, arity, flags, keys, since, summary, Run::Keys(object))
}

#[cfg(test)]
mod tests {
    use crate::commands::console::{Console, START_MS};
    use std::collections::HashSet;

    #[test]
    fn expiry_is_logged_as_an_absolute_time_or_as_a_deletion() {
        let mut c = Console::new();
        c.run("SET k v");
        assert_eq!(c.effects("EXPIRE k 100"), [format!("PEXPIREAT k {}", START_MS + 100_000)]);
        assert_eq!(c.effects("PEXPIRE k 200000 GT"), [format!("PEXPIREAT k {} GT", START_MS + 200_000)]);
        assert!(c.effects("EXPIRE k 50 GT").is_empty());
        assert_eq!(c.effects("EXPIREAT k 4000000000"), ["PEXPIREAT k 4000000000000"]);
        assert_eq!(c.effects("PERSIST k"), ["PERSIST k"]);
        assert_eq!(c.effects("EXPIRE k -1"), ["DEL k"]);
        assert_eq!(c.run("EXISTS k"), ":0");
    }

    #[test]
    fn a_replica_leaves_deletion_to_its_primary() {
        let mut c = Console::new();
        c.engine.set_replica(true);
        c.session.from_primary = true;
        c.run("SET k v");
        assert_eq!(c.run("PEXPIREAT k 5"), ":1");
        assert_eq!(c.run("GET k"), "$1 v");
        c.session.from_primary = false;
        assert_eq!(c.run("GET k"), "$-1");
        assert_eq!(c.run("TTL k"), ":-2");
        assert_eq!(c.run("DBSIZE"), ":1");
    }

    #[test]
    fn impossible_times_are_refused() {
        let mut c = Console::new();
        c.run("SET k v");
        for (line, name) in [
            ("EXPIRE k 9223372036854775807", "expire"),
            ("EXPIRE k -9223372036854775808", "expire"),
            ("PEXPIRE k 9223372036854775807", "pexpire"),
            ("EXPIREAT k 9223372036854775807", "expireat"),
            ("GETEX k EX 0", "getex"),
        ] {
            assert_eq!(c.run(line), format!("-ERR invalid expire time in '{name}' command"));
        }
        assert_eq!(c.run("TTL k"), ":-1");
    }

    #[test]
    fn keys_move_between_names_and_databases_with_their_expiry() {
        let mut c = Console::new();
        c.run("SET a v PX 5000");
        assert_eq!(c.effects("RENAME a b"), ["RENAME a b"]);
        assert_eq!(c.effects("COPY b b DB 3"), ["COPY b b DB 3"]);
        assert_eq!(c.effects("MOVE b 3"), Vec::<String>::new());
        assert_eq!(c.effects("MOVE b 4"), ["MOVE b 4"]);
        c.run("SELECT 4");
        assert_eq!(c.run("PTTL b"), ":5000");
        assert_eq!(c.effects("SWAPDB 3 4").last().unwrap(), "SWAPDB 3 4");
        assert_eq!(c.run("RENAMENX b b"), ":0");
        assert_eq!(c.run("RENAME none b"), "-ERR no such key");
        assert_eq!(c.run("COPY b b"), "-ERR source and destination objects are the same");
        assert_eq!(c.run("MOVE b 16"), "-ERR DB index is out of range");
    }

    #[test]
    fn scan_finds_every_key_whatever_the_count() {
        let mut c = Console::new();
        for i in 0..1000 {
            c.run(&format!("SET key:{i} v"));
        }
        c.run("SET gone v PX 1");
        c.session.now_ms = START_MS + 5;
        for count in [1, 7, 100, 5000] {
            let (mut cursor, mut seen) = ("0".to_string(), HashSet::new());
            loop {
                let reply = c.run(&format!("SCAN {cursor} COUNT {count} MATCH key:*"));
                let words: Vec<&str> = reply.split(' ').collect();
                cursor = words[2].to_string();
                seen.extend(words[4..].iter().filter(|w| w.starts_with("key:")).map(|w| w.to_string()));
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(seen.len(), 1000, "COUNT {count}");
        }
        assert_eq!(c.run("DBSIZE"), ":1000");
    }

    #[test]
    fn flushing_is_logged_even_where_nothing_was_there() {
        let mut c = Console::new();
        assert_eq!(c.effects("FLUSHALL"), ["SELECT 0", "FLUSHALL"]);
        assert_eq!(c.effects("FLUSHDB ASYNC"), ["FLUSHDB ASYNC"]);
        assert_eq!(c.run("FLUSHALL now"), "-ERR syntax error");
    }
}
