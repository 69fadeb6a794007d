//! The append-only file on storage in memory and on storage that breaks: loading, torn ends, moving the old file.

mod common;

use common::{Keys, Model};
use sluice_engine::Engine;
use sluice_engine::internals::{Outcome, Request, words};
use sluice_persistence::aof::reader::{Item, Reader};
use sluice_persistence::aof::{
    AofError, AofLoad, AofOptions, AofPlace, IncrWriter, Manifest, RewriteOptions, load, rewrite_as_commands,
};
use sluice_persistence::rdb::RdbDecoder;
use sluice_persistence::storage::{Faults, Faulty, Memory, Storage};
use sluice_persistence::{SaveOptions, save_cut};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn run(engine: &Engine, lines: &[&str]) {
    let mut session = engine.session();
    for line in lines {
        let words = words::split(line.as_bytes()).expect("words");
        let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let row = engine.lookup(args[0]).expect("a command");
        let mut out = Vec::new();
        let request = Request { args: &args, raw: None };
        let outcome = engine.call(&mut session, row, request, &mut out);
        assert_eq!(outcome, Outcome::Done, "{line}: {}", String::from_utf8_lossy(&out));
    }
}

fn contents(engine: &Engine) -> Keys {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let path = Path::new("contents");
    let cut = engine.begin_cut().expect("no other cut");
    save_cut(cut, &storage, path, &SaveOptions::default(), &mut |_| ControlFlow::Continue(()))
        .expect("saved");
    let bytes = memory.read(path).expect("file");
    let mut model = Model::default();
    RdbDecoder::with_checksum(&bytes[..], true).run(&mut model).expect("decodes");
    model.keys
}

fn place() -> AofPlace {
    AofPlace { home: PathBuf::from("home"), dir: PathBuf::from("home/dir"), filename: "x.aof".into() }
}

fn load_all(storage: &Arc<dyn Storage>, load_truncated: bool) -> Result<(Engine, Option<AofLoad>), AofError> {
    let engine = Engine::default();
    let place = place();
    let mut manifest = Manifest::load(&**storage, &place.dir, &place.filename)?;
    let options = AofOptions { load_truncated, checksum: true };
    let loaded = load(&engine, storage, &place, &mut manifest, options, &mut |_| (), &mut |_| ())?;
    Ok((engine, loaded))
}

/// What the engine logs while `lines` run.
fn log_of(lines: &[&str]) -> Vec<u8> {
    let engine = Engine::default();
    engine.log().activate();
    let mut reader = engine.log().reader(0).expect("a reader");
    run(&engine, lines);
    let mut log = Vec::new();
    loop {
        let piece = reader.read(usize::MAX).expect("it goes on");
        if piece.is_empty() {
            return log;
        }
        log.extend_from_slice(&piece);
    }
}

fn with_log(log: &[u8]) -> (Memory, Arc<dyn Storage>) {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let mut manifest = Manifest::default();
    let file = manifest.add_incr("x.aof");
    manifest.persist(&storage, &place().dir, "x.aof").expect("manifest");
    memory.write(&file.path(&place().dir), log);
    (memory, storage)
}

const LINES: &[&str] = &[
    "SET a 1",
    "SELECT 3",
    "RPUSH list one two three",
    "PEXPIREAT list 99999999999999",
    "MULTI",
    "SET b 2",
    "SELECT 0",
    "HSET h f v",
    "EXEC",
    "INCRBYFLOAT a 0.5",
    "SADD s 1 2 3",
    "SPOP s",
];

