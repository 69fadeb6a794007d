//! Streams assembled by hand: every version, every old encoding, and every way to break them.

mod common;

use common::*;
use proptest::prelude::*;
use sluice_persistence::rdb::format::{opcode, value_type};
use sluice_persistence::rdb::source::{ReadSource, Source};
use sluice_persistence::rdb::*;
use std::io::{self, Read};

fn list(items: &[&str]) -> Plain {
    Plain::List(items.iter().map(|item| item.as_bytes().to_vec()).collect())
}

fn set(items: &[&str]) -> Plain {
    Plain::Set(items.iter().map(|item| item.as_bytes().to_vec()).collect())
}

fn hash(items: &[(&str, &str)]) -> Plain {
    Plain::Hash(items.iter().map(|(f, v)| (f.as_bytes().to_vec(), v.as_bytes().to_vec())).collect())
}

fn zset(items: &[(&str, f64)]) -> Plain {
    Plain::ZSet(items.iter().map(|(m, s)| (m.as_bytes().to_vec(), *s)).collect())
}

/// One key of every value type that version 1 to 11 may hold, each in database 3.
fn every_type(version: u32) -> (Vec<u8>, Vec<(&'static str, Plain)>) {
    let mut rdb = Rdb::new(version).raw(&[opcode::SELECTDB, 3]);
    let mut expected = Vec::new();
    let mut add = |kind: u8, name: &'static str, value: Rdb, plain: Plain| {
        let head = std::mem::replace(&mut rdb, Rdb(Vec::new()));
        rdb = head.raw(&[kind]).string(name.as_bytes()).raw(&value.0);
        expected.push((name, plain));
    };
    let empty = || Rdb(Vec::new());
    add(value_type::STRING, "string", empty().string(b"text"), Plain::Str(b"text".to_vec()));
    add(value_type::STRING, "int8", empty().raw(&[0xc0, 0xfb]), Plain::Str(b"-5".to_vec()));
    add(value_type::STRING, "int16", empty().raw(&[0xc1, 0, 0x80]), Plain::Str(b"-32768".to_vec()));
    add(
        value_type::STRING,
        "int32",
        empty().raw(&[0xc2, 0xff, 0xff, 0xff, 0x7f]),
        Plain::Str(b"2147483647".to_vec()),
    );
    let lzf = empty().raw(&[0xc3, 5, 40, 0, b'a', 0xe0, 30, 0]);
    add(value_type::STRING, "lzf", lzf, Plain::Str(vec![b'a'; 40]));
    let wide = empty().raw(&[0x80, 0, 0, 0, 3]).raw(b"abc");
    add(value_type::STRING, "len32", wide, Plain::Str(b"abc".to_vec()));
    let wide = empty().raw(&[0x81, 0, 0, 0, 0, 0, 0, 0, 3]).raw(b"abc");
    add(value_type::STRING, "len64", wide, Plain::Str(b"abc".to_vec()));
    let wide = empty().raw(&[0x40, 3]).raw(b"abc");
    add(value_type::STRING, "len14", wide, Plain::Str(b"abc".to_vec()));
    let items = empty().raw(&[3]).string(b"x").raw(&[0xc0, 7]).string(b"x");
    add(value_type::LIST, "list", items, list(&["x", "7", "x"]));
    add(value_type::SET, "set", empty().raw(&[2]).string(b"m").raw(&[0xc0, 9]), set(&["m", "9"]));
    let scores = empty().raw(&[4]).string(b"a").raw(&[3]).raw(b"1.5").string(b"p").raw(&[254]);
    let scores = scores.string(b"n").raw(&[255]).string(b"b").raw(&[2]).raw(b"-3");
    let members = [("a", 1.5), ("p", f64::INFINITY), ("n", f64::NEG_INFINITY), ("b", -3.0)];
    add(value_type::ZSET, "zset1", scores, zset(&members));
    let scores = empty().raw(&[1]).string(b"a").raw(&0.1f64.to_le_bytes());
    add(value_type::ZSET_2, "zset2", scores, zset(&[("a", 0.1)]));
    let pairs = empty().raw(&[2]).string(b"f").string(b"v").string(b"g").raw(&[0xc0, 1]);
    add(value_type::HASH, "hash", pairs, hash(&[("f", "v"), ("g", "1")]));
    let zipmap = [1, 1, b'f', 1, 2, b'v', 0, 0, 0xff];
    add(value_type::HASH_ZIPMAP, "zipmap", empty().string(&zipmap), hash(&[("f", "v")]));
    let packed = ziplist(&[b"a", b"b", b"a"]);
    add(value_type::LIST_ZIPLIST, "lziplist", empty().string(&packed), list(&["a", "b", "a"]));
    let intset = [2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0];
    add(value_type::SET_INTSET, "intset", empty().string(&intset), set(&["-1", "5"]));
    let packed = ziplist(&[b"m", b"2.5", b"k", b"-inf"]);
    let members = [("m", 2.5), ("k", f64::NEG_INFINITY)];
    add(value_type::ZSET_ZIPLIST, "zziplist", empty().string(&packed), zset(&members));
    let packed = ziplist(&[b"f", b"v", b"g", b"w"]);
    add(value_type::HASH_ZIPLIST, "hziplist", empty().string(&packed), hash(&[("f", "v"), ("g", "w")]));
    let nodes = empty().raw(&[3]).string(&ziplist(&[b"a", b"b"])).string(&ziplist(&[]));
    let nodes = nodes.string(&ziplist(&[b"c"]));
    add(value_type::LIST_QUICKLIST, "quicklist", nodes, list(&["a", "b", "c"]));
    let listpack = |items: &[&str]| {
        let mut listpack = sluice_engine::internals::Listpack::new();
        items.iter().for_each(|item| listpack.push_back(item.as_bytes()));
        listpack.as_bytes().to_vec()
    };
    let packed = listpack(&["f", "v", "7", "1"]);
    add(value_type::HASH_LISTPACK, "hlistpack", empty().string(&packed), hash(&[("f", "v"), ("7", "1")]));
    let packed = listpack(&["m", "-1", "k", "2.5"]);
    let members = [("m", -1.0), ("k", 2.5)];
    add(value_type::ZSET_LISTPACK, "zlistpack", empty().string(&packed), zset(&members));
    let packed = listpack(&["m", "5", "k", "2.5"]);
    let members = [("m", 5.0), ("k", 2.5)];
    add(value_type::ZSET_LISTPACK, "zlistpack out of order", empty().string(&packed), zset(&members));
    let nodes = empty().raw(&[2, 2]).string(&listpack(&["a", "1"])).raw(&[1]).string(b"plain");
    add(value_type::LIST_QUICKLIST_2, "quicklist2", nodes, list(&["a", "1", "plain"]));
    let packed = listpack(&["m", "12"]);
    add(value_type::SET_LISTPACK, "slistpack", empty().string(&packed), set(&["m", "12"]));
    (rdb.end(), expected)
}

