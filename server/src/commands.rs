//! The server's own commands: their rows in the engine's table, and what runs them.

use crate::client::acks;
use crate::client::conn::Conn;
use crate::repl::{Attach, commands as repl, failover};
use sluice_engine::Row;
use sluice_engine::command::{Command, Flags, KeySpec, Run};
use sluice_engine::resp::Reply;
use std::sync::atomic::Ordering;

/// What the connection does after a command, or after a turn's worth of them.
pub(crate) enum Flow {
    /// The reply is in the output; go on.
    Next,
    /// There is more to run, after the others of the worker had their turn.
    Turn,
    /// Try again in a moment.
    Stalled,
    /// Try again when CLIENT PAUSE is over.
    Paused,
    /// Send the reply and close.
    Close,
    /// The reply comes later; commands behind it wait.
    Later(tokio::sync::oneshot::Receiver<Vec<u8>>),
    /// The command waits for a key, or for acknowledgements.
    Wait(Box<crate::client::waiting::Wait>),
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
            since: $since, summary: $summary, subcommands: &[], run: Run::External,
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
    "quit", -1, ANYTIME.union(Flags::FAST).union(Flags::NO_AUTH).union(Flags::NOSCRIPT).union(Flags::ALLOW_BUSY), "connection", "connection", "1.0.0",
        "Ends the connection", quit;
    "save", 1, ADMIN.union(Flags::NO_ASYNC_LOADING).union(Flags::NO_MULTI), "", "server", "1.0.0",
        "Takes a snapshot and answers when it is written", save;
    "bgsave", -1, ADMIN.union(Flags::NO_ASYNC_LOADING), "", "server", "1.0.0",
        "Begins a snapshot in the background", bgsave;
    "bgrewriteaof", 1, ADMIN.union(Flags::NO_ASYNC_LOADING), "", "server", "1.0.0",
        "Begins to write a new base for the append-only file in the background", bgrewriteaof;
    "shutdown", -1, ADMIN.union(ANYTIME).union(Flags::NO_MULTI).union(Flags::ALLOW_BUSY), "", "server", "1.0.0",
        "Ends the server, saving first where that is set", shutdown;
    "replicaof", 3, ADMIN.union(Flags::STALE).union(Flags::NO_ASYNC_LOADING), "", "server", "5.0.0",
        "Makes the server follow a primary, or be one", repl::replicaof;
    "slaveof", 3, ADMIN.union(Flags::STALE).union(Flags::NO_ASYNC_LOADING), "", "server", "1.0.0",
        "Makes the server follow a primary, or be one", repl::replicaof;
    "failover", -1, ADMIN.union(Flags::STALE), "", "server", "6.2.0",
        "Changes roles with a replica, without losing a write", failover::failover;
    "replconf", -1, ADMIN.union(ANYTIME).union(Flags::ALLOW_BUSY), "", "server", "3.0.0",
        "What a replica tells its primary", repl::replconf;
    "psync", -3, ADMIN.union(Flags::NO_ASYNC_LOADING).union(Flags::NO_MULTI), "", "server", "2.8.0",
        "How a replica asks for the data, or for what it missed of it", repl::psync;
    "sync", 1, ADMIN.union(Flags::NO_ASYNC_LOADING).union(Flags::NO_MULTI), "", "server", "1.0.0",
        "How a replica of old asks for the data", repl::sync;
    "wait", 3, Flags::NOSCRIPT, "connection", "generic", "3.0.0",
        "Waits until replicas have what this connection wrote", acks::wait;
    "waitaof", 4, Flags::NOSCRIPT, "connection", "generic", "7.2.0",
        "Waits until disks, here and of replicas, have what this connection wrote", acks::waitaof;
}

/// An engine with every command of the server. One that is filled beside the live one has them too: a log may hold
/// RESTORE.
pub(crate) fn engine(shards: usize, databases: u32) -> sluice_engine::Engine {
    sluice_engine::Engine::builder()
        .shards(shards)
        .databases(databases)
        .commands(ROWS)
        .commands(crate::admin::ROWS)
        .commands(crate::dump::ROWS)
        .commands(crate::migrate::ROWS)
        .build()
}

/// Runs a row of this table, or an admin command.
pub(crate) fn run(conn: &mut Conn, row: Row, args: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    if let Some(flow) = crate::admin::run(conn, row.command.name, args, out) {
        return flow;
    }
    if row.command.name == crate::migrate::NAME {
        return crate::migrate::run(conn, args, out);
    }
    handler(row.command.name)(conn, args, out)
}

fn quit(conn: &mut Conn, _: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    Reply::new(out, conn.session.resp3).ok();
    Flow::Close
}

fn save(conn: &mut Conn, _: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    let server = conn.server.clone();
    if server.persist.bgsave_running.load(Ordering::Acquire) {
        conn.error(out, "ERR Background save already in progress");
        return Flow::Next;
    }
    let (to, from) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let reply = match crate::persist::save_now(&server) {
            Ok(()) => b"+OK\r\n".to_vec(),
            Err(e) => {
                let mut reply = Vec::new();
                Reply::new(&mut reply, false).error(&format!("ERR {e}"));
                reply
            }
        };
        let _ = to.send(reply);
    });
    Flow::Later(from)
}

fn bgsave(conn: &mut Conn, args: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    let server = conn.server.clone();
    let schedule = match args.len() {
        1 => false,
        2 if args[1].eq_ignore_ascii_case(b"schedule") => true,
        _ => {
            conn.error(out, "ERR syntax error");
            return Flow::Next;
        }
    };
    // A cut of a full sync is no obstacle: the save waits for its end.
    let mut reply = Reply::new(out, false);
    if crate::persist::bgsave(&server) {
        reply.simple("Background saving started");
    } else if schedule {
        server.persist.bgsave_scheduled.store(true, Ordering::Release);
        reply.simple("Background saving scheduled");
    } else {
        conn.error(out, "ERR Background save already in progress");
    }
    Flow::Next
}

fn bgrewriteaof(conn: &mut Conn, _: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    use crate::aof::Answer;
    match crate::aof::request(&conn.server.clone()) {
        Answer::Started => Reply::new(out, false).simple("Background append only file rewriting started"),
        Answer::Scheduled => Reply::new(out, false).simple("Background append only file rewriting scheduled"),
        Answer::Refused(text) => conn.error(out, text),
    }
    Flow::Next
}

fn shutdown(conn: &mut Conn, args: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    use crate::admin::shutdown::{Shutdown, parse};
    let server = conn.server.clone();
    let leave = match parse(&args[1..]) {
        Ok(Shutdown::Leave(leave)) => leave,
        Ok(Shutdown::Abort) => {
            if server.ending.abort() {
                Reply::new(out, false).ok();
            } else {
                conn.error(out, "ERR No shutdown in progress.");
            }
            return Flow::Next;
        }
        Err(e) => {
            conn.error(out, &e.0);
            return Flow::Next;
        }
    };
    let (to, from) = tokio::sync::oneshot::channel();
    tokio::task::spawn_local(async move {
        let save = if leave.save { Some(true) } else { leave.nosave.then_some(false) };
        let ending = crate::state::Ending { save, now: leave.now, force: leave.force };
        let error = crate::shutdown::shutdown(&server, ending).await;
        let mut reply = Vec::new();
        Reply::new(&mut reply, false).error(&error);
        let _ = to.send(reply);
    });
    Flow::Later(from)
}
