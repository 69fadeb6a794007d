//! One cut, many sinks: a snapshot, a rewrite and full syncs that are due together share one walk and one file.

use sluice_tests::data::{bulk, every_encoding, same_contents};
use sluice_tests::{Busy, Program, Server, Start, until};
use std::os::unix::fs::MetadataExt;

/// Bytes a second: a snapshot goes on until this is set to nothing.
const CRAWL: &str = "1000";

fn server() -> Server {
    let server = Server::sluice("--appendonly yes --repl-transport disk --save ''");
    let mut c = server.client();
    c.pipeline(&every_encoding());
    bulk(&mut c, 500, 500);
    assert_eq!(server.say(&format!("CONFIG SET persistence-max-bandwidth {CRAWL}")).text(), "OK");
    server
}

fn go_on(server: &Server) {
    assert_eq!(server.say("CONFIG SET persistence-max-bandwidth 0").text(), "OK");
}

fn shared(server: &Server, times: i64) {
    until("the cut is shared", || {
        (server.number("persistence", "persistence_shared_cuts") == times).then_some(())
    });
}

#[test]
fn a_replica_that_asks_during_a_snapshot_gets_its_file() {
    let primary = server();
    assert_eq!(primary.say("BGSAVE").text(), "Background saving started");
    let replica = Server::sluice("");
    replica.follow(&primary);
    shared(&primary, 1);
    let busy = Busy::on(&primary);
    busy.goes_on(100);
    go_on(&primary);
    replica.link_up();
    busy.stop();
    replica.same_as(&primary);
    same_contents(&mut replica.client(), &mut primary.client());
    assert_eq!(primary.number("persistence", "rdb_saves"), 1);
    assert_eq!(primary.number("stats", "sync_full"), 1);
}

#[test]
fn the_first_replica_does_not_join_a_snapshot_from_before_the_log_was_kept() {
    let primary = Server::sluice("--repl-transport disk --save ''");
    let mut c = primary.client();
    bulk(&mut c, 1000, 100);
    assert_eq!(primary.say(&format!("CONFIG SET persistence-max-bandwidth {CRAWL}")).text(), "OK");
    assert_eq!(primary.say("BGSAVE").text(), "Background saving started");
    // Nobody follows: these are in no log, and the offset stands still.
    for n in 0..1000 {
        c.say(&format!("SET key:{n} overwritten"));
    }
    let replica = Server::sluice("");
    replica.follow(&primary);
    until("the replica waits", || (primary.number("replication", "connected_slaves") == 1).then_some(()));
    assert_eq!(primary.number("persistence", "persistence_shared_cuts"), 0);
    go_on(&primary);
    replica.link_up();
    replica.same_as(&primary);
    same_contents(&mut replica.client(), &mut c);
}

#[test]
fn a_replica_that_asks_too_late_for_a_snapshot_waits_for_the_next() {
    let primary = server();
    primary.say("CONFIG SET repl-backlog-size 16kb");
    assert_eq!(primary.say("BGSAVE").text(), "Background saving started");
    let big = "x".repeat(1000);
    for n in 0..100 {
        primary.say(&format!("SET late:{n} {big}"));
    }
    until("the log no longer reaches back", || {
        (primary.number("replication", "repl_backlog_first_byte_offset") > 50_000).then_some(())
    });
    let replica = Server::sluice("");
    replica.follow(&primary);
    until("the replica waits", || (primary.number("replication", "connected_slaves") == 1).then_some(()));
    assert_eq!(primary.number("persistence", "persistence_shared_cuts"), 0);
    go_on(&primary);
    replica.link_up();
    replica.same_as(&primary);
}

