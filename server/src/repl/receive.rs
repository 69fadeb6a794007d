//! Receiving a full sync: its payload is loaded straight from the socket, or goes through a file.
//!
//! It is always loaded into an engine of its own, which the live one adopts at the end; what differs is when the old data
//! goes: before, to make room, or with the new taking its place. It goes for nothing that could have been
//! known to be of no use: a stream must begin as an RDB that we read, and a file, which is there as a whole, is read
//! through to its end first.

use super::LoadWay;
use super::attempt::{Attempt, Ended, Event, READ_BYTES, primary_session};
use super::prefetch::Prefetch;
use crate::config::os_reason;
use crate::ground::gate;
use crate::ground::pace::Pace;
use crate::ground::roles::Turn;
use sluice_engine::Engine;
use sluice_persistence::rdb::source::Source;
use sluice_persistence::rdb::{HEADER_LEN, RdbDecoder, Step, version_of, with_crew};
use sluice_persistence::storage::AtomicFile;
use sluice_persistence::{LoadControl, LoadOptions, load, survey};
use sluice_transport::replica::PayloadKind;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Longest sleep in one piece while a load is held back.
const NAP: Duration = Duration::from_millis(10);
/// Keys between two looks at whether a load is to be held back.
const PACE_CHECK: u64 = 16;

impl<'a> Attempt<'a> {
    pub(super) fn receive(&mut self, kind: PayloadKind) -> Result<(), Ended> {
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
        let loaded = match way {
            Some(way) => self.load_from_socket(way),
            None => self.load_by_file(),
        };
        let done = loaded.and_then(|fresh| self.take_over(fresh, way));
        if let Some(turn) = self.server.roles.turn_unless(|| self.shared.stopped()) {
            self.loading_gate(&turn, None);
        }
        done
    }

    /// What was loaded becomes our data, and the primary's history ours from its offset on.
    fn take_over(&mut self, fresh: Engine, way: Option<LoadWay>) -> Result<(), Ended> {
        if let Some(p) = &self.prefetch {
            p.finish();
        }
        let Some(offset) = self.ended else {
            return Err(Ended::Content("The full sync ended without its end".into()));
        };
        if way == Some(LoadWay::Swap) {
            crate::log!(Notice, "MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
        }
        let turn = self.give_up_old_data()?;
        let engine = &self.server.engine;
        engine.adopt(fresh);
        // Of the data that is gone.
        engine.forget_own_expiries();
        // Loaded: from here on our log is the primary's, from this offset.
        crate::aof::move_log(self.server, || {
            engine.log().reset(offset);
            engine.log().set_selected(self.session.db);
            engine.log().activate();
        });
        self.server.history.lock().full_sync_done(self.replid);
        self.applied = offset;
        self.session = primary_session(engine);
        self.target = engine.clone();
        self.link.loaded(offset, self.server.clock());
        self.online(&turn);
        crate::persist::clean_now(self.server);
        self.loading_gate(&turn, None);
        drop(turn);
        crate::aof::resume(self.server);
        crate::log!(Notice, "MASTER <-> REPLICA sync: Finished with success");
        self.flush()
    }

    /// Our data is about to be replaced: nobody may resume from it, and our replicas must come again.
    fn give_up_old_data(&self) -> Result<Turn<'a>, Ended> {
        // The append-only file is of the data that is being replaced; it stays as it is until there is a new one. This
        // waits for the disk, and so for nobody who has a turn.
        crate::aof::suspend(self.server);
        let turn = self.turn().inspect_err(|_| crate::aof::resume(self.server))?;
        self.server.history.lock().full_sync_began();
        self.server.repl.disconnect_replicas();
        Ok(turn)
    }

    /// The same, where it makes room before the new data is loaded.
    fn make_room(&self) -> Result<(), Ended> {
        crate::log!(Notice, "MASTER <-> REPLICA sync: Flushing old data");
        let turn = self.give_up_old_data()?;
        self.loading_gate(&turn, Some(gate::LOADING));
        self.server.engine.clear();
        self.server.engine.forget_own_expiries();
        Ok(())
    }

    /// Closes one of the gates of a load, or opens both.
    fn loading_gate(&self, _: &Turn<'_>, closed: Option<u32>) {
        self.server.set_gate(gate::LOADING | gate::ASYNC_LOADING, false);
        if let Some(closed) = closed {
            self.server.set_gate(closed, true);
        }
    }

    /// Old data of the history the primary is on is the same data at another time: it can be served meanwhile.
    fn may_serve_old(&self) -> bool {
        self.replid == Some(self.server.history.lock().replid())
    }

    /// What is loaded goes into an engine of its own, whoever had to make room for it: should this link be superseded, nothing
    /// it still does is seen by anybody.
    fn begin_beside(&mut self) -> Engine {
        let engine = self.server.engine.beside();
        engine.set_replica(true);
        self.target = engine.clone();
        self.session = primary_session(&engine);
        engine
    }

    /// The stream is one that can be read.
    fn load_begins(&self, way: LoadWay) -> Result<(), Ended> {
        match way {
            LoadWay::Live => self.make_room()?,
            LoadWay::Swap => {
                let gate = if self.may_serve_old() { gate::ASYNC_LOADING } else { gate::LOADING };
                self.loading_gate(&self.turn()?, Some(gate));
            }
        }
        crate::log!(Notice, "MASTER <-> REPLICA sync: Loading DB in memory");
        crate::persist::loading_began(self.server, 0);
        Ok(())
    }

