//! MULTI, EXEC, DISCARD, WATCH: replies and error texts, and that others see all of a block or nothing of it.

use sluice_tests::{Reply, Server};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn exec_replies_what_its_commands_reply() {
    let server = Server::sluice("");
    let mut c = server.client();
    assert_eq!(c.ask("MULTI").text(), "OK");
    assert_eq!(c.ask("SET a 1").text(), "QUEUED");
    assert_eq!(c.ask("INCR a").text(), "QUEUED");
    assert_eq!(c.ask("LPUSH a x").text(), "QUEUED");
    assert_eq!(c.ask("SELECT 3").text(), "QUEUED");
    assert_eq!(c.ask("SET in3 x").text(), "QUEUED");
    assert_eq!(c.ask("PING").text(), "QUEUED");
    let reply = c.ask("EXEC");
    let items = reply.items();
    assert_eq!(items[..2], [Reply::Status("OK".into()), Reply::Int(2)]);
    assert_eq!(items[2].text(), "WRONGTYPE Operation against a key holding the wrong kind of value");
    assert_eq!(items[5].text(), "PONG");
    assert_eq!(c.say("GET in3").text(), "x");
    c.say("SELECT 0");
    assert_eq!(c.say("GET a").text(), "2");
}

#[test]
fn errors_are_those_of_redis() {
    let server = Server::sluice("");
    let mut c = server.client();
    assert_eq!(c.ask("EXEC").text(), "ERR EXEC without MULTI");
    assert_eq!(c.ask("DISCARD").text(), "ERR DISCARD without MULTI");
    c.say("MULTI");
    assert_eq!(c.ask("MULTI").text(), "ERR MULTI calls can not be nested");
    assert_eq!(c.ask("WATCH a").text(), "ERR WATCH inside MULTI is not allowed");
    c.say("SET a 1");
    assert_eq!(c.ask("DISCARD").text(), "OK");
    assert_eq!(c.ask("GET a"), Reply::Nil);
    for bad in ["NOSUCH", "GET"] {
        c.say("MULTI");
        assert!(c.ask(bad).is_error());
        c.say("SET a 1");
        assert_eq!(c.ask("EXEC").text(), "EXECABORT Transaction discarded because of previous errors.");
        assert_eq!(c.ask("GET a"), Reply::Nil);
    }
}

#[test]
fn a_watched_key_that_changes_makes_exec_nil() {
    let server = Server::sluice("");
    let (mut c, mut other) = (server.client(), server.client());
    let changes = [
        ("SET w 1", true),
        ("DEL none", false),
        ("GET w", false),
        ("DEL w", true),
        ("RPUSH w a", true),
        ("RENAME w v", true),
        ("EXPIRE v 100", false),
        ("COPY v w", true),
        ("EXPIRE w 100", true),
        ("SELECT 1", false),
        ("SET w other-database", false),
        ("SWAPDB 0 1", true),
        ("SELECT 0", false),
        ("FLUSHALL", true),
    ];
    for (change, breaks) in changes {
        c.say("WATCH w");
        other.say(change);
        c.say("MULTI");
        c.say("PING");
        assert_eq!(c.ask("EXEC") == Reply::Nil, breaks, "{change}");
    }
    c.say("WATCH w");
    other.say("SET w 1");
    c.say("UNWATCH");
    c.say("MULTI");
    assert_eq!(c.ask("EXEC"), Reply::Array(vec![]));
}

#[test]
fn a_block_is_seen_whole_or_not_at_all() {
    let server = Server::sluice("--io-threads 2");
    let stop = AtomicBool::new(false);
    let (stop, server) = (&stop, &server);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut c = server.client();
            for n in 0..1500 {
                for line in
                    ["MULTI", &format!("SET a {n}"), &format!("SET b {n}"), &format!("SET c {n}"), "EXEC"]
                {
                    c.say(line);
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        scope.spawn(move || {
            let mut c = server.client();
            while !stop.load(Ordering::Relaxed) {
                let seen = c.say("MGET a b c");
                let seen = seen.items();
                assert!(seen[0] == seen[1] && seen[1] == seen[2], "{seen:?}");
            }
        });
    });
}

/// What forbids a command alone forbids a block that holds it, although it was queued before.
#[test]
fn exec_is_judged_by_what_holds_when_it_comes() {
    let server = Server::sluice("");
    let (mut c, mut other) = (server.client(), server.client());
    let cases = [
        ("SET k 1", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"),
        ("SET k 1", "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"),
        ("SET k 1", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"),
        (
            "GET k",
            "CONFIG SET replica-serve-stale-data no|REPLICAOF 127.0.0.1 1",
            "REPLICAOF NO ONE|CONFIG SET replica-serve-stale-data yes",
            "MASTERDOWN",
        ),
    ];
    for (queued, change, back, code) in cases {
        c.say("WATCH w");
        c.say("MULTI");
        c.say("PING");
        c.say(queued);
        change.split('|').for_each(|line| drop(other.say(line)));
        let alone = other.ask(queued).text();
        assert!(alone.starts_with(code), "{alone}");
        let reply = c.ask("EXEC").text();
        back.split('|').for_each(|line| drop(other.say(line)));
        assert_eq!(reply, format!("EXECABORT Transaction discarded because of: {alone}"));
        assert_eq!(other.say("EXISTS k"), Reply::Int(0), "{change}");
        assert_eq!(c.ask("EXEC").text(), "ERR EXEC without MULTI", "the block is gone");
        assert!(!server.say("CLIENT LIST").text().contains("watch=1"), "and what was watched with it");
        // A block that holds nothing forbidden passes.
        c.say("MULTI");
        c.say("ECHO x");
        change.split('|').for_each(|line| drop(other.say(line)));
        assert_eq!(c.ask("EXEC").items().len(), 1, "{change}");
        back.split('|').for_each(|line| drop(other.say(line)));
    }
}
