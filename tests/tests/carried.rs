//! Streams and modules' values, which this server carries: through files, full syncs, the append-only file and single
//! payloads, between Sluice and a real redis-server, which judges what came back.

use sluice_persistence::rdb::PayloadFooter;
use sluice_persistence::rdb::length::put_raw_string;
use sluice_tests::data::{Random, contents, same_contents, streams};
use sluice_tests::{Busy, Client, Program, Reply, Server, Start, peers_here};

fn redis_with_streams(options: &str) -> Server {
    let redis = Server::redis(options);
    redis.client().pipeline(&streams());
    redis
}

/// The stream keys of database 0.
fn keys(server: &Server) -> Vec<Vec<u8>> {
    let mut keys: Vec<_> =
        server.say("KEYS stream:*").items().iter().map(|key| key.bytes().to_vec()).collect();
    keys.sort();
    assert_eq!(keys.len(), 6);
    keys
}

fn payload(client: &mut Client, key: &[u8]) -> Vec<u8> {
    client.run(&[b"DUMP", key]).bytes().to_vec()
}

/// What XINFO says of every stream, but for the shape of its radix tree.
fn described(redis: &Server) -> Vec<String> {
    let mut client = redis.client();
    keys(redis)
        .iter()
        .map(|key| {
            let info = client.run(&[&b"XINFO"[..], b"STREAM", key, b"FULL", b"COUNT", b"0"]);
            let (length, others) = info.items().split_at(2);
            format!("{length:?} {:?}", &others[4..])
        })
        .collect()
}

#[test]
fn streams_of_redis_go_through_a_file_and_back() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for compression in ["yes", "no"] {
        let options = format!("--rdbcompression {compression}");
        let redis = redis_with_streams(&options);
        let (expected, info, digest) = (contents(&mut redis.client()), described(&redis), redis.digest());
        let payloads: Vec<_> = keys(&redis).iter().map(|key| payload(&mut redis.client(), key)).collect();
        redis.say("SAVE");
        let dir = redis.dir().clone();
        assert!(redis.terminate().success());

        let sluice = Start::new(Program::Sluice, &options).dir(&dir).up();
        assert_eq!(contents(&mut sluice.client()), expected);
        for (key, theirs) in keys(&sluice).iter().zip(payloads) {
            assert_eq!(payload(&mut sluice.client(), key), theirs, "DUMP {}", key.escape_ascii());
        }
        let before = sluice.digest();
        sluice.say("DEBUG RELOAD");
        assert_eq!(sluice.digest(), before);
        sluice.say("SAVE");
        assert!(sluice.terminate().success());

        let redis = Start::new(Program::Redis, &options).dir(&dir).up();
        assert_eq!(redis.digest(), digest);
        assert_eq!(described(&redis), info);
    }
}

#[test]
fn full_syncs_carry_streams_from_redis_by_way_of_sluice_to_both() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for diskless in ["no", "yes"] {
        let primary = redis_with_streams(&format!("--repl-diskless-sync {diskless} --rdbcompression no"));
        let info = described(&primary);
        for load in ["disabled", "on-empty-db", "swapdb"] {
            // What follows a loader from the socket gets frames, else the plain stream.
            let options = format!("--repl-diskless-sync {diskless} --repl-diskless-load {load}");
            let (middle, sluice, redis) =
                (Server::sluice(&options), Server::sluice(&options), Server::redis("--rdbcompression no"));
            middle.follow(&primary);
            middle.link_up();
            same_contents(&mut middle.client(), &mut primary.client());
            for replica in [&sluice, &redis] {
                replica.follow(&middle);
                replica.link_up();
                same_contents(&mut replica.client(), &mut primary.client());
            }
            assert_eq!(described(&redis), info, "diskless {diskless}, load {load}");
            assert_eq!(sluice.digest(), middle.digest());
        }
    }
}

