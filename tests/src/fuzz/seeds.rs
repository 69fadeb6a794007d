//! Good inputs, made by the programs that would meet them: an engine filled with every encoding, its file, its log,
//! single values, frames and a primary's replies.

use super::files::engine;
use super::streams::ID;
use crate::client::request;
use crate::data::{Args, every_encoding, writes};
use sluice_engine::Engine;
use sluice_engine::internals::{Intset, Listpack};
use sluice_persistence::aof::Manifest;
use sluice_persistence::rdb::checksum::Checksum;
use sluice_persistence::rdb::lzf::Compressor;
use sluice_persistence::storage::{Memory, Storage};
use sluice_persistence::{SaveOptions, save};
use sluice_transport::frame::{FrameKind, end_payload, frame_header, stream_digest};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Longer arguments make large seeds, which teach a fuzzer nothing.
const SMALL: usize = 400;

fn small(commands: Vec<Args>) -> Vec<Args> {
    let fits = |args: &Args| args.iter().map(Vec::len).sum::<usize>() < SMALL;
    commands.into_iter().filter(|args| fits(args) && args[0] != b"SELECT").collect()
}

fn filled(commands: &[Args]) -> Engine {
    let engine = engine();
    for args in commands {
        // Commands without effect are fine.
        let _ = engine.execute(args);
    }
    engine
}

fn file(engine: &Engine, compression: bool) -> Vec<u8> {
    let (memory, path) = (Memory::new(), Path::new("dump.rdb"));
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let options = SaveOptions { compression, ..SaveOptions::default() };
    save(engine, &storage, path, &options, &mut |_| ControlFlow::Continue(())).expect("memory takes a file");
    memory.read(path).expect("it was saved")
}

/// Commands whose values are of all types, small and large, one key each.
fn one_of_each() -> Vec<Vec<Args>> {
    let line = |text: String| crate::words(&text);
    let many = |n: u32, make: &dyn Fn(u32) -> String| (0..n).map(make).collect::<Vec<_>>().join(" ");
    [
        "SET k 5".to_owned(),
        "SET k -70000 PXAT 4102444800000".into(),
        format!("SET k {}", "abcabcabc".repeat(20)),
        "RPUSH k a 1 -5 70000 5000000000 b ''".into(),
        format!("RPUSH k {} {} b", "x".repeat(200), "y".repeat(150)),
        "HSET k f v 1 2 g 12345678901".into(),
        format!("HSET k {}", many(200, &|n| format!("f{n} {n}"))),
        format!("HSET k f {}", "v".repeat(70)),
        "SADD k 1 2 3 -5".into(),
        "SADD k 1 70000".into(),
        "SADD k 1 5000000000".into(),
        "SADD k a b 3".into(),
        "ZADD k 1 one 2.5 two -inf low +inf high".into(),
        format!("ZADD k {}", many(150, &|n| format!("{}.5 m{n}", n * 3))),
    ]
    .into_iter()
    .map(|text| vec![line(text)])
    .collect()
}

/// Types and values of what is carried: a stream as Redis 5, 7.0 and 7.2 write it, and a module's value.
fn carried() -> Vec<Vec<u8>> {
    let node = |items: &str| {
        let mut node = Listpack::new();
        items.split(' ').for_each(|item| node.push_back(item.as_bytes()));
        [&[node.as_bytes().len() as u8], node.as_bytes()].concat()
    };
    let (nodes, id) = (node("1 1 1 f 0 3 0 0 v 4 0 5 1 1 g w 6"), [&[0; 7][..], &[1], &[0; 8]].concat());
    let mut all: Vec<Vec<u8>> = [15u8, 19, 21]
        .map(|kind| {
            let later = if kind == 15 { &[][..] } else { &[1, 0, 2, 0, 2] };
            let (read, active) = (&later[..later.len().min(1)], if kind == 21 { &[0; 8][..] } else { &[] });
            let stream = [&[kind, 1, 16], &id[..], &nodes, &[1, 5, 1], later, &[1, 1, b'g', 1, 0], read];
            let pending = [&[1], &id[..], &[0; 8], &[1], &[1, 1, b'c'], &[0; 8], active, &[1], &id];
            [stream.concat(), pending.concat()].concat()
        })
        .into();
    let module = [&[7, 0x81, 1, 2, 3, 4, 5, 6, 7, 8][..], &[1, 5, 2, 9, 3, 0, 0, 0, 0], &[4], &[0; 8]];
    all.push([&module.concat()[..], b"\x05\x02hi\x00"].concat());
    all
}

