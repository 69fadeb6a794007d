//! The server's own commands: their rows in the engine's table, each with what runs it.
//!
//! The engine gives them back to the connection ([`run`]). Inside EXEC they run at their place, on the keys, all of which are
//! locked then: a handler takes what it needs of the data through [`Call::with_keys`], and the lock of a shard nowhere else.
//! Whatever else it locks must be held by nobody who waits for a shard. One that cannot keep to that says [`Flow::Apart`], or
//! its row does: the block is interrupted, and it runs without the locks.

use crate::client::acks;
use crate::client::conn::Conn;
use crate::repl::{Attach, commands as repl, failover};
use sluice_engine::Engine;
use sluice_engine::internals::{CmdError, Command, Flags, KeySpec, Keys, RenameError, Row, Run, resp::Reply};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::time::Instant;

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
    /// Inside EXEC: it has to run without the locks. Nothing was replied.
    Apart,
}

/// What a handler comes to; its reply is written unless it failed.
pub(crate) type Handled = Result<Flow, CmdError>;
/// What runs a command.
pub(crate) type Handler = fn(&mut Call<'_, '_>, &[&[u8]], &mut Reply<'_>) -> Handled;

/// A command of the server's on its way: the connection it came by, and inside EXEC the keys.
pub(crate) struct Call<'c, 'k> {
    conn: &'c mut Conn,
    keys: Option<&'c mut Keys<'k>>,
}

impl Deref for Call<'_, '_> {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn
    }
}

impl DerefMut for Call<'_, '_> {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn
    }
}

impl Call<'_, '_> {
    /// Does it run inside EXEC, every shard locked? Then it must not wait for anything.
    pub(crate) fn in_block(&self) -> bool {
        self.keys.is_some()
    }

    /// Runs `f` on the keys of a database, every shard locked.
    pub(crate) fn with_keys<R>(&mut self, db: u32, f: impl FnOnce(&mut Keys<'_>) -> R) -> R {
        match &mut self.keys {
            Some(keys) => {
                let selected = std::mem::replace(&mut keys.db, db);
                let r = f(keys);
                keys.db = selected;
                r
            }
            None => self.conn.server.engine.exclusive(db, &mut Vec::new(), |cx| f(&mut cx.keys)),
        }
    }
}

/// A row of the server's: what the engine knows of it, and what runs it.
pub(crate) struct OwnCommand {
    pub(crate) command: Command,
    pub(crate) run: Handler,
    /// Inside EXEC it runs without the locks, whatever its arguments.
    apart: bool,
}

impl OwnCommand {
    /// A row without keys.
    #[allow(clippy::too_many_arguments)]
    pub(crate) const fn row(
        name: &'static str,
        arity: i32,
        flags: Flags,
        categories: &'static str,
        group: &'static str,
        since: &'static str,
        summary: &'static str,
        run: Handler,
    ) -> OwnCommand {
        let (keys, subcommands) = (KeySpec::None, &[]);
        let command = Command {
            name,
            arity,
            flags,
            keys,
            categories,
            group,
            since,
            summary,
            subcommands,
            run: Run::External,
        };
        OwnCommand { command, run, apart: false }
    }

    /// The same, inside EXEC without the locks.
    pub(crate) const fn apart(mut self) -> OwnCommand {
        self.apart = true;
        self
    }

    /// The same with keys.
    pub(crate) const fn keys(mut self, keys: KeySpec) -> OwnCommand {
        self.command.keys = keys;
        self
    }

    /// The same with subcommands.
    pub(crate) const fn holding(mut self, subcommands: &'static [Command]) -> OwnCommand {
        self.command.subcommands = subcommands;
        self
    }
}

/// The server's rows by their place in the engine's table.
pub(crate) struct Table(Vec<Option<&'static OwnCommand>>);

impl Table {
    /// Of an engine made by [`engine`].
    pub(crate) fn of(engine: &Engine) -> Table {
        let own = |command| own_rows().find(|own| std::ptr::eq(&own.command, command));
        Table(engine.rows().map(|row| own(row.command)).collect())
    }

    fn get(&self, id: usize) -> Option<&'static OwnCommand> {
        *self.0.get(id)?
    }
}

fn own_rows() -> impl Iterator<Item = &'static OwnCommand> {
    ROWS.iter().chain(crate::admin::ROWS).chain(crate::migrate::ROWS)
}

