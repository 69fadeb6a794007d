//! A transaction fails where what it watched is not what it was, however it came to change; and only then.

use sluice_engine::internals::{Outcome, Request};
use sluice_engine::{Engine, Session};

const NOW: i64 = 1_700_000_000_000;

fn run(engine: &Engine, session: &mut Session, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let row = engine.lookup(words[0]).expect("a command");
    let mut out = Vec::new();
    let outcome = engine.call(session, row, Request { args: &words, raw: None }, &mut out);
    assert_eq!(outcome, Outcome::Done, "{line}");
    String::from_utf8_lossy(&out).into_owned()
}

/// What replaces or moves whole databases, with `after` as what stands in database 0 then.
fn replace(engine: &Engine, how: &str, after: &[&str]) {
    let command = |engine: &Engine, db: u32, line: &str| {
        let mut session = engine.session();
        (session.now_ms, session.from_primary, session.db) = (NOW, true, db);
        run(engine, &mut session, line);
    };
    let fill = |engine: &Engine, db: u32| after.iter().for_each(|line| command(engine, db, line));
    match how {
        "adopt" => {
            let other = engine.beside();
            fill(&other, 0);
            engine.adopt(other);
        }
        "swap" => {
            fill(engine, 1);
            command(engine, 0, "SWAPDB 1 0");
        }
        "clear and load" => {
            engine.clear();
            load(engine, after);
        }
        "flush" => {
            command(engine, 0, "FLUSHALL");
            fill(engine, 0);
        }
        _ => unreachable!("{how}"),
    }
}

/// Loads keys as a file or a full sync does.
fn load(engine: &Engine, lines: &[&str]) {
    let mut loader = engine.loader();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let expire = words.get(4).map(|at| at.parse().expect("a time"));
        assert!(loader.string(0, words[1].as_bytes(), words[2].as_bytes(), expire, 0));
    }
    loader.finish();
}

#[test]
fn exec_fails_where_a_key_appears_vanishes_or_is_another_and_nowhere_else() {
    let (live, due) = ("SET k v", "SET k v PXAT 1000");
    let cases: [(&[&str], &[&str], bool); 9] = [
        (&[], &[live], true),
        (&[live], &[], true),
        (&[live], &[live], true),
        (&[live], &[due], true),
        (&[due], &[live], true),
        // Nothing before and nothing after, as far as anyone can see.
        (&[], &[], false),
        (&[due], &[], false),
        (&[], &[due], false),
        (&[due], &[due], false),
    ];
    for how in ["adopt", "swap", "clear and load", "flush"] {
        for (before, after, fails) in cases {
            // A command that makes a key changes it, even where its time is up.
            if how == "flush" && after.contains(&due) {
                continue;
            }
            let engine = Engine::builder().shards(4).databases(2).build();
            let (mut session, mut primary) = (engine.session(), engine.session());
            (session.now_ms, primary.from_primary, primary.now_ms) = (NOW, true, NOW);
            before.iter().for_each(|line| drop(run(&engine, &mut primary, line)));
            run(&engine, &mut session, "WATCH k other");
            replace(&engine, how, after);
            run(&engine, &mut session, "MULTI");
            run(&engine, &mut session, "PING");
            let failed = run(&engine, &mut session, "EXEC") == "*-1\r\n";
            assert_eq!(failed, fails, "{how}: {before:?} -> {after:?}");
        }
    }
}

#[test]
fn that_an_expired_key_goes_is_no_change_to_who_found_it_expired() {
    let removals = ["GET k", "DEL k", "FLUSHDB", "SCAN 0"];
    for removal in removals {
        let engine = Engine::default();
        let (mut session, mut other) = (engine.session(), engine.session());
        (session.now_ms, other.now_ms) = (NOW, NOW);
        run(&engine, &mut other, "SET k v PXAT 1000");
        for then in ["", "SET k v"] {
            run(&engine, &mut session, "WATCH k");
            run(&engine, &mut other, removal);
            if !then.is_empty() {
                run(&engine, &mut other, then);
            }
            run(&engine, &mut session, "MULTI");
            let failed = run(&engine, &mut session, "EXEC") == "*-1\r\n";
            assert_eq!(failed, !then.is_empty(), "{removal} {then}");
        }
    }
}

#[test]
fn who_waits_for_a_key_is_served_by_a_dataset_that_has_it() {
    let engine = Engine::default();
    let mut session = engine.session();
    session.may_block = true;
    let words: [&[u8]; 3] = [b"BLPOP", b"k", b"0"];
    let row = engine.lookup(b"BLPOP").expect("a command");
    let request = Request { args: &words, raw: None };
    let outcome = engine.call(&mut session, row, request, &mut Vec::new());
    assert_eq!(outcome, Outcome::Blocked);
    let other = engine.beside();
    run(&other, &mut other.session(), "RPUSH k v");
    engine.adopt(other);
    let served = engine.unblock(&session.blocked.take().expect("it waits"));
    assert_eq!(served.as_deref(), Some(b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n".as_slice()));
}
