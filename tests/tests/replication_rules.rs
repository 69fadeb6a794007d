//! What holds while servers replicate: who may write, passwords, expiries, blocks, good replicas.

use sluice_tests::data::write_some;
use sluice_tests::{Reply, Server, until};

fn pair(primary: &str, replica: &str) -> (Server, Server) {
    let (primary, replica) = (Server::sluice(primary), Server::sluice(replica));
    replica.follow(&primary);
    replica.link_up();
    (primary, replica)
}

#[test]
fn a_replica_refuses_writes_unless_told_otherwise() {
    let (primary, replica) = pair("", "");
    let mut c = replica.client();
    assert_eq!(c.ask("SET a 1").text(), "READONLY You can't write against a read only replica.");
    assert_eq!(c.ask("GET a"), Reply::Nil);
    c.say("MULTI");
    assert!(c.ask("SET a 1").is_error());
    assert_eq!(c.ask("EXEC").text(), "EXECABORT Transaction discarded because of previous errors.");
    c.say("CONFIG SET replica-read-only no");
    c.say("SET a 1");
    assert_eq!(primary.client().ask("GET a"), Reply::Nil);
    c.say("REPLICAOF NO ONE");
    c.say("SET a 2");
}

#[test]
fn a_block_arrives_whole() {
    let (primary, replica) = pair("", "");
    let mut c = primary.client();
    for n in 0..300 {
        let block = ["MULTI".into(), format!("SET a {n}"), format!("SET b {n}"), "EXEC".into()];
        c.pipeline(&block.map(|line| sluice_tests::words(&line)));
        let seen = replica.say("MGET a b");
        assert_eq!(seen.items()[0], seen.items()[1]);
    }
    replica.same_as(&primary);
}

#[test]
fn expired_keys_go_when_the_primary_says_so_and_are_hidden_before() {
    let (primary, replica) = pair("", "");
    let mut c = primary.client();
    c.say("DEBUG SET-ACTIVE-EXPIRE 0");
    c.say("SET a 1 PX 100");
    c.say("HSET h f v");
    c.say("PEXPIRE h 100");
    c.say("SET stays 1 EX 1000");
    replica.caught_up(&primary);
    let mut r = replica.client();
    until("the expiry of both passes", || (r.ask("EXISTS a h") == Reply::Int(0)).then_some(()));
    assert_eq!(r.ask("GET a"), Reply::Nil);
    assert_eq!(r.say("DBSIZE"), Reply::Int(3), "still there, until the primary deletes them");
    assert_eq!(c.ask("GET a"), Reply::Nil);
    assert_eq!(c.ask("HGETALL h"), Reply::Array(vec![]));
    replica.same_as(&primary);
    assert_eq!(r.say("DBSIZE"), Reply::Int(1));
    assert_eq!(r.say("PEXPIRETIME stays"), c.say("PEXPIRETIME stays"));
}

#[test]
fn masterauth_lets_a_replica_in_and_a_wrong_one_does_not() {
    let primary = Server::sluice("--requirepass secret");
    let mut p = primary.client();
    p.say("AUTH secret");
    p.say("SET a 1");
    let replica = Server::sluice("");
    replica.say("CONFIG SET masterauth wrong");
    replica.follow(&primary);
    replica.logged("Unable to AUTH to MASTER");
    replica.say("CONFIG SET masterauth secret");
    replica.link_up();
    assert_eq!(replica.say("GET a").text(), "1");
    let none = Server::sluice("");
    none.follow(&primary);
    none.logged("NOAUTH");
    none.say("CONFIG SET masteruser default");
    none.say("CONFIG SET masterauth secret");
    none.link_up();
}

#[test]
fn min_replicas_to_write_needs_good_replicas() {
    let primary = Server::sluice("--min-replicas-to-write 1");
    let mut c = primary.client();
    assert_eq!(c.ask("SET a 1").text(), "NOREPLICAS Not enough good replicas to write.");
    assert_eq!(c.ask("GET a"), Reply::Nil);
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.link_up();
    until("a good replica is counted", || (!c.ask("SET a 1").is_error()).then_some(()));
    assert_eq!(primary.info("replication", "min_slaves_good_slaves").as_deref(), Some("1"));
    replica.kill();
    until("it is missed", || c.ask("SET a 2").is_error().then_some(()));
    c.say("CONFIG SET min-replicas-to-write 0");
    c.say("SET a 3");
    c.say("CONFIG SET min-replicas-to-write 2");
    assert!(c.ask("SET a 4").is_error());
}

#[test]
fn stale_data_is_refused_when_told_so() {
    let replica = Server::sluice("--replica-serve-stale-data no");
    replica.say("REPLICAOF 127.0.0.1 1");
    let text = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    assert_eq!(replica.client().ask("GET a").text(), text);
    assert_eq!(replica.info("replication", "role").as_deref(), Some("slave"));
}

#[test]
fn wait_counts_replicas_that_have_everything() {
    let (primary, replica) = pair("", "");
    let second = Server::sluice("");
    second.follow(&primary);
    second.link_up();
    let mut c = primary.client();
    c.say("SET a 1");
    assert_eq!(c.say("WAIT 2 10000"), Reply::Int(2));
    second.signal("STOP");
    c.say("SET a 2");
    assert_eq!(c.say("WAIT 2 200"), Reply::Int(1));
    second.signal("CONT");
    assert_eq!(c.say("WAIT 2 10000"), Reply::Int(2));
    assert_eq!(
        replica.client().ask("WAIT 1 0").text(),
        "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated."
    );
}

#[test]
fn effects_not_inputs_travel() {
    let (primary, replica) = pair("", "");
    let mut c = primary.client();
    for line in [
        "SADD s 1 2 3 4 5 6 7 8 9 10",
        "SPOP s 4",
        "SPOP s",
        "SET f 1.1",
        "INCRBYFLOAT f 2.2",
        "HINCRBYFLOAT h f 0.1",
        "SET t 1 EX 100",
        "EXPIRE f 50",
        "GETEX t PX 777777",
        "SELECT 7",
        "SET in-seven 1",
        "MOVE in-seven 8",
        "SWAPDB 7 8",
        "SELECT 0",
    ] {
        c.say(line);
    }
    write_some(&mut c, 12, 3000);
    replica.same_as(&primary);
    sluice_tests::data::same_contents(&mut replica.client(), &mut c);
}

#[test]
fn a_replica_that_does_not_read_is_dropped_at_its_limit_and_the_primary_lives() {
    let primary = Server::sluice("--client-output-buffer-limit replica 1mb 0 0 --repl-backlog-size 64kb");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.link_up();
    replica.signal("STOP");
    let mut c = primary.client();
    until("it is dropped", || {
        sluice_tests::data::bulk(&mut c, 500, 4000);
        (primary.number("replication", "connected_slaves") == 0).then_some(())
    });
    replica.signal("CONT");
    replica.same_as(&primary);
}