#[test]
fn every_version_and_every_encoding_reads() {
    for version in 1..=11 {
        let (bytes, expected) = every_type(version);
        let model = decode(&bytes).unwrap();
        assert_eq!(model.keys.len(), expected.len());
        for (name, plain) in expected {
            let (found, expiry) = &model.keys[&(3, name.as_bytes().to_vec())];
            assert_eq!((found, *expiry), (&plain, None), "{name} in version {version}");
        }
    }
}

#[test]
fn a_stream_reads_the_same_a_byte_at_a_time() {
    struct Single<'a>(&'a [u8]);
    impl Read for Single<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(out.len()).min(1);
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }
    let (mut bytes, _) = every_type(11);
    bytes.extend(b"what follows");
    let mut model = Model::default();
    let mut decoder = RdbDecoder::new(ReadSource::new(Single(&bytes)));
    decoder.run(&mut model).unwrap();
    assert_eq!(model.keys, decode(&bytes).unwrap().keys);
    assert_eq!(decoder.offset(), bytes.len() as u64 - 12);
    let (rest, unread) = decoder.into_source().into_parts();
    assert_eq!([&unread[..], rest.0].concat(), b"what follows");
}

/// Bytes that arrive in frames, as over a link.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Source for Frames {
    fn window(&self) -> &[u8] {
        &self.0
    }
    fn fill(&mut self, want: usize) -> io::Result<bool> {
        Ok(self.0.len() >= want)
    }
    fn consume(&mut self, n: usize) {
        self.0.drain(..n);
    }
}

#[test]
fn a_decoder_waits_between_keys_and_between_elements() {
    // A header, half an expiring hash, its other half, the end.
    let frames: [&[u8]; 4] = [
        b"REDIS0010\xfe\x00",
        b"\xfc\x01\0\0\0\0\0\0\0\x04\x01h\x02\x01a\x01b",
        b"\x01c\x01d",
        b"\xff\0\0\0\0\0\0\0\0",
    ];
    let mut model = Model::default();
    let mut decoder = RdbDecoder::new(Frames::default());
    assert_eq!(decoder.step(&mut model).unwrap(), Step::Starved);
    let mut steps = Vec::new();
    for frame in frames {
        decoder.source_mut().0.extend_from_slice(frame);
        steps.push(loop {
            match decoder.step(&mut model).unwrap() {
                Step::More => {}
                last => break last,
            }
        });
    }
    assert_eq!(steps, [Step::Starved, Step::Starved, Step::Starved, Step::Done]);
    assert_eq!(model.keys[&(0, b"h".to_vec())], (hash(&[("a", "b"), ("c", "d")]), Some(1)));
}

