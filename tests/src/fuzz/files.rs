//! Files: loaded into an engine or refused, and what was loaded is saved and loaded again as the same.

use super::streams::large_number;
use sluice_persistence::aof::reader::{Item, Reader};
use sluice_persistence::aof::{AofLoad, AofOptions, AofPlace, Manifest, load as load_log};

use sluice_engine::internals::Entry;
use sluice_engine::{Engine, ValueView};
use sluice_persistence::rdb::{dump as encode, restore};
use sluice_persistence::storage::{Memory, Storage};
use sluice_persistence::{Error, LoadOptions, SaveOptions, load, save};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// A small engine: it is made anew for each input.
pub(super) fn engine() -> Engine {
    Engine::builder().shards(1).databases(4).build()
}

fn load_bytes(bytes: &[u8], checksum: bool) -> Result<Engine, Error> {
    let (memory, path) = (Memory::new(), Path::new("dump.rdb"));
    memory.write(path, bytes);
    let engine = engine();
    let mut loader = engine.loader();
    let options = LoadOptions { checksum, ..LoadOptions::default() };
    load(&mut loader, &memory, path, &options)?;
    loader.finish();
    Ok(engine)
}

fn save_bytes(engine: &Engine) -> Vec<u8> {
    let (memory, path) = (Memory::new(), Path::new("dump.rdb"));
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let options = SaveOptions { used_memory: 1 << 20, ..SaveOptions::default() };
    save(engine, &storage, path, &options, &mut |_| ControlFlow::Continue(())).expect("memory takes a file");
    memory.read(path).expect("it was saved")
}

/// The bytes are an RDB file, whose checksum is not looked at.
pub(super) fn rdb(input: &[u8]) -> bool {
    // With the checksum nearly all inputs are refused: that must be as harmless.
    let _ = load_bytes(input, true);
    let Ok(engine) = load_bytes(input, false) else { return false };
    let sizes = engine.db_sizes();
    let saved = save_bytes(&engine);
    let again = load_bytes(&saved, true).expect("what was saved loads");
    assert_eq!(again.db_sizes(), sizes);
    assert_eq!(save_bytes(&again).len(), saved.len());
    true
}

/// The first byte is a value's type, the others the value: an RDB file is put around them.
pub(super) fn value(input: &[u8]) -> bool {
    let file =
        [b"REDIS0011", input.get(..1).unwrap_or_default(), b"\x01k", input.get(1..).unwrap_or_default()];
    rdb(&[&file.concat()[..], &[0xff, 0, 0, 0, 0, 0, 0, 0, 0]].concat())
}

/// A DUMP payload, whose checksum is not looked at: what is restored dumps to something that restores to the same.
pub(super) fn dump(input: &[u8]) -> bool {
    let engine = engine();
    let restored_from = |payload: &[u8], checked| {
        restore(payload, engine.limits(), checked).ok().map(|value| value.into_entry(b"k", None))
    };
    let payload = |entry: &Entry| encode(ValueView::of(entry.as_ref()).expect("a value"), true);
    let _ = restored_from(input, true);
    let Some(entry) = restored_from(input, false) else { return false };
    let first = payload(&entry);
    let again = payload(&restored_from(&first, true).expect("what was dumped is restored"));
    assert_eq!(again.len(), first.len());
    true
}

/// Loads an append-only file of one part.
fn load_aof(storage: &Arc<dyn Storage>, name: &str, load_truncated: bool) -> Option<(Engine, AofLoad)> {
    let place = AofPlace {
        home: Path::new("home").into(),
        dir: Path::new("home/dir").into(),
        filename: "x.aof".into(),
    };
    let engine = engine();
    let mut manifest = Manifest::parse(name.as_bytes()).expect("a manifest");
    let options = AofOptions { load_truncated, checksum: false };
    let loaded = load_log(&engine, storage, &place, &mut manifest, options, &mut |_| {}, &mut |_| {});
    loaded.ok().flatten().map(|loaded| (engine, loaded))
}

/// The bytes are a file of log, perhaps behind an RDB. A torn end is cut off, or refused; what was loaded once loads
/// again, without a torn end, as the same.
pub(super) fn aof(input: &[u8]) -> bool {
    let mut reader = Reader::new(input, 0);
    while let Item::Command(args) = reader.item() {
        if args.iter().any(|arg| large_number(arg)) {
            return false;
        }
    }
    let memory = Memory::new();
    let path = Path::new("home/dir/x.aof.1.incr.aof");
    memory.write(path, input);
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let name = "file x.aof.1.incr.aof seq 1 type i\n";
    let strict = load_aof(&storage, name, false);
    assert_eq!(memory.read(path).expect("it stays"), input, "a load that is not to cut does not");
    let Some((engine, first)) = load_aof(&storage, name, true) else {
        assert!(strict.is_none(), "who forgives more loads more");
        assert_eq!(memory.read(path).expect("it stays"), input, "what is refused is left alone");
        return false;
    };
    let kept = memory.read(path).expect("it stays");
    assert!(input.starts_with(&kept) && kept.len() as u64 + first.torn_bytes == input.len() as u64);
    assert_eq!(strict.is_some(), first.torn_bytes == 0);
    let (again, second) = load_aof(&storage, name, false).expect("what was cut is whole");
    assert_eq!((second.torn_bytes, again.db_sizes()), (0, engine.db_sizes()));
    true
}

/// The bytes are a manifest: what is read is written and read as the same.
pub(super) fn manifest(input: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(input) else { return false };
    assert!(manifest.incr.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert!(manifest.parts().all(|file| !file.name.contains(&b'/')));
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    // Lines that escapes make too long are not written.
    let written = manifest.persist(&storage, Path::new("dir"), "x").is_ok();
    if written && manifest.parts().count() + manifest.history.len() > 0 {
        let mut again = Manifest::load(&*storage, Path::new("dir"), "x").expect("what was written is read");
        // The highest number of a base is told by comments and history no more.
        again.base_seq = manifest.base_seq;
        assert_eq!(again, manifest);
    }
    true
}
