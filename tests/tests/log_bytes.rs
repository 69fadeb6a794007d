//! Bytes that enter the log, and so the files and the replicas: whatever a client or a primary sends, they are commands as the
//! strictest reader expects them.

use sluice_tests::client::request;
use sluice_tests::peers::{Asked, FakePrimary};
use sluice_tests::{Client, Program, Reply, Server, Start, peers_here};
use std::process::Command;
use std::sync::Arc;

const ON: &str = "--appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0";

/// Requests that Redis serves although their bytes are not what it would write itself, each with a key of its own.
fn odd_requests() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        &b"*3\r\n$3\r\nSET\r\n$2\r\no1\r\n$5\r\nhelloXX"[..],
        b"*3\r\n$3\r\nSETab$2\r\no2\r\n$5\r\nhello\r\n",
        b"*3\rX$3\r\nSET\r\n$2\r\no3\r\n$5\r\nhello\r\n",
        b"*3\r\n$3\rXSET\r\n$2\r\no4\r\n$5\r\nhello\r\n",
        b"*3\r\n$3\r\nSET\r\n$2\r\no5\n\r$5\r\nhello\r\n",
        b"*3\r\r$3\r\rSET\r\r$2\r\ro6\r\r$5\r\rhello\r\r",
        b"*3\r\n$3\r\nSeT\r\n$2\r\no7\r\n$5\r\nhello\0\0",
        b"*3\r\n$3\r\nSET\r\n$2\r\no8\r\n$5\r\nhello*1",
        b"SET o9 hello\n",
        b"  sEt \"o\\x31\\n\" 'hello'  \r\n",
        b"*3\r\n$5\r\nRPUSH\r\n$3\r\no11$$$5\r\nhello\r\n",
        b"*4\r\n$5\r\nSETEX\r\n$3\r\no12\r\n$6\r\n100000\r\n$5\r\nhello..",
    ]
    .map(<[u8]>::to_vec)
    .into();
    // The same in transactions, with odd bytes in what makes them.
    all.push(
        b"*1\r\n$5\r\nMULTI..*3\r\n$3\r\nSET\r\n$3\r\no13\r\n$5\r\nhello..*1\rX$4\r\nEXEC\r\n*1\rX$4\rXPING.."
            .to_vec(),
    );
    all
}

/// Sends bytes and then a request of its own; waits for that one's reply, and gives those before it.
#[track_caller]
fn send(c: &mut Client, bytes: &[u8]) -> Vec<Reply> {
    c.send(&[bytes, b"*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n"].concat()).unwrap();
    let mut replies = Vec::new();
    loop {
        match c.reply().expect("a reply") {
            end if end == "end".into() => return replies,
            reply => replies.push(reply),
        }
    }
}

/// The folder is checked, and loads, here and in redis-server.
#[track_caller]
fn loads_everywhere(folder: &Arc<tempfile::TempDir>, keys: i64) {
    let manifest = folder.path().join("appendonlydir/appendonly.aof.manifest");
    for (program, tool) in [
        (Program::Sluice, Command::new(Program::Sluice.path()).arg("check-aof").arg(&manifest).output()),
        (Program::Redis, Command::new("redis-check-aof").arg(&manifest).output()),
    ] {
        if program == Program::Redis && !peers_here(&["redis-server", "redis-check-aof"]) {
            continue;
        }
        let tool = tool.expect("it runs");
        assert!(tool.status.success(), "{program:?}: {}", String::from_utf8_lossy(&tool.stdout));
        let server = Start::new(program, ON).dir(folder).up();
        assert_eq!(server.say("DBSIZE").int(), keys, "{program:?}");
        assert_eq!(server.say("GET after").text(), "1", "{program:?}");
        server.kill();
    }
}

