//! The command table: one row a command, which drives COMMAND, ACL categories, key locking and propagation.
//!
//! Built-in rows stand in the family files under `commands/`; an embedder or the server registers more through
//! [`crate::EngineBuilder::commands`]. A row says how it runs ([`Run`]), hence which locks are taken around it.

use crate::keyspace::Ctx;
use crate::session::Session;

pub use crate::error::Error as CmdError;

bitflags::bitflags! {
    /// Command flags, as COMMAND INFO prints them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// May change data.
        const WRITE = 1;
        /// Reads data only.
        const READONLY = 1 << 1;
        /// Refused when out of memory.
        const DENYOOM = 1 << 2;
        /// Administration.
        const ADMIN = 1 << 3;
        /// Publish and subscribe.
        const PUBSUB = 1 << 4;
        /// Not from scripts.
        const NOSCRIPT = 1 << 5;
        /// May block the client.
        const BLOCKING = 1 << 6;
        /// Allowed while loading.
        const LOADING = 1 << 7;
        /// Allowed on a replica with stale data.
        const STALE = 1 << 8;
        /// Not shown to MONITOR.
        const SKIP_MONITOR = 1 << 9;
        /// Not in the slow log.
        const SKIP_SLOWLOG = 1 << 10;
        /// Constant or logarithmic time.
        const FAST = 1 << 11;
        /// Allowed before authentication.
        const NO_AUTH = 1 << 12;
        /// May replicate although it is no write (COMMAND INFO hides it, as Redis does).
        const MAY_REPLICATE = 1 << 13;
        /// Not inside MULTI.
        const NO_MULTI = 1 << 14;
        /// Key positions depend on the arguments.
        const MOVABLEKEYS = 1 << 15;
        /// Allowed while a script or module is busy.
        const ALLOW_BUSY = 1 << 16;
        /// Refused while loading asynchronously.
        const NO_ASYNC_LOADING = 1 << 17;
        /// Meets keys it does not name (SCAN, RANDOMKEY): the expired ones it removes are logged one by one.
        const ARBITRARY_KEYS = 1 << 18;
        /// Runs at once even inside MULTI.
        const IMMEDIATE = 1 << 19;
        /// Its first argument is the database that the commands behind it run in.
        const SELECTS_DB = 1 << 20;
        /// Changes each key it names for itself: none is read to change another.
        const EACH_FOR_ITSELF = 1 << 21;
        /// Refused, too, where writes are because a disk fails: whoever watches the server by it learns of that.
        const TELLS_OF_DISK = 1 << 22;
        /// Empties every database.
        const EMPTIES = 1 << 23;
    }
}

impl Flags {
    /// A constant-time read.
    pub const READ_FAST: Flags = Flags::READONLY.union(Flags::FAST);
    /// A constant-time write that frees memory or takes none.
    pub const WRITE_FAST: Flags = Flags::WRITE.union(Flags::FAST);
    /// A write that takes memory.
    pub const WRITE_OOM: Flags = Flags::WRITE.union(Flags::DENYOOM);
    /// A constant-time write that takes memory.
    pub const WRITE_OOM_FAST: Flags = Flags::WRITE_OOM.union(Flags::FAST);

    /// What may end up in the log.
    pub const LOGGED: Flags = Flags::WRITE.union(Flags::MAY_REPLICATE);

    /// The names COMMAND INFO prints, in Redis' order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(Flags, &str); 17] = [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "readonly"),
            (Flags::DENYOOM, "denyoom"),
            (Flags::ADMIN, "admin"),
            (Flags::PUBSUB, "pubsub"),
            (Flags::NOSCRIPT, "noscript"),
            (Flags::BLOCKING, "blocking"),
            (Flags::LOADING, "loading"),
            (Flags::STALE, "stale"),
            (Flags::SKIP_MONITOR, "skip_monitor"),
            (Flags::SKIP_SLOWLOG, "skip_slowlog"),
            (Flags::FAST, "fast"),
            (Flags::NO_AUTH, "no_auth"),
            (Flags::NO_MULTI, "no_multi"),
            (Flags::MOVABLEKEYS, "movablekeys"),
            (Flags::ALLOW_BUSY, "allow_busy"),
            (Flags::NO_ASYNC_LOADING, "no_async_loading"),
        ];
        NAMES.into_iter().filter(move |(f, _)| self.contains(*f)).map(|(_, n)| n)
    }
}

/// Where a command's keys stand among its arguments (the command name is argument 0).
#[derive(Clone, Copy, Debug)]
pub enum KeySpec {
    /// No keys.
    None,
    /// From `first` to `last` (negative counts from the end) in steps of `step`.
    Range {
        /// First key.
        first: usize,
        /// Last key; -1 is the last argument.
        last: i32,
        /// Distance between keys.
        step: usize,
    },
    /// A number of keys at `at`, the keys right behind it, and perhaps one more key (a destination) at `also`.
    Counted {
        /// Position of the count.
        at: usize,
        /// Position of one more key, 0 for none.
        also: usize,
    },
    /// A function of the arguments.
    Custom(fn(&[&[u8]]) -> Vec<usize>),
}

