//! The first invariant: a cut at an offset, and the log from that offset, make the state.
//!
//! Several threads run random commands, over all types and with values too large to be handed over whole. Cuts
//! are taken meanwhile, as RDB streams; each is loaded into another engine, the log is replayed from the
//! cut's offset, and the two engines must hold the same, key by key.

mod common;

use common::{Keys, decode};
use sluice_engine::internals::{
    Outcome, Request,
    resp::{Parsed, parse},
};
use sluice_engine::{Cut, Engine, Session, Step};
use sluice_persistence::rdb::{EncoderOptions, EngineVisitor, RdbDecoder, RdbEncoder};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Commands with places to fill: `K` a key, `H` a key that is usually huge, `F` a field or member, `V` a value, `N`
/// a number, `D` a database.
const COMMANDS: &[&str] = &[
    "SET K V",
    "SET K N",
    "SET K V PX 100000000",
    "SET K V XX KEEPTTL",
    "SETRANGE K N V",
    "APPEND K V",
    "GETDEL K",
    "INCRBY K N",
    "INCRBYFLOAT K 0.5",
    "MSET K V K N",
    "MSETNX K V K V",
    "GETEX K PERSIST",
    "DEL K",
    "UNLINK K K",
    "DEL H",
    "RENAME K K",
    "RENAME H H",
    "RENAMENX K K",
    "COPY K K REPLACE",
    "COPY H H REPLACE",
    "MOVE K D",
    "MOVE H D",
    "PEXPIRE K 100000000",
    "PEXPIRE H 100000000",
    "PEXPIRE K 0",
    "EXPIREAT K 1",
    "PERSIST K",
    "PERSIST H",
    "RPUSH K V N",
    "LPUSH K V",
    "LPOP K",
    "RPOP K 2",
    "LSET K 0 V",
    "LINSERT K BEFORE V V",
    "LREM K 0 V",
    "LTRIM K 0 5",
    "LMOVE K K LEFT RIGHT",
    "RPOPLPUSH K K",
    "RPUSH H F V",
    "LPUSH H F",
    "LPOP H 3",
    "LSET H N V",
    "LREM H 1 F",
    "LMOVE H K LEFT RIGHT",
    "HSET K F V F N",
    "HDEL K F",
    "HINCRBY K F N",
    "HINCRBYFLOAT K F 1.5",
    "HSETNX K F V",
    "HSET H F V",
    "HSET H F V F V F N",
    "HDEL H F F",
    "HINCRBY H F N",
    "HSETNX H F V",
    "SADD K F N",
    "SREM K F",
    "SPOP K",
    "SMOVE K K F",
    "SADD H F F",
    "SREM H F F",
    "SPOP H 3",
    "SPOP H",
    "SMOVE H K F",
    "SINTERSTORE K H K",
    "SUNIONSTORE K K K",
    "SDIFFSTORE K K H",
    "ZADD K N F",
    "ZADD K GT N F N F",
    "ZINCRBY K N F",
    "ZREM K F",
    "ZPOPMIN K",
    "ZADD H N F N F",
    "ZINCRBY H N F",
    "ZREM H F F",
    "ZPOPMAX H 3",
    "ZREMRANGEBYRANK H 0 2",
    "ZREMRANGEBYSCORE K 0 N",
];

/// Rarer ones, which change everything.
const UPHEAVALS: &[&str] = &["SWAPDB D D", "FLUSHDB", "FLUSHALL", "SELECT D"];

const DATABASES: u32 = 3;
const HUGE: u64 = 8;
/// Fields of a huge value when it is made.
const FIELDS: u64 = 2000;

fn fill(template: &str, random: &mut Random) -> Vec<Vec<u8>> {
    let mut word = |word: &str| match word {
        "K" => format!("key:{}", random.below(24)).into_bytes(),
        "H" => format!("huge:{}", random.below(HUGE)).into_bytes(),
        "F" => format!("field-{}", random.below(FIELDS + 200)).into_bytes(),
        "V" => {
            let len = [3, 12, 80, 700][random.below(4) as usize];
            let letter = b'a' + random.below(26) as u8;
            vec![letter; len]
        }
        "N" => random.below(1000).to_string().into_bytes(),
        "D" => random.below(DATABASES.into()).to_string().into_bytes(),
        other => other.as_bytes().to_vec(),
    };
    template.split(' ').map(&mut word).collect()
}

