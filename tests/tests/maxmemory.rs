//! `maxmemory`: every policy refuses what would add data, at the limit and not after it.

use sluice_tests::client::request;
use sluice_tests::{Reply, Server};

const VALUE: usize = 900_000;

fn used(server: &Server) -> usize {
    server.number("memory", "used_memory") as usize
}

#[test]
fn at_most_one_value_passes_the_limit_under_any_policy() {
    let value = "x".repeat(VALUE);
    for policy in ["noeviction", "allkeys-lru", "volatile-ttl", "allkeys-random"] {
        // A server of its own: what clients and data of another round leave behind goes in the background, while it counts.
        let server = Server::sluice("");
        assert_eq!(server.say(&format!("CONFIG SET maxmemory-policy {policy}")).text(), "OK");
        let limit = used(&server) + 10 * VALUE;
        server.say(&format!("CONFIG SET maxmemory {limit}"));
        let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
        let mut kept = 0;
        for i in 0..40 {
            let reply = clients[i % 3].try_run(&["SET", &format!("key:{i}"), &value]).expect("a reply");
            if reply.is_error() {
                assert_eq!(
                    reply.text(),
                    "OOM command not allowed when used memory > 'maxmemory'.",
                    "{policy}"
                );
            }
            kept += usize::from(!reply.is_error());
        }
        assert!((6..=11).contains(&kept), "{policy}: {kept} values of {VALUE} bytes under 10 values' worth");
        assert!(!clients[0].ask("GET nothing").is_error() && !clients[0].ask("EXPIRE key:0 1000").is_error());
        // What is given back can be used at once.
        assert_eq!(clients[1].ask("DEL key:0 key:1 key:2 key:3 key:4"), Reply::Int(5));
        assert_eq!(clients[2].ask("SET small 1").text(), "OK", "{policy}");
        server.say("CONFIG SET maxmemory 0");
        assert_eq!(clients[2].ask("APPEND small 1"), Reply::Int(2), "{policy}: no limit");
        let log = server.log();
        let warned =
            log.contains("'maxmemory-policy'") && log.contains("the limit holds as under noeviction");
        assert_eq!(warned, policy != "noeviction", "{policy}: {log}");
    }
}

#[test]
fn a_pipeline_of_small_writes_stops_at_the_limit() {
    let server = Server::sluice("--maxmemory-policy volatile-lru");
    let limit = used(&server) + (8 << 20);
    server.say(&format!("CONFIG SET maxmemory {limit}"));
    let mut c = server.client();
    let mut refused = 0;
    for batch in 0..200 {
        let mut sent = Vec::new();
        for i in 0..500 {
            let value = format!("{batch}:{i}:{}", "y".repeat(200));
            sent.extend(request(&["RPUSH", &format!("list:{}", i % 50), &value]));
        }
        c.send(&sent).expect("sent");
        refused += (0..500).filter(|_| c.reply().expect("a reply").is_error()).count();
    }
    assert!(refused > 50_000, "{refused} of 100,000 refused");
    // The connection's own buffers come and go with a batch.
    let over = used(&server) as i64 - limit as i64;
    assert!(over < 1 << 20, "{over} bytes above the limit");
}

#[test]
fn a_replica_takes_what_its_primary_sends_unless_told_otherwise() {
    let primary = Server::sluice("");
    let replica = Server::sluice("--replica-read-only no");
    replica.follow(&primary);
    replica.link_up();
    replica.say("CONFIG SET maxmemory 1mb");
    primary.say("SET k v");
    replica.same_as(&primary);
    assert_eq!(replica.client().ask("SET own 1").text(), "OK");
    replica.say("CONFIG SET replica-ignore-maxmemory no");
    assert!(replica.client().ask("SET own 2").text().starts_with("OOM "));
}
