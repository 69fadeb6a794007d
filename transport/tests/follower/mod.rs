//! A replica for the tests: the thin driver around [`ReplicaLink`], loading live, beside the old data or by a file.

mod apply;
mod source;

pub(crate) use apply::StreamApplier;

use sluice_engine::internals::Row;
use sluice_engine::{Engine, Session};
use sluice_persistence::rdb::{EngineVisitor, LoadReport, RdbDecoder, Step};
use sluice_persistence::storage::{AtomicFile, Storage};
use sluice_persistence::{LoadOptions, load};
use sluice_transport::replica::{Action, Level, LinkConfig, PayloadKind, ReplicaLink};
use sluice_transport::replid::ReplId;
use sluice_transport::state::ResumePoint;
use source::{Connection, PayloadSource};
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const ENDS_EARLY: &str = "Failed trying to load the MASTER synchronization DB from socket: it ends too early";

/// Bytes loaded between two calls of [`ReplicaHost::progress`].
const PROGRESS_BYTES: u64 = 1 << 20;

/// How a full sync gets into the engine; `repl-diskless-load` decides.
#[derive(Clone, Debug)]
pub(crate) enum LoadPlan {
    /// Straight into the keyspace, emptied first (`on-empty-db`; and any framed payload).
    Live,
    /// Beside the old data, which is replaced when all is there (`swapdb`).
    Staging,
    /// Received into this file, which becomes the server's RDB file, and loaded from it (`disabled`).
    File {
        /// Where files go.
        storage: Arc<dyn Storage>,
        /// The name it gets when it is complete.
        path: PathBuf,
    },
}

/// The server around the replica's link. All methods are called on the link's thread.
pub(crate) trait ReplicaHost {
    /// Write a log line.
    fn log(&self, level: Level, text: &str);
    /// Whether to give up: shutdown, or REPLICAOF named another primary.
    fn stopped(&self) -> bool;
    /// FULLRESYNC was answered: our own replicas must go, and there is no partial resync any more
    /// (`ReplicationState::full_sync_began`).
    fn full_sync_began(&self, replid: Option<ReplId>);
    /// How to load a payload of this kind. A framed one is always loaded live: do not offer `capa sluice` where that is not wanted.
    fn load_plan(&self, kind: PayloadKind) -> LoadPlan;
    /// Loading begins: clients get LOADING, unless the plan is to load beside the old data.
    fn loading(&self, plan: &LoadPlan);
    /// So many payload bytes were received, of so many if that is known (`master_sync_*`).
    fn progress(&self, received: u64, total: Option<u64>);
    /// The data is that of `replid` at `offset` (`ReplicationState::full_sync_done`), the log stands there, and clients
    /// may be served.
    fn full_sync_done(&self, replid: Option<ReplId>, offset: u64, report: &LoadReport);
    /// Loading failed; `emptied` says whether the old data is lost.
    fn full_sync_failed(&self, emptied: bool);
    /// Partial resync (`ReplicationState::continued`): our replicas must go if the id changed.
    fn continued(&self, replid: Option<ReplId>);
    /// Run a command of the stream the engine leaves to its embedder. It is in the log already.
    fn external(&self, session: &mut Session, row: Row, args: &[&[u8]]);
    /// Bytes came from the primary (`master_last_io_seconds_ago`, input counters).
    fn heard(&self, bytes: u64);
}

/// Follows the primary on this connection until the link ends; returns why it ended, in Redis' words.
/// `applier` is kept by the caller for the next attempt. The engine's log must be active.
pub(crate) fn follow(
    stream: TcpStream,
    config: LinkConfig,
    resume: Option<ResumePoint>,
    engine: &Engine,
    applier: &mut StreamApplier,
    host: &dyn ReplicaHost,
) -> String {
    let epoch = Instant::now();
    let stop = || host.stopped();
    let mut log = |level: Level, text: &str| host.log(level, text);
    let link = ReplicaLink::new(config, resume, 0);
    let run = || -> io::Result<()> {
        let connection = Connection::new(stream, link, epoch, &stop, &mut log)?;
        Follower { connection, engine, applier, host, replid: None, heard: 0 }.run()
    };
    match run() {
        Ok(()) => "the link ended".into(),
        Err(e) => e.to_string(),
    }
}

struct Follower<'a> {
    connection: Connection<'a>,
    engine: &'a Engine,
    applier: &'a mut StreamApplier,
    host: &'a dyn ReplicaHost,
    replid: Option<ReplId>,
    heard: u64,
}

