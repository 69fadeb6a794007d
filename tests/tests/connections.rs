//! A connection among others: what waits for it, what it costs them, and what is left when it goes.

use sluice_tests::client::request;
use sluice_tests::{Client, Reply, Server, until, words};

fn send(c: &mut Client, line: &str) {
    c.send(&request(&words(line))).expect("the server reads");
}

fn client_line(server: &Server, id: i64) -> Option<String> {
    let list = server.client().ask("CLIENT LIST").text();
    list.lines().find(|line| line.starts_with(&format!("id={id} "))).map(str::to_owned)
}

fn field(line: &str, name: &str) -> u64 {
    let prefix = format!("{name}=");
    let word = line.split(' ').find_map(|w| w.strip_prefix(&prefix));
    word.and_then(|w| w.parse().ok()).unwrap_or_else(|| panic!("{name} in {line}"))
}

fn gone(server: &Server, id: i64) {
    until("the client is closed", || client_line(server, id).is_none().then_some(()));
}

const CLOSED: &str = "scheduled to be closed ASAP for overcoming of output buffer limits.";

#[test]
fn a_pipeline_may_be_sent_whole_before_its_replies_are_read() {
    let server = Server::sluice("");
    let mut c = server.client();
    let value = "v".repeat(2000);
    c.say(&format!("SET k {value}"));
    // More than sockets hold of either requests or replies.
    let count = 50_000;
    c.send(&request(&["GET", "k"]).repeat(count)).expect("all of it is taken");
    send(&mut c, "SET behind 1");
    let mut other = server.client();
    until("what comes behind runs", || (other.ask("GET behind") == "1".into()).then_some(()));
    let id = {
        let list = other.ask("CLIENT LIST").text();
        let line = list.lines().find(|l| field(l, "omem") > 1 << 20).expect("replies wait").to_owned();
        assert!(field(&line, "oll") > 0 && field(&line, "tot-mem") > field(&line, "omem"), "{line}");
        assert_eq!(field(&line, "obl"), 16384, "{line}");
        field(&line, "id") as i64
    };
    assert!(server.number("clients", "client_recent_max_output_buffer") > 1 << 20);
    assert!(server.number("memory", "mem_clients_normal") > 1 << 20);
    for _ in 0..count {
        assert_eq!(c.reply().unwrap().bytes().len(), 2000);
    }
    assert_eq!(c.reply().unwrap(), Reply::Status("OK".into()));
    let line = client_line(&server, id).expect("still there");
    assert_eq!((field(&line, "obl"), field(&line, "oll"), field(&line, "omem")), (0, 0, 0));
}

#[test]
fn who_does_not_read_is_closed_at_the_hard_limit() {
    let server = Server::sluice("--client-output-buffer-limit normal 20mb 0 0");
    let mut c = server.client();
    c.run(&["SET", "k", &"v".repeat(5_000_000)]);
    let mut lazy = server.client();
    let id = lazy.ask("CLIENT ID").int();
    lazy.send(&request(&["GET", "k"]).repeat(20)).unwrap();
    send(&mut lazy, "SET behind 1");
    gone(&server, id);
    server.logged(CLOSED);
    assert_eq!(c.ask("EXISTS behind").int(), 0, "what it asked for behind the limit does not run");
    // One reply that is over it is not sent, however fast its client reads.
    c.run(&["CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0"]);
    assert!(c.try_run(&["GET", "k"]).is_err());
}

#[test]
fn a_limit_set_at_run_time_holds_for_what_waits_already() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.run(&["SET", "k", &"v".repeat(20_000_000)]);
    let lazy = |limit: &str| {
        let mut lazy = server.client();
        let id = lazy.ask("CLIENT ID").int();
        send(&mut lazy, "GET k");
        until("it waits", || (field(&client_line(&server, id)?, "omem") > 4 << 20).then_some(()));
        server.client().run(&["CONFIG", "SET", "client-output-buffer-limit", limit]);
        gone(&server, id);
        server.client().run(&["CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0"]);
    };
    lazy("normal 1mb 0 0");
    lazy("normal 0 1mb 1");
    assert_eq!(server.log().matches(CLOSED).count(), 2);
    // Within them nobody is closed.
    c.run(&["CONFIG", "SET", "client-output-buffer-limit", "normal 30mb 30mb 1"]);
    assert_eq!(c.ask("GET k").bytes().len(), 20_000_000);
}

#[test]
fn a_pipeline_of_one_client_lets_the_commands_of_another_in_between() {
    let server = Server::sluice("");
    let mut c = server.client();
    let total = 200_000;
    let mut busy = server.client();
    let sender = std::thread::spawn(move || {
        busy.send(&request(&["INCR", "n"]).repeat(total)).unwrap();
        (0..total).for_each(|_| drop(busy.reply().unwrap()));
    });
    let seen = until("it has begun", || match c.ask("GET n") {
        Reply::Nil => None,
        n => n.text().parse::<usize>().ok(),
    });
    assert!(seen < total / 2, "another client waited for {seen} commands");
    sender.join().unwrap();
    assert_eq!(c.ask("GET n").text(), total.to_string());
}

#[test]
fn the_length_of_an_argument_takes_memory_when_it_arrives() {
    let server = Server::sluice("");
    let before = server.number("memory", "used_memory");
    let liars: Vec<Client> = (0..50)
        .map(|_| {
            let mut c = server.client();
            c.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n").unwrap();
            c.send(&[b'x'; 100_000]).unwrap();
            c
        })
        .collect();
    let arrived = || server.client().ask("CLIENT LIST").text().lines().map(|l| field(l, "qbuf")).sum::<u64>();
    until("all of it is there", || (arrived() > 50 * 100_000).then_some(()));
    let took = server.number("memory", "used_memory") - before;
    assert!(took < 50 << 20, "{took} bytes for 5 MB");
    drop(liars);
}