/// RDB files.
pub fn rdb() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for compression in [false, true] {
        all.push(file(&filled(&small(every_encoding())), compression));
        all.push(file(&filled(&writes(1, 200)), compression));
    }
    all.extend(one_of_each().iter().map(|commands| file(&filled(commands), true)));
    all.extend(carried().iter().map(|value| {
        [b"REDIS0011", &value[..1], b"\x01k", &value[1..], b"\x00\x01l\x01v\xff", &[0; 8]].concat()
    }));
    all
}

/// Types and values: those written today out of files, the older ones by hand.
pub fn value() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for compression in [false, true] {
        for commands in one_of_each() {
            let file = file(&filled(&commands), compression);
            // The one key is called k; its type is before it, the end mark and a checksum follow the value.
            let key = file.windows(2).rposition(|w| w == b"\x01k");
            if let Some(at) = key.filter(|at| *at > 0 && file[at - 1] < 30) {
                all.push([&file[at - 1..at], &file[at + 2..file.len() - 9]].concat());
            }
        }
    }
    let packed = |kind: u8, bytes: &[u8]| [&[kind, bytes.len() as u8], bytes].concat();
    for ziplist in ziplist() {
        all.extend([10, 12, 13].map(|kind| packed(kind, &ziplist)));
        all.push([&[14, 1, ziplist.len() as u8], &ziplist[..]].concat());
    }
    all.extend(zipmap().iter().map(|zipmap| packed(9, zipmap)));
    all.extend(listpack().iter().filter(|lp| lp.len() < 60).map(|lp| packed(20, lp)));
    all.extend(carried());
    all.push([&[1, 2][..], b"\x01a\x01b"].concat());
    all.push([&[2, 2][..], b"\x01a\x01b"].concat());
    all.push([&[4, 1][..], b"\x01f\x01v"].concat());
    all.push([&[3, 2][..], b"\x01a\x031.5\x01b\xfe"].concat());
    all
}

/// DUMP payloads: the same values, with version and checksum behind them.
pub fn dump() -> Vec<Vec<u8>> {
    let footed = |mut payload: Vec<u8>| {
        payload.extend_from_slice(&11u16.to_le_bytes());
        let mut checksum = Checksum::new();
        checksum.update(&payload);
        payload.extend_from_slice(&checksum.value().to_le_bytes());
        payload
    };
    value().into_iter().map(footed).collect()
}

/// Files of log: alone, with blocks and annotations, behind an RDB, torn.
pub fn aof() -> Vec<Vec<u8>> {
    let mut all = commands();
    all.push([&b"#TS:1700000000\r\n"[..], &all[0], b"#TS:1700000001\r\n", &all[11]].concat());
    all.push([&file(&filled(&writes(5, 20)), true)[..], &all[1]].concat());
    all.push(all[11][..all[11].len() - 20].to_vec());
    all
}

/// Manifests.
pub fn manifest() -> Vec<Vec<u8>> {
    let mut manifest = Manifest::default();
    manifest.advance_base("a b\n.aof", true);
    manifest.add_incr("a b\n.aof");
    let first = manifest.to_bytes();
    manifest.add_incr("appendonly.aof");
    manifest.advance_base("appendonly.aof", false);
    manifest.retire_incr(true);
    vec![first, manifest.to_bytes(), b"# by hand\nFILE x.7.base.rdb SEQ 7 TYPE b new thing\n".to_vec()]
}

