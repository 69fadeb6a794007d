//! MEMORY: what keys and the server take.

use sluice_engine::internals::{CmdError, EntryRef, Payload, Value, num::parse_i64, resp::Reply};

use super::{help, lower};
use crate::commands::{Call, Flow, Handled};
use crate::ground::memory::Memory;

/// Elements looked at to estimate a large collection, unless SAMPLES says otherwise; 0 looks at all.
const DEFAULT_SAMPLES: usize = 5;

pub(super) fn run(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    match lower(args[1]).as_slice() {
        b"usage" => usage(conn, args, out)?,
        b"stats" => stats(conn, out),
        b"doctor" => out.verbatim(
            "Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n",
        ),
        b"malloc-stats" => out.verbatim(&malloc_stats()),
        // The allocator gives pages back by itself, within its decay time.
        b"purge" => out.ok(),
        _ => help("MEMORY", HELP, out),
    }
    Ok(Flow::Next)
}

/// Bytes of a key and its value: its block, and what a collection owns beside it.
pub(super) fn entry_bytes(entry: EntryRef<'_>, samples: usize) -> usize {
    entry.bytes()
        + match entry.payload() {
            Payload::Value(Value::List(list)) => list.memory(),
            Payload::Value(Value::Hash(hash)) => hash.memory(samples),
            Payload::Value(Value::Set(set)) => set.memory(samples),
            Payload::Value(Value::ZSet(zset)) => zset.memory(),
            Payload::Value(Value::Opaque(value)) => value.memory(),
            _ => 0,
        }
}

fn usage(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Result<(), CmdError> {
    let samples = match args {
        [_, _, _] => DEFAULT_SAMPLES,
        [_, _, _, option, count] if option.eq_ignore_ascii_case(b"samples") => {
            usize::try_from(parse_i64(count).ok_or(CmdError::NotInteger)?).map_err(|_| CmdError::Syntax)?
        }
        _ => return Err(CmdError::Syntax),
    };
    let db = conn.session.db;
    let bytes = conn.with_keys(db, |keys| keys.peek(args[2]).map(|entry| entry_bytes(entry, samples)));
    match bytes {
        Some(bytes) => out.int(bytes as i64),
        None => out.null(),
    }
    Ok(())
}

fn stats(conn: &mut Call<'_, '_>, out: &mut Reply<'_>) {
    let m = Memory::now();
    let sizes = conn.with_keys(0, |keys| keys.db_sizes());
    let keys: u64 = sizes.iter().map(|(keys, _)| keys).sum();
    let backlog = conn.server.engine.log().held_bytes() as u64;
    let overhead = (m.startup + backlog).min(m.used);
    let dataset = m.used - overhead;
    let share = |of: u64, to: u64| if to == 0 { 0.0 } else { of as f64 * 100.0 / to as f64 };
    let ratio = |of: u64, to: u64| if to == 0 { 0.0 } else { of as f64 / to as f64 };
    let whole = [
        ("peak.allocated", m.peak),
        ("total.allocated", m.used),
        ("startup.allocated", m.startup),
        ("replication.backlog", backlog),
        ("overhead.total", overhead),
        ("keys.count", keys),
        ("keys.bytes-per-key", m.used.saturating_sub(m.startup).checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", dataset),
        ("allocator.allocated", m.used),
        ("allocator.active", m.active),
        ("allocator.resident", m.resident),
    ];
    let shares = [
        ("dataset.percentage", share(dataset, m.used.saturating_sub(m.startup))),
        ("peak.percentage", share(m.used, m.peak)),
        ("allocator-fragmentation.ratio", ratio(m.active, m.used)),
        ("allocator-rss.ratio", ratio(m.resident, m.active)),
        ("rss-overhead.ratio", ratio(m.rss, m.resident)),
        ("fragmentation", ratio(m.rss, m.used)),
    ];
    out.map(whole.len() + shares.len());
    for (name, value) in whole {
        out.bulk(name.as_bytes());
        out.int(value as i64);
    }
    for (name, value) in shares {
        out.bulk(name.as_bytes());
        out.double(value);
    }
}

fn malloc_stats() -> String {
    let m = Memory::now();
    format!("Allocated: {}, active: {}, resident: {}, process: {}\n", m.used, m.active, m.resident, m.rss)
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return memory problems reports.",
    "MALLOC-STATS",
    "    Return internal statistics report from the memory allocator.",
    "PURGE",
    "    Attempt to purge dirty pages for reclamation by the allocator.",
    "STATS",
    "    Return information about the memory usage of the server.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
];
