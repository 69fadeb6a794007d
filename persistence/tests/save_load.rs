//! Engines to files and back: whole, beside a real redis-server, and with disks that break.

mod common;

use common::redis;
use common::{Plain, decode};
use sluice_engine::Engine;
use sluice_persistence::storage::{Disk, Faults, Faulty, Memory, Storage, Throttle, Throttled};
use sluice_persistence::{Error, LoadOptions, LoadStats, SaveOptions, SaveStats, load, save, save_cut};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const PATH: &str = "data/dump.rdb";

/// Uncompressed: these values of dots would shrink to nothing.
fn plain() -> SaveOptions {
    SaveOptions { compression: false, ..SaveOptions::default() }
}

fn save_to(engine: &Engine, storage: &Arc<dyn Storage>) -> Result<SaveStats, Error> {
    save(engine, storage, Path::new(PATH), &plain(), &mut |_| ControlFlow::Continue(()))
}

fn load_bytes(bytes: &[u8]) -> Result<(Engine, LoadStats), Error> {
    let memory = Memory::new();
    memory.write(Path::new(PATH), bytes);
    let engine = Engine::default();
    let mut loader = engine.loader();
    let stats = load(&mut loader, &memory, Path::new(PATH), &LoadOptions::default())?;
    loader.finish();
    Ok((engine, stats))
}

fn engine_of(keys: u32, size: usize) -> Engine {
    let engine = Engine::default();
    let mut loader = engine.loader();
    for n in 0..keys {
        let mut value = n.to_string().into_bytes();
        value.resize(size, b'.');
        loader.string(n % 3, format!("key:{n}").as_bytes(), &value, (n % 5 == 0).then_some(1 << 42), 0);
    }
    loader.finish();
    engine
}

#[test]
fn a_file_of_a_real_server_passes_through_an_engine_unchanged() {
    if !redis::available("a_file_of_a_real_server_passes_through_an_engine_unchanged") {
        return;
    }
    let mut real = redis::start(None, &[]).unwrap();
    redis::fill(&mut real);
    let digest = real.digest();
    let original = real.save();
    drop(real);
    let expected = decode(&original).unwrap().keys;
    let (engine, stats) = load_bytes(&original).unwrap();
    assert_eq!(stats.report.keys, expected.len() as u64);
    assert_eq!(stats.report.redis_version.as_deref(), Some("7.0.15"));
    assert_eq!(
        (stats.version, stats.bytes, stats.file_bytes),
        (10, original.len() as u64, original.len() as u64)
    );
    for compression in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.rdb");
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        let options = SaveOptions { compression, ..SaveOptions::default() };
        let stats = save(&engine, &storage, &path, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((stats.keys, stats.bytes), (expected.len() as u64, storage.len(&path).unwrap()));
        let written = std::fs::read(&path).unwrap();
        let model = decode(&written).unwrap();
        for (key, value) in &expected {
            assert_eq!(model.keys.get(key), Some(value), "{}", key.1.escape_ascii());
        }
        assert_eq!(model.keys.len(), expected.len());
        redis::check_file(&path).unwrap();
        let mut real = redis::start(Some(&written), &[]).expect("redis-server loads what we wrote");
        assert_eq!(real.digest(), digest);
        let log = std::fs::read_to_string(real.dir.path().join("log")).unwrap();
        assert!(!log.contains("WARNING: "), "{log}");
    }
}

#[test]
fn large_collections_come_back_whole() {
    use common::Rdb;
    use sluice_persistence::rdb::format::value_type;
    use sluice_persistence::rdb::length;
    let count = 20_000u32;
    let mut rdb = Rdb::new(10);
    for (kind, name) in [
        (value_type::HASH, "hash"),
        (value_type::SET, "set"),
        (value_type::ZSET_2, "zset"),
        (value_type::LIST, "list"),
    ] {
        rdb = rdb.raw(&[kind]).string(name.as_bytes());
        length::put(&mut rdb.0, count.into());
        for n in 0..count {
            rdb = rdb.string(format!("element {n}").as_bytes());
            match kind {
                value_type::HASH => rdb = rdb.string(&n.to_le_bytes()),
                value_type::ZSET_2 => rdb = rdb.raw(&f64::from(n).to_le_bytes()),
                _ => {}
            }
        }
    }
    let bytes = rdb.end();
    let expected = decode(&bytes).unwrap().keys;
    let (engine, _) = load_bytes(&bytes).unwrap();
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    save_to(&engine, &storage).unwrap();
    let model = decode(&memory.read(Path::new(PATH)).unwrap()).unwrap();
    assert_eq!(model.keys.len(), 4);
    for (key, (value, _)) in &expected {
        assert!(model.keys[key].0 == *value, "{}", key.1.escape_ascii());
        if let Plain::List(list) = value {
            assert_eq!(list.len(), count as usize);
        }
    }
}

