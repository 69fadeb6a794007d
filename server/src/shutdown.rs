//! The end of the server: SHUTDOWN and the signals.
//!
//! There is one shutdown at a time; who asks while one is under way shares its outcome. It begins by waiting, with
//! writes paused, until every replica has acknowledged all of the log, for `shutdown-timeout` at most. Then what is to
//! be saved is saved, and writes stay paused to the end: what a client was told is in the files. If that fails, or SHUTDOWN
//! ABORT comes before it is done, everything goes on as before.

use crate::client::pause::{self, Mode, Reason};
use crate::server::Server;
use crate::{persist, repl};
use parking_lot::Mutex;
use sluice_transport::primary::GETACK_RECORD;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// What those who asked are told when the server goes on.
const FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";
/// A replica that went away is noticed within this time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How the server is to end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ending {
    /// Save first: `None` saves where save points are configured.
    pub(crate) save: Option<bool>,
    /// Do not wait for replicas to catch up.
    pub(crate) now: bool,
    /// Leave even if saving fails.
    pub(crate) force: bool,
}

/// The shutdown under way, if there is one.
#[derive(Default)]
pub(crate) struct Shutdown {
    state: Mutex<Option<Underway>>,
    changed: Notify,
}

#[derive(Default)]
struct Underway {
    /// On the server's clock; `None` unless it waits for replicas.
    deadline: Option<u64>,
    aborted: bool,
    /// All is saved: it cannot be given up any more.
    leaving: bool,
    /// Somebody asked not to wait any longer.
    now: bool,
    others: Vec<oneshot::Sender<()>>,
}

impl Shutdown {
    /// Milliseconds that replicas may still take, while they are waited for.
    pub(crate) fn left(&self, now: u64) -> Option<u64> {
        self.state.lock().as_ref()?.deadline.map(|at| at.saturating_sub(now))
    }

    /// SHUTDOWN ABORT; false where there is nothing to abort.
    pub(crate) fn abort(&self) -> bool {
        let mut state = self.state.lock();
        let Some(underway) = state.as_mut().filter(|underway| !underway.leaving) else { return false };
        underway.aborted = true;
        self.changed.notify_waiters();
        true
    }

    /// Was the one under way given up?
    fn is_aborted(&self) -> bool {
        self.state.lock().as_ref().is_some_and(|underway| underway.aborted)
    }

    /// The last moment at which it can be given up: false where it was.
    fn leave(&self) -> bool {
        let mut state = self.state.lock();
        let Some(underway) = state.as_mut().filter(|underway| !underway.aborted) else { return false };
        underway.leaving = true;
        true
    }
}

/// Why the server goes on.
enum GoesOn {
    Aborted,
    Failed,
}

/// Ends the server. Returns only if it goes on: with the error to report.
pub(crate) async fn shutdown(server: &Arc<Server>, ending: Ending) -> String {
    let shared = {
        let mut state = server.ending.state.lock();
        match state.as_mut() {
            Some(underway) => {
                let (to, from) = oneshot::channel();
                underway.others.push(to);
                underway.now |= ending.now;
                server.ending.changed.notify_waiters();
                Some(from)
            }
            None => {
                *state = Some(Underway::default());
                None
            }
        }
    };
    if let Some(outcome) = shared {
        let _ = outcome.await;
        return FAILED.into();
    }
    crate::log!(Warning, "User requested shutdown...");
    server.repl.open.store(false, Ordering::Release);
    let outcome = match wait_for_replicas(server, ending).await {
        Ok(()) => finish(server, ending).await,
        Err(()) => Err(GoesOn::Aborted),
    };
    match outcome {
        Ok(()) => {
            // The connections of those who asked end with the server, and so do those whose writes wait.
            server.shutdown.notify_one();
            return std::future::pending().await;
        }
        Err(GoesOn::Aborted) => crate::log!(Notice, "Shutdown manually aborted."),
        Err(GoesOn::Failed) => crate::log!(
            Warning,
            "Errors trying to shut down the server. Check the logs for more information."
        ),
    }
    pause::resume(server, Reason::Shutdown);
    server.repl.open.store(true, Ordering::Release);
    let others = server.ending.state.lock().take().map(|u| u.others).unwrap_or_default();
    for to in others {
        let _ = to.send(());
    }
    FAILED.into()
}

