//! DUMP and RESTORE. Their rows run inside the engine, under the lock of their key, so that they work in MULTI, in a
//! primary's stream and in a log that is read back; the format is the persistence crate's.
//!
//! A payload is always checked from end to end, whatever `sanitize-dump-payload` says: it costs little here, and no
//! later command has to mistrust what it finds.

use sluice_engine::internals::{CmdError, CmdResult, Command, Ctx, Flags, KeySpec, Run, num::parse_i64};
use sluice_engine::{Event, ValueView};
use sluice_persistence::rdb::{RestoreError, dump as encode, restore as decode};
use std::sync::atomic::{AtomicBool, Ordering};

/// What these two rows must know of the server, which they reach as the engine's host: about form (compression) and, for tests,
/// whether a checksum is compared.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) compress: AtomicBool,
    pub(crate) check: AtomicBool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { compress: AtomicBool::new(true), check: AtomicBool::new(true) }
    }
}

/// Rows for the engine's command table.
pub(crate) static ROWS: &[Command] = &[
    Command {
        categories: "keyspace",
        ..Command::row(
            "dump",
            2,
            Flags::READONLY,
            KeySpec::ONE,
            "generic",
            "2.6.0",
            "The value of a key in a form that RESTORE takes",
            Run::Keys(dump),
        )
    },
    Command {
        categories: "keyspace dangerous",
        ..Command::row(
            "restore",
            -4,
            Flags::WRITE_OOM,
            KeySpec::ONE,
            "generic",
            "2.6.0",
            "Makes a key of what DUMP gave",
            Run::Keys(restore),
        )
    },
];

fn dump(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let compress = cx.keys.host::<Settings>().is_none_or(|s| s.compress.load(Ordering::Relaxed));
    match cx.keys.find(a[1]).and_then(ValueView::of) {
        Some(value) => {
            let payload = encode(value, compress);
            cx.out.bulk(&payload);
        }
        None => cx.out.null(),
    }
    Ok(())
}

/// The options of RESTORE.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle: Option<i64>,
    /// How often the key was used: checked and left aside, as nothing here counts uses. It is no idle time.
    freq: Option<i64>,
}

fn options(a: &[&[u8]]) -> Result<Options, CmdError> {
    let mut found = Options::default();
    let mut words = a.iter();
    while let Some(word) = words.next() {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("replace") {
            found.replace = true;
        } else if is("absttl") {
            found.absolute = true;
        } else if is("idletime") && found.freq.is_none() && !words.as_slice().is_empty() {
            let idle = words.next().and_then(|w| parse_i64(w)).ok_or(CmdError::NotInteger)?;
            if idle < 0 {
                return Err(CmdError::text("ERR Invalid IDLETIME value, must be >= 0"));
            }
            found.idle = Some(idle);
        } else if is("freq") && found.idle.is_none() && !words.as_slice().is_empty() {
            let freq = words.next().and_then(|w| parse_i64(w)).ok_or(CmdError::NotInteger)?;
            if !(0..=255).contains(&freq) {
                return Err(CmdError::text("ERR Invalid FREQ value, must be >= 0 and <= 255"));
            }
            found.freq = Some(freq);
        } else {
            return Err(CmdError::Syntax);
        }
    }
    Ok(found)
}

/// Bits of the LRU clock, which counts seconds.
const LRU_MASK: i64 = (1 << 24) - 1;

fn restore(cx: &mut Ctx<'_>, a: &[&[u8]]) -> CmdResult {
    let options = options(&a[4..])?;
    let (key, payload) = (a[1], a[3]);
    if !options.replace && cx.keys.live(key) {
        return Err(CmdError::KeyExists);
    }
    let ttl = parse_i64(a[2]).ok_or(CmdError::NotInteger)?;
    if ttl < 0 {
        return Err(CmdError::text("ERR Invalid TTL value, must be >= 0"));
    }
    let check = cx.keys.host::<Settings>().is_none_or(|s| s.check.load(Ordering::Relaxed));
    let value = decode(payload, cx.keys.limits(), check).map_err(refusal)?;
    let replaced = options.replace && cx.keys.delete(key);
    let at = match (ttl, options.absolute) {
        (0, _) => None,
        (ttl, true) => Some(ttl),
        (ttl, false) => Some(ttl.saturating_add(cx.keys.now)),
    };
    if at.is_some_and(|at| cx.keys.is_past(at)) {
        if replaced {
            cx.changed(key, Event::Del);
            cx.propagate(&[b"DEL", key]);
        }
        cx.out.ok();
        return Ok(());
    }
    let mut entry = value.into_entry(key, at);
    let access = (cx.keys.now / 1000).saturating_sub(options.idle.unwrap_or(0));
    entry.as_mut().set_lru((access & LRU_MASK) as u32);
    let db = cx.keys.db;
    cx.keys.place(db, key, entry, at);
    cx.changed(key, Event::Restore);
    if let Some(at) = at.filter(|_| !options.absolute) {
        // What is logged must mean the same whenever it is read.
        let at = at.to_string();
        let mut words = a.to_vec();
        words[2] = at.as_bytes();
        words.push(b"ABSTTL");
        cx.propagate(&words);
    }
    cx.out.ok();
    Ok(())
}

/// Says in the log what is wrong, and to the client as much as Redis does, or why a value of a kind not known here
/// cannot be had.
fn refusal(error: RestoreError) -> CmdError {
    if matches!(error, RestoreError::Footer) {
        return CmdError::text("ERR DUMP payload version or checksum are wrong");
    }
    crate::log!(Verbose, "Internal error in RDB reading offset 0, RESTORE -> {error}");
    match error {
        RestoreError::Value(sluice_persistence::rdb::RdbError::Unsupported { what, .. }) => {
            format!("ERR Bad data format: {what} is not supported by this server").into()
        }
        _ => CmdError::text("ERR Bad data format"),
    }
}
