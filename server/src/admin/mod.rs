//! Admin commands: what clients ask of the server rather than of the data. INFO, CONFIG, CLIENT, COMMAND, DEBUG,
//! HELLO and AUTH, MEMORY, SLOWLOG, LATENCY, ROLE and their like.
//!
//! Their rows are in [`ROWS`]. A handler works on the connection's state and writes one reply; what it wants of the data it
//! gets by [`Call::with_keys`](crate::commands::Call), also inside EXEC, and it never waits for the network.

mod acl;
mod client;
mod command;
mod config;
mod debug;
mod digest;
mod hello;
pub(crate) mod info;
mod latency;
mod memory;
mod reload;
mod role;
mod rows;
pub(crate) mod shutdown;
mod sources;

use sluice_engine::internals::{Command, resp::Reply};

use crate::commands::{Call, Flow, Handled};

pub(crate) use client::describe_client;
pub(crate) use rows::ROWS;

/// A command's name with its subcommand, if it has one: `slowlog|get`.
pub(crate) fn full_name(command: &Command, args: &[&[u8]]) -> String {
    let name = command.name;
    let sub = args.get(1).and_then(|word| command.subcommand(word));
    sub.map_or_else(|| name.to_owned(), |sub| format!("{name}|{}", sub.name))
}

/// Bytes of a client's word that errors repeat.
const SHOWN: usize = 128;

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(SHOWN)]).into_owned()
}

/// The subcommand in lower case, to match on. Longer than any subcommand means none.
fn lower(word: &[u8]) -> Vec<u8> {
    word[..word.len().min(SHOWN)].to_ascii_lowercase()
}

/// A reply of HELP: the command's own lines between the usual first and last ones.
fn help(command: &str, lines: &[&str], out: &mut Reply<'_>) {
    out.array(lines.len() + 3);
    out.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| out.simple(line));
    out.simple("HELP");
    out.simple("    Prints this help.");
}

fn info_command(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let config = conn.server.config.load();
    let data = conn.with_keys(0, |keys| (keys.db_sizes(), keys.shard_stats()));
    out.verbatim(&info::info(&conn.server.info_sources(&config, data), &args[1..]));
    Ok(Flow::Next)
}

fn time(_: &mut Call<'_, '_>, _: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let now = crate::os::unix_micros();
    out.array(2);
    out.bulk_int((now / 1_000_000) as i64);
    out.bulk_int((now % 1_000_000) as i64);
    Ok(Flow::Next)
}

fn lastsave(conn: &mut Call<'_, '_>, _: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    out.int(conn.server.persist.last_save.load(std::sync::atomic::Ordering::Relaxed) as i64);
    Ok(Flow::Next)
}
