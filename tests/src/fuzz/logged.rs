//! Bytes a client sends, and what they leave behind: in the log, in each kind of file, in a replica.
//!
//! An input is requests with a program in front that damages them where a byte-wise mutation rarely would: in line ends,
//! the spelling of lengths, between transactions.
//!
//! ```text
//! | pieces u8 | flags u8 | changes u8 | changes x (request, place, what, value) u8 | requests ...
//! ```

use super::files::engine;
use super::streams::large_number;
use crate::client::request;
use sluice_engine::internals::{
    Outcome, Request,
    resp::{ParseState, Parsed, parse, resume},
};
use sluice_engine::{Engine, LogReader, Session};
use sluice_persistence::aof::reader::{Item, Reader};
use sluice_persistence::aof::{
    AofOptions, AofPlace, Manifest, RewriteOptions, load as load_log, rewrite_as_commands,
};
use sluice_persistence::storage::{Memory, Storage};
use sluice_persistence::{LoadOptions, SaveOptions, load, save_cut};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const MAX_BULK: usize = 1 << 20;
/// Commands run of one input.
const MAX_COMMANDS: usize = 200;
/// Changes made to one input, and requests they are made to.
const MAX_CHANGES: usize = 15;
const MAX_REQUESTS: usize = 300;
/// Arguments that mean something to some command, or look like the protocol.
const TELLING: [&[u8]; 16] = [
    b"",
    b"0",
    b"-1",
    b"1",
    b"inf",
    b"nan",
    b"9223372036854775807",
    b"\r\n",
    b"*3\r\n",
    b"$5\r\nhello\r\n",
    b"k",
    b"NX",
    b"PX",
    b"10",
    b"1700000000000",
    b"COUNT",
];

type Arguments = Vec<Vec<u8>>;

/// The requests at the front of `bytes`, and the rest.
fn requests(mut bytes: &[u8]) -> (Vec<Arguments>, &[u8]) {
    let mut all = Vec::new();
    while all.len() < MAX_REQUESTS {
        let (args, used) = match parse(bytes, MAX_BULK, true) {
            Parsed::Command { args, used, .. } => (args.iter().map(|a| a.to_vec()).collect::<Vec<_>>(), used),
            Parsed::Quoted { args, used } => (args, used),
            Parsed::Incomplete(_) | Parsed::Invalid(_) => break,
        };
        all.push(args);
        bytes = &bytes[used..];
    }
    (all, bytes)
}

/// Applies the changes of a program, four bytes each, to requests.
pub fn reshape(bytes: &[u8], program: &[u8]) -> Vec<u8> {
    let (mut all, rest) = requests(bytes);
    if all.is_empty() || program.len() < 4 {
        return bytes.to_vec();
    }
    let mut marks = Vec::new();
    for change in program.chunks_exact(4) {
        let (at, place, what, value) =
            (usize::from(change[0]) % all.len(), usize::from(change[1]), change[2] % 12, change[3]);
        let other = all[usize::from(value) % all.len()].clone();
        let args = &mut all[at];
        let arg = if args.is_empty() { 0 } else { place % args.len() };
        match what {
            0 if !args.is_empty() => args[arg] = TELLING[usize::from(value) % TELLING.len()].to_vec(),
            1 if !args.is_empty() && !other.is_empty() => args[arg] = other[place % other.len()].clone(),
            2 if args.len() > 1 => drop(args.remove(arg)),
            3 => args.push(TELLING[usize::from(value) % TELLING.len()].to_vec()),
            4 => all.insert(at, other),
            5 => all.insert(at, vec![b"MULTI".to_vec()]),
            6 => all.insert(at, vec![b"EXEC".to_vec()]),
            _ => marks.push((at, place, what, value)),
        }
    }
    let mut out = Vec::new();
    for (at, args) in all.iter().enumerate() {
        let mut bytes = request(args);
        for (_, place, what, value) in marks.iter().filter(|mark| mark.0 == at) {
            // Line ends, where they are: of lengths and of arguments.
            let ends: Vec<usize> = (1..bytes.len()).filter(|n| &bytes[n - 1..=*n] == b"\r\n").collect();
            // Those before may have taken the last of them.
            let Some(end) = ends.get(place % ends.len().max(1)).copied() else { continue };
            match what {
                7 => bytes[end] = *value,
                8 => bytes[end - 1] = *value,
                9 => drop(bytes.splice(end - 1..=end, [*value, value.wrapping_mul(7)])),
                10 => drop(bytes.splice(end - 1..end - 1, [*value])),
                _ => {
                    let marks: Vec<usize> =
                        (0..bytes.len()).filter(|n| matches!(bytes[*n], b'*' | b'$')).collect();
                    let Some(at) = marks.get(place % marks.len().max(1)).map(|at| at + 1) else { continue };
                    bytes.insert(at, *b"0+- ".get(usize::from(value % 4)).expect("four"));
                }
            }
        }
        out.extend_from_slice(&bytes);
    }
    out.extend_from_slice(rest);
    out
}

