//! A session that is dropped leaves nothing behind.

use sluice_engine::internals::{Outcome, Request};
use sluice_engine::{Engine, ReplyValue, Session};

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn call(engine: &Engine, session: &mut Session, line: &str) -> Outcome {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let row = engine.lookup(args[0]).expect("a command");
    engine.call(session, row, Request { args: &args, raw: None }, &mut Vec::new())
}

#[test]
fn who_watches_is_forgotten_when_dropped() {
    let engine = Engine::default();
    let mut session = engine.session();
    for line in ["WATCH a b c", "MULTI", "SET a 1"] {
        engine.execute_in(&mut session, &words(line)).unwrap();
    }
    assert_eq!(engine.watched_keys(), 3);
    // Another that watches one of them stays.
    let mut other = engine.session();
    engine.execute_in(&mut other, &words("WATCH a")).unwrap();
    drop(session);
    assert_eq!(engine.watched_keys(), 1);
    assert!(!engine.db(0).exists("a"), "what was queued is not run");
    engine.db(0).set("a", "2").unwrap();
    engine.execute_in(&mut other, &["MULTI"]).unwrap();
    assert_eq!(engine.execute_in(&mut other, &["EXEC"]), Ok(ReplyValue::Null));
    assert_eq!(engine.watched_keys(), 0);
}

#[test]
fn who_waits_gives_up_its_place_when_dropped() {
    let engine = Engine::default();
    let (mut first, mut second) = (engine.session(), engine.session());
    for session in [&mut first, &mut second] {
        session.may_block = true;
        assert_eq!(call(&engine, session, "BLPOP list other 0"), Outcome::Blocked);
    }
    assert_eq!(engine.blocked(), 2);
    drop(first);
    assert_eq!(engine.blocked(), 1);
    engine.db(0).rpush("list", &["job"]).unwrap();
    let served = engine.unblock(second.blocked.as_ref().expect("it waits")).expect("the next one gets it");
    assert!(served.ends_with(b"job\r\n"));
    assert_eq!(engine.blocked(), 0);
    // One that was taken out of its session gives up its place by itself, and so does one whose place another takes.
    for _ in 0..2 {
        assert_eq!(call(&engine, &mut second, "BLPOP list 0"), Outcome::Blocked);
        assert_eq!(engine.blocked(), 1);
    }
    drop(second.blocked.take());
    assert_eq!(engine.blocked(), 0);
    engine.db(0).rpush("list", &["left"]).unwrap();
    assert_eq!(engine.db(0).llen("list"), Ok(1));
}

#[test]
fn a_session_that_goes_to_another_engine_forgets_what_it_watched_in_the_first() {
    let (one, two) = (Engine::default(), Engine::default());
    let mut session = one.session();
    one.execute_in(&mut session, &words("WATCH a b")).unwrap();
    two.execute_in(&mut session, &words("WATCH c")).unwrap();
    assert_eq!((one.watched_keys(), two.watched_keys()), (0, 1));
    drop(session);
    assert_eq!(two.watched_keys(), 0);
}

#[test]
fn a_block_that_waits_for_a_cut_s_room_is_given_up_with_its_session() {
    let engine = Engine::default();
    engine.set_preimage_limit(1);
    engine.db(0).set_many(&[("k", "old"), ("j", "old")]).unwrap();
    let _cut = engine.begin_cut().unwrap();
    engine.db(0).set("j", "new").unwrap();
    let mut session = engine.session();
    call(&engine, &mut session, "WATCH other");
    call(&engine, &mut session, "MULTI");
    call(&engine, &mut session, "SET k new");
    assert_eq!(call(&engine, &mut session, "EXEC"), Outcome::Stalled);
    assert_eq!(engine.watched_keys(), 1);
    drop(session);
    assert_eq!(engine.watched_keys(), 0);
    assert_eq!(engine.db(0).get("k").unwrap().as_deref(), Some(b"old".as_slice()));
}
