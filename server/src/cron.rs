//! What happens by time: replication timers, save points, idle clients, signals, the end.

use crate::server::Server;
use crate::shutdown::Ending;
use crate::{persist, repl};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the timers are looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// Runs for as long as the server does.
pub(crate) async fn run(server: Arc<Server>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turn = 0u64;
    loop {
        tick.tick().await;
        turn += 1;
        crate::client::pause::cron(&server);
        server.stats.sample();
        server.memory.sample(crate::maxmemory::uncounted(&server.engine, &server.config.load()));
        repl::primary::cron(&server);
        {
            // A snapshot and a rewrite that are due together share a cut.
            let hold = crate::snapshot::hold(&server);
            crate::aof::cron(&server, &hold);
            persist::cron(&server);
        }
        if turn.is_multiple_of(10) {
            close_idle(&server);
            crate::client::outbox::cron(&server);
            server.migrate.close_old();
        }
    }
}

fn close_idle(server: &Server) {
    let timeout = server.config.load().timeout;
    if timeout == 0 {
        return;
    }
    use crate::client::registry::kind;
    for c in server.clients.all() {
        if !c.is(kind::REPLICA) && !c.is(kind::PRIMARY) && !c.is_blocked() && c.idle() > timeout {
            crate::log!(Verbose, "Closing idle client: id={} addr={}", c.id, c.addr);
            c.kill();
        }
    }
}

/// SIGTERM and SIGINT end the server as `shutdown-on-sigterm` and `shutdown-on-sigint` say.
pub(crate) async fn signals(server: Arc<Server>) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        crate::log!(Warning, "Can't handle signals; end the server with SHUTDOWN");
        return;
    };
    loop {
        let on = tokio::select! {
            _ = term.recv() => {
                crate::log!(Warning, "Received SIGTERM scheduling shutdown...");
                server.config.load().shutdown_on_sigterm
            }
            _ = int.recv() => {
                crate::log!(Warning, "Received SIGINT scheduling shutdown...");
                server.config.load().shutdown_on_sigint
            }
        };
        let ending = Ending {
            save: if on.save {
                Some(true)
            } else if on.nosave {
                Some(false)
            } else {
                None
            },
            now: on.now,
            force: on.force,
        };
        // Another signal is heard while this shutdown waits.
        let owner = server.clone();
        tokio::spawn(async move { crate::shutdown::shutdown(&owner, ending).await });
    }
}
