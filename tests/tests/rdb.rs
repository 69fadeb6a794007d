//! Saving and loading: our own files, and files of a real redis-server in both directions.

use sluice_tests::data::{contents, every_encoding, same_contents, write_some};
use sluice_tests::{Program, Reply, Server, Start, peers_here, until};

/// A server of the other program on the same folder, so on the same dump.rdb.
#[track_caller]
fn restart_as(program: Program, server: Server, options: &str) -> Server {
    let dir = server.dir().clone();
    assert!(server.terminate().success());
    Start::new(program, options).dir(&dir).up()
}

fn fill(server: &Server) {
    let mut c = server.client();
    c.pipeline(&every_encoding());
    write_some(&mut c, 1, 2000);
}

#[test]
fn a_dump_of_redis_loads_with_equal_data_and_goes_back() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for compression in ["yes", "no"] {
        let options = format!("--rdbcompression {compression}");
        let redis = Server::redis(&options);
        fill(&redis);
        redis.say("SAVE");
        // What it loads itself is the measure: a string it made by APPEND is "raw" until then.
        redis.say("DEBUG RELOAD");
        let (expected, digest) = (contents(&mut redis.client()), redis.digest());
        let mut asked = redis.client();
        let keys: Vec<_> = expected.keys().filter(|key| key.0 == 0).map(|key| key.1.clone()).collect();
        let value_digests: Vec<Reply> =
            keys.iter().map(|key| asked.run(&[b"DEBUG", &b"DIGEST-VALUE"[..], key])).collect();
        let encodings: Vec<Reply> =
            keys.iter().map(|key| asked.run(&[b"OBJECT", &b"ENCODING"[..], key])).collect();

        let sluice = restart_as(Program::Sluice, redis, &options);
        let ours = contents(&mut sluice.client());
        for (key, theirs) in &expected {
            assert_eq!(ours.get(key), Some(theirs), "db {} key {}", key.0, key.1.escape_ascii());
        }
        assert_eq!(ours.len(), expected.len());
        let mut c = sluice.client();
        for ((key, digest), encoding) in keys.iter().zip(value_digests).zip(encodings) {
            let name = key.escape_ascii().to_string();
            assert_eq!(c.run(&[b"DEBUG", &b"DIGEST-VALUE"[..], key]), digest, "DEBUG DIGEST-VALUE {name}");
            assert_eq!(c.run(&[b"OBJECT", &b"ENCODING"[..], key]), encoding, "OBJECT ENCODING {name}");
        }
        assert_eq!(sluice.digest(), digest);

        sluice.say("SAVE");
        let redis = restart_as(Program::Redis, sluice, &options);
        assert_eq!(redis.digest(), digest);
        assert_eq!(contents(&mut redis.client()), expected);
    }
}

#[test]
fn what_we_save_satisfies_redis_check_rdb() {
    if !peers_here(&["redis-server", "redis-check-rdb"]) {
        return;
    }
    let sluice = Server::sluice("");
    fill(&sluice);
    sluice.say("SAVE");
    let out = std::process::Command::new("redis-check-rdb").arg(sluice.file("dump.rdb")).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && said.contains("RDB looks OK"), "{said}");
    assert!(!said.contains("error"), "{said}");
}

#[test]
fn save_and_bgsave_survive_a_restart() {
    let mut server = Server::sluice("");
    fill(&server);
    let digest = server.digest();
    for how in ["SAVE", "BGSAVE"] {
        let before = server.say("LASTSAVE").int();
        let _ = std::fs::remove_file(server.file("dump.rdb"));
        server.say(how);
        server.reports("persistence", "rdb_bgsave_in_progress", "0");
        until("the file is there", || server.file("dump.rdb").exists().then_some(()));
        server.reports("persistence", "rdb_last_bgsave_status", "ok");
        server.reports("persistence", "rdb_changes_since_last_save", "0");
        assert!(server.say("LASTSAVE").int() >= before);
        server = restart_as(Program::Sluice, server, "");
        assert_eq!(server.digest(), digest, "after {how}");
    }
}

