//! HyperLogLog commands, on strings of the form that [`crate::value::hyperloglog`] draws.
//!
//! PFCOUNT of one key is a read that may change its key: where the registers have changed it keeps the new estimate
//! in the value. That is logged, as the PFCOUNT it is, so that replicas have the same bytes; on a replica it is
//! nobody's write, and the log stays the primary's. A command that is refused changes nothing.

use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::keyspace::{Ctx, Event, NewExpiry, StrRef};
use crate::resp::Reply;
use crate::session::Session;
use crate::value::hyperloglog::{CARDINALITY_AT, Draft, Encoding, HyperLogLog, Malformed, Registers, place};

impl From<Malformed> for CmdError {
    fn from(e: Malformed) -> CmdError {
        match e {
            Malformed::Foreign => CmdError::NotHyperLogLog,
            Malformed::Corrupt => CmdError::CorruptHyperLogLog,
        }
    }
}

/// The HyperLogLog in a string.
fn parse(s: StrRef<'_>) -> Result<HyperLogLog<'_>, CmdError> {
    match s {
        StrRef::Bytes(bytes) => Ok(HyperLogLog::parse(bytes)?),
        StrRef::Int(_) => Err(CmdError::NotHyperLogLog),
    }
}

/// Puts a draft into a key, whose expiry stays where it has one.
fn store(cx: &mut Ctx<'_>, key: &[u8], exists: bool, draft: &Draft) {
    let expiry = if exists { NewExpiry::Keep } else { NewExpiry::Clear };
    cx.keys.set_text(key, draft.as_bytes(), expiry);
    // An edited string: OBJECT ENCODING calls it raw, however short.
    cx.keys.splice_string(key, 0, b"");
}

/// Adds elements; returns how many registers rose, a new key counting as one.
pub(crate) fn add<'e>(
    cx: &mut Ctx<'_>,
    key: &[u8],
    elements: impl Iterator<Item = &'e [u8]>,
) -> Result<u64, CmdError> {
    let sparse_max = cx.keys.limits().hll_sparse();
    let old = match cx.keys.string_to_change(key)? {
        Some(s) => Some(parse(s)?),
        None => None,
    };
    let (exists, mut risen) = (old.is_some(), u64::from(old.is_none()));
    // Most calls change nothing: only the first that does makes a copy.
    let mut draft = if exists { None } else { Some(Draft::new()) };
    for (index, value) in elements.map(place) {
        match (&mut draft, old) {
            (Some(draft), _) => risen += u64::from(draft.raise(index, value, sparse_max)?),
            (none, Some(old)) if old.register(index)? < value => {
                let draft = none.insert(Draft::of(old));
                risen += u64::from(draft.raise(index, value, sparse_max)?);
            }
            _ => {}
        }
    }
    if let Some(mut draft) = draft {
        draft.forget_estimate();
        store(cx, key, exists, &draft);
        cx.changed(key, Event::PfAdd);
        // Redis counts every register.
        cx.add_dirty(risen.saturating_sub(1));
    }
    Ok(risen)
}

/// The estimate of one key. The flag says that the key has been changed, to keep it.
pub(crate) fn count_one(cx: &mut Ctx<'_>, key: &[u8]) -> Result<(u64, bool), CmdError> {
    let Some(s) = cx.keys.string(key)? else { return Ok((0, false)) };
    let hll = parse(s)?;
    if let Some(estimate) = hll.cached() {
        return Ok((estimate, false));
    }
    let estimate = hll.estimate()?;
    let keep = cx.keys.may_change_beside(key);
    if keep {
        cx.keys.splice_string(key, CARDINALITY_AT, &estimate.to_le_bytes());
        // As in Redis that has no name: to who reads the key nothing has changed.
        let db = cx.keys.db;
        cx.keys.signal(db, key);
        cx.add_dirty(1);
    }
    Ok((estimate, keep))
}

/// The registers of all keys together, and whether one of them is dense. A missing key is empty.
fn union(cx: &mut Ctx<'_>, keys: &[&[u8]]) -> Result<(Registers, bool), CmdError> {
    let (mut registers, mut dense) = (Registers::default(), false);
    for key in keys {
        if let Some(s) = cx.keys.string(key)? {
            let hll = parse(s)?;
            dense |= hll.encoding() == Encoding::Dense;
            registers.merge(hll)?;
        }
    }
    Ok((registers, dense))
}

/// The estimate of several keys together; none of them is changed.
pub(crate) fn count_union(cx: &mut Ctx<'_>, keys: &[&[u8]]) -> Result<u64, CmdError> {
    Ok(union(cx, keys)?.0.estimate())
}

