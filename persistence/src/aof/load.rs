//! From the files of a manifest to an engine.
//!
//! In order: the base, by an RDB or commands (or, in a file of before Redis 7, both one behind the other), then
//! every incremental file. Commands run as a primary's stream does: they see expired keys, decide nothing by the clock, and
//! are not logged. Nothing is guessed: a file that is missing, damaged, or holds a command this server does not
//! know ends the load. One thing is forgiven, and only in the last file that is not empty and where `aof-load-truncated`
//! allows it: an end in the middle of a command or of a MULTI block, as a crash leaves it. The file is then cut back to where it was whole,
//! with a note that says how many bytes went.
//!
//! A file `appendfilename` in the server's own folder is what Redis wrote before version 7. It is moved into the append-only
//! folder and becomes the base there; a crash at any point of that leaves it to be done again.

use super::manifest::{AofFile, FileKind, Manifest, ManifestError};
use super::reader::{Item, Reader};
use crate::storage::{FileReader, Storage, folder_of};
use crate::{Error, LoadOptions};
use sluice_engine::internals::{Flags, Outcome, Request, resp::Args};
use sluice_engine::{Engine, Session};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes announced to the storage before they are read.
const PREFETCH: usize = 1 << 20;
/// Commands read before they run, so that their keys can be fetched together.
const BATCH: usize = 32;
/// Bytes of them: they were announced to the storage, and should be in a cache still.
const BATCH_BYTES: usize = PREFETCH / 4;

/// Where an append-only file is.
#[derive(Debug, Clone)]
pub struct AofPlace {
    /// The server's folder (`dir`).
    pub home: PathBuf,
    /// The folder of the files (`dir` and `appenddirname`).
    pub dir: PathBuf,
    /// What the files' names begin with (`appendfilename`).
    pub filename: String,
}

impl AofPlace {
    /// What stands for all the files of this name, where they are to be one process' alone: see
    /// [`Storage::lock`].
    pub fn lock_path(&self) -> PathBuf {
        self.dir.join(format!("{}.lock", self.filename))
    }
}

/// How to load.
#[derive(Debug, Clone, Copy)]
pub struct AofOptions {
    /// Accept a torn end of the last file (`aof-load-truncated`).
    pub load_truncated: bool,
    /// Compare the checksum of an RDB base (`rdbchecksum`).
    pub checksum: bool,
}

/// Something worth telling the operator meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AofNote {
    /// As it should be.
    Notice(String),
    /// Not as it should be.
    Warning(String),
}

/// What was loaded.
#[derive(Debug, Clone, Default)]
pub struct AofLoad {
    /// Commands that ran.
    pub commands: u64,
    /// Commands the engine replied an error to, which changed nothing; there are none in a file written here.
    pub refused: u64,
    /// Keys of an RDB base.
    pub base_keys: u64,
    /// Size of the base, after a cut of its end.
    pub base_bytes: u64,
    /// Size of all files, after a cut of the last one's end.
    pub bytes: u64,
    /// Bytes cut off a torn end.
    pub torn_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why an append-only file cannot be loaded. The texts are redis-server's, as far as people and tools look for them.
#[derive(Debug, thiserror::Error)]
pub enum AofError {
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file of the manifest is missing, or cannot be looked at.
    #[error("Unable to obtain the AOF file {file} length. stat: {source}")]
    Missing {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The storage failed.
    #[error("{doing} {file}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The RDB at the beginning of a file is damaged.
    #[error("Error reading the RDB base file {file}, AOF loading aborted: {source}")]
    Rdb {
        /// The file.
        file: String,
        /// Where and what.
        source: Error,
    },
    /// Bytes that are no log.
    #[error(
        "Bad file format reading the append only file {file}: make a backup of your AOF file, then use \
         ./redis-check-aof --fix <filename.manifest> (at offset {offset}: {why})"
    )]
    Format {
        /// The file.
        file: String,
        /// Where.
        offset: usize,
        /// What.
        why: String,
    },
    /// A torn end, where none is accepted.
    #[error(
        "Unexpected end of file reading the append only file {file}. You can: 1) Make a backup of your AOF file, then \
         use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' \
         configuration option to yes and restart the server. (whole up to offset {whole} of {size})"
    )]
    Torn {
        /// The file.
        file: String,
        /// Offset up to which it is whole.
        whole: u64,
        /// Its size.
        size: u64,
    },
    /// A torn end of a file that others follow.
    #[error(
        "Fatal error: the truncated file is not the last file ({file}, whole up to offset {whole} of {size})"
    )]
    TornInside {
        /// The file.
        file: String,
        /// Offset up to which it is whole.
        whole: u64,
        /// Its size.
        size: u64,
    },
    /// A command this server does not have.
    #[error("Unknown command '{command}' reading the append only file {file} (at offset {offset})")]
    UnknownCommand {
        /// The command.
        command: String,
        /// The file.
        file: String,
        /// Where.
        offset: usize,
    },
    /// A database this server does not have: what follows would go to another one.
    #[error("Can't select the database at offset {offset} of the append only file {file}: see `databases`")]
    Database {
        /// The file.
        file: String,
        /// Where.
        offset: usize,
    },
}

