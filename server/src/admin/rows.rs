//! The rows of the admin commands, with what runs them, and the subcommands of those that have some.

use sluice_engine::internals::{Command, Flags, KeySpec, Run};

use crate::commands::OwnCommand;

const ANYTIME: Flags = Flags::LOADING.union(Flags::STALE);
const QUIET: Flags = ANYTIME.union(Flags::NOSCRIPT);
const ADMIN: Flags = QUIET.union(Flags::ADMIN);
const SIGN_ON: Flags = QUIET.union(Flags::FAST).union(Flags::NO_AUTH).union(Flags::ALLOW_BUSY);

/// A subcommand: the command it belongs to runs it.
const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    categories: &'static str,
    group: &'static str,
    since: &'static str,
    summary: &'static str,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys: KeySpec::None,
        categories,
        group,
        since,
        summary,
        subcommands: &[],
        run: Run::External,
    }
}

/// Rows for the engine's command table.
pub(crate) static ROWS: &[OwnCommand] = &[
    OwnCommand::row(
        "info",
        -1,
        ANYTIME,
        "dangerous",
        "server",
        "1.0.0",
        "The state of the server, in sections",
        super::info_command,
    ),
    OwnCommand::row(
        "config",
        -2,
        ADMIN,
        "",
        "server",
        "2.0.0",
        "Settings: reads, changes and saves them",
        super::config::run,
    )
    .holding(CONFIG),
    OwnCommand::row(
        "client",
        -2,
        QUIET,
        "connection",
        "connection",
        "2.4.0",
        "Connections: what they are, and how to end, pause and name them",
        super::client::run,
    )
    .holding(CLIENT),
    OwnCommand::row(
        "command",
        -1,
        ANYTIME,
        "connection",
        "server",
        "2.8.13",
        "What commands there are",
        super::command::run,
    )
    .holding(COMMAND),
    OwnCommand::row(
        "debug",
        -2,
        ADMIN,
        "",
        "server",
        "1.0.0",
        "For tests and for looking inside",
        super::debug::run,
    ),
    OwnCommand::row(
        "memory",
        -2,
        ANYTIME,
        "",
        "server",
        "4.0.0",
        "Where the memory goes",
        super::memory::run,
    )
    .holding(MEMORY),
    OwnCommand::row(
        "latency",
        -2,
        ADMIN,
        "",
        "server",
        "2.8.13",
        "How long things took",
        super::latency::run,
    )
    .holding(LATENCY),
    OwnCommand::row(
        "slowlog",
        -2,
        ADMIN,
        "",
        "server",
        "2.2.12",
        "Commands that took long",
        super::latency::slowlog,
    )
    .holding(SLOWLOG),
    OwnCommand::row("acl", -2, QUIET, "", "server", "6.0.0", "Users and what they may do", super::acl::run)
        .holding(ACL),
    OwnCommand::row(
        "auth",
        -2,
        SIGN_ON,
        "connection",
        "connection",
        "1.0.0",
        "Signs the connection on with a password",
        super::hello::auth,
    ),
    OwnCommand::row(
        "hello",
        -1,
        SIGN_ON,
        "connection",
        "connection",
        "6.0.0",
        "Chooses the protocol, and signs on",
        super::hello::hello,
    ),
    OwnCommand::row(
        "reset",
        1,
        SIGN_ON.union(Flags::IMMEDIATE),
        "connection",
        "connection",
        "6.2.0",
        "Puts the connection back to how it began",
        super::hello::reset,
    ),
    OwnCommand::row(
        "time",
        1,
        ANYTIME.union(Flags::FAST),
        "",
        "server",
        "2.6.0",
        "What time it is on the server",
        super::time,
    ),
    OwnCommand::row(
        "lastsave",
        1,
        ANYTIME.union(Flags::FAST),
        "admin dangerous",
        "server",
        "1.0.0",
        "When the last good snapshot was taken, as Unix time",
        super::lastsave,
    ),
    OwnCommand::row(
        "role",
        1,
        QUIET.union(Flags::FAST),
        "admin dangerous",
        "server",
        "2.8.12",
        "Whether the server is a primary or a replica, and of what or whom",
        super::role::run,
    ),
];