#[test]
fn a_snapshot_and_a_rewrite_due_together_are_one_file_with_two_names() {
    let server = server();
    assert_eq!(server.say("BGSAVE").text(), "Background saving started");
    assert_eq!(server.say("BGSAVE SCHEDULE").text(), "Background saving scheduled");
    assert!(server.say("BGREWRITEAOF").text().contains("scheduled"));
    go_on(&server);
    shared(&server, 1);
    server.reports("persistence", "aof_rewrite_in_progress", "0");
    server.reports("persistence", "rdb_bgsave_in_progress", "0");
    server.reports("persistence", "aof_last_bgrewrite_status", "ok");
    assert_eq!(server.number("persistence", "rdb_saves"), 2);
    let aof = server.file("appendonlydir");
    let base = std::fs::read_dir(&aof).unwrap().flatten().find(|f| {
        let name = f.file_name().into_string().unwrap();
        name.ends_with(".base.rdb")
    });
    let base = base.unwrap().path();
    let dump = server.file("dump.rdb");
    assert_eq!(std::fs::metadata(&base).unwrap().ino(), std::fs::metadata(&dump).unwrap().ino());

    // Each is good alone: the append-only file, and then the snapshot without it.
    server.say("SET after both");
    let (digest, dir) = (server.digest(), server.dir().clone());
    server.kill();
    let again = Start::new(Program::Sluice, "--appendonly yes --save ''").dir(&dir).up();
    assert_eq!(again.digest(), digest);
    again.kill();
    std::fs::remove_dir_all(&aof).unwrap();
    let plain = Start::new(Program::Sluice, "--appendonly no --save ''").dir(&dir).up();
    assert_eq!(plain.say("EXISTS after").int(), 0);
    plain.say("SET after both");
    assert_eq!(plain.digest(), digest);
}

/// A server with so much data that a paced snapshot of it has seconds to go.
fn slow_server(options: &str) -> Server {
    let server =
        Server::sluice(&format!("--save '' --repl-transport socket --repl-diskless-sync-delay 0 {options}"));
    let mut c = server.client();
    c.pipeline(&every_encoding());
    bulk(&mut c, 16_000, 1000);
    assert_eq!(server.say("CONFIG SET persistence-max-bandwidth 2mb").text(), "OK");
    server
}

#[test]
fn a_snapshot_gives_way_to_a_diskless_full_sync_and_begins_again() {
    for load in ["disabled", "swapdb"] {
        let primary = slow_server("");
        primary.say("BGSAVE");
        let replica = Server::sluice(&format!("--repl-diskless-load {load}"));
        replica.follow(&primary);
        replica.link_up();
        assert_eq!(
            primary.number("persistence", "rdb_bgsave_in_progress"),
            1,
            "it did not wait for the snapshot"
        );
        primary.logged("gives way to a full sync");
        // A second one finds a snapshot that has given way already, and waits.
        primary.say("SET later 1");
        let second = Server::sluice(&format!("--repl-diskless-load {load}"));
        second.follow(&primary);
        go_on(&primary);
        second.link_up();
        primary.reports("persistence", "rdb_bgsave_in_progress", "0");
        assert_eq!(primary.info("persistence", "rdb_last_bgsave_status").as_deref(), Some("ok"));
        assert_eq!(primary.number("persistence", "rdb_saves"), 1);
        replica.same_as(&primary);
        second.same_as(&primary);
        let (digest, dir) = (primary.digest(), primary.dir().clone());
        primary.kill();
        // The snapshot may be of before SET.
        let again = Start::new(Program::Sluice, "--save ''").dir(&dir).up();
        again.say("SET later 1");
        assert_eq!(again.digest(), digest);
    }
}

#[test]
fn a_rewrite_gives_way_too_and_no_write_is_lost_between_its_cuts() {
    let primary = slow_server("--appendonly yes --auto-aof-rewrite-percentage 0");
    primary.say("BGREWRITEAOF");
    until("its cut has begun", || {
        (primary.number("persistence", "current_save_keys_total") > 0).then_some(())
    });
    let busy = Busy::on(&primary);
    busy.goes_on(100);
    let replica = Server::sluice("--repl-diskless-load swapdb");
    replica.follow(&primary);
    replica.link_up();
    assert_eq!(
        primary.number("persistence", "aof_rewrite_in_progress"),
        1,
        "it did not wait for the rewrite"
    );
    primary.logged("gives way to a full sync");
    busy.goes_on(100);
    go_on(&primary);
    primary.reports("persistence", "aof_rewrite_in_progress", "0");
    assert_eq!(primary.info("persistence", "aof_last_bgrewrite_status").as_deref(), Some("ok"));
    busy.goes_on(100);
    busy.stop();
    replica.same_as(&primary);
    let (digest, dir) = (primary.digest(), primary.dir().clone());
    primary.kill();
    let again = Start::new(Program::Sluice, "--appendonly yes --save ''").dir(&dir).up();
    assert_eq!(again.digest(), digest);
}