/// Makes the first key the union of all.
pub(crate) fn merge(cx: &mut Ctx<'_>, keys: &[&[u8]]) -> CmdResult {
    let sparse_max = cx.keys.limits().hll_sparse();
    let (registers, dense) = union(cx, keys)?;
    let old = match cx.keys.string_to_change(keys[0])? {
        Some(s) => Some(Draft::of(parse(s)?)),
        None => None,
    };
    let exists = old.is_some();
    let mut draft = old.unwrap_or_default();
    if dense {
        draft.make_dense()?;
    }
    for (index, value) in registers.as_slice().iter().enumerate().filter(|(_, value)| **value > 0) {
        draft.raise(index, *value, sparse_max)?;
    }
    draft.forget_estimate();
    store(cx, keys[0], exists, &draft);
    cx.changed(keys[0], Event::PfAdd);
    Ok(())
}

fn pfadd(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let risen = add(cx, a[1], a[2..].iter().copied())?;
    cx.out.int((risen > 0).into());
    Ok(())
}

fn pfcount(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let estimate = match a {
        [_, key] => count_one(cx, key)?.0,
        _ => count_union(cx, &a[1..])?,
    };
    cx.out.int(estimate as i64);
    Ok(())
}

fn pfmerge(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    merge(cx, &a[1..])?;
    cx.out.ok();
    Ok(())
}

// ---- looking inside ----

/// Writes a sparse value densely; true where it was sparse. Logged, but no change to whoever watches the key.
fn make_dense(cx: &mut Ctx<'_>, key: &[u8], mut draft: Draft) -> Result<bool, CmdError> {
    if draft.view().encoding() == Encoding::Dense {
        return Ok(false);
    }
    draft.make_dense()?;
    store(cx, key, true, &draft);
    cx.add_dirty(1);
    Ok(true)
}

fn pfdebug(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let key = a[2];
    let Some(s) = cx.keys.string_to_change(key)? else {
        return Err(CmdError::text("ERR The specified key does not exist"));
    };
    let draft = Draft::of(parse(s)?);
    match a[1].to_ascii_lowercase().as_slice() {
        b"getreg" => {
            let mut registers = Registers::default();
            registers.merge(draft.view())?;
            make_dense(cx, key, draft)?;
            cx.out.array(registers.as_slice().len());
            registers.as_slice().iter().for_each(|r| cx.out.int(i64::from(*r)));
        }
        b"decode" if draft.view().encoding() == Encoding::Dense => {
            return Err(CmdError::text("ERR HLL encoding is not sparse"));
        }
        b"decode" => {
            let words: Vec<String> = draft
                .view()
                .runs()
                .map(|run| match (run.value, run.size) {
                    (0, 1) => format!("z:{}", run.len),
                    (0, _) => format!("Z:{}", run.len),
                    (value, _) => format!("v:{value},{}", run.len),
                })
                .collect();
            cx.out.bulk(words.join(" ").as_bytes());
        }
        b"encoding" => cx.out.simple(match draft.view().encoding() {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        }),
        b"todense" => {
            let converted = make_dense(cx, key, draft)?;
            cx.out.int(converted.into());
        }
        _ => {
            let name = String::from_utf8_lossy(a[1]);
            return Err(format!("ERR Unknown PFDEBUG subcommand '{name}'").into());
        }
    }
    Ok(())
}

fn pfselftest(_: &mut Session, _: &[&[u8]], out: &mut Reply<'_>) -> CmdResult {
    crate::value::hyperloglog::self_test().map_err(|text| CmdError::from(format!("ERR {text}")))?;
    out.ok();
    Ok(())
}

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    summary: &'static str,
    run: Run,
) -> Command {
    Command::row(name, arity, flags, keys, "hyperloglog", "2.8.9", summary, run)
}

/// PFDEBUG's key stands behind the subcommand.
const SECOND: KeySpec = KeySpec::Range { first: 2, last: 2, step: 1 };

/// The rows.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row("pfadd", -2, Flags::WRITE_OOM_FAST, KeySpec::ONE,
        "Counts elements into a HyperLogLog", Run::Keys(pfadd)),
    row("pfcount", -2, Flags::READONLY.union(Flags::MAY_REPLICATE), KeySpec::ALL,
        "About how many different elements one or several HyperLogLogs have seen", Run::Keys(pfcount)),
    row("pfmerge", -2, Flags::WRITE_OOM, KeySpec::ALL,
        "Makes one HyperLogLog of several", Run::Keys(pfmerge)),
    row("pfdebug", 3, Flags::WRITE_OOM.union(Flags::ADMIN), SECOND,
        "Looks into a HyperLogLog, for tests", Run::Keys(pfdebug)),
    row("pfselftest", 1, Flags::ADMIN, KeySpec::None,
        "Tests the HyperLogLog's arithmetic", Run::Session(pfselftest)),
];

#[cfg(test)]
mod tests {
    use crate::commands::console::{Console, START_MS};

