//! What can go wrong between an engine and its files.

use crate::rdb::RdbError;
use sluice_engine::CutBusy;
use std::io;
use std::path::{Path, PathBuf};

/// An error of saving or loading; names the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, such as `writing`.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A file is not what it should be. Nothing was written to it.
    #[error("{}: {source}", path.display())]
    Rdb {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: RdbError,
    },
    /// Another snapshot is being taken.
    #[error(transparent)]
    Busy(#[from] CutBusy),
    /// The caller's progress function asked to stop.
    #[error("stopped on request")]
    Stopped,
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_path_buf(), source }
    }
}
