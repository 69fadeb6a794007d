//! PING, ECHO, SELECT: what concerns the session alone.

use super::keys::db_arg;
use crate::command::{CmdError, CmdResult, Command, Flags, KeySpec, Run};
use crate::resp::Reply;
use crate::session::Session;

fn ping(_: &mut Session, a: &[&[u8]], out: &mut Reply<'_>) -> CmdResult {
    match a.len() {
        1 => out.simple("PONG"),
        2 => out.bulk(a[1]),
        _ => return Err(CmdError::arity("ping")),
    }
    Ok(())
}

fn echo(_: &mut Session, a: &[&[u8]], out: &mut Reply<'_>) -> CmdResult {
    out.bulk(a[1]);
    Ok(())
}

fn select(s: &mut Session, a: &[&[u8]], out: &mut Reply<'_>) -> CmdResult {
    s.select(db_arg(a[1])?)?;
    out.ok();
    Ok(())
}

/// The rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "ping",
        arity: -1,
        flags: Flags::FAST.union(Flags::TELLS_OF_DISK),
        keys: KeySpec::None,
        categories: "connection",
        group: "connection",
        since: "1.0.0",
        summary: "Answers PONG, or its argument",
        subcommands: &[],
        run: Run::Session(ping),
    },
    Command {
        name: "echo",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        keys: KeySpec::None,
        categories: "connection",
        group: "connection",
        since: "1.0.0",
        summary: "Sends its argument back",
        subcommands: &[],
        run: Run::Session(echo),
    },
    Command {
        name: "select",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST).union(Flags::SELECTS_DB),
        keys: KeySpec::None,
        categories: "connection",
        group: "connection",
        since: "1.0.0",
        summary: "Changes to another database",
        subcommands: &[],
        run: Run::Session(select),
    },
];
