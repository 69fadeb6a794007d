//! Commands that wait for keys: who is served, in which order, what replicas see of it, and how a wait ends.

use sluice_tests::client::request;
use sluice_tests::{Client, Reply, Server, until, words};

fn send(c: &mut Client, line: &str) {
    c.send(&request(&words(line))).expect("the server reads");
}

fn waiting(server: &Server, clients: i64) {
    server.reports("clients", "blocked_clients", &clients.to_string());
}

fn texts(reply: &Reply) -> Vec<String> {
    reply.items().iter().map(Reply::text).collect()
}

#[test]
fn those_who_wait_are_served_in_the_order_they_came() {
    let server = Server::sluice("--io-threads 4");
    let mut waiters: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for (i, c) in waiters.iter_mut().enumerate() {
        send(c, "BLPOP q other 0");
        waiting(&server, i as i64 + 1);
    }
    let mut c = server.client();
    assert_eq!(c.ask("RPUSH q a b c").int(), 3);
    for (c, value) in waiters.iter_mut().zip(["a", "b", "c"]) {
        assert_eq!(texts(&c.reply().unwrap()), ["q", value]);
    }
    // A key of another type, and another database, serve nobody.
    c.say("SADD other x");
    c.say("SELECT 1");
    c.say("RPUSH q elsewhere");
    c.say("SELECT 0");
    waiting(&server, 2);
    c.say("DEL other");
    c.say("MULTI");
    c.say("RPUSH other d");
    c.say("RPUSH other e");
    c.say("LPOP other");
    c.say("EXEC");
    // EXEC is over before anybody is served.
    assert_eq!(texts(&waiters[3].reply().unwrap()), ["other", "e"]);
    assert_eq!(c.ask("EXISTS other").int(), 0);
    waiting(&server, 1);
}

#[test]
fn a_wait_ends_with_its_time_its_connection_or_by_client_unblock() {
    let server = Server::sluice("");
    let mut c = server.client();
    assert_eq!(c.ask("BLPOP k 0.01"), Reply::Nil);
    assert!(c.ask("BLPOP k -1").text().contains("timeout is negative"));
    c.say("MULTI");
    c.say("BZPOPMIN z 0");
    assert_eq!(c.ask("EXEC").items(), [Reply::Nil]);

    let mut waiter = server.client();
    let id = waiter.ask("CLIENT ID").int();
    send(&mut waiter, "BRPOPLPUSH k l 0");
    waiting(&server, 1);
    assert_eq!(c.ask(&format!("CLIENT UNBLOCK {id} ERROR")).int(), 1);
    assert!(waiter.reply().unwrap().text().starts_with("UNBLOCKED"));
    assert_eq!(c.ask(&format!("CLIENT UNBLOCK {id}")).int(), 0);

    // Who has gone takes nothing with him.
    send(&mut waiter, "BLPOP k 0");
    waiting(&server, 1);
    drop(waiter);
    waiting(&server, 0);
    c.say("RPUSH k kept");
    assert_eq!(c.ask("LLEN k").int(), 1);
}

#[test]
fn what_is_served_reaches_replicas_as_the_command_that_does_not_wait() {
    let (primary, replica) = (Server::sluice(""), Server::sluice(""));
    replica.follow(&primary);
    let mut c = primary.client();
    let mut waiters: Vec<Client> = (0..4).map(|_| primary.client()).collect();
    let lines = [
        "BLMOVE a b LEFT RIGHT 0",
        "BLMOVE b c RIGHT LEFT 0",
        "BZMPOP 0 1 z MAX COUNT 2",
        "BLMPOP 0 1 m LEFT COUNT 9",
    ];
    for (c, line) in waiters.iter_mut().zip(lines) {
        send(c, line);
    }
    waiting(&primary, 4);
    c.say("RPUSH a x y");
    c.say("ZADD z 1 one 2 two 3 three");
    c.say("RPUSH m 1 2 3");
    // One hands on to the next.
    assert_eq!(waiters[0].reply().unwrap().text(), "x");
    assert_eq!(waiters[1].reply().unwrap().text(), "x");
    assert_eq!(waiters[2].reply().unwrap().items()[0].text(), "z");
    assert_eq!(texts(&waiters[3].reply().unwrap().items()[1]), ["1", "2", "3"]);
    replica.same_as(&primary);
    assert_eq!(texts(&replica.say("LRANGE c 0 -1")), ["x"]);
    assert_eq!(replica.say("ZCARD z").int(), 1);
}

#[test]
fn a_replica_lets_nobody_wait() {
    let (primary, other) = (Server::sluice(""), Server::sluice(""));
    let mut waiter = other.client();
    send(&mut waiter, "BLPOP k 0");
    waiting(&other, 1);
    other.follow(&primary);
    assert!(waiter.reply().unwrap().text().starts_with("UNBLOCKED force unblock"));
    assert!(waiter.rest().is_empty(), "the connection is closed");
}

#[test]
fn shutdown_waits_for_replicas_and_can_be_aborted() {
    let (primary, replica) = (Server::sluice(""), Server::sluice(""));
    replica.follow(&primary);
    primary.say("SET k 1");
    replica.caught_up(&primary);
    replica.signal("STOP");
    primary.say("INCR k");
    let (mut first, mut second) = (primary.client(), primary.client());
    send(&mut first, "SHUTDOWN");
    send(&mut second, "SHUTDOWN");
    waiting(&primary, 2);
    assert!(primary.number("server", "shutdown_in_milliseconds") > 0);
    assert_eq!(primary.say("SHUTDOWN ABORT").text(), "OK");
    for c in [&mut first, &mut second] {
        assert!(c.reply().unwrap().text().starts_with("ERR Errors trying to SHUTDOWN"));
    }
    assert!(primary.client().ask("SHUTDOWN ABORT").is_error());
    assert_eq!(primary.say("INCR k").int(), 3);
    send(&mut first, "SHUTDOWN");
    until("the shutdown to wait", || primary.info("server", "shutdown_in_milliseconds"));
    replica.signal("CONT");
    let mut primary = primary;
    assert!(primary.wait_for_end().success());
    assert!(primary.log().contains("1 of 1 replicas are in sync when shutting down."));
    assert_eq!(replica.say("GET k").text(), "3");
}

#[test]
fn a_crash_says_where_it_was() {
    let mut server = Server::sluice("--enable-debug-command yes");
    send(&mut server.client(), "DEBUG SEGFAULT");
    assert!(!server.wait_for_end().success());
    server.logged("crashed by signal");
    server.logged("STACK TRACE");
}
