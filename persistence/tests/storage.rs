//! What every storage promises, and what a file written atomically survives.

use sluice_persistence::storage::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn read(storage: &dyn Storage, path: &Path) -> Vec<u8> {
    storage.open(path).unwrap().bytes().to_vec()
}

fn keeps_the_contract(storage: &dyn Storage, dir: &Path) {
    let (a, b) = (dir.join("a"), dir.join("b"));
    assert_eq!(storage.open(&a).err().unwrap().kind(), io::ErrorKind::NotFound);
    assert!(!storage.exists(&a).unwrap());
    let mut writer = storage.create(&a).unwrap();
    assert!(storage.open(&a).unwrap().is_empty());
    writer.write_all(b"hello ").unwrap();
    writer.start_sync().unwrap();
    writer.sync().unwrap();
    assert_eq!(writer.position(), 6);
    drop(writer);
    let mut writer = storage.append(&a).unwrap();
    assert_eq!(writer.position(), 6);
    writer.write_all(b"world").unwrap();
    assert_eq!(writer.position(), 11);
    drop(writer);
    assert_eq!(read(storage, &a), b"hello world");
    let before = storage.open(&a).unwrap();
    before.prefetch(0..11).unwrap();
    storage.create(&b).unwrap().write_all(b"new").unwrap();
    storage.rename(&b, &a).unwrap();
    storage.sync_dir(dir).unwrap();
    assert_eq!(before.bytes(), b"hello world", "a reader keeps the file it opened");
    assert_eq!(read(storage, &a), b"new");
    assert_eq!(storage.list(dir).unwrap(), std::slice::from_ref(&a));
    storage.truncate(&a, 1).unwrap();
    assert_eq!(storage.len(&a).unwrap(), 1);
    storage.remove(&a).unwrap();
    assert_eq!(storage.remove(&a).err().unwrap().kind(), io::ErrorKind::NotFound);
    assert!(storage.list(dir).unwrap().is_empty());
}

#[test]
fn every_storage_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    keeps_the_contract(&Disk, dir.path());
    keeps_the_contract(&Memory::new(), Path::new("data"));
    keeps_the_contract(&Faulty::new(Memory::new(), Faults::default()), Path::new("data"));
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    keeps_the_contract(&Throttled::new(storage, Throttle::new(0, Duration::ZERO)), dir.path());
}

#[test]
fn a_throttle_holds_its_rate_over_writers_and_readers_together() {
    let storage = Throttled::new(Memory::new(), Throttle::new(10_000_000, Duration::ZERO));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let storage = &storage;
            scope.spawn(move || storage.create(Path::new(name)).unwrap().write_all(&[0; 500_000]).unwrap());
        }
    });
    let reader = storage.open(Path::new("a")).unwrap();
    reader.prefetch(0..u64::MAX).unwrap();
    assert!(
        started.elapsed() >= Duration::from_millis(150),
        "1.5 MB at 10 MB/s took {:?}",
        started.elapsed()
    );
}

#[test]
fn a_throttle_charges_latency_for_every_operation() {
    let storage = Throttled::new(Memory::new(), Throttle::new(0, Duration::from_millis(5)));
    let started = Instant::now();
    let mut writer = storage.create(Path::new("a")).unwrap();
    writer.write_all(b"x").unwrap();
    writer.sync().unwrap();
    assert!(started.elapsed() >= Duration::from_millis(15));
}

fn write_atomically(storage: &Arc<dyn Storage>, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(storage.clone(), path)?;
    for piece in content.chunks(7) {
        file.write_all(piece)?;
    }
    file.commit()
}

const OLD: &[u8] = b"the old file, which must not be lost";
const NEW: &[u8] = b"the new file, which appears whole or not at all";

fn faulty_with_old_file(faults: Faults) -> (Memory, Faulty<Memory>, Arc<dyn Storage>, PathBuf) {
    let (memory, path) = (Memory::new(), PathBuf::from("data/dump.rdb"));
    memory.write(&path, OLD);
    let faulty = Faulty::new(memory.clone(), faults);
    let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
    (memory, faulty, storage, path)
}

fn operations_of_one_write() -> u64 {
    let (_, faulty, storage, path) = faulty_with_old_file(Faults::default());
    write_atomically(&storage, &path, NEW).unwrap();
    faulty.operations()
}

#[test]
fn an_atomic_file_that_fails_leaves_the_old_one_and_no_temporary() {
    let operations = operations_of_one_write();
    for at in 1..=operations {
        let (memory, _, storage, path) =
            faulty_with_old_file(Faults { seed: at, fail_at: vec![at], ..Faults::default() });
        write_atomically(&storage, &path, NEW).unwrap_err();
        // The last operation is the folder's sync: the file has its name by then.
        let expected = if at == operations { NEW } else { OLD };
        assert_eq!(memory.read(&path).unwrap(), expected, "fault at operation {at}");
        assert_eq!(memory.list(Path::new("data")).unwrap(), std::slice::from_ref(&path));
    }
}

#[test]
fn an_atomic_file_on_a_full_disk_leaves_the_old_one_and_no_temporary() {
    let (memory, _, storage, path) = faulty_with_old_file(Faults { capacity: Some(20), ..Faults::default() });
    let error = write_atomically(&storage, &path, NEW).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(memory.read(&path).unwrap(), OLD);
    assert_eq!(memory.list(Path::new("data")).unwrap(), [path]);
}

#[test]
fn an_atomic_file_is_the_old_or_the_new_one_after_a_crash_anywhere() {
    let operations = operations_of_one_write();
    let (mut old, mut new) = (0, 0);
    for seed in 0..20 {
        for at in 1..=operations + 1 {
            let (memory, faulty, storage, path) =
                faulty_with_old_file(Faults { seed, crash_at: Some(at), ..Faults::default() });
            let outcome = write_atomically(&storage, &path, NEW);
            assert_eq!(outcome.is_ok(), at > operations);
            faulty.crash();
            assert!(storage.open(&path).is_err());
            faulty.restart().unwrap();
            let content = memory.read(&path).unwrap();
            assert!(content == OLD || content == NEW, "crash at {at}, seed {seed}: {content:?}");
            if at > operations {
                assert_eq!(content, NEW, "what was committed lasts");
            }
            if content == OLD { old += 1 } else { new += 1 }
        }
    }
    assert!(old > 0 && new > 20, "the sweep saw both outcomes: {old} old, {new} new");
}

#[test]
fn a_crash_drops_unsynced_bytes_and_keeps_synced_ones() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let memory = Memory::new();
        let path = Path::new("log");
        memory.write(path, b"");
        let storage = Faulty::new(memory.clone(), Faults { seed, ..Faults::default() });
        let mut writer = storage.append(path).unwrap();
        writer.write_all(b"synced").unwrap();
        writer.sync().unwrap();
        writer.write_all(b" not").unwrap();
        storage.crash();
        assert!(writer.write_all(b"late").is_err());
        storage.restart().unwrap();
        let content = memory.read(path).unwrap();
        assert!(b"synced not".starts_with(&content) && content.len() >= 6);
        lengths.insert(content.len());
    }
    assert!(lengths.len() > 2, "tears at different places: {lengths:?}");
}
