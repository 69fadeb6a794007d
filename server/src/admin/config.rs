//! CONFIG on a connection: the work is done by the `config` module, here its answer becomes a reply.

use sluice_engine::internals::{CmdError, resp::Reply};

use crate::commands::{Call, Flow, Handled};
use crate::config::{ConfigReply, config_command};

pub(super) fn run(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    if args[1].eq_ignore_ascii_case(b"set") && (conn.server.is_loading() || conn.server.is_loading_beside()) {
        // They say how and from where to load.
        const DECIDED: [&[u8]; 3] = [b"appendonly", b"repl-diskless-load", b"dir"];
        if args[2..].iter().step_by(2).any(|name| DECIDED.iter().any(|d| d.eq_ignore_ascii_case(name))) {
            return Err(CmdError::text("LOADING Redis is loading the dataset in memory"));
        }
    }
    if conn.in_block() && runs_apart(&args[1..]) {
        return Ok(Flow::Apart);
    }
    // Inside EXEC nobody is waited for: whoever changes the configuration meanwhile may want a shard.
    let (local, patient) = (conn.client.addr.is_local(), !conn.in_block());
    match config_command(&conn.server.config, &args[1..], local, patient) {
        ConfigReply::Busy => return Ok(Flow::Apart),
        ConfigReply::Ok => out.ok(),
        ConfigReply::Map(pairs) => {
            out.map(pairs.len());
            for (name, value) in pairs {
                out.bulk(&name);
                out.bulk(&value);
            }
        }
        ConfigReply::Error(text) => {
            if text.starts_with("ERR Rewriting config file") {
                crate::log!(Warning, "CONFIG REWRITE failed: {}", text.trim_start_matches("ERR "));
            }
            return Err(CmdError::from(text));
        }
        ConfigReply::Help(lines) => {
            out.array(lines.len());
            lines.iter().for_each(|line| out.simple(line));
        }
        ConfigReply::ResetStat => {
            reset_stat(conn);
            out.ok();
        }
        ConfigReply::Rewritten => {
            crate::log!(Warning, "CONFIG REWRITE executed with success.");
            out.ok();
        }
    }
    Ok(Flow::Next)
}

/// What writes files, or begins to: not while the shards are locked.
fn runs_apart(words: &[&[u8]]) -> bool {
    let files = |name: &&[u8]| {
        let name = name.to_ascii_lowercase();
        name.starts_with(b"append") || name.starts_with(b"aof") || name == b"dir"
    };
    words[0].eq_ignore_ascii_case(b"rewrite")
        || words[0].eq_ignore_ascii_case(b"set") && words[1..].iter().step_by(2).any(files)
}

fn reset_stat(conn: &mut Call<'_, '_>) {
    use std::sync::atomic::Ordering::Relaxed;
    conn.server.stats.reset();
    conn.server.stats.subcommands.reset();
    conn.with_keys(0, |keys| keys.reset_shard_stats());
    let engine = &conn.server.engine;
    for row in engine.rows() {
        let stats = engine.command_stats(row.id);
        for counter in [&stats.calls, &stats.nanos, &stats.rejected, &stats.failed] {
            counter.store(0, Relaxed);
        }
    }
}
