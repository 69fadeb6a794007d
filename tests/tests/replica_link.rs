//! A replica and its link: roles change at once whatever the link waits for, a broken stream is not believed, and a full
//! sync that cannot be used costs no data and is not asked for over and over.

use sluice_tests::client::request;
use sluice_tests::peers::{Asked, FakePrimary, Hole};
use sluice_tests::{Reply, Server, until};

const EMPTY_RDB: &[u8] = b"REDIS0010\xff\0\0\0\0\0\0\0\0";
const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn follow_port(replica: &Server, port: u16) -> Reply {
    replica.say(&format!("REPLICAOF 127.0.0.1 {port}"))
}

/// The answer to PSYNC: a full sync with this payload.
fn full_sync(payload: &[u8]) -> Vec<u8> {
    [format!("+FULLRESYNC {ID} 1\r\n${}\r\n", payload.len()).as_bytes(), payload].concat()
}

#[test]
fn a_replica_of_a_dead_address_is_promoted_at_once_and_serves_meanwhile() {
    // Far longer than this test may take: who waited for the attempt would fail it.
    let server = Server::sluice("--repl-timeout 3600");
    let (hole, other) = (Hole::new(), Hole::new());
    for _ in 0..3 {
        follow_port(&server, hole.port);
        server.reports("replication", "master_link_status", "down");
        follow_port(&server, other.port);
        server.alive();
        server.say("REPLICAOF NO ONE");
        assert_eq!(server.info("replication", "role").as_deref(), Some("master"));
        server.say("SET k v");
    }
    // And a replica configured so at the start ends when it is told to.
    follow_port(&server, hole.port);
    assert!(server.terminate().success());
}

#[test]
fn what_a_replica_relays_is_its_primarys_stream_alone_whomever_it_turns_to() {
    let middle = Server::sluice("--repl-ping-replica-period 1 --repl-timeout 5 --repl-diskless-sync-delay 0");
    let replica = Server::sluice("");
    replica.follow(&middle);
    replica.link_up();
    let (hole, other) = (Hole::new(), Hole::new());
    follow_port(&middle, hole.port);
    let (offset, begun) =
        (middle.number("replication", "master_repl_offset"), middle.number("server", "uptime_in_seconds"));
    until("several pings would have been due", || {
        follow_port(&middle, other.port);
        follow_port(&middle, hole.port);
        (middle.number("server", "uptime_in_seconds") > begun + 3).then_some(())
    });
    assert_eq!(middle.number("replication", "master_repl_offset"), offset);
}

#[test]
fn a_stream_that_cannot_be_read_ends_the_link_and_the_claim_to_its_history() {
    for junk in [
        &b"*1\r\n$-5\r\n"[..],
        b"nonsense\r\n",
        b"lue\r\n*1\r\n$4\r\nPING\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\nkeys\r\n",
    ] {
        let (replica, fake) = (Server::sluice(""), FakePrimary::new());
        follow_port(&replica, fake.port);
        let (mut link, words) = fake.asked(Asked::Psync).expect("it asks");
        assert_eq!(words[0], "psync");
        link.send(&full_sync(EMPTY_RDB)).unwrap();
        link.send(&request(&["SET", "good", "1"])).unwrap();
        until("the stream is applied", || (replica.client().ask("GET good") == "1".into()).then_some(()));
        link.send(junk).unwrap();
        let (_link, words) = fake.asked(Asked::Psync).expect("it asks again");
        assert_eq!(words, ["psync", "?", "-1"], "after {:?}", String::from_utf8_lossy(junk));
    }
}

