//! One server to an append-only file: two that write the same files leave neither's data.
//!
//! What is locked is the name (`appendfilename`) in its folder, as servers with other names may share one: by an empty file beside the
//! manifest, from before that is read until the append-only file is switched off. The kernel lets go of the lock when the
//! process has ended, however it does, so nothing has to be cleaned up after a kill; a server that is still shutting
//! down has it until it is gone.

use crate::server::Server;
use parking_lot::Mutex;
use sluice_persistence::aof::AofPlace;
use sluice_persistence::storage::Lock;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The files this server has for itself, if it has some.
#[derive(Default)]
pub(super) struct Folder(Mutex<Option<(PathBuf, Lock)>>);

impl Folder {
    /// Takes the files of this place, instead of those before; false where they are ours already.
    ///
    /// # Errors
    /// Another server has them.
    pub(super) fn take(&self, server: &Server, place: &AofPlace) -> Result<bool, String> {
        let path = place.lock_path();
        let mut held = self.0.lock();
        if held.as_ref().is_some_and(|(ours, _)| *ours == path) {
            return Ok(false);
        }
        // First: another name may be of the same folder.
        *held = None;
        match server.storage.lock(&path) {
            Ok(lock) => *held = Some((path, lock)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                return Err(format!(
                    "The append-only file {} in {} is in use by another server; one that is shutting down has it until \
                     it has ended",
                    place.filename,
                    place.dir.display()
                ));
            }
            // A file system without locks.
            Err(e) => crate::log!(
                Warning,
                "Can't lock {}: {e}. See to it that no other server uses that append-only file.",
                path.display()
            ),
        }
        Ok(true)
    }

    /// Others may have them.
    pub(super) fn release(&self) {
        *self.0.lock() = None;
    }
}