#[test]
fn an_append_only_file_of_commands_makes_the_streams_again_for_both() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let options = "--appendonly yes --aof-use-rdb-preamble no";
    let redis = redis_with_streams("");
    let (info, expected) = (described(&redis), contents(&mut redis.client()));
    let sluice = Server::sluice(options);
    sluice.follow(&redis);
    sluice.link_up();
    sluice.say("REPLICAOF NO ONE");
    sluice.reports("persistence", "aof_rewrite_in_progress", "0");
    sluice.say("BGREWRITEAOF");
    sluice.reports("persistence", "aof_rewrite_in_progress", "0");
    sluice.reports("persistence", "aof_last_bgrewrite_status", "ok");
    let dir = sluice.dir().clone();
    assert!(sluice.terminate().success());
    let log: Vec<u8> = std::fs::read_dir(dir.path().join("appendonlydir"))
        .unwrap()
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!log.windows(5).any(|w| w == b"REDIS"), "the base is commands");
    let sluice = Start::new(Program::Sluice, options).dir(&dir).up();
    assert_eq!(contents(&mut sluice.client()), expected);
    assert!(sluice.terminate().success());
    let redis = Start::new(Program::Redis, options).dir(&dir).up();
    assert_eq!(contents(&mut redis.client()), expected);
    assert_eq!(described(&redis), info);
}

/// A value of module type `hellotype` with this text in it, as DUMP gives it.
fn module_payload(text: &[u8]) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |c: u8| alphabet.iter().position(|d| *d == c).unwrap() as u64;
    let id = b"hellotype".iter().fold(0, |id, c| id << 6 | digit(*c)) << 10;
    let mut payload = [&[7, 0x81], &id.to_be_bytes()[..], b"\x02\x02\x05"].concat();
    put_raw_string(&mut payload, text);
    payload.push(0);
    let mut footer = PayloadFooter::default();
    footer.update(&payload);
    payload.extend(footer.finish());
    payload
}

#[test]
fn a_modules_value_is_held_under_its_own_name_and_given_back() {
    let (server, replica) = (Server::sluice(""), Server::sluice(""));
    replica.follow(&server);
    replica.link_up();
    let mut client = server.client();
    assert_eq!(client.run(&[b"RESTORE", &b"m"[..], b"0", &module_payload(b"hi")]).text(), "OK");
    assert_eq!(client.say("TYPE m").text(), "hellotype");
    assert_eq!(client.say("OBJECT ENCODING m").text(), "raw");
    assert!(client.say("MEMORY USAGE m").int() > 20);
    assert_eq!(
        client.ask("GET m").text(),
        "WRONGTYPE Operation against a key holding the wrong kind of value"
    );
    client.say("COPY m copy");
    client.say("DEBUG RELOAD");
    assert_eq!(payload(&mut client, b"copy"), module_payload(b"hi"));
    replica.caught_up(&server);
    assert_eq!(payload(&mut replica.client(), b"copy"), module_payload(b"hi"));
    assert_eq!(replica.digest(), server.digest());
}

#[test]
fn long_values_reach_replicas_whole_while_their_keys_are_moved_and_removed() {
    for load in ["disabled", "on-empty-db"] {
        let options = format!("--repl-diskless-load {load} --repl-sync-max-bandwidth 20mb");
        let (primary, replica) = (Server::sluice(&options), Server::sluice(&options));
        let (mut client, mut random) = (primary.client(), Random(5));
        for n in 0..40 {
            let payload = module_payload(&random.noise(200_000 + n));
            let key = format!("m:{n}");
            assert_eq!(client.run(&[b"RESTORE", key.as_bytes(), b"0", &payload]).text(), "OK");
        }
        let mut n = 0;
        let busy = Busy::with(&primary, move |client| {
            n += 1;
            let key = format!("m:{}", n % 40);
            client.ask(&format!("RENAME {key} moved:{key}"));
            client.ask(&format!("COPY moved:{key} {key}"));
            client.ask(&format!("PEXPIREAT {key} {}", 4_102_444_800_000u64 + n));
            client.ask(&format!("DEL moved:m:{}", (n + 20) % 40));
            4
        });
        replica.follow(&primary);
        replica.link_up();
        busy.goes_on(100);
        busy.stop();
        replica.same_as(&primary);
        assert_eq!(client.say("EXISTS m:1 m:2 m:39").int(), 3);
    }
}