/// Loads what `manifest` names into `engine`, which should be empty and used by nobody else. `progress` is told the bytes
/// done so far. `Ok(None)`: there is no append-only file.
///
/// # Errors
/// See [`AofError`]. What was loaded until then stays in the engine.
pub fn load(
    engine: &Engine,
    storage: &Arc<dyn Storage>,
    place: &AofPlace,
    manifest: &mut Manifest,
    options: AofOptions,
    note: &mut dyn FnMut(AofNote),
    progress: &mut dyn FnMut(u64),
) -> Result<Option<AofLoad>, AofError> {
    upgrade(storage, place, manifest, note)?;
    if manifest.is_empty() {
        return Ok(None);
    }
    let started = Instant::now();
    let mut load = AofLoad::default();
    let mut last = 0;
    for (index, file) in manifest.parts().enumerate() {
        let path = file.path(&place.dir);
        let len = storage.len(&path).map_err(|source| AofError::Missing { file: file.shown(), source })?;
        load.bytes += len;
        // The next file is named before this one is synced, and written to after that: while it is empty, the end
        // of the log is here, and may be torn.
        if len > 0 {
            last = index;
        }
    }
    let mut done = 0;
    for (index, part) in manifest.parts().enumerate() {
        let began = Instant::now();
        let before = done;
        let mut one = One { engine, storage, place, part, options, load: &mut load, done: &mut done };
        one.run(index >= last, note, progress)?;
        if part.kind == FileKind::Base {
            load.base_bytes = done - before;
        }
        let kind = if part.kind == FileKind::Base { "base" } else { "incr" };
        let seconds = began.elapsed().as_secs_f64();
        note(AofNote::Notice(format!("DB loaded from {kind} file {}: {seconds:.3} seconds", part.shown())));
    }
    load.bytes -= load.torn_bytes;
    load.elapsed = started.elapsed();
    if load.refused > 0 {
        note(AofNote::Warning(format!(
            "{} of {} commands of the append only file were refused and changed nothing",
            load.refused, load.commands
        )));
    }
    Ok(Some(load))
}

/// The work of one file.
struct One<'a> {
    engine: &'a Engine,
    storage: &'a Arc<dyn Storage>,
    place: &'a AofPlace,
    part: &'a AofFile,
    options: AofOptions,
    load: &'a mut AofLoad,
    done: &'a mut u64,
}

