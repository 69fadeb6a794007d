//! HyperLogLogs beside a real redis-server: the same replies, the same bytes, and values that travel both ways.

use sluice_tests::data::Random;
use sluice_tests::{Client, Reply, Server, peers_here, words};

/// The same command to both, and the same reply.
fn both(servers: &mut [Client; 2], args: &[Vec<u8>]) -> Reply {
    let [ours, theirs] = servers.each_mut().map(|c| c.run(args));
    let line: Vec<_> = args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
    assert_eq!(ours, theirs, "{}", line.join(" "));
    theirs
}

fn both_say(servers: &mut [Client; 2], line: &str) -> Reply {
    both(servers, &words(line))
}

fn key(r: &mut Random) -> String {
    format!("k{}", r.below(4))
}

fn pfadd(r: &mut Random) -> Vec<Vec<u8>> {
    let many = r.one_of(&[0, 1, 3, 30, 300]);
    // Few different ones, so that often nothing changes.
    let elements = (0..r.below(many + 1)).map(|_| r.below(2000).to_string().into_bytes());
    let elements: Vec<_> = elements.collect();
    [b"PFADD".to_vec(), key(r).into_bytes()].into_iter().chain(elements).collect()
}

#[test]
fn replies_and_bytes_are_those_of_redis() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for (seed, sparse_max) in [(1, 3000), (2, 100), (3, 500), (4, 0), (5, 20_000)] {
        let options = format!("--hll-sparse-max-bytes {sparse_max}");
        let (sluice, redis) = (Server::sluice(&options), Server::redis(&options));
        let mut servers = [sluice.client(), redis.client()];
        let mut r = Random(seed);
        for _ in 0..1500 {
            let args = match r.below(12) {
                0..5 => pfadd(&mut r),
                5 | 6 => words(&format!("PFCOUNT {}", key(&mut r))),
                7 => words(&format!("PFCOUNT {} {} {}", key(&mut r), key(&mut r), key(&mut r))),
                8 => words(&format!("PFMERGE {} {} {}", key(&mut r), key(&mut r), key(&mut r))),
                9 => words(&format!("PFDEBUG DECODE {}", key(&mut r))),
                10 if r.below(10) > 0 => words(&format!("PFDEBUG ENCODING {}", key(&mut r))),
                10 => words(&format!("PFDEBUG TODENSE {}", key(&mut r))),
                _ if r.below(8) > 0 => words(&format!("OBJECT ENCODING {}", key(&mut r))),
                _ => words(&format!("DEL {}", key(&mut r))),
            };
            both(&mut servers, &args);
            (0..4).for_each(|n| drop(both_say(&mut servers, &format!("GET k{n}"))));
        }
        both_say(&mut servers, "PFDEBUG GETREG k0");
        both_say(&mut servers, "DEBUG DIGEST");
    }
}

#[test]
fn damaged_values_get_the_replies_of_redis() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let (sluice, redis) = (Server::sluice(""), Server::redis(""));
    let mut servers = [sluice.client(), redis.client()];
    let mut r = Random(7);
    both_say(&mut servers, "PFADD good a b c d e f g");
    for round in 0..600 {
        both_say(&mut servers, "DEL k new");
        both(&mut servers, &pfadd(&mut r).into_iter().take(1).chain([b"k".to_vec()]).collect::<Vec<_>>());
        let elements = r.below(400);
        let elements = (0..elements).map(|_| r.below(1 << 40).to_string().into_bytes());
        let elements: Vec<_> = elements.collect();
        both(&mut servers, &[vec![b"PFADD".to_vec(), b"k".to_vec()], elements].concat());
        if round % 3 == 0 {
            both_say(&mut servers, "PFDEBUG TODENSE k");
        }
        let len = both_say(&mut servers, "STRLEN k").int() as u64;
        for _ in 0..=r.below(3) {
            // The header as often as what follows it.
            let at = if r.below(4) == 0 { r.below(16) } else { r.below(len) };
            let args = [b"SETRANGE".to_vec(), b"k".to_vec(), at.to_string().into_bytes(), r.noise(1)];
            both(&mut servers, &args);
        }
        if r.below(4) == 0 {
            both(&mut servers, &[b"APPEND".to_vec(), b"k".to_vec(), r.noise(3)]);
        }
        for line in [
            "PFCOUNT k",
            "PFCOUNT good k",
            "PFMERGE new good k",
            "PFMERGE k good",
            "PFDEBUG GETREG k",
            "PFDEBUG TODENSE k",
            "PFDEBUG ENCODING k",
            "PFCOUNT new",
            "GET k",
            "GET new",
        ] {
            both_say(&mut servers, line);
        }
    }
    for line in ["SET k text", "SET n 12", "RPUSH l x", "SET short HYLL"] {
        both_say(&mut servers, line);
    }
    for key in ["k", "n", "l", "short", "none"] {
        for line in ["PFADD K x", "PFCOUNT K", "PFCOUNT K good", "PFMERGE K good", "PFMERGE new K"] {
            both_say(&mut servers, &line.replace('K', key));
            both_say(&mut servers, "DEL none");
        }
        for sub in ["GETREG", "DECODE", "encoding", "todense", "nosuch"] {
            both_say(&mut servers, &format!("PFDEBUG {sub} {key}"));
        }
    }
    for line in
        ["PFADD", "PFCOUNT", "PFMERGE", "PFDEBUG", "PFDEBUG DECODE good x", "PFSELFTEST", "PFSELFTEST x"]
    {
        both_say(&mut servers, line);
    }
}

