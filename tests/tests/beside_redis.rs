//! Beside a real redis-server, command by command: the same random commands to both, and every reply compared, error
//! texts included; at the end the data. A failure names the seed and the command.

use sluice_tests::data::{Random, same_contents};
use sluice_tests::{Client, Reply, Server, peers_here};

/// What a word of a command template becomes.
fn word(template: &str, r: &mut Random) -> Vec<u8> {
    const INTS: [&str; 14] = [
        "0",
        "1",
        "-1",
        "2",
        "5",
        "10",
        "100",
        "-100",
        "9223372036854775807",
        "-9223372036854775808",
        "3.5",
        "abc",
        "",
        "007",
    ];
    const BAD_TIMES: [&str; 7] = ["0", "-1", "3.5", "abc", "", "9223372036854775807", "-9223372036854775808"];
    const FLOATS: [&str; 12] =
        ["0", "1", "-1.5", "2.25", "1e3", "inf", "-inf", "nan", "3.0e-5", "abc", "1e400", "0.1"];
    const SCORES: [&str; 9] = ["-inf", "+inf", "(1", "(2.25", "0", "3", "10", "(-inf", "x"];
    const LEX: [&str; 8] = ["-", "+", "[a", "(a", "[m3", "(m7", "m5", "[zz"];
    const INDEXES: [&str; 10] = ["0", "1", "2", "-1", "-2", "5", "100", "-100", "x", "3"];
    const PATTERNS: [&str; 8] = ["*", "k*", "[ab]*", "?1", "l?", "\\*", "h[^1]", "none"];
    const VALUES: [&str; 10] = ["v", "", "12", "-7", "hello world", "3.25", "m1", "m2", "a", "999999999999"];
    match template {
        "K" => format!("{}{}", r.one_of(&["k", "l", "h", "s", "z", "n"]), r.below(4)).into(),
        "KS" => format!("k{}", r.below(4)).into(),
        "KN" => format!("n{}", r.below(4)).into(),
        "KL" => format!("l{}", r.below(4)).into(),
        "KH" => format!("h{}", r.below(4)).into(),
        "KT" => format!("s{}", r.below(4)).into(),
        "KZ" => format!("z{}", r.below(4)).into(),
        "KP" => format!("p{}", r.below(3)).into(),
        // All of one score: what BYLEX is defined for.
        "KQ" => format!("q{}", r.below(3)).into(),
        "M" => format!("m{}", r.below(12)).into(),
        "I" => r.one_of(&INTS).as_bytes().to_vec(),
        // Expiries nobody can take: any other would count time.
        "E" => r.one_of(&BAD_TIMES).as_bytes().to_vec(),
        "N" => r.below(20).to_string().into(),
        "F" => r.one_of(&FLOATS).as_bytes().to_vec(),
        "SC" => r.one_of(&SCORES).as_bytes().to_vec(),
        "LX" => r.one_of(&LEX).as_bytes().to_vec(),
        "X" => r.one_of(&INDEXES).as_bytes().to_vec(),
        "P" => r.one_of(&PATTERNS).as_bytes().to_vec(),
        "V" if r.below(30) == 0 => vec![b'L'; 70 + r.below(100) as usize],
        "V" => r.one_of(&VALUES).as_bytes().to_vec(),
        other => other.as_bytes().to_vec(),
    }
}

