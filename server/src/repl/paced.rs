//! A full sync that is held to the pace of `rdb-key-save-delay`.

use crate::config::ConfigHandle;
use crate::ground::pace::Pace;
use bytes::Bytes;
use sluice_transport::fullsync::cut::CutFigures;
use sluice_transport::fullsync::{ChunkSource, CutError};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A source that is pulled as fast as the pace allows.
pub(super) struct Paced<'a> {
    source: Box<dyn ChunkSource + 'a>,
    pace: Pace,
    figures: Arc<CutFigures>,
}

impl<'a> Paced<'a> {
    /// Paces `source` by the keys its cut says it has encoded.
    pub(super) fn new(
        source: Box<dyn ChunkSource + 'a>,
        config: &ConfigHandle,
        figures: Arc<CutFigures>,
    ) -> Self {
        Paced { source, pace: Pace::new(config), figures }
    }
}

impl ChunkSource for Paced<'_> {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        self.source.next_chunk()
    }

    fn hold_ms(&mut self) -> u64 {
        let due = self.pace.due(self.figures.keys.load(Ordering::Relaxed));
        // A wait of less than this is made up for by the next.
        due.as_millis() as u64
    }
}
