//! What happens by time: expiry, replication timers, save points, idle clients, signals, the end.

use crate::state::{Ending, Server};
use crate::{persist, repl};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the timers are looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// Time the active expiry may take each period.
const EXPIRE_BUDGET: Duration = Duration::from_millis(2);

/// Runs for as long as the server does.
pub(crate) async fn run(server: Arc<Server>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turn = 0u64;
    loop {
        tick.tick().await;
        turn += 1;
        crate::pause::cron(&server);
        let paused = server.gate.load(Ordering::Acquire) & crate::state::gate::PAUSED != 0;
        if server.active_expire.load(Ordering::Relaxed) && !server.is_loading() && !paused {
            server.engine.expire_cycle(EXPIRE_BUDGET);
            server.engine.expire_own(EXPIRE_BUDGET);
        }
        server.stats.sample();
        crate::admin::info::sample_peak();
        let config = server.config.load();
        if config.maxmemory > 0 {
            server.update_memory_gate(&config);
        }
        repl::primary::cron(&server);
        persist::cron(&server);
        crate::aof::cron(&server);
        if turn.is_multiple_of(10) {
            close_idle(&server);
            server.migrate.close_old();
        }
    }
}

fn close_idle(server: &Server) {
    let timeout = server.config.load().timeout;
    if timeout == 0 {
        return;
    }
    use crate::clients::kind;
    for c in server.clients.all() {
        if !c.is(kind::REPLICA) && !c.is(kind::PRIMARY) && !c.is(kind::BLOCKED) && c.idle() > timeout {
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
        if let Err(e) = shutdown(&server, ending).await {
            crate::log!(Warning, "{e}");
        }
    }
}

/// Waits for replicas, saves, and lets the server end; an error means that it goes on.
pub(crate) async fn shutdown(server: &Arc<Server>, ending: Ending) -> Result<(), String> {
    crate::log!(Warning, "User requested shutdown...");
    let config = server.config.load();
    server.repl.open.store(false, Ordering::Release);
    if !ending.now && config.shutdown_timeout > 0 && !repl::is_replica(server) {
        let offset = server.engine.log().end();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(config.shutdown_timeout);
        server.abort_shutdown.store(false, Ordering::Release);
        while repl::primary::lagging(server, offset) > 0 && tokio::time::Instant::now() < deadline {
            if server.abort_shutdown.load(Ordering::Acquire) {
                server.repl.open.store(true, Ordering::Release);
                crate::log!(Notice, "Shutdown manually aborted.");
                return Err("ERR Errors trying to SHUTDOWN. Check logs.".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.abort_shutdown.store(true, Ordering::Release);
    }
    if server.aof.mode() != crate::aof::Mode::Off && !server.is_loading() {
        if server.aof.mode() == crate::aof::Mode::Waiting && !ending.force && ending.save != Some(false) {
            // Nothing of the data is durable before its first base is.
            server.repl.open.store(true, Ordering::Release);
            crate::log!(Warning, "Writing initial AOF, can't exit.");
            return Err("ERR Errors trying to SHUTDOWN. Check logs.".into());
        }
        crate::log!(Notice, "Calling fsync() on the AOF file.");
        flush_aof(server).await;
    }
    let save = ending.save.unwrap_or(!config.save.0.is_empty());
    if save && !server.is_loading() {
        crate::log!(Notice, "Saving the final RDB snapshot before exiting.");
        let owner = server.clone();
        let (to, from) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || to.send(persist::save_now(&owner)));
        let saved = from.await.unwrap_or_else(|_| Err("the saving thread panicked".into()));
        if let Err(e) = saved
            && !ending.force
        {
            server.repl.open.store(true, Ordering::Release);
            crate::log!(Warning, "Error trying to save the DB, can't exit.");
            return Err(format!("ERR Errors trying to SHUTDOWN. Check logs. ({e})"));
        }
    }
    if !config.pidfile.is_empty() {
        let _ = std::fs::remove_file(&config.pidfile);
    }
    if !config.unixsocket.is_empty() {
        let _ = std::fs::remove_file(&config.unixsocket);
    }
    // What was written while the snapshot was: the last thing, so that little comes after it.
    flush_aof(server).await;
    server.shutdown.notify_one();
    Ok(())
}

async fn flush_aof(server: &Arc<Server>) {
    if server.aof.mode() == crate::aof::Mode::Off {
        return;
    }
    let owner = server.clone();
    let (to, from) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || to.send(crate::aof::flush(&owner, true)));
    let _ = from.await;
}
