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

/// What EXEC replies to these commands.
fn block(c: &mut sluice_tests::Client, lines: &[&str]) -> Vec<Reply> {
    c.say("MULTI");
    lines.iter().for_each(|line| assert_eq!(c.ask(line).text(), "QUEUED", "{line}"));
    c.ask("EXEC").items().to_vec()
}

#[test]
fn the_servers_own_commands_run_at_their_place_in_a_block() {
    let server = Server::sluice("--enable-debug-command yes");
    let mut c = server.client();
    c.say("SET k v");
    let saw = block(&mut c, &["INFO keyspace", "FLUSHALL", "INFO keyspace", "SET k v", "INFO keyspace"]);
    assert!(saw[0].text().contains("db0:keys=1"));
    assert!(!saw[2].text().contains("db0"), "{}", saw[2].text());
    assert!(saw[4].text().contains("db0:keys=1"));
    let saw = block(
        &mut c,
        &["MEMORY USAGE k", "DEL k", "MEMORY USAGE k", "SET k 1", "DEBUG OBJECT k", "OBJECT ENCODING k"],
    );
    assert!(saw[0].int() > 0);
    assert_eq!(saw[2], Reply::Nil);
    assert!(saw[4].text().contains("encoding:int"), "{}", saw[4].text());
    assert_eq!(saw[5].text(), "int");
    let most = "hash-max-listpack-entries";
    let (small, large) = (format!("CONFIG SET {most} 512"), format!("CONFIG SET {most} 0"));
    let saw = block(
        &mut c,
        &[&large, "HSET h f v", &small, "HSET h2 f v", "OBJECT ENCODING h", "OBJECT ENCODING h2"],
    );
    assert_eq!((saw[4].text(), saw[5].text()), ("hashtable".into(), "listpack".into()));
    let saw = block(
        &mut c,
        &["SELECT 3", "CLIENT INFO", "CLIENT LIST", "SET k v", "MEMORY USAGE k", "SELECT 0", "CLIENT INFO"],
    );
    assert!(
        saw[1].text().contains(" db=3 ")
            && saw[2].text().contains(" db=3 ")
            && saw[6].text().contains(" db=0 ")
    );
    assert!(saw[4].int() > 0, "the database selected within the block");
    let digests = block(
        &mut c,
        &[
            "DEBUG DIGEST",
            "SET d 1",
            "DEBUG DIGEST",
            "DEL d",
            "DEBUG DIGEST",
            "DEBUG POPULATE 3 p",
            "EXISTS p:2",
        ],
    );
    assert_eq!(digests[0], digests[4]);
    assert_ne!(digests[0], digests[2]);
    assert_eq!(digests[6], Reply::Int(1));
    let saw = block(&mut c, &["GET missing", "CONFIG RESETSTAT", "INFO stats", "GET missing", "INFO stats"]);
    let misses = |at: usize| {
        saw[at].text().lines().find_map(|l| l.strip_prefix("keyspace_misses:").map(str::to_owned))
    };
    assert_eq!((misses(2).as_deref(), misses(4).as_deref()), (Some("0"), Some("1")));
    let saw = block(
        &mut c,
        &[
            "CLIENT SETNAME me",
            "CLIENT GETNAME",
            "COMMAND COUNT",
            "SLOWLOG LEN",
            "CONFIG GET port",
            "TIME",
            "ROLE",
        ],
    );
    assert_eq!(saw[1].text(), "me");
    assert!(saw[2].int() > 100);
    // The protocol changes in the middle of the reply.
    c.say("SET k v");
    let saw = block(&mut c, &["CONFIG GET maxmemory", "HELLO 3", "CONFIG GET maxmemory", "BLPOP none 0"]);
    assert_eq!(saw.len(), 4);
    c.say("HELLO 2");
    // An error of one of them stands at its place, too.
    let saw = block(&mut c, &["SET k 1", "CONFIG SET maxmemory x", "AUTH x", "INCR k"]);
    assert!(saw[1].is_error() && saw[2].is_error());
    assert_eq!(saw[3], Reply::Int(2));
}