/// Commands, with places to fill. Only those whose reply is determined: nothing random, nothing that counts time.
const TEMPLATES: &str = "
SET KS V; SET K V; SET KS V NX; SET KS V XX; SET KS V GET; SET KS V XX GET; SET K V KEEPTTL; SET KS V PXAT 4102444800000
SET KS V EX E; SET KS V PX E; SET KS V NX XX; SET KS V BOGUS; SET KS; GET K; GET KS; GETSET KS V; GETDEL KS; GETEX KS PERSIST; GETEX KS PXAT 4102444800000
GETEX KS EX 0; MSET KS V KN N; MSET KS; MSETNX KS V KN V; MGET KS KN KL; SETNX KS V; SETEX KS E V; EXPIRE K E; PSETEX KS 0 V; APPEND KS V
APPEND K V; STRLEN K; INCR KN; INCR K; DECR KN; INCRBY KN I; DECRBY KN I; INCRBYFLOAT KN F; GETRANGE KS X X; SUBSTR KS X X
SETRANGE KS N V; SETRANGE KS I V; LCS KS KS; DEL K; DEL K K; UNLINK K; EXISTS K K K; TYPE K; EXPIRETIME K; PEXPIRETIME K
PEXPIREAT K 4102444800000; PEXPIREAT K 4102444900000 GT; EXPIREAT K 4102444800 NX; EXPIREAT K 4102444700 LT; EXPIRE K E BOGUS; EXPIRE K 0
PERSIST K; KEYS P; RENAME K K; RENAMENX K K; COPY K K; COPY K K REPLACE; COPY K K DB 2 REPLACE; COPY K K DB 99; DBSIZE; MOVE K 1; MOVE K 99
OBJECT ENCODING K; OBJECT BOGUS K; SELECT 0; TOUCH K K; RPUSH KL V V V; LPUSH KL V; RPUSH K V; LPUSHX KL V; RPUSHX KL V
LPOP KL; RPOP KL; LPOP KL N; RPOP KL I; LLEN K; LRANGE KL X X; LRANGE K 0 -1; LINDEX KL X; LSET KL X V; LINSERT KL BEFORE V V; LINSERT KL AFTER V V
LINSERT KL BOGUS V V; LREM KL X V; LTRIM KL X X; LMOVE KL KL LEFT RIGHT; LMOVE KL KL RIGHT LEFT; LMOVE KL K LEFT UP; RPOPLPUSH KL KL; LPOS KL V
LPOS KL V RANK X; LPOS KL V COUNT N; LPOS KL V RANK -1 COUNT 0 MAXLEN N; HSET KH M V M V; HSET K M V; HSET KH M; HGET KH M; HMSET KH M V; HMGET KH M M
HGETALL KH; HGETALL KT; HDEL KH M M; HLEN K; HEXISTS KH M; HINCRBY KH M I; HINCRBYFLOAT KH M F; HSETNX KH M V; HSTRLEN KH M; HRANDFIELD KH 0
HSCAN KH 0 COUNT 1000; HSCAN KH x; SADD KT V M N; SADD KT N N; SADD K N; SREM KT M N; SCARD K; SISMEMBER KT M; SMISMEMBER KT M N V; SMOVE KT KT M
SINTERCARD 2 KT KT; SINTERCARD 2 KT KT LIMIT N; SINTERCARD 0 KT; SINTERSTORE KT KT KT; SUNIONSTORE KT KT KT; SDIFFSTORE KT KT KT; SINTERSTORE K KT KH
ZADD KZ F M; ZADD KZ F M F M F M; ZADD KZ NX F M; ZADD KZ XX CH F M; ZADD KZ GT F M; ZADD KZ LT CH F M; ZADD KZ INCR F M; ZADD KZ NX XX F M; ZADD K F M
ZADD KZ 0 a 0 b 0 m3 0 m5; ZADD KQ 0 a 0 b 0 m3 0 m5; ZADD KQ 0 M 0 M 0 M; ZREM KQ M; ZCARD KQ; ZREM KZ M M; ZSCORE KZ M; ZMSCORE KZ M M; ZCARD K; ZRANK KZ M; ZREVRANK KZ M; ZINCRBY KZ F M; ZCOUNT KZ SC SC; ZLEXCOUNT KQ LX LX
ZRANGE KZ X X; ZRANGE KZ X X WITHSCORES; ZRANGE KZ X X REV; ZRANGE KZ SC SC BYSCORE; ZRANGE KZ SC SC BYSCORE LIMIT N N WITHSCORES; ZRANGE KZ SC SC BYSCORE REV
ZRANGE KQ LX LX BYLEX; ZRANGE KQ LX LX BYLEX REV LIMIT 0 X; ZRANGE KZ X X LIMIT 0 1; ZRANGE KQ LX LX BYLEX WITHSCORES; ZRANGEBYSCORE KZ SC SC; ZREVRANGEBYSCORE KZ SC SC WITHSCORES
ZRANGEBYLEX KQ LX LX; ZREVRANGEBYLEX KQ LX LX LIMIT 0 5; ZREVRANGE KZ X X WITHSCORES; ZPOPMIN KZ; ZPOPMAX KZ N; ZRANGESTORE KZ KZ X X; ZRANGESTORE KZ KZ SC SC BYSCORE
ZREMRANGEBYRANK KZ X X; ZREMRANGEBYSCORE KZ SC SC; ZREMRANGEBYLEX KQ LX LX; ZUNIONSTORE KZ 2 KZ KZ; ZUNIONSTORE KZ 2 KZ KT WEIGHTS F F AGGREGATE MAX
ZINTERSTORE KZ 2 KZ KZ AGGREGATE MIN; ZINTERSTORE KZ 2 KZ KH; ZDIFFSTORE KZ 2 KZ KZ; ZINTER 2 KZ KZ WITHSCORES; ZUNION 2 KZ KT WITHSCORES; ZDIFF 2 KZ KZ; ZINTERCARD 2 KZ KZ LIMIT N
ZUNION 0 KZ; ZUNION 3 KZ KZ; ZSCAN KZ 0 COUNT 1000; ZRANDMEMBER KZ 0; ECHO V; PING V; GET; NOSUCH a b; SWAPDB 0 1; SWAPDB 0 99; WAIT x 0; MULTI; MULTI; EXEC; EXEC; EXEC; DISCARD
WATCH K; UNWATCH; SDIFF KT; LCS KS KN LEN; SCAN 0 COUNT x; SCAN abc; FLUSHDB BOGUS; SETEX KS 100; OBJECT; OBJECT ENCODING; LMPOP 1 KL LEFT; LMPOP 2 KL KL RIGHT COUNT N; ZMPOP 1 KZ MIN
PFADD KP; PFADD KP V M N; PFADD KP M M M M; PFADD KL V; PFCOUNT KP; PFCOUNT K; PFCOUNT KP KP; PFMERGE KP KP KP; PFMERGE KP K; PFDEBUG DECODE KP; PFDEBUG TODENSE KP; GET KP; DEL KP
";