    #[test]
    fn counting_one_key_keeps_the_estimate_and_is_logged_when_it_does() {
        let mut c = Console::new();
        c.run("SET warm up");
        assert_eq!(c.effects("PFADD k a b c"), ["PFADD k a b c"]);
        assert!(c.effects("PFADD k c b").is_empty());
        assert_eq!(c.run("GETRANGE k 15 15").as_bytes(), "$1 \u{fffd}".as_bytes());
        assert_eq!(c.effects("PFCOUNT k"), ["PFCOUNT k"]);
        assert_eq!(c.run("GETRANGE k 8 15"), "$8 \u{3}\0\0\0\0\0\0\0");
        assert!(c.effects("PFCOUNT k").is_empty());
        assert_eq!(c.run("PFCOUNT k"), ":3");
        assert!(c.effects("PFCOUNT k none").is_empty());
        assert_eq!(c.run("PFCOUNT none"), ":0");
        assert_eq!(c.run("OBJECT ENCODING k"), "$3 raw");
    }

    #[test]
    fn on_a_replica_counting_keeps_the_estimate_and_logs_nothing() {
        let mut c = Console::new();
        c.run("PFADD k a b c");
        c.run("PEXPIRE k 50");
        c.engine.set_replica(true);
        c.logged();
        assert_eq!(c.run("PFCOUNT k"), ":3");
        assert_eq!(c.run("GETRANGE k 8 15"), "$8 \u{3}\0\0\0\0\0\0\0");
        c.session.now_ms = START_MS + 100;
        assert_eq!(c.run("PFCOUNT k"), ":0");
        // It is still the primary's to delete.
        assert_eq!(c.engine.expire_own(std::time::Duration::from_secs(1)), 0);
        assert_eq!(c.run("DBSIZE"), ":1");
        assert!(c.logged().is_empty());
    }

    #[test]
    fn a_merge_is_logged_and_takes_the_encoding_of_its_densest_source() {
        let mut c = Console::new();
        c.run("PFADD a 1 2 3");
        c.run("PFADD b 3 4");
        assert_eq!(c.effects("PFMERGE d a b none"), ["PFMERGE d a b none"]);
        assert_eq!(c.run("PFCOUNT d"), ":4");
        assert_eq!(c.run("PFDEBUG ENCODING d"), "+sparse");
        assert_eq!(c.effects("PFDEBUG TODENSE b"), ["PFDEBUG TODENSE b"]);
        assert!(c.effects("PFDEBUG TODENSE b").is_empty());
        assert_eq!(c.run("PFDEBUG DECODE b"), "-ERR HLL encoding is not sparse");
        c.run("PFMERGE d b");
        assert_eq!(c.run("PFDEBUG ENCODING d"), "+dense");
        assert_eq!(c.run("PFCOUNT d"), ":4");
    }

    #[test]
    fn an_expired_destination_is_logged_as_deleted_before_the_merge() {
        let mut c = Console::new();
        c.run("PFADD s 1 2");
        c.run("PFADD d a b c d e");
        c.run("PEXPIRE d 5");
        c.session.now_ms = START_MS + 10;
        assert_eq!(c.effects("PFMERGE d s"), ["MULTI", "DEL d", "PFMERGE d s", "EXEC"]);
        assert_eq!(c.run("PFCOUNT d"), ":2");
        assert_eq!(c.run("TTL d"), ":-1");
    }

    #[test]
    fn what_is_no_hyperloglog_is_refused_and_left_alone() {
        let mut c = Console::new();
        c.run("SET t text");
        c.run("SET n 12");
        c.run("RPUSH l x");
        c.run("PFADD k a");
        c.run("APPEND k x");
        c.logged();
        let foreign = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
        for command in
            ["PFADD t x", "PFADD n x", "PFCOUNT t", "PFCOUNT k t", "PFMERGE new n", "PFDEBUG DECODE t"]
        {
            let reply = c.run(command);
            assert!(reply == foreign || command == "PFCOUNT k t", "{command}: {reply}");
        }
        assert_eq!(c.run("PFADD l x"), "-WRONGTYPE Operation against a key holding the wrong kind of value");
        let corrupt = "-INVALIDOBJ Corrupted HLL object detected";
        for command in ["PFCOUNT k", "PFMERGE new k", "PFDEBUG GETREG k", "PFDEBUG TODENSE k"] {
            assert_eq!(c.run(command), corrupt, "{command}");
        }
        assert_eq!(c.run("PFDEBUG DECODE none"), "-ERR The specified key does not exist");
        assert_eq!(c.run("PFDEBUG NONE t"), foreign);
        assert_eq!(c.run("EXISTS new"), ":0");
        assert!(c.logged().is_empty());
    }

    #[test]
    fn a_limit_of_bytes_makes_it_dense() {
        let mut c = Console::new();
        let limit = &c.engine.limits().hll_sparse_max_bytes;
        limit.store(18, std::sync::atomic::Ordering::Relaxed);
        c.run("PFADD k");
        assert_eq!(c.run("PFDEBUG ENCODING k"), "+sparse");
        assert_eq!(c.run("PFADD k x"), ":1");
        assert_eq!(c.run("PFDEBUG ENCODING k"), "+dense");
        assert_eq!(c.run("PFCOUNT k"), ":1");
    }
}
