//! Peers that send garbage: a primary in each state of our replica's handshake and payload, a replica in each state
//! of our primary. The server stays alive, says what was wrong, and keeps its data.

use sluice_tests::client::request;
use sluice_tests::data::{Random, write_some};
use sluice_tests::peers::{Asked, FakePrimary, ask_for_sync};
use sluice_tests::{Client, Server};

const STATES: [Asked; 4] = [Asked::Ping, Asked::Port, Asked::Capa, Asked::Psync];

/// What a peer may answer to anything.
fn garbage() -> Vec<Vec<u8>> {
    let mut random = Random(5);
    let mut all: Vec<Vec<u8>> = [
        &b""[..],
        b"\r\n",
        b"+\r\n",
        b"-\r\n",
        b"-ERR no\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"$5\r\nhello\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"+FULLRESYNC\r\n",
        b"+FULLRESYNC abc\r\n",
        b"+FULLRESYNC 0123456789012345678901234567890123456789\r\n",
        b"+FULLRESYNC 0123456789012345678901234567890123456789 -5\r\n",
        b"+FULLRESYNC 0123456789012345678901234567890123456789 99999999999999999999\r\n",
        b"+CONTINUE nonsense\r\n",
        b"\0\0\0\0\xff\xfe\r\n",
    ]
    .map(<[u8]>::to_vec)
    .into();
    all.push(vec![b'x'; 300_000]);
    all.push(random.noise(4000));
    all
}

/// What may follow a good `+FULLRESYNC` line instead of a payload.
fn payloads() -> Vec<Vec<u8>> {
    let mark = [b'm'; 40];
    let after = |head: &str, body: &[u8]| [head.as_bytes(), &mark, b"\r\n", body].concat();
    let mut random = Random(6);
    let mut all: Vec<Vec<u8>> = [
        &b"$-1\r\n"[..],
        b"$abc\r\n",
        b"$99999999999999999999\r\n",
        b"$9223372036854775807\r\nREDIS0010",
        b"$20\r\nnot an rdb file at al",
        b"$18\r\nREDIS0010\xfe\x81\x7f\xff\xff\xff\xff\xff\xff",
        b"$9\r\nREDIS9999",
        b"$30\r\nREDIS0010",
        b"+OK\r\n",
        b"$EOF:short\r\n",
        b"$SLUICE:short\r\n",
    ]
    .map(<[u8]>::to_vec)
    .into();
    all.push(after("$EOF:", b"not an rdb file"));
    all.push(after("$EOF:", b"REDIS0010\x00\x81\x7f\xff\xff\xff\xff\xff\xff\xff"));
    all.push(after("$EOF:", &random.noise(5000)));
    all.push(after("$SLUICE:", b"Z\0\0\0\0\0"));
    all.push(after("$SLUICE:", b"C\0\xff\xff\xff\xff"));
    all.push(after("$SLUICE:", b"C\x01\x08\0\0\0\xff\xff\xff\x7fabcd"));
    all.push(after("$SLUICE:", b"C\0\x04\0\0\0abcdE\0\x38\0\0\0"));
    all.push(after("$SLUICE:", b"L\0\x05\0\0\0*9999"));
    all.push(after("$SLUICE:", &random.noise(5000)));
    all.push(vec![b'$'; 300_000]);
    all
}

/// A replica with data of its own, pointed at a fake primary.
fn victim(load: &str) -> (Server, FakePrimary) {
    let replica = Server::sluice(&format!("--repl-diskless-load {load} --repl-timeout 10"));
    write_some(&mut replica.client(), 1, 100);
    let fake = FakePrimary::new();
    replica.say(&format!("REPLICAOF 127.0.0.1 {}", fake.port));
    (replica, fake)
}

/// After all that garbage the replica still serves and can follow a real primary.
#[track_caller]
fn recovers(replica: &Server) {
    replica.alive();
    let primary = Server::sluice("");
    write_some(&mut primary.client(), 2, 200);
    replica.follow(&primary);
    replica.same_as(&primary);
}

#[test]
fn a_primary_that_answers_the_handshake_with_garbage() {
    // Every state and every kind of garbage, one attempt each: the replica waits a second between attempts, so they
    // are spread over several replicas.
    let victims: Vec<_> = STATES.iter().map(|state| (*state, victim("swapdb"))).collect();
    let digests: Vec<_> = victims.iter().map(|(_, (replica, _))| replica.digest()).collect();
    std::thread::scope(|scope| {
        for (state, (_, fake)) in &victims {
            scope.spawn(move || {
                for junk in garbage() {
                    let Some(mut replica) = fake.handshake(*state) else { continue };
                    let _ = replica.send(&junk);
                    replica.finish_sending();
                }
            });
        }
    });
    for ((state, (replica, fake)), digest) in victims.iter().zip(digests) {
        assert_eq!(replica.digest(), digest, "data kept after garbage at {state:?}");
        assert_eq!(replica.info("replication", "master_link_status").as_deref(), Some("down"));
        drop(fake.accept());
    }
    recovers(&victims[3].1.0);
}

/// One replica takes these payloads, one an attempt.
fn takes(load: &str, payloads: &[Vec<u8>]) {
    let (replica, fake) = victim(load);
    let digest = replica.digest();
    for junk in payloads {
        let Some(mut link) = fake.handshake(Asked::Psync) else { continue };
        let line = format!("+FULLRESYNC {} 1\r\n", "a".repeat(40));
        let _ = link.send(line.as_bytes());
        let _ = link.send(junk);
        link.finish_sending();
        link.rest();
        // It would wait longer each time.
        replica.say(&format!("REPLICAOF 127.0.0.1 {}", fake.port));
    }
    // The replica is between two attempts now.
    drop(fake.accept());
    assert_eq!(replica.digest(), digest, "{load}");
    let left: Vec<_> =
        std::fs::read_dir(replica.dir().path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("temp")), "{load}: {left:?}");
    recovers(&replica);
}

