//! The server's own commands: their rows in the engine's table, and what runs them.

use crate::conn::Conn;
use crate::repl::Attach;
use sluice_engine::Row;
use sluice_engine::command::{Command, Flags, KeySpec, Run};
use sluice_engine::resp::Reply;

/// What the connection does after a command of the server.
pub(crate) enum Flow {
    /// The reply is in the output; go on.
    Next,
    /// Try again in a moment.
    Stalled,
    /// Send the reply and close.
    Close,
    /// The reply comes later; commands behind it wait.
    Later(tokio::sync::oneshot::Receiver<Vec<u8>>),
    /// The connection becomes a replica's.
    Replica(Attach),
}

type Handler = fn(&mut Conn, &[&[u8]], &mut Vec<u8>) -> Flow;

const ADMIN: Flags = Flags::ADMIN.union(Flags::NOSCRIPT);
const ANYTIME: Flags = Flags::LOADING.union(Flags::STALE);

macro_rules! table {
    ($($name:literal, $arity:literal, $flags:expr, $categories:literal, $group:literal, $since:literal, $summary:literal, $run:expr;)*) => {
        /// The rows.
        pub(crate) static ROWS: &[Command] = &[$(Command {
            name: $name, arity: $arity, flags: $flags, keys: KeySpec::None, categories: $categories, group: $group,
            since: $since, summary: $summary, run: Run::External,
        }),*];
        fn handler(name: &str) -> Handler {
            match name {
                $($name => $run,)*
                _ => unreachable!("a row without a handler"),
            }
        }
    };
}

table! {
    "quit", -1, ANYTIME.union(Flags::FAST).union(Flags::NO_AUTH).union(Flags::NOSCRIPT), "connection", "connection", "1.0.0",
        "Close the connection", quit;
}

/// Runs a row of this table, or an admin command.
pub(crate) fn run(conn: &mut Conn, row: Row, args: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    if let Some(flow) = crate::admin::run(conn, row.command.name, args, out) {
        return flow;
    }
    handler(row.command.name)(conn, args, out)
}

fn quit(conn: &mut Conn, _: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    Reply::new(out, conn.session.resp3).ok();
    Flow::Close
}

#[allow(dead_code)]
const UNUSED: Flags = ADMIN;
