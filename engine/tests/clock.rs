//! A clock that is moved by hand moves the time of everything the engine does.

use sluice_engine::internals::{Outcome, Request};
use sluice_engine::{Engine, Expiry, ManualClock, ReplyValue, SetOptions, Ttl};
use std::time::Duration;

const START: i64 = 1_000_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

fn engine() -> (ManualClock, Engine) {
    let clock = ManualClock::at(START);
    let engine = Engine::builder().clock(clock.clone()).build();
    engine.log().activate();
    (clock, engine)
}

fn run(engine: &Engine, line: &str) -> ReplyValue {
    engine.execute(&line.split(' ').collect::<Vec<_>>()).expect("it is not refused")
}

fn int(engine: &Engine, line: &str) -> i64 {
    run(engine, line).as_int().expect("an integer")
}

fn log(engine: &Engine) -> String {
    let bytes = engine.log().reader(0).unwrap().read(usize::MAX).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split("\r\n").filter(|w| !w.starts_with(['*', '$'])).collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_give_and_tell_expiries_by_it() {
    let (clock, engine) = engine();
    for line in ["SET a 1 EX 3600", "SETEX b 3600 1", "SET c 1", "SET d 1 PX 3600000", "RPUSH l x"] {
        run(&engine, line);
    }
    run(&engine, "EXPIRE c 3600");
    run(&engine, "GETEX d EX 7200");
    run(&engine, "PEXPIRE l 3600000");
    assert!(log(&engine).contains(&format!("SET a 1 PXAT {}", START + 3_600_000)));
    clock.advance(HOUR / 2);
    assert_eq!(int(&engine, "TTL a"), 1_800);
    assert_eq!(int(&engine, "PTTL b"), 1_800_000);
    assert_eq!(int(&engine, "EXPIRETIME c"), (START + 3_600_000) / 1_000);
    assert_eq!(int(&engine, "OBJECT IDLETIME c"), 1_800);
    clock.advance(HOUR / 2);
    // One after another, so that each is found by its own command.
    assert_eq!(run(&engine, "GET a"), ReplyValue::Null);
    assert_eq!(int(&engine, "INCR b"), 1, "a write finds nothing");
    assert_eq!(int(&engine, "EXISTS c l"), 0);
    assert_eq!(int(&engine, "TTL d"), 3_600);
    for key in ["a", "b", "c", "l"] {
        assert!(log(&engine).contains(&format!(" DEL {key} ")), "{key}");
    }
    clock.set_ms(START);
    assert_eq!(int(&engine, "PTTL d"), 7_200_000);
}

#[test]
fn typed_calls_and_transactions_go_by_it() {
    let (clock, engine) = engine();
    let db = engine.db(0);
    let hour = SetOptions { expiry: Expiry::In(HOUR), ..Default::default() };
    db.set_with("a", "1", hour).unwrap();
    db.set_many(&[("b", "1"), ("c", "1")]).unwrap();
    assert!(db.expire("b", HOUR));
    engine.transaction(0, |db| assert!(db.expire("c", HOUR * 2)));
    assert_eq!(engine.now_ms(), START);
    clock.advance(HOUR);
    assert_eq!((db.ttl("a"), db.get("b"), db.ttl("c")), (Ttl::NoKey, Ok(None), Ttl::Left(HOUR)));
    let mut session = engine.session();
    let mut run = |line: &str| engine.execute_in(&mut session, &line.split(' ').collect::<Vec<_>>()).unwrap();
    run("WATCH c");
    clock.advance(HOUR);
    run("MULTI");
    run("EXISTS c");
    assert_eq!(run("EXEC"), ReplyValue::Null, "what was watched has expired");
}

#[test]
fn keys_that_nobody_asks_for_expire_by_it_on_a_primary_and_on_a_writable_replica() {
    let (clock, engine) = engine();
    engine.db(0).set("old", "1").unwrap();
    engine.db(0).expire("old", HOUR);
    assert_eq!(engine.expire_cycle(HOUR), 0);
    clock.advance(HOUR);
    assert_eq!(engine.expire_cycle(HOUR), 1);
    engine.set_replica(true);
    engine.db(0).set("own", "1").unwrap();
    engine.db(0).expire("own", HOUR);
    assert_eq!(engine.expire_own(HOUR), 0);
    clock.advance(HOUR);
    assert_eq!(engine.expire_own(HOUR), 1);
}

#[test]
fn an_engine_made_beside_another_has_its_clock() {
    let (clock, engine) = engine();
    let beside = engine.beside();
    clock.advance(HOUR);
    assert_eq!(beside.now_ms(), START + 3_600_000);
}

#[test]
fn who_waits_is_not_served_what_has_expired() {
    let (clock, engine) = engine();
    let mut session = engine.session();
    session.may_block = true;
    let args: [&[u8]; 3] = [b"BLPOP", b"list", b"0"];
    let row = engine.lookup(b"BLPOP").unwrap();
    let outcome = engine.call(&mut session, row, Request { args: &args, raw: None }, &mut Vec::new());
    assert_eq!(outcome, Outcome::Blocked);
    // Its time is up before those who wait are served.
    engine.transaction(0, |db| {
        db.rpush("list", &["a"]).unwrap();
        assert!(db.expire("list", HOUR));
        clock.advance(HOUR);
    });
    assert_eq!(engine.blocked(), 1);
    assert!(!engine.db(0).exists("list"));
}