#[test]
fn what_is_said_beside_the_value_is_told() {
    let bytes = Rdb::new(9)
        .raw(&[opcode::AUX])
        .string(b"redis-ver")
        .string(b"5.0.1")
        .raw(&[opcode::AUX])
        .string(b"redis-bits")
        .raw(&[0xc0, 64])
        .raw(&[opcode::SELECTDB, 0, opcode::RESIZEDB, 3, 2])
        .raw(&[opcode::EXPIRETIME])
        .raw(&1_000_000i32.to_le_bytes())
        .raw(&[opcode::IDLE, 0x41, 0, value_type::STRING])
        .string(b"old")
        .string(b"v")
        .raw(&[opcode::EXPIRETIME_MS])
        .raw(&1_700_000_000_123i64.to_le_bytes())
        .raw(&[opcode::FREQ, 200, value_type::STRING])
        .string(b"used")
        .string(b"v")
        .raw(&[value_type::STRING])
        .string(b"plain")
        .string(b"v")
        .end();
    let model = decode(&bytes).unwrap();
    let expiry = |name: &str| model.keys[&(0, name.as_bytes().to_vec())].1;
    assert_eq!(
        [expiry("old"), expiry("used"), expiry("plain")],
        [Some(1_000_000_000), Some(1_700_000_000_123), None]
    );
    assert_eq!(model.idle.into_iter().collect::<Vec<_>>(), [(b"old".to_vec(), 256)]);
    assert_eq!(model.freq.into_iter().collect::<Vec<_>>(), [(b"used".to_vec(), 200)]);
    assert_eq!(model.aux[&b"redis-ver"[..]], b"5.0.1");
    assert_eq!(model.aux[&b"redis-bits"[..]], b"64");
    assert_eq!(model.sizes, [(0, 3, 2)]);
}

#[test]
fn functions_module_data_and_empty_collections_are_skipped_and_named() {
    // The id of module type "abcdefghi", encoding version 3.
    let id = b"abcdefghi".iter().fold(0u64, |id, c| id << 6 | u64::from(c - b'a' + 26)) << 10 | 3;
    let mut module = vec![opcode::MODULE_AUX, 0x81];
    module.extend(id.to_be_bytes());
    module.extend([2, 2, 1, 5, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2, b'h', b'i', 0]);
    let bytes = Rdb::new(10)
        .raw(&[opcode::FUNCTION2])
        .string(b"#!lua name=x")
        .raw(&module)
        .raw(&[value_type::HASH, 1, b'h', 0])
        .raw(&[value_type::STRING, 1, b'k', 1, b'v'])
        .end();
    let model = decode(&bytes).unwrap();
    assert_eq!(model.skipped, ["Function", "ModuleAux(\"abcdefghi\")", "Empty([104])"]);
    assert_eq!(model.keys.len(), 1);
}

fn error_of(bytes: &[u8]) -> String {
    decode(bytes).unwrap_err().to_string()
}

