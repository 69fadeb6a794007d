//! check-rdb beside the real redis-check-rdb; what a damaged file's load logs; and a load as INFO shows it.

use sluice_tests::data::{every_encoding, streams, write_some};
use sluice_tests::{Program, Server, Start, peers_here, until};
use std::path::Path;
use std::process::{Command, Output};

fn check(file: &Path) -> (bool, String) {
    let sluice = Command::new(Program::Sluice.path()).arg("check-rdb").arg(file).output().unwrap();
    text_of(&sluice)
}

fn text_of(output: &Output) -> (bool, String) {
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A file with something of everything.
fn saved(server: &Server) -> std::path::PathBuf {
    let mut client = server.client();
    client.pipeline(&every_encoding());
    write_some(&mut client, 1, 500);
    client.run(&["SET", "passing", "value", "PX", "100000"]);
    assert_eq!(client.run(&["SAVE"]).text(), "OK");
    server.file("dump.rdb")
}

#[test]
fn a_sound_file_is_described_as_redis_describes_it() {
    let server = Server::sluice("");
    let file = saved(&server);
    let (good, ours) = check(&file);
    assert!(good, "{ours}");
    if !peers_here(&["redis-check-rdb"]) {
        return;
    }
    let (good, theirs) = text_of(&Command::new("redis-check-rdb").arg(&file).output().unwrap());
    assert!(good, "{theirs}");
    let types = ours.lines().filter(|l| l.contains(" keys of type ")).count();
    assert!(types > 5, "{ours}");
    let ours: Vec<&str> = ours.lines().filter(|l| !l.contains(" keys of type ")).collect();
    assert_eq!(ours, theirs.lines().collect::<Vec<_>>());
}

#[test]
fn streams_are_counted_by_type_as_keys_that_redis_counts_too() {
    if !peers_here(&["redis-server", "redis-check-rdb"]) {
        return;
    }
    let redis = Server::redis("");
    redis.client().pipeline(&streams());
    redis.say("SAVE");
    let file = redis.file("dump.rdb");
    let (good, ours) = check(&file);
    assert!(good && ours.contains("[info] 7 keys of type 19 (stream-v2)"), "{ours}");
    let (good, theirs) = text_of(&Command::new("redis-check-rdb").arg(&file).output().unwrap());
    assert!(good, "{theirs}");
    let ours: Vec<&str> = ours.lines().filter(|l| !l.contains(" keys of type ")).collect();
    assert_eq!(ours, theirs.lines().collect::<Vec<_>>());
}

#[test]
fn damage_is_named_with_its_place_by_the_tool_and_in_the_log() {
    let server = Server::sluice("--rdbcompression no");
    let mut client = server.client();
    client.run(&["HSET", "user:1", "name", "Ada", "born", "1815"]);
    client.run(&["SAVE"]);
    let file = server.file("dump.rdb");
    let dir = server.dir().clone();
    drop(server);
    let mut bytes = std::fs::read(&file).unwrap();
    let key = bytes.windows(6).position(|w| w == b"user:1").unwrap();
    // The first byte of the listpack: its size.
    let at = key + 7;
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (good, text) = check(&file);
    assert!(!good, "{text}");
    for line in [
        "--- RDB ERROR DETECTED ---".to_string(),
        format!("[offset {}] Hash listpack integrity check failed", key + 6),
        "[additional info] While doing: read-object-value".into(),
        "[additional info] Reading key 'user:1'".into(),
        "[additional info] Reading type 16 (hash-listpack)".into(),
        "[info] 0 keys read".into(),
    ] {
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    let (status, log) = Start::new(Program::Sluice, "").dir(&dir).refused();
    assert!(!status.success());
    for line in [
        "Internal error in RDB reading offset",
        "Reading key 'user:1'",
        "Terminating server after rdb file reading failure.",
    ] {
        assert!(log.contains(line), "{line} in\n{log}");
    }
}

#[test]
fn a_cut_file_and_one_that_is_none_are_refused() {
    let server = Server::sluice("");
    let file = saved(&server);
    let bytes = std::fs::read(&file).unwrap();
    let short = server.file("short.rdb");
    std::fs::write(&short, &bytes[..bytes.len() / 2]).unwrap();
    let (good, text) = check(&short);
    assert!(!good && text.contains(&format!("[offset {}] Unexpected EOF", bytes.len() / 2)), "{text}");
    std::fs::write(&short, b"SQLite format 3\0").unwrap();
    assert!(!check(&short).0);
    assert!(!check(&server.file("missing.rdb")).0);
}

#[test]
fn a_load_shows_its_progress_and_clients_are_told_to_wait() {
    let server = Server::sluice("");
    server.say("DEBUG POPULATE 20000 key 100");
    server.say("SET gone 1 PX 1");
    server.say("DEBUG SET-ACTIVE-EXPIRE 0");
    assert_eq!(server.say("SAVE").text(), "OK");
    let size = std::fs::metadata(server.file("dump.rdb")).unwrap().len();
    let dir = server.dir().clone();
    server.kill();
    let server = Start::new(Program::Sluice, "--key-load-delay 500").dir(&dir).spawn();
    let mut client = until("it listens", || server.connect());
    let info = client.run(&["INFO", "persistence"]).text();
    for line in
        ["loading:1\r\n".to_string(), "async_loading:0\r\n".into(), format!("loading_total_bytes:{size}\r\n")]
    {
        assert!(info.contains(&line), "{line} in\n{info}");
    }
    let field = |name: &str| info.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
    assert!(field("loading_start_time:").unwrap().parse::<u64>().unwrap() > 1 << 30);
    assert!(field("loading_rdb_used_mem:").unwrap().parse::<u64>().unwrap() > 0);
    assert!(field("loading_loaded_bytes:").unwrap().parse::<u64>().unwrap() < size);
    assert!(field("loading_eta_seconds:").is_some() && field("loading_loaded_perc:").is_some());
    assert!(client.ask("GET key:1").is_error());
    assert_eq!(client.run(&["CONFIG", "SET", "key-load-delay", "0"]).text(), "OK");
    until("it is loaded", || (!client.ask("GET key:1").is_error()).then_some(()));
    assert!(server.number("persistence", "rdb_last_load_keys_loaded") >= 20_000);
    assert_eq!(server.number("persistence", "loading"), 0);
}
