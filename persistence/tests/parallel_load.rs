//! Loading on several threads gives what loading on one gives, and finds the same damage.

mod common;

use common::decode;
use sluice_engine::Engine;
use sluice_engine::internals::{Opaque, TypeName, Value};
use sluice_persistence::storage::{Memory, Storage};
use sluice_persistence::{Error, LoadControl, LoadOptions, LoadStats, SaveOptions, load_with, save};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const PATH: &str = "dump.rdb";

fn saved(engine: &Engine, compression: bool) -> Vec<u8> {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let options = SaveOptions { compression, ..SaveOptions::default() };
    save(engine, &storage, Path::new(PATH), &options, &mut |_| ControlFlow::Continue(())).unwrap();
    memory.read(Path::new(PATH)).unwrap()
}

fn load(bytes: &[u8], workers: usize, options: &LoadOptions) -> Result<(Engine, LoadStats), Error> {
    let memory = Memory::new();
    memory.write(Path::new(PATH), bytes);
    let engine = Engine::default();
    let mut loader = engine.loader();
    let stats = load_with(workers, &mut loader, &memory, Path::new(PATH), options)?;
    assert_eq!(loader.finish(), stats.report.keys);
    Ok((engine, stats))
}

/// Streams and values of modules among the keys.
const STREAMS: u32 = 400;

/// Some megabytes of every type, in three databases, some with an expiry, and a hash too large to be handed out.
fn everything() -> Engine {
    let engine = Engine::default();
    let mut session = engine.session();
    let mut run = |words: &[&[u8]]| {
        let row = engine.lookup(words[0]).unwrap();
        let request = sluice_engine::internals::Request { args: words, raw: None };
        engine.call(&mut session, row, request, &mut Vec::new());
    };
    for n in 0..12_000u32 {
        if n % 4000 == 0 {
            run(&[b"SELECT", (n / 4000).to_string().as_bytes()]);
        }
        let (key, item) = (format!("key:{n}"), format!("{n}-").repeat(n as usize % 100 + 1));
        let key = key.as_bytes();
        let item = item.as_bytes();
        match n % 8 {
            0 => run(&[b"RPUSH", key, item, b"1", b"two", item]),
            1 => run(&[b"HSET", key, b"f", item, b"g", b"2"]),
            2 => run(&[b"SADD", key, b"1", b"2", n.to_string().as_bytes()]),
            3 => run(&[b"ZADD", key, b"1.5", item, b"inf", b"m"]),
            4 => run(&[b"SADD", key, item, b"x"]),
            5 => run(&[b"SET", key, n.to_string().as_bytes(), b"PXAT", b"9999999999999"]),
            _ => run(&[b"SET", key, item]),
        }
    }
    for n in 0..20_000u32 {
        let n = n.to_string();
        run(&[b"HSET", b"huge", n.as_bytes(), &[b'v'; 100]]);
        run(&[b"ZADD", b"many", n.as_bytes(), n.as_bytes()]);
    }
    let mut loader = engine.loader();
    for (n, (kind, value, name)) in (0..STREAMS).zip(common::streams::all().into_iter().cycle()) {
        let name = TypeName::new(name).unwrap();
        let value = Opaque::new(name, [&[kind], &value[..]].concat()).unwrap();
        loader.value(n % 3, format!("stream:{n}").as_bytes(), Value::Opaque(value), None, 0);
    }
    loader.finish();
    engine
}

#[test]
fn threads_load_what_one_loads() {
    let engine = everything();
    for compression in [false, true] {
        let bytes = saved(&engine, compression);
        let expected = decode(&bytes).unwrap().keys;
        for workers in [0, 1, 3] {
            let control = Arc::new(LoadControl::default());
            let options = LoadOptions { control: Some(control.clone()), ..LoadOptions::default() };
            let (loaded, stats) = load(&bytes, workers, &options).unwrap();
            assert!(compression || bytes.len() > 5 << 20, "large enough for threads: {}", bytes.len());
            assert_eq!(stats.report.keys, 12_002 + u64::from(STREAMS));
            assert_eq!(stats.bytes, bytes.len() as u64);
            assert_eq!(control.bytes.load(Ordering::Relaxed), stats.bytes);
            assert_eq!(loaded.db_sizes(), engine.db_sizes());
            assert_eq!(decode(&saved(&loaded, false)).unwrap().keys, expected, "{workers} workers");
        }
    }
}

#[test]
fn threads_find_the_damage_that_one_finds() {
    let bytes = saved(&everything(), false);
    let text = |bytes: &[u8], workers| load(bytes, workers, &LoadOptions::default()).unwrap_err().to_string();
    let mut changed = bytes.clone();
    // The size of a packed hash that says something else; offsets are those of its string.
    let at = bytes.windows(6).position(|w| w == b"key:89").unwrap() + 8;
    changed[at] ^= 1;
    for damaged in [&bytes[..bytes.len() / 2], &changed] {
        let alone = text(damaged, 0);
        for workers in [1, 3] {
            assert_eq!(text(damaged, workers), alone);
        }
    }
    let mut flipped = bytes.clone();
    let at = bytes.windows(8).position(|w| w == b"vvvvvvvv").unwrap();
    flipped[at] ^= 1;
    assert!(text(&flipped, 3).contains("checksum mismatch"), "{}", text(&flipped, 3));
}

#[test]
fn a_key_twice_is_refused_by_threads_too() {
    let mut bytes = b"REDIS0010".to_vec();
    for n in 0..50_000 {
        let key = format!("key:{}", n % 49_999);
        bytes.extend([0, key.len() as u8]);
        bytes.extend(key.as_bytes());
        bytes.extend([0x40, 100]);
        bytes.extend([b'v'; 100]);
    }
    bytes.extend([255, 0, 0, 0, 0, 0, 0, 0, 0]);
    for workers in [0, 1, 3] {
        let error = load(&bytes, workers, &LoadOptions::default()).unwrap_err().to_string();
        assert!(
            error.contains("refused") && (error.contains("twice") || error.contains("before")),
            "{error}"
        );
    }
}

#[test]
fn a_delay_reads_key_by_key() {
    let bytes = saved(&everything(), false);
    let control = Arc::new(LoadControl::default());
    control.key_delay.store(-1000, Ordering::Relaxed);
    let options = LoadOptions { control: Some(control), ..LoadOptions::default() };
    assert_eq!(load(&bytes, 3, &options).unwrap().1.report.keys, 12_002 + u64::from(STREAMS));
}
