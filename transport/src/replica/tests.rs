//! The link against scripted primaries: every split of the bytes, and garbage in every state.

use super::*;
use proptest::prelude::*;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const ID2: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn config() -> LinkConfig {
    LinkConfig {
        user: None,
        password: None,
        listening_port: 6380,
        announce_ip: None,
        offer_sluice: false,
        timeout_ms: 60_000,
        failover: false,
        forced: false,
    }
}

/// What happened on a link, with slices joined so that it does not depend on how the input was split.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Seen {
    payload: Vec<u8>,
    log: Vec<u8>,
    stream: Vec<u8>,
    events: Vec<String>,
    abort: Option<String>,
    rest: Vec<u8>,
}

fn feed(link: &mut ReplicaLink, parts: &[&[u8]], seen: &mut Seen) {
    for part in parts {
        let joined = [&seen.rest[..], part].concat();
        seen.rest.clear();
        let mut input = &joined[..];
        loop {
            let mut ended = None;
            match link.next(&mut input, 5) {
                None => break,
                Some(Action::Log(..)) => {}
                Some(Action::Payload { bytes, .. }) => seen.payload.extend_from_slice(bytes),
                Some(Action::LogBytes(bytes)) => seen.log.extend_from_slice(bytes),
                Some(Action::Stream(bytes)) => seen.stream.extend_from_slice(bytes),
                Some(Action::Abort { reason }) => seen.abort = Some(reason),
                Some(Action::PayloadEnd { offset }) => {
                    seen.events.push(format!("end {offset}"));
                    ended = Some(offset);
                }
                Some(other) => seen.events.push(format!("{other:?}")),
            }
            if let Some(offset) = ended {
                link.loaded(offset, 5);
            }
        }
        seen.rest = input.to_vec();
    }
}

fn sent(link: &mut ReplicaLink) -> String {
    String::from_utf8(std::mem::take(link.output())).unwrap()
}

/// Runs a link over a whole scripted conversation; returns what it saw and sent.
fn run(config: &LinkConfig, resume: Option<ResumePoint>, parts: &[&[u8]]) -> (Seen, String) {
    let mut link = ReplicaLink::new(config.clone(), resume, 0);
    link.connected(1);
    let mut seen = Seen::default();
    feed(&mut link, parts, &mut seen);
    (seen, sent(&mut link))
}

fn every_split(config: &LinkConfig, resume: Option<ResumePoint>, wire: &[u8]) -> (Seen, String) {
    let whole = run(config, resume, &[wire]);
    for i in 1..wire.len() {
        assert_eq!(run(config, resume, &[&wire[..i], &wire[i..]]), whole, "split at {i}");
    }
    let bytes: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(run(config, resume, &bytes), whole, "byte by byte");
    whole
}

#[test]
fn a_sized_full_sync_with_newlines_in_between() {
    let wire =
        format!("+PONG\r\n+OK\r\n+OK\r\n\n\n+FULLRESYNC {ID} 77\r\n\n\n$5\r\nREDIS*1\r\n$4\r\nPING\r\n");
    let (seen, out) = every_split(&config(), None, wire.as_bytes());
    assert_eq!(seen.payload, b"REDIS");
    assert_eq!(seen.stream, b"*1\r\n$4\r\nPING\r\n");
    assert_eq!(seen.events.last().unwrap(), "end 77");
    assert_eq!(seen.abort, None);
    assert_eq!(
        out,
        "*1\r\n$4\r\nPING\r\n*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n6380\r\n\
         *5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n\
         *3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n77\r\n"
    );
}

#[test]
fn an_eof_payload_ends_at_its_mark_and_not_at_its_beginnings() {
    // Data full of beginnings of the mark, and the mark's own beginning repeated just before it.
    let mark = ID2;
    let data = format!("{}xx{}{}", &mark[..39], &mark[..16], &mark[..1]);
    let wire = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 0\r\n$EOF:{mark}\r\n{data}{mark}");
    let (seen, _) = every_split(&config(), None, wire.as_bytes());
    assert_eq!(String::from_utf8(seen.payload).unwrap(), data);
    assert_eq!(seen.events.last().unwrap(), "end 0");
}

