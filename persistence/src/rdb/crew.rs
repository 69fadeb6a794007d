//! Loading on several threads. Most of what loading costs is fresh memory: the kernel clears every page before an
//! entry can be written to it, and threads do that side by side.
//!
//! ```text
//!  reading thread                         queue, bounded          workers
//!  source -> checksum -> skim: where   -> [ keys | keys | .. ] -> decode -> entries -> shards
//!            keys end                                             decode -> entries -> shards
//!         \-> everything else: opcodes, huge collections, keys across a window's end: decoded here
//! ```
//!
//! Pieces hold whole keys, and no key is there twice, so their order does not matter. Before anything else may look at
//! the tables (the log between two parts of a framed full sync), [`Crew::flush`] waits for all that was handed out.

use super::RdbError;
use super::decoder::{Place, RdbDecoder};
use super::loader::{EngineVisitor, LoadReport};
use super::reading::Step;
use super::skim::skim;
use super::source::Source;
use parking_lot::{Condvar, Mutex};
use sluice_engine::Engine;
use sluice_engine::internals::Loader;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Bytes handed to a worker at once; and the fewest worth it.
const PIECE: usize = 256 << 10;
const PIECE_MIN: usize = 2 << 10;
/// Pieces that wait, for each worker; then the reading thread waits.
const WAITING_PER_WORKER: usize = 2;
/// More threads than this wait for each other's locks.
const MAX_WORKERS: usize = 8;

/// Threads worth using here: as many as may run at once, none where that is one.
pub(crate) fn workers_here() -> usize {
    match thread::available_parallelism().map_or(1, usize::from) {
        1 => 0,
        cores => cores.min(MAX_WORKERS),
    }
}

/// Whole keys of a stream.
struct Piece<'b> {
    bytes: Bytes<'b>,
    place: Place,
}

enum Bytes<'b> {
    /// Of a file that is there whole.
    Lent(&'b [u8]),
    Owned(Vec<u8>),
}

#[derive(Default)]
struct State<'b> {
    queue: VecDeque<Piece<'b>>,
    /// Memory of pieces that were decoded.
    spare: Vec<Vec<u8>>,
    workers: usize,
    /// Workers with nothing to do, whose entries are all in the tables.
    idle: usize,
    over: bool,
    report: LoadReport,
    error: Option<RdbError>,
}

#[derive(Default)]
struct Shared<'b> {
    state: Mutex<State<'b>>,
    /// There is work, or no more to come.
    work: Condvar,
    /// There is room in the queue, or a worker has become idle.
    room: Condvar,
    failed: AtomicBool,
}

impl<'b> Shared<'b> {
    /// Keeps the error that comes first in the stream.
    fn fail(&self, error: RdbError) {
        let mut state = self.state.lock();
        if state.error.as_ref().is_none_or(|there| error.offset() < there.offset()) {
            state.error = Some(error);
        }
        self.failed.store(true, Ordering::Release);
    }

    /// A worker's life.
    fn run(&self, engine: &Engine, drop_expired_before: Option<i64>) {
        let _leaving = Leaving(self);
        let mut loader = engine.loader();
        let mut visitor = EngineVisitor::new(&mut loader, drop_expired_before);
        let (mut offset, mut flushed) = (0, true);
        loop {
            let piece = self.state.lock().queue.pop_front();
            let Some(piece) = piece else {
                if !flushed {
                    flushed = true;
                    if let Err(reason) = visitor.flush() {
                        self.fail(RdbError::Refused { offset, reason });
                    }
                }
                if self.wait_for_work() {
                    continue;
                }
                break;
            };
            self.room.notify_one();
            (offset, flushed) = (piece.place.offset, false);
            if !self.failed.load(Ordering::Acquire)
                && let Err(error) = decode(&piece, &mut visitor)
            {
                self.fail(error);
            }
            if let Bytes::Owned(bytes) = piece.bytes {
                self.state.lock().spare.push(bytes);
            }
        }
        self.state.lock().report.add(visitor.into_report());
    }

    /// Waits; false at the end.
    fn wait_for_work(&self) -> bool {
        let mut state = self.state.lock();
        state.idle += 1;
        self.room.notify_one();
        while state.queue.is_empty() && !state.over {
            self.work.wait(&mut state);
        }
        state.idle -= 1;
        !state.queue.is_empty()
    }
}

/// Says that a worker is gone, also where it panicked.
struct Leaving<'s, 'b>(&'s Shared<'b>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        self.0.state.lock().workers -= 1;
        self.0.room.notify_one();
    }
}

fn decode(piece: &Piece<'_>, visitor: &mut EngineVisitor<'_>) -> Result<(), RdbError> {
    let bytes = match &piece.bytes {
        Bytes::Lent(bytes) => bytes,
        Bytes::Owned(bytes) => &bytes[..],
    };
    let mut decoder = RdbDecoder::piece(bytes, piece.place);
    while decoder.step(visitor)? == Step::More {}
    Ok(())
}

/// Threads that load one stream. The caller's is the one that reads.
pub struct Crew<'s, 'b> {
    shared: &'s Shared<'b>,
    visitor: EngineVisitor<'s>,
    /// The stream's bytes, where all of them are there.
    whole: Option<&'b [u8]>,
    workers: usize,
}

impl std::fmt::Debug for Crew<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// Ends the workers, however the reading thread's part ends.
struct Over<'s, 'b>(&'s Shared<'b>);

impl Drop for Over<'_, '_> {
    fn drop(&mut self) {
        self.0.state.lock().over = true;
        self.0.work.notify_all();
    }
}

