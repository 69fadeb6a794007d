//! Sluice as a replica of a real redis-server: disk-backed and diskless, loaded in every way, while writes go on.

use sluice_tests::data::{bulk, every_encoding, same_contents, write_some};
use sluice_tests::{Busy, Reply, Server, peers_here, until};

fn redis(options: &str) -> Server {
    let server = Server::redis(options);
    let mut c = server.client();
    c.pipeline(&every_encoding());
    write_some(&mut c, 1, 1000);
    bulk(&mut c, 1000, 1000);
    server
}

#[test]
fn full_syncs_by_disk_and_by_socket_loaded_in_every_way() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for diskless in ["no", "yes"] {
        let primary = redis(&format!("--repl-diskless-sync {diskless}"));
        for load in ["disabled", "on-empty-db", "swapdb"] {
            let replica = Server::sluice(&format!("--repl-diskless-load {load}"));
            replica.say("SELECT 0");
            let busy = Busy::on(&primary);
            replica.follow(&primary);
            replica.link_up();
            busy.goes_on(100);
            busy.stop();
            replica.same_as(&primary);
            same_contents(&mut replica.client(), &mut primary.client());
            assert_eq!(primary.number("replication", "connected_slaves"), 1);
            drop(replica);
            primary.reports("replication", "connected_slaves", "0");
        }
    }
}

#[test]
fn the_stream_of_redis_is_followed() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let primary = Server::redis("");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.link_up();
    let mut c = primary.client();
    for line in [
        "MULTI",
        "SET a 1",
        "INCR a",
        "SELECT 2",
        "LPUSH l x y",
        "EXEC",
        "SELECT 0",
        "SET gone 1 PX 50",
        "SET stays 1 EX 1000",
    ] {
        c.say(line);
    }
    write_some(&mut c, 3, 3000);
    until("the key expires", || (c.ask("GET gone") == Reply::Nil).then_some(()));
    replica.same_as(&primary);
    same_contents(&mut replica.client(), &mut primary.client());
    let ack = || primary.info("replication", "slave0").is_some_and(|line| line.contains("state=online"));
    assert!(ack());
    assert_eq!(c.ask("WAIT 1 5000"), Reply::Int(1));
}

#[test]
fn a_broken_link_to_redis_continues_where_it_was() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let primary = redis("--repl-backlog-size 64mb");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.same_as(&primary);
    let busy = Busy::on(&primary);
    for _ in 0..3 {
        busy.goes_on(50);
        primary.say("CLIENT KILL TYPE replica");
        busy.goes_on(50);
        replica.link_up();
    }
    busy.stop();
    replica.same_as(&primary);
    assert_eq!(primary.number("stats", "sync_full"), 1);
    assert!(primary.number("stats", "sync_partial_ok") >= 1);
}

#[test]
fn a_command_of_redis_we_do_not_know_is_loud() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let primary = Server::redis("");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.link_up();
    primary.say("XADD stream 1-1 f v");
    primary.say("SET after 1");
    replica.caught_up(&primary);
    assert_eq!(replica.say("GET after").text(), "1");
    let log = replica.log();
    assert!(log.to_lowercase().contains("xadd"), "{log}");
}
