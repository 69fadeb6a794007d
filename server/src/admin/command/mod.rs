//! COMMAND: the command table as clients read it. [`info`] prints rows, [`docs`] what people read of them.

mod docs;
mod info;

use sluice_engine::Engine;
use sluice_engine::internals::{
    CmdError, CmdResult, Command, KeySpec, Row,
    facts::{Facts, facts},
    glob_match,
    resp::Reply,
};

use super::{help, lower};
use crate::commands::{Call, Flow, Handled};

/// A command or a subcommand, by the name clients know it by: `get`, `client|kill`.
struct Named {
    name: String,
    command: &'static Command,
}

impl Named {
    fn of(command: &'static Command) -> Named {
        Named { name: command.name.to_owned(), command }
    }

    fn subcommands(&self) -> impl ExactSizeIterator<Item = Named> {
        let of = self.name.clone();
        self.command
            .subcommands
            .iter()
            .map(move |sub| Named { name: format!("{of}|{}", sub.name), command: sub })
    }

    fn facts(&self) -> &'static Facts {
        static NONE: std::sync::LazyLock<Facts> = std::sync::LazyLock::new(Facts::default);
        facts(&self.name).unwrap_or(&NONE)
    }

    /// A command that does nothing but hold subcommands. COMMAND works by itself too.
    fn is_container(&self) -> bool {
        !self.command.subcommands.is_empty() && self.command.arity != -1
    }
}

fn find(engine: &Engine, name: &[u8]) -> Option<Named> {
    let Some(bar) = name.iter().position(|c| *c == b'|') else {
        return engine.lookup(name).map(|row| Named::of(row.command));
    };
    let whole = Named::of(engine.lookup(&name[..bar])?.command);
    let sub = whole.command.subcommand(&name[bar + 1..])?;
    Some(Named { name: format!("{}|{}", whole.name, sub.name), command: sub })
}

pub(super) fn run(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let engine = &conn.server.engine;
    let all = || engine.commands().map(|row: Row| Named::of(row.command)).collect::<Vec<_>>();
    let named = |names: &[&[u8]]| names.iter().map(|n| find(engine, n)).collect::<Vec<_>>();
    let Some(subcommand) = args.get(1) else {
        let rows = all();
        out.array(rows.len());
        rows.iter().for_each(|row| info::details(row, out));
        return Ok(Flow::Next);
    };
    match lower(subcommand).as_slice() {
        b"count" => out.int(all().len() as i64),
        b"info" => {
            let rows =
                if args.len() == 2 { all().into_iter().map(Some).collect() } else { named(&args[2..]) };
            out.array(rows.len());
            for row in rows {
                match row {
                    Some(row) => info::details(&row, out),
                    None => out.null_array(),
                }
            }
        }
        b"docs" => {
            let rows =
                if args.len() == 2 { all() } else { named(&args[2..]).into_iter().flatten().collect() };
            out.map(rows.len());
            rows.iter().for_each(|row| docs::docs(row, out));
        }
        b"list" => list(all(), &args[2..], out)?,
        b"getkeys" => {
            let keys = keys_of(engine, &args[2..])?;
            out.array(keys.len());
            keys.iter().for_each(|(key, _)| out.bulk(key));
        }
        b"getkeysandflags" => {
            let keys = keys_of(engine, &args[2..])?;
            out.array(keys.len());
            for (key, access) in keys {
                out.array(2);
                out.bulk(key);
                info::simple_set(access.iter().copied(), "", out);
            }
        }
        _ => help("COMMAND", HELP, out),
    }
    Ok(Flow::Next)
}

/// The names of all commands and subcommands of an ACL category.
pub(super) fn in_category(engine: &Engine, category: &str) -> Vec<String> {
    let rows = engine.commands().map(|row| Named::of(row.command));
    with_subcommands(rows).filter(|c| info::categories_of(c).contains(&category)).map(|c| c.name).collect()
}

fn with_subcommands(rows: impl Iterator<Item = Named>) -> impl Iterator<Item = Named> {
    rows.flat_map(|row| {
        let subs: Vec<Named> = row.subcommands().collect();
        std::iter::once(row).chain(subs)
    })
}