static ACL: &[Command] = &[
    row("cat", -2, QUIET, "", "server", "6.0.0", "Lists the categories of commands, or the commands of one"),
    row("deluser", -3, ADMIN, "", "server", "6.0.0", "Removes users and ends their connections"),
    row(
        "dryrun",
        -4,
        ADMIN,
        "",
        "server",
        "7.0.0",
        "Tells whether a user may run a command, without running it",
    ),
    row("genpass", -2, QUIET, "", "server", "6.0.0", "A random password, in hexadecimal digits"),
    row("getuser", 3, ADMIN, "", "server", "6.0.0", "What a user may do"),
    row("help", 2, ANYTIME, "", "server", "6.0.0", "Lists the subcommands"),
    row("list", 2, ADMIN, "", "server", "6.0.0", "The users, each as a line of a configuration file"),
    row("load", 2, ADMIN, "", "server", "6.0.0", "Reads the file of users anew"),
    row("log", -2, ADMIN, "", "server", "6.0.0", "What was refused lately"),
    row("save", 2, ADMIN, "", "server", "6.0.0", "Writes the file of users"),
    row("setuser", -3, ADMIN, "", "server", "6.0.0", "Makes a user, or changes what one may do"),
    row("users", 2, ADMIN, "", "server", "6.0.0", "The names of the users"),
    row("whoami", 2, QUIET, "", "server", "6.0.0", "The name of this connection's user"),
];
static CLIENT: &[Command] = &[
    row(
        "caching",
        3,
        QUIET,
        "connection",
        "connection",
        "6.0.0",
        "Says whether keys of the next command are tracked",
    ),
    row("getname", 2, QUIET, "connection", "connection", "2.6.9", "The name of this connection"),
    row(
        "getredir",
        2,
        QUIET,
        "connection",
        "connection",
        "6.0.0",
        "The connection that notices of tracked keys go to",
    ),
    row("help", 2, ANYTIME, "connection", "connection", "5.0.0", "Lists the subcommands"),
    row("id", 2, QUIET, "connection", "connection", "5.0.0", "The number of this connection"),
    row(
        "info",
        2,
        QUIET,
        "connection",
        "connection",
        "6.2.0",
        "This connection, described as in CLIENT LIST",
    ),
    row("kill", -3, ADMIN, "connection", "connection", "2.4.0", "Ends connections"),
    row("list", -2, ADMIN, "connection", "connection", "2.4.0", "The connections, a line each"),
    row(
        "no-evict",
        3,
        ADMIN,
        "connection",
        "connection",
        "7.0.0",
        "Keeps this connection when clients are closed for their memory",
    ),
    row(
        "pause",
        -3,
        ADMIN,
        "connection",
        "connection",
        "2.9.50",
        "Has commands of clients wait for some time",
    ),
    // Inside MULTI it would break the frame of EXEC: a header that announces more replies than come.
    row(
        "reply",
        3,
        QUIET.union(Flags::NO_MULTI),
        "connection",
        "connection",
        "3.2.0",
        "Turns the replies to this connection off and on",
    ),
    row("setname", 3, QUIET, "connection", "connection", "2.6.9", "Names this connection"),
    row(
        "tracking",
        -3,
        QUIET,
        "connection",
        "connection",
        "6.0.0",
        "Turns notices of changed keys for this connection on and off",
    ),
    row(
        "trackinginfo",
        2,
        QUIET,
        "connection",
        "connection",
        "6.2.0",
        "How keys are tracked for this connection",
    ),
    row(
        "unblock",
        -3,
        ADMIN,
        "connection",
        "connection",
        "5.0.0",
        "Ends the wait of another connection's blocking command",
    ),
    row("unpause", 2, ADMIN, "connection", "connection", "6.2.0", "Ends a pause"),
];
static COMMAND: &[Command] = &[
    row("count", 2, ANYTIME, "connection", "server", "2.8.13", "How many commands there are"),
    row("docs", -2, ANYTIME, "connection", "server", "7.0.0", "Documentation of commands"),
    row("getkeys", -4, ANYTIME, "connection", "server", "2.8.13", "The keys among a command's arguments"),
    row(
        "getkeysandflags",
        -4,
        ANYTIME,
        "connection",
        "server",
        "7.0.0",
        "The keys among a command's arguments, and how it uses them",
    ),
    row("help", 2, ANYTIME, "connection", "server", "5.0.0", "Lists the subcommands"),
    row("info", -2, ANYTIME, "connection", "server", "2.8.13", "Facts about commands"),
    row("list", -2, ANYTIME, "connection", "server", "7.0.0", "The names of the commands"),
];
static CONFIG: &[Command] = &[
    row("get", -3, ADMIN, "", "server", "2.0.0", "The values of settings"),
    row("help", 2, ANYTIME, "", "server", "5.0.0", "Lists the subcommands"),
    row("resetstat", 2, ADMIN, "", "server", "2.0.0", "Sets the counters that INFO shows to zero"),
    row(
        "rewrite",
        2,
        ADMIN,
        "",
        "server",
        "2.8.0",
        "Writes the settings in force into the configuration file",
    ),
    row("set", -4, ADMIN, "", "server", "2.0.0", "Changes settings"),
];
static LATENCY: &[Command] = &[
    row("doctor", 2, ADMIN, "", "server", "2.8.13", "A report on latencies in plain words"),
    row("graph", 3, ADMIN, "", "server", "2.8.13", "A drawing of an event's latencies"),
    row("help", 2, ANYTIME, "", "server", "2.8.13", "Lists the subcommands"),
    row("histogram", -2, ADMIN, "", "server", "7.0.0", "How the times of commands are spread"),
    row("history", 3, ADMIN, "", "server", "2.8.13", "The latest samples of an event"),
    row("latest", 2, ADMIN, "", "server", "2.8.13", "The latest sample of each event"),
    row("reset", -2, ADMIN, "", "server", "2.8.13", "Forgets the samples of events"),
];
static MEMORY: &[Command] = &[
    row("doctor", 2, Flags::empty(), "", "server", "4.0.0", "A report on memory in plain words"),
    row("help", 2, ANYTIME, "", "server", "4.0.0", "Lists the subcommands"),
    row("malloc-stats", 2, Flags::empty(), "", "server", "4.0.0", "What the allocator tells of itself"),
    row("purge", 2, Flags::empty(), "", "server", "4.0.0", "Has the allocator give unused pages back"),
    row("stats", 2, Flags::empty(), "", "server", "4.0.0", "Where the memory goes, in numbers"),
    Command {
        keys: KeySpec::Range { first: 2, last: 2, step: 1 },
        ..row("usage", -3, Flags::READONLY, "", "server", "4.0.0", "About how many bytes a key takes")
    },
];
static SLOWLOG: &[Command] = &[
    row("get", -2, ANYTIME.union(Flags::ADMIN), "", "server", "2.2.12", "The latest commands that took long"),
    row("help", 2, ANYTIME, "", "server", "6.2.0", "Lists the subcommands"),
    row("len", 2, ANYTIME.union(Flags::ADMIN), "", "server", "2.2.12", "How many commands are noted"),
    row("reset", 2, ANYTIME.union(Flags::ADMIN), "", "server", "2.2.12", "Forgets the noted commands"),
];
