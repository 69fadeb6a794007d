//! The typed API beside commands: same values, same log.

use sluice_engine::internals::{Outcome, Request};
use sluice_engine::{
    CutSink, Element, Engine, EntryMeta, Error, Expiry, HugeKind, Only, ReplyValue, SetOptions, Step, Ttl,
    ValueView,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn logged(engine: &Engine, from: u64) -> String {
    let bytes = engine.log().reader(from).unwrap().read(usize::MAX).unwrap();
    let words = String::from_utf8_lossy(&bytes).into_owned();
    let words = words.split("\r\n").filter(|w| !w.starts_with(['*', '$']));
    words.collect::<Vec<_>>().join(" ").trim().to_owned()
}

fn recording() -> Engine {
    let engine = Engine::default();
    engine.log().activate();
    engine
}

#[test]
fn typed_calls_log_what_commands_would() {
    let engine = recording();
    let db = engine.db(0);
    db.set_with("k", "1", SetOptions { expiry: Expiry::At(4_000_000_000_000), only: Only::Always }).unwrap();
    db.incr_by("k", 2).unwrap();
    db.zincr_by("z", 1.5, "m").unwrap();
    db.sadd("s", &["only"]).unwrap();
    db.spop("s").unwrap();
    db.expire_at("k", 1);
    assert_eq!(
        logged(&engine, 0),
        "SELECT 0 SET k 1 PXAT 4000000000000 INCRBY k 2 ZADD z 1.5 m SADD s only SREM s only DEL k"
    );
}

#[test]
fn calls_that_change_nothing_log_nothing() {
    let engine = recording();
    let db = engine.db(0);
    assert_eq!(db.del(&["none"]), 0);
    assert_eq!(db.lpop("none"), Ok(None));
    assert_eq!(db.hdel("none", &["f"]), Ok(0));
    assert!(!db.expire("none", Duration::from_secs(1)));
    assert!(!db.set_with("none", "v", SetOptions { only: Only::IfPresent, ..Default::default() }).unwrap());
    assert_eq!(engine.log().end(), 0);
}

#[test]
fn refusals_change_nothing() {
    let engine = recording();
    let db = engine.db(0);
    db.set("text", "abc").unwrap();
    db.set("number", i64::MAX.to_string()).unwrap();
    let end = engine.log().end();
    assert_eq!(db.lpush("text", &["x"]), Err(Error::WrongType));
    assert_eq!(db.hget("text", "f"), Err(Error::WrongType));
    assert_eq!(db.incr_by("text", 1), Err(Error::NotInteger));
    assert_eq!(db.incr_by("number", 1), Err(Error::Overflow));
    assert_eq!(db.rename("none", "other"), Err(Error::NoSuchKey));
    assert_eq!(db.lset("none", 0, "x"), Err(Error::NoSuchKey));
    assert_eq!(db.select(99).unwrap_err(), Error::NoSuchDatabase);
    assert_eq!(engine.log().end(), end);
}

#[test]
fn a_command_and_the_typed_call_are_refused_with_the_same_error() {
    let engine = Engine::default();
    let db = engine.db(0);
    db.set("text", "abc").unwrap();
    db.set("most", i64::MAX.to_string()).unwrap();
    db.hset("hash", "text", "abc").unwrap();
    db.hset("hash", "most", i64::MAX.to_string()).unwrap();
    db.zadd("zset", &[(f64::INFINITY, "m")]).unwrap();
    db.rpush("list", &["a"]).unwrap();
    db.set("hll", "HYLL").unwrap();
    let refused = |line: &str| engine.execute(&line.split(' ').collect::<Vec<_>>()).unwrap_err();
    let pairs = [
        ("GET list", db.get("list").map(|_| ())),
        ("INCRBY text 1", db.incr_by("text", 1).map(|_| ())),
        ("INCRBY most 1", db.incr_by("most", 1).map(|_| ())),
        ("HINCRBY hash text 1", db.hincr_by("hash", "text", 1).map(|_| ())),
        ("HINCRBY hash most 1", db.hincr_by("hash", "most", 1).map(|_| ())),
        ("ZADD zset nan m", db.zadd("zset", &[(f64::NAN, "m")]).map(|_| ())),
        ("ZINCRBY zset nan m", db.zincr_by("zset", f64::NAN, "m").map(|_| ())),
        ("ZINCRBY zset -inf m", db.zincr_by("zset", f64::NEG_INFINITY, "m").map(|_| ())),
        ("RENAME none other", db.rename("none", "other")),
        ("LSET none 0 x", db.lset("none", 0, "x")),
        ("LSET list 1 x", db.lset("list", 1, "x")),
        ("PFCOUNT text", db.pfcount(&["text"]).map(|_| ())),
        ("PFCOUNT list", db.pfcount(&["list"]).map(|_| ())),
        ("SELECT 99", db.select(99).map(|_| ())),
    ];
    for (line, typed) in pairs {
        let error = refused(line);
        assert_eq!(typed, Err(error.clone()), "{line}");
        assert!(!matches!(error, Error::Text(_)), "{line}: {error} has no name");
    }
    engine.limits().max_string.store(4, Ordering::Relaxed);
    assert_eq!(db.append("text", "de"), Err(refused("APPEND text de")));
    assert_eq!(db.append("text", "de"), Err(Error::TooLong));
    assert_eq!(refused("GET"), Error::arity("get"));
    assert_eq!(
        refused("NOPE a b").to_string(),
        "ERR unknown command 'NOPE', with args beginning with: 'a' 'b' "
    );
    engine.set_replica(true);
    engine.set_read_only_replica(true);
    assert_eq!(refused("SET k v"), Error::ReadOnlyReplica);
}

/// Lengths are 32 bits: what is longer was a panic.
#[test]
fn what_is_longer_than_anything_can_be_is_refused() {
    // Untouched, it takes no memory.
    let long = vec![0; u32::MAX as usize + 1];
    let (engine, few) = (Engine::default(), b"x".as_slice());
    engine.limits().max_string.store(usize::MAX, Ordering::Relaxed);
    let db = engine.db(0);
    db.set(few, few).unwrap();
    db.rpush("list", &[few]).unwrap();
    let refused = [
        db.set(&long, few),
        db.set(few, &long),
        db.set_many(&[(few, few), (&long, few)]),
        db.append(few, &long).map(|_| ()),
        db.append(&long, few).map(|_| ()),
        db.incr_by(&long, 1).map(|_| ()),
        db.rename(few, &long),
        db.hset("hash", &long, few).map(|_| ()),
        db.hset("hash", few, &long).map(|_| ()),
        db.hset(&long, few, few).map(|_| ()),
        db.hincr_by("hash", &long, 1).map(|_| ()),
        db.sadd("set", &[few, &long]).map(|_| ()),
        db.zadd("zset", &[(1.0, &long)]).map(|_| ()),
        db.zincr_by("zset", 1.0, &long).map(|_| ()),
        db.rpush("list", &[&long]).map(|_| ()),
        db.lset("list", 0, &long),
        db.pfadd("hll", &[&long]).map(|_| ()),
        db.pfmerge(&long, &[few]),
        engine.execute(&[b"SET", few, &long]).map(|_| ()),
    ];
    assert!(refused.iter().all(|result| *result == Err(Error::TooLong)), "{refused:?}");
    assert_eq!((db.len(), db.get(few), db.llen("list")), (2, Ok(Some(few.to_vec())), Ok(1)));
}

#[test]
fn what_a_block_was_refused_for_is_an_error_and_no_reply() {
    let engine = Engine::default();
    let mut session = engine.session();
    let mut run = |line: &str| engine.execute_in(&mut session, &line.split(' ').collect::<Vec<_>>());
    for line in ["MULTI", "SET k text", "INCR k", "INCR n"] {
        run(line).unwrap();
    }
    let replies = run("EXEC").unwrap();
    let replies = replies.as_array().unwrap();
    assert_eq!(replies[1..], [ReplyValue::Error(Error::NotInteger), ReplyValue::Int(1)]);

    run("MULTI").unwrap();
    assert!(matches!(run("NOPE"), Err(Error::UnknownCommand(_))));
    assert_eq!(run("EXEC"), Err(Error::AbortedByErrors));

    run("MULTI").unwrap();
    run("SET k v").unwrap();
    engine.set_replica(true);
    engine.set_read_only_replica(true);
    assert_eq!(run("EXEC"), Err(Error::Aborted(Box::new(Error::ReadOnlyReplica))));
}

#[test]
fn a_transaction_is_one_block_even_where_it_panics() {
    let engine = recording();
    engine.transaction(0, |db| {
        db.set("a", "1").unwrap();
        db.select(1).unwrap().set("b", "2").unwrap();
        db.select(0).unwrap().transaction(|db| db.set("c", "3")).unwrap();
    });
    assert_eq!(logged(&engine, 0), "SELECT 0 MULTI SET a 1 SELECT 1 SET b 2 SELECT 0 SET c 3 EXEC");
    let end = engine.log().end();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        engine.transaction(0, |db| -> () {
            db.set("d", "4").unwrap();
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(logged(&engine, end), "SET d 4");
    assert_eq!(engine.db(0).get("d"), Ok(Some(b"4".to_vec())), "the locks are free again");
}

#[test]
fn commands_and_typed_calls_see_the_same_keys() {
    let engine = Engine::default();
    engine.db(0).rpush("l", &["a", "b"]).unwrap();
    let range = engine.execute(&["LRANGE", "l", "0", "-1"]).unwrap();
    assert_eq!(range.as_array().unwrap()[1], ReplyValue::Bytes(b"b".to_vec()));
    engine.execute(&["PEXPIRE", "l", "100000"]).unwrap();
    assert!(matches!(engine.db(0).ttl("l"), Ttl::Left(_)));
    let mut session = engine.session();
    engine.execute_in(&mut session, &["HELLO", "3"]).unwrap_err();
    session.resp3 = true;
    engine.execute_in(&mut session, &["HSET", "h", "f", "v"]).unwrap();
    let pair = (ReplyValue::Bytes(b"f".to_vec()), ReplyValue::Bytes(b"v".to_vec()));
    assert_eq!(engine.execute_in(&mut session, &["HGETALL", "h"]), Ok(ReplyValue::Map(vec![pair])));
    assert_eq!(engine.execute_in(&mut session, &["GET", "none"]), Ok(ReplyValue::Null));
    assert!(matches!(engine.execute(&[] as &[&str]), Err(Error::UnknownCommand(_))));
}

#[test]
fn a_write_waits_for_room_in_the_queue_of_a_cut() {
    #[derive(Default)]
    struct Count(usize);
    impl CutSink for Count {
        fn entry(&mut self, _: &EntryMeta<'_>, _: ValueView<'_>) {
            self.0 += 1;
        }
        fn begin_huge(&mut self, _: &EntryMeta<'_>, _: HugeKind, _: u64) {}
        fn element(&mut self, _: Element<'_>) {}
        fn end_huge(&mut self) {}
        fn pending(&self) -> usize {
            0
        }
    }
    let engine = Engine::default();
    engine.set_preimage_limit(1_000);
    for n in 0..50 {
        engine.db(0).set(format!("k{n}"), [b'x'; 100]).unwrap();
    }
    engine.db(0).pfadd("h", &["a", "b"]).unwrap();
    let kept = || engine.db(0).get("h").unwrap().unwrap()[15] == 0;
    let mut cut = engine.begin_cut().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..50 {
                engine.db(0).set(format!("k{n}"), "new").unwrap();
            }
            done.store(true, Ordering::Release);
        });
        while cut.preimage_bytes() <= 1_000 {
            std::thread::yield_now();
        }
        assert!(!done.load(Ordering::Acquire), "the writer waits");
        assert_eq!(engine.db(0).get("k49").unwrap().unwrap().len(), 100, "readers do not");
        assert_eq!(engine.db(0).pfcount(&["h"]), Ok(2), "nor does a count");
        assert!(!kept(), "it adds nothing to the queue");
        engine.db(0).set("fresh", "x").unwrap();
        let mut count = Count::default();
        while cut.step(&mut count, 1 << 20) == Step::More {}
        assert_eq!(count.0, 51);
    });
    assert_eq!(engine.db(0).pfcount(&["h"]), Ok(2));
    assert!(kept());
    assert!(done.load(Ordering::Acquire));
    assert!(cut.preimage_peak() < 1_500);
}

#[test]
fn a_cut_given_up_with_a_full_queue_holds_nobody_up() {
    let engine = Engine::default();
    engine.set_preimage_limit(50);
    for key in ["a", "b"] {
        engine.db(0).set(key, [b'x'; 100]).unwrap();
    }
    let set = |key: &[u8]| {
        let (row, args) = (engine.lookup(b"set").unwrap(), [b"SET".as_slice(), key, b"new"]);
        let request = Request { args: &args, raw: None };
        engine.call(&mut engine.session(), row, request, &mut Vec::new())
    };
    let cut = engine.begin_cut().unwrap();
    assert_eq!((set(b"a"), set(b"b")), (Outcome::Done, Outcome::Stalled));
    drop(cut);
    assert_eq!(set(b"b"), Outcome::Done);
    let _next = engine.begin_cut().unwrap();
    assert_eq!(set(b"a"), Outcome::Done, "the next cut begins with an empty queue");
}

/// Runs a command that waits, for a session that may.
fn wait_for(engine: &Engine, words: &[&[u8]]) -> sluice_engine::internals::Blocked {
    let mut session = engine.session();
    session.may_block = true;
    let row = engine.lookup(words[0]).unwrap();
    let outcome = engine.call(&mut session, row, Request { args: words, raw: None }, &mut Vec::new());
    assert_eq!(outcome, Outcome::Blocked);
    session.blocked.take().unwrap()
}

#[test]
fn a_typed_call_serves_those_who_wait_as_a_command_does() {
    let engine = Engine::default();
    engine.log().activate();
    let from = engine.log().end();
    let one = wait_for(&engine, &[b"BLPOP", b"list", b"0"]);
    let two = wait_for(&engine, &[b"BLPOP", b"list", b"0"]);
    let three = wait_for(&engine, &[b"BZPOPMIN", b"zset", b"0"]);
    engine.db(0).rpush("list", &["a"]).unwrap();
    engine.transaction(0, |db| {
        db.rpush("list", &["b"]).unwrap();
        db.zadd("zset", &[(1.0, "m")]).unwrap();
    });
    assert_eq!(engine.blocked(), 0);
    assert_eq!(engine.unblock(&one).unwrap(), b"*2\r\n$4\r\nlist\r\n$1\r\na\r\n");
    assert_eq!(engine.unblock(&two).unwrap(), b"*2\r\n$4\r\nlist\r\n$1\r\nb\r\n");
    assert!(engine.unblock(&three).unwrap().starts_with(b"*3\r\n$4\r\nzset\r\n"));
    assert!(!engine.db(0).exists("list") && !engine.db(0).exists("zset"));
    let log = engine.log().reader(from).unwrap().read(usize::MAX).unwrap();
    assert_eq!(log.windows(4).filter(|w| w == b"LPOP").count(), 2, "what was taken is in the log");
}

#[test]
fn an_expiry_that_a_typed_call_gives_on_a_replica_is_the_replicas_to_heed() {
    let engine = Engine::default();
    engine.set_replica(true);
    engine.db(0).set("ours", "1").unwrap();
    engine.transaction(0, |db| db.set("in a block", "1").unwrap());
    assert!(engine.db(0).expire_at("ours", 1));
    engine.transaction(0, |db| assert!(db.expire_at("in a block", 1)));
    assert_eq!(engine.expire_own(std::time::Duration::from_secs(1)), 2);
}
