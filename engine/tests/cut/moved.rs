//! Huge values that get another name or database during a cut: they are not copied, and nothing of them is lost.

use crate::engine;
use crate::rebuild::Image;
use sluice_engine::{Engine, Step};

const MEMBERS: usize = 1_000;

fn run(engine: &Engine, line: &str) {
    engine.execute(&line.split(' ').collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{line}: {e}"));
}

fn filled() -> Engine {
    let engine = engine(4);
    engine.log().activate();
    for (command, key) in [("SADD", "set"), ("HSET", "hash"), ("ZADD", "zset")] {
        let mut args = vec![command.to_string(), key.to_string()];
        args.extend((0..2 * MEMBERS).map(|n| n.to_string()));
        if command == "SADD" {
            args.push("text".into());
        }
        engine.execute(&args).expect("a new key");
    }
    engine
}

/// Keys of all databases with their digests.
fn digests(engine: &Engine) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for db in 0..engine.databases() {
        for key in ["set", "hash", "zset", "other", "third"] {
            let read = |command: &str, rest: &[&str]| {
                let mut args = vec![command, key];
                args.extend(rest);
                let mut session = engine.session();
                session.db = db;
                let row = engine.lookup(command.as_bytes()).expect("a command");
                let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
                let mut out = Vec::new();
                let request = sluice_engine::internals::Request { args: &args, raw: None };
                engine.call(&mut session, row, request, &mut out);
                let mut lines: Vec<_> = out.split(|c| *c == b'\n').map(<[u8]>::to_vec).collect();
                lines.sort();
                lines.concat()
            };
            let all =
                [read("SMEMBERS", &[]), read("HGETALL", &[]), read("ZRANGE", &["0", "-1", "WITHSCORES"])];
            found.push((format!("{db} {key}"), format!("{:?}", all.map(|v| crc(&v)))));
        }
    }
    found
}

fn crc(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)))
}

#[test]
fn a_huge_value_that_moves_is_delivered_where_it_was_and_not_copied() {
    let moves: [&[&str]; 9] = [
        &["RENAME * other"],
        &["MOVE * 1"],
        &["RENAME * other", "RENAME other third", "RENAME third *"],
        &["RENAME * other", "MOVE other 2", "SWAPDB 1 2"],
        &["SWAPDB 0 1"],
        &["RENAME * other", "SET * new", "PEXPIREAT other 4102444800000"],
        &["RENAME * other", "DEL other"],
        &["RENAME * other", "SET other 1"],
        &["MOVE * 1", "SWAPDB 0 1", "FLUSHDB"],
    ];
    for key in ["set", "hash", "zset"] {
        for change in moves {
            for steps in [0, 20, 60] {
                let engine = filled();
                let before = digests(&engine);
                let mut cut = engine.begin_cut().expect("no other cut");
                let mut image = Image::new(&cut);
                for _ in 0..steps {
                    cut.step(&mut image, 300);
                    image.take_pending();
                }
                for line in change {
                    run(&engine, &line.replace('*', key));
                }
                let removed = change.iter().any(|line| line.contains("other 1") || line.contains("DEL"));
                // What is removed goes to the cut as it is; all else costs it nothing.
                let peak = cut.preimage_peak();
                let flushed = change.iter().any(|line| line.contains("FLUSH"));
                assert!(
                    removed || flushed || peak < 10_000,
                    "{key}, {change:?}, {steps} steps: {peak} bytes"
                );
                while cut.step(&mut image, 10_000) == Step::More {
                    image.take_pending();
                }
                image.check_complete();
                let context = format!("{key}, {change:?}, {steps} steps");
                assert_eq!(digests(image.load().engine()), before, "{context}");
            }
        }
    }
}

#[test]
fn writers_of_a_huge_value_that_moved_wait_for_the_cut_where_its_queue_is_full() {
    let engine = filled();
    engine.set_preimage_limit(100);
    let cut = engine.begin_cut().expect("no other cut");
    run(&engine, "RENAME set other");
    // What these remove is handed over, up to the limit.
    let mut session = engine.session();
    let mut outcomes = Vec::new();
    for n in 0..20 {
        let member = n.to_string();
        let args: [&[u8]; 3] = [b"SREM", b"other", member.as_bytes()];
        let row = engine.lookup(b"SREM").expect("a command");
        let request = sluice_engine::internals::Request { args: &args, raw: None };
        outcomes.push(engine.call(&mut session, row, request, &mut Vec::new()));
    }
    assert!(
        outcomes.contains(&sluice_engine::internals::Outcome::Done)
            && outcomes.contains(&sluice_engine::internals::Outcome::Stalled)
    );
    assert!(cut.preimage_peak() < 300, "{}", cut.preimage_peak());
}
