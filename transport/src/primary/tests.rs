//! REPLCONF, PSYNC and the delay window; and the replica's machine against these, in memory.

use super::psync::{PsyncDecision, PsyncRequest, decide, fullresync_line};
use super::schedule::*;
use super::*;
use crate::replica::{Action, LinkConfig, PayloadKind, ReplicaLink};
use crate::replid::ReplId;
use crate::state::ReplicationState;

fn policy() -> SyncPolicy {
    SyncPolicy {
        choice: TransportChoice::Auto,
        diskless: true,
        delay_ms: 5000,
        max_replicas: 0,
        sluice: true,
    }
}

const REDIS: Capabilities = Capabilities { eof: true, psync2: true, sluice: false };
const OURS: Capabilities = Capabilities { eof: true, psync2: true, sluice: true };
const OLD: Capabilities = Capabilities { eof: false, psync2: false, sluice: false };

#[test]
fn replconf_answers_as_redis() {
    let mut p = ReplicaPeer::new(1, 0);
    let err = |e: &str| ReplconfReply::Error(e.into());
    assert_eq!(p.replconf(&[b"listening-port", b"6381", b"capa", b"EOF"], 0), ReplconfReply::Ok);
    assert_eq!(
        p.replconf(&[b"capa", b"psync2", b"capa", b"future", b"capa", b"sluice"], 0),
        ReplconfReply::Ok
    );
    assert_eq!((p.listening_port, p.capa), (6381, OURS));
    assert_eq!(p.replconf(&[b"capa"], 0), err("ERR syntax error"));
    assert_eq!(p.replconf(&[b"listening-port", b"x"], 0), err("ERR value is not an integer or out of range"));
    assert_eq!(p.replconf(&[b"nope", b"1"], 0), err("ERR Unrecognized REPLCONF option: nope"));
    assert_eq!(
        p.replconf(&[b"ip-address", &[b'x'; 300]], 0),
        err("ERR REPLCONF ip-address provided by replica instance is too long: 300 bytes")
    );
    assert_eq!(
        p.replconf(&[b"rdb-only", b"2"], 0),
        err("ERR value is out of range, value must between 0 and 1")
    );
    assert_eq!(p.replconf(&[b"rdb-filter-only", b"functions"], 0), ReplconfReply::Ok);
    assert_eq!(p.filter, RdbFilter { data: false, functions: true });
    assert_eq!(
        p.replconf(&[b"rdb-filter-only", b"keys"], 0),
        err("ERR Unsupported rdb-filter-only option: keys")
    );
    assert_eq!(p.replconf(&[b"ACK", b"5"], 0), ReplconfReply::Silent, "not a replica yet");
    assert_eq!(p.replconf(&[b"getack", b"*"], 0), ReplconfReply::GetAck);
}

#[test]
fn the_first_ack_starts_the_stream_and_silence_ends_it() {
    let mut p = ReplicaPeer::new(1, 0);
    p.wait_for_sync();
    assert_eq!(p.state_word(), Some("wait_bgsave"));
    assert!(!p.newline_due(500) && p.newline_due(1000) && !p.newline_due(1500) && p.newline_due(2000));
    p.sync_began(false);
    assert_eq!(p.state_word(), Some("wait_bgsave"), "of a diskless sync");
    assert!(!p.newline_due(90_000), "no newline inside a payload");
    assert!(p.timed_out("r", 60_000, 900_000).is_none(), "the sender watches the payload");
    assert!(!p.payload_sent(false, 10_000));
    assert_eq!(p.replconf(&[b"ACK", b"120"], 11_000), ReplconfReply::Ack { start_stream: true });
    assert_eq!(p.replconf(&[b"ACK", b"130"], 12_000), ReplconfReply::Ack { start_stream: false });
    assert_eq!((p.ack_offset(), p.lag_ms(12_500)), (130, 500));
    assert_eq!(good_replicas([&p], 10_000, 13_000), 1);
    assert_eq!(good_replicas([&p], 10_000, 23_000), 0);
    assert!(p.timed_out("r", 60_000, 72_000).is_none());
    let words = p.timed_out("1.2.3.4:5", 60_000, 72_001).unwrap();
    assert_eq!(words, "Disconnecting timedout replica (streaming sync): 1.2.3.4:5");
    p.newline(72_001);
    assert!(p.timed_out("r", 60_000, 72_002).is_none());
}

#[test]
fn an_ack_that_overtakes_the_end_of_the_payload_counts() {
    let mut p = ReplicaPeer::new(1, 0);
    p.wait_for_sync();
    p.sync_began(false);
    assert_eq!(p.replconf(&[b"ACK", b"120"], 5), ReplconfReply::Ack { start_stream: false });
    assert!(p.payload_sent(false, 6));
    assert_eq!(p.state(), PeerState::Online);
    p.wait_for_sync();
    p.sync_began(false);
    assert!(!p.payload_sent(false, 7), "but not for the next payload");
}

