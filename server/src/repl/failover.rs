//! FAILOVER: this primary and one of its replicas change roles, without a write lost.
//!
//! ```text
//!  no-failover --FAILOVER--> waiting-for-sync --replica has everything--> failover-in-progress --PSYNC ok--> no-failover
//!       ^                          | time-out, ABORT                             | refused, ABORT
//!       +--------------------------+---------------------------------------------+
//! ```
//!
//! Writes are paused from the first step to the last, so the log stands still until the replica has all of it: what was
//! under way when the pause began is complete before the log's end is first looked at. Then we follow the replica with
//! `PSYNC <id> <offset> FAILOVER`, which promotes it. A replica that does not have all of the log up to that offset refuses,
//! unless we add `FORCE`: the operator said so, and the time was over.

use super::primary::Replica;
use super::promote;
use super::role::follow_if;
use crate::client::pause::{self, Mode, Reason};
use crate::commands::{Call, Flow, Handled};
use crate::server::Server;
use sluice_engine::internals::{num::parse_i64, resp::Reply};
use sluice_transport::primary::PeerState;
use std::sync::Arc;

/// Where a failover stands.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Step {
    #[default]
    None,
    WaitForSync,
    InProgress,
}

/// The failover under way, if one is.
#[derive(Default, Debug)]
pub(crate) struct Failover {
    step: Step,
    /// The replica asked for, or the one chosen.
    target: Option<(String, u16)>,
    /// When it is over, on the server's clock.
    deadline: Option<u64>,
    /// Go on at the deadline although the replica lags.
    force: bool,
    /// That is how it went on.
    forced: bool,
}

impl Failover {
    /// INFO's word for it.
    pub(crate) fn word(&self) -> &'static str {
        match self.step {
            Step::None => "no-failover",
            Step::WaitForSync => "waiting-for-sync",
            Step::InProgress => "failover-in-progress",
        }
    }

    /// Is one under way?
    pub(crate) fn is_under_way(&self) -> bool {
        self.step != Step::None
    }

    /// Do we follow the replica already, which is to be told so?
    pub(crate) fn is_in_progress(&self) -> bool {
        self.step == Step::InProgress
    }

    /// The same, and whether the replica is to take over although it lacks some of the log.
    pub(crate) fn handover(&self) -> (bool, bool) {
        (self.is_in_progress(), self.forced)
    }
}

/// `FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]`.
pub(crate) fn failover(conn: &mut Call<'_, '_>, args: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let server = conn.server.clone();
    let outcome = match args {
        [_, word] if word.eq_ignore_ascii_case(b"abort") => {
            if server.repl.failover.lock().is_under_way() {
                abort(&server, "Failover manually aborted");
                Ok(())
            } else {
                Err("ERR No failover in progress.".to_owned())
            }
        }
        _ => request(&server, &args[1..]),
    };
    outcome?;
    out.ok();
    Ok(Flow::Next)
}

