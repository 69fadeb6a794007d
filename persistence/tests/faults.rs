//! Damage of every kind to files, in memory, where each byte and each operation can have its turn.
//!
//! The promise: an error, or the data as it was; never a panic, and never a part of it in silence. Where a format cannot
//! keep that (the log has no checksums, so a value in it may be changed unseen) the test says so.

mod common;

use common::{Keys, decode};
use sluice_engine::Engine;
use sluice_persistence::aof::{
    AofError, AofLoad, AofNote, AofOptions, AofPlace, Manifest, RewriteOptions, load, rewrite_as_commands,
};
use sluice_persistence::storage::{Faults, Faulty, Memory, Storage};
use sluice_persistence::{LoadOptions, SaveOptions, save_cut};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NAME: &str = "x.aof";

fn place() -> AofPlace {
    AofPlace { home: "home".into(), dir: "home/dir".into(), filename: NAME.into() }
}

fn file(name: &str) -> PathBuf {
    Path::new("home/dir").join(name)
}

fn engine() -> Engine {
    Engine::builder().shards(1).databases(4).build()
}

fn go_on<T>(_: &T) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What an engine holds, by way of a file.
fn content(engine: &Engine) -> Keys {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let cut = engine.begin_cut().expect("no other cut is taken");
    save_cut(cut, &storage, Path::new("content"), &SaveOptions::default(), &mut go_on).unwrap();
    decode(&memory.read(Path::new("content")).unwrap()).unwrap().keys
}

/// Loads the append-only file in `storage`: what it holds then, and what was told.
fn loaded(
    storage: &Arc<dyn Storage>,
    load_truncated: bool,
) -> Result<(Keys, AofLoad, Vec<AofNote>), AofError> {
    let (engine, mut notes) = (engine(), Vec::new());
    let mut manifest = Manifest::load(&**storage, &place().dir, NAME)?;
    let options = AofOptions { load_truncated, checksum: true };
    let load =
        load(&engine, storage, &place(), &mut manifest, options, &mut |note| notes.push(note), &mut |_| {})?;
    Ok((content(&engine), load.unwrap_or_default(), notes))
}

fn request(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    bytes
}

/// A log, and for each of its bytes whether it belongs to a value: there damage changes data and nothing else.
fn log(units: &[&[&str]]) -> (Vec<u8>, Vec<bool>, Vec<usize>) {
    let (mut bytes, mut values, mut ends) = (Vec::new(), Vec::new(), vec![0]);
    for unit in units {
        for line in *unit {
            for (n, word) in line.split(' ').enumerate() {
                if n == 0 {
                    bytes.extend(format!("*{}\r\n", line.split(' ').count()).bytes());
                }
                bytes.extend(format!("${}\r\n", word.len()).bytes());
                values.resize(bytes.len(), false);
                bytes.extend(word.bytes());
                values.resize(bytes.len(), true);
                bytes.extend(b"\r\n");
                values.resize(bytes.len(), false);
            }
        }
        ends.push(bytes.len());
    }
    (bytes, values, ends)
}

const UNITS: &[&[&str]] = &[
    &["SELECT 2"],
    &["SET greeting hello"],
    &["RPUSH list a b c 1 2 3"],
    &["MULTI", "SET one 1", "SET two 1", "EXEC"],
    &["HSET hash f v g w"],
    &["SET late 5 PXAT 4102444800000"],
    &["MULTI", "INCR one", "DEL greeting", "INCR two", "EXEC"],
    &["ZADD z 1.5 m 2 n"],
];

/// An append-only file of these incremental files, behind a base of one key.
fn with_incr(incr: &[&[u8]]) -> Memory {
    let memory = Memory::new();
    let base = engine();
    let mut loader = base.loader();
    loader.string(0, b"base", b"there", None, 0);
    loader.finish();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let mut manifest = Manifest::default();
    manifest.advance_base(NAME, true);
    let path = manifest.base.as_ref().unwrap().path(&place().dir);
    save_cut(base.begin_cut().unwrap(), &storage, &path, &SaveOptions::default(), &mut go_on).unwrap();
    for bytes in incr {
        memory.write(&manifest.add_incr(NAME).path(&place().dir), bytes);
    }
    manifest.persist(&storage, &place().dir, NAME).unwrap();
    memory
}

fn shared(memory: &Memory) -> Arc<dyn Storage> {
    Arc::new(memory.clone())
}