#[test]
fn a_cut_as_commands_makes_the_same_data_again() {
    let engine = Engine::default();
    run(&engine, LINES);
    let mut big = vec!["RPUSH biglist".to_owned(), "SADD bigset".to_owned()];
    let (mut hash, mut zset) = ("HSET bighash".to_owned(), "ZADD bigzset -inf least inf most".to_owned());
    for n in 0..1000 {
        big.iter_mut().for_each(|line| *line += &format!(" item:{n}"));
        hash += &format!(" field:{n} {n}");
        zset += &format!(" {}.25 member:{n}", n * 7 % 31);
    }
    big.extend([hash, zset, format!("RPUSH plain {} small", "x".repeat(100_000))]);
    big.push("PEXPIREAT bighash 99999999999999".into());
    run(&engine, &big.iter().map(String::as_str).collect::<Vec<_>>());

    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let mut manifest = Manifest::default();
    manifest.advance_base("x.aof", false);
    manifest.persist(&storage, &place().dir, "x.aof").expect("manifest");
    let path = manifest.base.expect("a base").path(&place().dir);
    let options = RewriteOptions { timestamp: Some(17) };
    let cut = engine.begin_cut().expect("no other cut");
    let mut go_on = |_: &_| ControlFlow::Continue(());
    let stats = rewrite_as_commands(cut, &storage, &path, &options, &mut go_on).expect("rewritten");

    let bytes = memory.read(&path).expect("file");
    assert_eq!(stats.bytes, bytes.len() as u64);
    let mut reader = Reader::new(&bytes, 0);
    assert!(matches!(reader.item(), Item::Annotation(Some(17))));
    loop {
        match reader.item() {
            Item::Command(args) => assert!(args.len() <= 2 + 64 * 2, "{} arguments", args.len()),
            Item::End => break,
            other => panic!("{other:?}"),
        }
    }
    let (again, _) = load_all(&storage, false).expect("loads");
    assert_eq!(contents(&again), contents(&engine));
}

#[test]
fn base_and_log_come_in_order_and_a_second_rewrite_changes_nothing() {
    let engine = Engine::default();
    engine.log().activate();
    run(&engine, LINES);
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let mut manifest = Manifest::default();
    let mut incr: Option<IncrWriter> = None;
    let mut reader = engine.log().reader(engine.log().end()).expect("a reader");
    for (round, rdb) in [true, false, true].into_iter().enumerate() {
        // The log so far belongs into the file so far.
        while let (Some(file), piece) = (&mut incr, reader.read(usize::MAX).expect("it goes on")) {
            if piece.is_empty() {
                break;
            }
            file.write(&piece).expect("written");
        }
        let cut = engine.begin_cut().expect("no other cut");
        reader = engine.log().reader(cut.offset()).expect("a reader");
        let file = manifest.add_incr("x.aof").path(&place().dir);
        incr = Some(IncrWriter::create(&storage, &file).expect("a file"));
        run(&engine, &[&format!("SET round {round}"), "SELECT 2", "INCR rounds", "RPUSH l x"]);
        manifest.advance_base("x.aof", rdb);
        let path = manifest.base.as_ref().expect("a base").path(&place().dir);
        let mut go_on = |_: &_| ControlFlow::Continue(());
        if rdb {
            let options = SaveOptions { aof_base: true, ..SaveOptions::default() };
            save_cut(cut, &storage, &path, &options, &mut go_on).expect("saved");
        } else {
            rewrite_as_commands(cut, &storage, &path, &RewriteOptions::default(), &mut go_on).expect("saved");
        }
        manifest.retire_incr(true);
        manifest.persist(&storage, &place().dir, "x.aof").expect("manifest");
        run(&engine, &["SET after-base 1", "LPOP l"]);
    }
    let mut file = incr.expect("a file");
    loop {
        let piece = reader.read(usize::MAX).expect("it goes on");
        if piece.is_empty() {
            break;
        }
        file.write(&piece).expect("written");
    }
    let (again, loaded) = load_all(&storage, false).expect("loads");
    assert_eq!(contents(&again), contents(&engine));
    assert_eq!(loaded.expect("something").refused, 0);
}