impl KeySpec {
    /// One key, at argument 1.
    pub const ONE: KeySpec = KeySpec::Range { first: 1, last: 1, step: 1 };
    /// Keys from argument 1 to the last.
    pub const ALL: KeySpec = KeySpec::Range { first: 1, last: -1, step: 1 };
    /// Two keys, at arguments 1 and 2.
    pub const TWO: KeySpec = KeySpec::Range { first: 1, last: 2, step: 1 };

    /// Calls `f` with the position of every key.
    #[inline]
    pub fn each(&self, args: &[&[u8]], mut f: impl FnMut(usize)) {
        match *self {
            KeySpec::None => {}
            KeySpec::Range { first, last, step } => {
                let last = if last < 0 { args.len() as i64 + i64::from(last) } else { i64::from(last) };
                let mut i = first;
                while (i as i64) <= last && i < args.len() {
                    f(i);
                    i += step;
                }
            }
            KeySpec::Counted { at, also } => {
                if also != 0 && also < args.len() {
                    f(also);
                }
                let n = args.get(at).and_then(|a| crate::num::parse_i64(a)).unwrap_or(0);
                for i in 0..n.clamp(0, args.len() as i64) as usize {
                    if at + 1 + i < args.len() {
                        f(at + 1 + i);
                    }
                }
            }
            KeySpec::Custom(find) => find(args).into_iter().filter(|i| *i < args.len()).for_each(f),
        }
    }
}

/// What a command function returns; its reply went to `cx.out`.
pub type CmdResult = Result<(), CmdError>;
/// A command that works on keys.
pub type KeyFn = fn(&mut Ctx<'_>, &[&[u8]]) -> CmdResult;
/// A command that works on the session alone.
pub type SessionFn = fn(&mut Session, &[&[u8]], &mut crate::resp::Reply<'_>) -> CmdResult;

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// With the shards of its keys locked.
    Keys(KeyFn),
    /// Exclusive: with every shard locked.
    All(KeyFn),
    /// Without locks, on the session.
    Session(SessionFn),
    /// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
    Transaction(TxOp),
    /// Registered by the embedder, which runs it itself (`Outcome::External`).
    External,
}

/// The transaction commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxOp {
    /// MULTI
    Multi,
    /// EXEC
    Exec,
    /// DISCARD
    Discard,
    /// WATCH
    Watch,
    /// UNWATCH
    Unwatch,
}

/// A row of the command table.
#[derive(Clone, Copy)]
pub struct Command {
    /// Lower-case name.
    pub name: &'static str,
    /// Argument count with the name; negative: at least that many.
    pub arity: i32,
    /// Flags.
    pub flags: Flags,
    /// Key positions.
    pub keys: KeySpec,
    /// ACL categories without the `@`, space separated, beyond those that follow from flags
    /// (`write`, `read`, `admin`, `dangerous`, `fast`/`slow`, `blocking`, `pubsub`).
    pub categories: &'static str,
    /// Group for COMMAND DOCS: `string`, `list`, `generic`...
    pub group: &'static str,
    /// First Redis version with it.
    pub since: &'static str,
    /// One line for COMMAND DOCS.
    pub summary: &'static str,
    /// Commands that begin with this name and another word (CONFIG GET), named by that word. Their arity counts both.
    pub subcommands: &'static [Command],
    /// How it runs.
    pub run: Run,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({})", self.name)
    }
}

impl Command {
    /// A row of a data type's family: its ACL category is its group.
    #[allow(clippy::too_many_arguments)]
    pub const fn row(
        name: &'static str,
        arity: i32,
        flags: Flags,
        keys: KeySpec,
        group: &'static str,
        since: &'static str,
        summary: &'static str,
        run: Run,
    ) -> Command {
        Command { name, arity, flags, keys, categories: group, group, since, summary, subcommands: &[], run }
    }

    /// The row with these ACL categories.
    pub const fn in_categories(self, categories: &'static str) -> Command {
        Command { categories, ..self }
    }

    /// The row with these subcommands.
    pub const fn holding(self, subcommands: &'static [Command]) -> Command {
        Command { subcommands, ..self }
    }

    /// The subcommand of this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Command> {
        self.subcommands.iter().find(|s| s.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Refuses a subcommand that does not exist or has the wrong number of words.
    pub fn check_subcommand(&self, args: &[&[u8]]) -> CmdResult {
        let Some(given) = args.get(1).filter(|_| !self.subcommands.is_empty()) else {
            return Ok(());
        };
        match self.subcommand(given) {
            Some(sub) if sub.arity_ok(args.len()) => Ok(()),
            Some(sub) => Err(CmdError::arity(&format!("{}|{}", self.name, sub.name))),
            None => Err(CmdError::unknown_subcommand(self.name, given)),
        }
    }

    /// Is this number of arguments (name included) allowed?
    #[inline]
    pub fn arity_ok(&self, n: usize) -> bool {
        if self.arity >= 0 { n == self.arity as usize } else { n >= self.arity.unsigned_abs() as usize }
    }
}
