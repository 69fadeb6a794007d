//! The three senders over loopback: all bytes to all replicas, and what happens when one stalls, crawls or dies.

use super::pool::{BufferPool, CHUNK_BYTES};
use super::uring::Uring;
use super::*;
use sluice_persistence::storage::{Disk, Memory, Storage};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that depend on their position, in pooled chunks of changing size.
struct Pattern {
    at: u64,
    len: u64,
    pool: BufferPool,
    fail_at: u64,
}

fn byte_at(i: u64) -> u8 {
    (i ^ (i >> 8) ^ (i >> 17)) as u8
}

impl ChunkSource for Pattern {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        if self.at >= self.fail_at {
            return Err(CutError::Aborted("as the test wants it".into()));
        }
        if self.at == self.len {
            return Ok(None);
        }
        let n = (self.len - self.at).min(1 + (self.at * 7919) % CHUNK_BYTES as u64);
        let mut buf = self.pool.take();
        buf.extend((self.at..self.at + n).map(byte_at));
        self.at += n;
        Ok(Some(buf.freeze()))
    }
}

fn pattern(len: u64) -> Pattern {
    Pattern { at: 0, len, pool: BufferPool::new(), fail_at: u64::MAX }
}

fn tcp_pair() -> (SyncPeer, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    (SyncPeer { id: u64::from(far.local_addr().unwrap().port()), socket: near.into() }, far)
}

/// A replica: reads all, `pause` after each buffer full, checks the pattern, returns the count.
fn reader(mut socket: impl Read + Send + 'static, pause: Duration, stop_at: u64) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut seen, mut buf) = (0u64, vec![0u8; 64 << 10]);
        while seen < stop_at {
            match socket.read(&mut buf) {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    for (i, b) in buf[..n].iter().enumerate() {
                        assert_eq!(*b, byte_at(seen + i as u64), "wrong byte at {}", seen + i as u64);
                    }
                    seen += n as u64;
                }
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        seen
    })
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    Socket,
    Uring,
}

fn run(
    how: How,
    mut source: Pattern,
    peers: Vec<SyncPeer>,
    limits: WindowLimits,
    control: &SyncControl,
) -> (SyncReport, Vec<SyncEvent>) {
    let mut events = Vec::new();
    let mut keep = |e| events.push(e);
    let report = match how {
        How::Socket => diskless::send(&mut source, peers, limits, control, &mut keep),
        How::Uring => Uring::new().unwrap().send(&mut source, peers, limits, control, &mut keep),
    };
    (report, events)
}

fn dropped(events: &[SyncEvent]) -> Vec<&DropReason> {
    events
        .iter()
        .filter_map(|e| if let SyncEvent::Dropped { reason, .. } = e { Some(reason) } else { None })
        .collect()
}

fn senders() -> Vec<How> {
    match Uring::new() {
        Ok(_) => vec![How::Socket, How::Uring],
        Err(e) => {
            eprintln!("only plain sockets are tested: {e}");
            vec![How::Socket]
        }
    }
}

#[test]
fn every_replica_gets_every_byte() {
    for how in senders() {
        for (replicas, len) in [(1, 0), (1, 1), (3, 20_000_000)] {
            let (peers, far): (Vec<_>, Vec<_>) = (0..replicas).map(|_| tcp_pair()).unzip();
            let readers: Vec<_> = far.into_iter().map(|s| reader(s, Duration::ZERO, u64::MAX)).collect();
            let source = pattern(len);
            let pool = source.pool.clone();
            let limits = WindowLimits::default();
            let (report, events) = run(how, source, peers, limits, &SyncControl::default());
            assert_eq!((report.completed, report.payload_bytes), (replicas, len), "{how:?} {events:?}");
            assert_eq!(report.sent_bytes, len * replicas as u64);
            assert!(report.peak_queue_bytes <= (limits.window_bytes + CHUNK_BYTES) as u64);
            assert_eq!(events.iter().filter(|e| matches!(e, SyncEvent::SourceDone)).count(), 1);
            drop(events); // closes the sockets
            for r in readers {
                assert_eq!(r.join().unwrap(), len);
            }
            assert!(pool.idle() <= 16, "chunks are recycled: {} buffers", pool.idle());
            if how == How::Uring && len > 1000 {
                assert!(report.zero_copy_sends + report.copied_sends > 0);
            }
        }
    }
}

#[test]
fn a_replica_that_takes_nothing_is_dropped_and_the_others_go_on() {
    for how in senders() {
        let (stalled, _far) = tcp_pair();
        let (good, far) = tcp_pair();
        let good_reader = reader(far, Duration::ZERO, u64::MAX);
        // Long enough that the good one makes progress within it on a busy machine too.
        let limits = WindowLimits { timeout_ms: 2000, stall_limit_ms: 60_000, ..Default::default() };
        let (report, events) =
            run(how, pattern(40_000_000), vec![stalled, good], limits, &SyncControl::default());
        assert!(matches!(dropped(&events)[..], [DropReason::NoProgress { .. }]), "{how:?} {events:?}");
        assert_eq!(report.completed, 1);
        drop(events);
        assert_eq!(good_reader.join().unwrap(), 40_000_000);
    }
}

