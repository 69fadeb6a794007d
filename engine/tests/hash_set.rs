//! Hash and set commands from the outside: replies and logged effects as redis-server 7.0 has them (the expected
//! texts are what it answered), and the promises of scans and random choice.

use sluice_engine::internals::Request;
use sluice_engine::{Engine, Session};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

struct Client {
    engine: Engine,
    session: Session,
    log_from: u64,
}

impl Client {
    fn new() -> Client {
        let engine = Engine::default();
        engine.log().activate();
        let (session, log_from) = (engine.session(), engine.log().end());
        Client { engine, session, log_from }
    }

    fn call(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let row = self.engine.lookup(args[0]).expect("a known command");
        let mut out = Vec::new();
        let request = Request { args, raw: None };
        self.engine.call(&mut self.session, row, request, &mut out);
        out
    }

    /// Runs a line of words; the reply with its line ends shown as `|`.
    fn run(&mut self, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8(self.call(&args)).unwrap().replace("\r\n", "|")
    }

    /// The commands logged since the last call, one a line.
    fn effects(&mut self) -> Vec<String> {
        let mut reader = self.engine.log().reader(self.log_from).unwrap();
        let mut bytes = Vec::new();
        loop {
            let chunk = reader.read(1 << 20).unwrap();
            if chunk.is_empty() {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        self.log_from = self.engine.log().end();
        let text = String::from_utf8(bytes).unwrap();
        let commands = text.split('*').filter(|c| !c.is_empty());
        commands.map(|c| c.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" ")).collect()
    }

    fn bulks(&mut self, line: &str) -> Vec<String> {
        let reply = self.run(line);
        let mut parts = reply.split('|');
        let mut found = Vec::new();
        while let Some(part) = parts.next() {
            if part.starts_with('$') {
                found.push(parts.next().unwrap().to_owned());
            }
        }
        found
    }
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value|";
const NOT_INT: &str = "-ERR value is not an integer or out of range|";
const RANGE: &str =
    "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807|";

#[test]
fn replies_are_those_of_redis() {
    let mut c = Client::new();
    for (line, reply) in [
        ("hset h f 10 g abc m 9223372036854775807", ":3|"),
        ("hset h f 10 x", "-ERR wrong number of arguments for 'hset' command|"),
        ("hmset h f 10 x", "-ERR wrong number of arguments for 'hmset' command|"),
        ("hmget h f nope", "*2|$2|10|$-1|"),
        ("hgetall none", "*0|"),
        ("hsetnx h f 1", ":0|"),
        ("hstrlen h m", ":19|"),
        ("hincrby h m 1", "-ERR increment or decrement would overflow|"),
        ("hincrby h g 1", "-ERR hash value is not an integer|"),
        ("hincrby s x y", NOT_INT),
        ("hincrbyfloat h g 1", "-ERR hash value is not a float|"),
        ("hincrbyfloat h f nan", "-ERR value is not a valid float|"),
        ("hincrbyfloat h f inf", "-ERR value is NaN or Infinity|"),
        ("hincrbyfloat h f 0.1", "$4|10.1|"),
        ("hincrbyfloat h new 3.0e3", "$4|3000|"),
        ("hdel h new f nope", ":2|"),
        ("hscan h x", "-ERR invalid cursor|"),
        ("hscan h 0 count 0", "-ERR syntax error|"),
        ("hscan h 0 count x", NOT_INT),
        ("hscan h 0 match", "-ERR syntax error|"),
        ("hscan none 0 bad", "*2|$1|0|*0|"),
        ("hscan h 0 match g*", "*2|$1|0|*2|$1|g|$3|abc|"),
        ("hrandfield h -9223372036854775808", RANGE),
        ("hrandfield h 4611686018427387904 withvalues", "-ERR value is out of range|"),
        ("hrandfield none 3 foo", "-ERR syntax error|"),
        ("hrandfield none", "$-1|"),
        ("hrandfield none 3", "*0|"),
        ("hrandfield h 9223372036854775807", "*2|$1|g|$1|m|"),
        ("sadd s 1 2 1", ":2|"),
        ("smismember s 1 9", "*2|:1|:0|"),
        ("spop s x", "-ERR value is out of range, must be positive|"),
        ("spop s 1 2", "-ERR syntax error|"),
        ("spop none", "$-1|"),
        ("spop none 4", "*0|"),
        ("spop h 0", WRONG_TYPE),
        ("srandmember none -9223372036854775808", RANGE),
        ("srandmember h 1", WRONG_TYPE),
        ("smove none h 1", ":0|"),
        ("smove s h 9", WRONG_TYPE),
        ("smove s s 1", ":1|"),
        ("sintercard 0 s", "-ERR numkeys should be greater than 0|"),
        ("sintercard 2 s", "-ERR Number of keys can't be greater than number of args|"),
        ("sintercard 1 s limit -1", "-ERR LIMIT can't be negative|"),
        ("sintercard 1 s foo", "-ERR syntax error|"),
        ("sintercard 1 s limit 1", ":1|"),
        ("sinter none h", WRONG_TYPE),
        ("sdiff none h", WRONG_TYPE),
        ("sinterstore h none", ":0|"),
        ("exists h", ":0|"),
        ("sscan s 7", "*2|$1|0|*2|$1|1|$1|2|"),
    ] {
        assert_eq!(c.run(line), reply, "{line}");
    }
}

#[test]
fn resp3_has_maps_sets_and_nested_pairs() {
    let mut c = Client::new();
    c.session.resp3 = true;
    for (line, reply) in [
        ("hset h f 1", ":1|"),
        ("sadd s 1", ":1|"),
        ("hgetall h", "%1|$1|f|$1|1|"),
        ("hgetall none", "%0|"),
        ("hkeys h", "*1|$1|f|"),
        ("hget h none", "_|"),
        ("hrandfield h 1 withvalues", "*1|*2|$1|f|$1|1|"),
        ("hrandfield h -2 withvalues", "*2|*2|$1|f|$1|1|*2|$1|f|$1|1|"),
        ("smembers s", "~1|$1|1|"),
        ("sunion s none", "~1|$1|1|"),
        ("sinter s none", "~0|"),
        ("srandmember s 5", "*1|$1|1|"),
        ("sscan s 0", "*2|$1|0|*1|$1|1|"),
        ("spop s 5", "~1|$1|1|"),
        ("spop s 5", "~0|"),
    ] {
        assert_eq!(c.run(line), reply, "{line}");
    }
}

#[test]
fn what_is_logged_leaves_nothing_to_chance() {
    let mut c = Client::new();
    c.run("sadd s 1");
    c.effects();
    for (line, logged) in [
        ("hset h a 1", &["hset h a 1"][..]),
        ("hset h a 1", &["hset h a 1"]),
        ("hsetnx h a 2", &[]),
        ("hincrbyfloat h a 0.5", &["HSET h a 1.5"]),
        ("hdel h nope", &[]),
        ("sadd s 1", &[]),
        ("spop none", &[]),
        ("spop s 0", &[]),
        ("spop s", &["SREM s 1"]),
        ("sadd s 1 2", &["sadd s 1 2"]),
        ("spop s 2", &["DEL s"]),
        ("sadd s 1 2", &["sadd s 1 2"]),
        ("smove s t 3", &[]),
        ("smove s t 1", &["smove s t 1"]),
        ("sinterstore d s none", &[]),
        ("sunionstore d s t", &["sunionstore d s t"]),
        ("sinterstore d s none", &["sinterstore d s none"]),
    ] {
        c.run(line);
        assert_eq!(c.effects(), logged, "{line}");
    }
    let members = (0..3000).map(|i| format!("m{i}")).collect::<Vec<_>>().join(" ");
    c.run(&format!("sadd big {members}"));
    c.effects();
    let mut popped = c.bulks("spop big 2500");
    let effects = c.effects();
    assert_eq!((effects[0].as_str(), effects.last().unwrap().as_str()), ("MULTI", "EXEC"));
    let removed = effects[1..effects.len() - 1].iter().flat_map(|e| e.split(' ').skip(2));
    let mut removed: Vec<String> = removed.map(str::to_owned).collect();
    popped.sort_unstable();
    removed.sort_unstable();
    assert_eq!(popped, removed);
    assert_eq!(c.run("scard big"), ":500|");
}

#[test]
fn a_scan_meets_every_element_that_stays() {
    let mut c = Client::new();
    for i in 0..2000 {
        c.run(&format!("hset h stays{i} v goes{i} v"));
        c.run(&format!("sadd s stays{i} goes{i}"));
    }
    for (scan, remove, add) in [("hscan h", "hdel h", "hset h"), ("sscan s", "srem s", "sadd s")] {
        let (mut seen, mut cursor, mut step) = (BTreeSet::new(), "0".to_owned(), 0);
        loop {
            let mut found = c.bulks(&format!("{scan} {cursor} count 50 match *s[0-9]*"));
            cursor = found.remove(0);
            seen.extend(found.into_iter().filter(|e| e.starts_with("stays")));
            for i in step..step + 40 {
                c.run(&format!("{remove} goes{i}"));
                c.run(&format!("{add} more{i} more{i}x"));
            }
            step += 40;
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 2000, "{scan}");
    }
}

#[test]
fn random_choice_is_fair_and_its_cost_bounded() {
    let mut c = Client::new();
    let members: Vec<String> = (0..300).map(|i| format!("m{i}")).collect();
    c.run(&format!("sadd s {}", members.join(" ")));
    c.run(&format!("hset h {}", members.join(" ")));
    for (line, of, n) in [
        ("srandmember s 40", 300, 40),
        ("srandmember s 250", 300, 250),
        ("hrandfield h 20", 150, 20),
        ("hrandfield h 120", 150, 120),
    ] {
        let mut times = std::collections::BTreeMap::new();
        let rounds = 2000;
        for _ in 0..rounds {
            let found = c.bulks(line);
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), n, "{line}: all different");
            found.into_iter().for_each(|m| *times.entry(m).or_insert(0) += 1);
        }
        assert_eq!(times.len(), of, "{line}: each has its chance");
        // Six standard deviations of the binomial law around its mean.
        let p = n as f64 / of as f64;
        let (mean, spread) = (f64::from(rounds) * p, 6.0 * (f64::from(rounds) * p * (1.0 - p)).sqrt());
        for (member, times) in times {
            assert!((f64::from(times) - mean).abs() < spread, "{line}: {member} {times} of {mean}");
        }
    }
    assert_eq!(c.bulks("srandmember s -1000").len(), 1000);
    assert_eq!(c.run("srandmember s -9223372036854775807"), "-ERR value is out of range|");
    assert_eq!(c.run("hrandfield h -99999999"), "-ERR value is out of range|");
}

#[test]
fn encodings_follow_the_limits() {
    let mut c = Client::new();
    c.engine.limits().hash_max_listpack_entries.store(2, Ordering::Relaxed);
    c.engine.limits().set_max_intset_entries.store(2, Ordering::Relaxed);
    for (line, encoding) in [
        ("hset h a 1 b 2", "$8|listpack|"),
        ("hset h c 3", "$9|hashtable|"),
        ("hdel h c", "$9|hashtable|"),
        ("sadd s 1 2", "$6|intset|"),
        ("sadd s 3", "$9|hashtable|"),
        ("sadd t 1 2", "$6|intset|"),
        ("sadd t x", "$9|hashtable|"),
        ("sinterstore u s t", "$6|intset|"),
        (
            "hincrby long aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1",
            "$9|hashtable|",
        ),
    ] {
        c.run(line);
        let key = line.split(' ').nth(1).unwrap();
        assert_eq!(c.run(&format!("object encoding {key}")), encoding, "{line}");
    }
}