fn list(rows: Vec<Named>, filter: &[&[u8]], out: &mut Reply<'_>) -> CmdResult {
    let keep: Box<dyn Fn(&Named) -> bool> = match filter {
        [] => Box::new(|_| true),
        [by, kind, value] if by.eq_ignore_ascii_case(b"filterby") => match lower(kind).as_slice() {
            b"module" => Box::new(|_| false),
            b"aclcat" => {
                let category = String::from_utf8_lossy(&lower(value)).into_owned();
                Box::new(move |c| info::categories_of(c).contains(&category.as_str()))
            }
            b"pattern" => {
                let pattern = value.to_vec();
                Box::new(move |c| glob_match(&pattern, c.name.as_bytes(), true))
            }
            _ => return Err(CmdError::Syntax),
        },
        _ => return Err(CmdError::Syntax),
    };
    let names: Vec<_> = with_subcommands(rows.into_iter()).filter(|c| keep(c)).map(|c| c.name).collect();
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name.as_bytes()));
    Ok(())
}

/// A key among the arguments, and how the command uses it.
type UsedKey<'a> = (&'a [u8], Vec<&'static str>);

/// The keys of a command line, in the order of their specs.
fn keys_of<'a>(engine: &Engine, args: &[&'a [u8]]) -> Result<Vec<UsedKey<'a>>, CmdError> {
    const UNKNOWN: CmdError = CmdError::text("ERR Invalid command specified");
    let row = engine.lookup(args[0]).ok_or(UNKNOWN)?;
    let named = match args.get(1) {
        Some(word) if !row.command.subcommands.is_empty() => {
            let sub = row.command.subcommand(word).ok_or(UNKNOWN)?;
            Named { name: format!("{}|{}", row.command.name, sub.name), command: sub }
        }
        _ => Named::of(row.command),
    };
    let (command, facts) = (named.command, named.facts());
    if matches!(command.keys, KeySpec::None) || named.is_container() {
        return Err(CmdError::text("ERR The command has no key arguments"));
    }
    if !command.arity_ok(args.len()) {
        return Err(CmdError::text("ERR Invalid number of arguments specified for command"));
    }
    let mut keys: Vec<(usize, Vec<&'static str>)> = Vec::new();
    for spec in facts.keys.iter().filter(|k| k.is_complete() && k.is_key()) {
        let Some(found) = spec.positions(args) else { return Err(INVALID_ARGUMENTS) };
        keys.extend(found.into_iter().map(|at| (at, spec.access_of(args).to_vec())));
    }
    // What specs cannot tell the row can: the keys that are left are of the last spec that is not complete.
    if let Some(spec) = facts.keys.iter().rfind(|k| !k.is_complete()) {
        let mut rest = Vec::new();
        command.keys.each(args, |at| rest.push(at));
        keys.retain(|(at, _)| rest.contains(at));
        for at in rest {
            if !keys.iter().any(|(known, _)| *known == at) {
                keys.push((at, spec.access.clone()));
            }
        }
    }
    keys.iter_mut().for_each(|(_, access)| access.retain(|word| !HIDDEN.contains(word)));
    if keys.is_empty() {
        return Err(INVALID_ARGUMENTS);
    }
    Ok(keys.into_iter().map(|(at, access)| (args[at], access)).collect())
}

const INVALID_ARGUMENTS: CmdError = CmdError::text("ERR Invalid arguments specified for command");

/// What a spec says of itself, and not of a key.
const HIDDEN: [&str; 2] = ["incomplete", "variable_flags"];

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Facts about every command.",
    "COUNT",
    "    How many commands there are.",
    "LIST [FILTERBY (MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    The names of the commands and subcommands.",
    "INFO [<command-name> ...]",
    "    Facts about these commands, or about all.",
    "DOCS [<command-name> ...]",
    "    Documentation of these commands, or of all.",
    "GETKEYS <full-command>",
    "    The keys among the arguments.",
    "GETKEYSANDFLAGS <full-command>",
    "    The keys among the arguments, and how the command uses them.",
];
