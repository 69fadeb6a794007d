//! The rows of the admin commands, and the subcommands of those that have some.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use sluice_engine::command::{Command, Flags, KeySpec, Run};

const ANYTIME: Flags = Flags::LOADING.union(Flags::STALE);
const QUIET: Flags = ANYTIME.union(Flags::NOSCRIPT);
const ADMIN: Flags = QUIET.union(Flags::ADMIN);
const SIGN_ON: Flags = QUIET.union(Flags::FAST).union(Flags::NO_AUTH).union(Flags::ALLOW_BUSY);

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    categories: &'static str,
    group: &'static str,
    since: &'static str,
    summary: &'static str,
) -> Command {
    Command { name, arity, flags, keys: KeySpec::None, categories, group, since, summary, run: Run::External }
}

/// Rows for the engine's command table.
pub(crate) static ROWS: &[Command] = &[
    row(
        "info",
        -1,
        ANYTIME,
        "dangerous",
        "server",
        "1.0.0",
        "Get information and statistics about the server",
    ),
    row("config", -2, ADMIN, "", "server", "2.0.0", "A container for server configuration commands"),
    row(
        "client",
        -2,
        QUIET,
        "connection",
        "connection",
        "2.4.0",
        "A container for client connection commands",
    ),
    row("command", -1, ANYTIME, "connection", "server", "2.8.13", "Get array of Redis command details"),
    row("debug", -2, ADMIN, "", "server", "1.0.0", "A container for debugging commands"),
    row("memory", -2, ANYTIME, "", "server", "4.0.0", "A container for memory diagnostics commands"),
    row("latency", -2, ADMIN, "", "server", "2.8.13", "A container for latency diagnostics commands"),
    row("slowlog", -2, ADMIN, "", "server", "2.2.12", "A container for slow log commands"),
    row("acl", -2, QUIET, "", "server", "6.0.0", "A container for Access List Control commands"),
    row("auth", -2, SIGN_ON, "connection", "connection", "1.0.0", "Authenticate to the server"),
    row("hello", -1, SIGN_ON, "connection", "connection", "6.0.0", "Handshake with Redis"),
    row("reset", 1, SIGN_ON, "connection", "connection", "6.2.0", "Reset the connection"),
    row("time", 1, ANYTIME.union(Flags::FAST), "", "server", "2.6.0", "Return the current server time"),
    row(
        "lastsave",
        1,
        ANYTIME.union(Flags::FAST),
        "admin dangerous",
        "server",
        "1.0.0",
        "Get the UNIX time stamp of the last successful save to disk",
    ),
    row(
        "role",
        1,
        QUIET.union(Flags::FAST),
        "admin dangerous",
        "server",
        "2.8.12",
        "Return the role of the instance in the context of replication",
    ),
];

/// A subcommand as COMMAND INFO shows it.
pub(crate) struct Subcommand {
    /// Its name.
    pub(crate) name: &'static str,
    /// Words of the whole command; negative: at least that many.
    pub(crate) arity: i32,
    /// Its flags.
    pub(crate) flags: Flags,
}

const fn sub(name: &'static str, arity: i32, flags: Flags) -> Subcommand {
    Subcommand { name, arity, flags }
}

/// How often a subcommand was called, for `commandstats`.
#[derive(Default, Debug)]
pub(crate) struct SubcommandStats(Mutex<BTreeMap<(&'static str, &'static str), Calls>>);

/// Counters of one subcommand.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Calls {
    /// Times it ran, and how long in all.
    pub(crate) calls: u64,
    /// Microseconds in all.
    pub(crate) micros: u64,
    /// Times it had the wrong number of words.
    pub(crate) rejected: u64,
    /// Times it replied an error.
    pub(crate) failed: u64,
}

impl SubcommandStats {
    /// Counts one call.
    pub(crate) fn note(&self, command: &'static str, sub: &'static str, change: impl FnOnce(&mut Calls)) {
        change(self.0.lock().entry((command, sub)).or_default());
    }

    /// The counters of a command's subcommands.
    pub(crate) fn of(&self, command: &str) -> Vec<(&'static str, Calls)> {
        self.0
            .lock()
            .iter()
            .filter(|((c, _), _)| *c == command)
            .map(|((_, sub), calls)| (*sub, *calls))
            .collect()
    }

