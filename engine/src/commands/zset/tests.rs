//! Replies and logged effects, against what redis-server 7.0.15 answered and wrote to its AOF.

use crate::commands::console::{Console, START_MS};
use std::sync::atomic::Ordering;

/// Commands (`> `) with the reply of redis-server 7.0.15 under each, line ends as spaces.
const REPLIES: &str = include_str!("replies.txt");

#[test]
fn replies_are_those_of_redis_in_both_encodings() {
    for entries in [128, 3, 0] {
        let mut c = Console::new();
        c.engine.limits().zset_max_listpack_entries.store(entries, Ordering::Relaxed);
        let mut lines = REPLIES.lines().filter(|line| !line.starts_with('#'));
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("> ").expect("commands and replies alternate");
            let expected = lines.next().expect("a reply under each command");
            assert_eq!(c.run(command), expected, "{command} with {entries} entries in a listpack");
        }
    }
}

#[test]
fn resp3_has_doubles_and_nests_pairs() {
    let mut c = Console::new();
    c.session.resp3 = true;
    c.run("ZADD z 1 a 2.5 b");
    for (line, reply) in [
        ("ZRANGE z 0 -1 WITHSCORES", "*2 *2 $1 a ,1 *2 $1 b ,2.5"),
        ("ZRANGE z 0 -1", "*2 $1 a $1 b"),
        ("ZSCORE z b", ",2.5"),
        ("ZSCORE z c", "_"),
        ("ZMSCORE z a c", "*2 ,1 _"),
        ("ZINCRBY z 1 a", ",2"),
        ("ZUNION 1 z WITHSCORES", "*2 *2 $1 a ,2 *2 $1 b ,2.5"),
        ("ZRANDMEMBER z 5 WITHSCORES", "*2 *2 $1 b ,2.5 *2 $1 a ,2"),
        ("ZSCAN z 0", "*2 $1 0 *4 $1 a $1 2 $1 b $3 2.5"),
        ("ZPOPMIN z", "*2 $1 a ,2"),
        ("ZPOPMIN z 1", "*1 *2 $1 b ,2.5"),
        ("ZMPOP 1 z MIN", "_"),
    ] {
        assert_eq!(c.run(line), reply, "{line}");
    }
}

#[test]
fn what_changes_something_is_logged_as_it_came() {
    let mut c = Console::new();
    // The first effect is preceded by a SELECT.
    c.run("SET warm up");
    for line in [
        "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g",
        "zadd z GT CH INCR 1 a",
        "ZINCRBY z 0.1 a",
        "ZREM z a none",
        "ZPOPMIN z",
        "ZPOPMAX z 2",
        "ZREMRANGEBYRANK z 0 0",
        "ZRANGESTORE to z 0 -1 REV",
        "ZUNIONSTORE to 2 z to WEIGHTS 1 2",
        "ZRANGESTORE to z 5 6",
        "ZREMRANGEBYSCORE z -inf +inf",
    ] {
        assert_eq!(c.effects(line), [line]);
    }
    assert_eq!(c.run("EXISTS z to"), ":0");
}

#[test]
fn what_changes_nothing_is_not_logged() {
    let mut c = Console::new();
    c.run("ZADD z 1 a");
    for line in [
        "ZADD z 1 a",
        "ZADD z NX 2 a",
        "ZADD z LT 2 a",
        "ZADD z XX 2 b",
        "ZADD none XX 2 b",
        "ZINCRBY z 0 a",
        "ZREM z b",
        "ZPOPMIN z 0",
        "ZPOPMIN none",
        "ZMPOP 2 none nothing MAX",
        "ZREMRANGEBYSCORE z 2 3",
        "ZINTERSTORE none 2 z nothing",
        "ZRANGE z 0 -1",
    ] {
        assert!(c.effects(line).is_empty(), "{line}");
    }
    assert_eq!(c.run("EXISTS none"), ":0");
}

#[test]
fn zmpop_is_logged_as_the_pop_it_was() {
    let mut c = Console::new();
    c.run("ZADD z 1 a 2 b 3 c");
    assert_eq!(c.effects("ZMPOP 2 none z MAX"), ["ZPOPMAX z 1"]);
    assert_eq!(c.effects("ZMPOP 2 none z MIN COUNT 10"), ["ZPOPMIN z 2"]);
}

#[test]
fn an_expired_set_is_gone_before_it_is_added_to() {
    let mut c = Console::new();
    c.run("ZADD z 1 a");
    c.run("PEXPIREAT z 1700000000005");
    c.session.now_ms = START_MS + 10;
    assert_eq!(c.effects("ZADD z 2 b"), ["MULTI", "DEL z", "ZADD z 2 b", "EXEC"]);
    assert_eq!(c.run("ZRANGE z 0 -1"), "*1 $1 b");
    assert_eq!(c.run("TTL z"), ":-1");
}

#[test]
fn a_scan_reports_every_member_that_stays() {
    let mut c = Console::new();
    for i in 0..2000 {
        c.run(&format!("ZADD z {i} stays{i} {i} goes{i}"));
    }
    let mut seen = std::collections::BTreeSet::new();
    let (mut cursor, mut step) = ("0".to_owned(), 0);
    loop {
        let reply = c.run(&format!("ZSCAN z {cursor} COUNT 20"));
        let words: Vec<_> = reply.split(' ').collect();
        seen.extend(words.iter().filter(|w| w.starts_with("stays")).map(|w| w.to_string()));
        for i in step * 40..(step + 1) * 40 {
            c.run(&format!("ZREM z goes{i}"));
            c.run(&format!("ZADD z {i} new{i}"));
        }
        (cursor, step) = (words[2].to_owned(), step + 1);
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 2000);
}

#[test]
fn random_members_are_different_or_repeat_as_asked() {
    for entries in [1000, 0] {
        let mut c = Console::new();
        c.engine.limits().zset_max_listpack_entries.store(entries, Ordering::Relaxed);
        for i in 0..300 {
            c.run(&format!("ZADD z {i} m{i}"));
        }
        for n in [1, 20, 250] {
            let reply = c.run(&format!("ZRANDMEMBER z {n}"));
            let found: std::collections::HashSet<_> =
                reply.split(' ').filter(|w| w.starts_with('m')).collect();
            assert_eq!(found.len(), n);
        }
        let reply = c.run("ZRANDMEMBER z -900 WITHSCORES");
        let words: Vec<_> = reply.split(' ').collect();
        assert_eq!(words[0], "*1800");
        assert!(words[1..].chunks(4).all(|w| w[1][1..] == *w[3]));
    }
}
