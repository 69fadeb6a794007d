//! Calls with more items than anybody should have to read in one command: the log has them in pieces, as one block.

use sluice_engine::Engine;
use sluice_engine::internals::{
    Request,
    resp::{Parsed, parse},
};

const COUNT: usize = 5000;
/// More than 1024 * 1024, which was once the most a reader took.
const MILLION: usize = 1_100_000;

/// What was logged: the commands' names and how many arguments each has.
fn replay(log: &[u8], into: &Engine) -> Vec<(String, usize)> {
    let mut session = into.session();
    session.from_primary = true;
    let (mut at, mut out, mut seen) = (0, Vec::new(), Vec::new());
    while at < log.len() {
        let Parsed::Command { args, used, canonical: true } = parse(&log[at..], 1 << 20, true) else {
            panic!("no command at {at}")
        };
        seen.push((String::from_utf8_lossy(args[0]).into_owned(), args.len()));
        let row = into.lookup(args[0]).expect("a command");
        let raw = Some(&log[at..at + used]);
        out.clear();
        into.call(&mut session, row, Request { args: &args, raw }, &mut out);
        assert!(!out.starts_with(b"-"), "{}", out.escape_ascii());
        at += used;
    }
    seen
}

#[test]
fn typed_calls_of_many_items_are_logged_in_pieces_and_apply_as_a_whole() {
    let names: Vec<String> = (0..COUNT).map(|n| n.to_string()).collect();
    let pairs: Vec<(&String, &String)> = names.iter().zip(&names).collect();
    let scores: Vec<(f64, &String)> = names.iter().map(|name| (1.5, name)).collect();
    type Call<'a> = Box<dyn Fn(&sluice_engine::Db<'_>) -> usize + 'a>;
    let calls: Vec<(&str, usize, Call<'_>)> = vec![
        ("RPUSH", 1, Box::new(|db| db.rpush("l", &names).unwrap())),
        ("LPUSH", 1, Box::new(|db| db.lpush("l", &names).unwrap())),
        ("SADD", 1, Box::new(|db| db.sadd("s", &names).unwrap())),
        ("SREM", 1, Box::new(|db| db.srem("s", &names).unwrap())),
        ("HSET", 2, Box::new(|db| db.hset_many("h", &pairs).unwrap())),
        ("HDEL", 1, Box::new(|db| db.hdel("h", &names[1..]).unwrap())),
        ("ZADD", 2, Box::new(|db| db.zadd("z", &scores).unwrap())),
        ("ZREM", 1, Box::new(|db| db.zrem("z", &names[1..]).unwrap())),
        ("PFADD", 1, Box::new(|db| db.pfadd("p", &names).unwrap().into())),
        ("MSET", 2, Box::new(|db| db.set_many(&pairs).map(|()| COUNT).unwrap())),
        ("DEL", 1, Box::new(|db| db.del(&names[1..]))),
    ];
    let (engine, copy) = (Engine::default(), Engine::default());
    engine.log().activate();
    let mut log = engine.log().reader(0).unwrap();
    for (name, each, call) in calls {
        call(&engine.db(0));
        let mut bytes = Vec::new();
        while log.lag() > 0 {
            bytes.extend_from_slice(&log.read(usize::MAX).unwrap());
        }
        let mut seen = replay(&bytes, &copy);
        seen.retain(|(name, _)| name != "SELECT" && name != "PFCOUNT");
        assert_eq!((&seen[0].0[..], &seen[seen.len() - 1].0[..]), ("MULTI", "EXEC"), "{name}");
        let effects = &seen[1..seen.len() - 1];
        assert!(effects.iter().all(|(n, args)| n == name && *args <= 2 + 1024 * each), "{name}");
        assert_eq!(effects.len(), (COUNT - 1).div_ceil(1024), "{name}");
        for key in ["l", "s", "h", "z", "p", "0", "1"] {
            let length = |engine: &Engine| {
                let db = engine.db(0);
                [db.llen(key).ok(), db.scard(key).ok(), db.hlen(key).ok(), db.zcard(key).ok()]
            };
            assert_eq!(length(&copy), length(&engine), "{key} after {name}");
        }
        assert_eq!(copy.db(0).pfcount(&["p"]), engine.db(0).pfcount(&["p"]));
        assert_eq!(copy.db(0).len(), engine.db(0).len(), "{name}");
    }
    assert_eq!(copy.db(0).lrange("l", 0, 2).unwrap(), engine.db(0).lrange("l", 0, 2).unwrap());
    assert_eq!(copy.db(0).lrange("l", -2, -1).unwrap(), engine.db(0).lrange("l", -2, -1).unwrap());
}

#[test]
fn a_million_items_are_read_back() {
    let (engine, copy) = (Engine::default(), Engine::default());
    engine.log().activate();
    let mut log = engine.log().reader(0).unwrap();
    engine.db(0).rpush("l", &vec!["x"; MILLION]).unwrap();
    let mut bytes = Vec::new();
    while log.lag() > 0 {
        bytes.extend_from_slice(&log.read(usize::MAX).unwrap());
    }
    replay(&bytes, &copy);
    assert_eq!(copy.db(0).llen("l"), Ok(MILLION));
}

#[test]
fn a_block_of_more_commands_than_a_client_may_queue_is_taken_from_a_primary() {
    let mut log = b"*1\r\n$5\r\nMULTI\r\n".to_vec();
    for _ in 0..MILLION {
        log.extend_from_slice(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n");
    }
    log.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
    let copy = Engine::default();
    replay(&log, &copy);
    assert_eq!(copy.db(0).get("n").unwrap().unwrap(), MILLION.to_string().as_bytes());
}
