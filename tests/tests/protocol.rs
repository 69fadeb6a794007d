//! The protocol on the wire: RESP2, RESP3, inline commands, pipelines, and requests nobody should send.

use sluice_tests::client::request;
use sluice_tests::{Client, Reply, Server};

fn status(text: &str) -> Reply {
    Reply::Status(text.into())
}

#[test]
fn resp2_replies_have_the_types_of_redis() {
    let server = Server::sluice("");
    let mut c = server.client();
    assert_eq!(c.ask("PING"), status("PONG"));
    assert_eq!(c.ask("PING hello"), "hello".into());
    assert_eq!(c.ask("ECHO hello"), "hello".into());
    assert_eq!(c.ask("SET k v"), status("OK"));
    assert_eq!(c.ask("GET k"), "v".into());
    assert_eq!(c.ask("GET none"), Reply::Nil);
    assert_eq!(c.ask("INCR n"), Reply::Int(1));
    assert_eq!(c.ask("LRANGE none 0 -1"), Reply::Array(vec![]));
    assert_eq!(c.ask("LPOP none 2"), Reply::Nil);
    c.say("HSET h f v");
    assert_eq!(c.ask("HGETALL h"), Reply::Array(vec!["f".into(), "v".into()]));
    c.say("ZADD z 1.5 m");
    assert_eq!(c.ask("ZSCORE z m"), "1.5".into());
    assert_eq!(c.ask("GET h").text(), "WRONGTYPE Operation against a key holding the wrong kind of value");
    assert_eq!(c.ask("GET").text(), "ERR wrong number of arguments for 'get' command");
    assert_eq!(
        c.ask("NOSUCH a b").text(),
        "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "
    );
}

#[test]
fn resp3_is_chosen_by_hello_and_changes_the_types() {
    let server = Server::sluice("");
    let mut c = server.client();
    let Reply::Map(hello) = c.ask("HELLO 3") else { panic!("HELLO 3 replies a map") };
    let fields: Vec<String> = hello.iter().step_by(2).map(Reply::text).collect();
    assert_eq!(fields, ["server", "version", "proto", "id", "mode", "role", "modules"]);
    assert_eq!(hello[5], Reply::Int(3));
    assert_eq!(c.ask("GET none"), Reply::Nil);
    c.say("HSET h f v");
    assert_eq!(c.ask("HGETALL h"), Reply::Map(vec!["f".into(), "v".into()]));
    c.say("SADD s a");
    assert_eq!(c.ask("SMEMBERS s"), Reply::Set(vec!["a".into()]));
    c.say("ZADD z 1.5 m");
    assert_eq!(c.ask("ZSCORE z m"), Reply::Double("1.5".into()));
    assert!(matches!(c.ask("CONFIG GET port"), Reply::Map(_)));
    assert!(matches!(c.ask("HELLO 2"), Reply::Array(_)));
    assert_eq!(c.ask("SMEMBERS s"), Reply::Array(vec!["a".into()]));
    assert_eq!(c.ask("HELLO 4").text(), "NOPROTO unsupported protocol version");
}

#[test]
fn inline_commands_take_quotes() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.send(b"PING\r\n\r\nSET k \"a b\\x41\\n\"\r\nGET k\nSET 'k 2' 'it''s'\r\n").unwrap();
    assert_eq!(c.reply().unwrap(), status("PONG"));
    assert_eq!(c.reply().unwrap(), status("OK"));
    assert_eq!(c.reply().unwrap(), "a bA\n".into());
    assert_eq!(c.reply().unwrap().text(), "ERR Protocol error: unbalanced quotes in request");
    assert_eq!(c.rest(), b"");
    server.alive();
}

#[test]
fn a_pipeline_is_answered_in_order_however_it_is_split() {
    let server = Server::sluice("");
    let mut c = server.client();
    let mut bytes = Vec::new();
    for n in 0..2000 {
        bytes.extend(request(&["SET", &format!("k{n}"), &n.to_string()]));
        bytes.extend(request(&["GET", &format!("k{n}")]));
    }
    for part in bytes.chunks(997) {
        c.send(part).unwrap();
    }
    for n in 0..2000 {
        assert_eq!(c.reply().unwrap(), status("OK"));
        assert_eq!(c.reply().unwrap(), n.to_string().as_str().into());
    }
    for byte in request(&["GET", "k7"]) {
        c.send(&[byte]).unwrap();
    }
    assert_eq!(c.reply().unwrap(), "7".into());
}

#[test]
fn what_an_earlier_command_of_a_pipeline_changes_holds_for_the_later_ones() {
    let server = Server::sluice("");
    let mut owner = server.client();
    owner.say("CONFIG SET requirepass secret");
    let mut c = server.client();
    // More arguments than a stranger may send: fine behind AUTH, a protocol error behind RESET, although all came at once.
    let many: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let mut words = vec!["DEL"];
    words.extend(many.iter().map(String::as_str));
    let wide = request(&words);
    let lines = b"GET early\r\nAUTH secret\r\n".to_vec();
    let behind = b"SET k \"a b\"\r\nGET k\r\nRESET\r\nGET k\r\n".to_vec();
    c.send(&[lines, wide.clone(), behind, wide].concat()).unwrap();
    let mut next = || c.reply().unwrap();
    assert_eq!(next().text(), "NOAUTH Authentication required.");
    assert_eq!(next(), status("OK"));
    assert_eq!(next(), Reply::Int(0));
    assert_eq!(next(), status("OK"));
    assert_eq!(next(), "a b".into());
    assert_eq!(next(), status("RESET"));
    assert_eq!(next().text(), "NOAUTH Authentication required.");
    assert_eq!(next().text(), "ERR Protocol error: unauthenticated multibulk length");
}