/// Listpacks of every entry encoding.
pub fn listpack() -> Vec<Vec<u8>> {
    let all: [&[&[u8]]; 4] = [
        &[],
        &[b"5", b"hello", b"-4000", b"70000", b"-8000000", b"2000000000", b"9000000000000"],
        &[b"", b"a", b"-0", b"007"],
        &[&[b'x'; 70], b"1", &[b'y'; 4200]],
    ];
    all.iter()
        .map(|items| {
            let mut lp = Listpack::new();
            items.iter().for_each(|item| lp.push_back(item));
            lp.as_bytes().to_vec()
        })
        .collect()
}

/// Intsets of every width.
pub fn intset() -> Vec<Vec<u8>> {
    [&[][..], &[1, 2, -3], &[1, 70_000, -70_000], &[5, i64::MIN, i64::MAX]]
        .iter()
        .map(|members| {
            let mut set = Intset::new();
            members.iter().for_each(|member| assert!(set.add(*member)));
            set.as_bytes().to_vec()
        })
        .collect()
}

/// Ziplists: one with every entry encoding, an empty one.
pub fn ziplist() -> Vec<Vec<u8>> {
    let entries: [&[u8]; 8] = [
        &[2, b'h', b'i'],
        &[0x40, 3, b'a', b'b', b'c'],
        &[0xf3],
        &[0xfe, 0x80],
        &[0xc0, 0, 0x80],
        &[0xf0, 0, 0, 0x80],
        &[0xd0, 0, 0, 0, 0x80],
        &[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80],
    ];
    [&entries[..], &[]]
        .into_iter()
        .map(|entries| {
            let mut bytes = vec![0; 10];
            let (mut last, mut previous) = (10, 0);
            for entry in entries {
                last = bytes.len();
                bytes.push(previous as u8);
                bytes.extend_from_slice(entry);
                previous = bytes.len() - last;
            }
            bytes.push(0xff);
            let (len, count) = (bytes.len() as u32, entries.len() as u16);
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            bytes[4..8].copy_from_slice(&(last as u32).to_le_bytes());
            bytes[8..10].copy_from_slice(&count.to_le_bytes());
            bytes
        })
        .collect()
}

/// Zipmaps, with free bytes behind a value and without.
pub fn zipmap() -> Vec<Vec<u8>> {
    vec![b"\x02\x01f\x01\x00v\x02ab\x03\x02xyz..\xff".to_vec(), b"\x00\xff".to_vec()]
}

/// A length, and bytes that decompress to it; and text to compress.
pub fn lzf() -> Vec<Vec<u8>> {
    let text = b"the same again, the same again, the same again and again and again".repeat(3);
    let mut packed = (text.len() as u16).to_be_bytes().to_vec();
    assert!(Compressor::new().compress(&text, text.len(), &mut packed));
    vec![packed, text]
}

/// Requests, inline and not.
pub fn resp() -> Vec<Vec<u8>> {
    let mut all = vec![
        b"PING\r\nSET \"a b\" 'c d'\r\n\r\nGET \"\\x61 b\\n\"\n".to_vec(),
        b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n".to_vec(),
    ];
    all.push(writes(2, 10).iter().flat_map(|args| request(args)).collect());
    all
}