    fn load_from_socket(&mut self, way: LoadWay) -> Result<Engine, Ended> {
        let engine = self.begin_beside();
        let decoded = self.decode(&engine, way);
        if decoded.is_err() && way == LoadWay::Swap {
            crate::log!(Notice, "MASTER <-> REPLICA sync: Discarding temporary DB in background");
        }
        match decoded {
            Ok(()) => Ok(engine),
            Err(ended) => Err(ended
                .map(|e| format!("Failed trying to load the MASTER synchronization DB from socket: {e}"))),
        }
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

    fn decode(&mut self, engine: &Engine, way: LoadWay) -> Result<(), Ended> {
        // A framed payload has a checksum of its own, which the link compares.
        let checksum = self.server.config.load().rdbchecksum && !self.link.is_framed();
        let mut pace = Pace::loading(&self.server.config);
        let mut loader = engine.loader();
        let (decoded, report) = with_crew(&mut loader, None, None, |crew| {
            let mut decoder = RdbDecoder::with_checksum(&mut *self, checksum);
            let (mut steps, mut paced, mut judged) = (0u64, true, false);
            loop {
                if !judged && matches!(decoder.header_comes(), Ok(true)) {
                    // Nothing is given up for a stream that cannot be read from its first bytes on.
                    judged = true;
                    decoder.source_mut().load_begins(way)?;
                }
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
                            let early = || Ended::Content("the payload ended early".into());
                            return Err(this.failed.take().unwrap_or_else(early));
                        }
                        // What the log is about must be in the tables first.
                        crew.flush(decoder.offset()).map_err(|e| Ended::Content(e.to_string()))?;
                        let begins_in = crew.report().replication_db;
                        let this = decoder.source_mut();
                        this.begin_stream_in(begins_in);
                        this.apply_logged()?;
                    }
                    Err(e) => {
                        let offset = decoder.offset();
                        let failed = decoder.source_mut().failed.take();
                        let failed = failed.unwrap_or_else(|| Ended::Content(e.to_string()));
                        let (Ended::Link(reason) | Ended::Content(reason)) = &failed;
                        crate::log!(Warning, "Internal error in RDB reading offset {offset}: {reason}");
                        return Err(failed);
                    }
                }
            }
            crew.flush(decoder.offset()).map_err(|e| Ended::Content(e.to_string()))
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
                    return Err(Ended::Content("bytes behind the end of the RDB payload".into()));
                }
                _ => {}
            }
        }
        if !self.inbox.is_empty() {
            return Err(Ended::Content("the log of a framed payload ends inside of a command".into()));
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

    fn load_by_file(&mut self) -> Result<Engine, Ended> {
        let config = self.server.config.load();
        let target = config.dir.join(&config.dbfilename);
        let io = |e: io::Error| {
            Ended::Content(format!(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                os_reason(&e)
            ))
        };
        let mut file = AtomicFile::create(self.server.storage.clone(), &target).map_err(io)?;
        let mut judged = false;
        while self.ended.is_none() {
            match self.event()? {
                Event::Payload => {
                    if !judged && let Some(head) = self.window.first_chunk::<HEADER_LEN>() {
                        // No need to take the rest of what cannot be read.
                        version_of(head).map_err(unreadable)?;
                        judged = true;
                    }
                    if judged {
                        file.write_all(&self.window).map_err(io)?;
                        self.window.clear();
                    }
                }
                Event::End(offset) => self.ended = Some(offset),
                Event::Log => {
                    return Err(Ended::Content("a framed payload cannot be loaded by a file".into()));
                }
                _ => {}
            }
        }
        file.write_all(&self.window).map_err(io)?;
        (self.window, self.start) = (Vec::new(), 0);
        let (storage, control) = (self.server.storage.clone(), LoadControl::default());
        let (temporary, databases) = (file.temporary(), self.server.engine.databases());
        // Before the old data goes, and the old file with it.
        self.meanwhile(&control, || survey(&*storage, temporary, config.rdbchecksum, databases, &control))?
            .map_err(unreadable)?;
        file.commit().map_err(io)?;
        self.make_room()?;
        crate::log!(Notice, "MASTER <-> REPLICA sync: Loading DB in memory");
        crate::persist::loading_began(self.server, 0);
        let engine = self.begin_beside();
        let control = Arc::new(LoadControl::default());
        // The checksum was compared.
        let options =
            LoadOptions { checksum: false, control: Some(control.clone()), ..LoadOptions::default() };
        let mut loader = engine.loader();
        let loaded = self.meanwhile(&control, || {
            let loaded = load(&mut loader, &*storage, &target, &options);
            loader.finish();
            loaded
        })?;
        self.begin_stream_in(loaded.map_err(unreadable)?.report.replication_db);
        let config = self.server.config.load();
        if config.rdb_del_sync_files && !config.appendonly && config.save.0.is_empty() {
            crate::log!(
                Notice,
                "Removing the RDB file obtained from the master. This replica has persistence disabled"
            );
            self.server.storage.remove(&target).map_err(io)?;
        }
        Ok(engine)
    }

    /// Does `work` with a file on a thread of its own, while the primary keeps hearing from us.
    fn meanwhile<R: Send>(
        &mut self,
        control: &LoadControl,
        work: impl FnOnce() -> R + Send,
    ) -> Result<R, Ended> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(work);
            while !worker.is_finished() {
                if self.shared.stopped() {
                    control.stop.store(true, Ordering::Relaxed);
                }
                self.link.loading(self.server.clock());
                let _ = self.flush();
                std::thread::sleep(Duration::from_millis(1));
            }
            worker.join().map_err(|_| Ended::Content("the loading thread panicked".into()))
        })
    }
}

fn unreadable(e: impl std::fmt::Display) -> Ended {
    Ended::Content(format!("Failed trying to load the MASTER synchronization DB from disk: {e}"))
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
                self.failed = Some(e);
                return Err(io::Error::other("the link to the primary"));
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