#[test]
fn a_log_torn_at_any_byte_loads_up_to_the_last_whole_command_or_block() {
    let log = log_of(LINES);
    // Where a whole command or block ends, and the data there.
    let mut wholes = Vec::new();
    let mut reader = Reader::new(&log, 0);
    loop {
        if !reader.in_block() {
            let (_, storage) = with_log(&log[..reader.offset()]);
            let (engine, _) = load_all(&storage, false).expect("whole");
            wholes.push((reader.offset(), contents(&engine)));
        }
        if let Item::End = reader.item() {
            break;
        }
    }
    for len in 0..=log.len() {
        let (whole, expected) = wholes.iter().rev().find(|(at, _)| *at <= len).expect("the beginning");
        let (memory, storage) = with_log(&log[..len]);
        let strict = load_all(&storage, false);
        assert_eq!(strict.is_ok(), *whole == len, "{len}");
        if *whole < len {
            assert!(matches!(strict, Err(AofError::Torn { .. })), "{len}");
        }
        let (engine, loaded) = load_all(&storage, true).expect("loads");
        assert_eq!(contents(&engine), *expected, "torn at {len}");
        let loaded = loaded.expect("something");
        assert_eq!((loaded.torn_bytes, loaded.bytes), ((len - whole) as u64, *whole as u64));
        let path = place().dir.join("x.aof.1.incr.aof");
        assert_eq!(memory.read(&path).expect("file"), &log[..*whole]);
        assert_eq!(load_all(&storage, false).expect("loads").1.expect("something").torn_bytes, 0);
    }
}

#[test]
fn a_torn_file_that_others_with_content_follow_ends_the_load_and_is_left_alone() {
    let log = log_of(LINES);
    let (memory, storage) = with_log(&log[..log.len() - 3]);
    let mut manifest = Manifest::load(&*storage, &place().dir, "x.aof").expect("manifest");
    let second = manifest.add_incr("x.aof").path(&place().dir);
    manifest.persist(&storage, &place().dir, "x.aof").expect("manifest");
    memory.write(&second, &log_of(&["SET z 1"]));
    assert!(matches!(load_all(&storage, true), Err(AofError::TornInside { .. })));
    assert_eq!(memory.read(&place().dir.join("x.aof.1.incr.aof")).expect("file").len(), log.len() - 3);
    // Nothing was written to it yet: then the first one is where the log ends.
    memory.write(&second, b"");
    assert!(load_all(&storage, true).is_ok());
}

#[test]
fn damaged_bytes_are_an_error_or_other_data_and_never_a_panic() {
    let log = log_of(LINES);
    for at in 0..log.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut bad = log.clone();
            bad[at] ^= flip;
            let (_, storage) = with_log(&bad);
            let _ = load_all(&storage, true);
        }
    }
}

#[test]
fn what_this_server_does_not_know_ends_the_load() {
    let (_, storage) = with_log(b"*2\r\n$3\r\nbla\r\n$1\r\nx\r\n");
    let text = load_all(&storage, true).expect_err("unknown").to_string();
    assert!(
        text.starts_with("Unknown command 'bla' reading the append only file x.aof.1.incr.aof"),
        "{text}"
    );
    let (_, storage) = with_log(b"*2\r\n$6\r\nSELECT\r\n$4\r\n9999\r\n");
    assert!(matches!(load_all(&storage, true), Err(AofError::Database { .. })));
    let (memory, storage) = with_log(b"");
    memory.remove(&place().dir.join("x.aof.1.incr.aof")).expect("removed");
    assert!(matches!(load_all(&storage, true), Err(AofError::Missing { .. })));
}

#[test]
fn a_crash_anywhere_in_the_move_of_an_old_file_leaves_it_to_be_done_again() {
    let log = log_of(LINES);
    let expected = {
        let (_, storage) = with_log(&log);
        contents(&load_all(&storage, false).expect("loads").0)
    };
    let old = place().home.join("x.aof");
    let mut done = false;
    for crash_at in 1.. {
        for seed in 0..8 {
            let memory = Memory::new();
            memory.write(&old, &log);
            let faulty =
                Faulty::new(memory.clone(), Faults { seed, crash_at: Some(crash_at), ..Faults::default() });
            let storage: Arc<dyn Storage> = Arc::new(faulty.clone());
            done = load_all(&storage, true).is_ok();
            faulty.crash();
            faulty.restart().expect("restarts");
            let (engine, _) =
                load_all(&storage, true).unwrap_or_else(|e| panic!("crash at {crash_at}, seed {seed}: {e}"));
            assert_eq!(contents(&engine), expected, "crash at {crash_at}, seed {seed}");
        }
        if done {
            break;
        }
    }
}