/// What [`Follower::run`] must do outside of the borrow of the connection.
enum Turn {
    FullSync(Option<ReplId>),
    Payload(PayloadKind),
    Continue(Option<ReplId>),
}

impl Follower<'_> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            self.connection.receive()?;
            self.tell_heard();
            loop {
                let mut turn = None;
                let mut failed = None;
                let (applier, host) = (&mut *self.applier, self.host);
                let all = self.connection.actions(|action| {
                    match action {
                        Action::FullSync { replid, .. } => turn = Some(Turn::FullSync(replid)),
                        Action::PayloadBegins(kind) => turn = Some(Turn::Payload(kind)),
                        Action::Continue { replid } => turn = Some(Turn::Continue(replid)),
                        Action::Stream(bytes) => {
                            failed =
                                applier.apply(bytes, &mut |s, row, args| host.external(s, row, args)).err();
                        }
                        _ => {}
                    }
                    turn.is_none() && failed.is_none()
                })?;
                if let Some(e) = failed {
                    return Err(io::Error::other(e));
                }
                let now = self.connection.now();
                self.connection.link.applied(self.engine.log().end());
                if self.applier.take_getack() {
                    self.connection.link.getack(now);
                }
                self.connection.link.tick_acks(now);
                match turn {
                    None if all => break,
                    None => {}
                    Some(Turn::FullSync(replid)) => {
                        self.replid = replid;
                        self.host.full_sync_began(replid);
                    }
                    Some(Turn::Continue(replid)) => {
                        self.applier.resume();
                        self.host.continued(replid);
                    }
                    Some(Turn::Payload(kind)) => self.full_sync(kind)?,
                }
            }
            self.connection.flush()?;
        }
    }

    fn tell_heard(&mut self) {
        let total = self.connection.received;
        if total > self.heard {
            self.host.heard(total - self.heard);
            self.heard = total;
        }
    }

    fn full_sync(&mut self, kind: PayloadKind) -> io::Result<()> {
        let plan = match kind {
            PayloadKind::Sluice { .. } => LoadPlan::Live,
            _ => self.host.load_plan(kind),
        };
        let into = if matches!(plan, LoadPlan::File { .. }) { "disk" } else { "parser" };
        let what = match kind {
            PayloadKind::Sized(n) => format!("receiving {n} bytes from master to {into}"),
            PayloadKind::Eof { .. } => format!("receiving streamed RDB from master with EOF to {into}"),
            PayloadKind::Sluice { .. } => {
                "receiving snapshot and log in one stream from master to parser".into()
            }
        };
        self.note(&format!("MASTER <-> REPLICA sync: {what}"));
        let loaded = match &plan {
            LoadPlan::File { storage, path } => self.by_file(kind, &plan, storage, path),
            LoadPlan::Live | LoadPlan::Staging => self.by_stream(kind, &plan),
        };
        let (offset, report) = match loaded {
            Ok(loaded) => loaded,
            Err((e, emptied)) => {
                if emptied {
                    self.engine.clear(); // half a snapshot is worse than none
                }
                self.host.full_sync_failed(emptied);
                return Err(e);
            }
        };
        let now = self.connection.now();
        self.host.full_sync_done(self.replid, offset, &report);
        self.connection.link.loaded(offset, now);
        self.note("MASTER <-> REPLICA sync: Finished with success");
        self.connection.flush()
    }

    /// Loads from the socket. The error says whether the old data was lost.
    fn by_stream(
        &mut self,
        kind: PayloadKind,
        plan: &LoadPlan,
    ) -> Result<(u64, LoadReport), (io::Error, bool)> {
        let live = matches!(plan, LoadPlan::Live);
        self.host.loading(plan);
        if live {
            self.note("MASTER <-> REPLICA sync: Flushing old data");
            self.engine.clear();
        }
        let base = self.connection.link.base_offset();
        self.applier.restart(0);
        if live {
            self.engine.log().reset(base);
        }
        let target = if live { self.engine.clone() } else { self.engine.beside() };
        let mut loader = target.loader();
        self.note("MASTER <-> REPLICA sync: Loading DB in memory");
        let mut visitor = EngineVisitor::new(&mut loader, None);
        let received_before = self.connection.received;
        let (applier, host) = (&mut *self.applier, self.host);
        let total = if let PayloadKind::Sized(n) = kind { Some(n) } else { None };
        let mut decoder = RdbDecoder::new(PayloadSource::new(&mut self.connection));
        let mut next_progress = 0;
        let mut decode = || -> io::Result<u64> {
            let mut done = false;
            loop {
                let step = if done { Step::Done } else { decoder.step(&mut visitor).map_err(bad_payload)? };
                done = step == Step::Done;
                let at = decoder.offset();
                let source = decoder.source_mut();
                if at >= next_progress {
                    next_progress = at + PROGRESS_BYTES;
                    host.progress(source.connection.received - received_before, total);
                }
                if step == Step::More {
                    continue;
                }
                // All that came of the cut is in the engine: now, and not before, log bytes may follow it.
                visitor.flush().map_err(|e| io::Error::other(e.to_string()))?;
                source.check_read(at)?;
                visitor.flush().map_err(|e| io::Error::other(e.to_string()))?;
                let log = std::mem::take(&mut source.early_log);
                applier
                    .apply(&log, &mut |s, row, args| host.external(s, row, args))
                    .map_err(io::Error::other)?;
                match source.ended {
                    Some(offset) if done => return Ok(offset),
                    Some(_) => return Err(io::Error::other(ENDS_EARLY)),
                    None => source.pull()?,
                }
            }
        };
        let offset = decode().map_err(|e| (e, live))?;
        // Where the primary's log ended, a command and a transaction ended too: nothing may be left over.
        if matches!(kind, PayloadKind::Sluice { .. }) && offset != self.engine.log().end() {
            let e = "the log bytes of the framed payload do not reach its end offset";
            return Err((io::Error::other(e), live));
        }
        let report = visitor.into_report();
        loader.finish();
        if !live {
            self.engine.adopt(target);
            self.engine.log().reset(offset);
        }
        self.applier.restart_if_idle(report.replication_db.unwrap_or(0));
        Ok((self.engine.log().end(), report))
    }

    /// Receives a file, gives it its name, and loads it.
    fn by_file(
        &mut self,
        kind: PayloadKind,
        plan: &LoadPlan,
        storage: &Arc<dyn Storage>,
        path: &std::path::Path,
    ) -> Result<(u64, LoadReport), (io::Error, bool)> {
        let offset = self.receive_file(kind, storage, path).map_err(|e| (e, false))?;
        self.host.loading(plan);
        self.note("MASTER <-> REPLICA sync: Flushing old data");
        self.engine.clear();
        self.engine.log().reset(offset);
        self.note("MASTER <-> REPLICA sync: Loading DB in memory");
        let mut loader = self.engine.loader();
        let stats = load(&mut loader, &**storage, path, &LoadOptions::default()).map_err(|e| {
            (
                io::Error::other(format!(
                    "Failed trying to load the MASTER synchronization DB from disk: {e}"
                )),
                true,
            )
        })?;
        loader.finish();
        self.applier.restart(stats.report.replication_db.unwrap_or(0));
        Ok((offset, stats.report))
    }

    fn receive_file(
        &mut self,
        kind: PayloadKind,
        storage: &Arc<dyn Storage>,
        path: &std::path::Path,
    ) -> io::Result<u64> {
        let failed = |e: io::Error| {
            io::Error::other(format!(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {e}"
            ))
        };
        let total = if let PayloadKind::Sized(n) = kind { Some(n) } else { None };
        let mut file = AtomicFile::create(storage.clone(), path).map_err(failed)?;
        let (mut written, mut next_progress) = (0u64, 0);
        loop {
            let mut ended = None;
            let mut error = None;
            self.connection.actions(|action| {
                match action {
                    Action::Payload { bytes, .. } => {
                        error = file.write_all(bytes).err();
                        written += bytes.len() as u64;
                    }
                    Action::PayloadEnd { offset } => ended = Some(offset),
                    _ => {}
                }
                ended.is_none() && error.is_none()
            })?;
            if let Some(e) = error {
                return Err(failed(e));
            }
            if written >= next_progress {
                next_progress = written + PROGRESS_BYTES;
                self.host.progress(written, total);
            }
            if let Some(offset) = ended {
                file.commit().map_err(failed)?;
                return Ok(offset);
            }
            self.connection.receive()?;
        }
    }

    fn note(&self, text: &str) {
        self.host.log(Level::Notice, text);
    }
}

fn bad_payload(e: sluice_persistence::rdb::RdbError) -> io::Error {
    match e {
        // The link's own reason says more than that the decoder could not read.
        sluice_persistence::rdb::RdbError::Io { source, .. } => source,
        e => {
            io::Error::other(format!("Failed trying to load the MASTER synchronization DB from socket: {e}"))
        }
    }
}
