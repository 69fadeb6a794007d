//! REPLICAOF, ROLE, REPLCONF, PSYNC, SYNC.

use super::primary::{self, Attach};
use crate::client::conn::Conn;
use crate::commands::{Call, Flow, Handled};
use sluice_engine::internals::{CmdError, resp::Reply};
use sluice_transport::primary::{ReplconfReply, ReplicaPeer};

/// REPLICAOF host port, REPLICAOF NO ONE; SLAVEOF likewise.
pub(crate) fn replicaof(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let server = conn.server.clone();
    if server.repl.failover.lock().is_under_way() {
        return Err(CmdError::text("ERR REPLICAOF not allowed while failing over."));
    }
    if args[1].eq_ignore_ascii_case(b"no") && args[2].eq_ignore_ascii_case(b"one") {
        if server.is_replica() {
            super::promote(&server);
            crate::log!(
                Notice,
                "MASTER MODE enabled (user request from 'id={} addr={}')",
                conn.client.id,
                conn.client.addr
            );
        }
        out.ok();
        return Ok(Flow::Next);
    }
    let port = sluice_engine::internals::num::parse_i64(args[2]).and_then(|p| u16::try_from(p).ok());
    let Some(port) = port else {
        return Err(CmdError::text("ERR Invalid master port"));
    };
    let host = String::from_utf8_lossy(args[1]).into_owned();
    let same = server.repl.link.lock().as_ref().is_some_and(|l| {
        let same = l.host == host && l.port == port;
        if same {
            l.shared.hasten();
        }
        same
    });
    if same {
        crate::log!(
            Notice,
            "REPLICAOF would result into synchronization with the master we are already connected with. No operation performed."
        );
        out.simple("OK Already connected to specified master");
        return Ok(Flow::Next);
    }
    super::follow(&server, host.clone(), port);
    crate::log!(
        Notice,
        "REPLICAOF {host}:{port} enabled (user request from 'id={} addr={}')",
        conn.client.id,
        conn.client.addr
    );
    out.ok();
    Ok(Flow::Next)
}

/// REPLCONF, before the connection becomes a replica's.
pub(crate) fn replconf(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let now = conn.server.clock();
    let id = conn.client.id;
    let peer = conn.peer.get_or_insert_with(|| ReplicaPeer::new(id, now));
    match peer.replconf(&args[1..], now) {
        ReplconfReply::Ok => out.ok(),
        ReplconfReply::Silent | ReplconfReply::Ack { .. } | ReplconfReply::GetAck => {}
        ReplconfReply::Error(text) => return Err(text.to_string().into()),
    }
    Ok(Flow::Next)
}

/// Our primary asks us to change roles with it.
fn take_over(conn: &Conn, replid: &[u8], offset: &[u8], forced: bool) -> Result<(), &'static str> {
    let server = &conn.server;
    crate::log!(Warning, "Failover request received for replid {}.", String::from_utf8_lossy(replid));
    if !server.is_replica() {
        return Err("ERR PSYNC FAILOVER can't be sent to a master.");
    }
    if !replid.eq_ignore_ascii_case(server.replid().as_bytes()) {
        return Err("ERR PSYNC FAILOVER replid must match my replid.");
    }
    // A primary that asks without FORCE has our acknowledgement of all it wrote, and we acknowledge what is applied.
    let wanted = sluice_engine::internals::num::parse_i64(offset)
        .map_or(0, |next| next.saturating_sub(1).max(0) as u64);
    let have = server.engine.log().end();
    if have < wanted && !forced {
        crate::log!(
            Warning,
            "Not taking over: this replica has the log up to {have}, and the primary's ends at {wanted}"
        );
        return Err("ERR PSYNC FAILOVER refused: this replica lacks writes of its master.");
    }
    super::promote(server);
    let client = crate::admin::describe_client(server, &conn.client);
    crate::log!(Notice, "MASTER MODE enabled (failover request from '{client}')");
    Ok(())
}

/// PSYNC replid offset `[FAILOVER]`
pub(crate) fn psync(conn: &mut Call<'_, '_>, args: &[&[u8]], _: &mut Reply<'_>) -> Handled {
    if let [_, replid, offset, word, rest @ ..] = args
        && word.eq_ignore_ascii_case(b"failover")
    {
        let forced = rest.first().is_some_and(|word| word.eq_ignore_ascii_case(b"force"));
        take_over(conn, replid, offset, forced).map_err(CmdError::text)?;
    }
    match primary::psync(conn, args[1], args[2]) {
        Ok(attach) => Ok(Flow::Replica(attach)),
        Err(text) => Err(text.to_string().into()),
    }
}

/// SYNC, of peers older than PSYNC.
pub(crate) fn sync(conn: &mut Call<'_, '_>, _: &[&[u8]], _: &mut Reply<'_>) -> Handled {
    match primary::refuse(conn) {
        Ok(()) => Ok(Flow::Replica(Attach::Sync)),
        Err(text) => Err(text.to_string().into()),
    }
}