#[test]
fn psync_continues_exactly_within_the_backlog() {
    let mut s = ReplicationState::new();
    let old = s.replid();
    let decision = |s: &ReplicationState, held: Option<std::ops::Range<u64>>, id: &ReplId, wire: &str| {
        let request = PsyncRequest::parse(id.as_bytes(), wire.as_bytes()).unwrap();
        match decide(s, held, &request, REDIS, "r") {
            PsyncDecision::Continue { from, .. } => Ok(from),
            PsyncDecision::Full { log } => Err(log),
        }
    };
    assert_eq!(decision(&s, Some(100..200), &old, "101"), Ok(100));
    assert_eq!(decision(&s, Some(100..200), &old, "201"), Ok(200));
    for wire in ["100", "202", "0", "-1", "-9223372036854775808", "9223372036854775807"] {
        assert!(decision(&s, Some(100..200), &old, wire).is_err(), "{wire}");
    }
    assert!(decision(&s, None, &old, "101").unwrap_err().contains("lack of backlog"));
    assert!(
        decision(&s, Some(0..9), &ReplId::random(), "1").unwrap_err().contains("Replication ID mismatch")
    );
    // After a failover the old id goes up to the promotion.
    s.become_replica();
    s.promote(150);
    assert_eq!(decision(&s, Some(100..200), &old, "151"), Ok(150));
    assert!(decision(&s, Some(100..200), &old, "152").unwrap_err().ends_with("but I can reply up to 151"));
    assert_eq!(PsyncRequest::parse(b"?", b"x"), None);
    assert!(decision(&s, Some(0..9), &ReplId::NONE, "1").is_err());
}

#[test]
fn the_delay_window_gathers_and_the_limit_closes_it() {
    let mut s = Schedule::default();
    assert_eq!(s.request(1, REDIS, RdbFilter::ALL, &policy(), 1000), Requested::Queued);
    assert_eq!(s.poll(&policy(), 5999), None);
    s.request(2, REDIS, RdbFilter::ALL, &policy(), 4000);
    s.request(3, OURS, RdbFilter::ALL, &policy(), 4500);
    s.request(4, REDIS, RdbFilter::ALL, &policy(), 5000);
    s.leave(4);
    assert_eq!(s.deadline(&policy()), Some(6000));
    let b = s.poll(&policy(), 6000).unwrap();
    assert_eq!((b.transport, b.format, b.window_ms), (Transport::Socket, Format::EofRdb, 5000));
    assert_eq!(b.replicas, [1, 2, 3], "one payload that all of them read");
    s.request(3, OURS, RdbFilter::ALL, &policy(), 6001);
    // One cut at a time.
    assert_eq!(s.poll(&policy(), 60_000), None);
    s.cut_taken(b.id + 1);
    assert!(s.busy());
    s.cut_taken(b.id);
    let b = s.poll(&policy(), 60_000).unwrap();
    assert_eq!((b.format, b.replicas), (Format::Sluice, vec![3]));
    s.cut_taken(b.id);
    let limit = SyncPolicy { max_replicas: 2, ..policy() };
    s.request(5, REDIS, RdbFilter::ALL, &limit, 100_000);
    assert_eq!(s.poll(&limit, 100_000), None);
    s.request(6, REDIS, RdbFilter::ALL, &limit, 100_001);
    assert_eq!(s.poll(&limit, 100_001).unwrap().replicas, [5, 6]);
}

#[test]
fn disk_syncs_start_at_once_and_take_latecomers_while_staging() {
    let disk = SyncPolicy { diskless: false, ..policy() };
    let mut s = Schedule::default();
    s.request(1, OURS, RdbFilter::ALL, &disk, 10);
    let b = s.poll(&disk, 10).unwrap();
    assert_eq!((b.transport, b.format), (Transport::Disk, Format::SizedRdb));
    assert_eq!(s.request(2, REDIS, RdbFilter::ALL, &disk, 20), Requested::Attached { batch: b.id });
    let functions = RdbFilter { data: false, functions: true };
    assert_eq!(s.request(3, REDIS, functions, &disk, 20), Requested::Queued);
    s.cut_taken(b.id);
    assert_eq!(s.request(4, REDIS, RdbFilter::ALL, &disk, 30), Requested::Queued);
    let part = s.poll(&disk, 30).unwrap();
    assert_eq!((part.replicas.as_slice(), part.filter), (&[3][..], functions));
    // The file is of all the data: a part goes as a stream, and alone.
    assert_eq!((part.transport, part.format), (Transport::Socket, Format::EofRdb));
    assert_eq!(s.request(5, REDIS, functions, &disk, 31), Requested::Queued);
    // A peer that cannot read $EOF gets a file whatever is configured.
    assert_eq!(policy().plan(OLD, RdbFilter::ALL), (Transport::Disk, Format::SizedRdb));
    let uring = SyncPolicy { choice: TransportChoice::IoUring, ..disk };
    assert_eq!(uring.plan(OURS, RdbFilter::ALL), (Transport::IoUring, Format::Sluice));
    assert_eq!(
        SyncPolicy { sluice: false, ..uring }.plan(OURS, RdbFilter::ALL),
        (Transport::IoUring, Format::EofRdb)
    );
}