/// Replies that are sets in arbitrary order are compared sorted.
fn settled(command: &str, reply: Reply) -> Reply {
    let unordered = ["KEYS", "SMEMBERS", "SUNION", "SINTER", "SDIFF", "HGETALL", "HSCAN", "ZSCAN", "ZDIFF"];
    let sorted = |mut items: Vec<Reply>| {
        items.sort_by_key(|item| format!("{item:?}"));
        items
    };
    match reply {
        Reply::Array(items) if unordered.contains(&command) => {
            Reply::Array(sorted(items.into_iter().map(|item| settled(command, item)).collect()))
        }
        Reply::Set(items) => Reply::Set(sorted(items)),
        Reply::Map(items) => Reply::Map(sorted(items)),
        other => other,
    }
}

fn shown(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| format!("\"{}\"", arg.escape_ascii())).collect::<Vec<_>>().join(" ")
}

fn compare(seed: u64, count: usize, ours: &mut Client, theirs: &mut Client) {
    let templates: Vec<&str> =
        TEMPLATES.split(['\n', ';']).map(str::trim).filter(|t| !t.is_empty()).collect();
    let mut random = Random(seed);
    let mut queued: Option<Vec<String>> = None;
    for step in 0..count {
        let template = random.one_of(&templates);
        let args: Vec<Vec<u8>> = template.split_whitespace().map(|t| word(t, &mut random)).collect();
        let name = String::from_utf8_lossy(&args[0]).into_owned();
        let (our, their) = (ours.run(&args), theirs.run(&args));
        // A transaction's replies are settled each by its own command.
        let (our, their) = match (&queued, name.as_str(), our, their) {
            (Some(names), "EXEC", Reply::Array(a), Reply::Array(b)) => {
                let settle = |items: Vec<Reply>| {
                    Reply::Array(items.into_iter().zip(names).map(|(r, n)| settled(n, r)).collect())
                };
                (settle(a), settle(b))
            }
            (_, _, a, b) => (settled(&name, a), settled(&name, b)),
        };
        assert_eq!(our, their, "seed {seed} step {step}: {}", shown(&args));
        match (name.as_str(), &their) {
            ("MULTI", Reply::Status(_)) => queued = Some(Vec::new()),
            ("EXEC" | "DISCARD", _) => queued = None,
            (_, Reply::Status(text)) if text == "QUEUED" => queued.get_or_insert_default().push(name),
            _ => {}
        }
    }
    ours.ask("DISCARD");
    theirs.ask("DISCARD");
    ours.say("HELLO 2");
    theirs.say("HELLO 2");
    same_contents(ours, theirs);
}

/// `SLUICE_TEST_ROUNDS` takes so many times the seeds.
fn beside(options: &str, hello: &str, seeds: std::ops::Range<u64>) {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let (sluice, redis) = (Server::sluice(options), Server::redis(options));
    let rounds: u64 = std::env::var("SLUICE_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in seeds.start..seeds.start + (seeds.end - seeds.start) * rounds {
        let (mut ours, mut theirs) = (sluice.client(), redis.client());
        ours.say("FLUSHALL");
        theirs.say("FLUSHALL");
        if !hello.is_empty() {
            ours.say(hello);
            theirs.say(hello);
        }
        compare(seed, 6000, &mut ours, &mut theirs);
        let digest = |c: &mut Client| c.say("DEBUG DIGEST").text();
        assert_eq!(digest(&mut ours), digest(&mut theirs), "seed {seed}");
    }
}

#[test]
fn every_reply_is_the_same_in_resp2() {
    beside("", "", 1..5);
}

#[test]
fn every_reply_is_the_same_in_resp3() {
    beside("", "HELLO 3", 100..103);
}

/// With tiny thresholds most values are in their large encodings.
#[test]
fn every_reply_is_the_same_in_the_large_encodings() {
    let options = "--hash-max-listpack-entries 2 --zset-max-listpack-entries 2 --set-max-intset-entries 2 --list-max-listpack-size 2";
    beside(options, "", 200..204);
}