#[test]
fn what_expired_is_left_out_on_a_primary_and_taken_on_a_replica() {
    let mut bytes = Vec::from(b"REDIS0010");
    for (name, at) in [(b'a', 1000i64), (b'b', 3000)] {
        bytes.push(252);
        bytes.extend(at.to_le_bytes());
        bytes.extend([0, 1, name, 1, b'v']);
        bytes.push(252);
        bytes.extend(at.to_le_bytes());
        bytes.extend([4, 2, b'h', name, 1, 1, b'f', 1, b'v']);
    }
    bytes.extend([255, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (drop_expired_before, keys, expired) in [(Some(2000), 2, 2), (None, 4, 0)] {
        let memory = Memory::new();
        memory.write(Path::new(PATH), &bytes);
        let engine = Engine::default();
        let options = LoadOptions { drop_expired_before, ..LoadOptions::default() };
        let stats = load(&mut engine.loader(), &memory, Path::new(PATH), &options).unwrap();
        assert_eq!((stats.report.keys, stats.report.expired), (keys, expired));
        assert_eq!(engine.db_sizes()[0].0, keys);
    }
}

#[test]
fn how_often_a_key_was_used_is_no_idle_time_and_an_idle_time_is() {
    // Database 0; a key used often (counter 200), one idle for 1000 seconds; no checksum.
    let bytes = b"REDIS0010\xfe\x00\xf9\xc8\x00\x01f\x01v\xf8\x43\xe8\x00\x01i\x01v\xff\0\0\0\0\0\0\0\0";
    let (engine, _) = load_bytes(bytes).unwrap();
    let clock = (sluice_engine::internals::now_ms() / 1000) as u32 & 0x00ff_ffff;
    let idle = |key: &[u8]| {
        let lru = engine.exclusive(0, &mut Vec::new(), |cx| cx.keys.raw(key).unwrap().lru());
        clock.wrapping_sub(lru) & 0x00ff_ffff
    };
    assert!(idle(b"f") < 900 || idle(b"f") > 0x00ff_0000, "{}", idle(b"f"));
    assert!((1000..2000).contains(&idle(b"i")), "{}", idle(b"i"));
}

#[test]
fn a_damaged_file_is_named_with_its_offset_and_not_touched() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    save_to(&engine_of(100, 50), &storage).unwrap();
    let mut bytes = memory.read(Path::new(PATH)).unwrap();
    bytes.truncate(bytes.len() - 100);
    let end = bytes.len();
    memory.write(Path::new(PATH), &bytes);
    let engine = Engine::default();
    let error = load(&mut engine.loader(), &storage, Path::new(PATH), &LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("data/dump.rdb: truncated RDB: "), "{error}");
    assert!(error.contains(&format!("ends at byte {end}")), "{error}");
    assert_eq!(memory.read(Path::new(PATH)).unwrap(), bytes);
}

#[test]
fn a_database_that_does_not_exist_is_refused() {
    let bytes = common::Rdb::new(10).raw(&[254, 16, 0, 1, b'k', 1, b'v']).end();
    let error = load_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("database 16 does not exist: this server has 16"), "{error}");
}

