//! Writes that go on while something else happens.

use crate::client::Client;
use crate::data::writes;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// A client that writes in small pipelines, until told to stop.
pub struct Busy {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    /// Begins to write to `server`, all kinds of commands.
    pub fn on(server: &Server) -> Busy {
        let mut seed = 1000;
        Busy::with(server, move |client| {
            seed += 1;
            client.pipeline(&writes(seed, 50));
            50
        })
    }

    /// Begins to call `write`, which returns how much it wrote, with a connection to `server`.
    pub fn with(server: &Server, mut write: impl FnMut(&mut Client) -> u64 + Send + 'static) -> Busy {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), written.clone());
        let mut client = server.client();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                count.fetch_add(write(&mut client), Ordering::Relaxed);
            }
        });
        Busy { stop, written, thread: Some(thread) }
    }

    /// Commands written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until `more` commands are written from now on.
    #[track_caller]
    pub fn goes_on(&self, more: u64) {
        let goal = self.written() + more;
        crate::until("writes go on", || {
            let failed = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
            (failed || self.written() >= goal).then_some(())
        });
    }

    /// Stops writing and returns how many commands were written.
    ///
    /// # Panics
    ///
    /// When one of them failed.
    #[track_caller]
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it was not stopped yet");
        assert!(thread.join().is_ok(), "a write failed");
        self.written()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