#[test]
fn commands_behind_one_that_waits_are_run_when_it_is_done_and_no_command_runs_twice() {
    let server = Server::sluice("");
    let mut other = server.client();
    // As many as are read ahead with the one that waits, and more.
    for behind in [5, 40] {
        let mut c = server.client();
        other.say("FLUSHALL");
        let mut sent = b"INCR num\r\nBLPOP l 0\r\n".to_vec();
        // The rest of the pipeline: whole requests, and one of which the end comes later.
        (0..behind).for_each(|_| sent.extend(request(&["INCR", "num"])));
        let last = request(&["APPEND", "end", "0123456789"]);
        sent.extend(&last[..last.len() - 5]);
        c.send(&sent).unwrap();
        assert_eq!(c.reply().unwrap(), Reply::Int(1));
        while other.ask("INFO clients").text().contains("blocked_clients:0") {}
        assert_eq!(other.ask("GET num"), "1".into());
        other.say("RPUSH l x");
        assert_eq!(c.reply().unwrap(), Reply::Array(vec!["l".into(), "x".into()]));
        (0..behind).for_each(|n| assert_eq!(c.reply().unwrap(), Reply::Int(n + 2)));
        c.send(&last[last.len() - 5..]).unwrap();
        assert_eq!(c.reply().unwrap(), Reply::Int(10));
        assert_eq!(c.ask("GET end"), "0123456789".into());
    }
}

#[test]
fn large_values_travel_whole() {
    let server = Server::sluice("");
    let mut c = server.client();
    let value: Vec<u8> = (0..20_000_000u32).map(|n| (n >> 3) as u8).collect();
    assert_eq!(c.run(&[b"SET", &b"big"[..], &value]), status("OK"));
    assert_eq!(c.ask("STRLEN big"), Reply::Int(20_000_000));
    assert!(c.ask("GET big").bytes() == value);
}

/// What Redis answers before it closes the connection.
fn refused(server: &Server, sent: &[u8], error: &str) {
    let mut c = server.client();
    c.send(sent).unwrap();
    let name = sent[..sent.len().min(60)].escape_ascii().to_string();
    let reply = c.reply().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(reply.text(), error, "{name}");
    assert_eq!(c.rest(), b"", "{name}: the connection is closed");
}

#[test]
fn malformed_requests_are_told_so_and_closed() {
    let server = Server::sluice("");
    let bulk = "ERR Protocol error: invalid bulk length";
    let multibulk = "ERR Protocol error: invalid multibulk length";
    refused(&server, b"*1\r\n$-1\r\n", bulk);
    refused(&server, b"*1\r\n$-9223372036854775808\r\n", bulk);
    refused(&server, b"*1\r\n$9223372036854775807\r\n", bulk);
    refused(&server, b"*1\r\n$99999999999999999999\r\n", bulk);
    refused(&server, b"*1\r\n$536870913\r\n", bulk);
    refused(&server, b"*1\r\n$abc\r\n", bulk);
    refused(&server, b"*2147483648\r\n", multibulk);
    refused(&server, b"*abc\r\n", multibulk);
    refused(&server, b"*1\r\n+PING\r\n", "ERR Protocol error: expected '$', got '+'");
    refused(&server, b"GET \"open\r\n", "ERR Protocol error: unbalanced quotes in request");
    refused(&server, &[b'a'; 70_000], "ERR Protocol error: too big inline request");
    let endless = |start: &[u8]| [start, &[b'1'; 70_000][..]].concat();
    refused(&server, &endless(b"*"), "ERR Protocol error: too big mbulk count string");
    refused(&server, &endless(b"*1\r\n$"), "ERR Protocol error: too big bulk count string");
    server.alive();
}

#[test]
fn empty_and_negative_arrays_are_ignored_as_in_redis() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.send(b"*0\r\n*-1\r\n*-9223372036854775808\r\n\r\nPING\r\n").unwrap();
    assert_eq!(c.reply().unwrap(), status("PONG"));
}

#[test]
fn a_request_that_never_ends_holds_no_memory_in_advance() {
    let server = Server::sluice("");
    let before = server.peak_memory_kb();
    let mut open: Vec<Client> = Vec::new();
    for _ in 0..20 {
        let mut c = server.client();
        c.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n only this").unwrap();
        open.push(c);
        let mut c = server.client();
        c.send(b"*1048576\r\n$1\r\na\r\n").unwrap();
        open.push(c);
    }
    server.alive();
    let grown = server.peak_memory_kb() - before;
    assert!(grown < 64 * 1024, "{grown} kB for requests that were announced only");
    drop(open);
    server.alive();
}

#[test]
fn the_query_buffer_limit_closes_the_connection() {
    let server = Server::sluice("--client-query-buffer-limit 1mb");
    let mut c = server.client();
    let chunk = vec![b'x'; 1 << 20];
    let mut sent = c.send(b"*2\r\n$4\r\nECHO\r\n$100000000\r\n");
    for _ in 0..64 {
        sent = sent.and_then(|()| c.send(&chunk));
    }
    c.finish_sending();
    assert_eq!(c.rest(), b"");
    server.alive();
}

#[test]
fn garbage_leaves_the_server_alive() {
    let server = Server::sluice("");
    let mut random = sluice_tests::data::Random(3);
    for round in 0..200 {
        let mut c = server.client();
        let mut bytes = random.noise(1 + round * 7);
        if round % 2 == 0 {
            // Damaged, but nearly right.
            bytes = request(&["SET", "key", "value"]).repeat(3);
            for _ in 0..3 {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.below(256) as u8;
            }
        }
        let _ = c.send(&bytes);
        c.finish_sending();
        c.rest();
    }
    server.alive();
}