#[test]
fn a_mark_that_overlaps_itself_is_still_found() {
    let mark = "ab".repeat(20);
    for lead in ["", "a", "ab", "aba", "abab", "ababababa", "b"] {
        let wire = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 0\r\n$EOF:{mark}\r\nDATA{lead}");
        for i in 0..mark.len() {
            // The primary stops after the mark; what came before may be split anywhere.
            let (a, b) = mark.split_at(i);
            let (seen, _) = run(&config(), None, &[wire.as_bytes(), a.as_bytes(), b.as_bytes()]);
            let got = String::from_utf8(seen.payload).unwrap();
            // A lead that is itself part of the pattern can complete the mark early, as in Redis; real marks are random.
            assert!(format!("DATA{lead}").starts_with(&got), "{lead} {i}: {got}");
        }
    }
}

#[test]
fn a_partial_resync_goes_straight_to_the_stream() {
    let resume = ResumePoint { replid: ReplId::parse(ID.as_bytes()).unwrap(), offset: 99 };
    let wire = format!("+PONG\r\n+OK\r\n+OK\r\n\n+CONTINUE {ID2}\r\nstream");
    let (seen, out) = every_split(&config(), Some(resume), wire.as_bytes());
    assert_eq!(seen.stream, b"stream");
    assert_eq!(seen.events, [format!("Continue {{ replid: Some({ID2}) }}")]);
    assert!(out.ends_with(&format!("$5\r\nPSYNC\r\n$40\r\n{ID}\r\n$3\r\n100\r\n")));
    let (seen, _) = run(&config(), Some(resume), &[b"+PONG\r\n+OK\r\n+OK\r\n+CONTINUE\r\nx"]);
    assert_eq!(seen.events, ["Continue { replid: None }"]);
}

#[test]
fn auth_is_sent_after_noauth_and_its_refusal_is_final() {
    let mut c = config();
    c.password = Some("pw".into());
    c.user = Some("joe".into());
    c.announce_ip = Some("10.0.0.9".into());
    let (seen, out) = every_split(&c, None, b"-NOAUTH Authentication required.\r\n-WRONGPASS invalid\r\n");
    assert_eq!(seen.abort.as_deref(), Some("Unable to AUTH to MASTER: -WRONGPASS invalid"));
    assert!(out.contains("*3\r\n$4\r\nAUTH\r\n$3\r\njoe\r\n$2\r\npw\r\n"));
    assert!(out.contains("$10\r\nip-address\r\n$8\r\n10.0.0.9\r\n"));
    // Old primaries refuse REPLCONF options: the handshake goes on.
    let wire =
        format!("-NOPERM no ping\r\n+OK\r\n-ERR a\r\n-ERR b\r\n-ERR c\r\n+FULLRESYNC {ID} 1\r\n$0\r\n");
    let (seen, _) = every_split(&c, None, wire.as_bytes());
    assert_eq!(seen.events.last().unwrap(), "end 1");
}

#[test]
fn an_old_primary_is_asked_by_sync_and_gets_no_acks() {
    let wire = b"+PONG\r\n+OK\r\n-ERR x\r\n-ERR unknown command 'PSYNC'\r\n\n$3\r\nRDBset";
    let (seen, out) = every_split(&config(), None, wire);
    assert_eq!((&seen.payload[..], &seen.stream[..]), (&b"RDB"[..], &b"set"[..]));
    assert!(out.ends_with("SYNC\r\n"), "{out}");
}

#[test]
fn transient_refusals_ask_for_another_try() {
    for line in ["-NOMASTERLINK Can't SYNC while not connected with my master", "-LOADING Redis is loading"] {
        let wire = format!("+PONG\r\n+OK\r\n+OK\r\n{line}\r\n");
        let (seen, _) = run(&config(), None, &[wire.as_bytes()]);
        let reason = seen.abort.unwrap();
        assert_eq!(
            reason,
            format!("Master is currently unable to PSYNC but should be in the future: {line}")
        );
    }
}