/// Waits until all replicas have everything, or the time is up; an error means that the shutdown was aborted.
async fn wait_for_replicas(server: &Arc<Server>, ending: Ending) -> Result<(), ()> {
    let timeout = server.config.load().shutdown_timeout * 1000;
    let behind = || repl::primary::lagging(server, server.engine.log().end());
    if ending.now || timeout == 0 || server.is_replica() || behind() == 0 {
        return Ok(());
    }
    let deadline = server.clock().saturating_add(timeout);
    if let Some(underway) = server.ending.state.lock().as_mut() {
        underway.deadline = Some(deadline);
    }
    // What is written from here on would have to be waited for as well.
    pause::pause(server, Reason::Shutdown, Mode::Write, u64::MAX);
    server.engine.append_own(GETACK_RECORD);
    crate::log!(Notice, "Waiting for replicas before shutting down.");
    let outcome = loop {
        let (acked, changed) = (server.acks.notified(), server.ending.changed.notified());
        tokio::pin!(acked, changed);
        acked.as_mut().enable();
        changed.as_mut().enable();
        let (aborted, now) = server.ending.state.lock().as_ref().map_or((true, true), |u| (u.aborted, u.now));
        if aborted {
            break Err(());
        }
        let left = deadline.saturating_sub(server.clock());
        if now || left == 0 || behind() == 0 {
            break Ok(());
        }
        tokio::select! {
            () = acked => {}
            () = changed => {}
            () = tokio::time::sleep(LOOK_AGAIN.min(Duration::from_millis(left))) => {}
        }
    };
    if let Some(underway) = server.ending.state.lock().as_mut() {
        underway.deadline = None;
    }
    outcome
}

/// Saves what is to be saved; an error, said in the log, means that the server must go on.
async fn finish(server: &Arc<Server>, ending: Ending) -> Result<(), GoesOn> {
    let config = server.config.load();
    // What is written from here on would be in no file.
    pause::pause(server, Reason::Shutdown, Mode::Write, u64::MAX);
    repl::primary::report_lag(server);
    if server.aof.mode() != crate::aof::Mode::Off && !server.is_loading() {
        if server.aof.mode() == crate::aof::Mode::Waiting {
            // Nothing of the data is durable before its first base is.
            if !ending.force {
                crate::log!(Warning, "Writing initial AOF, can't exit.");
                return Err(GoesOn::Failed);
            }
            crate::log!(Warning, "Writing initial AOF. Exit anyway.");
        }
        crate::log!(Notice, "Calling fsync() on the AOF file.");
        flush_aof(server).await;
    }
    let save = ending.save.unwrap_or(!config.save.0.is_empty());
    if save && !server.is_loading() {
        crate::log!(Notice, "Saving the final RDB snapshot before exiting.");
        if persist::give_up_bgsave(server) {
            crate::log!(Warning, "There is a child saving an .rdb. Killing it!");
        }
        let owner = server.clone();
        let (to, from) = oneshot::channel();
        std::thread::spawn(move || {
            let ending = owner.clone();
            to.send(persist::save_unless(&owner, move || ending.ending.is_aborted()))
        });
        let saved = from.await.unwrap_or_else(|_| Err("the saving thread panicked".into()));
        if let Err(e) = saved {
            if server.ending.is_aborted() {
                return Err(GoesOn::Aborted);
            }
            if !ending.force {
                crate::log!(Warning, "Error trying to save the DB, can't exit: {e}");
                return Err(GoesOn::Failed);
            }
            crate::log!(Warning, "Error trying to save the DB. Exit anyway: {e}");
        }
    }
    if !server.ending.leave() {
        return Err(GoesOn::Aborted);
    }
    crate::supervised::stopping();
    if !config.pidfile.is_empty() {
        let _ = std::fs::remove_file(&config.pidfile);
    }
    if !config.unixsocket.is_empty() {
        let _ = std::fs::remove_file(&config.unixsocket);
    }
    // On a replica the primary's stream went on meanwhile: the last thing, so that little comes after it.
    flush_aof(server).await;
    Ok(())
}

async fn flush_aof(server: &Arc<Server>) {
    if server.aof.mode() == crate::aof::Mode::Off {
        return;
    }
    let owner = server.clone();
    let (to, from) = oneshot::channel();
    std::thread::spawn(move || to.send(crate::aof::flush(&owner, true)));
    let _ = from.await;
}
