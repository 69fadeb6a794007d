//! One server to a folder of append-only files: two that write the same files leave neither's data.
//!
//! The folder is locked from before its manifest is read until the append-only file is switched off. The kernel lets go of the
//! lock when the process has ended, however it does, so nothing has to be cleaned up after a kill; a server that is
//! still shutting down has the folder until it is gone.

use crate::state::Server;
use parking_lot::Mutex;
use sluice_persistence::aof::AofPlace;
use sluice_persistence::storage::DirLock;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The folder this server has for itself, if it has one.
#[derive(Default)]
pub(super) struct Folder(Mutex<Option<(PathBuf, DirLock)>>);

impl Folder {
    /// Takes the folder, in place of the one before; false where it is ours already.
    ///
    /// # Errors
    /// Another server has it.
    pub(super) fn take(&self, server: &Server, place: &AofPlace) -> Result<bool, String> {
        let mut held = self.0.lock();
        if held.as_ref().is_some_and(|(dir, _)| *dir == place.dir) {
            return Ok(false);
        }
        // First: another name may be of the same folder.
        *held = None;
        match server.storage.lock_dir(&place.dir) {
            Ok(lock) => *held = Some((place.dir.clone(), lock)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                return Err(format!(
                    "The append-only folder {} is in use by another server; one that is shutting down has it until it has \
                     ended",
                    place.dir.display()
                ));
            }
            // A file system without locks.
            Err(e) => crate::log!(
                Warning,
                "Can't lock the append-only folder {}: {e}. See to it that no other server uses it.",
                place.dir.display()
            ),
        }
        Ok(true)
    }

    /// Others may have it.
    pub(super) fn release(&self) {
        *self.0.lock() = None;
    }
}
