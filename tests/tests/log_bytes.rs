//! Bytes that enter the log, and so the files and the replicas: whatever a client or a primary sends, they are commands as the
//! strictest reader expects them.

use sluice_engine::internals::resp::{Parsed, parse};
use sluice_tests::client::request;
use sluice_tests::data::{Random, contents};
use sluice_tests::fuzz::logged::reshape;
use sluice_tests::fuzz::seeds;
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
        replica.logged("primary's stream");
        assert_eq!(replica.say("GET after").text(), "1");
        assert_eq!(replica.number("replication", "master_repl_offset"), good.len() as i64);
        let folder = replica.dir().clone();
        replica.kill();
        loads_everywhere(&folder, 1);
    }
}

/// Whether a fuzzed request may reach a server: only what changes data, and no numbers that take its memory.
fn harmless(args: &[Vec<u8>]) -> bool {
    const WORDS: &str = "append bitop copy decr del discard exec get getdel getset hdel hincrby hincrbyfloat hmset hset incr \
incrby incrbyfloat linsert lmove lpop lpush lrem lset ltrim mset msetnx multi persist pexpireat pfadd pfmerge rename rpop rpush \
sadd select set setbit setnx setrange sinterstore smove sort spop srem sunionstore unlink watch zadd zincrby zinterstore \
zpopmax zpopmin zrangestore zrem zunionstore";
    let known = |name: &[u8]| WORDS.split(' ').any(|word| name.eq_ignore_ascii_case(word.as_bytes()));
    let small = |arg: &[u8]| {
        std::str::from_utf8(arg)
            .ok()
            .and_then(|n| n.parse::<i64>().ok())
            .is_none_or(|n| n.unsigned_abs() < 100_000 || arg.len() == 13 && n > 0)
    };
    // Nothing that expires while the files are compared.
    let soon = |arg: &[u8]| arg.eq_ignore_ascii_case(b"EX") || arg.eq_ignore_ascii_case(b"PX");
    let fine = |arg: &Vec<u8>| small(arg) && !soon(arg);
    args.is_empty() || (known(&args[0]) && args.iter().all(fine))
}

/// Inputs of the fuzz target `logged` as bytes for a server: up to where something is refused as no request.
fn fuzzed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let program: Vec<u8> = random.noise(4 * 6);
    let seed: &Vec<u8> = random.one_of(seeds);
    let bytes = reshape(seed, &program);
    let mut end = 0;
    loop {
        let (args, used) = match parse(&bytes[end..], 1 << 20, true) {
            Parsed::Command { args, used, .. } => (args.iter().map(|a| a.to_vec()).collect(), used),
            Parsed::Quoted { args, used } => (args, used),
            Parsed::Incomplete(_) | Parsed::Invalid(_) => return bytes[..end].to_vec(),
        };
        if !harmless(&args) {
            return bytes[..end].to_vec();
        }
        end += used;
    }
}

/// The same as the fuzz target `logged` with real processes: what clients left behind loads from each kind of file, after
/// SIGKILL, here and in redis-server, as the same data.
#[test]
fn what_fuzzed_clients_leave_loads_from_each_kind_of_file_here_and_in_redis() {
    let seeds = seeds::commands();
    for (round, preamble) in [(1, "yes"), (2, "no")] {
        let mut random = Random(round);
        let options = format!("{ON} --aof-use-rdb-preamble {preamble} --save ''");
        let ours = Server::sluice(&options);
        let replica = Server::sluice(&options);
        replica.follow(&ours);
        replica.link_up();
        for n in 0..60 {
            let mut c = ours.client();
            // A transaction left open takes the end mark, and is given up.
            let bytes = [&fuzzed(&mut random, &seeds)[..], b"*1\r\n$7\r\nDISCARD\r\n"].concat();
            for piece in bytes.chunks(1 + (n * 37) % 400) {
                c.send(piece).unwrap();
            }
            send(&mut c, b"");
            if n == 30 {
                ours.say("BGREWRITEAOF");
                ours.logged("Background AOF rewrite finished successfully");
            }
        }
        ours.say("SELECT 0");
        ours.say("SET after 1");
        replica.same_as(&ours);
        let expected = contents(&mut ours.client());
        assert!(expected.len() > 10);
        let check = |server: &Server, what: &str| {
            let found = contents(&mut server.client());
            for (key, value) in &expected {
                let name = format!("{what}: db {} key {}", key.0, key.1.escape_ascii());
                assert_eq!(found.get(key), Some(value), "{name}");
            }
            assert_eq!(found.len(), expected.len(), "{what}");
        };
        ours.say("SAVE");
        let folders = [ours.dir().clone(), replica.dir().clone()];
        ours.kill();
        replica.kill();
        for folder in &folders {
            for program in [Program::Sluice, Program::Redis] {
                if program == Program::Redis && !peers_here(&["redis-server"]) {
                    continue;
                }
                let server = Start::new(program, &options).dir(folder).up();
                check(&server, &format!("{program:?}, append-only file, preamble {preamble}"));
                server.kill();
            }
        }
        for program in [Program::Sluice, Program::Redis] {
            if program == Program::Redis && !peers_here(&["redis-server"]) {
                continue;
            }
            let server = Start::new(program, "").dir(&folders[0]).up();
            check(&server, &format!("{program:?}, RDB file"));
            server.kill();
        }
    }
}

/// `RPUSH key x x x ...`
fn million(key: &str) -> Vec<u8> {
    let head = format!("*{}\r\n$5\r\nRPUSH\r\n${}\r\n{key}\r\n", MILLION + 2, key.len());
    [head.as_bytes(), &b"$1\r\nx\r\n".repeat(MILLION)].concat()
}