/// All that is in an engine, keys that have expired included.
fn contents(engine: &Engine) -> BTreeMap<(u32, Vec<u8>), String> {
    let mut session = engine.session();
    // The primary's view: expiry hides nothing, and nothing is removed.
    session.from_primary = true;
    let mut all = BTreeMap::new();
    let ask = |session: &mut Session, words: &[&[u8]]| {
        let mut out = Vec::new();
        let row = engine.lookup(words[0]).expect("a command");
        engine.call(session, row, Request { args: words, raw: None }, &mut out);
        items(&out)
    };
    for db in 0..engine.databases() {
        session.db = db;
        for key in ask(&mut session, &[b"KEYS", b"*"]) {
            let kind = ask(&mut session, &[b"TYPE", &key]).concat();
            let mut value = match &kind[..] {
                b"string" => ask(&mut session, &[b"GET", &key]),
                b"list" => ask(&mut session, &[b"LRANGE", &key, b"0", b"-1"]),
                b"set" => ask(&mut session, &[b"SMEMBERS", &key]),
                b"hash" => {
                    let pairs = ask(&mut session, &[b"HGETALL", &key]);
                    pairs.chunks(2).map(|pair| [&pair[0][..], b" = ", &pair[1]].concat()).collect()
                }
                b"zset" => ask(&mut session, &[b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"]),
                other => panic!("a {}", other.escape_ascii()),
            };
            if matches!(&kind[..], b"set" | b"hash") {
                value.sort();
            }
            let expiry = ask(&mut session, &[b"PEXPIRETIME", &key]).concat();
            let shown = [vec![kind, expiry], value].concat().join(&b","[..]);
            all.insert((db, key), shown.escape_ascii().to_string());
        }
    }
    all
}

/// The strings and integers of a RESP2 reply without nested arrays.
fn items(mut reply: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(end) = reply.windows(2).position(|w| w == b"\r\n") {
        let (line, rest) = (&reply[1..end], &reply[end + 2..]);
        let number = || std::str::from_utf8(line).expect("digits").parse::<usize>().expect("a length");
        reply = match reply[0] {
            b'*' => rest,
            b'$' => {
                all.push(rest[..number()].to_vec());
                &rest[number() + 2..]
            }
            _ => {
                all.push(line.to_vec());
                rest
            }
        };
    }
    all
}

/// One client's connection to an engine.
struct Connection {
    engine: Engine,
    session: Session,
    state: ParseState,
    buffer: Vec<u8>,
    commands: usize,
}

impl Connection {
    /// Takes a piece of what the client sends; false where it is to be closed.
    fn take(&mut self, piece: &[u8]) -> bool {
        self.buffer.extend_from_slice(piece);
        let buffer = std::mem::take(&mut self.buffer);
        let (mut at, mut out) = (0, Vec::new());
        let open = loop {
            let rest = &buffer[at..];
            match resume(rest, MAX_BULK, true, &mut self.state) {
                Parsed::Incomplete(needed) => {
                    assert!(needed == 0 || needed > rest.len(), "{needed} bytes are there");
                    break true;
                }
                Parsed::Invalid(_) => break false,
                Parsed::Quoted { args, used } => {
                    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                    self.call(&args, None, &mut out);
                    at += used;
                }
                Parsed::Command { args, used, canonical } => {
                    assert_eq!(canonical, !args.is_empty() && request(&args) == rest[..used]);
                    self.call(&args, canonical.then_some(&rest[..used]), &mut out);
                    at += used;
                }
            }
            if self.commands >= MAX_COMMANDS {
                break false;
            }
        };
        self.buffer = buffer[at..].to_vec();
        open
    }

    fn call(&mut self, args: &[&[u8]], raw: Option<&[u8]>, out: &mut Vec<u8>) {
        self.commands += 1;
        if args.is_empty() || args.iter().any(|arg| too_large(arg)) {
            return;
        }
        let Some(row) = self.engine.lookup(args[0]) else { return };
        out.clear();
        let outcome = self.engine.call(&mut self.session, row, Request { args, raw }, out);
        assert_ne!(outcome, Outcome::Stalled, "the cut's queue is large");
    }
}

/// A number that may cost much memory or time; points in time are fine.
fn too_large(arg: &[u8]) -> bool {
    large_number(arg) && !(arg.len() == 13 && arg[0] != b'-')
}

fn read_all(log: &mut LogReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let piece = log.read(1 << 20).expect("the log is kept");
        if piece.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&piece);
    }
}

