//! DEBUG: for tests and for looking inside. Allowed as `enable-debug-command` says.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sluice_engine::internals::{
    CmdError, CmdResult, NewExpiry, Payload, Value,
    num::{parse_f64, parse_i64},
    resp::Reply,
};

use super::{digest, help, lower, shown};
use crate::client::conn::Conn;
use crate::client::registry::Client;
use crate::commands::{Call, Flow, Handled};
use crate::config::Guarded;
use crate::server::Server;

/// Keys DEBUG POPULATE makes under one hold of the locks.
const POPULATE_STEP: i64 = 1000;
/// Largest value DEBUG POPULATE makes.
const POPULATE_MAX_SIZE: i64 = 512 << 20;
/// Longest DEBUG SLEEP, in seconds.
const MAX_SLEEP: f64 = 3600.0;

fn allowed(server: &Server, client: &Client) -> bool {
    match server.config.load().enable_debug_command {
        Guarded::Yes => true,
        Guarded::Local => client.addr.is_local(),
        Guarded::No => false,
    }
}

fn nap(seconds: &[u8]) {
    let seconds = parse_f64(seconds).filter(|s| *s >= 0.0).unwrap_or(0.0).min(MAX_SLEEP);
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

pub(super) fn run(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    if !allowed(&conn.server, &conn.client) {
        return Err(CmdError::text(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
             from a local connection, otherwise you need to set this option in the configuration file, and then \
             restart the server.",
        ));
    }
    match (lower(args[1]).as_slice(), &args[2..]) {
        (b"help", []) => help("DEBUG", HELP, out),
        (b"digest", []) => {
            let digest = conn.with_keys(0, digest::of_everything);
            out.simple(&digest.hex());
        }
        (b"digest-value", keys @ [_, ..]) => {
            let db = conn.session.db;
            let digests = conn
                .with_keys(db, |all| keys.iter().map(|key| digest::of_value(all, key)).collect::<Vec<_>>());
            out.array(digests.len());
            digests.iter().for_each(|digest| out.simple(&digest.hex()));
        }
        (b"sleep", [seconds]) => {
            // The whole server stops, as a single-threaded one would. Inside EXEC all who want a key wait already, and
            // those who do not may hold what would have to be waited for.
            let server = conn.server.clone();
            let _standstill = (!conn.in_block()).then(|| server.standstill.write());
            conn.with_keys(0, |_| nap(seconds));
            out.ok();
        }
        (b"populate", words @ ([_] | [_, _] | [_, _, _])) => {
            populate(conn, words)?;
            out.ok();
        }
        (b"object", [key]) => object(conn, key, out)?,
        (b"set-active-expire", [on]) => {
            conn.server.active_expire.store(*on != b"0", Relaxed);
            out.ok();
        }
        (b"change-repl-id", []) => {
            crate::log!(Notice, "Changing replication IDs after receiving change-repl-id");
            conn.server.history.lock().new_history();
            out.ok();
        }
        (b"replicate" | b"reload" | b"loadaof", _) if conn.in_block() => return Ok(Flow::Apart),
        (b"replicate", command @ [_, ..]) => {
            let mut encoded = Vec::new();
            sluice_engine::internals::encode_command(&mut encoded, command);
            conn.server.engine.append_own(&encoded);
            out.ok();
        }
        (b"error", [text]) => return Err(shown(text).into()),
        (b"log", [text]) => {
            crate::log!(Warning, "DEBUG LOG: {}", shown(text));
            out.ok();
        }
        (b"protocol", [kind]) => protocol(kind, out)?,
        (b"reload", options) => {
            super::reload::run(&conn.server, options)?;
            out.ok();
        }
        (b"loadaof", []) => return Ok(load_aof(conn)),
        (b"aof-flush-sleep", [micros]) => {
            let micros = parse_i64(micros).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            conn.server.aof.flush_sleep.store(micros, Relaxed);
            out.ok();
        }
        // Nodes are split by list-max-listpack-size alone, and there is no cron to pause.
        (b"quicklist-packed-threshold" | b"pause-cron", [_]) => out.ok(),
        (b"set-skip-checksum-validation", [skip]) => {
            conn.server.dump.check.store(*skip == b"0", Relaxed);
            out.ok();
        }
        (b"segfault" | b"panic" | b"assert", []) => std::process::abort(),
        (_, _) => {
            return Err(format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
                shown(args[1])
            )
            .into());
        }
    }
    Ok(Flow::Next)
}

/// Replaces the data by what the append-only file says; others are told LOADING meanwhile.
fn load_aof(conn: &Conn) -> Flow {
    let server = conn.server.clone();
    let (to, from) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, false);
        match crate::aof::reload(&server) {
            Ok(()) => {
                crate::log!(Warning, "Append Only File loaded by DEBUG LOADAOF");
                reply.ok();
            }
            Err(e) => {
                crate::log!(Warning, "{e}");
                reply.error("ERR Error trying to load the AOF files, check server logs.");
            }
        }
        let _ = to.send(out);
    });
    Flow::Later(from)
}

