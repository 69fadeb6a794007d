//! DUMP, RESTORE and MIGRATE: beside a real redis-server, along the log, and against damage.

use sluice_tests::{Reply, Server};

/// Fills `server` with a value of every type in small and large form; returns the keys.
fn fill(server: &Server) -> Vec<String> {
    let mut client = server.client();
    client.run(&["SET", "string", "some text"]);
    client.run(&["SET", "int", "12345678901"]);
    for (name, count) in [("small", 10), ("large", 1000)] {
        for n in 0..count {
            let (item, n) = (format!("item-{n}-{}", "x".repeat(n % 90)), n.to_string());
            client.run(&["RPUSH", &format!("list-{name}"), &item]);
            client.run(&["HSET", &format!("hash-{name}"), &n, &item]);
            client.run(&["SADD", &format!("set-{name}"), &item]);
            client.run(&["SADD", &format!("ints-{name}"), &n]);
            client.run(&["ZADD", &format!("zset-{name}"), &n, &item]);
        }
    }
    let mut keys: Vec<String> = client.run(&["KEYS", "*"]).items().iter().map(Reply::text).collect();
    keys.sort();
    keys
}

fn payload(server: &Server, key: &str) -> Vec<u8> {
    server.client().run(&["DUMP", key]).bytes().to_vec()
}

#[test]
fn payloads_pass_between_sluice_and_redis_in_both_directions() {
    let (sluice, redis) = (Server::sluice(""), Server::redis(""));
    let keys = fill(&sluice);
    for key in &keys {
        let ours = payload(&sluice, key);
        let there = redis.client().run(&[b"RESTORE", key.as_bytes(), b"0", &ours]);
        assert_eq!(there.text(), "OK", "{key}");
        let theirs = payload(&redis, key);
        let back = sluice.client().run(&[b"RESTORE", key.as_bytes(), b"0", &theirs, b"REPLACE"]);
        assert_eq!(back.text(), "OK", "{key}");
    }
    assert_eq!(sluice.digest(), redis.digest());
}

#[test]
fn a_restore_reaches_replicas_with_its_time_of_expiry() {
    let (primary, replica) = (Server::sluice(""), Server::sluice(""));
    replica.follow(&primary);
    replica.link_up();
    primary.say("SET from text");
    let bytes = payload(&primary, "from");
    let mut client = primary.client();
    let mut restore = |words: &str| {
        let mut words: Vec<Vec<u8>> = words.split(' ').map(|w| w.as_bytes().to_vec()).collect();
        words.insert(0, b"RESTORE".to_vec());
        words.insert(3, bytes.clone());
        assert_eq!(client.run(&words).text(), "OK");
    };
    restore("to 100000");
    restore("gone 1 ABSTTL");
    restore("from 1 ABSTTL REPLACE");
    replica.caught_up(&primary);
    assert_eq!(replica.say("PEXPIRETIME to").int(), primary.say("PEXPIRETIME to").int());
    assert_eq!(replica.say("GET to").text(), "text");
    assert_eq!(replica.say("DBSIZE").int(), 1);
    assert_eq!(primary.say("DBSIZE").int(), 1);
}

#[test]
fn a_restored_key_is_idle_for_as_long_as_it_is_said_to_be_and_how_often_it_was_used_is_no_time() {
    let server = Server::sluice("");
    server.say("SET from text");
    let bytes = payload(&server, "from");
    let idle = |option: &[u8], value: &[u8]| {
        let request = [b"RESTORE", &b"to"[..], b"0", &bytes, b"REPLACE", option, value];
        assert_eq!(server.client().run(&request).text(), "OK");
        server.say("OBJECT IDLETIME to").int()
    };
    assert!(idle(b"FREQ", b"100") < 900);
    assert!((1000..2000).contains(&idle(b"IDLETIME", b"1000")));
}

#[test]
fn what_is_wrong_is_answered_as_redis_answers() {
    let (sluice, redis) = (Server::sluice(""), Server::redis(""));
    let value = b"\0\x03bar\x0a\0\0\0\0\0\0\0\0\0".to_vec();
    let requests: Vec<Vec<&[u8]>> = vec![
        vec![b"DUMP", b"missing"],
        vec![b"RESTORE", b"k", b"0", b"short"],
        vec![b"RESTORE", b"k", b"0", &value],
        vec![b"RESTORE", b"k", b"-1", &value],
        vec![b"RESTORE", b"k", b"x", &value],
        vec![b"RESTORE", b"k", b"0", &value, b"FREQ", b"256"],
        vec![b"RESTORE", b"k", b"0", &value, b"IDLETIME", b"-1"],
        vec![b"RESTORE", b"k", b"0", &value, b"IDLETIME"],
        vec![b"RESTORE", b"k", b"0", &value, b"IDLETIME", b"1", b"FREQ", b"1"],
        vec![b"RESTORE", b"there", b"0", &value],
        vec![b"RESTORE", b"k", b"0"],
        vec![b"MIGRATE", b"localhost", b"1", b"missing", b"0", b"10"],
        vec![b"MIGRATE", b"127.0.0.1", b"1", b"there", b"0", b"10"],
        vec![b"MIGRATE", b"127.0.0.1", b"1", b"there", b"0", b"10", b"KEYS", b"a"],
        vec![b"MIGRATE", b"127.0.0.1", b"1", b"there", b"0", b"10", b"AUTH"],
        vec![b"MIGRATE", b"127.0.0.1", b"1", b"there", b"x", b"10"],
    ];
    for server in [&sluice, &redis] {
        server.say("SET there 1");
    }
    for request in requests {
        let (ours, theirs) = (sluice.client().run(&request), redis.client().run(&request));
        assert_eq!(
            format!("{ours:?}"),
            format!("{theirs:?}"),
            "{:?}",
            String::from_utf8_lossy(&request.concat())
        );
    }
}

#[test]
fn keys_migrate_to_redis_and_back() {
    let (sluice, redis) = (Server::sluice(""), Server::redis(""));
    let keys = fill(&sluice);
    sluice.say("PEXPIRE string 1000000");
    let digest = sluice.digest();
    let at = sluice.say("PEXPIRETIME string").int();
    let mut words = vec!["MIGRATE".to_string(), "127.0.0.1".into()];
    words.extend([redis.port.to_string(), String::new(), "0".into(), "5000".into(), "KEYS".into()]);
    words.extend(keys.iter().cloned());
    assert_eq!(sluice.client().run(&words).text(), "OK");
    assert_eq!(sluice.say("DBSIZE").int(), 0);
    assert_eq!(redis.say("DBSIZE").int(), keys.len() as i64);
    assert_eq!(sluice.number("stats", "migrate_cached_sockets"), 1);
    words[2] = sluice.port.to_string();
    assert_eq!(redis.client().run(&words).text(), "OK");
    assert_eq!(sluice.digest(), digest);
    assert!((sluice.say("PEXPIRETIME string").int() - at).abs() < 5000);
}
