//! The child that a test kills. Where `rdb-key-save-delay` makes snapshots slow on purpose, a snapshot has a child process
//! which does nothing; to kill it makes the snapshot fail. So what tests do to a server that forks (Redis' own suite
//! kills the child that saves) can be done to one that does not, and what follows a failed snapshot is tested by it.

use crate::server::Server;
use parking_lot::Mutex;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

/// The stand-in of one snapshot; none unless it is slow on purpose.
pub(crate) struct StandIn(Mutex<Option<Child>>);

impl StandIn {
    /// None.
    pub(crate) fn none() -> StandIn {
        StandIn(Mutex::new(None))
    }

    /// A background job begins.
    pub(crate) fn begin(server: &Server) -> StandIn {
        server.stats.background_jobs.bump();
        if server.config.load().rdb_key_save_delay <= 0 {
            return StandIn::none();
        }
        // It reads from a pipe of ours, so it never outlives us.
        match Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn() {
            Ok(child) => StandIn(Mutex::new(Some(child))),
            Err(e) => {
                crate::log!(Warning, "rdb-key-save-delay: {e}");
                StandIn::none()
            }
        }
    }

    /// Whether there is one.
    pub(crate) fn is_there(&self) -> bool {
        self.0.lock().is_some()
    }

    /// What it was killed by, if it was.
    pub(crate) fn killed_by(&self) -> Option<i32> {
        let status = self.0.lock().as_mut()?.try_wait().ok()??;
        Some(status.signal().unwrap_or_default())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(child) = self.0.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