/// Runs a command, waiting where a full queue of pre-images makes it wait.
fn run(engine: &Engine, session: &mut Session, args: &[Vec<u8>], out: &mut Vec<u8>) -> Outcome {
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    // Families of commands that are not there yet are left out; with all there this becomes an expect.
    let Some(row) = engine.lookup(args[0]) else { return Outcome::Refused };
    out.clear();
    loop {
        match engine.call(session, row, Request { args: &args, raw: None }, out) {
            Outcome::Stalled => std::thread::yield_now(),
            outcome => return outcome,
        }
    }
}

/// Makes the huge values of the selected database: two of each type.
fn make_huge(engine: &Engine, session: &mut Session) {
    let mut out = Vec::new();
    for (n, command) in ["HSET", "SADD", "ZADD", "RPUSH"].repeat(2).into_iter().enumerate() {
        for base in (0..FIELDS).step_by(100) {
            let mut args = vec![command.into(), format!("huge:{n}").into_bytes()];
            for field in base..base + 100 {
                if command == "ZADD" {
                    args.push(field.to_string().into_bytes());
                }
                args.push(format!("field-{field}").into_bytes());
                if command == "HSET" {
                    args.push(vec![b'x'; 40]);
                }
            }
            run(engine, session, &args, &mut out);
        }
    }
}

/// A few random commands: alone, or in a transaction.
fn act(engine: &Engine, session: &mut Session, random: &mut Random, out: &mut Vec<u8>) {
    let plain = |random: &mut Random| COMMANDS[random.below(COMMANDS.len() as u64) as usize];
    match random.below(400) {
        0 => {
            let template = UPHEAVALS[random.below(UPHEAVALS.len() as u64) as usize];
            run(engine, session, &fill(template, random), out);
        }
        1 => make_huge(engine, session),
        2..8 => {
            run(engine, session, &[b"MULTI".to_vec()], out);
            for _ in 0..random.below(6) {
                let template = plain(random);
                run(engine, session, &fill(template, random), out);
            }
            run(engine, session, &[b"EXEC".to_vec()], out);
        }
        _ => {
            let template = plain(random);
            run(engine, session, &fill(template, random), out);
        }
    }
}

/// Takes a cut in slices of random size, waiting now and then so that writers get ahead of it.
fn walk(mut cut: Cut, random: &mut Random) -> Vec<u8> {
    let mut encoder =
        RdbEncoder::new(EncoderOptions { db_sizes: cut.db_sizes().to_vec(), ..EncoderOptions::default() });
    let mut bytes = Vec::new();
    while cut.step(&mut encoder, 1 + random.below(20_000) as usize) == Step::More {
        bytes.extend(encoder.take());
        for _ in 0..random.below(4) {
            std::thread::yield_now();
        }
    }
    bytes.extend(encoder.finish());
    bytes
}

/// What an engine holds, by way of a cut.
fn content(engine: &Engine) -> Keys {
    let bytes = walk(engine.begin_cut().expect("no other cut is taken"), &mut Random(0));
    decode(&bytes).expect("a cut is a sound RDB").keys
}

/// An engine from a stream, and the log from its offset on.
fn restore(rdb: &[u8], log: &[u8]) -> Engine {
    let engine = Engine::builder().shards(2).databases(DATABASES).build();
    let mut loader = engine.loader();
    RdbDecoder::new(rdb).run(&mut EngineVisitor::new(&mut loader, None)).expect("a cut is a sound RDB");
    loader.finish();
    let mut session = engine.session();
    session.from_primary = true;
    let (mut at, mut out) = (0, Vec::new());
    while at < log.len() {
        let Parsed::Command { args, used, .. } = parse(&log[at..], 1 << 29, true) else {
            panic!("the log is not whole commands at {at} of {}", log.len());
        };
        let shown = log[at..at + used].escape_ascii().to_string();
        at += used;
        let row = engine.lookup(args[0]).unwrap_or_else(|| panic!("{shown}"));
        out.clear();
        let outcome =
            engine.call(&mut session, row, Request { args: &args, raw: Some(&log[at - used..at]) }, &mut out);
        assert_eq!(outcome, Outcome::Done, "{shown}: {}", out.escape_ascii());
        assert!(!out.starts_with(b"-"), "an effect is never an error: {shown}: {}", out.escape_ascii());
    }
    engine
}