/// A scripted server around the primary's pieces: parses the replica's commands crudely and answers.
struct Primary {
    peer: ReplicaPeer,
    state: ReplicationState,
    held: std::ops::Range<u64>,
    input: Vec<u8>,
    stream: Vec<u8>,
}

impl Primary {
    fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.input.extend_from_slice(bytes);
        while let Some((args, used)) = command(&self.input) {
            self.input.drain(..used);
            let refs: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            match refs[0] {
                b"PING" => out.extend_from_slice(b"+PONG\r\n"),
                b"REPLCONF" => match self.peer.replconf(&refs[1..], 0) {
                    ReplconfReply::Ok => out.extend_from_slice(b"+OK\r\n"),
                    ReplconfReply::Ack { start_stream: true } => out.extend_from_slice(&self.stream),
                    ReplconfReply::Ack { .. } => {}
                    other => panic!("{other:?}"),
                },
                b"PSYNC" => {
                    let request = PsyncRequest::parse(refs[1], refs[2]).unwrap();
                    match decide(&self.state, Some(self.held.clone()), &request, self.peer.capa, "r") {
                        PsyncDecision::Continue { from, reply, .. } => {
                            self.peer.continued(from, 0);
                            out.extend_from_slice(&reply);
                            out.extend_from_slice(&self.stream[(from - self.held.start) as usize..]);
                        }
                        PsyncDecision::Full { .. } => {
                            self.peer.sync_began(false);
                            let mark = ReplId::random();
                            out.extend_from_slice(&fullresync_line(&self.state.replid(), self.held.start));
                            out.extend_from_slice(format!("\n$EOF:{mark}\r\npayload{mark}").as_bytes());
                            self.peer.payload_sent(false, 0);
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn command(input: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let text = std::str::from_utf8(input).ok()?;
    let n: usize = text.strip_prefix('*')?.split_once("\r\n")?.0.parse().ok()?;
    let mut parts = text.split_inclusive("\r\n").map(|s| (s, s.ends_with("\r\n")));
    let mut used = parts.next()?.0.len();
    let mut args = Vec::new();
    for _ in 0..n {
        let (head, arg) = (parts.next()?, parts.next()?);
        if !arg.1 {
            return None;
        }
        used += head.0.len() + arg.0.len();
        args.push(arg.0.trim_end().as_bytes().to_vec());
    }
    Some((args, used))
}

#[test]
fn both_ends_agree_byte_by_byte_on_full_and_then_partial_sync() {
    let state = ReplicationState::new();
    let config = LinkConfig {
        user: None,
        password: None,
        listening_port: 7000,
        announce_ip: Some("10.1.1.1".into()),
        offer_sluice: true,
        timeout_ms: 1000,
        failover: false,
        forced: false,
    };
    let mut follower = ReplicationState::new();
    follower.become_replica();
    follower.new_history();
    for round in 0..2 {
        let mut primary = Primary {
            peer: ReplicaPeer::new(1, 0),
            state: state.clone(),
            held: 500..506,
            input: Vec::new(),
            stream: b"stream".to_vec(),
        };
        let mut link = ReplicaLink::new(config.clone(), follower.resume_point(503), 0);
        link.connected(0);
        let (mut to_replica, mut payload, mut stream) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..10_000 {
            // One byte each way at a time: the cruellest split.
            if !link.output().is_empty() {
                let byte = link.output().remove(0);
                primary.receive(&[byte], &mut to_replica);
            }
            if to_replica.is_empty() {
                if link.output().is_empty() {
                    break;
                }
                continue;
            }
            let byte = [to_replica.remove(0)];
            let mut input = &byte[..];
            loop {
                let mut loaded = None;
                match link.next(&mut input, 0) {
                    None => break,
                    Some(Action::FullSync { .. }) => follower.full_sync_began(),
                    Some(Action::PayloadBegins(kind)) => assert!(matches!(kind, PayloadKind::Eof { .. })),
                    Some(Action::Payload { bytes, .. }) => payload.extend_from_slice(bytes),
                    Some(Action::PayloadEnd { offset }) => loaded = Some(offset),
                    Some(Action::Continue { replid }) => assert!(!follower.continued(replid, 503)),
                    Some(Action::Stream(bytes)) => stream.extend_from_slice(bytes),
                    Some(Action::Log(..)) => {}
                    Some(other) => panic!("{other:?}"),
                }
                if let Some(offset) = loaded {
                    assert_eq!(offset, 500);
                    follower.full_sync_done(Some(state.replid()));
                    link.loaded(offset, 0);
                }
            }
        }
        assert!(primary.peer.is_online());
        assert_eq!(primary.peer.announced_ip.as_deref(), Some("10.1.1.1"));
        let want: (&[u8], &[u8]) = if round == 0 { (b"payload", b"stream") } else { (b"", b"eam") };
        assert_eq!((&payload[..], &stream[..]), want, "round {round}");
    }
}
