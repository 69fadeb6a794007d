//! What a replica cannot apply of its primary's stream: it is counted and said, decides what happens by a setting, costs no
//! offset and no append-only file; and what newer primaries say in words of theirs is applied.

use sluice_tests::client::{Client, request};
use sluice_tests::peers::{Asked, FakePrimary};
use sluice_tests::{Program, Server, Start, until};

const EMPTY_RDB: &[u8] = b"REDIS0010\xff\0\0\0\0\0\0\0\0";

/// A replica with these options whose link to a primary played here is up; the stream begins at offset 100.
fn linked(options: &str) -> (Server, FakePrimary, Client) {
    let (replica, fake) = (Server::sluice(options), FakePrimary::new());
    replica.say(&format!("REPLICAOF 127.0.0.1 {}", fake.port));
    let mut link = fake.handshake(Asked::Psync).expect("it asks");
    let head = format!("+FULLRESYNC {} 100\r\n${}\r\n", "a".repeat(40), EMPTY_RDB.len());
    link.send(&[head.as_bytes(), EMPTY_RDB].concat()).unwrap();
    replica.link_up();
    (replica, fake, link)
}

fn stream(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| request(&line.split(' ').collect::<Vec<_>>())).collect()
}

/// Sends these commands and waits until their bytes are in the replica's log.
#[track_caller]
fn applies(replica: &Server, link: &mut Client, lines: &[&str]) {
    let bytes = stream(lines);
    let end = replica.number("replication", "slave_repl_offset") + bytes.len() as i64;
    link.send(&bytes).unwrap();
    replica.reports("replication", "slave_repl_offset", &end.to_string());
}

fn unapplied(replica: &Server) -> (i64, i64) {
    (
        replica.number("replication", "slave_unapplied_commands"),
        replica.number("stats", "unexpected_error_replies"),
    )
}

#[test]
fn what_cannot_be_applied_is_counted_costs_no_offset_and_leaves_a_file_that_loads() {
    for base in ["yes", "no"] {
        let options = format!("--appendonly yes --aof-use-rdb-preamble {base}");
        let (replica, _fake, mut link) = linked(&options);
        applies(&replica, &mut link, &["SELECT 0", "SET a 1", "FUTURE x y"]);
        assert_eq!(unapplied(&replica), (1, 1));
        applies(&replica, &mut link, &["PUBLISH channel message", "SPUBLISH channel message"]);
        assert_eq!(unapplied(&replica), (1, 1), "messages are no data");
        applies(&replica, &mut link, &["LPUSH a x", "SET b 2"]);
        assert_eq!(unapplied(&replica), (2, 2));
        let block = ["MULTI", "SET c 3", "FUTURE z", "HSETEX h KEEPTTL FIELDS 1 f 1.5", "LPUSH a y", "EXEC"];
        applies(&replica, &mut link, &block);
        assert_eq!(unapplied(&replica), (4, 4));
        let newer = ["HSETEX h FIELDS 1 g 2", "MSETEX 2 m 1 n 2", "SET a 5 IFEQ 1", "SET last 1"];
        applies(&replica, &mut link, &newer);
        assert_eq!(unapplied(&replica), (4, 4), "newer words for what we have");
        replica.logged("does not know the command 'FUTURE'");
        replica.logged("'-WRONGTYPE");
        let (dir, digest) = (replica.dir().clone(), replica.digest());
        assert_eq!(replica.say("MGET a b c m n last").items().len(), 6);
        assert_eq!(replica.client().ask("HGET h f"), "1.5".into());
        assert_eq!(replica.client().ask("GET a"), "5".into());
        until("the new base is complete", || {
            (replica.number("persistence", "aof_rewrite_in_progress") == 0
                && replica.number("persistence", "aof_rewrite_scheduled") == 0)
                .then_some(())
        });
        // Once more, for what follows the base in the file.
        applies(
            &replica,
            &mut link,
            &["FUTURE x", "MULTI", "FUTURE y", "HSETEX h FIELDS 1 g 2", "EXEC", "FUTURE z"],
        );
        assert_eq!(replica.digest(), digest);
        assert!(replica.terminate().success());
        let again = Start::new(Program::Sluice, &options).dir(&dir).up();
        assert_eq!(again.digest(), digest);
        // The file says again what was refused, to the same end; a strict server takes no file like that.
        assert!(again.number("stats", "unexpected_error_replies") > 0);
        assert!(again.terminate().success());
        let strict = format!("{options} --propagation-error-behavior panic");
        let (status, log) = Start::new(Program::Sluice, &strict).dir(&dir).refused();
        assert!(!status.success() && log.contains("panicked"), "{log}");
    }
}

