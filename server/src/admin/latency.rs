//! SLOWLOG and LATENCY.

use sluice_engine::internals::{CmdError, num::parse_i64, resp::Reply};

use super::{help, lower, shown};
use crate::client::conn::Conn;
use crate::commands::{Call, Flow, Handled};

/// Entries SLOWLOG GET returns unless told how many.
const SLOWLOG_DEFAULT: i64 = 10;

pub(super) fn slowlog(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let log = &conn.server.slowlog;
    match lower(args[1]).as_slice() {
        b"len" => out.int(log.entries.lock().len() as i64),
        b"reset" => {
            log.entries.lock().clear();
            out.ok();
        }
        b"get" => {
            if args.len() > 3 {
                return Err(CmdError::arity("slowlog|get"));
            }
            let count = match args.get(2) {
                None => SLOWLOG_DEFAULT,
                Some(word) => parse_i64(word)
                    .filter(|n| *n >= -1)
                    .ok_or(CmdError::text("ERR count should be greater than or equal to -1"))?,
            };
            let count = if count < 0 { usize::MAX } else { count as usize };
            let entries: Vec<_> = log.entries.lock().iter().take(count).cloned().collect();
            out.array(entries.len());
            for entry in entries {
                out.array(6);
                [entry.id, entry.time, entry.micros].into_iter().for_each(|n| out.int(n as i64));
                out.array(entry.args.len());
                entry.args.iter().for_each(|arg| out.bulk(arg));
                out.bulk(entry.addr.as_bytes());
                out.bulk(entry.name.as_bytes());
            }
        }
        _ => help("SLOWLOG", SLOWLOG_HELP, out),
    }
    Ok(Flow::Next)
}

/// Samples of events are not gathered yet: the answers are those of a server whose monitor is off.
pub(super) fn run(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    match lower(args[1]).as_slice() {
        b"latest" | b"history" => out.array(0),
        b"reset" => out.int(0),
        b"graph" => return Err(format!("ERR No samples available for event '{}'", shown(args[2])).into()),
        b"doctor" => out.verbatim(
            "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \
             \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a deep \
             space mission I'd suggest to take a look at https://redis.io/topics/latency-monitor.\n",
        ),
        b"histogram" => histogram(conn, &args[2..], out),
        _ => help("LATENCY", LATENCY_HELP, out),
    }
    Ok(Flow::Next)
}

/// Calls per command by their duration, cumulative, in powers of two of microseconds.
fn histogram(conn: &Conn, names: &[&[u8]], out: &mut Reply<'_>) {
    let wanted =
        |name: &str| names.is_empty() || names.iter().any(|n| n.eq_ignore_ascii_case(name.as_bytes()));
    let latency = &conn.server.stats.latency;
    let mut found = Vec::new();
    for row in conn.server.engine.rows().filter(|row| wanted(row.command.name)) {
        if let Some((calls, lines)) =
            latency.of(row.id).map(|h| h.cumulative()).filter(|(calls, _)| *calls > 0)
        {
            found.push((row.command.name.to_owned(), calls, lines));
        }
    }
    latency.each_sub(|command, sub, histogram| {
        if wanted(command) || wanted(&format!("{command}|{sub}")) {
            found.retain(|(name, ..)| name != command);
            let (calls, lines) = histogram.cumulative();
            found.push((format!("{command}|{sub}"), calls, lines));
        }
    });
    out.map(found.len());
    for (name, calls, lines) in found {
        out.bulk(name.as_bytes());
        out.map(2);
        out.bulk(b"calls");
        out.int(calls as i64);
        out.bulk(b"histogram_usec");
        out.map(lines.len());
        for (micros, calls) in lines {
            out.int(micros as i64);
            out.int(calls as i64);
        }
    }
}

const SLOWLOG_HELP: &[&str] = &[
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];
const LATENCY_HELP: &[&str] = &[
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "GRAPH <event>",
    "    Return an ASCII latency graph for the <event> class.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
];