const ADMIN: Flags = Flags::ADMIN.union(Flags::NOSCRIPT);
const ANYTIME: Flags = Flags::LOADING.union(Flags::STALE);

/// The rows.
#[rustfmt::skip]
static ROWS: &[OwnCommand] = &[
    OwnCommand::row("quit", -1, ANYTIME.union(Flags::FAST).union(Flags::NO_AUTH).union(Flags::NOSCRIPT).union(Flags::ALLOW_BUSY).union(Flags::IMMEDIATE), "connection", "connection", "1.0.0",
        "Ends the connection", quit),
    OwnCommand::row("save", 1, ADMIN.union(Flags::NO_ASYNC_LOADING).union(Flags::NO_MULTI), "", "server", "1.0.0",
        "Takes a snapshot and answers when it is written", save).apart(),
    OwnCommand::row("bgsave", -1, ADMIN.union(Flags::NO_ASYNC_LOADING), "", "server", "1.0.0",
        "Begins a snapshot in the background", bgsave).apart(),
    OwnCommand::row("bgrewriteaof", 1, ADMIN.union(Flags::NO_ASYNC_LOADING), "", "server", "1.0.0",
        "Begins to write a new base for the append-only file in the background", bgrewriteaof).apart(),
    OwnCommand::row("shutdown", -1, ADMIN.union(ANYTIME).union(Flags::NO_MULTI).union(Flags::ALLOW_BUSY), "", "server", "1.0.0",
        "Ends the server, saving first where that is set", shutdown).apart(),
    OwnCommand::row("replicaof", 3, ADMIN.union(Flags::STALE).union(Flags::NO_ASYNC_LOADING), "", "server", "5.0.0",
        "Makes the server follow a primary, or be one", repl::replicaof).apart(),
    OwnCommand::row("slaveof", 3, ADMIN.union(Flags::STALE).union(Flags::NO_ASYNC_LOADING), "", "server", "1.0.0",
        "Makes the server follow a primary, or be one", repl::replicaof).apart(),
    OwnCommand::row("failover", -1, ADMIN.union(Flags::STALE), "", "server", "6.2.0",
        "Changes roles with a replica, without losing a write", failover::failover).apart(),
    OwnCommand::row("replconf", -1, ADMIN.union(ANYTIME).union(Flags::ALLOW_BUSY), "", "server", "3.0.0",
        "What a replica tells its primary", repl::replconf).apart(),
    OwnCommand::row("psync", -3, ADMIN.union(Flags::NO_ASYNC_LOADING).union(Flags::NO_MULTI), "", "server", "2.8.0",
        "How a replica asks for the data, or for what it missed of it", repl::psync).apart(),
    OwnCommand::row("sync", 1, ADMIN.union(Flags::NO_ASYNC_LOADING).union(Flags::NO_MULTI), "", "server", "1.0.0",
        "How a replica of old asks for the data", repl::sync).apart(),
    OwnCommand::row("wait", 3, Flags::NOSCRIPT, "connection", "generic", "3.0.0",
        "Waits until replicas have what this connection wrote", acks::wait),
    OwnCommand::row("waitaof", 4, Flags::NOSCRIPT, "connection", "generic", "7.2.0",
        "Waits until disks, here and of replicas, have what this connection wrote", acks::waitaof),
];

/// An engine with every command of the server. One that is filled beside the live one has them too: a log may hold
/// RESTORE.
///
/// # Errors
/// A `rename-command` line that cannot be followed.
pub(crate) fn engine(
    config: &crate::config::Config,
    dump: std::sync::Arc<crate::dump::Settings>,
) -> Result<Engine, RenameError> {
    let builder = Engine::builder().shards(config.shards).databases(config.databases as u32);
    let renames = config.renamed_commands.iter();
    renames
        .fold(builder, |builder, (from, to)| builder.rename(from, to))
        .commands(own_rows().map(|own| &own.command))
        .commands(crate::dump::ROWS)
        .host(dump)
        .try_build()
}