fn compare(live: &Keys, restored: &Keys, context: &str) {
    for (key, value) in live {
        let found = restored.get(key);
        assert!(
            found == Some(value),
            "{context}: {} in {}: live {}, restored {}",
            key.1.escape_ascii(),
            key.0,
            shorten(&format!("{value:?}")),
            shorten(&format!("{found:?}"))
        );
    }
    for key in restored.keys() {
        assert!(live.contains_key(key), "{context}: {} in {} came back", key.1.escape_ascii(), key.0);
    }
}

fn shorten(text: &str) -> String {
    if text.len() > 600 { format!("{}... ({} bytes)", &text[..600], text.len()) } else { text.to_string() }
}

/// One run: `rounds` cuts under the commands of `threads` threads.
fn check(seed: u64, threads: usize, rounds: usize, preimage_limit: usize) {
    let engine = Engine::builder().shards(4).databases(DATABASES).build();
    engine.log().activate();
    engine.set_preimage_limit(preimage_limit);
    for db in 0..DATABASES {
        let mut session = engine.session();
        session.db = db;
        make_huge(&engine, &mut session);
    }
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let commands = AtomicU64::new(0);
        let ready = Barrier::new(threads + 1);
        let mut random = Random(seed << 20 | (round as u64) << 8);
        let mut reader = engine.log().reader(engine.log().end()).expect("the end is there");
        let (rdb, offset) = std::thread::scope(|scope| {
            for thread in 0..threads {
                let mut random = Random(random.next() ^ thread as u64);
                let (engine, stop, ready, commands) = (&engine, &stop, &ready, &commands);
                scope.spawn(move || {
                    let mut session = engine.session();
                    session.db = random.below(DATABASES.into()) as u32;
                    let mut out = Vec::new();
                    ready.wait();
                    while !stop.load(Ordering::Relaxed) {
                        act(engine, &mut session, &mut random, &mut out);
                        commands.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            ready.wait();
            let begin_after = random.below(300);
            while commands.load(Ordering::Relaxed) < begin_after {
                std::thread::yield_now();
            }
            let start = reader.offset();
            let cut = engine.begin_cut().expect("no other cut is taken");
            let offset = (cut.offset() - start) as usize;
            let rdb = walk(cut, &mut random);
            let end_after = commands.load(Ordering::Relaxed) + 50;
            while commands.load(Ordering::Relaxed) < end_after {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            (rdb, offset)
        });
        let mut log = Vec::new();
        loop {
            let bytes = reader.read(1 << 20).unwrap();
            if bytes.is_empty() {
                break;
            }
            log.extend_from_slice(&bytes);
        }
        let context = format!("seed {seed}, round {round}");
        let restored = restore(&rdb, &log[offset..]);
        compare(&content(&engine), &content(&restored), &context);
    }
}

#[test]
fn a_cut_and_the_log_behind_it_make_the_state_under_one_writer() {
    for seed in 1..=2 {
        check(seed, 1, 6, 64 << 20);
    }
}

#[test]
fn a_cut_and_the_log_behind_it_make_the_state_under_three_writers() {
    for seed in 11..=13 {
        check(seed, 3, 6, 64 << 20);
    }
}

#[test]
fn a_cut_and_the_log_behind_it_make_the_state_when_writers_wait_for_the_sink() {
    for seed in 21..=22 {
        check(seed, 3, 5, 20_000);
    }
}

#[test]
fn a_consumer_that_gives_up_half_way_leaves_nothing_behind() {
    let engine = Engine::builder().shards(4).databases(DATABASES).build();
    engine.log().activate();
    let mut session = engine.session();
    make_huge(&engine, &mut session);
    let mut random = Random(99);
    let mut out = Vec::new();
    for round in 0..40 {
        let mut reader = engine.log().reader(engine.log().end()).unwrap();
        let mut cut = engine.begin_cut().unwrap();
        let mut encoder = RdbEncoder::new(EncoderOptions::default());
        for _ in 0..random.below(12) {
            let _ = cut.step(&mut encoder, 3000);
            encoder.take();
            for _ in 0..20 {
                act(&engine, &mut session, &mut random, &mut out);
            }
        }
        drop(cut);
        assert!(!engine.cut_in_progress());
        if round % 8 == 0 {
            while !reader.read(1 << 20).unwrap().is_empty() {}
            let cut = engine.begin_cut().unwrap();
            let rdb = walk(cut, &mut random);
            compare(&content(&engine), &content(&restore(&rdb, b"")), "after aborted cuts");
        }
    }
}
