//! What the server tells of its commands, beside a real redis-server: every fact the same, every sentence our own.

use sluice_tests::{Client, Reply, Server, peers_here};
use std::collections::BTreeSet;

/// Fields of COMMAND INFO and COMMAND DOCS that are prose: ours is ours. The formulas of `complexity` are facts, the
/// words around them are not.
const PROSE: [&str; 4] = ["summary", "complexity", "history", "notes"];
/// Commands of later servers: there is nothing to compare them with.
const LATER: [&str; 1] = ["waitaof"];

/// A reply with sets and maps sorted and without prose.
fn facts(reply: &Reply) -> String {
    match reply {
        Reply::Map(pairs) => {
            let pairs = pairs.chunks(2).filter(|p| !PROSE.contains(&p[0].text().as_str()));
            let sorted: BTreeSet<String> =
                pairs.map(|p| format!("{}: {}", p[0].text(), facts(&p[1]))).collect();
            format!("{{{}}}", sorted.into_iter().collect::<Vec<_>>().join(", "))
        }
        Reply::Set(items) => sorted(items),
        // Subcommands come in no order.
        Reply::Array(items) if items.iter().all(|i| matches!(i, Reply::Array(_))) => sorted(items),
        Reply::Array(items) => {
            let items: Vec<String> = items.iter().map(facts).collect();
            format!("[{}]", items.join(", "))
        }
        Reply::Nil => "nil".into(),
        other => other.text(),
    }
}

fn sorted(items: &[Reply]) -> String {
    let items: BTreeSet<String> = items.iter().map(facts).collect();
    format!("({})", items.into_iter().collect::<Vec<_>>().join(", "))
}

fn pair() -> Option<(Server, Server)> {
    peers_here(&["redis-server"]).then(|| (Server::sluice(""), Server::redis("")))
}

fn resp3(server: &Server) -> Client {
    let mut client = server.client();
    client.say("HELLO 3");
    client
}

/// The names of all commands and subcommands that can be compared.
fn names(client: &mut Client) -> Vec<String> {
    let list = client.ask("COMMAND LIST");
    list.items().iter().map(Reply::text).filter(|n| !LATER.contains(&n.as_str())).collect()
}

