//! COMMAND: the command table as clients read it.

use sluice_engine::Row;
use sluice_engine::command::{CmdError, CmdResult, Command, Flags, KeySpec};
use sluice_engine::glob::glob_match;
use sluice_engine::resp::Reply;

use super::rows::{Subcommand, subcommands};
use super::{Handled, help, lower};
use crate::client::conn::Conn;
use crate::commands::Flow;

pub(super) fn run(conn: &mut Conn, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let engine = &conn.server.engine;
    let all = || engine.commands().collect::<Vec<Row>>();
    let named = |names: &[&[u8]]| names.iter().map(|n| engine.lookup(n)).collect::<Vec<_>>();
    let Some(subcommand) = args.get(1) else {
        let rows = all();
        out.array(rows.len());
        rows.iter().for_each(|row| details(row.command, out));
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
                    Some(row) => details(row.command, out),
                    None => out.null_array(),
                }
            }
        }
        b"docs" => {
            let rows =
                if args.len() == 2 { all() } else { named(&args[2..]).into_iter().flatten().collect() };
            out.map(rows.len());
            rows.iter().for_each(|row| docs(row.command, out));
        }
        b"list" => list(&all(), &args[2..], out)?,
        b"getkeys" => {
            let keys = keys_of(conn, &args[2..])?;
            out.array(keys.len());
            keys.iter().for_each(|(key, _)| out.bulk(key));
        }
        b"getkeysandflags" => {
            let keys = keys_of(conn, &args[2..])?;
            out.array(keys.len());
            for (key, command) in keys {
                out.array(2);
                out.bulk(key);
                key_flags(command.flags, out);
            }
        }
        _ => help("COMMAND", HELP, out),
    }
    Ok(Flow::Next)
}

fn list(rows: &[Row], filter: &[&[u8]], out: &mut Reply<'_>) -> CmdResult {
    let keep: Box<dyn Fn(&Command) -> bool> = match filter {
        [] => Box::new(|_| true),
        [by, kind, value] if by.eq_ignore_ascii_case(b"filterby") => match lower(kind).as_slice() {
            b"module" => Box::new(|_| false),
            b"aclcat" => {
                let category = String::from_utf8_lossy(&lower(value)).into_owned();
                Box::new(move |c| categories(c.flags, c.categories).contains(&category.as_str()))
            }
            b"pattern" => {
                let pattern = value.to_vec();
                Box::new(move |c| glob_match(&pattern, c.name.as_bytes(), true))
            }
            _ => return Err(CmdError::SYNTAX),
        },
        _ => return Err(CmdError::SYNTAX),
    };
    let names: Vec<_> = rows.iter().map(|row| row.command).filter(|c| keep(c)).map(|c| c.name).collect();
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name.as_bytes()));
    Ok(())
}