#[test]
fn errors_name_the_place_and_the_reason() {
    let module = Rdb::new(8).raw(&[value_type::MODULE_PRE_GA]).string(b"doc").raw(&[1, 2, 3]);
    assert_eq!(
        error_of(&module.end()),
        "unsupported RDB content at byte 9: a module value of a pre-release Redis 4.0 (value type 6) at key \"doc\""
    );
    assert!(error_of(b"REDIS0013").contains("truncated"), "Redis 8.6 writes it, with what older ones know");
    assert!(error_of(b"REDIS0014").contains("version 14; this server reads 1 to 13"));
    let expiring =
        Rdb::new(12).raw(&[244, 1, 2, 3, value_type::HASH_LISTPACK_EX]).string(b"h").string(b"...").end();
    assert_eq!(
        error_of(&expiring),
        "unsupported RDB content at byte 13: a hash with fields that expire (value type 25) at key \"h\""
    );
    assert!(error_of(b"REDIS00x1").contains("version is not a number"));
    assert!(error_of(b"SQLite format 3").contains("does not begin with REDIS"));
    assert!(error_of(b"REDIS").contains("needs 4 more bytes"));
    assert!(error_of(b"REDIS0010").contains("ends at byte 9"));
    let huge = Rdb::new(10).raw(&[0, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).end();
    assert!(error_of(&huge).contains("longer than any value may be"));
    let long = Rdb::new(10).raw(&[0, 0x80, 0x7f, 0xff, 0xff, 0xff]).end();
    assert!(error_of(&long).contains("at byte 15 needs"), "{}", error_of(&long));
    let twice = Rdb::new(10).raw(b"\x00\x01k\x01v\x00\x01k\x01v").end();
    assert_eq!(error_of(&twice), "RDB entry at byte 14 refused: the key is there already");
    let unknown = Rdb::new(10).raw(&[value_type::STRING, 1, b'k', 1, b'v', 200]).end();
    assert_eq!(error_of(&unknown), "damaged RDB at byte 14: unknown opcode or value type 200");
    let packed = Rdb::new(6).raw(&[value_type::HASH_ZIPLIST, 1, b'h']).string(&ziplist(&[b"f"])).end();
    assert!(error_of(&packed).starts_with(
        "damaged RDB at byte 12: Hash ziplist integrity check failed: ziplist of pairs with an odd count"
    ));
    let mut nan = vec![value_type::ZSET_2, 1, b'z', 1, 1, b'm'];
    nan.extend(f64::NAN.to_le_bytes());
    assert!(error_of(&Rdb::new(8).raw(&nan).end()).contains("score that is not a number"));
    let mut sum = Rdb::new(10).raw(b"\x00\x01k\x01v").end();
    let at = sum.len() - 1;
    sum[at] ^= 1;
    assert!(error_of(&sum).contains("checksum mismatch at byte 15"));
}

#[test]
fn a_hash_with_a_field_twice_is_refused_in_every_encoding() {
    for pairs in [2usize, 20] {
        let mut listpack = sluice_engine::internals::Listpack::new();
        for n in (1..pairs).chain([1]) {
            listpack.push_back(format!("f{n}").as_bytes());
            listpack.push_back(b"v");
        }
        let bytes = Rdb::new(10).raw(&[value_type::HASH_LISTPACK, 1, b'h']).string(listpack.as_bytes()).end();
        assert!(error_of(&bytes).contains("twice"));
    }
    let packed = ziplist(&[b"f", b"v", b"f", b"w"]);
    let bytes = Rdb::new(6).raw(&[value_type::HASH_ZIPLIST, 1, b'h']).string(&packed).end();
    assert!(error_of(&bytes).contains("twice"));
}

#[test]
fn the_checksum_can_be_left_out_or_left_unchecked() {
    let mut bytes = Rdb::new(10).raw(b"\x00\x01k\x01v").end();
    let at = bytes.len() - 8;
    bytes[at] ^= 1;
    RdbDecoder::with_checksum(&bytes[..], false).run(&mut Model::default()).unwrap();
    bytes[at..].fill(0);
    decode(&bytes).unwrap();
}

#[test]
fn a_stream_cut_at_any_byte_is_an_error() {
    for version in [2, 11] {
        let (bytes, _) = every_type(version);
        for len in 0..bytes.len() {
            let error = decode(&bytes[..len]).unwrap_err();
            assert!(matches!(error, RdbError::Truncated { end, .. } if end == len as u64), "{len}: {error}");
        }
    }
}

#[test]
fn every_single_bit_flipped_is_an_error() {
    let (bytes, _) = every_type(11);
    let mut flipped = bytes.clone();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        // A flip in the version may give an older one that has no checksum to fail.
        let version_flip = (5..9).contains(&(bit / 8));
        assert!(decode(&flipped).is_err() || version_flip, "bit {bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    // Without a checksum damage may go unseen, but never further than the data.
    for bit in 72..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = RdbDecoder::with_checksum(&flipped[..], false).run(&mut Model::default());
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Loads damaged bytes, whose checksum nobody looks at, into an engine, and saves what came of it.
fn load_damaged(bytes: &[u8]) {
    use sluice_engine::{Engine, Step as CutStep};
    let engine = Engine::builder().shards(1).databases(4).build();
    let mut loader = engine.loader();
    let _ = RdbDecoder::with_checksum(bytes, false).run(&mut EngineVisitor::new(&mut loader, None));
    loader.finish();
    let mut cut = engine.begin_cut().unwrap();
    let mut encoder = RdbEncoder::new(EncoderOptions::default());
    while cut.step(&mut encoder, usize::MAX) != CutStep::Done {}
    let keys = encoder.keys();
    let written = encoder.finish();
    assert_eq!(decode(&written).unwrap().keys.len() as u64, keys, "what was loaded is sound");
}

#[test]
fn damage_without_a_checksum_never_harms_the_engine() {
    let (mut bytes, _) = every_type(11);
    for bit in 72..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        load_damaged(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn noise_never_panics(version in 1u32..12, noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Rdb::new(version).raw(&noise).0;
        let _ = decode(&bytes);
    }

    #[test]
    fn damage_in_several_places_never_panics(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (mut bytes, _) = every_type(11);
        let len = bytes.len() - 9;
        for (at, value) in flips {
            bytes[9 + at.index(len)] = value;
        }
        let _ = RdbDecoder::with_checksum(&bytes[..], false).run(&mut Model::default());
        load_damaged(&bytes);
    }
}