/// Sets a flag when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every command of the server's comes back from a block, whatever else goes on, and its neighbours run in order.
#[test]
fn no_command_of_the_server_hangs_in_a_block() {
    let server = Server::sluice("--enable-debug-command yes --io-threads 2");
    let stop = AtomicBool::new(false);
    let lines = [
        "INFO everything",
        "CONFIG GET *",
        "CONFIG SET maxmemory 0",
        "CONFIG SET replica-read-only yes",
        "CONFIG SET appendonly no",
        "CONFIG SET save 900",
        "CONFIG REWRITE",
        "CONFIG RESETSTAT",
        "CONFIG HELP",
        "CLIENT LIST",
        "CLIENT INFO",
        "CLIENT ID",
        "CLIENT PAUSE 1 WRITE",
        "CLIENT UNPAUSE",
        "CLIENT UNBLOCK 1",
        "CLIENT NO-EVICT on",
        "CLIENT TRACKINGINFO",
        "COMMAND",
        "COMMAND DOCS",
        "DEBUG DIGEST",
        "DEBUG DIGEST-VALUE a b",
        "DEBUG OBJECT a",
        "DEBUG SLEEP 0",
        "DEBUG POPULATE 2",
        "DEBUG RELOAD",
        "DEBUG LOADAOF",
        "DEBUG REPLICATE PING",
        "DEBUG CHANGE-REPL-ID",
        "DEBUG PROTOCOL map",
        "DEBUG SET-ACTIVE-EXPIRE 1",
        "MEMORY USAGE a",
        "MEMORY STATS",
        "MEMORY DOCTOR",
        "MEMORY PURGE",
        "LATENCY HISTOGRAM",
        "LATENCY LATEST",
        "SLOWLOG GET",
        "SLOWLOG RESET",
        "ACL WHOAMI",
        "ACL LIST",
        "ACL CAT",
        "ACL GENPASS",
        "AUTH x",
        "HELLO",
        "TIME",
        "LASTSAVE",
        "ROLE",
        "BGSAVE",
        "BGREWRITEAOF",
        "REPLICAOF NO ONE",
        "FAILOVER",
        "REPLCONF capa eof",
        "WAIT 1 0",
        "WAITAOF 0 1 0",
        "MIGRATE 127.0.0.1 1 none 0 100",
        "SWAPDB 0 0",
    ];
    std::thread::scope(|scope| {
        let (server, stop) = (&server, &stop);
        scope.spawn(move || {
            let mut c = server.client();
            while !stop.load(Ordering::Relaxed) {
                for line in [
                    "CONFIG SET replica-read-only yes",
                    "INFO",
                    "SET other 1",
                    "CONFIG SET maxmemory 0",
                    "CLIENT LIST",
                ] {
                    c.ask(line);
                }
            }
        });
        // The other ends also where this one fails.
        let _end = End(stop);
        let mut c = server.client();
        for line in lines {
            c.say("SET a 0");
            let saw = block(&mut c, &["INCR a", line, "INCR a", line, "INCR a"]);
            assert_eq!(saw.len(), 5, "{line}");
            if !line.contains("LOADAOF") {
                assert_eq!(
                    [&saw[0], &saw[2], &saw[4]],
                    [&Reply::Int(1), &Reply::Int(2), &Reply::Int(3)],
                    "{line}"
                );
            }
        }
    });
    server.alive();
}

#[test]
fn what_waits_elsewhere_answers_at_its_place_in_a_block() {
    let (server, target) = (Server::sluice(""), Server::sluice(""));
    let mut c = server.client();
    assert_eq!(block(&mut c, &["SET a 1", "WAIT 1 100"])[1], Reply::Int(0));
    assert_eq!(
        block(&mut c, &["SET a 1", "WAITAOF 0 1 100"])[1],
        Reply::Array(vec![Reply::Int(0), Reply::Int(0)])
    );
    let migrate = |key: &str| format!("MIGRATE 127.0.0.1 {} {key} 0 5000", target.port);
    assert_eq!(block(&mut c, &[&migrate("none")])[0].text(), "NOKEY");
    let saw = block(
        &mut c,
        &["SET a first", &migrate("a"), "EXISTS a", "SET a second", "PING", &migrate("none"), "GET a"],
    );
    assert_eq!((saw[1].text(), saw[2].clone(), saw[6].text()), ("OK".into(), Reply::Int(0), "second".into()));
    assert_eq!(target.say("GET a").text(), "first");
    // The commands behind the block wait for it.
    c.send(b"MULTI\r\nSET b 1\r\n").expect("sent");
    c.send(format!("{}\r\nEXEC\r\nEXISTS b\r\n", migrate("b")).as_bytes()).expect("sent");
    let replies: Vec<Reply> = (0..5).map(|_| c.reply().expect("a reply")).collect();
    assert_eq!(replies[3].items()[1].text(), "OK");
    assert_eq!(replies[4], Reply::Int(0));
    // What is watched is judged, and forgotten, when the block begins.
    c.say("WATCH w");
    assert_eq!(block(&mut c, &["SET w 1", &migrate("none"), "GET w"])[2].text(), "1");
    assert_eq!(block(&mut c, &["GET w"])[0].text(), "1");
}

#[test]
fn a_key_that_was_sent_away_stays_where_its_server_may_not_delete_it_any_more() {
    let (server, target) = (Server::sluice(""), Server::sluice(""));
    for (change, back, code) in [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"),
    ] {
        server.say("SET k v");
        target.say("FLUSHALL");
        let mut c = server.client();
        // The target takes the connection, and does not answer before the change.
        target.signal("STOP");
        c.send(format!("MIGRATE 127.0.0.1 {} k 0 60000\r\n", target.port).as_bytes()).expect("sent");
        sluice_tests::until("the key is on its way", || {
            server.client().ask("CLIENT LIST").text().contains("cmd=migrate").then_some(())
        });
        server.say(change);
        target.signal("CONT");
        let reply = c.reply().expect("a reply").text();
        assert!(reply.starts_with(code), "{reply}");
        assert_eq!(server.say("EXISTS k"), Reply::Int(1));
        assert_eq!(target.say("GET k").text(), "v");
        server.say(back);
    }
}