#[test]
fn the_log_is_not_filled_with_what_cannot_be_applied() {
    let (replica, _fake, mut link) = linked("");
    let many: Vec<&str> = [["FUTURE x", "PUBLISH c m"]; 500].concat();
    applies(&replica, &mut link, &many);
    assert_eq!(unapplied(&replica).0, 500);
    let lines = replica.log().matches("does not know the command").count();
    assert!((1..=10).contains(&lines), "{lines} lines");
    assert!(!replica.log().to_lowercase().contains("publish"));
}

#[test]
fn what_happens_then_is_a_setting() {
    for behaviour in ["panic", "panic-on-replicas"] {
        for bad in ["FUTURE x", "LPUSH a x"] {
            let (mut replica, _fake, mut link) = linked(&format!("--propagation-error-behavior {behaviour}"));
            applies(&replica, &mut link, &["SELECT 0", "SET a 1", "PUBLISH c m"]);
            link.send(&stream(&[bad])).unwrap();
            assert!(!replica.wait_for_end().success(), "{behaviour}: {bad}");
            replica.logged("This replica panicked sending an error to its master");
        }
    }
    let (replica, fake, mut link) = linked("--propagation-error-behavior resync");
    applies(&replica, &mut link, &["SELECT 0", "SET a 1"]);
    link.send(&stream(&["LPUSH a x"])).unwrap();
    let (_link, words) = fake.asked(Asked::Psync).expect("it asks again");
    assert_eq!(words, ["psync", "?", "-1"]);
    assert_eq!(replica.client().ask("GET a"), "1".into(), "the old data stays until the new is there");
    // A writable replica has differences of its own, and goes on.
    let (replica, _fake, mut link) = linked("--propagation-error-behavior panic --replica-read-only no");
    applies(&replica, &mut link, &["FUTURE x", "SELECT 0", "SET a 1"]);
}

#[test]
fn a_database_that_is_not_there_ends_the_link_before_anything_is_written_elsewhere() {
    let (replica, fake, mut link) = linked("--databases 4");
    applies(&replica, &mut link, &["SELECT 3", "SET a 1"]);
    link.send(&stream(&["SELECT 9", "SET stray 1"])).unwrap();
    let (_link, words) = fake.asked(Asked::Psync).expect("it asks again");
    assert_eq!(words, ["psync", "?", "-1"]);
    assert_eq!(replica.info("keyspace", "db3").map(|line| line.contains("keys=1,")), Some(true));
}

#[test]
fn a_replica_whose_disk_fails_ends_at_the_next_write_unless_it_is_to_ignore_that() {
    for ignore in ["no", "yes"] {
        let options = format!(
            "--save 3600 1000000 --repl-diskless-load on-empty-db --replica-ignore-disk-write-errors {ignore}"
        );
        let (mut replica, _fake, mut link) = linked(&options);
        applies(&replica, &mut link, &["SELECT 0", "SET a 1"]);
        std::fs::remove_dir_all(replica.dir().path()).unwrap();
        replica.client().ask("BGSAVE");
        replica.reports("persistence", "rdb_last_bgsave_status", "err");
        if ignore == "no" {
            link.send(&stream(&["SET b 1"])).unwrap();
            assert!(!replica.wait_for_end().success());
        } else {
            applies(&replica, &mut link, &["SET b 1"]);
            assert_eq!(replica.client().ask("GET b"), "1".into());
        }
    }
}
