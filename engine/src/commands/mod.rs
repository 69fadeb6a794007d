//! The built-in commands, one file a family, one function a command, one row a command in the table.

pub(crate) mod bits;
pub(crate) mod blocking;
pub(crate) mod connection;
#[cfg(test)]
pub(crate) mod console;
pub(crate) mod hash;
pub(crate) mod hyperloglog;
pub(crate) mod keys;
pub(crate) mod lcs;
pub(crate) mod list;
pub(crate) mod random;
pub(crate) mod scan;
pub(crate) mod set;
pub(crate) mod sort;
pub(crate) mod string;
pub(crate) mod transaction;
pub(crate) mod zset;

use crate::command::Command;

/// Every built-in row.
#[rustfmt::skip]
pub(crate) const ALL: &[&[Command]] = &[
    bits::COMMANDS,
    blocking::COMMANDS,
    connection::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    keys::COMMANDS,
    lcs::COMMANDS,
    list::COMMANDS,
    set::COMMANDS,
    sort::COMMANDS,
    string::COMMANDS,
    transaction::COMMANDS,
    zset::COMMANDS,
];
