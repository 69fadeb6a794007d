//! Streams and modules' values: accepted where they are sound, refused where they are not, and carried as they stand.

mod common;

use common::streams::{Stream, all, id, module, sound};
use common::{Plain, Rdb, decode, redis};
use sluice_engine::internals::Value;
use sluice_engine::{Engine, ValueView};
use sluice_persistence::aof::reader::{Item, Reader};
use sluice_persistence::aof::{RewriteOptions, rewrite_as_commands};
use sluice_persistence::rdb::format::value_type::{
    MODULE_2, STREAM_LISTPACKS, STREAM_LISTPACKS_2, STREAM_LISTPACKS_3, STRING,
};
use sluice_persistence::rdb::source::ReadSource;
use sluice_persistence::rdb::{PayloadFooter, RdbDecoder, RestoreError, Restored, dump, length, restore};
use sluice_persistence::storage::{Memory, Storage};
use sluice_persistence::{LoadOptions, SaveOptions, load, save};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const PATH: &str = "dump.rdb";

/// A file with one key, and a string behind it.
fn file(kind: u8, value: &[u8]) -> Vec<u8> {
    Rdb::new(11).raw(&[kind, 1, b'k']).raw(value).raw(&[STRING, 4]).raw(b"last\x01v").end()
}

fn loaded(bytes: &[u8]) -> Engine {
    let memory = Memory::new();
    memory.write(Path::new(PATH), bytes);
    let engine = Engine::default();
    let mut loader = engine.loader();
    load(&mut loader, &memory, Path::new(PATH), &LoadOptions::default()).unwrap();
    loader.finish();
    engine
}

/// What the engine holds at `k`.
fn held(engine: &Engine) -> Vec<u8> {
    engine.exclusive(0, &mut Vec::new(), |cx| match cx.keys.peek(b"k").and_then(ValueView::of) {
        Some(ValueView::Opaque(value)) => value.as_bytes().to_vec(),
        other => panic!("{other:?}"),
    })
}

fn payload(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut payload = [&[kind], value].concat();
    let mut footer = PayloadFooter::default();
    footer.update(&payload);
    payload.extend(footer.finish());
    payload
}

#[test]
fn a_value_of_each_kind_is_told_as_it_stands() {
    for (kind, value, name) in all() {
        let bytes = file(kind, &value);
        let expected = Plain::Opaque(name.into(), [&[kind], &value[..]].concat());
        let by_the_byte = ReadSource::new(OneByOne(&bytes));
        let mut slowly = common::Model::default();
        RdbDecoder::new(by_the_byte).run(&mut slowly).unwrap();
        for model in [decode(&bytes).unwrap(), slowly] {
            assert_eq!(model.keys[&(0, b"k".to_vec())].0, expected, "type {kind}");
            assert_eq!(model.keys.len(), 2);
        }
    }
}

struct OneByOne<'a>(&'a [u8]);

impl std::io::Read for OneByOne<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = out.len().min(1);
        std::io::Read::read(&mut self.0, &mut out[..n])
    }
}