#[test]
fn odd_line_ends_are_served_and_reach_no_file_and_no_replica() {
    let ours = Server::sluice(ON);
    let replica = Server::sluice(ON);
    replica.follow(&ours);
    let redis = peers_here(&["redis-server"]).then(|| {
        let redis = Server::redis("");
        redis.follow(&ours);
        redis.link_up();
        redis
    });
    replica.link_up();
    let mut c = ours.client();
    for odd in odd_requests() {
        let replies = send(&mut c, &odd);
        assert!(!replies.is_empty() && !replies.iter().any(Reply::is_error), "{}", odd.escape_ascii());
    }
    assert_eq!(c.say("GET o1").text(), "hello");
    c.say("SET after 1");
    let keys = ours.say("DBSIZE").int();
    assert_eq!(keys, odd_requests().len() as i64 + 1);
    replica.same_as(&ours);
    if let Some(redis) = &redis {
        redis.caught_up(&ours);
        assert_eq!(redis.say("DBSIZE").int(), keys);
        assert_eq!(redis.info("replication", "master_link_status").as_deref(), Some("up"));
    }
    for server in [ours, replica] {
        let folder = server.dir().clone();
        server.kill();
        loads_everywhere(&folder, keys);
    }
}

/// A replica of a primary that is played here and has sent an empty data set.
#[track_caller]
fn replica_of_nothing(fake: &FakePrimary) -> (Server, Client) {
    let replica = Server::sluice(ON);
    replica.say(&format!("REPLICAOF 127.0.0.1 {}", fake.port));
    let link = full_sync(fake);
    // Its files begin anew with the primary's data.
    replica.logged("Background AOF rewrite finished successfully");
    (replica, link)
}

#[track_caller]
fn full_sync(fake: &FakePrimary) -> Client {
    let mut link = fake.handshake(Asked::Psync).expect("it asks");
    let rdb = [&b"REDIS0010\xff"[..], &[0; 8]].concat();
    let head = format!("+FULLRESYNC {} 0\r\n${}\r\n", "a".repeat(40), rdb.len());
    link.send(&[head.as_bytes(), &rdb].concat()).unwrap();
    link
}

#[test]
fn a_primary_with_odd_line_ends_is_served_and_the_offset_is_its_own() {
    let fake = FakePrimary::new();
    let (replica, mut link) = replica_of_nothing(&fake);
    let mut stream = request(&["SELECT", "0"]);
    for odd in odd_requests().into_iter().filter(|odd| odd[0] == b'*') {
        stream.extend(odd);
    }
    stream.extend(request(&["SET", "after", "1"]));
    // An empty line keeps a link alive and counts as nothing.
    link.send(&[b"\r\n\n", &stream[..]].concat()).unwrap();
    replica.reports("replication", "master_repl_offset", &stream.len().to_string());
    assert_eq!(replica.say("GET o1").text(), "hello");
    let keys = replica.say("DBSIZE").int();
    let folder = replica.dir().clone();
    replica.kill();
    loads_everywhere(&folder, keys);
}

#[test]
fn what_no_log_can_hold_ends_the_link_to_a_primary_and_keeps_the_files() {
    for bad in
        [&b"SET inline 1\r\n"[..], b"SET 'inline' 1\r\n", b"*0\r\n", b"*-1\r\n", b"*1\r\n$03\r\nGET\r\n"]
    {
        let fake = FakePrimary::new();
        let (replica, mut link) = replica_of_nothing(&fake);
        let good = [request(&["SELECT", "0"]), request(&["SET", "after", "1"])].concat();
        link.send(&[&good[..], bad].concat()).unwrap();
        assert_eq!(link.rest().first(), Some(&b'*'), "acknowledgements, then the end");
        replica.logged("the primary's stream");
        assert_eq!(replica.say("GET after").text(), "1");
        assert_eq!(replica.number("replication", "master_repl_offset"), good.len() as i64);
        let folder = replica.dir().clone();
        replica.kill();
        loads_everywhere(&folder, 1);
    }
}
