//! Which role this server has, and who may act in it.
//!
//! The role is a state of its own: from `REPLICAOF host port` to `REPLICAOF NO ONE` this is a replica, whatever becomes of
//! the link meanwhile. What the link's thread does to data, log, history and gates it does in a [`Turn`], which it gets
//! only while it is the present link. A change of role takes the same lock: so it waits for one command of the primary's
//! at most, and never for a thread that waits for network, names or disk. Nobody waits for a superseded thread: it gets
//! no further turn, and ends when it comes to look.
//!
//! What a primary puts into its stream by itself (PING, GETACK) goes through `Engine::append_own`, other things that only a
//! primary does through [`Roles::as_primary`](crate::ground::roles::Roles::as_primary): a replica's log is its primary's, byte
//! for byte.

use super::link::LinkHandle;
use crate::config::Config;
use crate::ground::gate;
use crate::ground::roles::Turn;
use crate::server::Server;
use std::sync::Arc;

/// Makes this server a replica of `host:port`.
pub(crate) fn follow(server: &Arc<Server>, host: String, port: u16) {
    // The present link leaves off after the command it is at.
    hurry(server);
    let turn = server.roles.change();
    become_replica(server, &turn, host, port);
    drop(turn);
    note_in_config(server);
}

/// The same for a primary, if that is wanted still when nothing else may change the role any more.
pub(super) fn follow_if(server: &Arc<Server>, host: String, port: u16, wanted: impl FnOnce() -> bool) {
    let turn = server.roles.change();
    if wanted() {
        become_replica(server, &turn, host, port);
        drop(turn);
        note_in_config(server);
    }
}

/// Has CONFIG GET and REWRITE say whom this server follows. Not in a turn: hooks of the configuration ask for one.
fn note_in_config(server: &Server) {
    server.config.edit(|c| {
        c.replicaof.0 = server.repl.link.lock().as_ref().map(|link| (link.host.clone(), link.port));
    });
}

fn become_replica(server: &Arc<Server>, turn: &Turn<'_>, host: String, port: u16) {
    act_as_replica(server, turn);
    server.history.lock().become_replica();
    crate::logging::set_role(crate::logging::Role::Replica);
    // Our own replicas stay: the new primary may go on with the history we share with them. They are disconnected
    // when it turns out to have another, so that they ask again.
    retire(server, turn, Some((host, port)));
    for client in server.clients.all() {
        client.unblock(crate::client::waiting::Unblock::Role);
    }
    update_gates(server, turn);
}

/// From here on what clients write is in no log, and is refused where the replica is read-only. Where a server is to start as a
/// replica this comes before it lets anybody write.
fn act_as_replica(server: &Server, turn: &Turn<'_>) {
    server.roles.set_replica(turn, true);
    update_gates(server, turn);
    server.engine.set_replica(true);
}

/// A server that is configured to follow a primary is a replica before it serves anybody.
pub(crate) fn start_as_replica(server: &Server) {
    let turn = server.roles.change();
    act_as_replica(server, &turn);
}

/// Makes this server a primary.
pub(crate) fn promote(server: &Arc<Server>) {
    if !server.roles.is_replica() {
        return;
    }
    hurry(server);
    let turn = server.roles.change();
    if !server.roles.is_replica() {
        return;
    }
    retire(server, &turn, None);
    // Nothing appends to the log now: the link gets no turn, and clients are still refused, or written to no log.
    server.engine.log().forget_selection();
    server.history.lock().promote(server.engine.log().end());
    // From here on expiries are the primary's to log, whoever wrote the key.
    server.engine.forget_own_expiries();
    server.engine.set_replica(false);
    server.roles.set_replica(&turn, false);
    crate::logging::set_role(crate::logging::Role::Primary);
    server.repl.disconnect_replicas();
    update_gates(server, &turn);
    crate::persist::dirty_from_now(server);
    drop(turn);
    note_in_config(server);
    // A full sync that was not completed had ended the append-only file.
    crate::aof::resume(server);
}

/// Tells the present link to leave off.
fn hurry(server: &Server) {
    if let Some(link) = &*server.repl.link.lock() {
        link.shared.supersede();
    }
}

/// Replaces the link. The one there was has no turn any more, and what it held open for itself is closed.
fn retire(server: &Arc<Server>, _: &Turn<'_>, next: Option<(String, u16)>) {
    let mut link = server.repl.link.lock();
    if let Some(old) = link.take() {
        old.shared.supersede();
        server.set_gate(gate::LOADING | gate::ASYNC_LOADING, false);
    }
    *link = next.map(|(host, port)| LinkHandle::start(server, host, port));
}

/// Recomputes the gates that depend on role and link.
fn update_gates(server: &Server, turn: &Turn<'_>) {
    set_gates(server, turn, &server.config.load());
}

/// The same, by a configuration that is about to hold.
pub(crate) fn update_gates_by(server: &Server, config: &Config) {
    let turn = server.roles.change();
    set_gates(server, &turn, config);
}

fn set_gates(server: &Server, _: &Turn<'_>, config: &Config) {
    let replica = server.roles.is_replica();
    let up = server.repl.link.lock().as_ref().is_some_and(|l| l.shared.is_up());
    server.engine.set_read_only_replica(config.replica_read_only);
    server.set_gate(gate::READONLY, replica && config.replica_read_only);
    server.set_gate(gate::STALE, replica && !up && !config.replica_serve_stale_data);
}

/// The gate of stale data, as the link knows it.
pub(super) fn link_gate(server: &Server, _: &Turn<'_>, up: bool) {
    server.set_gate(gate::STALE, !up && !server.config.load().replica_serve_stale_data);
}
