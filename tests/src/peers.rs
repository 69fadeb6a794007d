//! Peers played by the test: a primary that answers what it is told to, a replica that asks by hand.

use crate::client::{Client, Reply};
use crate::wait::until;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A listener that pretends to be a primary.
pub struct FakePrimary {
    listener: TcpListener,
    /// Where it listens.
    pub port: u16,
}

/// The steps of a replica's handshake, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// PING
    Ping,
    /// AUTH
    Auth,
    /// REPLCONF listening-port or ip-address
    Port,
    /// REPLCONF capa
    Capa,
    /// PSYNC or SYNC
    Psync,
}

impl Default for FakePrimary {
    fn default() -> Self {
        FakePrimary::new()
    }
}

impl FakePrimary {
    /// Listens on a free port.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn new() -> FakePrimary {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener can be polled");
        let port = listener.local_addr().expect("it is bound").port();
        FakePrimary { listener, port }
    }

    /// Waits for a replica to connect.
    #[track_caller]
    pub fn accept(&self) -> Client {
        let stream = until("a replica connects", || self.listener.accept().ok()).0;
        stream.set_nonblocking(false).expect("a socket can block");
        Client::accepted(stream)
    }

    /// Waits for a replica, answers its handshake as Redis would up to (not including) `stop`, and returns the
    /// connection. None when the replica gave up first.
    #[track_caller]
    pub fn handshake(&self, stop: Asked) -> Option<Client> {
        Some(self.asked(stop)?.0)
    }

    /// The same, with the words that were not answered.
    #[track_caller]
    pub fn asked(&self, stop: Asked) -> Option<(Client, Vec<String>)> {
        let mut replica = self.accept();
        loop {
            let request = replica.reply().ok()?;
            let words: Vec<String> = request.items().iter().map(|w| w.text().to_ascii_lowercase()).collect();
            let asked = match words[0].as_str() {
                "ping" => Asked::Ping,
                "auth" => Asked::Auth,
                "replconf" if words[1] == "capa" => Asked::Capa,
                "replconf" => Asked::Port,
                "psync" | "sync" => Asked::Psync,
                other => panic!("{other} in a handshake"),
            };
            if asked >= stop {
                return Some((replica, words));
            }
            let answer: &[u8] = if asked == Asked::Ping { b"+PONG\r\n" } else { b"+OK\r\n" };
            replica.send(answer).ok()?;
        }
    }
}

/// A port that swallows connection attempts, as the address of a dead machine does: its queue is full.
pub struct Hole {
    _listener: Socket,
    _queued: Vec<Socket>,
    /// Where it is.
    pub port: u16,
}

impl Default for Hole {
    fn default() -> Self {
        Hole::new()
    }
}

impl Hole {
    /// One on a free port.
    ///
    /// # Panics
    ///
    /// When the kernel keeps taking connections.
    pub fn new() -> Hole {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(0).expect("it listens");
        let address = listener.local_addr().expect("it is bound");
        let queued = (0..4).map(|_| {
            let s = socket();
            s.set_nonblocking(true).expect("a socket need not block");
            let _ = s.connect(&address);
            s
        });
        let queued = queued.collect();
        let port = address.as_socket().expect("an address of IP").port();
        until("the queue is full", || {
            let wait = std::time::Duration::from_millis(200);
            TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), wait).is_err().then_some(())
        });
        Hole { _listener: listener, _queued: queued, port }
    }
}

/// A client that went through a replica's handshake and asked for PSYNC; the reply is not read yet.
#[track_caller]
pub fn ask_for_sync(mut client: Client, capabilities: &str, psync: &str) -> Client {
    assert_eq!(client.say("PING"), Reply::Status("PONG".into()));
    client.say("REPLCONF listening-port 1");
    client.say(&format!("REPLCONF {capabilities}"));
    client.send(format!("{psync}\r\n").as_bytes()).expect("the primary reads");
    client
}
