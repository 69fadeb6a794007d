//! A primary engine and a replica engine with the real transports between them, while writers are at work.
//!
//! The primary's side here is the wiring a server does, reduced to the bone: handshake, batch, sender, steady stream.

mod follower;

use bytes::Bytes;
use follower::{LoadPlan, ReplicaHost, StreamApplier, follow};
use sluice_engine::internals::{Outcome, Request, Row};
use sluice_engine::{Engine, Session};
use sluice_persistence::rdb::{EncoderOptions, LoadReport, RdbEncoder};
use sluice_persistence::storage::{Memory, Storage};
use sluice_persistence::{SaveOptions, save_cut};
use sluice_transport::frame::stream_digest;
use sluice_transport::fullsync::cut::{CutFigures, FramedSource, RdbSource};
use sluice_transport::fullsync::pool::BufferPool;
use sluice_transport::fullsync::sluice::{Compression, SluicePayload};
use sluice_transport::fullsync::uring::Uring;
use sluice_transport::fullsync::{
    ChunkSource, CutError, EofPayload, SyncControl, SyncEvent, SyncPeer, SyncReport, WindowLimits, disk,
    diskless,
};
use sluice_transport::primary::psync::fullresync_line;
use sluice_transport::primary::schedule::{Format, Transport};
use sluice_transport::replica::{Level, LinkConfig, PayloadKind};
use sluice_transport::replid::ReplId;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn call(engine: &Engine, session: &mut Session, args: &[&[u8]]) -> Vec<u8> {
    let row = engine.lookup(args[0]).unwrap_or_else(|| panic!("no command {}", args[0].escape_ascii()));
    let mut out = Vec::new();
    while engine.call(session, row, Request { args, raw: None }, &mut out) == Outcome::Stalled {
        std::thread::yield_now();
    }
    out
}

/// A small generator; the same numbers every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// Another run of dice for each run of the tests, told when it fails.
fn first_seed() -> u64 {
    let fixed = std::env::var("SLUICE_TEST_SEED").ok().and_then(|s| s.parse().ok());
    fixed.unwrap_or(u64::from(std::process::id()))
}

/// One random write over a key space shared by all writers, huge values among it.
fn random_write(engine: &Engine, session: &mut Session, dice: &mut Dice) {
    let key = format!("key:{}", dice.roll(3000));
    let other = format!("key:{}", dice.roll(3000));
    let n = dice.roll(1000).to_string();
    let value = "v".repeat(dice.roll(300) as usize);
    let (k, o, n, v) = (key.as_bytes(), other.as_bytes(), n.as_bytes(), value.as_bytes());
    // Fields and members of the huge values, and of small ones.
    let field = format!("f{}", dice.roll(40_000));
    let f = field.as_bytes();
    let commands: [&[&[u8]]; 30] = [
        &[b"SET", k, v],
        &[b"SET", k, n],
        &[b"DEL", k],
        &[b"INCR", k],
        &[b"APPEND", k, v],
        &[b"RENAME", k, o],
        &[b"COPY", k, o, b"REPLACE"],
        &[b"RPUSH", b"list", v],
        &[b"LPOP", b"list"],
        &[b"RPUSH", k, v, n],
        &[b"LMOVE", k, o, b"LEFT", b"RIGHT"],
        &[b"SELECT", if dice.roll(4) == 0 { b"1" } else { b"0" }],
        &[b"LSET", b"list", n, v],
        &[b"EXPIRE", k, b"1000"],
        &[b"HSET", b"hash", f, v],
        &[b"HSET", b"hash", f, v],
        &[b"HDEL", b"hash", f],
        &[b"HINCRBY", k, f, n],
        &[b"HSET", k, f, v],
        &[b"SADD", b"set", f],
        &[b"SREM", b"set", f],
        &[b"SADD", k, n, f],
        &[b"SPOP", b"set"],
        &[b"ZADD", b"zset", n, f],
        &[b"ZREM", b"zset", f],
        &[b"ZADD", k, n, f],
        &[b"ZINCRBY", b"zset", n, f],
        &[b"SINTERSTORE", o, k, b"set"],
        &[b"ZINTERSTORE", o, b"2", k, b"zset"],
        &[b"SUNIONSTORE", o, k, o],
    ];
    // Rare, and heavy: they touch what only the walk can deliver.
    match dice.roll(10_000) {
        0 => drop(call(engine, session, &[b"SWAPDB", b"0", b"1"])),
        1 => drop(call(engine, session, &[b"RENAME", b"hash", b"hash2"])),
        2 => drop(call(engine, session, &[b"RENAME", b"hash2", b"hash"])),
        3 => drop(call(engine, session, &[b"UNLINK", b"set"])),
        4 => drop(call(engine, session, &[b"COPY", b"zset", b"zset2"])),
        5 => {
            session.db = 1;
            drop(call(engine, session, &[b"FLUSHDB"]));
        }
        _ => {}
    }
    call(engine, session, commands[dice.roll(commands.len() as u64) as usize]);
}

