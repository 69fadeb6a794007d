//! RDB streams and payloads in Valkey's dialect.

use sluice_engine::Engine;
use sluice_persistence::rdb::{HEADER_LEN, checksum::Checksum, restore, version_of};
use sluice_persistence::storage::Memory;
use sluice_persistence::{LoadOptions, load};
use std::path::Path;

/// What valkey-server 9.1 wrote: `SET a b`, `HSET h f v`; then what is put in between, and the end.
fn file(magic: &str, more: &[u8]) -> Vec<u8> {
    let mut file = magic.as_bytes().to_vec();
    file.extend_from_slice(b"\xfa\x0avalkey-ver\x059.1.2\xfe\x00\xfb\x02\x00\x00\x01a\x01b");
    file.extend_from_slice(b"\x10\x01h\x0d\x0d\0\0\0\x02\0\x81f\x02\x81v\x02\xff");
    file.extend_from_slice(more);
    file.push(0xff);
    let mut checksum = Checksum::new();
    checksum.update(&file);
    file.extend_from_slice(&checksum.value().to_le_bytes());
    file
}

fn load_bytes(bytes: &[u8]) -> Result<Engine, String> {
    let (memory, path) = (Memory::new(), Path::new("dump.rdb"));
    memory.write(path, bytes);
    let engine = Engine::default();
    let mut loader = engine.loader();
    let loaded = load(&mut loader, &memory, path, &LoadOptions::default());
    loader.finish();
    loaded.map(|_| engine).map_err(|e| e.to_string())
}

#[test]
fn a_file_of_valkey_with_ordinary_types_loads() {
    let engine = load_bytes(&file("VALKEY080", b"")).expect("it loads");
    let db = engine.db(0);
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&b"b"[..]));
    assert_eq!(db.hget("h", "f").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn what_only_valkey_has_is_refused_by_name_and_other_headers_as_what_they_are() {
    let hash = b"\x16\x02h2\x01\x01f\x01vw\xd6\xd7\x11\xa2\x01\0\0";
    for (magic, more, text) in [
        ("VALKEY080", &hash[..], "a hash with fields that expire, of Valkey 9 (value type 22) at key \"h2\""),
        ("REDIS0012", hash, "a hash with fields that expire (value type 22)"),
        ("VALKEY080", b"\x17\x01k", "a value of a type that is Valkey's alone (value type 23)"),
        ("VALKEY080", b"\xf3\x01j", "a cluster's slots on their way"),
        ("REDIS0010", b"\xf3\x01j", "unknown opcode or value type 243"),
        ("VALKEY081", b"", "Valkey's RDB version 81; this server reads 80 to 80"),
        ("VALKEY011", b"", "Valkey's RDB version 11"),
        ("REDIS0080", b"", "RDB version 80; this server reads 1 to 13"),
        ("VALKEYx80", b"", "the version is not a number"),
        ("VALKEX080", b"", "this is not an RDB"),
    ] {
        let error = load_bytes(&file(magic, more)).expect_err(magic);
        assert!(error.contains(text), "{magic}: {error}");
    }
    assert_eq!(HEADER_LEN, 9);
    assert_eq!(version_of(b"VALKEY080").unwrap(), 80);
}

#[test]
fn payloads_of_valkey_are_restored() {
    let limits = Engine::default();
    let limits = limits.limits();
    // DUMP of `SET a b`, and of a hash with a field that expires, by valkey-server 9.1.
    assert!(restore(b"\0\x01bP\0\xd9\x0eq\08\xb1uw", limits, true).is_ok());
    let hash = b"\x16\x01\x01f\x01vw\xd6\xd7\x11\xa2\x01\0\0P\0\x9e\xb7\xa5\xa9mTYo";
    let error = restore(hash, limits, true).unwrap_err().to_string();
    assert!(error.contains("of Valkey 9"), "{error}");
    assert!(restore(b"\0\x01bQ\0\xd9\x0eq\08\xb1uw", limits, false).is_err());
}
