//! DEBUG RELOAD: save the data to a file and load it again, which proves that a save loses nothing.

use sluice_engine::internals::{CmdError, CmdResult};
use sluice_persistence::{LoadOptions, SaveOptions, load, save};

use super::lower;
use crate::server::Server;

pub(super) fn run(server: &Server, options: &[&[u8]]) -> CmdResult {
    let (mut saves, mut keeps, mut merges) = (true, false, false);
    for option in options {
        match lower(option).as_slice() {
            b"nosave" => saves = false,
            b"noflush" => keeps = true,
            b"merge" => merges = true,
            _ => {
                return Err(CmdError::text(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    if keeps && !merges {
        return Err(CmdError::text("ERR DEBUG RELOAD NOFLUSH is supported together with MERGE only"));
    }
    let config = server.config.load();
    let path = config.dir.join(&config.dbfilename);
    if saves {
        let how = SaveOptions {
            checksum: config.rdbchecksum,
            compression: config.rdbcompression,
            ..SaveOptions::default()
        };
        let done =
            save(&server.engine, &server.storage, &path, &how, &mut |_| std::ops::ControlFlow::Continue(()));
        done.map_err(|e| CmdError::from(format!("ERR Error saving the RDB dump: {e}")))?;
    }
    // Beside the live data: should loading fail, nothing has changed.
    let beside = (!keeps).then(|| server.engine.beside());
    let mut loader = beside.as_ref().unwrap_or(&server.engine).loader();
    // What expired meanwhile comes along with the rest and is then deleted as always, so that the log says so.
    let now = (keeps && !server.is_replica()).then(sluice_engine::internals::now_ms);
    let how =
        LoadOptions { checksum: config.rdbchecksum, drop_expired_before: now, ..LoadOptions::default() };
    match load(&mut loader, &*server.storage, &path, &how) {
        Ok(_) => {
            loader.finish();
            if let Some(loaded) = beside {
                server.engine.adopt(loaded);
            }
            crate::log!(Warning, "DB reloaded by DEBUG RELOAD");
            Ok(())
        }
        Err(e) => {
            crate::log!(Warning, "DEBUG RELOAD: {e}");
            Err(CmdError::text("ERR Error trying to load the RDB dump, check server logs."))
        }
    }
}