/// Every byte of the log is what the strictest reader expects; replayed as a primary's stream it makes the same data, and
/// the same log.
fn check_log(bytes: &[u8], expected: &BTreeMap<(u32, Vec<u8>), String>) {
    let mut reader = Reader::new(bytes, 0);
    let copy = engine();
    copy.log().activate();
    let mut copied = copy.log().reader(0).expect("the log begins");
    let mut session = copy.session();
    session.from_primary = true;
    let mut out = Vec::new();
    loop {
        let from = reader.offset();
        match reader.item() {
            Item::Command(args) => {
                let raw = &bytes[from..reader.offset()];
                assert_eq!(raw, request(&args), "not canonical");
                out.clear();
                let row = copy.lookup(args[0]).expect("a command");
                let request = Request { args: &args, raw: Some(raw) };
                copy.call(&mut session, row, request, &mut out);
                assert!(!out.starts_with(b"-"), "{}: {}", raw.escape_ascii(), out.escape_ascii());
            }
            Item::End => break,
            other => panic!("{other:?} at {from} of {}", bytes.escape_ascii()),
        }
    }
    assert!(!reader.in_block());
    assert_eq!(&contents(&copy), expected, "a replica");
    assert_eq!(read_all(&mut copied), bytes, "a replica's log");
}

/// Requests, in pieces, through a connection; then the log, a replica, and a restart from an RDB file and from an append-only file
/// whose base is a cut made in the middle.
pub(super) fn logged(input: &[u8]) -> bool {
    let Some(([pieces, flags, changes], rest)) = input.split_first_chunk::<3>() else { return false };
    let program = (usize::from(*changes).min(MAX_CHANGES) * 4).min(rest.len());
    let bytes = reshape(&rest[program..], &rest[..program]);

    let engine = engine();
    engine.log().activate();
    let mut log = engine.log().reader(0).expect("the log begins");
    let (session, buffer) = (engine.session(), Vec::new());
    let mut c =
        Connection { engine: engine.clone(), session, state: ParseState::default(), buffer, commands: 0 };
    let cut_at = bytes.len() * usize::from(flags >> 1) / 128;
    let mut taken = 0;
    let mut cut = None;
    for piece in bytes.chunks(usize::from(*pieces) * 8 + 1) {
        if taken >= cut_at && cut.is_none() {
            let begun = engine.begin_cut().expect("the only one");
            let from = engine.log().reader(begun.offset()).expect("it is at the end");
            cut = Some((begun, from));
        }
        taken += piece.len();
        if !c.take(piece) {
            break;
        }
    }
    drop(c);
    let expected = contents(&engine);
    let all = read_all(&mut log);

    // The append-only file: the cut, and the log from there on.
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let dir = Path::new("home/dir");
    let mut go_on = |_: &_| ControlFlow::Continue(());
    if let Some((cut, mut from)) = cut {
        let mut manifest = Manifest::default();
        manifest.advance_base("x.aof", flags & 1 != 0);
        let base = manifest.base.as_ref().expect("a base").path(dir);
        if flags & 1 != 0 {
            let options = SaveOptions { aof_base: true, ..SaveOptions::default() };
            save_cut(cut, &storage, &base, &options, &mut go_on).expect("memory takes a file");
        } else {
            rewrite_as_commands(cut, &storage, &base, &RewriteOptions::default(), &mut go_on)
                .expect("memory takes a file");
        }
        let incr = manifest.add_incr("x.aof").path(dir);
        memory.write(&incr, &read_all(&mut from));
        let place = AofPlace { home: Path::new("home").into(), dir: dir.into(), filename: "x.aof".into() };
        let again = super::files::engine();
        let options = AofOptions { load_truncated: false, checksum: true };
        let loaded = load_log(&again, &storage, &place, &mut manifest, options, &mut |_| {}, &mut |_| {})
            .unwrap_or_else(|e| panic!("{e}"))
            .expect("there are files");
        assert_eq!(loaded.refused, 0);
        assert_eq!(contents(&again), expected, "the append-only file");
    }
    let (path, cut) = (Path::new("dump.rdb"), engine.begin_cut().expect("the other one is over"));
    save_cut(cut, &storage, path, &SaveOptions::default(), &mut go_on).expect("memory takes a file");
    let again = super::files::engine();
    let mut loader = again.loader();
    load(&mut loader, &memory, path, &LoadOptions::default()).expect("it loads");
    loader.finish();
    assert_eq!(contents(&again), expected, "the RDB file");
    check_log(&all, &expected);
    !all.is_empty()
}