    /// CONFIG RESETSTAT.
    pub(crate) fn reset(&self) {
        self.0.lock().clear();
    }
}

/// The subcommands of a command; empty for one that has none.
pub(crate) fn subcommands(name: &str) -> &'static [Subcommand] {
    match name {
        "config" => CONFIG,
        "client" => CLIENT,
        "command" => COMMAND,
        "memory" => MEMORY,
        "latency" => LATENCY,
        "slowlog" => SLOWLOG,
        "acl" => ACL,
        "object" => OBJECT,
        _ => &[],
    }
}

/// The command and subcommand that `args` name, if they name one.
pub(crate) fn find(command: &str, args: &[&[u8]]) -> Option<(&'static str, &'static str)> {
    let row = ROWS.iter().find(|row| row.name == command)?;
    let given = args.get(1)?;
    let sub = subcommands(row.name).iter().find(|s| s.name.as_bytes().eq_ignore_ascii_case(given))?;
    Some((row.name, sub.name))
}

const CONFIG: &[Subcommand] = &[
    sub("get", -3, ADMIN),
    sub("help", 2, ANYTIME),
    sub("resetstat", 2, ADMIN),
    sub("rewrite", 2, ADMIN),
    sub("set", -4, ADMIN),
];
const CLIENT: &[Subcommand] = &[
    sub("caching", 3, QUIET),
    sub("getname", 2, QUIET),
    sub("getredir", 2, QUIET),
    sub("help", 2, ANYTIME),
    sub("id", 2, QUIET),
    sub("info", 2, QUIET),
    sub("kill", -3, ADMIN),
    sub("list", -2, ADMIN),
    sub("no-evict", 3, ADMIN),
    sub("pause", -3, ADMIN),
    sub("reply", 3, QUIET),
    sub("setname", 3, QUIET),
    sub("tracking", -3, QUIET),
    sub("trackinginfo", 2, QUIET),
    sub("unblock", -3, ADMIN),
    sub("unpause", 2, ADMIN),
];
const COMMAND: &[Subcommand] = &[
    sub("count", 2, ANYTIME),
    sub("docs", -2, ANYTIME),
    sub("getkeys", -4, ANYTIME),
    sub("getkeysandflags", -4, ANYTIME),
    sub("help", 2, ANYTIME),
    sub("info", -2, ANYTIME),
    sub("list", -2, ANYTIME),
];
const MEMORY: &[Subcommand] = &[
    sub("doctor", 2, Flags::empty()),
    sub("help", 2, ANYTIME),
    sub("malloc-stats", 2, Flags::empty()),
    sub("purge", 2, Flags::empty()),
    sub("stats", 2, Flags::empty()),
    sub("usage", -3, Flags::READONLY),
];
const LATENCY: &[Subcommand] = &[
    sub("doctor", 2, ADMIN),
    sub("graph", 3, ADMIN),
    sub("help", 2, ANYTIME),
    sub("histogram", -2, ADMIN),
    sub("history", 3, ADMIN),
    sub("latest", 2, ADMIN),
    sub("reset", -2, ADMIN),
];
const SLOWLOG: &[Subcommand] = &[
    sub("get", -2, ANYTIME.union(Flags::ADMIN)),
    sub("help", 2, ANYTIME),
    sub("len", 2, ANYTIME.union(Flags::ADMIN)),
    sub("reset", 2, ANYTIME.union(Flags::ADMIN)),
];
const ACL: &[Subcommand] = &[
    sub("cat", -2, QUIET),
    sub("deluser", -3, ADMIN),
    sub("dryrun", -4, ADMIN),
    sub("genpass", -2, QUIET),
    sub("getuser", 3, ADMIN),
    sub("help", 2, ANYTIME),
    sub("list", 2, ADMIN),
    sub("load", 2, ADMIN),
    sub("log", -2, ADMIN),
    sub("save", 2, ADMIN),
    sub("setuser", -3, ADMIN),
    sub("users", 2, ADMIN),
    sub("whoami", 2, QUIET),
];
const OBJECT: &[Subcommand] = &[
    sub("encoding", 3, Flags::READONLY),
    sub("freq", 3, Flags::READONLY),
    sub("help", 2, ANYTIME),
    sub("idletime", 3, Flags::READONLY),
    sub("refcount", 3, Flags::READONLY),
];
