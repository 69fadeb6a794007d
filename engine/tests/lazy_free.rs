//! Nobody waits for memory to be freed: whatever is large goes to the background, by every way a value can go.
//!
//! One test, as the counters are the process'.

use sluice_engine::{CutSink, Element, Engine, EntryMeta, HugeKind, Step, ValueView};
use std::time::Duration;

/// Elements of a large value.
const LARGE: usize = 3_000;
/// Keys of a database under test.
const KEYS: u64 = 3;

fn pairs(n: usize) -> impl Iterator<Item = String> {
    (0..2 * n).map(|i| i.to_string())
}

/// Databases of a few keys, each of which holds much.
fn filled(name: &str) -> Engine {
    let engine = Engine::builder().shards(2).build();
    fill(&engine, name);
    engine
}

fn fill(engine: &Engine, name: &str) {
    let add = |command: &str| {
        let mut args = vec![command.to_string(), name.to_string()];
        args.extend(pairs(LARGE / if command == "HSET" || command == "ZADD" { 1 } else { 2 }));
        engine.execute(&args).expect("a new key");
    };
    match name {
        "hash" => add("HSET"),
        "set" => add("SADD"),
        "zset" => add("ZADD"),
        "list" => add("RPUSH"),
        _ => drop(engine.execute(&["SETRANGE", name, "2000000", "x"]).expect("a new key")),
    }
    engine.execute(&["SET", "small", "1"]).expect("a new key");
    engine.execute(&["SADD", "few", "1", "2"]).expect("a new key");
}

/// Elements handed to the background so far.
fn handed(engine: &Engine) -> u64 {
    let (pending, freed) = engine.lazy_freed();
    pending + freed
}

struct Ignore;

impl CutSink for Ignore {
    fn entry(&mut self, _: &EntryMeta<'_>, _: ValueView<'_>) {}
    fn begin_huge(&mut self, _: &EntryMeta<'_>, _: HugeKind, _: u64) {}
    fn element(&mut self, _: Element<'_>) {}
    fn end_huge(&mut self) {}
    fn pending(&self) -> usize {
        0
    }
}

#[test]
fn whatever_is_large_is_freed_in_the_background_however_it_goes() {
    // `*` stands for the large key.
    let ways: [&[&str]; 15] = [
        &["DEL *"],
        &["UNLINK *"],
        &["SET * 1"],
        &["RENAME small *"],
        &["COPY small * REPLACE"],
        &["COPY small other", "RENAME other *"],
        &["SUNIONSTORE * few"],
        &["SDIFFSTORE * few few"],
        &["ZUNIONSTORE * 1 few"],
        &["SORT few STORE *"],
        &["PEXPIREAT * 1"],
        &["FLUSHDB"],
        &["FLUSHDB SYNC"],
        &["FLUSHALL ASYNC"],
        &["SWAPDB 0 1", "FLUSHALL"],
    ];
    for name in ["hash", "set", "zset", "list", "string"] {
        let gone = if name == "string" { 1 } else { LARGE as u64 };
        for way in ways {
            let engine = filled(name);
            let before = handed(&engine);
            for line in way {
                let line = line.replace('*', name);
                let args: Vec<&str> = line.split(' ').collect();
                engine.execute(&args).unwrap_or_else(|e| panic!("{line}: {e}"));
            }
            // Of a database its keys are counted.
            let gone = if way.iter().any(|line| line.starts_with("FLUSH")) { KEYS } else { gone };
            assert!(handed(&engine) >= before + gone, "{name}: {way:?}");
        }
        let all: [(&str, &[&str]); 3] = [
            ("zset", &["ZREMRANGEBYRANK", "zset", "0", "-1"]),
            ("zset", &["ZREMRANGEBYSCORE", "zset", "-inf", "+inf"]),
            ("set", &["SPOP", "set", "1000000"]),
        ];
        for (_, command) in all.into_iter().filter(|(of, _)| *of == name) {
            let engine = filled(name);
            let before = handed(&engine);
            engine.execute(command).expect("the key is there");
            assert!(handed(&engine) >= before + gone, "{command:?}");
        }
        // Its time is up, for a command and for nobody.
        for meet in [true, false] {
            let engine = filled(name);
            let at = sluice_engine::internals::now_ms() + 5;
            engine.execute(&["PEXPIREAT", name, &at.to_string()]).expect("the key is there");
            while sluice_engine::internals::now_ms() <= at {
                std::thread::yield_now();
            }
            let before = handed(&engine);
            if meet {
                engine.execute(&["EXISTS", name]).expect("no matter");
            } else {
                engine.expire_cycle(Duration::from_secs(60));
            }
            assert!(handed(&engine) >= before + gone, "{name} expired, met by a command: {meet}");
        }
        // Whole engines.
        let (engine, other) = (filled(name), filled(name));
        let before = handed(&engine);
        engine.adopt(other);
        assert!(handed(&engine) >= before + KEYS, "{name}: replaced");
        let before = handed(&engine);
        engine.clear();
        assert!(handed(&engine) >= before + KEYS, "{name}: cleared");
        let (engine, alive) = (filled(name), Engine::default());
        let before = handed(&alive);
        drop(engine);
        assert!(handed(&alive) >= before + KEYS, "{name}: the engine dropped");
        // What a cut held.
        for complete in [true, false] {
            let engine = filled(name);
            let mut cut = engine.begin_cut().expect("no other cut");
            engine.execute(&["FLUSHALL"]).expect("always");
            let before = handed(&engine);
            while complete && cut.step(&mut Ignore, 1) == Step::More {}
            drop(cut);
            assert!(handed(&engine) >= before + gone, "{name}: held by a cut, complete: {complete}");
        }
    }
    // All is freed in the end.
    let engine = Engine::default();
    while engine.lazy_freed().0 > 0 {
        std::thread::yield_now();
    }
    engine.reset_shard_stats();
    assert_eq!(engine.lazy_freed(), (0, 0));
    // What is small goes at once.
    engine.execute(&["SET", "small", "1"]).expect("a new key");
    engine.execute(&["DEL", "small"]).expect("always");
    assert_eq!(engine.lazy_freed(), (0, 0));
}