#[test]
fn a_log_torn_at_any_byte_loads_up_to_the_last_whole_unit_or_is_refused() {
    let (bytes, _, ends) = log(UNITS);
    let path = file("x.aof.1.incr.aof");
    let wholes: Vec<Keys> =
        ends.iter().map(|end| loaded(&shared(&with_incr(&[&bytes[..*end]])), false).unwrap().0).collect();
    for len in 0..=bytes.len() {
        let memory = with_incr(&[&bytes[..len]]);
        let whole = ends.iter().rposition(|end| *end <= len).unwrap();
        let strict = loaded(&shared(&memory), false);
        assert_eq!(strict.is_ok(), ends[whole] == len, "{len}");
        assert!(
            strict.is_ok()
                || matches!(strict, Err(AofError::Torn { whole: at, .. }) if at == ends[whole] as u64)
        );
        assert_eq!(memory.read(&path).unwrap(), bytes[..len], "a load that refuses changes nothing");
        let (keys, load, notes) = loaded(&shared(&memory), true).unwrap();
        assert_eq!(keys, wholes[whole], "{len}");
        assert_eq!(load.torn_bytes, (len - ends[whole]) as u64);
        let told =
            notes.iter().any(|note| format!("{note:?}").contains(&format!("({} bytes", load.torn_bytes)));
        assert_eq!(told, load.torn_bytes > 0, "{notes:?}");
        assert_eq!(memory.read(&path).unwrap(), bytes[..ends[whole]]);
        // In front of another file with something in it nothing is forgiven.
        let inside = with_incr(&[&bytes[..len], &request("SET after 1")]);
        assert_eq!(loaded(&shared(&inside), true).is_ok(), ends[whole] == len, "{len}");
        // An empty one is as good as none: it is named before this one is synced.
        let before_empty = with_incr(&[&bytes[..len], b""]);
        assert_eq!(loaded(&shared(&before_empty), true).unwrap().0, wholes[whole], "{len}");
    }
}

#[test]
fn a_bit_flipped_anywhere_in_the_log_changes_a_value_or_is_noticed() {
    let (bytes, values, ends) = log(UNITS);
    let path = file("x.aof.1.incr.aof");
    let wholes: Vec<Keys> =
        ends.iter().map(|end| loaded(&shared(&with_incr(&[&bytes[..*end]])), false).unwrap().0).collect();
    let memory = with_incr(&[&bytes]);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            memory.write(&path, &bad);
            let Ok((keys, load, _)) = loaded(&shared(&memory), true) else {
                assert_eq!(memory.read(&path).unwrap(), bad, "what is refused is left alone");
                continue;
            };
            if load.torn_bytes > 0 {
                // A length that reaches beyond the end: told, and whole units only, unless a value was hit.
                let whole = ends.iter().position(|end| *end as u64 == bytes.len() as u64 - load.torn_bytes);
                assert!(whole.is_some_and(|n| values[at] || wholes[n] == keys), "byte {at}, bit {bit}");
            } else {
                assert!(values[at] || keys == wholes[UNITS.len()], "byte {at}, bit {bit}: {bad:?}");
            }
        }
    }
}

#[test]
fn a_bit_flipped_anywhere_in_an_rdb_is_noticed() {
    let memory = with_incr(&[b""]);
    let path = file("x.aof.1.base.rdb");
    let good = memory.read(&path).unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            memory.write(&path, &bad);
            assert!(loaded(&shared(&memory), true).is_err(), "base: byte {at}, bit {bit}");
            let engine = engine();
            let mut loader = engine.loader();
            let alone =
                sluice_persistence::load(&mut loader, &shared(&memory), &path, &LoadOptions::default());
            assert!(alone.is_err(), "byte {at}, bit {bit}");
            assert_eq!(memory.read(&path).unwrap(), bad);
        }
    }
}

#[test]
fn a_bit_flipped_anywhere_in_a_manifest_is_noticed_or_harmless() {
    let (first, second) = (request("SET first 1"), request("SET second 2"));
    let memory = with_incr(&[&first, &second]);
    let path = file("x.aof.manifest");
    let good = memory.read(&path).unwrap();
    let data = loaded(&shared(&memory), true).unwrap().0;
    let mut unseen = Vec::new();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            memory.write(&path, &bad);
            if loaded(&shared(&memory), true).is_ok_and(|(keys, ..)| keys != data) {
                unseen.push((at, char::from(good[at]), char::from(bad[at])));
            }
        }
    }
    // One bit makes `i` an `h`: history, which is no part of the data. The format has nothing that tells the two apart.
    assert!(unseen.iter().all(|(_, was, is)| (*was, *is) == ('i', 'h')) && unseen.len() == 2, "{unseen:?}");
}

#[test]
fn missing_and_doubled_files_are_refused() {
    let (first, second) = (request("SET first 1"), request("SET second 2"));
    for name in ["x.aof.1.base.rdb", "x.aof.1.incr.aof", "x.aof.2.incr.aof"] {
        let memory = with_incr(&[&first, &second]);
        memory.remove(&file(name)).unwrap();
        let refused = loaded(&shared(&memory), true).unwrap_err();
        assert!(matches!(&refused, AofError::Missing { file, .. } if file == name), "{refused}");
    }
    let memory = with_incr(&[&first, &second]);
    let path = file("x.aof.manifest");
    let good = String::from_utf8(memory.read(&path).unwrap()).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        memory.write(&path, format!("{good}{line}\n").as_bytes());
        assert!(loaded(&shared(&memory), true).is_err(), "line {n} twice");
        let mut swapped = lines.clone();
        swapped.swap(n, (n + 1) % lines.len());
        memory.write(&path, (swapped.join("\n") + "\n").as_bytes());
        // The base may stand anywhere: it is loaded first.
        let order = loaded(&shared(&memory), true);
        assert!(order.is_err() || !swapped[2].contains("incr.1"), "{swapped:?}");
    }
    memory.write(&path, good.replace("x.aof.2.incr", "x.aof.1.incr").as_bytes());
    assert!(loaded(&shared(&memory), true).is_err(), "one file under two numbers");
    memory.write(&path, good.replace("type b", "type b file y type i").as_bytes());
    assert!(loaded(&shared(&memory), true).is_err(), "two files in one line");
    memory.write(&path, b"");
    assert!(loaded(&shared(&memory), true).is_err(), "an empty manifest");
    for len in 1..good.len() {
        memory.write(&path, &good.as_bytes()[..len]);
        let cut = loaded(&shared(&memory), true);
        assert!(cut.is_err() || good.as_bytes()[len - 1] == b'\n', "cut at {len}");
    }
}