#[test]
fn the_rows_of_the_command_table_are_those_of_redis() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let (sluice, redis) = (Server::sluice(""), Server::redis(""));
    for name in ["pfadd", "pfcount", "pfmerge", "pfdebug", "pfselftest"] {
        let row = |server: &Server| {
            let rows = server.say(&format!("COMMAND INFO {name}"));
            // Up to the ACL categories: of key specifications we tell positions, and less of their use.
            rows.items()[0].items()[..7].to_vec()
        };
        assert_eq!(row(&sluice), row(&redis), "{name}");
    }
    let keys = "COMMAND GETKEYS PFMERGE a b c";
    assert_eq!(sluice.say(keys), redis.say(keys));
}

/// What PFCOUNT keeps in the value is part of it, and goes wherever the value goes.
#[test]
fn values_travel_between_servers_with_the_estimates_kept_in_them() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for ours_first in [true, false] {
        let start = |ours: bool| if ours { Server::sluice("") } else { Server::redis("") };
        let (primary, replica) = (start(ours_first), start(!ours_first));
        let mut c = primary.client();
        c.say("PFADD before a b c");
        c.say("PFADD dense x");
        c.say("PFDEBUG TODENSE dense");
        replica.follow(&primary);
        replica.link_up();
        c.say("PFADD after 1 2 3 4");
        c.say("PFMERGE all before after dense");
        for (key, count) in [("before", 3), ("dense", 1), ("after", 4), ("all", 8)] {
            replica.caught_up(&primary);
            let (stale, kept) = (c.say(&format!("GET {key}")), c.say(&format!("PFCOUNT {key}")));
            assert_eq!(kept, Reply::Int(count));
            assert_ne!(c.say(&format!("GET {key}")), stale);
            replica.caught_up(&primary);
            assert_eq!(replica.say(&format!("GET {key}")), c.say(&format!("GET {key}")), "{key}");
        }
        // The replica's own counting is no write, and nobody else's business.
        c.say("PFADD late x y");
        replica.caught_up(&primary);
        let end = replica.number("replication", "master_repl_offset");
        let stale = replica.say("GET late");
        assert_eq!(replica.say("PFCOUNT late"), Reply::Int(2));
        assert_ne!(replica.say("GET late"), stale);
        assert_eq!(c.say("GET late"), stale);
        if !ours_first {
            assert_eq!(replica.number("replication", "master_repl_offset"), end);
        }
    }
}

/// A pause of writes holds whatever may end in the log.
#[test]
fn a_pause_of_writes_holds_the_count_of_one_key() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.say("PFADD k a");
    c.say("CLIENT PAUSE 100000 WRITE");
    let mut counting = server.client();
    counting.send(b"PFCOUNT k\r\n").expect("the server takes it");
    let cached = |c: &mut Client| c.say("GETRANGE k 15 15").bytes().to_vec();
    server.reports("clients", "blocked_clients", "1");
    assert_eq!(cached(&mut c), b"\x80");
    c.say("CLIENT UNPAUSE");
    assert_eq!(counting.reply().expect("a reply"), Reply::Int(1));
    assert_eq!(cached(&mut c), b"\0");
}
