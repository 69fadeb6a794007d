//! Who gets in: passwords, protected mode, the limit of clients, idle clients, killed clients.

use sluice_tests::client::Client;
use sluice_tests::{Reply, Server, until};
use std::net::{IpAddr, SocketAddr, TcpStream};

#[test]
fn a_password_is_asked_for() {
    let server = Server::sluice("--requirepass secret");
    let mut c = server.client();
    assert_eq!(c.ask("GET a").text(), "NOAUTH Authentication required.");
    assert_eq!(c.ask("PING").text(), "NOAUTH Authentication required.");
    assert_eq!(c.ask("AUTH wrong").text(), "WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(
        c.ask("AUTH nobody secret").text(),
        "WRONGPASS invalid username-password pair or user is disabled."
    );
    assert_eq!(c.ask("AUTH a b c").text(), "ERR syntax error");
    assert_eq!(c.ask("AUTH secret").text(), "OK");
    assert_eq!(c.ask("GET a"), Reply::Nil);
    assert_eq!(server.client().ask("AUTH default secret").text(), "OK");
    let mut c = server.client();
    assert!(
        c.ask("HELLO 3")
            .text()
            .starts_with("NOAUTH HELLO must be called with the client already authenticated")
    );
    assert!(matches!(c.ask("HELLO 3 AUTH default secret"), Reply::Map(_)));
    c.say("CONFIG SET requirepass ''");
    assert_eq!(server.client().ask("PING").text(), "PONG");
}

#[test]
fn without_a_password_auth_says_so() {
    let server = Server::sluice("");
    let text = "ERR AUTH <password> called without any password configured for the default user. \
                Are you sure your configuration is correct?";
    assert_eq!(server.client().ask("AUTH x").text(), text);
}

#[test]
fn unauthenticated_clients_may_not_send_much() {
    let server = Server::sluice("--requirepass secret");
    let mut c = server.client();
    c.send(b"*11\r\n").unwrap();
    assert_eq!(c.reply().unwrap().text(), "ERR Protocol error: unauthenticated multibulk length");
    let mut c = server.client();
    c.send(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n").unwrap();
    assert_eq!(c.reply().unwrap().text(), "ERR Protocol error: unauthenticated bulk length");
    assert_eq!(c.rest(), b"");
}

/// An address of this machine that is not loopback, found without sending anything.
fn outer_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn protected_mode_turns_others_away() {
    let Some(outer) = outer_address() else {
        eprintln!("skipped: this machine has no address beside loopback");
        return;
    };
    let server = Server::sluice("--bind 0.0.0.0");
    let dial =
        || Client::accepted(TcpStream::connect(SocketAddr::new(outer, server.port)).expect("it listens"));
    let told = String::from_utf8(dial().rest()).unwrap();
    assert!(
        told.starts_with("-DENIED Redis is running in protected mode because protected mode is enabled"),
        "{told}"
    );
    server.say("CONFIG SET protected-mode no");
    assert_eq!(dial().ask("PING").text(), "PONG");
    server.say("CONFIG SET protected-mode yes");
    server.say("CONFIG SET requirepass x");
    assert_eq!(dial().ask("PING").text(), "NOAUTH Authentication required.");
}

#[test]
fn clients_over_the_limit_are_told_and_closed() {
    let server = Server::sluice("--maxclients 3");
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|c| drop(c.say("PING")));
    assert_eq!(String::from_utf8(server.client().rest()).unwrap(), "-ERR max number of clients reached\r\n");
    clients.pop();
    until("a place is free again", || {
        matches!(server.connect()?.try_run(&["PING"]), Ok(Reply::Status(_))).then_some(())
    });
    clients[0].say("CONFIG SET maxclients 100");
    server.alive();
}

#[test]
fn idle_clients_are_closed_after_timeout() {
    let server = Server::sluice("--timeout 1");
    let mut idle = server.client();
    idle.say("PING");
    assert_eq!(idle.rest(), b"");
}

#[test]
fn clients_are_listed_named_and_killed() {
    let server = Server::sluice("");
    let (mut a, mut b) = (server.client(), server.client());
    a.say("CLIENT SETNAME first");
    b.say("CLIENT SETNAME second");
    assert_eq!(a.say("CLIENT GETNAME").text(), "first");
    assert_eq!(
        a.run(&["CLIENT", "SETNAME", "two words"]).text(),
        "ERR Client names cannot contain spaces, newlines or special characters."
    );
    let list = a.say("CLIENT LIST").text();
    assert!(list.contains("name=first") && list.contains("name=second"), "{list}");
    assert!(a.say("CLIENT INFO").text().contains("name=first"));
    let id = b.say("CLIENT ID").int();
    assert_eq!(a.say(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
    assert_eq!(b.rest(), b"");
    assert_eq!(a.ask("CLIENT KILL 127.0.0.1:1").text(), "ERR No such client");
    assert_eq!(a.ask(&format!("CLIENT KILL ID {id}")), Reply::Int(0));
}

#[test]
fn client_reply_can_be_turned_off() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.send(b"CLIENT REPLY SKIP\r\nPING a\r\nPING b\r\nCLIENT REPLY OFF\r\nPING c\r\nCLIENT REPLY ON\r\nPING d\r\n").unwrap();
    assert_eq!(c.reply().unwrap().text(), "b");
    assert_eq!(c.reply().unwrap().text(), "OK");
    assert_eq!(c.reply().unwrap().text(), "d");
}

#[test]
fn a_unix_socket_is_another_way_in() {
    use std::io::{Read, Write};
    let server = Server::sluice("--unixsocket s --unixsocketperm 700");
    let path = server.file("s");
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens there");
    stream.write_all(b"SET a 1\r\nCLIENT INFO\r\nQUIT\r\n").unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    assert!(
        replies.starts_with("+OK") && replies.contains("addr=s:0 laddr=s:0") && replies.contains("flags=U"),
        "{replies}"
    );
    assert_eq!(server.say("GET a"), "1".into());
    server.terminate();
    assert!(!path.exists(), "gone with the server");
}
