//! The built-in commands, one file a family, one function a command, one row a command in the table.

pub(crate) mod connection;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod string;
pub(crate) mod transaction;

use crate::command::Command;

/// Every built-in row.
#[rustfmt::skip]
pub(crate) const ALL: &[&[Command]] = &[
    connection::COMMANDS,
    keys::COMMANDS,
    list::COMMANDS,
    string::COMMANDS,
    transaction::COMMANDS,
];