#[test]
fn silence_is_timed_out_in_each_phase_and_acks_go_out_each_second() {
    let full = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 10\r\n$3\r\nRDB");
    for (wire, words) in [
        ("", "Timeout connecting"),
        ("+PONG\r\n", "Timeout connecting"),
        (&full[..full.len() - 3], "Timeout receiving bulk data"),
        (&full[..], "MASTER timeout"),
    ] {
        let mut link = ReplicaLink::new(config(), None, 0);
        link.connected(1);
        feed(&mut link, &[wire.as_bytes()], &mut Seen::default());
        assert_eq!(link.tick(60_000), None);
        let Some(Action::Abort { reason }) = link.tick(60_006) else { panic!("no time-out for {wire}") };
        assert!(reason.starts_with(words), "{reason}");
        assert_eq!(link.phase(), LinkPhase::Over);
    }
    let mut link = ReplicaLink::new(config(), None, 0);
    link.connected(1);
    feed(&mut link, &[full.as_bytes()], &mut Seen::default());
    sent(&mut link);
    link.tick(50);
    assert_eq!(sent(&mut link), "");
    link.tick(105);
    assert!(sent(&mut link).ends_with("ACK\r\n$2\r\n10\r\n"), "until the stream begins it insists");
    feed(&mut link, &[b"stream"], &mut Seen::default());
    link.applied(42);
    link.tick(900);
    assert_eq!(sent(&mut link), "");
    link.tick(1105);
    assert!(sent(&mut link).ends_with("ACK\r\n$2\r\n42\r\n"));
    link.getack(1106);
    assert!(sent(&mut link).ends_with("ACK\r\n$2\r\n42\r\n"));
}

#[test]
fn while_loading_newlines_are_sent_and_no_input_is_taken() {
    let mut link = ReplicaLink::new(config(), None, 0);
    link.connected(1);
    let wire = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 10\r\n$3\r\nRDB");
    let mut input = wire.as_bytes();
    while let Some(a) = link.next(&mut input, 2) {
        if matches!(a, Action::PayloadEnd { .. }) {
            break;
        }
    }
    sent(&mut link);
    let mut more = &b"set"[..];
    assert_eq!(link.next(&mut more, 3), None);
    assert_eq!(more, b"set");
    link.loading(500);
    link.loading(1500);
    link.loading(1600);
    assert_eq!(sent(&mut link), "\n");
    assert_eq!(link.tick(500_000), None, "a long load is no silence of the primary");
}

#[test]
fn garbage_in_each_state_ends_the_link_with_a_reason() {
    let states = [
        String::new(),
        "+PONG\r\n".into(),
        "+PONG\r\n+OK\r\n+OK\r\n".into(),
        format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 1\r\n"),
    ];
    let long = vec![b'a'; 5000];
    let cases: [&[u8]; 9] = [
        b"hello\r\n",
        b"\x00\xff\xfe\r\n",
        b":12\r\n",
        b"$-1\r\n",
        b"$99999999999999999999\r\n",
        b"$EOF:short\r\n",
        b"$SLUICE:x\r\n",
        b"+FULLRESYNC x y\r\n",
        &long,
    ];
    for (i, state) in states.iter().enumerate() {
        for garbage in cases {
            if i < 2 && garbage[0] == b'+' {
                continue; // any status line answers PING and REPLCONF
            }
            let (seen, _) = run(&config(), None, &[state.as_bytes(), garbage, b"more"]);
            assert!(seen.abort.is_some(), "state {i} swallowed {:?}", garbage.escape_ascii().to_string());
        }
    }
    // A CONTINUE nobody asked for, and a FULLRESYNC with a negative offset.
    let before = "+PONG\r\n+OK\r\n+OK\r\n";
    for line in [
        "+CONTINUE\r\n".to_owned(),
        format!("+FULLRESYNC {ID} -5\r\n"),
        format!("+FULLRESYNC {ID} 9223372036854775807\r\n"),
        "+HELLO\r\n".into(),
    ] {
        let (seen, _) = run(&config(), None, &[before.as_bytes(), line.as_bytes()]);
        assert!(seen.abort.is_some(), "{line}");
    }
}

proptest! {
    #[test]
    fn no_input_panics_or_makes_the_link_buffer(
        prefix in 0usize..5,
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let states = ["", "+PONG\r\n", "+PONG\r\n+OK\r\n+OK\r\n", "+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 1\r\n",
            "+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 1\r\n$SLUICE:0123456789abcdef0123456789abcdef01234567\r\n"];
        let mut c = config();
        c.offer_sluice = true;
        let (seen, out) = run(&c, None, &[states[prefix].as_bytes(), &bytes]);
        prop_assert!(seen.rest.len() <= bytes.len());
        prop_assert!(out.len() < 4096);
    }
}
