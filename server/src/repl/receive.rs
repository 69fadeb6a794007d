//! Receiving a full sync: its payload is loaded straight from the socket, or goes through a file.

use super::LoadWay;
use super::attempt::{Attempt, Event, READ_BYTES, primary_session};
use super::pace::Pace;
use super::prefetch::Prefetch;
use crate::config::os_reason;
use crate::state::gate;
use sluice_engine::Engine;
use sluice_persistence::rdb::source::Source;
use sluice_persistence::rdb::{RdbDecoder, Step, with_crew};
use sluice_persistence::storage::AtomicFile;
use sluice_persistence::{LoadOptions, load};
use sluice_transport::replica::PayloadKind;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Longest sleep in one piece while a load is held back.
const NAP: Duration = Duration::from_millis(10);
/// Keys between two looks at whether a load is to be held back.
const PACE_CHECK: u64 = 16;

impl Attempt<'_> {
    pub(super) fn receive(&mut self, kind: PayloadKind) -> Result<(), String> {
        let total = match kind {
            PayloadKind::Sized(n) => n as i64,
            _ => -1,
        };
        self.shared.sync_total.store(total, Ordering::Relaxed);
        self.shared.sync_read.store(0, Ordering::Relaxed);
        self.prefetch = Prefetch::start(&self.stream, READ_BYTES);
        let way = super::loads_from_socket(self.server);
        let to = if way.is_some() { "to parser" } else { "to disk" };
        match kind {
            PayloadKind::Sized(n) => {
                crate::log!(Notice, "MASTER <-> REPLICA sync: receiving {n} bytes from master {to}");
            }
            PayloadKind::Eof { .. } => {
                crate::log!(
                    Notice,
                    "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {to}"
                );
            }
            PayloadKind::Sluice { .. } => {}
        }
        match way {
            Some(way) => self.load_from_socket(way)?,
            None => self.load_by_file()?,
        }
        if let Some(p) = &self.prefetch {
            p.finish();
        }
        let Some(offset) = self.ended else { return Err("The full sync ended without its end".into()) };
        let engine = &self.server.engine;
        // Loaded: from here on our log is the primary's, from this offset.
        crate::aof::move_log(self.server, || {
            engine.log().reset(offset);
            engine.log().set_selected(self.session.db);
            engine.log().activate();
        });
        self.server.repl.state.lock().full_sync_done(self.replid);
        self.applied = offset;
        self.session = primary_session(engine);
        self.target = engine.clone();
        self.link.loaded(offset, self.server.clock());
        self.online();
        crate::persist::clean_now(self.server);
        crate::aof::resume(self.server);
        crate::log!(Notice, "MASTER <-> REPLICA sync: Finished with success");
        self.flush()
    }

    /// Our data is about to be replaced: nobody may resume from it, and our replicas must come again.
    fn history_ends(&self) {
        self.server.repl.state.lock().full_sync_began();
        self.server.repl.disconnect_replicas();
        // The append-only file is of the data that is being replaced; it stays as it is until there is a new one.
        crate::aof::suspend(self.server);
    }

    /// Old data of the history the primary is on is the same data at another time: it can be served meanwhile.
    fn may_serve_old(&self, way: LoadWay) -> bool {
        way == LoadWay::Swap && self.replid == Some(self.server.repl.state.lock().replid())
    }

    fn load_from_socket(&mut self, way: LoadWay) -> Result<(), String> {
        let live = self.server.engine.clone();
        let gate = if self.may_serve_old(way) { gate::ASYNC_LOADING } else { gate::LOADING };
        self.server.set_gate(gate, true);
        let engine = match way {
            LoadWay::Swap => live.beside(),
            LoadWay::Live => {
                crate::log!(Notice, "MASTER <-> REPLICA sync: Flushing old data");
                self.history_ends();
                live.clear();
                live.clone()
            }
        };
        crate::log!(Notice, "MASTER <-> REPLICA sync: Loading DB in memory");
        engine.set_replica(true);
        self.target = engine.clone();
        self.session = primary_session(&engine);
        crate::persist::loading_began(self.server, 0);
        let result = self.decode(&engine);
        match (&result, way) {
            (Ok(()), LoadWay::Swap) => {
                crate::log!(Notice, "MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
                self.history_ends();
                live.adopt(engine);
            }
            (Err(_), LoadWay::Swap) => {
                crate::log!(Notice, "MASTER <-> REPLICA sync: Discarding temporary DB in background");
            }
            (Ok(()), LoadWay::Live) => {}
            // Half a dataset must not be served.
            (Err(_), LoadWay::Live) => live.clear(),
        }
        self.server.set_gate(gate, false);
        result.map_err(|e| format!("Failed trying to load the MASTER synchronization DB from socket: {e}"))
    }

    /// Holds the load back as `key-load-delay` asks, with an eye on the link.
    fn keep_pace(&mut self, pace: &mut Pace, keys: u64) {
        loop {
            let due = pace.due(keys);
            if due.is_zero() || self.shared.stopped() {
                return;
            }
            self.link.loading(self.server.clock());
            let _ = self.flush();
            std::thread::sleep(due.min(NAP));
        }
    }

    fn decode(&mut self, engine: &Engine) -> Result<(), String> {
        // A framed payload has a checksum of its own, which the link compares.
        let checksum = self.server.config.load().rdbchecksum && !self.link.is_framed();
        let mut pace = Pace::loading(self.server);
        let mut loader = engine.loader();
        let (decoded, report) = with_crew(&mut loader, None, None, |crew| {
            let mut decoder = RdbDecoder::with_checksum(&mut *self, checksum);
            let (mut steps, mut paced) = (0u64, true);
            loop {
                if paced || steps.is_multiple_of(PACE_CHECK) {
                    decoder.source_mut().keep_pace(&mut pace, crew.report().keys);
                    paced = decoder.source_mut().server.config.load().key_load_delay != 0;
                }
                steps += 1;
                // Only a key that was read here can be waited for.
                let step = if paced { crew.step_alone(&mut decoder) } else { crew.step(&mut decoder) };
                match step {
                    Ok(Step::More) => {}
                    Ok(Step::Done) => break,
                    Ok(Step::Starved) => {
                        let this = decoder.source_mut();
                        if !std::mem::take(&mut this.logged) {
                            return Err(this.failed.take().unwrap_or("the payload ended early".into()));
                        }
                        // What the log is about must be in the tables first.
                        crew.flush(decoder.offset()).map_err(|e| e.to_string())?;
                        let begins_in = crew.report().replication_db;
                        let this = decoder.source_mut();
                        this.begin_stream_in(begins_in);
                        this.apply_logged()?;
                    }
                    Err(e) => {
                        let offset = decoder.offset();
                        let failed = decoder.source_mut().failed.take().unwrap_or_else(|| e.to_string());
                        crate::log!(Warning, "Internal error in RDB reading offset {offset}: {failed}");
                        return Err(failed);
                    }
                }
            }
            crew.flush(decoder.offset()).map_err(|e| e.to_string())
        });
        decoded?;
        engine.carry(&report.carried[..]);
        self.begin_stream_in(report.replication_db);
        loader.finish();
        // What follows the RDB's own end: the rest of the framing.
        while self.ended.is_none() {
            match self.event()? {
                Event::End(offset) => self.ended = Some(offset),
                Event::Log => self.apply_logged()?,
                Event::Payload if self.window.len() > self.start => {
                    return Err("bytes behind the end of the RDB payload".into());
                }
                _ => {}
            }
        }
        if !self.inbox.is_empty() {
            return Err("the log of a framed payload ends inside of a command".into());
        }
        // It has grown to the longest value there was, and the link may last for months.
        (self.window, self.start) = (Vec::new(), 0);
        Ok(())
    }

    /// The first log bytes of a new stream apply to this database (`repl-stream-db`, 0 where the payload says none).
    fn begin_stream_in(&mut self, db: Option<u32>) {
        if !std::mem::replace(&mut self.stream_begun, true) {
            self.session.db = db.filter(|db| *db < self.session.databases()).unwrap_or(0);
        }
    }

    fn load_by_file(&mut self) -> Result<(), String> {
        let dir = self.server.config.load().dir.clone();
        let target = dir.join(&self.server.config.load().dbfilename);
        let io = |e: io::Error| {
            format!(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                os_reason(&e)
            )
        };
        let mut file = AtomicFile::create(self.server.storage.clone(), &target).map_err(io)?;
        while self.ended.is_none() {
            match self.event()? {
                Event::Payload => {
                    file.write_all(&self.window).map_err(io)?;
                    self.window.clear();
                }
                Event::End(offset) => self.ended = Some(offset),
                Event::Log => return Err("a framed payload cannot be loaded by a file".into()),
                _ => {}
            }
        }
        file.commit().map_err(io)?;
        self.load_file(&target)?;
        let config = self.server.config.load();
        if config.rdb_del_sync_files && !config.appendonly && config.save.0.is_empty() {
            crate::log!(
                Notice,
                "Removing the RDB file obtained from the master. This replica has persistence disabled"
            );
            self.server.storage.remove(&target).map_err(io)?;
        }
        Ok(())
    }

    fn load_file(&mut self, path: &Path) -> Result<(), String> {
        let engine = self.server.engine.clone();
        self.server.set_gate(gate::LOADING, true);
        crate::log!(Notice, "MASTER <-> REPLICA sync: Flushing old data");
        self.history_ends();
        engine.clear();
        crate::log!(Notice, "MASTER <-> REPLICA sync: Loading DB in memory");
        crate::persist::loading_began(self.server, 0);
        let options =
            LoadOptions { checksum: self.server.config.load().rdbchecksum, ..LoadOptions::default() };
        // The file is read on a thread of its own, so that the primary keeps hearing from us.
        let result = std::thread::scope(|scope| {
            let storage = self.server.storage.clone();
            let worker = scope.spawn(move || {
                let mut loader = engine.loader();
                let r = load(&mut loader, &*storage, path, &options);
                loader.finish();
                r
            });
            while !worker.is_finished() {
                self.link.loading(self.server.clock());
                let _ = self.flush();
                std::thread::sleep(Duration::from_millis(1));
            }
            worker.join()
        });
        self.server.set_gate(gate::LOADING, false);
        match result {
            Ok(Ok(stats)) => {
                self.begin_stream_in(stats.report.replication_db);
                Ok(())
            }
            Ok(Err(e)) => {
                self.server.engine.clear();
                Err(format!("Failed trying to load the MASTER synchronization DB from disk: {e}"))
            }
            Err(_) => Err("the loading thread panicked".into()),
        }
    }
}

/// The decoder pulls payload bytes; log bytes between them make it pause.
impl Source for &mut Attempt<'_> {
    fn window(&self) -> &[u8] {
        &self.window[self.start..]
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        if self.start > 0 {
            self.window.drain(..self.start);
            self.start = 0;
        }
        while self.window.len() < want {
            if self.ended.is_some() {
                return Ok(false);
            }
            let event = self.event().map(|e| match e {
                Event::Log => self.logged = true,
                Event::End(offset) => self.ended = Some(offset),
                _ => {}
            });
            let now = self.server.clock();
            self.link.loading(now);
            if let Err(e) = event.and_then(|()| self.flush()) {
                self.failed = Some(e.clone());
                return Err(io::Error::other(e));
            }
            if self.logged {
                // Log bytes stand between two entries: the decoder pauses there until they are applied.
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }
}