#[test]
fn a_disk_that_fills_up_leaves_the_old_file_and_a_usable_engine() {
    let memory = Memory::new();
    memory.write(Path::new(PATH), b"the old file");
    let engine = engine_of(20_000, 300);
    for capacity in [0, 1000, 3_000_000] {
        let faults = Faults { capacity: Some(capacity), ..Faults::default() };
        let storage: Arc<dyn Storage> = Arc::new(Faulty::new(memory.clone(), faults));
        let error = save_to(&engine, &storage).unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
        assert_eq!(memory.read(Path::new(PATH)).unwrap(), b"the old file");
        assert_eq!(memory.list(Path::new("data")).unwrap().len(), 1, "the temporary file is gone");
        assert!(!engine.cut_in_progress());
    }
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    assert_eq!(save_to(&engine, &storage).unwrap().keys, 20_000);
    assert_eq!(decode(&memory.read(Path::new(PATH)).unwrap()).unwrap().keys.len(), 20_000);
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_file_or_the_new_one() {
    let engine = engine_of(30_000, 100);
    let operations = {
        let faulty = Faulty::new(Memory::new(), Faults::default());
        let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
        save_to(&engine, &storage).unwrap();
        faulty.operations()
    };
    for at in 1..=operations + 1 {
        let memory = Memory::new();
        memory.write(Path::new(PATH), b"the old file");
        let faults = Faults { seed: at, crash_at: Some(at), ..Faults::default() };
        let faulty = Faulty::new(memory.clone(), faults);
        let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
        let saved = save_to(&engine, &storage).is_ok();
        faulty.crash();
        faulty.restart().unwrap();
        let content = memory.read(Path::new(PATH)).unwrap();
        if saved || content != b"the old file" {
            assert_eq!(decode(&content).unwrap().keys.len(), 30_000, "crash at {at}");
        }
    }
}

#[test]
fn a_slow_disk_slows_saving_and_loading() {
    let throttle = Throttle::new(20_000_000, Duration::ZERO);
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(Throttled::new(memory.clone(), throttle));
    let engine = engine_of(20_000, 150);
    let saved = save_to(&engine, &storage).unwrap();
    let at_least = Duration::from_secs_f64(saved.bytes as f64 / 20e6);
    assert!(saved.elapsed >= at_least, "{saved:?}");
    let other = Engine::default();
    let loaded = load(&mut other.loader(), &storage, Path::new(PATH), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.report.keys, 20_000);
    assert!(loaded.elapsed >= at_least, "{loaded:?}");
}

#[test]
fn a_save_can_be_stopped() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> =
        Arc::new(Throttled::new(memory.clone(), Throttle::new(100_000_000, Duration::ZERO)));
    let engine = engine_of(50_000, 100);
    let mut calls = 0;
    let stopped = save(&engine, &storage, Path::new(PATH), &plain(), &mut |stats| {
        calls += 1;
        assert!(stats.bytes > 0 && stats.keys > 0);
        if calls == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert!(memory.list(Path::new("data")).unwrap().is_empty());
    assert!(!engine.cut_in_progress());
}

#[test]
fn a_snapshot_is_of_one_moment_while_writes_go_on() {
    use sluice_engine::internals::{Outcome, Request};
    let engine = engine_of(3_000, 20);
    let set = |key: &str, value: &str| {
        let mut session = engine.session();
        let args: [&[u8]; 3] = [b"SET", key.as_bytes(), value.as_bytes()];
        let row = engine.lookup(b"set").unwrap();
        let mut out = Vec::new();
        while engine.call(&mut session, row, Request { args: &args, raw: None }, &mut out) == Outcome::Stalled
        {
            std::thread::yield_now();
        }
    };
    set("key:0", "before");
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let cut = engine.begin_cut().unwrap();
    for n in 0..3_000 {
        set(&format!("key:{}", n * 3), "after");
    }
    sluice_persistence::save_cut(cut, &storage, Path::new(PATH), &SaveOptions::default(), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    let keys = decode(&memory.read(Path::new(PATH)).unwrap()).unwrap().keys;
    assert_eq!(keys.len(), 3_000);
    assert_eq!(keys[&(0, b"key:0".to_vec())].0, Plain::Str(b"before".to_vec()));
    assert!(!keys.values().any(|(value, _)| *value == Plain::Str(b"after".to_vec())));
}

#[test]
fn functions_and_module_data_come_back_byte_for_byte() {
    let mut items = vec![245, 12];
    items.extend(b"#!lua name=x");
    let id = b"abcdefghi".iter().fold(0u64, |id, c| id << 6 | u64::from(c - b'a' + 26)) << 10 | 3;
    items.extend([247, 0x81]);
    items.extend(id.to_be_bytes());
    items.extend([2, 2, 5, 2, b'h', b'i', 0]);
    let bytes = common::Rdb::new(10).raw(&items).raw(&[0, 1, b'k', 1, b'v']).end();
    let (engine, stats) = load_bytes(&bytes).unwrap();
    assert_eq!((stats.report.functions, stats.report.modules.len()), (1, 1));
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    for _ in 0..2 {
        save_to(&engine, &storage).unwrap();
        let saved = memory.read(Path::new(PATH)).unwrap();
        assert!(saved.windows(items.len()).any(|w| w == items), "what was not understood is still there");
        // Through a second engine, which takes the place of a first with its data.
        let (other, _) = load_bytes(&saved).unwrap();
        engine.adopt(other);
    }
    let (plain, _) = load_bytes(&common::Rdb::new(10).raw(&[0, 1, b'k', 1, b'v']).end()).unwrap();
    engine.adopt(plain);
    assert!(engine.carried().is_empty());
}

#[test]
fn a_file_names_its_place_in_the_log_only_where_the_log_goes_on_from_it() {
    let id = "a".repeat(40);
    let place = |engine: &Engine, meanwhile: &dyn Fn()| {
        let cut = engine.begin_cut().unwrap();
        meanwhile();
        let options = SaveOptions { replication_id: Some(id.clone()), ..plain() };
        let storage: Arc<dyn Storage> = Arc::new(Memory::new());
        save_cut(cut, &storage, Path::new(PATH), &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let loaded = Engine::default();
        let mut loader = loaded.loader();
        let stats = load(&mut loader, &*storage, Path::new(PATH), &LoadOptions::default()).unwrap();
        loader.finish();
        stats.report.replication_id
    };
    let engine = engine_of(10, 10);
    assert_eq!(place(&engine, &|| ()), None, "nothing is recorded");
    assert_eq!(place(&engine, &|| engine.log().activate()), None, "what was written in between is in no log");
    assert_eq!(place(&engine, &|| ()), Some(id.clone()));
    assert_eq!(place(&engine, &|| engine.log().reset(1000)), None, "the log went on from elsewhere");
}