#[test]
fn a_crawling_replica_is_dropped_when_it_holds_a_fast_one() {
    for how in senders() {
        let (slow, slow_far) = tcp_pair();
        let (fast, fast_far) = tcp_pair();
        let slow_reader = reader(slow_far, Duration::from_millis(20), u64::MAX);
        let fast_reader = reader(fast_far, Duration::ZERO, u64::MAX);
        let limits = WindowLimits { stall_limit_ms: 300, ..Default::default() };
        let (report, events) =
            run(how, pattern(40_000_000), vec![slow, fast], limits, &SyncControl::default());
        assert_eq!(dropped(&events), [&DropReason::HeldOthers { limit_ms: 300 }], "{how:?}");
        assert_eq!(report.completed, 1);
        drop(events);
        assert_eq!(fast_reader.join().unwrap(), 40_000_000);
        assert!(slow_reader.join().unwrap() < 40_000_000);
    }
}

#[test]
fn a_replica_that_dies_does_not_disturb_the_others() {
    for how in senders() {
        let (dying, dying_far) = tcp_pair();
        let (good, far) = tcp_pair();
        let died = reader(dying_far, Duration::ZERO, 1_000_000);
        let good_reader = reader(far, Duration::ZERO, u64::MAX);
        let limits = WindowLimits::default();
        let (report, events) =
            run(how, pattern(40_000_000), vec![dying, good], limits, &SyncControl::default());
        assert!(matches!(dropped(&events)[..], [DropReason::Disconnected(_)]), "{how:?} {events:?}");
        assert_eq!(report.completed, 1);
        drop(events);
        assert_eq!(good_reader.join().unwrap(), 40_000_000);
        died.join().unwrap();
        // When the only replica dies, the sync ends.
        let (dying, dying_far) = tcp_pair();
        drop(dying_far);
        let (report, events) = run(how, pattern(40_000_000), vec![dying], limits, &SyncControl::default());
        assert_eq!((report.completed, dropped(&events).len()), (0, 1));
    }
}

#[test]
fn a_failed_cut_or_a_stop_ends_all_of_them() {
    for how in senders() {
        let (a, far_a) = tcp_pair();
        let (b, _far_b) = tcp_pair();
        let _reader = reader(far_a, Duration::ZERO, u64::MAX);
        let source = Pattern { fail_at: 3_000_000, ..pattern(1 << 40) };
        let limits = WindowLimits { window_bytes: 64 << 20, ..Default::default() };
        let stop = SyncControl::default();
        if how == How::Socket {
            let (_, events) = run(how, source, vec![a, b], limits, &stop);
            assert!(dropped(&events).iter().all(|r| matches!(r, DropReason::CutFailed(_))), "{events:?}");
            assert_eq!(dropped(&events).len(), 2);
        }
        let (c, _far_c) = tcp_pair();
        stop.stop();
        let (_, events) = run(how, pattern(1 << 40), vec![c], limits, &stop);
        assert_eq!(dropped(&events), [&DropReason::Stopped]);
    }
}

#[test]
fn sockets_without_zero_copy_get_plain_sends() {
    if !senders().contains(&How::Uring) {
        return;
    }
    let (near, far) = UnixStream::pair().unwrap();
    let r = reader(far, Duration::ZERO, u64::MAX);
    let peer = SyncPeer { id: 1, socket: near.into() };
    let (report, events) =
        run(How::Uring, pattern(5_000_000), vec![peer], WindowLimits::default(), &SyncControl::default());
    assert_eq!(report.completed, 1, "{events:?}");
    drop(events);
    assert_eq!(r.join().unwrap(), 5_000_000);
}

#[test]
fn a_staged_file_goes_to_each_replica_at_its_own_pace() {
    for in_memory in [false, true] {
        staged_to_four(in_memory);
    }
}

fn staged_to_four(in_memory: bool) {
    let folder = tempfile::tempdir().unwrap();
    let len = 12_000_000u64;
    let content: Vec<u8> = (0..len).map(byte_at).collect();
    let storage: Box<dyn Storage> = if in_memory { Box::new(Memory::new()) } else { Box::new(Disk) };
    let path = folder.path().join("staged.rdb");
    storage.create(&path).unwrap().write_all(&content).unwrap();
    let staged = disk::StagedFile { file: storage.open(&path).unwrap(), staged_ms: 7 };
    let (peers, mut far): (Vec<_>, Vec<_>) = (0..4).map(|_| tcp_pair()).unzip();
    let stalled = far.pop().unwrap();
    drop(far.pop()); // and one is dead
    let header = format!("${len}\r\n");
    let readers: Vec<_> = far
        .into_iter()
        .enumerate()
        .map(|(i, mut s)| {
            let mut line = vec![0; header.len()];
            let want = header.clone();
            std::thread::spawn(move || {
                s.read_exact(&mut line).unwrap();
                assert_eq!(line, want.as_bytes());
                reader(s, Duration::from_micros(200 * i as u64), u64::MAX).join().unwrap()
            })
        })
        .collect();
    let mut events = Vec::new();
    let report = disk::send(&staged, peers, 400, &SyncControl::default(), &mut |e| events.push(e));
    assert_eq!((report.completed, report.disk_bytes, report.disk_ms), (2, len, 7));
    assert_eq!(dropped(&events).len(), 2);
    assert!(dropped(&events).iter().any(|r| matches!(r, DropReason::NoProgress { .. })));
    drop(events);
    for r in readers {
        assert_eq!(r.join().unwrap(), len);
    }
    drop(stalled);
}

#[test]
fn an_eof_payload_is_framed_by_its_mark() {
    let mut payload = EofPayload::new(pattern(10));
    let mut all = Vec::new();
    while let Some(chunk) = payload.next_chunk().unwrap() {
        all.extend_from_slice(&chunk);
    }
    let mark = &all[5..45];
    assert!(all.starts_with(b"$EOF:") && &all[45..47] == b"\r\n");
    assert_eq!(&all[47 + 10..], mark);
    assert_eq!(all.len(), 47 + 10 + 40);
}
