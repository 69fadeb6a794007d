//! CONFIG on a connection: the work is done by the `config` module, here its answer becomes a reply.

use sluice_engine::command::CmdError;
use sluice_engine::resp::Reply;

use super::Handled;
use crate::client::conn::Conn;
use crate::commands::Flow;
use crate::config::{ConfigReply, config_command};

pub(super) fn run(conn: &mut Conn, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    if args[1].eq_ignore_ascii_case(b"set") && (conn.server.is_loading() || conn.server.is_loading_beside()) {
        // They say how and from where to load.
        const DECIDED: [&[u8]; 3] = [b"appendonly", b"repl-diskless-load", b"dir"];
        if args[2..].iter().step_by(2).any(|name| DECIDED.iter().any(|d| d.eq_ignore_ascii_case(name))) {
            return Err(CmdError::text("LOADING Redis is loading the dataset in memory"));
        }
    }
    match config_command(&conn.server.config, &args[1..], conn.client.addr.is_local()) {
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

fn reset_stat(conn: &Conn) {
    use std::sync::atomic::Ordering::Relaxed;
    conn.server.stats.reset();
    conn.server.stats.subcommands.reset();
    let engine = &conn.server.engine;
    engine.reset_shard_stats();
    for row in engine.commands() {
        let stats = engine.command_stats(row.id);
        for counter in [&stats.calls, &stats.nanos, &stats.rejected, &stats.failed] {
            counter.store(0, Relaxed);
        }
    }
}