/// Calls `work` with a crew that fills `loader`'s engine; on a machine with one core it is the calling thread alone. `whole` is the stream, where all of it is in memory (a mapped file). `drop_expired_before`
/// as in [`EngineVisitor::new`]. Returns also what all threads together report.
pub fn with_crew<'b, R>(
    loader: &mut Loader,
    drop_expired_before: Option<i64>,
    whole: Option<&'b [u8]>,
    work: impl FnOnce(&mut Crew<'_, 'b>) -> R,
) -> (R, LoadReport) {
    with_workers(workers_here(), loader, drop_expired_before, whole, work)
}

pub(crate) fn with_workers<'b, R>(
    workers: usize,
    loader: &mut Loader,
    drop_expired_before: Option<i64>,
    whole: Option<&'b [u8]>,
    work: impl FnOnce(&mut Crew<'_, 'b>) -> R,
) -> (R, LoadReport) {
    let shared = Shared::default();
    let engine = loader.engine().clone();
    let (result, mut report) = thread::scope(|scope| {
        let _over = Over(&shared);
        let mut hired = 0;
        for _ in 0..workers {
            let (shared, engine) = (&shared, &engine);
            shared.state.lock().workers += 1;
            let run = move || shared.run(engine, drop_expired_before);
            if thread::Builder::new().name("loader".into()).spawn_scoped(scope, run).is_ok() {
                hired += 1;
            } else {
                // Fewer threads load more slowly: no reason to fail.
                shared.state.lock().workers -= 1;
            }
        }
        let visitor = EngineVisitor::new(&mut *loader, drop_expired_before);
        let mut crew = Crew { shared: &shared, visitor, whole, workers: hired };
        let result = work(&mut crew);
        (result, crew.visitor.into_report())
    });
    let theirs = shared.state.into_inner().report;
    loader.credit(theirs.keys);
    report.add(theirs);
    (result, report)
}

impl<'b> Crew<'_, 'b> {
    /// See [`EngineVisitor::within`].
    pub fn within(&mut self, bytes: u64) {
        self.visitor.limit_room(bytes);
    }

    /// Reads on in the stream: hands keys out, or reads an item itself. See [`RdbDecoder::step`].
    #[inline]
    pub fn step<S: Source>(&mut self, decoder: &mut RdbDecoder<S>) -> Result<Step, RdbError> {
        if self.workers > 0 {
            if self.shared.failed.load(Ordering::Relaxed) {
                return Err(self.first_error(None));
            }
            let whole = skim(decoder.items_at_hand(), PIECE);
            if whole >= PIECE_MIN {
                let place = decoder.place();
                let lent = self.whole.and_then(|all| all.get(place.offset as usize..)?.get(..whole));
                let bytes = match lent {
                    Some(bytes) => Bytes::Lent(bytes),
                    None => {
                        let mut bytes = self.shared.state.lock().spare.pop().unwrap_or_default();
                        bytes.clear();
                        bytes.extend_from_slice(&decoder.items_at_hand()[..whole]);
                        Bytes::Owned(bytes)
                    }
                };
                self.hand_out(Piece { bytes, place });
                decoder.pass(whole);
                return Ok(Step::More);
            }
        }
        // What is wrong here may follow from something a worker has yet to find, further up.
        decoder.step(&mut self.visitor).map_err(|error| self.first_error(Some(error)))
    }

    /// Reads one key at most, on this thread.
    pub fn step_alone<S: Source>(&mut self, decoder: &mut RdbDecoder<S>) -> Result<Step, RdbError> {
        decoder.step(&mut self.visitor)
    }

    /// Reads to the end of the stream, and puts all of it into the tables.
    pub fn run<S: Source>(&mut self, decoder: &mut RdbDecoder<S>) -> Result<(), RdbError> {
        loop {
            match self.step(decoder)? {
                Step::More => {}
                Step::Done => return self.flush(decoder.offset()),
                Step::Starved => {
                    let offset = decoder.offset();
                    return Err(RdbError::Truncated { offset, end: offset, needed: 1 });
                }
            }
        }
    }

    fn hand_out(&self, piece: Piece<'b>) {
        let mut state = self.shared.state.lock();
        while state.queue.len() >= WAITING_PER_WORKER * self.workers && state.workers > 0 {
            self.shared.room.wait(&mut state);
        }
        state.queue.push_back(piece);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Puts everything read so far into the tables: before anything else looks at them. `offset` is how far the stream
    /// was read.
    pub fn flush(&mut self, offset: u64) -> Result<(), RdbError> {
        self.visitor.flush().map_err(|reason| RdbError::Refused { offset, reason })?;
        if self.workers == 0 {
            return Ok(());
        }
        let lost = self.wait_until_idle();
        if lost || self.shared.failed.load(Ordering::Acquire) { Err(self.first_error(None)) } else { Ok(()) }
    }

    /// Waits until all that was handed out is done with. Says whether a worker was lost.
    fn wait_until_idle(&self) -> bool {
        let mut state = self.shared.state.lock();
        while state.workers > 0 && !(state.queue.is_empty() && state.idle == state.workers) {
            self.shared.room.wait(&mut state);
        }
        state.workers < self.workers
    }

    /// Of this thread's error and the workers' the one that comes first in the stream, which is the one a single thread
    /// would have found.
    fn first_error(&self, mine: Option<RdbError>) -> RdbError {
        if self.workers > 0 {
            self.wait_until_idle();
        }
        let theirs = self.shared.state.lock().error.take();
        match (mine, theirs) {
            (Some(mine), Some(theirs)) if theirs.offset() < mine.offset() => theirs,
            (Some(mine), _) => mine,
            (None, Some(theirs)) => theirs,
            (None, None) => RdbError::Refused { offset: 0, reason: "a loading thread panicked".into() },
        }
    }

    /// What there was beside the keys, so far: what workers count is not in it.
    pub fn report(&self) -> &LoadReport {
        self.visitor.report()
    }
}