fn keys_of<'a>(conn: &Conn, args: &[&'a [u8]]) -> Result<Vec<(&'a [u8], &'static Command)>, CmdError> {
    let row = conn.server.engine.lookup(args[0]).ok_or(CmdError::text("ERR Invalid command specified"))?;
    if matches!(row.command.keys, KeySpec::None) {
        return Err(CmdError::text("ERR The command has no key arguments"));
    }
    if !row.command.arity_ok(args.len()) {
        return Err(CmdError::text("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    row.command.keys.each(args, |at| keys.push((args[at], row.command)));
    if keys.is_empty() {
        return Err(CmdError::text("ERR Invalid arguments specified for command"));
    }
    Ok(keys)
}

/// The ACL categories of a command, those that follow from its flags included, in Redis' order.
pub(super) fn categories(flags: Flags, extra: &str) -> Vec<&'static str> {
    let has = |name: &str| extra.split(' ').any(|c| c == name);
    super::acl::CATEGORIES
        .iter()
        .copied()
        .filter(|name| match *name {
            "write" => flags.contains(Flags::WRITE) || has(name),
            "read" => flags.contains(Flags::READONLY) || has(name),
            "admin" | "dangerous" => flags.contains(Flags::ADMIN) || has(name),
            "pubsub" => flags.contains(Flags::PUBSUB) || has(name),
            "blocking" => flags.contains(Flags::BLOCKING) || has(name),
            "fast" => flags.contains(Flags::FAST),
            "slow" => !flags.contains(Flags::FAST),
            _ => has(name),
        })
        .collect()
}

/// First key, last key and step, as clients before key specs read them; zeroes where they cannot tell.
fn legacy_range(keys: &KeySpec) -> (i64, i64, i64) {
    match *keys {
        KeySpec::Range { first, last, step } => (first as i64, i64::from(last), step as i64),
        KeySpec::Counted { also, .. } if also != 0 => (also as i64, also as i64, 1),
        KeySpec::Counted { .. } | KeySpec::Custom(_) | KeySpec::None => (0, 0, 0),
    }
}

fn simple_set<'s>(items: impl Iterator<Item = &'s str>, prefix: &str, out: &mut Reply<'_>) {
    let items: Vec<_> = items.collect();
    out.set(items.len());
    items.iter().for_each(|item| out.simple(&format!("{prefix}{item}")));
}

fn details(c: &Command, out: &mut Reply<'_>) {
    let subs = subcommands(c.name);
    // Commands that only hold subcommands have no flags of their own; COMMAND works by itself too.
    let (flags, container) =
        if subs.is_empty() || c.name == "command" { (c.flags, false) } else { (Flags::empty(), true) };
    let (first, last, step) = if container { (0, 0, 0) } else { legacy_range(&c.keys) };
    out.array(10);
    out.bulk(c.name.as_bytes());
    out.int(i64::from(c.arity));
    simple_set(flags.names(), "", out);
    [first, last, step].into_iter().for_each(|n| out.int(n));
    let extra = if container { "" } else { c.categories };
    simple_set(categories(flags, extra).into_iter(), "@", out);
    out.set(0);
    key_specs(flags, if container { &KeySpec::None } else { &c.keys }, out);
    if subs.is_empty() {
        out.set(0);
    } else {
        out.array(subs.len());
    }
    subs.iter().for_each(|sub| subcommand(c, sub, out));
}

fn subcommand(of: &Command, sub: &Subcommand, out: &mut Reply<'_>) {
    let keyed = sub.flags.contains(Flags::READONLY);
    let at = i64::from(keyed) * 2;
    out.array(10);
    out.bulk(format!("{}|{}", of.name, sub.name).as_bytes());
    out.int(i64::from(sub.arity));
    simple_set(sub.flags.names(), "", out);
    [at, at, i64::from(keyed)].into_iter().for_each(|n| out.int(n));
    simple_set(categories(sub.flags, of.categories).into_iter(), "@", out);
    out.set(0);
    let spec = if keyed { KeySpec::Range { first: 2, last: 2, step: 1 } } else { KeySpec::None };
    key_specs(sub.flags, &spec, out);
    out.set(0);
}

/// What a command does to its keys, as far as its flags tell.
fn key_flags(flags: Flags, out: &mut Reply<'_>) {
    let words = match flags {
        _ if flags.contains(Flags::WRITE) => ["RW", "update"],
        // A read that may change its key beside (PFCOUNT).
        _ if flags.contains(Flags::MAY_REPLICATE) => ["RW", "access"],
        _ => ["RO", "access"],
    };
    simple_set(words.into_iter(), "", out);
}

fn key_specs(flags: Flags, keys: &KeySpec, out: &mut Reply<'_>) {
    match *keys {
        KeySpec::None => out.set(0),
        KeySpec::Range { first, last, step } => {
            out.set(1);
            // The last key is told relative to the first, or to the end.
            let last = if last < 0 { i64::from(last) } else { i64::from(last) - first as i64 };
            key_spec(
                flags,
                first,
                "range",
                &[("lastkey", last), ("keystep", step as i64), ("limit", 0)],
                out,
            );
        }
        KeySpec::Counted { at, also } => {
            out.set(1 + usize::from(also != 0));
            if also != 0 {
                key_spec(flags, also, "range", &[("lastkey", 0), ("keystep", 1), ("limit", 0)], out);
            }
            key_spec(
                Flags::READONLY,
                at,
                "keynum",
                &[("keynumidx", 0), ("firstkey", 1), ("keystep", 1)],
                out,
            );
        }
        KeySpec::Custom(_) => {
            out.set(1);
            out.map(3);
            out.bulk(b"flags");
            key_flags(flags, out);
            for part in ["begin_search", "find_keys"] {
                out.bulk(part.as_bytes());
                out.map(2);
                out.bulk(b"type");
                out.bulk(b"unknown");
                out.bulk(b"spec");
                out.map(0);
            }
        }
    }
}

fn key_spec(flags: Flags, index: usize, find: &str, spec: &[(&str, i64)], out: &mut Reply<'_>) {
    out.map(3);
    out.bulk(b"flags");
    key_flags(flags, out);
    let mut part = |name: &str, kind: &str, spec: &[(&str, i64)]| {
        out.bulk(name.as_bytes());
        out.map(2);
        out.bulk(b"type");
        out.bulk(kind.as_bytes());
        out.bulk(b"spec");
        out.map(spec.len());
        for (name, value) in spec {
            out.bulk(name.as_bytes());
            out.int(*value);
        }
    };
    part("begin_search", "index", &[("index", index as i64)]);
    part("find_keys", find, spec);
}

fn docs(c: &Command, out: &mut Reply<'_>) {
    let subs = subcommands(c.name);
    out.bulk(c.name.as_bytes());
    out.map(3 + usize::from(!subs.is_empty()));
    for (name, value) in [("summary", c.summary), ("since", c.since), ("group", c.group)] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    if !subs.is_empty() {
        out.bulk(b"subcommands");
        out.map(subs.len());
        for sub in subs {
            out.bulk(format!("{}|{}", c.name, sub.name).as_bytes());
            out.map(1);
            out.bulk(b"group");
            out.bulk(c.group.as_bytes());
        }
    }
}

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full Redis command.",
];