fn request(server: &Arc<Server>, mut words: &[&[u8]]) -> Result<(), String> {
    let (mut target, mut timeout, mut force) = (None, None, false);
    while let Some((word, rest)) = words.split_first() {
        words = match (word.to_ascii_lowercase().as_slice(), rest) {
            (b"timeout", [ms, rest @ ..]) if timeout.is_none() => {
                let ms = parse_i64(ms).ok_or("ERR value is not an integer or out of range")?;
                timeout = Some(
                    u64::try_from(ms)
                        .ok()
                        .filter(|ms| *ms > 0)
                        .ok_or("ERR FAILOVER timeout must be greater than 0")?,
                );
                rest
            }
            (b"to", [host, port, rest @ ..]) if target.is_none() => {
                let port = parse_i64(port).ok_or("ERR value is not an integer or out of range")?;
                target = Some((String::from_utf8_lossy(host).into_owned(), u16::try_from(port).unwrap_or(0)));
                rest
            }
            (b"force", rest) if !force => {
                force = true;
                rest
            }
            _ => return Err("ERR syntax error".into()),
        };
    }
    let mut failover = server.repl.failover.lock();
    if failover.is_under_way() {
        return Err("ERR FAILOVER already in progress.".into());
    }
    if server.is_replica() {
        return Err("ERR FAILOVER is not valid when server is a replica.".into());
    }
    if force && (timeout.is_none() || target.is_none()) {
        return Err(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP to be specified."
                .into(),
        );
    }
    let replicas = server.repl.replicas.lock();
    if replicas.map.is_empty() {
        return Err("ERR FAILOVER requires connected replicas.".into());
    }
    if let Some(target) = &target {
        let replica = replicas.map.values().find(|r| is_at(r, target));
        let replica = replica.ok_or("ERR FAILOVER target HOST and PORT is not a replica.")?;
        if replica.peer.state() != PeerState::Online {
            return Err("ERR FAILOVER target replica is not online.".into());
        }
    }
    drop(replicas);
    match &target {
        Some((host, port)) => crate::log!(Notice, "FAILOVER requested to {host}:{port}."),
        None => crate::log!(Notice, "FAILOVER requested to any replica."),
    }
    let deadline = timeout.map(|ms| server.clock().saturating_add(ms));
    // Before anybody can take the step that follows.
    pause::pause(server, Reason::Failover, Mode::Write, u64::MAX);
    *failover = Failover { step: Step::WaitForSync, target, deadline, force, forced: false };
    Ok(())
}

fn is_at(replica: &Replica, (host, port): &(String, u16)) -> bool {
    replica.ip == *host && replica.peer.listening_port == *port
}

/// Every 100 ms: goes on when a replica has everything, or when time is up.
pub(crate) fn cron(server: &Arc<Server>) {
    let mut failover = server.repl.failover.lock();
    if failover.step != Step::WaitForSync {
        return;
    }
    let end = server.engine.log().end();
    let late = failover.deadline.is_some_and(|at| server.clock() >= at);
    let chosen = match (&failover.target, late) {
        (Some((host, port)), true) if failover.force => {
            crate::log!(Notice, "Failover to {host}:{port} time out exceeded, failing over.");
            Some((host.clone(), *port))
        }
        (_, true) => {
            drop(failover);
            return abort(server, "Replica never caught up before timeout");
        }
        (target, false) => {
            let replicas = server.repl.replicas.lock();
            let synced = |r: &&Replica| r.peer.state() == PeerState::Online && r.peer.ack_offset() == end;
            let wanted = |r: &&Replica| target.as_ref().is_none_or(|t| is_at(r, t));
            let found = replicas.map.values().filter(synced).find(wanted);
            found.map(|r| (r.ip.clone(), r.peer.listening_port)).inspect(|(host, port)| {
                crate::log!(Notice, "Failover target {host}:{port} is synced, failing over.");
            })
        }
    };
    let Some((host, port)) = chosen else { return };
    failover.step = Step::InProgress;
    failover.forced = late;
    failover.target = Some((host.clone(), port));
    drop(failover);
    // It may be aborted before.
    follow_if(server, host, port, || server.repl.failover.lock().is_in_progress());
}

/// The replica answered our PSYNC: it is the primary now.
pub(crate) fn succeeded(server: &Server) {
    if server.repl.failover.lock().is_in_progress() {
        clear(server);
    }
}

/// Gives the failover up; where we follow the replica already, we become a primary again.
pub(crate) fn abort(server: &Arc<Server>, why: &str) {
    let failover = server.repl.failover.lock();
    if !failover.is_under_way() {
        return;
    }
    match &failover.target {
        Some((host, port)) => crate::log!(Notice, "FAILOVER to {host}:{port} aborted: {why}"),
        None => crate::log!(Notice, "FAILOVER to any replica aborted: {why}"),
    }
    let following = failover.is_in_progress();
    drop(failover);
    if following {
        promote(server);
    }
    clear(server);
}

fn clear(server: &Server) {
    *server.repl.failover.lock() = Failover::default();
    pause::resume(server, Reason::Failover);
}
