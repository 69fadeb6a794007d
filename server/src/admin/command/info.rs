//! COMMAND INFO: one row as Redis prints it.

use super::Named;
use sluice_engine::internals::{
    Flags,
    facts::{Begin, Find, Keys},
    resp::Reply,
};

/// The ACL categories of a command, those that follow from its flags included, in Redis' order.
fn categories(flags: Flags, extra: &str) -> Vec<&'static str> {
    let has = |name: &str| extra.split(' ').any(|c| c == name);
    crate::admin::acl::CATEGORIES
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

/// The same of a row: one that only holds subcommands has no flags and no categories of its own.
pub(super) fn categories_of(c: &Named) -> Vec<&'static str> {
    if c.is_container() {
        return categories(Flags::empty(), "");
    }
    categories(c.command.flags, c.command.categories)
}

/// First key, last key and step, as clients before key specs read them: the specs that are ranges at fixed places, as
/// far as they are one row of keys; zeroes where there are none.
fn legacy_range(keys: &[Keys]) -> (i64, i64, i64) {
    let fixed = |k: &Keys| match (k.begin, k.find) {
        (Begin::Index(first), Find::Range { last, step, .. }) => {
            let first = first as i64;
            Some((first, if last < 0 { last } else { first + last }, step as i64))
        }
        _ => None,
    };
    if let [only] = keys {
        return fixed(only).unwrap_or_default();
    }
    let mut whole: Option<(i64, i64, i64)> = None;
    for (first, last, step) in keys.iter().filter_map(fixed) {
        match whole {
            _ if step != 1 => return (0, 0, 0),
            None => whole = Some((first, last, 1)),
            Some((_, before, _)) if before + 1 != first => return (0, 0, 0),
            Some((begin, ..)) => whole = Some((begin, last, 1)),
        }
    }
    whole.unwrap_or_default()
}

pub(super) fn simple_set<'s>(items: impl Iterator<Item = &'s str>, prefix: &str, out: &mut Reply<'_>) {
    let items: Vec<_> = items.collect();
    out.set(items.len());
    items.iter().for_each(|item| out.simple(&format!("{prefix}{item}")));
}

pub(super) fn details(c: &Named, out: &mut Reply<'_>) {
    let flags = if c.is_container() { Flags::empty() } else { c.command.flags };
    let keys = &c.facts().keys;
    let (first, last, step) = legacy_range(keys);
    out.array(10);
    out.bulk(c.name.as_bytes());
    out.int(i64::from(c.command.arity));
    simple_set(flags.names(), "", out);
    [first, last, step].into_iter().for_each(|n| out.int(n));
    simple_set(categories_of(c).into_iter(), "@", out);
    let tips = &c.facts().tips;
    out.set(tips.len());
    tips.iter().for_each(|tip| out.bulk(tip.as_bytes()));
    out.set(keys.len());
    keys.iter().for_each(|k| key_spec(k, out));
    let subs = c.subcommands();
    if subs.len() == 0 {
        return out.set(0);
    }
    out.array(subs.len());
    subs.for_each(|sub| details(&sub, out));
}

fn key_spec(k: &Keys, out: &mut Reply<'_>) {
    out.map(3);
    out.bulk(b"flags");
    simple_set(k.access.iter().copied(), "", out);
    out.bulk(b"begin_search");
    match k.begin {
        Begin::Index(index) => search("index", None, &[("index", index as i64)], out),
        Begin::Keyword(word, from) => search("keyword", Some(word), &[("startfrom", from)], out),
        Begin::Unknown => search("unknown", None, &[], out),
    }
    out.bulk(b"find_keys");
    match k.find {
        Find::Range { last, step, limit } => {
            let spec = [("lastkey", last), ("keystep", step as i64), ("limit", limit as i64)];
            search("range", None, &spec, out);
        }
        Find::Counted { count, first, step } => {
            let spec = [("keynumidx", count as i64), ("firstkey", first as i64), ("keystep", step as i64)];
            search("keynum", None, &spec, out);
        }
        Find::Unknown => search("unknown", None, &[], out),
    }
}

/// One half of a key spec: its kind, the word it looks for if it does, and its numbers.
fn search(kind: &str, keyword: Option<&str>, numbers: &[(&str, i64)], out: &mut Reply<'_>) {
    out.map(2);
    out.bulk(b"type");
    out.bulk(kind.as_bytes());
    out.bulk(b"spec");
    out.map(numbers.len() + usize::from(keyword.is_some()));
    if let Some(word) = keyword {
        out.bulk(b"keyword");
        out.bulk(word.as_bytes());
    }
    for (name, value) in numbers {
        out.bulk(name.as_bytes());
        out.int(*value);
    }
}