#[test]
fn command_info_and_docs_hold_the_facts_that_redis_tells() {
    let Some((sluice, redis)) = pair() else { return };
    let (mut ours, mut theirs) = (resp3(&sluice), resp3(&redis));
    let mut differ = Vec::new();
    for name in names(&mut ours) {
        for what in ["INFO", "DOCS"] {
            let line = format!("COMMAND {what} {name}");
            let (a, b) = (facts(&ours.ask(&line)), facts(&theirs.ask(&line)));
            // On purpose: inside MULTI it would break the frame of EXEC's reply, so it is refused there.
            let a = a.replace("client|reply, 3, (loading, no_multi, ", "client|reply, 3, (loading, ");
            if a != b {
                differ.push(format!("{line}\n   ours {a}\n  redis {b}"));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn command_list_names_what_redis_names_and_no_more() {
    let Some((sluice, redis)) = pair() else { return };
    let (mut ours, mut theirs) = (resp3(&sluice), resp3(&redis));
    let all: BTreeSet<String> = names(&mut theirs).into_iter().collect();
    let mine: BTreeSet<String> = names(&mut ours).into_iter().collect();
    let unknown: Vec<_> = mine.difference(&all).collect();
    assert!(unknown.is_empty(), "not in Redis: {unknown:?}");
    // Of a command that is there every subcommand is.
    let missing: Vec<_> = all
        .difference(&mine)
        .filter(|n| n.split_once('|').is_some_and(|(command, _)| mine.contains(command)))
        .collect();
    assert!(missing.is_empty(), "subcommands that are missing: {missing:?}");
    for filter in
        ["PATTERN z*", "PATTERN *|get", "ACLCAT hash", "ACLCAT dangerous", "ACLCAT none", "MODULE m"]
    {
        let line = format!("COMMAND LIST FILTERBY {filter}");
        let set = |reply: &Reply| reply.items().iter().map(Reply::text).collect::<BTreeSet<String>>();
        let theirs: BTreeSet<String> = set(&theirs.ask(&line)).intersection(&mine).cloned().collect();
        let ours: BTreeSet<String> =
            set(&ours.ask(&line)).into_iter().filter(|n| !LATER.contains(&n.as_str())).collect();
        assert_eq!(ours, theirs, "{line}");
    }
}

#[test]
fn keys_and_their_access_are_those_that_redis_finds() {
    let Some((sluice, redis)) = pair() else { return };
    let (mut ours, mut theirs) = (resp3(&sluice), resp3(&redis));
    let mut lines: Vec<String> = [
        "set k v",
        "set k v get",
        "set k v ex 5 GET",
        "sort k",
        "sort k by w_* get o_* store to",
        "sort k store a store b",
        "sort_ro k by w",
        "zunionstore to 2 a b",
        "zunionstore to 3 a b",
        "zunionstore to 0 a b",
        "zunionstore to x a b",
        "blmpop 0 2 a b left",
        "lmpop 1 a left",
        "zmpop 1 a min",
        "sintercard 2 a b",
        "migrate host 1 k 0 5",
        "migrate host 1 k 0 5 copy",
        "object encoding k",
        "object help",
        "memory usage k",
        "memory doctor",
        "config get x",
        "ping",
        "get",
        "nosuch k",
        "mset a 1 b 2",
        "mset a 1 b",
        "msetnx a 1 b 2",
        "rename a b",
        "copy a b replace",
        "zrangestore to from 0 1",
        "pfcount a b",
        "pfmerge to a b",
        "lcs a b",
        "brpoplpush a b 0",
        "restore k 0 payload",
        "watch a b",
    ]
    .map(str::to_owned)
    .into();
    // Every command with as few words as it takes, and with more.
    for name in names(&mut ours) {
        let info = ours.ask(&format!("COMMAND INFO {name}"));
        let arity = info.items()[0].items()[1].int().unsigned_abs() as usize;
        let command = name.replace('|', " ");
        for more in [0, 1, 2] {
            let given = command.split(' ').count();
            let words: Vec<String> = (given..arity + more).map(|i| format!("w{i}")).collect();
            lines.push(format!("{command} {}", words.join(" ")));
        }
    }
    for line in &lines {
        for what in ["GETKEYS", "GETKEYSANDFLAGS"] {
            let ask = format!("COMMAND {what} {line}");
            assert_eq!(whole(&ours.ask(&ask)), whole(&theirs.ask(&ask)), "{ask}");
        }
    }
}

/// A reply in its order, only sets sorted.
fn whole(reply: &Reply) -> String {
    match reply {
        Reply::Array(items) => format!("[{}]", items.iter().map(whole).collect::<Vec<_>>().join(", ")),
        Reply::Set(items) => sorted(items),
        other => other.text(),
    }
}

#[test]
fn no_sentence_about_a_command_is_borrowed() {
    let Some((sluice, redis)) = pair() else { return };
    let (mut ours, mut theirs) = (resp3(&sluice), resp3(&redis));
    let mut borrowed = Vec::new();
    for name in names(&mut ours) {
        let line = format!("COMMAND DOCS {name}");
        let (a, b) = (ours.ask(&line), theirs.ask(&line));
        for field in ["summary", "history"] {
            let (a, b) = (sentences(&a, field), sentences(&b, field));
            borrowed.extend(a.intersection(&b).map(|s| format!("{name}: {s}")));
            assert!(field != "summary" || a.iter().all(|s| s.len() > 5), "{name} has no summary");
        }
    }
    assert!(borrowed.is_empty(), "{borrowed:#?}");
}

/// The sentences of a field of DOCS, without case and full stops.
fn sentences(docs: &Reply, field: &str) -> BTreeSet<String> {
    let fields = docs.items()[1].items();
    let value = fields.chunks(2).find(|p| p[0].text() == field).map(|p| &p[1]);
    let texts = match value {
        Some(Reply::Bulk(bytes)) => vec![String::from_utf8_lossy(bytes).into_owned()],
        Some(history) => history.items().iter().map(|entry| entry.items()[1].text()).collect(),
        None => Vec::new(),
    };
    texts.into_iter().map(|t| t.trim_end_matches('.').to_lowercase()).collect()
}
