//! A real redis-server in a scratch folder, spoken to over a Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running redis-server; it ends with this value.
pub struct Redis {
    child: Child,
    stream: BufReader<UnixStream>,
    pub dir: tempfile::TempDir,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Text(Vec<u8>),
    Int(i64),
    Nil,
    Error(String),
    Array(Vec<Reply>),
}

impl Reply {
    pub fn text(self) -> Vec<u8> {
        match self {
            Reply::Text(text) => text,
            other => panic!("not a string: {other:?}"),
        }
    }
    pub fn array(self) -> Vec<Reply> {
        match self {
            Reply::Array(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }
}

/// Whether redis-server is here. Without it a test says so and passes, but never under CI.
pub fn available(test: &str) -> bool {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "redis-server is missing");
        eprintln!("{test}: skipped, redis-server is not installed");
    }
    found
}

/// Starts redis-server on `rdb` (or nothing), with more options. None if it does not come up.
pub fn start(rdb: Option<&[u8]>, options: &[&str]) -> Option<Redis> {
    let dir = tempfile::tempdir().unwrap();
    if let Some(rdb) = rdb {
        std::fs::write(dir.path().join("dump.rdb"), rdb).unwrap();
    }
    let socket = dir.path().join("socket");
    let mut child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--dir"])
        .arg(dir.path())
        .arg("--unixsocket")
        .arg(&socket)
        .args(["--enable-debug-command", "yes", "--logfile", "log"])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => {
                if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    eprintln!("{}", std::fs::read_to_string(dir.path().join("log")).unwrap_or_default());
                    return None;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    };
    let mut redis = Redis { child, stream: BufReader::new(stream), dir };
    while matches!(redis.run(&[b"PING"]), Reply::Error(_)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(redis)
}

impl Redis {
    pub fn run(&mut self, args: &[&[u8]]) -> Reply {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend(format!("${}\r\n", arg.len()).bytes());
            request.extend_from_slice(arg);
            request.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).unwrap();
        self.reply()
    }

    /// Runs a command given as words.
    pub fn say(&mut self, words: &str) -> Reply {
        let words: Vec<&[u8]> = words.split_whitespace().map(str::as_bytes).collect();
        let reply = self.run(&words);
        assert!(!matches!(reply, Reply::Error(_)), "{words:?}: {reply:?}");
        reply
    }

    pub fn digest(&mut self) -> Vec<u8> {
        self.say("DEBUG DIGEST").text()
    }

    pub fn save(&mut self) -> Vec<u8> {
        self.say("SAVE");
        std::fs::read(self.dir.path().join("dump.rdb")).unwrap()
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Reply::Text(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Int(rest.parse().unwrap()),
            "$" if rest == "-1" => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Text(bytes)
            }
            "*" => Reply::Array((0..rest.parse().unwrap()).map(|_| self.reply()).collect()),
            other => panic!("unknown reply {other}"),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What redis-check-rdb says of these bytes.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.rdb");
    std::fs::write(&path, bytes).unwrap();
    check_file(&path)
}

pub fn check_file(path: &Path) -> Result<(), String> {
    let output = Command::new("redis-check-rdb").arg(path).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
}

/// Fills redis with streams of every kind that its commands make.
pub fn fill_streams(redis: &mut Redis) {
    redis.say("CONFIG SET stream-node-max-entries 10");
    redis.say("XADD stream:one 5-1 f v");
    redis.say("XGROUP CREATE stream:nothing g $ MKSTREAM");
    redis.say("XADD stream:emptied 1-1 f v");
    redis.say("XDEL stream:emptied 1-1");
    for n in 1..200 {
        let text = "text ".repeat(n % 40).replace(' ', "-");
        redis.say(&format!("XADD stream:many {n}-0 name {n} text x{text}"));
        if n % 7 == 0 {
            redis.say(&format!("XADD stream:many {n}-{n} other {n} name y more z"));
        }
        redis.say(&format!("XADD stream:trimmed MAXLEN 20 {n}-1 n {n}"));
    }
    redis.say("XDEL stream:many 3-0 4-0 100-0 101-0");
    redis.say("XGROUP CREATE stream:many workers 0");
    redis.say("XGROUP CREATE stream:many 42 50-0 ENTRIESREAD 30");
    redis.say("XREADGROUP GROUP workers alice COUNT 20 STREAMS stream:many >");
    redis.say("XREADGROUP GROUP workers bob COUNT 100 STREAMS stream:many >");
    redis.say("XREADGROUP GROUP 42 7 COUNT 5 STREAMS stream:many >");
    redis.say("XGROUP CREATECONSUMER stream:many workers idle");
    redis.say("XACK stream:many workers 1-0 2-0 30-0");
    redis.say("XCLAIM stream:many workers alice 0 40-0 41-0");
    redis.say("XDEL stream:many 41-0");
    redis.say("XSETID stream:trimmed 18446744073709551615-1 ENTRIESADDED 1000 MAXDELETEDID 5-5");
    redis.say("PEXPIREAT stream:one 4102444800999");
}

/// Every type in every encoding redis-server 7.0 has, in two databases, with expiries.
pub fn fill(redis: &mut Redis) {
    let long = "long text ".repeat(100);
    let noise: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut say = |words: &str| drop(redis.say(words));
    for (name, value) in [("tiny", "x"), ("int8", "-128"), ("int16", "32767"), ("int32", "-2147483648")] {
        say(&format!("SET str:{name} {value}"));
    }
    say("SET str:int64 9223372036854775807");
    say("SET str:notint 007");
    say("SET 12345 key-is-a-number");
    say("SET str:sec v EXAT 4102444800");
    say("SET str:ms v PXAT 4102444800123");
    say("RPUSH list:small a 1 -5 70000 5000000000 b a");
    say("HSET hash:small f v 1 2 g 12345678901234567890");
    say("SADD set:int 1 2 3 -70000 5000000000");
    say("SADD set:small a b 3");
    say("ZADD zset:small 1 one 2.5 two -inf low +inf high 3 3");
    for n in 0..1500 {
        say(&format!("RPUSH list:big element-{n} {n}"));
        say(&format!("HSET hash:big field-{n} {n} n{n} value-{n}"));
        say(&format!("SADD set:big member-{n} {n}"));
        say(&format!("ZADD zset:big {} member-{n} {n} {n}", f64::from(n) / 7.0));
        say(&format!("SADD set:bigint {}", n % 400));
    }
    say("PEXPIREAT hash:big 4102444800999");
    redis.run(&[b"SET", b"str:long", long.as_bytes()]);
    redis.run(&[b"SET", b"str:noise", &noise]);
    redis.run(&[b"SET", b"", b"the empty key"]);
    redis.run(&[b"SET", b"str:empty", b""]);
    redis.run(&[b"RPUSH", b"list:plain", b"before", &noise, long.as_bytes(), b"after"]);
    redis.run(&[b"HSET", b"hash:longvalue", b"f", long.as_bytes(), b"g", &noise]);
    redis.run(&[b"SADD", b"set:long", long.as_bytes(), &noise]);
    redis.run(&[b"ZADD", b"zset:long", b"0.1", long.as_bytes(), b"1e300", &noise]);
    redis.say("SELECT 5");
    redis.say("SET other-db 1");
    redis.say("ZADD z 1 a");
    redis.say("SELECT 0");
}