/// Makes the keys `PREFIX:0` to `PREFIX:COUNT-1`, those that exist left alone. They are not replicated.
fn populate(conn: &mut Call<'_, '_>, words: &[&[u8]]) -> CmdResult {
    let out_of_range = CmdError::text("ERR value is out of range, must be positive");
    let positive = |word: &[u8]| parse_i64(word).filter(|n| *n >= 0).ok_or(out_of_range.clone());
    let count = positive(words[0])?;
    let prefix = words.get(1).copied().unwrap_or(b"key");
    let size = words.get(2).map(|w| positive(w)).transpose()?.filter(|n| *n > 0);
    if size.is_some_and(|size| size > POPULATE_MAX_SIZE) {
        return Err(out_of_range);
    }
    for start in (0..count).step_by(POPULATE_STEP as usize) {
        let db = conn.session.db;
        conn.with_keys(db, |keys| {
            for i in start..(start + POPULATE_STEP).min(count) {
                let key = [prefix, b":", i.to_string().as_bytes()].concat();
                if keys.exists(&key) {
                    continue;
                }
                let mut value = format!("value:{i}").into_bytes();
                if let Some(size) = size {
                    value.resize(size as usize, 0);
                }
                keys.set_string(&key, &value, NewExpiry::Clear);
                keys.signal(keys.db, &key);
            }
        });
    }
    Ok(())
}

fn object(conn: &mut Call<'_, '_>, key: &[u8], out: &mut Reply<'_>) -> CmdResult {
    let db = conn.session.db;
    let line = conn.with_keys(db, |keys| {
        let (now, list_limit) = ((keys.now / 1000) as u32 & 0xff_ffff, keys.limits().list());
        // Also a key that has expired and is still there.
        keys.raw(key).map(|entry| {
            let encoding = match entry.payload() {
                Payload::Str(text) if text.len() <= EMBSTR_MAX => "embstr",
                Payload::Str(_) => "raw",
                Payload::Int(_) => "int",
                Payload::Value(Value::List(_)) => "quicklist",
                Payload::Value(Value::Hash(hash)) => hash.encoding(),
                Payload::Value(Value::Set(set)) => set.encoding(),
                Payload::Value(Value::ZSet(zset)) => zset.encoding(),
                Payload::Value(Value::Opaque(value)) => value.encoding(),
                Payload::Score(_) | Payload::Unit => "element",
            };
            let extra = match entry.payload() {
                Payload::Value(Value::List(list)) => {
                    let nodes = list.node_count().max(1);
                    format!(
                        " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:0 ql_uncompressed_size:{}",
                        list.len() as f64 / nodes as f64,
                        list_limit,
                        list.memory()
                    )
                }
                _ => String::new(),
            };
            format!(
                "Value at:{:p} refcount:1 encoding:{encoding} serializedlength:{} lru:{} lru_seconds_idle:{}{extra}",
                entry.key().as_ptr(),
                super::memory::entry_bytes(entry, 0),
                entry.lru(),
                now.wrapping_sub(entry.lru()) & 0xff_ffff,
            )
        })
    });
    out.simple(&line.ok_or(CmdError::NoSuchKey)?);
    Ok(())
}

/// Longest string Redis keeps in one block with its header, which OBJECT ENCODING tells from longer ones.
const EMBSTR_MAX: usize = 44;

/// A reply of every type, for tests of client libraries.
fn protocol(kind: &[u8], out: &mut Reply<'_>) -> CmdResult {
    match lower(kind).as_slice() {
        b"string" => out.bulk(b"Hello World"),
        b"integer" => out.int(12345),
        b"double" => out.double(2.5),
        b"null" => out.null(),
        // RESP2 has no type for these: a string, and the reply without its attribute.
        b"bignum" if out.is_resp3() => {
            out.raw().extend_from_slice(b"(1234567999999999999999999999999999999\r\n")
        }
        b"bignum" => out.bulk(b"1234567999999999999999999999999999999"),
        b"attrib" => {
            if out.is_resp3() {
                out.raw().extend_from_slice(b"|1\r\n");
                out.bulk(b"key-popularity");
                out.array(2);
                out.bulk(b"key:123");
                out.int(90);
            }
            out.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if !out.is_resp3() {
                return Err(CmdError::text("ERR RESP2 is not supported by this command"));
            }
            out.push(2);
            out.bulk(b"server-cpu-usage");
            out.int(42);
        }
        b"array" => {
            out.array(3);
            (0..3).for_each(|n| out.int(n));
        }
        b"set" => {
            out.set(3);
            (0..3).for_each(|n| out.int(n));
        }
        b"map" => {
            out.map(3);
            for n in 0..3 {
                out.int(n);
                out.boolean(n == 1);
            }
        }
        b"verbatim" => out.verbatim("This is a verbatim\nstring"),
        b"true" => out.boolean(true),
        b"false" => out.boolean(false),
        _ => {
            return Err(CmdError::text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

const HELP: &[&str] = &[
    "AOF-FLUSH-SLEEP <microsec>",
    "    Server will sleep before flushing the AOF, this is used for testing.",
    "CHANGE-REPL-ID",
    "    Change the replication IDs of the instance.",
    "    Dangerous: should be used only for testing the replication subsystem.",
    "DIGEST",
    "    Output a hex signature representing the current DB content.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of all the specified keys.",
    "ERROR <string>",
    "    Return a Redis protocol error with <string> as message. Useful for clients",
    "    unit tests to simulate Redis errors.",
    "LOADAOF",
    "    Flush the AOF buffers on disk and reload the AOF in memory.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "OBJECT <key>",
    "    Show low level info about `key` and associated value.",
    "PANIC",
    "    Crash the server simulating a panic.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys named key:<num>. If <prefix> is specified then",
    "    it is used instead of the 'key' prefix. These are not propagated to",
    "    replicas.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim, true,",
    "    false.",
    "REPLICATE <string> [<string> ...]",
    "    Replicate the words as a command to replicas and the append-only file, without running it.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Accepted, without effect.",
    "RELOAD [option ...]",
    "    Save the RDB on disk and reload it back to memory. Valid <option> values:",
    "    * NOSAVE: the database will be loaded from an existing RDB file.",
    "SEGFAULT",
    "    Crash the server.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    "    default.",
    "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
    "    Setting it to 1 makes RESTORE take payloads with a wrong checksum.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
];