#[test]
fn streams_migrate_from_redis_to_sluice_and_back() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let (redis, sluice) = (redis_with_streams(""), Server::sluice(""));
    let (names, info) = (keys(&redis), described(&redis));
    let migrate = |from: &Server, to: &Server| {
        let port = to.port.to_string();
        let mut words: Vec<&[u8]> =
            vec![b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"", b"0", b"5000", b"KEYS"];
        words.extend(names.iter().map(Vec::as_slice));
        assert_eq!(from.client().run(&words).text(), "OK");
        assert_eq!(from.say("DBSIZE"), Reply::Int(0));
    };
    migrate(&redis, &sluice);
    assert_eq!(sluice.say("TYPE stream:many").text(), "stream");
    assert_eq!(sluice.say("OBJECT ENCODING stream:many").text(), "stream");
    migrate(&sluice, &redis);
    assert_eq!(described(&redis), info);
}

#[test]
fn a_payload_that_is_damaged_is_refused_as_redis_refuses_it() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let redis = redis_with_streams("--sanitize-dump-payload yes");
    let sluice = Server::sluice("");
    let good = payload(&mut redis.client(), b"stream:many");
    for server in [&redis, &sluice] {
        server.say("DEBUG SET-SKIP-CHECKSUM-VALIDATION 1");
    }
    let (mut asked, mut peer) = (sluice.client(), redis.client());
    let mut refused = 0;
    for at in (0..good.len() - 10).step_by(3) {
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (at % 8);
        let request = [&b"RESTORE"[..], b"there", b"0", &damaged, b"REPLACE"];
        let (ours, theirs) = (asked.run(&request), peer.run(&request));
        // A listpack whose items were not what was counted is refused here only.
        if ours.is_error() || theirs.is_error() {
            refused += 1;
            assert_eq!(ours.text(), "ERR Bad data format", "byte {at}, redis-server: {theirs:?}");
        }
    }
    assert!(refused > 100, "{refused}");
    sluice.alive();
}

#[test]
fn a_replica_that_wants_functions_only_gets_no_keys_whatever_the_transport() {
    if !peers_here(&["redis-server", "redis-cli"]) {
        return;
    }
    let redis = Server::redis("--save ''");
    let code = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";
    redis.client().run(&["FUNCTION", "LOAD", code]);
    redis.say("SET key 1");
    redis.say("SAVE");
    let dir = redis.dir().clone();
    redis.kill();
    for options in ["--repl-diskless-sync no", "--repl-diskless-sync-delay 0", "--repl-transport io-uring"] {
        let sluice = Start::new(Program::Sluice, &format!("--save '' {options}")).dir(&dir).up();
        let before = std::fs::read(sluice.file("dump.rdb")).expect("its file");
        let taken = tempfile::tempdir().expect("a folder");
        for (how, keys) in [("--functions-rdb", 0), ("--rdb", 1)] {
            assert_eq!(
                std::fs::read(sluice.file("dump.rdb")).expect("its file"),
                before,
                "no part replaces it"
            );
            let file = taken.path().join("dump.rdb");
            let mut cli = std::process::Command::new("redis-cli");
            cli.args(["-p", &sluice.port.to_string(), how]).arg(&file);
            let output = cli.output().expect("it runs");
            assert!(output.status.success(), "{output:?}");
            let start = Start::new(Program::Redis, "--save ''");
            std::fs::copy(&file, start.folder().join("dump.rdb")).expect("its file");
            let other = start.up();
            assert_eq!(other.say("DBSIZE"), Reply::Int(keys), "{how} {options}");
            assert_eq!(other.say("FCALL one 0"), Reply::Int(1), "{how} {options}");
        }
        let mut c = sluice.client();
        c.run(&["REPLCONF", "rdb-filter-only", "functions"]);
        assert_eq!(c.ask("SYNC").text(), "ERR Filtered replica requires EOF capability");
        sluice.kill();
    }
}