/// Runs a row of the server's; inside EXEC on `keys`.
pub(crate) fn run(
    conn: &mut Conn,
    keys: Option<&mut Keys<'_>>,
    row: Row,
    args: &[&[u8]],
    out: &mut Reply<'_>,
) -> Flow {
    let server = conn.server.clone();
    let Some(own) = server.commands.get(row.id) else { unreachable!("a row without a handler") };
    if own.apart && keys.is_some() {
        return Flow::Apart;
    }
    let (start, began) = (out.raw().len(), Instant::now());
    let checked = row.command.check_subcommand(args);
    let ran = checked.is_ok();
    let handled = checked.and_then(|()| (own.run)(&mut Call { conn, keys }, args, out));
    if matches!(handled, Ok(Flow::Apart)) {
        return Flow::Apart;
    }
    if let Some(sub) = args.get(1).and_then(|word| row.command.subcommand(word)) {
        let took = began.elapsed();
        if ran {
            server.stats.latency.note_sub(row.command.name, sub.name, took);
        }
        server.stats.subcommands.note(row.command.name, sub.name, |counted| {
            counted.calls += u64::from(ran);
            counted.micros += if ran { took.as_micros() as u64 } else { 0 };
            counted.rejected += u64::from(!ran);
            counted.failed += u64::from(ran && handled.is_err());
        });
    }
    handled.unwrap_or_else(|error| {
        out.raw().truncate(start);
        out.error(&error.message());
        Flow::Next
    })
}

fn quit(_: &mut Call<'_, '_>, _: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    out.ok();
    Ok(Flow::Close)
}

fn save(conn: &mut Call<'_, '_>, _: &[&[u8]], _: &mut Reply<'_>) -> Handled {
    let server = conn.server.clone();
    if server.persist.bgsave_running.load(Ordering::Acquire) {
        return Err(CmdError::text("ERR Background save already in progress"));
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
    Ok(Flow::Later(from))
}

fn bgsave(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let server = conn.server.clone();
    let schedule = match args.len() {
        1 => false,
        2 if args[1].eq_ignore_ascii_case(b"schedule") => true,
        _ => return Err(CmdError::Syntax),
    };
    // A cut of a full sync is no obstacle: the save waits for its end.
    if crate::persist::bgsave(&server) {
        out.simple("Background saving started");
    } else if schedule {
        server.persist.bgsave_scheduled.store(true, Ordering::Release);
        out.simple("Background saving scheduled");
    } else {
        return Err(CmdError::text("ERR Background save already in progress"));
    }
    Ok(Flow::Next)
}

fn bgrewriteaof(conn: &mut Call<'_, '_>, _: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    use crate::aof::Answer;
    match crate::aof::request(&conn.server.clone()) {
        Answer::Started => out.simple("Background append only file rewriting started"),
        Answer::Scheduled => out.simple("Background append only file rewriting scheduled"),
        Answer::Refused(text) => return Err(CmdError::text(text)),
    }
    Ok(Flow::Next)
}

fn shutdown(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    use crate::admin::shutdown::{Shutdown, parse};
    let server = conn.server.clone();
    let leave = match parse(&args[1..]) {
        Ok(Shutdown::Leave(leave)) => leave,
        Ok(Shutdown::Abort) => {
            if server.ending.abort() {
                out.ok();
                return Ok(Flow::Next);
            }
            return Err(CmdError::text("ERR No shutdown in progress."));
        }
        Err(e) => return Err(e),
    };
    let (to, from) = tokio::sync::oneshot::channel();
    tokio::task::spawn_local(async move {
        let save = if leave.save { Some(true) } else { leave.nosave.then_some(false) };
        let ending = crate::shutdown::Ending { save, now: leave.now, force: leave.force };
        let error = crate::shutdown::shutdown(&server, ending).await;
        let mut reply = Vec::new();
        Reply::new(&mut reply, false).error(&error);
        let _ = to.send(reply);
    });
    Ok(Flow::Later(from))
}
