//! A file, into an engine.

use crate::Error;
use crate::rdb::source::FileSource;
use crate::rdb::{EngineVisitor, LoadReport, RdbDecoder, RdbError};
use crate::storage::Storage;
use sluice_engine::load::Loader;
use std::path::Path;
use std::time::{Duration, Instant};

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Compare the checksum (`rdbchecksum`).
    pub checksum: bool,
    /// Leave out keys that expired before this, in milliseconds of Unix time: a primary gives now, a replica nothing.
    pub drop_expired_before: Option<i64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { checksum: true, drop_expired_before: None }
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

/// Loads an RDB file through `loader`, which the caller finishes, or drops if this fails. The file is
/// only read.
pub fn load(
    loader: &mut Loader,
    storage: &dyn Storage,
    path: &Path,
    options: &LoadOptions,
) -> Result<LoadStats, Error> {
    let started = Instant::now();
    let file = storage.open(path).map_err(Error::io("opening", path))?;
    let mut visitor = EngineVisitor::new(loader, options.drop_expired_before).within(file.len());
    let mut decoder = RdbDecoder::with_checksum(FileSource::new(&*file), options.checksum);
    let read = decoder.run(&mut visitor).and_then(|()| {
        let offset = decoder.offset();
        visitor.flush().map_err(|reason| RdbError::Refused { offset, reason })
    });
    read.map_err(|source| Error::Rdb { path: path.to_path_buf(), source })?;
    Ok(LoadStats {
        report: visitor.into_report(),
        version: decoder.version(),
        bytes: decoder.offset(),
        file_bytes: file.len(),
        elapsed: started.elapsed(),
    })
}