impl One<'_> {
    fn run(
        &mut self,
        last: bool,
        note: &mut dyn FnMut(AofNote),
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), AofError> {
        let name = self.part.shown();
        let path = self.part.path(&self.place.dir);
        let io = |doing| {
            let file = self.part.shown();
            move |source| AofError::Io { doing, file, source }
        };
        let file = self.storage.open(&path).map_err(io("Fatal error: can't open the append log file"))?;
        file.prefetch(0..file.len().min(PREFETCH as u64)).map_err(io("reading"))?;
        let mut from = 0;
        if crate::rdb::is_rdb(file.bytes()) {
            from = self.preamble(note)?;
            progress(*self.done + from);
        }
        let torn = self.commands(&*file, from as usize, progress)?;
        let size = file.len();
        drop(file);
        let Some(whole) = torn else {
            *self.done += size;
            progress(*self.done);
            return Ok(());
        };
        if !last {
            return Err(AofError::TornInside { file: name, whole, size });
        }
        if !self.options.load_truncated {
            return Err(AofError::Torn { file: name, whole, size });
        }
        note(AofNote::Warning(format!("!!! Warning: short read while loading the AOF file {name}!!!")));
        note(AofNote::Warning(format!(
            "!!! Truncating the AOF {name} at offset {whole} !!! ({} bytes are cut off)",
            size - whole
        )));
        self.storage.truncate(&path, whole).map_err(io("Error truncating the AOF file"))?;
        self.load.torn_bytes = size - whole;
        *self.done += whole;
        note(AofNote::Warning(format!("AOF {name} loaded anyway because aof-load-truncated is enabled")));
        Ok(())
    }

    /// Loads the RDB a file begins with; the offset behind it.
    fn preamble(&mut self, note: &mut dyn FnMut(AofNote)) -> Result<u64, AofError> {
        let old = self.part.name == self.place.filename.as_bytes();
        note(AofNote::Notice(
            if old {
                "Reading RDB preamble from AOF file..."
            } else {
                "Reading RDB base file on AOF loading..."
            }
            .into(),
        ));
        let path = self.part.path(&self.place.dir);
        // Keys that have expired stay: the log goes on from there, and deletes them when their time comes.
        let options = LoadOptions { checksum: self.options.checksum, ..LoadOptions::default() };
        let mut loader = self.engine.loader();
        let loaded = crate::load(&mut loader, &**self.storage, &path, &options);
        self.load.base_keys += loader.finish();
        let stats = loaded.map_err(|source| AofError::Rdb { file: self.part.shown(), source })?;
        if old {
            note(AofNote::Notice("Reading the remaining AOF tail...".into()));
        }
        Ok(stats.bytes)
    }

    /// Runs commands to the end of the file; where that is torn, the offset up to which the file is whole.
    fn commands(
        &mut self,
        file: &dyn FileReader,
        from: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<u64>, AofError> {
        let mut reader = Reader::new(file.bytes(), from);
        let mut session = self.engine.session();
        session.from_primary = true;
        let mut reply = Vec::new();
        let mut batch = Vec::with_capacity(BATCH);
        let mut read_ahead = PREFETCH.max(from);
        if from > 0 {
            self.prefetch(file, from..read_ahead)?;
        }
        loop {
            if reader.offset() + PREFETCH / 2 > read_ahead {
                self.prefetch(file, read_ahead..read_ahead + PREFETCH)?;
                read_ahead += PREFETCH;
                progress(*self.done + reader.offset() as u64);
            }
            session.now_ms = sluice_engine::internals::now_ms();
            let (offset, item) = read_batch(&mut reader, &mut batch);
            self.fetch(&session, &batch);
            for (offset, args) in batch.drain(..) {
                self.command(&mut session, &args, offset, &mut reply)?;
            }
            match item {
                Item::Command(_) | Item::Annotation(_) => {}
                Item::End if !reader.in_block() => return Ok(None),
                Item::End | Item::Torn => {
                    return Ok(Some(reader.whole() as u64));
                }
                Item::Malformed(why) => {
                    return Err(AofError::Format { file: self.part.shown(), offset, why });
                }
            }
        }
    }

    /// Has the keys of these commands fetched: most of what running a log costs is waiting for memory.
    fn fetch(&self, session: &Session, batch: &[(usize, Args<'_>)]) {
        let mut keys: Vec<&[u8]> = Vec::with_capacity(BATCH);
        for (_, args) in batch {
            if let Some(row) = self.engine.lookup_trusted(args[0])
                && row.command.arity_ok(args.len())
            {
                row.command.keys.each(args, |at| {
                    if keys.len() < BATCH {
                        keys.push(args[at]);
                    }
                });
            }
        }
        self.engine.prefetch(session.db, &keys);
    }

    fn prefetch(&self, file: &dyn FileReader, range: std::ops::Range<usize>) -> Result<(), AofError> {
        let end = (range.end as u64).min(file.len());
        if range.start as u64 >= end {
            return Ok(());
        }
        file.prefetch(range.start as u64..end).map_err(|source| AofError::Io {
            doing: "Unrecoverable error reading the append only file",
            file: self.part.shown(),
            source,
        })
    }

    fn command(
        &mut self,
        session: &mut Session,
        args: &[&[u8]],
        offset: usize,
        reply: &mut Vec<u8>,
    ) -> Result<(), AofError> {
        let Some(row) = self.engine.lookup_trusted(args[0]) else {
            return Err(AofError::UnknownCommand {
                command: String::from_utf8_lossy(args[0]).into_owned(),
                file: self.part.shown(),
                offset,
            });
        };
        self.load.commands += 1;
        loop {
            reply.clear();
            let request = Request { args, raw: None };
            // A server's own commands (PING, REPLCONF of a primary's stream) change no data.
            match self.engine.call(session, row, request, reply) {
                Outcome::External if row.command.flags.contains(Flags::WRITE) => {
                    return Err(AofError::UnknownCommand {
                        command: row.command.name.to_owned(),
                        file: self.part.shown(),
                        offset,
                    });
                }
                Outcome::Done | Outcome::External | Outcome::Blocked | Outcome::Interrupted => {
                    self.load.refused += session.exec_errors.drain(..).len() as u64;
                    return Ok(());
                }
                Outcome::Refused if row.command.flags.contains(Flags::SELECTS_DB) => {
                    return Err(AofError::Database { file: self.part.shown(), offset });
                }
                Outcome::Refused => {
                    self.load.refused += 1;
                    return Ok(());
                }
                // A cut of the engine being filled: its consumer makes room in a moment.
                Outcome::Stalled => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// Reads commands until there are enough, or something else comes, which is returned with its offset.
fn read_batch<'a>(reader: &mut Reader<'a>, batch: &mut Vec<(usize, Args<'a>)>) -> (usize, Item<'a>) {
    let mut bytes = 0;
    loop {
        let offset = reader.offset();
        match reader.item() {
            Item::Command(args) => batch.push((offset, args)),
            other => return (offset, other),
        }
        bytes += reader.offset() - offset;
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            // Nothing that has to be looked at.
            return (reader.offset(), Item::Annotation(None));
        }
    }
}

/// Moves a file of before Redis 7 to where it belongs, if there is one and nothing newer.
fn upgrade(
    storage: &Arc<dyn Storage>,
    place: &AofPlace,
    manifest: &mut Manifest,
    note: &mut dyn FnMut(AofNote),
) -> Result<(), AofError> {
    let old = place.home.join(&place.filename);
    let new = place.dir.join(&place.filename);
    let io = |doing| {
        let file = place.filename.clone();
        move |source| AofError::Io { doing, file, source }
    };
    if !storage.exists(&old).map_err(io("looking for"))? {
        return Ok(());
    }
    let only_old = manifest.incr.is_empty()
        && manifest.base.as_ref().is_some_and(|b| b.name == place.filename.as_bytes());
    let interrupted = only_old && !storage.exists(&new).map_err(io("looking for"))?;
    if !manifest.is_empty() && !interrupted {
        return Ok(());
    }
    storage.create_dir(&place.dir).map_err(io("Can't open or create append-only dir of"))?;
    let base = AofFile { name: place.filename.clone().into_bytes(), seq: 1, kind: FileKind::Base };
    manifest.base = Some(base);
    manifest.base_seq = 1;
    // The manifest first: it names a file that the next start will move if this one does not come to it.
    manifest
        .persist(storage, &place.dir, &place.filename)
        .and_then(|()| storage.sync_dir(&place.home))
        .map_err(io("writing the AOF manifest of"))?;
    storage
        .rename(&old, &new)
        .and_then(|()| storage.sync_dir(&place.dir))
        .and_then(|()| storage.sync_dir(folder_of(&old)))
        .map_err(io("Error trying to move the old AOF file"))?;
    note(AofNote::Notice(format!(
        "Successfully migrated an old-style AOF file ({}) into the AOF directory ({}).",
        place.filename,
        place.dir.display()
    )));
    Ok(())
}
