//! Listening sockets and the worker threads that serve connections.
//!
//! Each worker is a thread with a single-threaded runtime; accepted connections are dealt to the workers in turn and
//! stay there, so that a connection's commands never change threads.

use crate::client::conn;
use crate::client::registry::Socket as Connected;
use crate::client::stream::{Accepted, Address, Stream};
use crate::server::Server;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;

const DENIED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password \
is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to \
connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode \
sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same \
host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG \
REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis \
configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started \
the server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication \
password for the default user. NOTE: You only need to do one of the above things in order for the server to start \
accepting connections from the outside.\r\n";

/// Opens the sockets `bind` and `port` ask for. Addresses with a leading `-` may fail.
pub(crate) fn listen(bind: &[String], port: u16, backlog: i32) -> Result<Vec<std::net::TcpListener>, String> {
    let mut sockets = Vec::new();
    for name in bind {
        let (optional, host) = match name.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, name.as_str()),
        };
        let addresses: Vec<SocketAddr> = match host {
            "*" => vec![(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into()],
            "::*" => vec![(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into()],
            host => match (host, port).to_socket_addrs() {
                Ok(list) => list.collect(),
                Err(_) if optional => continue,
                Err(e) => {
                    return Err(format!("Could not create server TCP listening socket {host}:{port}: {e}"));
                }
            },
        };
        for address in addresses {
            match open(address, backlog) {
                Ok(s) => sockets.push(s),
                Err(_) if optional => {}
                Err(e) => {
                    let reason = crate::config::os_reason(&e);
                    return Err(format!(
                        "Could not create server TCP listening socket {host}:{port}: bind: {reason}"
                    ));
                }
            }
        }
    }
    Ok(sockets)
}

/// Opens the socket of `unixsocket`; a file left behind by a server that was killed is replaced.
pub(crate) fn listen_unix(path: &str, mode: u32) -> Result<std::os::unix::net::UnixListener, String> {
    use std::os::unix::fs::PermissionsExt;
    let fail = |e: io::Error| format!("Failed opening Unix socket: bind: {}", crate::config::os_reason(&e));
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(fail)?;
    if mode != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fail)?;
    }
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(listener)
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A connection on its way to a worker, and the address it came from.
pub(crate) type Incoming = (Accepted, Address);

/// Serves what arrives on `incoming` until the server goes down.
pub(crate) async fn worker(server: Arc<Server>, mut incoming: mpsc::UnboundedReceiver<Incoming>) {
    let tasks = tokio::task::LocalSet::new();
    tasks
        .run_until(async move {
            while let Some((accepted, addr)) = incoming.recv().await {
                let Ok(stream) = Stream::adopt(accepted) else { continue };
                let local = match &stream {
                    Stream::Tcp(stream) => stream.local_addr().ok().map(Address::Ip),
                    Stream::Unix(_) => None,
                };
                let stream = Arc::new(stream);
                let laddr = local.unwrap_or_else(|| addr.clone());
                let client = server.clients.register(Connected::Accepted(stream.clone()), addr, laddr);
                tokio::task::spawn_local(conn::serve(server.clone(), stream, client));
            }
        })
        .await;
}

/// Deals connections to the workers in turn.
struct Dealer {
    workers: Vec<mpsc::UnboundedSender<Incoming>>,
    turn: usize,
}

impl Dealer {
    fn deal(&mut self, accepted: Accepted, addr: Address) {
        self.turn += 1;
        let _ = self.workers[self.turn % self.workers.len()].send((accepted, addr));
    }
}

/// Out of descriptors, most likely: what is served now must end first.
async fn not_accepted(e: io::Error) {
    crate::log!(Warning, "Accepting client connection: {e}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Accepts connections of one socket.
pub(crate) async fn accept(
    server: Arc<Server>,
    listener: std::net::TcpListener,
    workers: Vec<mpsc::UnboundedSender<Incoming>>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut dealer = Dealer { workers, turn: 0 };
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                if let Some(stream) = admit(&server, stream, addr) {
                    dealer.deal(Accepted::Tcp(stream), Address::Ip(addr));
                }
            }
            Err(e) => not_accepted(e).await,
        }
    }
}

/// Accepts connections of the Unix socket, whose path is their address.
pub(crate) async fn accept_unix(
    server: Arc<Server>,
    listener: std::os::unix::net::UnixListener,
    workers: Vec<mpsc::UnboundedSender<Incoming>>,
) {
    let Ok(listener) = UnixListener::from_std(listener) else { return };
    let path: Arc<str> = server.config.load().unixsocket.as_str().into();
    let mut dealer = Dealer { workers, turn: 0 };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if has_room(&server, |text| stream.try_write(text))
                    && let Ok(stream) = stream.into_std()
                {
                    dealer.deal(Accepted::Unix(stream), Address::Unix(path.clone()));
                }
            }
            Err(e) => not_accepted(e).await,
        }
    }
}

/// Counts a connection, and refuses one too many.
fn has_room(server: &Server, tell: impl FnOnce(&[u8]) -> io::Result<usize>) -> bool {
    server.stats.connections_received.bump();
    if (server.clients.count() as u64) < server.config.load().maxclients {
        return true;
    }
    server.stats.rejected_connections.bump();
    let _ = tell(b"-ERR max number of clients reached\r\n");
    false
}

/// Checks limits and protected mode; prepares the socket.
fn admit(server: &Server, stream: TcpStream, addr: SocketAddr) -> Option<std::net::TcpStream> {
    let config = server.config.load();
    if !has_room(server, |text| stream.try_write(text)) {
        return None;
    }
    if config.protected_mode && config.requirepass.is_empty() && !is_loopback(addr.ip()) {
        server.stats.rejected_connections.bump();
        let _ = stream.try_write(DENIED);
        return None;
    }
    let _ = stream.set_nodelay(true);
    if config.tcp_keepalive > 0 {
        let every = Duration::from_secs(config.tcp_keepalive);
        let keepalive = TcpKeepalive::new()
            .with_time(every)
            .with_interval((every / 3).max(Duration::from_secs(1)))
            .with_retries(3);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    }
    stream.into_std().ok()
}

/// Is this address one of this machine's own loopback?
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}
