//! The command table: one row a command, which drives COMMAND, ACL categories, key locking and propagation.
//!
//! Built-in rows stand in the family files under `commands/`; an embedder or the server registers more through
//! [`crate::EngineBuilder::commands`]. A row says how it runs ([`Run`]), hence which locks are taken around it.

pub(crate) mod flags;

pub use crate::error::{CmdResult, Error as CmdError};
pub use flags::{Flags, FlagsOfMany};

use crate::keyspace::Ctx;
use crate::session::Session;

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

/// A command that works on keys.
pub type KeyFn = fn(&mut Ctx<'_>, &[&[u8]]) -> CmdResult;
/// Takes what a waiting command waits for from a key that now holds it; replies, and propagates what it did. The arguments are
/// the command's.
pub type ServeFn = fn(&mut Ctx<'_>, &[&[u8]], &[u8]) -> CmdResult;
/// A command that works on the session alone.
pub type SessionFn = fn(&mut Session, &[&[u8]], &mut crate::resp::Reply<'_>) -> CmdResult;

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// With the shards of its keys locked.
    Keys(KeyFn),
    /// The same; where it finds nothing it may wait, and is served when one of its keys has something.
    Waits {
        /// Runs it.
        run: KeyFn,
        /// Serves it.
        serve: ServeFn,
    },
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
