//! Streams: requests of clients, a log of commands, the framed link, a primary's bytes.

use super::files::engine;
use sluice_engine::internals::{
    Outcome, Request,
    resp::{Parsed, parse},
};
use sluice_engine::{Engine, Session};
use sluice_transport::frame::{FrameReader, Piece};
use sluice_transport::replica::{Action, LinkConfig, ReplicaLink};
use sluice_transport::replid::ReplId;
use sluice_transport::state::ResumePoint;

/// The replication id of primaries here.
pub(super) const ID: &[u8] = b"0123456789012345678901234567890123456789";
const MAX_BULK: usize = 1 << 20;
/// Commands run of one input.
const MAX_COMMANDS: usize = 200;
/// A command that makes an argument's number into so much memory is left out.
const MAX_NUMBER: u64 = 100_000;

/// What stands at the front of a buffer, in an owned form.
#[derive(Debug, PartialEq)]
enum Front {
    Incomplete,
    Command(Vec<Vec<u8>>, usize),
    Invalid,
}

fn front(input: &[u8], authenticated: bool) -> Front {
    match parse(input, MAX_BULK, authenticated) {
        Parsed::Incomplete(needed) => {
            assert!(needed == 0 || needed > input.len(), "{needed} bytes are there");
            Front::Incomplete
        }
        Parsed::Command { args, used, .. } => Front::Command(args.iter().map(|a| a.to_vec()).collect(), used),
        Parsed::Quoted { args, used } => Front::Command(args, used),
        Parsed::Invalid(_) => Front::Invalid,
    }
}

/// A request is the same however its bytes come, and what it takes is there.
pub(super) fn resp(input: &[u8]) -> bool {
    front(input, false);
    let mut rest = input;
    while let Front::Command(args, used) = front(rest, true) {
        assert!(used > 0 && used <= rest.len());
        for len in [used - 1, used / 2] {
            assert_eq!(front(&rest[..len], true), Front::Incomplete);
        }
        assert_eq!(front(&rest[..used], true), Front::Command(args, used));
        rest = &rest[used..];
    }
    rest.len() < input.len()
}

fn call(engine: &Engine, session: &mut Session, args: &[&[u8]], out: &mut Vec<u8>) {
    let Some(row) = engine.lookup(args[0]) else { return };
    out.clear();
    let outcome = engine.call(session, row, Request { args, raw: None }, out);
    assert_ne!(outcome, Outcome::Stalled, "no cut is taken");
}

/// Whether this argument may make a command take much memory or time.
pub(super) fn large_number(arg: &[u8]) -> bool {
    let number = std::str::from_utf8(arg).ok().and_then(|n| n.parse::<i64>().ok());
    number.is_some_and(|n| n.unsigned_abs() > MAX_NUMBER)
}

/// Requests, run one after the other by an engine.
pub(super) fn commands(input: &[u8]) -> bool {
    let engine = engine();
    engine.log().activate();
    let mut log = engine.log().reader(0).expect("the log begins");
    let mut session = engine.session();
    let (mut rest, mut out) = (input, Vec::new());
    for _ in 0..MAX_COMMANDS {
        let Front::Command(args, used) = front(rest, true) else { break };
        rest = &rest[used..];
        if args.is_empty() || args.iter().any(|arg| large_number(arg)) {
            continue;
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        call(&engine, &mut session, &args, &mut out);
    }
    // A block that was left open is never run, and the log is whole commands that replay without an error.
    drop(session);
    let copy = super::files::engine();
    let mut session = copy.session();
    session.from_primary = true;
    let mut bytes = Vec::new();
    loop {
        let chunk = log.read(1 << 20).expect("nothing ends it");
        if chunk.is_empty() {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let Parsed::Command { args, used, .. } = parse(rest, usize::MAX >> 1, true) else {
            panic!("not a command: {}", rest.escape_ascii());
        };
        call(&copy, &mut session, &args, &mut out);
        assert!(!out.starts_with(b"-"), "{}: {}", rest[..used].escape_ascii(), out.escape_ascii());
        rest = &rest[used..];
    }
    assert_eq!(
        copy.db_sizes().iter().map(|s| s.0).sum::<u64>(),
        engine.db_sizes().iter().map(|s| s.0).sum::<u64>()
    );
    !bytes.is_empty()
}

fn frames_in(parts: &[&[u8]]) -> (Vec<u8>, bool, bool) {
    let mut reader = FrameReader::new([b'm'; 40], 0);
    let mut seen = Vec::new();
    for part in parts {
        let mut part = *part;
        loop {
            match reader.next(&mut part) {
                Ok(Some(Piece::Cut { bytes, .. } | Piece::Log(bytes))) => seen.extend_from_slice(bytes),
                Ok(Some(Piece::End { .. })) => {}
                Ok(None) => break,
                Err(_) => return (seen, reader.ended(), true),
            }
        }
    }
    (seen, reader.ended(), false)
}

/// Frames read the same however they are split. The first byte says where.
pub(super) fn frames(input: &[u8]) -> bool {
    let Some((split, input)) = input.split_first() else { return false };
    let at = usize::from(*split).min(input.len());
    let (whole, parts) = (frames_in(&[input]), frames_in(&[&input[..at], &input[at..]]));
    assert_eq!((whole.1, whole.2), (parts.1, parts.2));
    assert!(whole.2 || whole.0 == parts.0);
    whole.1
}

/// A primary that says anything. The first byte: the size of the pieces it comes in, and whether frames are offered
/// (128), a password is sent (64), a partial resync asked for (32).
pub(super) fn link(input: &[u8]) -> bool {
    let Some((first, input)) = input.split_first() else { return false };
    let config = LinkConfig {
        user: None,
        password: (first & 0x40 != 0).then(|| "secret".into()),
        listening_port: 6379,
        announce_ip: None,
        offer_sluice: first & 0x80 != 0,
        timeout_ms: 60_000,
        failover: false,
        forced: false,
    };
    let resume = ResumePoint { replid: ReplId::parse(ID).expect("40 digits"), offset: 10 };
    let mut link = ReplicaLink::new(config, (first & 0x20 != 0).then_some(resume), 0);
    link.connected(0);
    let (mut now, mut over) = (0, false);
    for mut piece in input.chunks(usize::from(first & 0x1f) + 1) {
        now += 10;
        let mut loaded = None;
        loop {
            match link.next(&mut piece, now) {
                None => break,
                Some(Action::PayloadEnd { offset }) => loaded = Some(offset),
                Some(Action::Abort { .. }) => over = true,
                Some(_) => assert!(!over, "an action after the end"),
            }
            if let Some(offset) = loaded.take() {
                link.loaded(offset, now);
            }
        }
        link.tick(now);
        link.output().clear();
    }
    link.disconnected("the end of the input");
    !over
}
