//! A file, into an engine.

use crate::Error;
use crate::rdb::source::FileSource;
use crate::rdb::{LoadReport, RdbDecoder, RdbError, Step};
use crate::storage::Storage;
use sluice_engine::internals::Loader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A load as others see it while it runs, and what they may tell it.
#[derive(Debug, Default)]
pub struct LoadControl {
    /// Bytes read so far.
    pub bytes: AtomicU64,
    /// The writer's memory as the stream states it (`used-mem`), 0 until it was read.
    pub used_memory: AtomicU64,
    /// `key-load-delay`, for tests: microseconds to wait for each key, or, negative, one microsecond for about one of so
    /// many keys. With it keys are read one by one.
    pub key_delay: AtomicI64,
    /// Ends the load, with an error.
    pub stop: AtomicBool,
}

impl LoadControl {
    fn go_on(&self, offset: u64) -> Result<(), RdbError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(RdbError::Io { offset, source: std::io::Error::other("stopped on request") }),
            false => Ok(()),
        }
    }

    /// Waits as `key_delay` says after the key at `turn`.
    fn pause(&self, delay: i64, turn: u64) {
        let micros = match u64::try_from(delay) {
            Ok(micros) => micros,
            Err(_) if turn.is_multiple_of(delay.unsigned_abs()) => 1,
            Err(_) => return,
        };
        std::thread::sleep(Duration::from_micros(micros));
    }
}

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Compare the checksum (`rdbchecksum`).
    pub checksum: bool,
    /// Leave out keys that expired before this, in milliseconds of Unix time: a primary gives now, a replica nothing.
    pub drop_expired_before: Option<i64>,
    /// Where progress is shown.
    pub control: Option<Arc<LoadControl>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { checksum: true, drop_expired_before: None, control: None }
    }
}

/// What was loaded.
#[derive(Debug, Clone)]
pub struct LoadStats {
    /// What the file said beside its keys, and what was left out.
    pub report: LoadReport,
    /// RDB version of the file.
    pub version: u32,
    /// Bytes read. An append-only file goes on behind them.
    pub bytes: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Files smaller than this are loaded by the calling thread alone: more threads would cost more than they bring.
const PARALLEL_MIN: u64 = 4 << 20;

/// Loads an RDB file through `loader`, which the caller finishes, or drops if this fails. The file is
/// only read. A live loader is helped by threads, where there is more than one core.
pub fn load(
    loader: &mut Loader,
    storage: &dyn Storage,
    path: &Path,
    options: &LoadOptions,
) -> Result<LoadStats, Error> {
    let workers = crate::rdb::workers_here();
    load_with(workers, loader, storage, path, options)
}

/// As [`load`], with this many threads beside the calling one.
pub fn load_with(
    workers: usize,
    loader: &mut Loader,
    storage: &dyn Storage,
    path: &Path,
    options: &LoadOptions,
) -> Result<LoadStats, Error> {
    let started = Instant::now();
    let engine = loader.engine().clone();
    let file = storage.open(path).map_err(Error::io("opening", path))?;
    let mut decoder = RdbDecoder::with_checksum(FileSource::new(&*file), options.checksum);
    let workers = if file.len() >= PARALLEL_MIN { workers } else { 0 };
    let control = options.control.clone().unwrap_or_default();
    let (read, report) =
        crate::rdb::with_workers(workers, loader, options.drop_expired_before, Some(file.bytes()), |crew| {
            crew.within(file.len());
            for turn in 0.. {
                control.go_on(decoder.offset())?;
                let delay = control.key_delay.load(Ordering::Relaxed);
                let step = if delay == 0 { crew.step(&mut decoder)? } else { crew.step_alone(&mut decoder)? };
                control.bytes.store(decoder.offset(), Ordering::Relaxed);
                if let Some(used) = crew.report().used_memory {
                    control.used_memory.store(used, Ordering::Relaxed);
                }
                match step {
                    Step::More if delay == 0 => {}
                    Step::More => control.pause(delay, turn),
                    Step::Done => break,
                    Step::Starved => {
                        let offset = decoder.offset();
                        return Err(RdbError::Truncated { offset, end: offset, needed: 1 });
                    }
                }
            }
            crew.flush(decoder.offset())
        });
    read.map_err(|source| Error::Rdb { path: path.to_path_buf(), source })?;
    engine.carry(&report.carried[..]);
    Ok(LoadStats {
        report,
        version: decoder.version(),
        bytes: decoder.offset(),
        file_bytes: file.len(),
        elapsed: started.elapsed(),
    })
}

/// Reads an RDB file to its end without loading it: whether it is one, of a version and with types of value this server
/// holds, whole, for `databases` databases at most, and, with `checksum`, what was written. The inside of a small value is passed over, so a load may still find
/// damage there. Far cheaper than a load: for whoever gives something up for the file.
pub fn survey(
    storage: &dyn Storage,
    path: &Path,
    checksum: bool,
    databases: u32,
    control: &LoadControl,
) -> Result<(), Error> {
    let file = storage.open(path).map_err(Error::io("opening", path))?;
    let mut decoder = RdbDecoder::with_checksum(FileSource::new(&*file), checksum);
    let mut read = || loop {
        control.go_on(decoder.offset())?;
        match crate::rdb::pass_over(&mut decoder, databases)? {
            Step::More => {}
            Step::Done => return Ok(()),
            Step::Starved => {
                let offset = decoder.offset();
                return Err(RdbError::Truncated { offset, end: offset, needed: 1 });
            }
        }
    };
    read().map_err(|source| Error::Rdb { path: path.to_path_buf(), source })
}