#[test]
fn a_primary_that_sends_garbage_for_a_payload() {
    let payloads = payloads();
    std::thread::scope(|scope| {
        for load in ["swapdb", "disabled"] {
            for part in payloads.chunks(6) {
                scope.spawn(move || takes(load, part));
            }
        }
    });
}

#[test]
fn a_primary_that_sends_garbage_in_the_stream() {
    let empty_rdb = b"REDIS0010\xff\0\0\0\0\0\0\0\0";
    for junk in [
        &b"nonsense\r\n"[..],
        b"*1\r\n$-5\r\n",
        b"*99999999999\r\n",
        b"*2\r\n$3\r\nGET\r\n$536870913\r\n",
        b"\xff\xfe\0",
    ] {
        let (replica, fake) = victim("disabled");
        let mut link = fake.handshake(Asked::Psync).expect("it asks");
        let head = format!("+FULLRESYNC {} 1\r\n${}\r\n", "a".repeat(40), empty_rdb.len());
        link.send(head.as_bytes()).unwrap();
        link.send(empty_rdb).unwrap();
        link.send(&request(&["SET", "good", "1"])).unwrap();
        sluice_tests::until("the stream is applied", || {
            (replica.client().ask("GET good") == "1".into()).then_some(())
        });
        let _ = link.send(junk);
        link.finish_sending();
        link.rest();
        recovers(&replica);
    }
}

#[test]
fn a_primary_that_falls_silent_is_given_up_after_the_timeout() {
    let (replica, fake) = victim("disabled");
    replica.say("CONFIG SET repl-timeout 1");
    let _silent = fake.accept();
    let _second = fake.accept();
    replica.alive();
}

fn primary() -> Server {
    let server = Server::sluice("--repl-transport socket");
    write_some(&mut server.client(), 1, 500);
    server
}

#[test]
fn a_replica_that_asks_for_nonsense() {
    let primary = primary();
    let mut c = primary.client();
    for line in
        ["REPLCONF listening-port abc", "REPLCONF nonsense 1", "REPLCONF listening-port", "PSYNC", "PSYNC a"]
    {
        assert!(c.ask(line).is_error(), "{line}");
    }
    for psync in [
        "PSYNC ? -1",
        "PSYNC nonsense -99",
        "PSYNC 0123456789012345678901234567890123456789 9223372036854775807",
        "SYNC",
    ] {
        let mut replica = ask_for_sync(primary.client(), "capa eof capa psync2", psync);
        let first = replica.line().unwrap();
        assert!(
            first.starts_with("+FULLRESYNC ") || first.starts_with('$') || first.is_empty(),
            "{psync}: {first}"
        );
    }
    for bad in ["PSYNC ? abc", "PSYNC a 99999999999999999999"] {
        let mut replica = ask_for_sync(primary.client(), "capa eof", bad);
        let first = replica.line().unwrap();
        assert!(first.starts_with("-ERR") || first.starts_with("+FULLRESYNC"), "{bad}: {first}");
    }
    primary.alive();
    primary.reports("replication", "connected_slaves", "0");
}

#[test]
fn a_replica_that_sends_garbage_during_and_after_its_sync() {
    let primary = primary();
    let mut random = Random(8);
    let junk = [
        random.noise(3000),
        request(&["SET", "written", "by-a-replica"]),
        request(&["REPLCONF", "ACK", "nonsense"]),
        request(&["REPLCONF", "ACK", "9223372036854775807"]),
        request(&["REPLCONF", "ACK", "-1"]),
        b"*99999999\r\n".to_vec(),
        b"*1\r\n$-9\r\n".to_vec(),
        vec![b'\n'; 100_000],
        vec![b'a'; 200_000],
    ];
    for capabilities in ["capa eof capa psync2", "capa eof capa psync2 capa sluice", "capa psync2"] {
        for (index, junk) in junk.iter().enumerate() {
            let mut replica = ask_for_sync(primary.client(), capabilities, "PSYNC ? -1");
            let during = index % 2 == 0;
            if !during {
                // A newline or two may come first, to keep the link alive.
                let first = std::iter::repeat_with(|| replica.line().unwrap()).find(|line| !line.is_empty());
                assert!(first.unwrap().starts_with("+FULLRESYNC"));
                let _ = replica.exactly(2000);
            }
            let _ = replica.send(junk);
            replica.finish_sending();
            replica.rest();
            primary.alive();
        }
    }
    primary.reports("replication", "connected_slaves", "0");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.same_as(&primary);
}

#[test]
fn a_replica_that_never_reads_does_not_hold_the_others() {
    let primary = Server::sluice("--repl-transport socket --repl-diskless-sync-delay 1 --repl-timeout 3");
    sluice_tests::data::bulk(&mut primary.client(), 12_000, 2000);
    let lazy: Vec<Client> =
        (0..2).map(|_| ask_for_sync(primary.client(), "capa eof capa psync2", "PSYNC ? -1")).collect();
    let replica = Server::sluice("--repl-diskless-load disabled");
    replica.follow(&primary);
    replica.same_as(&primary);
    primary.reports("replication", "connected_slaves", "1");
    drop(lazy);
}