/// RDB payloads that cannot be used, and whether that is seen from the first bytes.
fn unusable() -> Vec<(&'static str, Vec<u8>)> {
    // A hash whose fields expire, of Redis 8: a type from the future behind keys that are well.
    let future = b"REDIS0012\xfe\x00\x00\x01k\x01v\x19\x01h\x00\xff\0\0\0\0\0\0\0\0";
    let no_database = b"REDIS0010\xfe\x40\x7f\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0";
    vec![
        ("version 99", b"REDIS0099\xff\0\0\0\0\0\0\0\0".to_vec()),
        ("no RDB", b"this is not what was expected".to_vec()),
        ("short", b"REDIS".to_vec()),
        ("cut off", b"REDIS0010\xfe\x00\x00\x01k\x0avv".to_vec()),
        ("wrong sum", b"REDIS0010\xfe\x00\x00\x01k\x01v\xff\x01\x02\x03\x04\x05\x06\x07\x08".to_vec()),
        ("a type of the future", future.to_vec()),
        ("a database that is not there", no_database.to_vec()),
    ]
}

#[test]
fn a_full_sync_that_cannot_be_used_costs_no_data_and_no_file() {
    std::thread::scope(|scope| {
        for load in ["disabled", "swapdb", "on-empty-db"] {
            scope.spawn(move || {
                let (replica, fake) =
                    (Server::sluice(&format!("--repl-diskless-load {load}")), FakePrimary::new());
                replica.say("SET mine 1");
                replica.say("SAVE");
                let saved = std::fs::read(replica.file("dump.rdb")).unwrap();
                for (what, payload) in unusable() {
                    follow_port(&replica, fake.port);
                    let mut link = fake.handshake(Asked::Psync).expect("it asks");
                    let _ = link.send(&full_sync(&payload));
                    link.rest();
                    until("the failure is counted", || {
                        (replica.number("replication", "master_sync_failures") > 0).then_some(())
                    });
                    assert_eq!(replica.client().ask("GET mine"), "1".into(), "{load}: {what}");
                    let now = std::fs::read(replica.file("dump.rdb")).unwrap();
                    assert!(now == saved, "{load}: {what}: the file was replaced");
                    replica.say("REPLICAOF NO ONE");
                }
            });
        }
    });
}

#[test]
fn full_syncs_that_cannot_be_used_are_asked_for_at_a_growing_distance() {
    let (replica, fake) = (Server::sluice(""), FakePrimary::new());
    follow_port(&replica, fake.port);
    for failures in 1..=4i64 {
        let mut link = fake.handshake(Asked::Psync).expect("it asks");
        let _ = link.send(&full_sync(b"this is not what was expected"));
        link.rest();
        replica.reports("replication", "master_sync_failures", &failures.to_string());
        let next = 1 << (failures - 1);
        replica.logged(&format!("({failures} in a row): the next full sync is tried in {next} s"));
        assert!(replica.number("replication", "master_sync_retry_in_seconds") <= next);
        // The operator need not wait.
        follow_port(&replica, fake.port);
    }
    let mut link = fake.handshake(Asked::Psync).expect("it asks");
    link.send(&full_sync(EMPTY_RDB)).unwrap();
    replica.link_up();
    replica.reports("replication", "master_sync_failures", "0");
    replica.reports("replication", "master_sync_retry_in_seconds", "0");
}

#[test]
fn keys_that_clients_gave_an_expiry_are_the_replicas_to_delete_until_a_full_sync_or_a_promotion() {
    let (primary, replica) =
        (Server::sluice("--repl-diskless-sync-delay 0"), Server::sluice("--replica-read-only no"));
    let tracked = || replica.number("stats", "slave_expires_tracked_keys");
    for end in ["a full sync", "a promotion"] {
        replica.follow(&primary);
        replica.link_up();
        replica.say("SET own 1 EX 10000");
        assert_eq!(tracked(), 1);
        if end == "a full sync" {
            primary.say("DEBUG CHANGE-REPL-ID");
            let syncs = primary.number("stats", "sync_full");
            replica.say("CLIENT KILL TYPE master");
            until("there was another", || (primary.number("stats", "sync_full") > syncs).then_some(()));
            replica.caught_up(&primary);
        } else {
            replica.say("REPLICAOF NO ONE");
        }
        assert_eq!(tracked(), 0, "after {end}");
    }
}