/// Every operation of `protocol` fails in turn, fills the disk, or is the last before a power cut; then `check` must hold of
/// what is left, told whether the protocol reported success.
fn at_every_operation(
    prepared: &Memory,
    protocol: &dyn Fn(&Arc<dyn Storage>) -> io::Result<()>,
    check: &dyn Fn(&Memory, bool, &str),
) {
    let copy = || {
        let copy = Memory::new();
        for path in prepared.list(&place().dir).unwrap() {
            copy.write(&path, &prepared.read(&path).unwrap());
        }
        copy
    };
    let operations = {
        let faulty = Faulty::new(copy(), Faults::default());
        let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
        protocol(&storage).unwrap();
        faulty.operations()
    };
    assert!(operations > 3);
    for at in 1..=operations + 1 {
        for seed in 0..5 {
            let memory = copy();
            let faulty =
                Faulty::new(memory.clone(), Faults { seed, crash_at: Some(at), ..Faults::default() });
            let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
            let done = protocol(&storage).is_ok();
            faulty.crash();
            faulty.restart().unwrap();
            check(&memory, done, &format!("power cut at operation {at}, seed {seed}"));
        }
        let memory = copy();
        let faults = Faults { seed: at, fail_at: vec![at], ..Faults::default() };
        let storage: Arc<dyn Storage> = Arc::new(Faulty::new(memory.clone(), faults));
        let done = protocol(&storage).is_ok();
        check(&memory, done, &format!("failure of operation {at}"));
    }
    for capacity in 0..400 {
        let memory = copy();
        let faults = Faults { capacity: Some(capacity), ..Faults::default() };
        let storage: Arc<dyn Storage> = Arc::new(Faulty::new(memory.clone(), faults));
        let done = protocol(&storage).is_ok();
        check(&memory, done, &format!("room for {capacity} bytes"));
        assert!(done || capacity < 399);
    }
}

#[test]
fn a_manifest_is_the_old_one_or_the_new_one_whatever_fails() {
    let first = request("SET first 1");
    let prepared = with_incr(&[&first]);
    let old = Manifest::load(&prepared, &place().dir, NAME).unwrap();
    let mut new = old.clone();
    new.add_incr(NAME);
    let protocol = |storage: &Arc<dyn Storage>| {
        drop(storage.create(&file("x.aof.2.incr.aof"))?);
        new.persist(storage, &place().dir, NAME)
    };
    at_every_operation(&prepared, &protocol, &|memory, done, what| {
        let found = Manifest::load(memory, &place().dir, NAME).unwrap();
        assert!(found == new || (!done && found == old), "{what}: {found:?}");
        // Either way it names files that are there.
        let (keys, ..) = loaded(&shared(memory), false).unwrap();
        assert_eq!(keys.len(), 2, "{what}");
    });
}

#[test]
fn a_base_is_there_whole_or_not_at_all_whatever_fails() {
    let first = request("SET first 1");
    let prepared = with_incr(&[&first]);
    for commands in [false, true] {
        let source = engine();
        let mut loader = source.loader();
        loader.string(1, b"new", b"value", Some(4_102_444_800_000), 0);
        loader.finish();
        let expected = content(&source);
        let path = file(if commands { "x.aof.2.base.aof" } else { "x.aof.2.base.rdb" });
        let mut new = Manifest::load(&prepared, &place().dir, NAME).unwrap();
        new.advance_base(NAME, !commands);
        new.retire_incr(false);
        let protocol = |storage: &Arc<dyn Storage>| {
            let cut = source.begin_cut().expect("the last one was ended");
            let written = if commands {
                let options = RewriteOptions { timestamp: Some(1_700_000_000) };
                rewrite_as_commands(cut, storage, &path, &options, &mut go_on)
            } else {
                save_cut(cut, storage, &path, &SaveOptions::default(), &mut go_on)
            };
            written.map_err(io::Error::other)?;
            new.persist(storage, &place().dir, NAME)
        };
        at_every_operation(&prepared, &protocol, &|memory, done, what| {
            assert!(!source.cut_in_progress());
            let (keys, ..) = loaded(&shared(memory), false).unwrap_or_else(|e| panic!("{what}: {e}"));
            let old = keys.len() == 2 && keys.contains_key(&(0, b"first".to_vec()));
            assert!(keys == expected || (old && !done), "{what}: {keys:?}");
        });
    }
}