#[test]
fn a_background_save_is_of_one_moment() {
    let server = Server::sluice("--storage-throttle-rate 4mb");
    let mut c = server.client();
    sluice_tests::data::bulk(&mut c, 8000, 1000);
    let (digest, expected) = (server.digest(), contents(&mut c));
    c.say("BGSAVE");
    assert_eq!(server.info("persistence", "rdb_bgsave_in_progress").as_deref(), Some("1"));
    assert_eq!(c.ask("BGSAVE").text(), "ERR Background save already in progress");
    assert_eq!(c.ask("SAVE").text(), "ERR Background save already in progress");
    write_some(&mut c, 5, 3000);
    c.say("DEL bulk:1 bulk:2");
    c.say("FLUSHDB");
    assert_eq!(server.info("persistence", "rdb_bgsave_in_progress").as_deref(), Some("1"), "still writing");
    server.reports("persistence", "rdb_bgsave_in_progress", "0");
    let dir = server.dir().clone();
    server.kill();
    let server = Start::new(Program::Sluice, "").dir(&dir).up();
    let found = contents(&mut server.client());
    for key in expected.keys().chain(found.keys()) {
        assert_eq!(found.get(key), expected.get(key), "db {} key {}", key.0, key.1.escape_ascii());
    }
    assert_eq!(server.digest(), digest);
}

#[test]
fn save_points_save_by_themselves() {
    let server = Server::sluice("--save 1 3");
    let mut c = server.client();
    c.say("SET a 1");
    c.say("SET b 1");
    c.say("SET c 1");
    until("a file appears", || server.file("dump.rdb").exists().then_some(()));
    server.reports("persistence", "rdb_changes_since_last_save", "0");
    server.logged("changes in 1 seconds. Saving...");
}

#[test]
fn sigterm_saves_where_save_points_are_set() {
    let server = Server::sluice("--save 3600 1000");
    let mut c = server.client();
    write_some(&mut c, 2, 500);
    let digest = server.digest();
    let (dir, log) = (server.dir().clone(), server.file("log"));
    assert!(server.terminate().success());
    let log = std::fs::read_to_string(log).unwrap();
    for line in ["Received SIGTERM scheduling shutdown...", "DB saved on disk", "bye bye..."] {
        assert!(log.contains(line), "no `{line}` in\n{log}");
    }
    assert_eq!(Start::new(Program::Sluice, "").dir(&dir).up().digest(), digest);
}

#[test]
fn shutdown_saves_or_not_as_told() {
    for (line, saved) in [("SHUTDOWN NOSAVE", false), ("SHUTDOWN SAVE", true), ("SHUTDOWN", false)] {
        let mut server = Server::sluice("");
        let mut c = server.client();
        c.say("SET a 1");
        c.send(format!("{line}\r\n").as_bytes()).unwrap();
        assert_eq!(c.rest(), b"", "{line}");
        assert!(server.wait_for_end().success(), "{line}");
        assert_eq!(server.file("dump.rdb").exists(), saved, "{line}");
    }
}

#[test]
fn keys_that_expired_meanwhile_are_not_loaded() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.say("SET stays 1");
    c.say("SET stays-long 1 EX 10000");
    c.say("SET goes 1 PX 300");
    c.say("SAVE");
    let dir = server.dir().clone();
    server.kill();
    until("the expiry passes", || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let saved = std::fs::metadata(dir.path().join("dump.rdb")).unwrap().modified().unwrap();
        let saved = saved.duration_since(std::time::UNIX_EPOCH).unwrap();
        (now - saved > std::time::Duration::from_millis(400)).then_some(())
    });
    let server = Start::new(Program::Sluice, "").dir(&dir).up();
    let mut c = server.client();
    assert_eq!(c.say("DBSIZE"), Reply::Int(2));
    assert!(c.say("PTTL stays-long").int() > 9_000_000);
}

#[test]
fn debug_reload_changes_nothing() {
    let server = Server::sluice("");
    fill(&server);
    let digest = server.digest();
    server.say("DEBUG RELOAD");
    assert_eq!(server.digest(), digest);
}

#[test]
fn dumps_of_a_redis_under_random_writes_are_equal_key_by_key() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let (redis, sluice) = (Server::redis(""), Server::sluice(""));
    // SPOP is random, and two servers count milliseconds from two moments: they would tear the two apart.
    let same = |args: &Vec<Vec<u8>>| {
        !["SPOP", "PEXPIRE"].map(str::as_bytes).contains(&&args[0][..]) && args.len() != 5
    };
    let commands: Vec<_> = sluice_tests::data::writes(11, 6000).into_iter().filter(same).collect();
    redis.client().pipeline(&commands);
    sluice.client().pipeline(&commands);
    same_contents(&mut sluice.client(), &mut redis.client());
    sluice.say("SAVE");
    let redis2 = restart_as(Program::Redis, sluice, "");
    same_contents(&mut redis2.client(), &mut redis.client());
}