#[test]
fn file_dump_and_commands_hold_the_bytes_that_came() {
    for (kind, value, _) in all() {
        let engine = loaded(&file(kind, &value));
        let whole = [&[kind], &value[..]].concat();
        assert_eq!(held(&engine), whole);
        let memory = Memory::new();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let path = Path::new(PATH);
        save(&engine, &storage, path, &SaveOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(held(&loaded(&memory.read(path).unwrap())), whole);

        let expected = payload(kind, &value);
        let Restored::Value(restored) = restore(&expected, engine.limits(), true).unwrap() else { panic!() };
        let Value::Opaque(restored) = restored else { panic!("{restored:?}") };
        assert_eq!(dump(ValueView::Opaque(&restored), true), expected);

        let cut = engine.begin_cut().unwrap();
        let (options, mut go_on) = (RewriteOptions::default(), |_: &_| ControlFlow::Continue(()));
        rewrite_as_commands(cut, &storage, path, &options, &mut go_on).unwrap();
        let log = memory.read(path).unwrap();
        assert!(restores(&log).iter().any(|args| args[1..] == [&b"k"[..], b"0", &expected]));
    }
}

fn restores(log: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut reader = Reader::new(log, 0);
    let mut all = Vec::new();
    loop {
        match reader.item() {
            Item::Command(args) if args[0] == b"RESTORE" => {
                all.push(args.iter().map(|arg| arg.to_vec()).collect());
            }
            Item::Command(_) => {}
            Item::End => return all,
            other => panic!("{other:?}"),
        }
    }
}

/// A stream of many nodes and many pending entries, which is delivered in pieces.
fn long_stream(nodes: u64, pending: u64) -> Stream {
    let mut stream = sound(STREAM_LISTPACKS_2);
    let filler = "x".repeat(4000);
    stream.nodes = (0..nodes).map(|n| (id(n), format!("1 0 1 f 0 2 0 0 {filler}{n} 4"))).collect();
    stream.group(|group| {
        group.pending = (0..pending).collect();
        group.consumers = vec![("all", (0..pending).rev().collect())];
    })
}

#[test]
fn a_long_stream_leaves_in_pieces_as_the_bytes_that_came() {
    let value = long_stream(500, 20_000).value();
    assert!(value.len() > 2 << 20);
    let engine = loaded(&file(STREAM_LISTPACKS_2, &value));
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let path = Path::new(PATH);
    let mut chunks = 0;
    let mut count = |_: &_| {
        chunks += 1;
        ControlFlow::Continue(())
    };
    save(&engine, &storage, path, &SaveOptions::default(), &mut count).unwrap();
    assert!(chunks > 2, "{chunks} chunks of a megabyte");
    assert_eq!(held(&loaded(&memory.read(path).unwrap()))[1..], value);
    let cut = engine.begin_cut().unwrap();
    let mut go_on = |_: &_| ControlFlow::Continue(());
    rewrite_as_commands(cut, &storage, path, &RewriteOptions::default(), &mut go_on).unwrap();
    let log = memory.read(path).unwrap();
    assert_eq!(restores(&log)[0][3], payload(STREAM_LISTPACKS_2, &value));
}

#[test]
fn a_file_that_ends_inside_of_a_value_is_truncated() {
    for (kind, value, _) in all() {
        let bytes = file(kind, &value);
        for len in 9..bytes.len() {
            let error = decode(&bytes[..len]).unwrap_err().to_string();
            assert!(error.starts_with("truncated RDB"), "type {kind} cut at {len}: {error}");
        }
    }
}

#[test]
fn flipped_bits_are_refused_or_other_data_and_never_a_panic() {
    let engine = Engine::default();
    for (kind, value, _) in all() {
        let mut payload = payload(kind, &value);
        for bit in 0..payload.len() * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            assert!(restore(&payload, engine.limits(), true).is_err(), "type {kind}, bit {bit}");
            if let Ok(restored) = restore(&payload, engine.limits(), false) {
                let entry = restored.into_entry(b"k", None);
                dump(ValueView::of(entry.as_ref()).unwrap(), true);
            }
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

fn refusal(kind: u8, value: &[u8]) -> String {
    let engine = Engine::default();
    match restore(&payload(kind, value), engine.limits(), true) {
        Err(RestoreError::Value(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_that_is_not_put_together_right_is_refused_with_the_reason() {
    let good = || sound(STREAM_LISTPACKS_2);
    let node = |items: &str| good().node(0, items);
    let cases: Vec<(Stream, &str)> = vec![
        (node(""), "no number of entries"),
        (node("x 0 0 0"), "no number of entries"),
        (node("-1 1 0 0"), "no number of entries"),
        (node("0"), "no number of deleted entries"),
        (node("1 -1 0 0"), "no number of deleted entries"),
        (node("1 0 -3 0"), "no number of fields"),
        (node("1 0 9 a b 0"), "the master entry ends early"),
        (node("1 0 9223372036854775807 a b 0"), "the master entry ends early"),
        (node("1 0 1 a"), "the master entry has no end"),
        (node("1 0 1 a 1"), "the master entry does not end in 0"),
        (node("9223372036854775807 9223372036854775807 0 0"), "an entry without flags"),
        (node("1 0 1 a 0 x 0 0 v 4"), "an entry without flags"),
        (node("1 0 1 a 0 2"), "an entry without an id"),
        (node("1 0 1 a 0 2 0 x"), "an entry without a whole id"),
        (node("1 0 1 a 0 0 0 0 x"), "an entry without a number of fields"),
        (node("1 0 1 a 0 0 0 0 -1"), "an entry without a number of fields"),
        (node("1 0 1 a 0 0 0 0 9223372036854775807 f v"), "an entry without all of its fields"),
        (node("1 0 1 a 0 0 0 0 1 f"), "an entry without all of its values"),
        (node("1 0 1 a 0 2 0 0"), "an entry without all of its values"),
        (node("1 0 1 a 0 2 0 0 v"), "an entry without an end"),
        (node("1 0 1 a 0 2 0 0 v 5"), "an entry with a wrong number of items"),
        (node("1 0 1 a 0 0 0 0 1 f v 4"), "an entry with a wrong number of items"),
        (node("1 0 1 a 0 2 0 0 v 4 9"), "something behind the last entry"),
    ];
    for (stream, why) in cases {
        let said = refusal(stream.kind, &stream.value());
        assert!(said.ends_with(&format!("Stream listpack integrity check failed: {why}")), "{said}");
        assert!(said.starts_with("damaged RDB at byte 19:"), "the listpack is at 19: {said}");
    }
    let mut short_id = good();
    short_id.nodes[1].0.pop();
    let mut twice = good();
    twice.nodes[1].0 = id(1000);
    let mut empty = good();
    empty.nodes.clear();
    let mut groups = good();
    groups.groups[0].name = "12";
    let cases = [
        (short_id, "Stream node key entry is not the size of a stream ID"),
        (twice, "Listpack re-added with existing key: a stream with two nodes of one id"),
        (empty, "Stream length inconsistent with rax entries: 3 entries, no node"),
        (groups, "Duplicated consumer group name"),
        (good().group(|g| g.pending.push(2)), "Duplicated global PEL entry loading stream consumer group"),
        (good().group(|g| g.pending.push(9)), "Stream CG PEL entry without consumer"),
        (good().group(|g| g.consumers[1].0 = "a"), "Duplicate stream consumer detected"),
        (good().group(|g| g.consumers[1].1 = vec![8]), "Consumer entry not found in group global PEL"),
        (
            good().group(|g| g.consumers[1].1 = vec![1]),
            "Stream consumer PEL entry already has a consumer assigned",
        ),
        (
            good().group(|g| g.consumers[1].1 = vec![2, 2]),
            "Stream consumer PEL entry already has a consumer assigned",
        ),
    ];
    for (stream, why) in cases {
        let said = refusal(stream.kind, &stream.value());
        assert!(said.ends_with(why), "{said}, not {why}");
    }
}

#[test]
fn a_count_that_lies_ends_where_the_bytes_end() {
    let lie = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let mut groups = vec![0, 0, 0, 0, 0, 0, 0, 0, 0];
    groups.extend(lie);
    for value in [&lie[..], &groups, &[&lie[..], &[16]].concat()] {
        assert!(refusal(STREAM_LISTPACKS_2, value).starts_with("truncated"), "{value:?}");
    }
}

#[test]
fn a_stream_with_nothing_in_it_is_a_value() {
    for kind in [STREAM_LISTPACKS, STREAM_LISTPACKS_2, STREAM_LISTPACKS_3] {
        let mut stream = sound(kind);
        stream.nodes.clear();
        stream.entries = 0;
        stream.groups[1].pending.clear();
        stream.groups[1].consumers.clear();
        let value = stream.value();
        assert_eq!(held(&loaded(&file(kind, &value)))[1..], value);
    }
}

#[test]
fn module_data_of_an_unknown_kind_or_without_an_end_is_refused() {
    let good = module("hellotype");
    let mut unknown = good.clone();
    unknown[9] = 6;
    assert!(refusal(MODULE_2, &unknown).contains("unknown kind 6 of module data"));
    assert!(refusal(MODULE_2, &good[..good.len() - 1]).starts_with("truncated"));
    let mut string = good[..9].to_vec();
    string.push(5);
    length::put(&mut string, 1 << 33);
    assert!(refusal(MODULE_2, &string).contains("longer than any value may be"));
}

#[test]
fn an_expired_stream_is_left_out() {
    let mut bytes = vec![0xfc];
    bytes.extend(1000u64.to_le_bytes());
    bytes.extend([STREAM_LISTPACKS_2, 1, b'k']);
    let bytes = Rdb::new(10).raw(&bytes).raw(&sound(STREAM_LISTPACKS_2).value()).end();
    let memory = Memory::new();
    memory.write(Path::new(PATH), &bytes);
    let engine = Engine::default();
    let options = LoadOptions { drop_expired_before: Some(2000), ..LoadOptions::default() };
    let stats = load(&mut engine.loader(), &memory, Path::new(PATH), &options).unwrap();
    assert_eq!((stats.report.keys, stats.report.expired), (0, 1));
}

#[test]
fn streams_of_a_real_server_are_taken_and_come_back_byte_for_byte() {
    if !redis::available("streams_of_a_real_server_are_taken_and_come_back_byte_for_byte") {
        return;
    }
    for compression in ["yes", "no"] {
        let mut real = redis::start(None, &["--rdbcompression", compression]).unwrap();
        redis::fill_streams(&mut real);
        let keys = real.say("KEYS *").array();
        let file = real.save();
        let engine = loaded(&file);
        let memory = Memory::new();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let options = SaveOptions { compression: compression == "yes", ..SaveOptions::default() };
        let path = Path::new(PATH);
        save(&engine, &storage, path, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let mut again = redis::start(Some(&memory.read(path).unwrap()), &[]).expect("it loads what we saved");
        assert_eq!(again.digest(), real.digest());
        assert!(keys.len() >= 5);
        for key in keys {
            let key = key.text();
            let info = [&b"XINFO"[..], b"STREAM", &key, b"FULL", b"COUNT", b"0"];
            let (theirs, ours) = (real.run(&info), again.run(&info));
            assert_eq!(without_times(ours), without_times(theirs), "{}", key.escape_ascii());
            let theirs = real.run(&[b"DUMP", &key]).text();
            let ours = engine.exclusive(0, &mut Vec::new(), |cx| {
                dump(cx.keys.peek(&key).and_then(ValueView::of).unwrap(), true)
            });
            assert_eq!(ours, theirs, "DUMP {}", key.escape_ascii());
        }
    }
}

/// XINFO tells how the radix tree is built, which need not be the same.
fn without_times(info: redis::Reply) -> redis::Reply {
    let redis::Reply::Array(mut items) = info else { panic!("{info:?}") };
    items.drain(2..6);
    redis::Reply::Array(items)
}
