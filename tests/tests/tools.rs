//! The tools people use: redis-cli, redis-benchmark, redis-py.

use sluice_tests::program::python;
use sluice_tests::{Server, peers_here};
use std::process::Command;

fn run(program: &str, server: &Server, args: &[&str]) -> String {
    let out = Command::new(program).args(["-p", &server.port.to_string()]).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {said}{errors}");
    assert!(!errors.to_lowercase().contains("error"), "{program} {args:?}: {errors}");
    said
}

#[test]
fn redis_cli_talks_to_us() {
    if !peers_here(&["redis-cli"]) {
        return;
    }
    let server = Server::sluice("");
    assert_eq!(run("redis-cli", &server, &["SET", "a", "1"]), "OK\n");
    assert_eq!(run("redis-cli", &server, &["-3", "HSET", "h", "f", "v"]), "1\n");
    assert_eq!(run("redis-cli", &server, &["-3", "--json", "HGETALL", "h"]), "{\"f\":\"v\"}\n");
    assert_eq!(run("redis-cli", &server, &["--scan"]).lines().count(), 2);
    assert!(run("redis-cli", &server, &["INFO", "server"]).contains("redis_mode:standalone"));
    assert!(run("redis-cli", &server, &["--bigkeys"]).contains("Biggest"));
    let rdb = server.file("copy.rdb");
    run("redis-cli", &server, &["--rdb", rdb.to_str().unwrap()]);
    assert!(std::fs::read(rdb).unwrap().starts_with(b"REDIS00"));
}

#[test]
fn redis_benchmark_runs_through() {
    if !peers_here(&["redis-benchmark"]) {
        return;
    }
    let server = Server::sluice("--io-threads 2");
    let tests = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset";
    let said =
        run("redis-benchmark", &server, &["-n", "3000", "-r", "1000", "-P", "16", "--csv", "-t", tests]);
    assert!(said.lines().count() > 15, "{said}");
}

#[test]
fn redis_py_runs_through() {
    let python = python();
    let here = Command::new(&python).args(["-c", "import redis"]).status().is_ok_and(|s| s.success());
    if !here {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "redis-py is missing: run scripts/install-peers"
        );
        eprintln!("skipped: redis-py is missing, scripts/install-peers installs it");
        return;
    }
    let server = Server::sluice("");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/client.py");
    let out = Command::new(python).arg(script).arg(server.port.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.trim_end().ends_with("ok"), "{said}");
}
