//! COMMAND DOCS: what people, and the hints of redis-cli, read of a command.

use super::Named;
use sluice_engine::internals::{
    facts::{Argument, Facts},
    resp::Reply,
};

pub(super) fn docs(c: &Named, out: &mut Reply<'_>) {
    let (row, facts) = (c.command, c.facts());
    let subs = c.subcommands();
    let fields = 3
        + usize::from(facts.complexity.is_some())
        + usize::from(facts.is_marked())
        + 2 * usize::from(facts.deprecated.is_some())
        + usize::from(!facts.history.is_empty())
        + usize::from(!facts.arguments.is_empty())
        + usize::from(subs.len() > 0);
    out.bulk(c.name.as_bytes());
    out.map(fields);
    for (name, value) in [("summary", row.summary), ("since", row.since), ("group", row.group)] {
        text(name, value, out);
    }
    if let Some(complexity) = facts.complexity {
        text("complexity", complexity, out);
    }
    if facts.is_marked() {
        out.bulk(b"doc_flags");
        let deprecated = facts.deprecated.map(|_| "deprecated");
        super::info::simple_set(deprecated.into_iter().chain(facts.system.then_some("syscmd")), "", out);
    }
    if let Some((since, by)) = facts.deprecated {
        text("deprecated_since", since, out);
        text("replaced_by", by, out);
    }
    if !facts.history.is_empty() {
        history(facts, out);
    }
    if !facts.arguments.is_empty() {
        out.bulk(b"arguments");
        arguments(&facts.arguments, out);
    }
    if subs.len() > 0 {
        out.bulk(b"subcommands");
        out.map(subs.len());
        subs.for_each(|sub| docs(&sub, out));
    }
}

fn text(name: &str, value: &str, out: &mut Reply<'_>) {
    out.bulk(name.as_bytes());
    out.bulk(value.as_bytes());
}

/// What came in a version is told by the arguments that are known since then.
fn history(facts: &Facts, out: &mut Reply<'_>) {
    out.bulk(b"history");
    out.set(facts.history.len());
    for version in &facts.history {
        let mut added = Vec::new();
        added_in(version, &facts.arguments, &mut added);
        out.array(2);
        out.bulk(version.as_bytes());
        let change =
            if added.is_empty() { "Changed.".into() } else { format!("Came with it: {}.", added.join(", ")) };
        out.bulk(change.as_bytes());
    }
}

fn added_in(version: &str, arguments: &[Argument], added: &mut Vec<&'static str>) {
    for a in arguments {
        if a.since == Some(version) {
            added.push(a.token.unwrap_or(a.name));
        }
        added_in(version, &a.inner, added);
    }
}

/// Arguments inside arguments: as deep as our own text nests them.
fn arguments(all: &[Argument], out: &mut Reply<'_>) {
    out.array(all.len());
    for a in all {
        let optional = [("token", a.token), ("since", a.since), ("deprecated_since", a.deprecated)];
        let fields = 2
            + usize::from(a.key.is_some())
            + optional.iter().filter(|(_, value)| value.is_some()).count()
            + usize::from(!a.flags.is_empty())
            + usize::from(!a.inner.is_empty());
        out.map(fields);
        text("name", a.name, out);
        text("type", a.kind, out);
        if let Some(key) = a.key {
            out.bulk(b"key_spec_index");
            out.int(key);
        }
        for (name, value) in optional {
            if let Some(value) = value {
                text(name, value, out);
            }
        }
        if !a.flags.is_empty() {
            out.bulk(b"flags");
            super::info::simple_set(a.flags.iter().copied(), "", out);
        }
        if !a.inner.is_empty() {
            out.bulk(b"arguments");
            arguments(&a.inner, out);
        }
    }
}
