//! WAITAOF numlocal numreplicas timeout, as Redis 7.2 defines it: until this server's append-only file, and those of
//! so many replicas, are durable up to what the client wrote.

use crate::client::conn::Conn;
use crate::commands::Flow;
use crate::repl::{is_replica, primary};
use crate::state::Server;
use sluice_engine::num::parse_i64;
use sluice_engine::resp::Reply;
use std::sync::Arc;
use std::time::Duration;

/// WAITAOF.
pub(crate) fn waitaof(conn: &mut Conn, args: &[&[u8]], out: &mut Vec<u8>) -> Flow {
    let server = conn.server.clone();
    let (local, replicas, timeout) = match arguments(&server, args) {
        Ok(wanted) => wanted,
        Err(text) => {
            conn.error(out, text);
            return Flow::Next;
        }
    };
    let offset = server.engine.log().end();
    let have = reached(&server, offset);
    if have.0 >= local && have.1 >= replicas {
        reply(out, have);
        return Flow::Next;
    }
    if replicas > have.1 {
        // Ask for acknowledgements now rather than at the replicas' next second.
        server.engine.append_own(crate::repl::commands::GETACK);
    }
    server.aof.wake();
    let (to, from) = tokio::sync::oneshot::channel();
    tokio::task::spawn_local(async move {
        let have = wait(&server, offset, local, replicas, timeout).await;
        let mut out = Vec::new();
        reply(&mut out, have);
        let _ = to.send(out);
    });
    Flow::Later(from)
}

fn arguments(server: &Server, args: &[&[u8]]) -> Result<(usize, usize, u64), &'static str> {
    const INTEGER: &str = "ERR value is not an integer or out of range";
    let local = parse_i64(args[1]).ok_or(INTEGER)?;
    let local = usize::try_from(local)
        .ok()
        .filter(|n| *n <= 1)
        .ok_or("ERR value is out of range, value must between 0 and 1")?;
    let replicas = parse_i64(args[2]).ok_or(INTEGER)?;
    let replicas = usize::try_from(replicas).map_err(|_| "ERR value is out of range, must be positive")?;
    let timeout = parse_i64(args[3]).ok_or("ERR timeout is not an integer or out of range")?;
    let timeout = u64::try_from(timeout).map_err(|_| "ERR timeout is negative")?;
    if is_replica(server) {
        return Err(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just \
             local and are not propagated.",
        );
    }
    if local > 0 && !server.config.load().appendonly {
        return Err("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
    }
    Ok((local, replicas, timeout))
}

/// Whether this server's file, and those of how many replicas, are durable up to `offset`.
fn reached(server: &Server, offset: u64) -> (usize, usize) {
    let local = server.aof.durable() >= Some(offset);
    (usize::from(local), primary::acknowledged_aof(server, offset))
}

fn reply(out: &mut Vec<u8>, have: (usize, usize)) {
    let mut reply = Reply::new(out, false);
    reply.array(2);
    reply.int(have.0 as i64);
    reply.int(have.1 as i64);
}

async fn wait(
    server: &Arc<Server>,
    offset: u64,
    local: usize,
    replicas: usize,
    timeout_ms: u64,
) -> (usize, usize) {
    let forever = std::future::pending::<()>();
    let deadline = async {
        match timeout_ms {
            0 => forever.await,
            ms => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    };
    tokio::pin!(deadline);
    loop {
        let acked = server.acks.notified();
        let synced = server.aof.progressed.notified();
        tokio::pin!(acked, synced);
        acked.as_mut().enable();
        synced.as_mut().enable();
        let have = reached(server, offset);
        if have.0 >= local && have.1 >= replicas {
            return have;
        }
        tokio::select! {
            () = acked => {}
            () = synced => {}
            () = &mut deadline => return reached(server, offset),
        }
    }
}
