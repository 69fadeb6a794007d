//! The command table of an engine: its rows, what they are called, and their counters.

use crate::command::Command;
use crate::names::ShortNames;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

/// A command of an engine's table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Index in the table.
    pub id: usize,
    /// The row.
    pub command: &'static Command,
}

/// Counters of one command.
#[derive(Default, Debug)]
pub struct CommandStats {
    /// Times it ran.
    pub calls: AtomicU64,
    /// Time it took in all, in nanoseconds (the embedder adds to it).
    pub nanos: AtomicU64,
    /// Times it was refused before it ran.
    pub rejected: AtomicU64,
    /// Times it ran and replied an error.
    pub failed: AtomicU64,
}

/// Where in the command table a name is.
type ByName = HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>;

/// Why a command cannot be renamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// There is none of this name.
    #[error("No such command in rename-command: '{0}'")]
    Unknown(String),
    /// The new name is taken.
    #[error("Target command name already exists: '{0}'")]
    Exists(String),
}

/// The rows; see the module's text.
pub(crate) struct Rows {
    commands: Vec<&'static Command>,
    by_name: ByName,
    /// The same as far as they are short, to be found at once.
    short_names: ShortNames,
    /// By index: can it be called at all?
    callable: Vec<bool>,
    calls: Vec<CommandStats>,
}

impl Rows {
    /// A table of these rows, of which a later one replaces an earlier one of its name; then some get other names.
    pub(crate) fn new(
        rows: impl Iterator<Item = &'static Command>,
        renames: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Rows, RenameError> {
        let mut commands: Vec<&'static Command> = Vec::new();
        let mut by_name = ByName::default();
        for row in rows {
            match by_name.get(row.name.as_bytes()) {
                Some(at) => commands[*at] = row,
                None => {
                    by_name.insert(row.name.as_bytes().into(), commands.len());
                    commands.push(row);
                }
            }
        }
        for (from, to) in renames {
            let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            if by_name.contains_key(&to[..]) && from != to {
                return Err(RenameError::Exists(shown(to)));
            }
            let id = by_name.remove(&from[..]).ok_or_else(|| RenameError::Unknown(shown(from)))?;
            if !to.is_empty() {
                by_name.insert(to[..].into(), id);
            }
        }
        Ok(Rows::named(commands, by_name))
    }

    fn named(commands: Vec<&'static Command>, by_name: ByName) -> Rows {
        let mut callable = vec![false; commands.len()];
        by_name.values().for_each(|id| callable[*id] = true);
        let calls = commands.iter().map(|_| CommandStats::default()).collect();
        let short_names = ShortNames::new(by_name.iter().map(|(name, id)| (&name[..], *id, commands[*id])));
        Rows { commands, by_name, short_names, callable, calls }
    }

    /// The same rows and names, with counters of their own.
    pub(crate) fn anew(&self) -> Rows {
        Rows::named(self.commands.clone(), self.by_name.clone())
    }

    /// The row at an index of the table.
    #[inline]
    pub(crate) fn command(&self, id: usize) -> &'static Command {
        self.commands[id]
    }

    /// The counters of the row at an index of the table.
    #[inline]
    pub(crate) fn stats(&self, id: usize) -> &CommandStats {
        &self.calls[id]
    }

    /// All rows, by index.
    pub(crate) fn each(&self) -> impl Iterator<Item = Row> + '_ {
        self.commands.iter().enumerate().map(|(id, command)| Row { id, command })
    }

    /// The row at an index, if there is one.
    pub(crate) fn get(&self, id: usize) -> Option<Row> {
        self.commands.get(id).map(|command| Row { id, command })
    }

    /// The rows that can be called.
    pub(crate) fn callable(&self) -> impl Iterator<Item = Row> + '_ {
        self.each().filter(|row| self.callable[row.id])
    }

    /// The row of a name, in any case.
    #[inline]
    pub(crate) fn lookup(&self, name: &[u8]) -> Option<Row> {
        match self.short_names.get(name) {
            Some((id, command)) => Some(Row { id, command }),
            None => self.lookup_any(name),
        }
    }

    /// A name that was given by a rename may have any length.
    #[cold]
    fn lookup_any(&self, name: &[u8]) -> Option<Row> {
        let by_name = &self.by_name;
        let mut lower = [0u8; 32];
        let id = match lower.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                *by_name.get(&*lower)?
            }
            None => by_name.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, id)| *id)?,
        };
        self.get(id)
    }

    /// The row registered by a name, in any case, whatever it is called now.
    pub(crate) fn lookup_original(&self, name: &[u8]) -> Option<Row> {
        self.each().find(|row| row.command.name.as_bytes().eq_ignore_ascii_case(name))
    }
}