/// Logs of commands.
pub fn commands() -> Vec<Vec<u8>> {
    let lines =
        |lines: &[&str]| lines.iter().flat_map(|line| request(&crate::words(line))).collect::<Vec<u8>>();
    let mut all: Vec<Vec<u8>> =
        (1..12).map(|seed| writes(seed, 12).iter().flat_map(|args| request(args)).collect()).collect();
    all.push(lines(&[
        "SELECT 1",
        "MULTI",
        "SET a 1",
        "INCR a",
        "RPUSH l a b c",
        "EXEC",
        "SWAPDB 0 1",
        "COPY l m",
    ]));
    all.push(lines(&[
        "SET a 1 PXAT 4102444800000",
        "PEXPIREAT a 1",
        "GETEX a PERSIST",
        "RENAME a b",
        "SORT l",
    ]));
    all.push(lines(&[
        "ZADD z 1 a 2 b 3 c",
        "ZRANGESTORE y z 0 -1",
        "ZINTERSTORE x 2 z y",
        "ZPOPMAX z",
        "FLUSHALL",
    ]));
    all.push(lines(&["SADD s 1 2 3 x", "SINTERSTORE t s s", "SMOVE s t x", "SPOP s 2", "SRANDMEMBER s -3"]));
    all.push(lines(&[
        "LPUSH l 1 2 3",
        "LINSERT l BEFORE 2 x",
        "LSET l 0 y",
        "LREM l 0 1",
        "LTRIM l 0 1",
        "LMOVE l l LEFT RIGHT",
    ]));
    all.push(lines(&[
        "SETRANGE s 5 x",
        "SETBIT s 9 1",
        "BITFIELD s SET u8 0 255",
        "BITOP NOT d s",
        "APPEND s z",
        "GETDEL s",
    ]));
    all.push(lines(&[
        "PFADD h a b c",
        "PFCOUNT h",
        "SETRANGE h 17 x",
        "PFADD h d",
        "PFADD i 1 2 3",
        "PFMERGE j i",
        "PFCOUNT i j",
        "PFDEBUG TODENSE j",
    ]));
    all
}

/// Requests behind a program that damages them; see [`super::logged`].
pub fn logged() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (n, requests) in commands().into_iter().enumerate() {
        let n = n as u8;
        all.push([&[255, n * 11, 0][..], &requests].concat());
        all.push(
            [&[n, n * 11 + 1, 2, n, n * 3, 7 + n % 5, n * 5, n / 2, n, n, n * 13][..], &requests].concat(),
        );
    }
    all
}

/// Framed streams, behind a byte that splits them.
pub fn frames() -> Vec<Vec<u8>> {
    vec![
        [&[7], &framed_from(0)[..]].concat(),
        vec![0],
        b"\x03C\x01\x08\x00\x00\x00\x04\x00\x00\x00\x40abcd".to_vec(),
    ]
}

/// A framed stream whose log begins at `offset`.
fn framed_from(offset: u64) -> Vec<u8> {
    let cut = file(&filled(&writes(3, 20)), false);
    let mut digest = stream_digest();
    let mut wire = Vec::new();
    let log = request(&crate::words("SET a b"));
    for (kind, bytes) in [(FrameKind::Cut, &cut), (FrameKind::Log, &log)] {
        wire.extend_from_slice(&frame_header(kind, 0, bytes.len()));
        wire.extend_from_slice(bytes);
        digest.update(bytes);
    }
    let end = end_payload(&[b'm'; 40], offset + log.len() as u64, &digest);
    wire.extend_from_slice(&frame_header(FrameKind::End, 0, end.len()));
    wire.extend_from_slice(&end);
    wire
}

/// What primaries say, behind a byte that splits it.
pub fn link() -> Vec<Vec<u8>> {
    let id = String::from_utf8_lossy(ID);
    let hello = "+PONG\r\n+OK\r\n+OK\r\n";
    let stream = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$4\r\nPING\r\n";
    let full = format!("{hello}+FULLRESYNC {id} 10\r\n");
    let mut framed = vec![0x87];
    framed.extend(format!("{full}$SLUICE:{}\r\n", "m".repeat(40)).bytes());
    framed.extend_from_slice(&framed_from(10));
    vec![
        format!("\x1f{full}$9\r\nREDIS0010{stream}").into_bytes(),
        format!("\x07{full}$EOF:{id}\r\nREDIS0010{id}{stream}").into_bytes(),
        format!("\x3f{hello}+CONTINUE {id}\r\n{stream}").into_bytes(),
        b"\x41+PONG\r\n+OK\r\n-ERR unknown\r\n+OK\r\n-ERR unknown command PSYNC\r\n$0\r\n".to_vec(),
        format!("\x3f{hello}-NOMASTERLINK\r\n").into_bytes(),
        framed,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_sound_before_it_is_damaged() {
        assert!(carried().iter().all(|value| super::super::run("value", value)));
    }
}