/// More than 1024 * 1024, which was once the most.
const MILLION: usize = 1_100_000;

#[test]
fn a_command_of_over_a_million_arguments_goes_everywhere() {
    let ours = Server::sluice(ON);
    let replica = Server::sluice(ON);
    replica.follow(&ours);
    replica.link_up();
    let redis = peers_here(&["redis-server"]).then(|| Server::redis(""));
    if let Some(redis) = &redis {
        redis.follow(&ours);
        redis.link_up();
    }
    let mut c = ours.client();
    // A small piece first, so that the rest is read on from there.
    let command = million("l");
    c.send(&command[..1000]).unwrap();
    c.send(&command[1000..]).unwrap();
    assert_eq!(c.reply().unwrap(), Reply::Int(MILLION as i64));
    // Effects that no client sent as one command: a list out of a sort, members taken at random.
    assert_eq!(c.say("SORT l ALPHA STORE sorted").int(), MILLION as i64);
    let members: Vec<String> = (0..3000).map(|n| n.to_string()).collect();
    c.run(&[&["SADD".to_owned(), "s".into()], &members[..]].concat());
    assert_eq!(c.say("SPOP s 2995").items().len(), 2995);
    c.say("SET after 1");
    let keys = ours.say("DBSIZE").int();
    let same = |server: &Server| {
        assert_eq!(server.say("LLEN l").int(), MILLION as i64);
        assert_eq!(server.say("LLEN sorted").int(), MILLION as i64);
        assert_eq!(server.say("SCARD s").int(), 5);
        assert_eq!(server.say("DBSIZE").int(), keys);
    };
    same(&ours);
    for replica in [Some(&replica), redis.as_ref()].into_iter().flatten() {
        replica.caught_up(&ours);
        same(replica);
    }
    let followers = 1 + i64::from(redis.is_some());
    assert_eq!(ours.number("stats", "sync_full"), followers, "none had to begin again");
    let folder = replica.dir().clone();
    replica.kill();
    loads_everywhere(&folder, keys);
}

#[test]
fn a_primary_may_send_commands_of_over_a_million_arguments() {
    let fake = FakePrimary::new();
    let (replica, mut link) = replica_of_nothing(&fake);
    let stream = [request(&["SELECT", "0"]), million("l"), request(&["SET", "after", "1"])].concat();
    link.send(&stream).unwrap();
    replica.reports("replication", "master_repl_offset", &stream.len().to_string());
    assert_eq!(replica.say("LLEN l").int(), MILLION as i64);
    assert_eq!(replica.info("replication", "master_link_status").as_deref(), Some("up"));
    let folder = replica.dir().clone();
    replica.kill();
    loads_everywhere(&folder, 2);
}

#[test]
fn a_string_no_entry_can_hold_is_refused_wherever_it_comes_from() {
    let server = Server::sluice("");
    let mut c = server.client();
    assert_eq!(
        c.ask("CONFIG SET proto-max-bulk-len 4294967296").text(),
        "ERR CONFIG SET failed (possibly related to argument 'proto-max-bulk-len') - argument must be between 1048576 and 4294967295 \
inclusive"
    );
    c.say("CONFIG SET proto-max-bulk-len 4294967295");
    c.say("SET k v");
    let too_long = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(c.ask("SETRANGE k 4294967295 x").text(), too_long);
    assert_eq!(c.ask("SETRANGE new 9223372036854775807 x").text(), too_long);
    let no_offset = "ERR bit offset is not an integer or out of range";
    assert_eq!(c.ask("SETBIT k 34359738360 1").text(), no_offset);
    for head in ["*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4294967296\r\n", "*2\r\n$3\r\nGET\r\n$4294967296\r\n"] {
        let mut c = server.client();
        c.send(head.as_bytes()).unwrap();
        assert_eq!(c.reply().unwrap().text(), "ERR Protocol error: invalid bulk length");
    }
    assert_eq!(c.say("GET k").text(), "v");

    let fake = FakePrimary::new();
    let (replica, mut link) = replica_of_nothing(&fake);
    let stream = request(&["SELECT", "0"]);
    link.send(&[&stream[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4294967296\r\n"].concat()).unwrap();
    replica.logged("primary's stream is broken: ERR Protocol error: invalid bulk length");

    let folder = replica.dir().clone();
    replica.kill();
    let aof = folder.path().join("appendonlydir");
    let manifest = std::fs::read_to_string(aof.join("appendonly.aof.manifest")).unwrap();
    let name = manifest.lines().last().unwrap().split(' ').nth(1).unwrap();
    std::fs::write(aof.join(name), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4294967296\r\nv").unwrap();
    let (_, log) = Start::new(Program::Sluice, ON).dir(&folder).refused();
    assert!(log.contains("invalid bulk length"), "{log}");
}

#[test]
fn offsets_without_room_behind_them_begin_no_log() {
    let aux = |name: &str, value: &str| {
        [&[0xfa, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    for offset in ["18446744073709551615", "9223372036854775807", "-1", "18446744073709551616"] {
        let start = Start::new(Program::Sluice, "");
        let id = "b".repeat(40);
        let places = [aux("repl-stream-db", "0"), aux("repl-id", &id), aux("repl-offset", offset)].concat();
        let rdb = [&b"REDIS0010"[..], &places, b"\xfe\x00\x00\x01k\x01v\xff", &[0; 8]].concat();
        std::fs::write(start.folder().join("dump.rdb"), rdb).unwrap();
        let server = start.up();
        server.logged("The RDB file's place in a history makes no sense");
        assert_eq!(server.say("GET k").text(), "v");
        let replica = Server::sluice("");
        replica.follow(&server);
        replica.link_up();
        server.say("SET after 1");
        replica.same_as(&server);
    }
}