#[test]
fn a_client_that_is_gone_writes_nothing_when_the_pause_is_over() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.say("CLIENT PAUSE 100000 WRITE");
    let mut closes = server.client();
    send(&mut closes, "SET closed 1");
    let mut killed = server.client();
    let id = killed.ask("CLIENT ID").int();
    send(&mut killed, "SET killed 1");
    server.reports("clients", "blocked_clients", "2");
    drop(closes);
    server.reports("clients", "blocked_clients", "1");
    c.say(&format!("CLIENT KILL ID {id}"));
    server.reports("clients", "blocked_clients", "0");
    gone(&server, id);
    c.say("CLIENT UNPAUSE");
    c.say("SET mine 1");
    assert_eq!(c.ask("DBSIZE").int(), 1);
}

#[test]
fn a_wait_for_acknowledgements_is_let_go_like_any_other() {
    let server = Server::sluice("--appendonly yes --appendfsync no");
    let mut c = server.client();
    c.say("SET k v");
    let blocked = |command: &str| {
        let mut w = server.client();
        w.say("SET k v");
        let id = w.ask("CLIENT ID").int();
        send(&mut w, command);
        server.reports("clients", "blocked_clients", "1");
        (w, id)
    };
    let (mut w, id) = blocked("WAIT 1 0");
    assert_eq!(c.ask(&format!("CLIENT UNBLOCK {id}")).int(), 1);
    assert_eq!(w.reply().unwrap(), Reply::Int(0));
    let (mut w, id) = blocked("WAITAOF 0 1 0");
    assert_eq!(c.ask(&format!("CLIENT UNBLOCK {id} ERROR")).int(), 1);
    assert_eq!(w.reply().unwrap().text(), "UNBLOCKED client unblocked via CLIENT UNBLOCK");
    assert_eq!(w.ask("PING").text(), "PONG");
    assert_eq!(c.ask(&format!("CLIENT UNBLOCK {id}")).int(), 0);
    let (mut w, _) = blocked("WAITAOF 1 5 0");
    c.say("CONFIG SET appendonly no");
    assert!(w.reply().unwrap().text().starts_with("ERR WAITAOF cannot be used when numlocal is set"));
    let (w, _) = blocked("WAIT 1 0");
    drop(w);
    server.reports("clients", "blocked_clients", "0");
    let (mut w, _) = blocked("WAIT 1 0");
    c.say("REPLICAOF 127.0.0.1 1");
    assert!(w.reply().unwrap().text().starts_with("UNBLOCKED force unblock from blocking operation"));
    assert_eq!(w.rest(), b"");
}

#[test]
fn who_wrote_nothing_waits_for_no_acknowledgement() {
    let (primary, replica) = (Server::sluice(""), Server::sluice(""));
    replica.follow(&primary);
    let mut c = primary.client();
    c.say("SET k 1");
    assert_eq!(c.ask("WAIT 1 0").int(), 1);
    replica.signal("STOP");
    c.say("SET k 2");
    assert_eq!(c.ask("WAIT 1 50").int(), 0, "not there yet");
    assert_eq!(primary.client().ask("WAIT 1 0").int(), 1, "nothing to confirm");
    replica.signal("CONT");
    assert_eq!(c.ask("WAIT 1 0").int(), 1);
}

#[test]
fn client_reply_holds_for_every_reply() {
    let server = Server::sluice("");
    let off = |commands: &[&str]| {
        let mut c = server.client();
        send(&mut c, "CLIENT REPLY OFF");
        commands.iter().for_each(|line| send(&mut c, line));
        c
    };
    for silent in
        ["GET k", "NOSUCH", "GET", "WAIT 1 1", "SAVE", "BLPOP none 0.01", "EVALSHA", "CLIENT REPLY x"]
    {
        let mut c = off(&[silent, "CLIENT REPLY ON"]);
        assert_eq!(c.reply().unwrap(), Reply::Status("OK".into()), "{silent}");
    }
    let mut c = off(&["QUIT"]);
    assert_eq!(c.rest(), b"");
    let mut c = off(&["CLIENT KILL TYPE normal SKIPME no"]);
    assert_eq!(c.rest(), b"");
    let mut c = off(&[]);
    c.send(b"*1\r\n:1\r\n").unwrap();
    assert_eq!(c.rest(), b"");
    let mut c = server.client();
    for skipped in ["WAIT 1 1", "BLPOP none 0.01", "NOSUCH", "MIGRATE 127.0.0.1 1 none 0 100", "PING"] {
        send(&mut c, "CLIENT REPLY SKIP");
        send(&mut c, skipped);
        assert_eq!(c.ask("ECHO next"), "next".into(), "{skipped}");
    }
    // In a transaction it would break the frame of EXEC.
    c.say("MULTI");
    assert_eq!(c.ask("CLIENT REPLY OFF").text(), "ERR Command not allowed inside a transaction");
    assert!(c.ask("EXEC").text().starts_with("EXECABORT"));
}

#[test]
fn a_web_client_gets_nowhere() {
    let server = Server::sluice("");
    for request in [
        &b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET k 1\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nSET k 1\r\n",
        b"hOst: localhost\r\nSET k 1\r\n",
        b"*1\r\n$4\r\npost\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n",
        b"MULTI\r\nSET k 1\r\nPOST \"a b\"\r\nEXEC\r\n",
    ] {
        let mut c = server.client();
        let _ = c.send(request);
        c.rest();
        assert_eq!(server.client().ask("EXISTS k").int(), 0, "{}", request.escape_ascii());
    }
    assert_eq!(server.log().matches("Possible SECURITY ATTACK detected.").count(), 1, "told once a minute");
}
