//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: the rows; what they do is in [`crate::transaction`], as it concerns locking.

use crate::command::{Command, Flags, KeySpec, Run, TxOp};

const BASE: Flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::ALLOW_BUSY);

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    since: &'static str,
    summary: &'static str,
    op: TxOp,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys,
        categories: "transaction",
        group: "transactions",
        since,
        summary,
        subcommands: &[],
        run: Run::Transaction(op),
    }
}

/// The rows.
pub(crate) const COMMANDS: &[Command] = &[
    row(
        "multi",
        1,
        BASE.union(Flags::FAST),
        KeySpec::None,
        "1.2.0",
        "Begins a transaction: commands are queued until EXEC",
        TxOp::Multi,
    ),
    row(
        "exec",
        1,
        BASE.difference(Flags::ALLOW_BUSY).union(Flags::SKIP_SLOWLOG),
        KeySpec::None,
        "1.2.0",
        "Runs the queued commands of a transaction",
        TxOp::Exec,
    ),
    row(
        "discard",
        1,
        BASE.union(Flags::FAST),
        KeySpec::None,
        "2.0.0",
        "Forgets the queued commands of a transaction",
        TxOp::Discard,
    ),
    row(
        "watch",
        -2,
        BASE.union(Flags::FAST),
        KeySpec::ALL,
        "2.2.0",
        "Has the next EXEC fail if one of the keys changes before it",
        TxOp::Watch,
    ),
    row("unwatch", 1, BASE.union(Flags::FAST), KeySpec::None, "2.2.0", "Stops watching keys", TxOp::Unwatch),
];
