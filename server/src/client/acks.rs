//! WAIT and WAITAOF: until replicas, and append-only files, have what this client wrote.
//!
//! What counts is where the log ended after the client's own last write: who wrote nothing waits for nobody. WAITAOF is
//! as Redis 7.2 defines it.

use crate::aof::Mode;
use crate::client::waiting::Wait;
use crate::commands::{Call, Flow, Handled};
use crate::ground::gate;
use crate::repl::primary;
use crate::server::Server;
use sluice_engine::internals::{CmdError, num::parse_i64, resp::Reply};
use sluice_transport::primary::GETACK_RECORD;
use std::sync::atomic::Ordering;
use std::time::Duration;

const NO_FILE: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
const INTEGER: &str = "ERR value is not an integer or out of range";

/// What a client waits for.
pub(crate) struct Acks {
    /// Where the log ended after its last write.
    offset: u64,
    measure: Measure,
    timeout: Option<Duration>,
}

enum Measure {
    /// So many replicas have received it.
    Received(i64),
    /// This server's file has it, where wanted, and those of so many replicas.
    Durable { local: bool, replicas: usize },
}

/// WAIT numreplicas timeout
pub(crate) fn wait(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let arguments = wait_arguments(&conn.server, args);
    begin(conn, arguments, out)
}

/// WAITAOF numlocal numreplicas timeout
pub(crate) fn waitaof(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let arguments = waitaof_arguments(&conn.server, args);
    begin(conn, arguments, out)
}

type Arguments = Result<(Measure, u64), &'static str>;

fn wait_arguments(server: &Server, args: &[&[u8]]) -> Arguments {
    if server.is_replica() {
        return Err(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica \
             is configured to be writable (which is not the default) writes to replicas are just local and are not \
             propagated.",
        );
    }
    let wanted = parse_i64(args[1]).ok_or(INTEGER)?;
    let timeout = parse_i64(args[2]).ok_or("ERR timeout is not an integer or out of range")?;
    let timeout = u64::try_from(timeout).map_err(|_| "ERR timeout is negative")?;
    Ok((Measure::Received(wanted), timeout))
}

fn waitaof_arguments(server: &Server, args: &[&[u8]]) -> Arguments {
    let local = parse_i64(args[1]).ok_or(INTEGER)?;
    let local = match local {
        0 | 1 => local == 1,
        _ => return Err("ERR value is out of range, value must between 0 and 1"),
    };
    let replicas = parse_i64(args[2]).ok_or(INTEGER)?;
    let replicas = usize::try_from(replicas).map_err(|_| "ERR value is out of range, must be positive")?;
    let timeout = parse_i64(args[3]).ok_or("ERR timeout is not an integer or out of range")?;
    let timeout = u64::try_from(timeout).map_err(|_| "ERR timeout is negative")?;
    if server.is_replica() {
        return Err(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just \
             local and are not propagated.",
        );
    }
    if local && !server.config.load().appendonly {
        return Err(NO_FILE);
    }
    Ok((Measure::Durable { local, replicas }, timeout))
}

fn begin(conn: &mut Call<'_, '_>, arguments: Arguments, out: &mut Reply<'_>) -> Handled {
    let (measure, timeout) = arguments.map_err(CmdError::text)?;
    let server = conn.server.clone();
    let timeout = (timeout > 0).then(|| Duration::from_millis(timeout));
    let acks = Acks { offset: conn.last_write(), measure, timeout };
    let have = acks.have(&server);
    // Inside EXEC what is acknowledged by now is all there is to say.
    if acks.enough(have) || conn.in_block() {
        acks.reply(out.raw(), have);
        return Ok(Flow::Next);
    }
    // Ask for acknowledgements now rather than at the replicas' next second.
    // While writes are paused the log stands still: then they come by the second.
    if acks.asks_replicas(have) && server.gate.load(Ordering::Acquire) & gate::PAUSED == 0 {
        server.engine.append_own(GETACK_RECORD);
    }
    if matches!(acks.measure, Measure::Durable { .. }) {
        server.aof.wake();
    }
    Ok(Flow::Wait(Box::new(Wait::Acks(acks))))
}

/// Who has it: this server's file, and how many replicas.
type Have = (bool, usize);

impl Acks {
    fn have(&self, server: &Server) -> Have {
        match self.measure {
            Measure::Received(_) => (false, primary::acknowledged(server, self.offset)),
            Measure::Durable { .. } => {
                let local = server.aof.durable() >= Some(self.offset);
                (local, primary::acknowledged_aof(server, self.offset))
            }
        }
    }

    fn asks_replicas(&self, have: Have) -> bool {
        match self.measure {
            Measure::Received(wanted) => (have.1 as i64) < wanted,
            Measure::Durable { replicas, .. } => have.1 < replicas,
        }
    }

    fn enough(&self, have: Have) -> bool {
        let local = matches!(self.measure, Measure::Durable { local: true, .. });
        (have.0 || !local) && !self.asks_replicas(have)
    }

    /// May this be waited for no longer?
    fn refusal(&self, server: &Server) -> Option<&'static str> {
        let local = matches!(self.measure, Measure::Durable { local: true, .. });
        (local && server.aof.mode() == Mode::Off).then_some(NO_FILE)
    }

    fn reply(&self, out: &mut Vec<u8>, have: Have) {
        let mut reply = Reply::new(out, false);
        if let Measure::Durable { .. } = self.measure {
            reply.array(2);
            reply.int(have.0.into());
        }
        reply.int(have.1 as i64);
    }

    /// The reply as things stand.
    pub(super) fn reply_now(&self, server: &Server) -> Vec<u8> {
        let mut out = Vec::new();
        self.reply(&mut out, self.have(server));
        out
    }

    /// How long it may take; `None` is for ever.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Waits until there is enough, or until it cannot be waited for any more; the reply.
    pub(super) async fn reached(&self, server: &Server) -> Vec<u8> {
        loop {
            let (acked, synced) = (server.acks.notified(), server.aof.progressed.notified());
            tokio::pin!(acked, synced);
            acked.as_mut().enable();
            synced.as_mut().enable();
            let mut out = Vec::new();
            let have = self.have(server);
            if self.enough(have) {
                self.reply(&mut out, have);
                return out;
            }
            if let Some(text) = self.refusal(server) {
                Reply::new(&mut out, false).error(text);
                return out;
            }
            tokio::select! {
                () = acked => {}
                () = synced => {}
            }
        }
    }
}
