//! Embedding Sluice: typed calls, commands, a transaction, time, a change feed, and a follower.
//!
//! `cargo run --example embed`

use sluice_engine::{Engine, Error, Expiry, ManualClock, Only, ReplyValue, SetOptions, Ttl};
use std::time::Duration;

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let clock = ManualClock::at(1_700_000_000_000); // the system's, unless the builder is given one
    let engine = Engine::builder().shards(16).databases(4).clock(clock.clone()).build();
    calls_and_commands(&engine)?;
    time(&engine, &clock)?;
    change_feed(&engine)?;
    follower(&engine)
}

fn calls_and_commands(engine: &Engine) -> Done {
    // Keys and values are anything that is bytes; a call runs on this thread, under the locks of just its keys.
    let db = engine.db(0);
    db.set("greeting", "hello, world")?;
    db.hset_many("user:1", &[("name", "Ada"), ("born", "1815")])?;
    db.zadd("scores", &[(7.5, "ada"), (3.0, "charles")])?;
    println!("the greeting has {:?} bytes", db.get_with("greeting", <[u8]>::len)?);

    // Whatever has no call of its own is a command away; both are refused with the same error.
    assert_eq!(engine.execute(&["GETRANGE", "greeting", "0", "4"])?, ReplyValue::Bytes(b"hello".to_vec()));
    assert_eq!(engine.execute(&["INCR", "greeting"]), Err(Error::NotInteger));
    assert_eq!(db.incr_by("greeting", 1), Err(Error::NotInteger));

    // A session keeps SELECT, MULTI and WATCH from one command to the next; dropped, it leaves nothing behind.
    let mut session = engine.session();
    engine.execute_in(&mut session, &["SELECT", "1"])?;
    engine.execute_in(&mut session, &["SET", "elsewhere", "1"])?;
    assert_eq!(engine.try_db(1)?.len(), 1);

    // One step for everyone, one block in the log.
    db.set("alice", "100")?;
    let left = engine.transaction(0, |db| {
        db.incr_by("bob", 30)?;
        db.incr_by("alice", -30)
    })?;
    println!("alice has {left} left");

    // Iterators hold no lock between their items.
    for key in db.scan().filter(|key| key.starts_with(b"user:")) {
        for field in db.hscan(&key) {
            let (name, value) = field?;
            println!("{}: {} = {}", key.escape_ascii(), name.escape_ascii(), value.escape_ascii());
        }
    }
    Ok(())
}

fn time(engine: &Engine, clock: &ManualClock) -> Done {
    let db = engine.db(0);
    let lease = SetOptions { expiry: Expiry::In(Duration::from_secs(30)), only: Only::IfAbsent };
    assert!(db.set_with("lease", "me", lease)?);
    clock.advance(Duration::from_secs(20));
    assert!(!db.set_with("lease", "you", lease)?, "taken");
    assert_eq!(db.ttl("lease"), Ttl::Left(Duration::from_secs(10)));
    clock.advance(Duration::from_secs(10));
    // Gone for whoever asks; keys that nobody asks for go with a call like this one, made now and then.
    println!("{} lease is over", engine.expire_cycle(Duration::from_millis(1)));
    Ok(())
}

fn change_feed(engine: &Engine) -> Done {
    // Effects, not inputs: what it was that a random pop took, the time at which a lease ends.
    let mut feed = engine.feed();
    engine.execute(&["SADD", "jobs", "wash", "cook"])?;
    engine.execute(&["SPOP", "jobs"])?;
    engine.db(2).set("there", "too")?;
    while let Some(change) = feed.read()? {
        let words: Vec<_> = change.args.iter().map(|word| word.escape_ascii().to_string()).collect();
        println!("up to {}, database {}: {}", change.end, change.db, words.join(" "));
    }
    Ok(())
}

fn follower(engine: &Engine) -> Done {
    // A cut is every key as it stands now, and the log goes on from there: together they are the state, always.
    let (mut cut, mut log) = engine.begin_cut_with_log()?;
    let writer = std::thread::spawn({
        let engine = engine.clone();
        move || (0..10_000).try_for_each(|n| engine.db(2).set(format!("key:{n}"), "written meanwhile"))
    });

    // Taking the cut stops nobody. It could as well go to a file or a socket: see `CutSink`.
    let copy = Engine::builder().databases(4).build();
    let mut follower = copy.load_cut(&mut cut)?;
    while !writer.is_finished() || log.lag() > 0 {
        copy.apply(&mut follower, &log.read(64 << 10)?)?; // bytes, split anywhere
    }
    writer.join().expect("the writer does not panic")?;
    assert_eq!(follower.applied(), engine.log().end());
    assert_eq!(copy.db(2).get("key:9999")?.as_deref(), Some(&b"written meanwhile"[..]));
    assert_eq!(copy.db(0).hgetall("user:1")?, engine.db(0).hgetall("user:1")?);
    println!("the follower has {} keys, up to offset {}", copy.db(2).len(), follower.applied());
    Ok(())
}

#[test]
fn it_runs() -> Done {
    main()
}