/// Everything in an engine: key to (encoded value, expiry), by way of its own encoder.
fn content(engine: &Engine) -> BTreeMap<(u32, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut session = engine.session();
    for db in 0..2u32 {
        session.db = db;
        let keys = call(engine, &mut session, &[b"KEYS", b"*"]);
        let text = String::from_utf8(keys).unwrap();
        for key in text.split("\r\n").skip(1).filter(|l| !l.is_empty() && !l.starts_with('$')) {
            let key = key.as_bytes();
            let mut value = call(engine, &mut session, &[b"TYPE", key]);
            let kind = String::from_utf8(value.clone()).unwrap();
            value.extend(match kind.trim() {
                "+string" => call(engine, &mut session, &[b"GET", key]),
                "+list" => call(engine, &mut session, &[b"LRANGE", key, b"0", b"-1"]),
                "+hash" => sorted(call(engine, &mut session, &[b"HGETALL", key]), 2),
                "+set" => sorted(call(engine, &mut session, &[b"SMEMBERS", key]), 1),
                "+zset" => call(engine, &mut session, &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
                other => panic!("{other}"),
            });
            value.extend(call(engine, &mut session, &[b"PEXPIRETIME", key]));
            all.insert((db, key.to_vec()), value);
        }
    }
    all
}

/// A reply of bulk strings, its elements (of `n` strings each) in order.
fn sorted(reply: Vec<u8>, n: usize) -> Vec<u8> {
    let text = String::from_utf8(reply).unwrap();
    let strings: Vec<&str> = text.split("\r\n").skip(1).filter(|l| !l.starts_with('$')).collect();
    let mut elements: Vec<_> = strings.chunks(n).map(|e| e.join("\r")).collect();
    elements.sort();
    elements.join("\n").into_bytes()
}

struct Host {
    stop: AtomicBool,
    plan: LoadPlan,
    events: Mutex<Vec<String>>,
    done_at: AtomicU64,
}

impl Host {
    fn new(plan: LoadPlan) -> Self {
        Self {
            stop: AtomicBool::new(false),
            plan,
            events: Mutex::default(),
            done_at: AtomicU64::new(u64::MAX),
        }
    }

    fn event(&self, e: impl Into<String>) {
        self.events.lock().unwrap().push(e.into());
    }
}

impl ReplicaHost for Host {
    fn log(&self, _: Level, _: &str) {}
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
    fn full_sync_began(&self, _: Option<ReplId>) {
        self.event("began");
    }
    fn load_plan(&self, _: PayloadKind) -> LoadPlan {
        self.plan.clone()
    }
    fn loading(&self, _: &LoadPlan) {
        self.event("loading");
    }
    fn progress(&self, _: u64, _: Option<u64>) {}
    fn full_sync_done(&self, _: Option<ReplId>, offset: u64, _: &LoadReport) {
        self.event("done");
        self.done_at.store(offset, Ordering::Release);
    }
    fn full_sync_failed(&self, emptied: bool) {
        self.event(format!("failed {emptied}"));
    }
    fn continued(&self, _: Option<ReplId>) {
        self.event("continued");
    }
    fn external(&self, _: &mut Session, _: Row, _: &[&[u8]]) {}
    fn heard(&self, _: u64) {}
}

fn config() -> LinkConfig {
    LinkConfig {
        user: None,
        password: None,
        listening_port: 1,
        announce_ip: None,
        offer_sluice: true,
        timeout_ms: 20_000,
        failover: false,
        forced: false,
    }
}

/// A source that takes its time, so that the writers write into the cut.
struct Slow<S>(S);

impl<S: ChunkSource> ChunkSource for Slow<S> {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        let chunk = self.0.next_chunk()?;
        if chunk.as_ref().is_some_and(|c| c.len() > 100) {
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(chunk)
    }
}

/// Answers a replica's handshake up to and with PSYNC, blindly.
fn handshake(socket: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut buf = [0; 1000];
    let answers: [(&[u8], &[u8]); 4] = [
        (b"PING", b"+PONG\r\n"),
        (b"listening-port", b"+OK\r\n"),
        (b"sluice", b"+OK\r\n"),
        (b"PSYNC", b"\n"),
    ];
    for (word, answer) in answers {
        while !seen.windows(word.len()).any(|w| w == word) {
            let n = socket.read(&mut buf).unwrap();
            assert!(n > 0);
            seen.extend_from_slice(&buf[..n]);
        }
        socket.write_all(answer).unwrap();
    }
}

/// Serves one full sync and then the stream until `until` (an offset, once known) is sent.
fn serve(
    engine: &Engine,
    mut socket: TcpStream,
    transport: Transport,
    format: Format,
    begun: &AtomicBool,
    writers_done: &AtomicBool,
) -> SyncReport {
    handshake(&mut socket);
    let cut = engine.begin_cut().unwrap();
    begun.store(true, Ordering::Release);
    let offset = cut.offset();
    let mut reader = engine.log().reader(offset).unwrap();
    socket.write_all(&fullresync_line(&ReplId::random(), offset)).unwrap();
    let encoder = RdbEncoder::new(EncoderOptions {
        checksum: format != Format::Sluice,
        db_sizes: cut.db_sizes().to_vec(),
        ..Default::default()
    });
    let (pool, figures) = (BufferPool::new(), Arc::new(CutFigures::default()));
    let peer = SyncPeer { id: 1, socket: socket.try_clone().unwrap().into() };
    let (control, limits) = (SyncControl::new(), WindowLimits::default());
    let mut sent = Vec::new();
    let mut events = |e| sent.push(e);
    let mut go = |source: &mut dyn ChunkSource, peer| match transport {
        Transport::IoUring => Uring::new().unwrap().send(source, vec![peer], limits, &control, &mut events),
        _ => diskless::send(source, vec![peer], limits, &control, &mut events),
    };
    let report = match format {
        Format::EofRdb => {
            go(&mut Slow(EofPayload::new(RdbSource::new(cut, encoder, pool, figures.clone()))), peer)
        }
        Format::Sluice => {
            let base = engine.log().reader(offset).unwrap();
            let framed = FramedSource::new(engine.clone(), cut, encoder, base, figures.clone());
            let mut payload = Slow(SluicePayload::new(framed, offset, Compression::Lz4, pool));
            let report = go(&mut payload, peer);
            reader = engine.log().reader(figures.log_offset.load(Ordering::Acquire)).unwrap();
            report
        }
        Format::SizedRdb => {
            let storage: Arc<dyn Storage> = Arc::new(Memory::new());
            let path = Path::new("d/s.rdb");
            save_cut(cut, &storage, path, &SaveOptions::default(), &mut |_| ControlFlow::Continue(()))
                .unwrap();
            let staged = disk::StagedFile { file: storage.open(path).unwrap(), staged_ms: 0 };
            disk::send(&staged, vec![peer], 10_000, &control, &mut events)
        }
    };
    assert!(sent.iter().any(|e| matches!(e, SyncEvent::Sent { .. })), "{sent:?}");
    if format != Format::SizedRdb {
        assert!(figures.preimage_bytes.load(Ordering::Relaxed) > 0, "the writers wrote into the cut");
    }
    if format == Format::Sluice {
        assert!(figures.log_offset.load(Ordering::Relaxed) > offset, "the log went with the cut");
    }
    socket.set_nonblocking(false).unwrap();
    if format != Format::Sluice {
        // The stream starts at the first ACK; newlines before it are signs of life.
        let mut seen = Vec::new();
        let mut buf = [0; 100];
        while !seen.windows(3).any(|w| w == b"ACK") {
            let n = socket.read(&mut buf).unwrap();
            assert!(n > 0);
            seen.extend_from_slice(&buf[..n]);
        }
    }
    loop {
        let last = writers_done.load(Ordering::Acquire);
        let bytes = reader.read(100_000).unwrap();
        socket.write_all(&bytes).unwrap();
        if bytes.is_empty() {
            if last {
                break;
            }
            std::thread::yield_now();
        }
    }
    // Closing with unread ACKs would be a reset, and lose what is on its way.
    socket.shutdown(Shutdown::Write).unwrap();
    while let Ok(1..) = socket.read(&mut [0; 1000]) {}
    report
}

fn sync_while_writing(transport: Transport, format: Format, plan: LoadPlan) {
    if transport == Transport::IoUring && Uring::new().is_err() {
        eprintln!("no io_uring here");
        return;
    }
    let primary = Engine::default();
    primary.log().activate();
    let mut session = primary.session();
    let mut dice = Dice(7);
    for i in 0..30_000u32 {
        let (key, value) = (format!("fill:{i}"), "x".repeat(dice.roll(400) as usize));
        call(&primary, &mut session, &[b"SET", key.as_bytes(), value.as_bytes()]);
        call(&primary, &mut session, &[b"RPUSH", b"list", value.as_bytes()]);
        let field = format!("f{i}");
        call(&primary, &mut session, &[b"HSET", b"hash", field.as_bytes(), value.as_bytes()]);
        call(&primary, &mut session, &[b"SADD", b"set", field.as_bytes()]);
        call(&primary, &mut session, &[b"ZADD", b"zset", i.to_string().as_bytes(), field.as_bytes()]);
    }
    let replica = Engine::default();
    replica.log().activate();
    let mut old = replica.session();
    call(&replica, &mut old, &[b"SET", b"old", b"data"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    let host = Host::new(plan);
    let (begun, writers_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let stop_writers = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let link = scope.spawn(|| {
            let mut applier = StreamApplier::new(&replica);
            follow(near, config(), None, &replica, &mut applier, &host)
        });
        let writers: Vec<_> = (0..2)
            .map(|seed| {
                let (primary, begun, stop) = (primary.clone(), &begun, &stop_writers);
                scope.spawn(move || {
                    let (mut session, mut dice) = (primary.session(), Dice(seed + first_seed()));
                    // Earlier they might flush what is to be sent.
                    while !begun.load(Ordering::Acquire) && !stop.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    while !stop.load(Ordering::Relaxed) {
                        random_write(&primary, &mut session, &mut dice);
                    }
                })
            })
            .collect();
        let server = scope.spawn(|| serve(&primary, far, transport, format, &begun, &writers_done));
        while host.done_at.load(Ordering::Acquire) == u64::MAX {
            if link.is_finished() {
                stop_writers.store(true, Ordering::Relaxed);
                panic!("the link ended early: {:?}", link.join());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20)); // some steady stream
        stop_writers.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|w| w.join().unwrap());
        writers_done.store(true, Ordering::Release);
        let report = server.join().unwrap();
        assert_eq!(report.completed, 1);
        let why = link.join().unwrap();
        assert!(why == "Connection with master lost.", "{why}");
    });
    assert_eq!(host.events.lock().unwrap()[..], ["began", "loading", "done"]);
    assert_eq!(replica.log().end(), primary.log().end(), "the log is relayed byte for byte");
    let (ours, theirs) = (content(&primary), content(&replica));
    let seed = first_seed();
    for (key, value) in &ours {
        let same = theirs.get(key) == Some(value);
        assert!(same, "{} in database {} differs (SLUICE_TEST_SEED={seed})", key.1.escape_ascii(), key.0);
    }
    assert_eq!(ours.len(), theirs.len(), "SLUICE_TEST_SEED={seed}");
}

#[test]
fn a_plain_stream_loads_live() {
    sync_while_writing(Transport::Socket, Format::EofRdb, LoadPlan::Live);
}

#[test]
fn a_plain_stream_loads_beside_the_old_data() {
    sync_while_writing(Transport::Socket, Format::EofRdb, LoadPlan::Staging);
}

#[test]
fn a_plain_stream_over_io_uring_loads_by_a_file() {
    let plan = LoadPlan::File { storage: Arc::new(Memory::new()), path: PathBuf::from("d/dump.rdb") };
    sync_while_writing(Transport::IoUring, Format::EofRdb, plan);
}

#[test]
fn a_staged_file_loads_live() {
    sync_while_writing(Transport::Disk, Format::SizedRdb, LoadPlan::Live);
}

#[test]
fn cut_and_log_in_one_stream() {
    for transport in [Transport::Socket, Transport::IoUring] {
        sync_while_writing(transport, Format::Sluice, LoadPlan::Live);
    }
}

#[test]
fn a_payload_that_breaks_off_leaves_the_replica_empty_or_as_it_was() {
    for (plan, emptied) in [(LoadPlan::Live, true), (LoadPlan::Staging, false)] {
        let primary = Engine::default();
        let mut session = primary.session();
        for i in 0..2000 {
            call(&primary, &mut session, &[b"SET", format!("k{i}").as_bytes(), &[b'v'; 100]]);
        }
        let replica = Engine::default();
        replica.log().activate();
        let mut old = replica.session();
        call(&replica, &mut old, &[b"SET", b"old", b"data"]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = listener.accept().unwrap().0;
        let host = Host::new(plan);
        std::thread::scope(|scope| {
            let link = scope.spawn(|| {
                let mut applier = StreamApplier::new(&replica);
                follow(near, config(), None, &replica, &mut applier, &host)
            });
            handshake(&mut far);
            far.write_all(&fullresync_line(&ReplId::random(), 5)).unwrap();
            let cut = primary.begin_cut().unwrap();
            let mut source = EofPayload::new(RdbSource::new(
                cut,
                RdbEncoder::new(EncoderOptions::default()),
                BufferPool::new(),
                Arc::default(),
            ));
            let header = source.next_chunk().unwrap().unwrap();
            let chunk = source.next_chunk().unwrap().unwrap();
            far.write_all(&header).unwrap();
            far.write_all(&chunk[..chunk.len() / 2]).unwrap();
            drop(far);
            let why = link.join().unwrap();
            assert!(why.starts_with("I/O error trying to sync with MASTER"), "{why}");
        });
        assert_eq!(host.events.lock().unwrap().last().unwrap(), &format!("failed {emptied}"));
        let left = if emptied { b":0\r\n" } else { b":1\r\n" };
        assert_eq!(call(&replica, &mut old, &[b"DBSIZE"]), left);
    }
}

#[test]
fn the_digest_of_the_framed_stream_is_that_of_rdb() {
    // CRC-64/Redis: the check value of the catalogue.
    let mut digest = stream_digest();
    digest.update(b"123456789");
    assert_eq!(digest.finalize(), 0xe9c6d914c4b8d9ca);
}
