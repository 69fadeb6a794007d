//! Admin commands: what clients ask of the server rather than of the data. INFO, CONFIG, CLIENT, COMMAND, DEBUG,
//! HELLO and AUTH, MEMORY, SLOWLOG, LATENCY, ROLE and their like.
//!
//! Their rows ([`ROWS`]) are registered with the engine, which gives them back to the connection to run; [`run`]
//! does. A handler works on the connection's state and writes one reply; it takes shard locks only through the
//! engine and never waits for the network.

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

use std::time::Instant;

use sluice_engine::command::{CmdError, CmdResult};
use sluice_engine::resp::Reply;

use crate::client::conn::Conn;
use crate::commands::Flow;

pub(crate) use client::describe_client;
pub(crate) use debug::debug_in_place;
pub(crate) use rows::{ROWS, SubcommandStats};

/// A command's name with its subcommand, if it has one: `slowlog|get`.
pub(crate) fn full_name(name: &str, args: &[&[u8]]) -> String {
    rows::find(name, args).map_or_else(|| name.to_owned(), |(name, sub)| format!("{name}|{sub}"))
}

/// What a handler comes to; its reply is written unless it failed.
type Handled = Result<Flow, CmdError>;
type Handler = fn(&mut Conn, &[&[u8]], &mut Reply<'_>) -> Handled;

fn handler(name: &str) -> Option<Handler> {
    Some(match name {
        "info" => info_command,
        "config" => config::run,
        "client" => client::run,
        "command" => command::run,
        "debug" => debug::run,
        "memory" => memory::run,
        "latency" => latency::run,
        "slowlog" => latency::slowlog,
        "acl" => acl::run,
        "auth" => hello::auth,
        "hello" => hello::hello,
        "reset" => hello::reset,
        "time" => time,
        "lastsave" => lastsave,
        "role" => role::run,
        _ => return None,
    })
}

/// Runs the admin command `name`; `None` if it is none.
pub(crate) fn run(conn: &mut Conn, name: &str, args: &[&[u8]], out: &mut Vec<u8>) -> Option<Flow> {
    let handler = handler(name)?;
    let (start, resp3) = (out.len(), conn.session.resp3);
    let began = Instant::now();
    let checked = subcommand_check(name, args);
    let ran = checked.is_ok();
    let handled = checked.and_then(|()| handler(conn, args, &mut Reply::new(out, resp3)));
    if let Some((name, sub)) = rows::find(name, args) {
        let micros = began.elapsed().as_micros() as u64;
        if ran {
            conn.server.stats.latency.note_sub(name, sub, began.elapsed());
        }
        conn.server.stats.subcommands.note(name, sub, |counted| {
            counted.calls += u64::from(ran);
            counted.micros += if ran { micros } else { 0 };
            counted.rejected += u64::from(!ran);
            counted.failed += u64::from(ran && handled.is_err());
        });
    }
    Some(handled.unwrap_or_else(|error| {
        out.truncate(start);
        Reply::new(out, resp3).error(&error.0);
        Flow::Next
    }))
}

/// Refuses a subcommand that does not exist or has the wrong number of words.
pub(crate) fn subcommand_check(name: &str, args: &[&[u8]]) -> CmdResult {
    let row = ROWS.iter().find(|row| row.name == name && !row.subcommands.is_empty());
    let Some((row, given)) = row.zip(args.get(1)) else {
        return Ok(());
    };
    let Some(sub) = row.subcommand(given) else {
        return Err(unknown_subcommand(name, given));
    };
    if sub.arity_ok(args.len()) { Ok(()) } else { Err(CmdError::arity(&format!("{name}|{}", sub.name))) }
}

/// The same of one that is to be queued by MULTI.
pub(crate) fn queue_check(name: &str, args: &[&[u8]]) -> CmdResult {
    subcommand_check(name, args)?;
    let row = ROWS.iter().find(|row| row.name == name);
    let sub = row.zip(args.get(1)).and_then(|(row, given)| row.subcommand(given));
    match sub {
        Some(sub) if sub.flags.contains(sluice_engine::command::Flags::NO_MULTI) => {
            Err(CmdError::text("ERR Command not allowed inside a transaction"))
        }
        _ => Ok(()),
    }
}

/// Bytes of a client's word that errors repeat.
const SHOWN: usize = 128;

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(SHOWN)]).into_owned()
}

fn unknown_subcommand(name: &str, given: &[u8]) -> CmdError {
    format!("ERR unknown subcommand '{}'. Try {} HELP.", shown(given), name.to_uppercase()).into()
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

fn info_command(conn: &mut Conn, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let config = conn.server.config.load();
    out.verbatim(&info::info(&conn.server.info_sources(&config), &args[1..]));
    Ok(Flow::Next)
}

fn time(_: &mut Conn, _: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let now = crate::os::unix_micros();
    out.array(2);
    out.bulk_int((now / 1_000_000) as i64);
    out.bulk_int((now % 1_000_000) as i64);
    Ok(Flow::Next)
}

fn lastsave(conn: &mut Conn, _: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    out.int(conn.server.persist.last_save.load(std::sync::atomic::Ordering::Relaxed) as i64);
    Ok(Flow::Next)
}
