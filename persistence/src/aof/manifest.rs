//! The manifest: which files make up the append-only file.
//!
//! One line a file, in the order base, history, incr, as redis-server 7.0 writes and reads it:
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b
//! file appendonly.aof.1.base.rdb seq 1 type h
//! file appendonly.aof.1.incr.aof seq 1 type h
//! file appendonly.aof.2.incr.aof seq 2 type i
//! ```
//!
//! `b` is the base, of which there is one at most; `i` the incremental files, loaded in the order of their sequence
//! numbers, which grow; `h` what a rewrite has replaced and nobody has deleted yet. Names with spaces, quotes
//! or unprintable bytes stand in double quotes with escapes. Lines that begin with `#` are comments, pairs of
//! words with other keys are left aside. Whatever else is odd makes the whole file invalid: which data would be
//! loaded must not be guessed.

use crate::storage::{AtomicFile, Storage, folder_of};
use sluice_engine::internals::words::{quote, split};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest line, its end included, that redis-server reads (`MANIFEST_MAX_LINE`).
const MAX_LINE: usize = 1024;
/// Largest manifest read: far more files than any history of failed rewrites leaves.
const MAX_BYTES: u64 = 16 << 20;

/// What a file of the manifest holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The cut.
    Base,
    /// Replaced by a rewrite; to be deleted.
    History,
    /// Log.
    Incr,
}

impl FileKind {
    fn letter(self) -> char {
        match self {
            Self::Base => 'b',
            Self::History => 'h',
            Self::Incr => 'i',
        }
    }
}

/// One file of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AofFile {
    /// Its name, without a path.
    pub name: Vec<u8>,
    /// Its sequence number among those of its kind.
    pub seq: i64,
    /// What it holds.
    pub kind: FileKind,
}

impl AofFile {
    /// The file in `dir`.
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(OsStr::from_bytes(&self.name))
    }

    /// The name as text, for people.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// A manifest that cannot be used, with the line at fault.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The storage failed.
    #[error("{doing} the AOF manifest file {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// It is not a manifest.
    #[error("{reason}")]
    Invalid {
        /// Number of the line, from 1, and its text; none where no line is at fault.
        line: Option<(usize, String)>,
        /// What is wrong, in redis-server's words.
        reason: &'static str,
    },
}

/// The files of an append-only file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The cut everything begins with. None: the log begins with nothing.
    pub base: Option<AofFile>,
    /// Files to delete.
    pub history: Vec<AofFile>,
    /// The log, oldest first.
    pub incr: Vec<AofFile>,
    /// Highest sequence number of a base so far.
    pub base_seq: i64,
    /// Highest sequence number of an incremental file so far.
    pub incr_seq: i64,
}

impl Manifest {
    /// Reads a manifest's text.
    ///
    /// # Errors
    /// With the line and the reason.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let mut manifest = Self::default();
        if text.is_empty() {
            return Err(ManifestError::Invalid { line: None, reason: "Found an empty AOF manifest" });
        }
        for (number, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
            let invalid = |reason| ManifestError::Invalid {
                line: Some((number + 1, String::from_utf8_lossy(line.trim_ascii()).into_owned())),
                reason,
            };
            if line.first() == Some(&b'#') {
                continue;
            }
            if line.len() > MAX_LINE || line.last() != Some(&b'\n') {
                return Err(ManifestError::Invalid {
                    line: None,
                    reason: "The AOF manifest file contains too long line",
                });
            }
            manifest.add(parse_line(line).map_err(invalid)?).map_err(invalid)?;
        }
        let mut names = HashSet::new();
        if !manifest.parts().all(|file| names.insert(&file.name)) {
            return Err(ManifestError::Invalid { line: None, reason: "Found a file that is named twice" });
        }
        Ok(manifest)
    }

    fn add(&mut self, file: AofFile) -> Result<(), &'static str> {
        match file.kind {
            FileKind::Base => {
                if self.base.is_some() {
                    return Err("Found duplicate base file information");
                }
                self.base_seq = file.seq;
                self.base = Some(file);
            }
            FileKind::History => self.history.push(file),
            FileKind::Incr => {
                if file.seq <= self.incr_seq {
                    return Err("Found a non-monotonic sequence number");
                }
                self.incr_seq = file.seq;
                self.incr.push(file);
            }
        }
        Ok(())
    }

    /// The manifest's text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for file in self.base.iter().chain(&self.history).chain(&self.incr) {
            text.extend_from_slice(b"file ");
            put_name(&mut text, &file.name);
            text.extend_from_slice(format!(" seq {} type {}\n", file.seq, file.kind.letter()).as_bytes());
        }
        text
    }

    /// Reads the manifest of the append-only file `filename` in `dir`; an empty one where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is invalid.
    pub fn load(storage: &dyn Storage, dir: &Path, filename: &str) -> Result<Self, ManifestError> {
        let path = manifest_path(dir, filename);
        match storage.exists(&path) {
            Ok(true) => Self::load_file(storage, &path),
            Ok(false) => Ok(Self::default()),
            Err(source) => Err(ManifestError::Io { doing: "looking for", path, source }),
        }
    }

    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// It cannot be read, or is invalid.
    pub fn load_file(storage: &dyn Storage, path: &Path) -> Result<Self, ManifestError> {
        let io = |source| ManifestError::Io { doing: "reading", path: path.to_path_buf(), source };
        let file = storage.open(path).map_err(io)?;
        if file.len() > MAX_BYTES {
            return Err(io(io::Error::new(io::ErrorKind::InvalidData, "larger than any manifest")));
        }
        file.prefetch(0..file.len()).map_err(io)?;
        Self::parse(file.bytes())
    }

    /// Replaces the manifest of `filename` in `dir` by this one, at once and durably. Files created in `dir` before
    /// are durable by name afterwards too.
    ///
    /// # Errors
    /// Those of the storage; unless only the folder's sync failed, the manifest is as before.
    pub fn persist(&self, storage: &Arc<dyn Storage>, dir: &Path, filename: &str) -> io::Result<()> {
        let text = self.to_bytes();
        // A name of many unprintable bytes grows by its escapes: what nobody could read again is not written.
        if text.split_inclusive(|b| *b == b'\n').any(|line| line.len() > MAX_LINE) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file name too long for a line of a manifest",
            ));
        }
        let mut file = AtomicFile::create(storage.clone(), &manifest_path(dir, filename))?;
        file.write_all(&text)?;
        file.commit()
    }

    /// The name the next base will have.
    pub fn next_base_name(&self, filename: &str, rdb: bool) -> Vec<u8> {
        let format = if rdb { "rdb" } else { "aof" };
        format!("{filename}.{}.base.{format}", self.base_seq + 1).into_bytes()
    }

    /// Makes the next base, and history of the one before.
    pub fn advance_base(&mut self, filename: &str, rdb: bool) {
        let name = self.next_base_name(filename, rdb);
        self.base_seq += 1;
        let next = AofFile { name, seq: self.base_seq, kind: FileKind::Base };
        if let Some(before) = self.base.replace(next) {
            self.history.insert(0, AofFile { kind: FileKind::History, ..before });
        }
    }

    /// Adds the next incremental file, and returns it.
    pub fn add_incr(&mut self, filename: &str) -> AofFile {
        self.incr_seq += 1;
        let name = format!("{filename}.{}.incr.aof", self.incr_seq).into_bytes();
        let file = AofFile { name, seq: self.incr_seq, kind: FileKind::Incr };
        self.incr.push(file.clone());
        file
    }

    /// Makes history of the incremental files a new base has replaced: all, or all but the newest, which is the one
    /// being written.
    pub fn retire_incr(&mut self, keep_last: bool) {
        let keep = usize::from(keep_last).min(self.incr.len());
        // In the order redis-server leaves them: oldest first, in front of older history.
        let kept = self.incr.split_off(self.incr.len() - keep);
        for file in std::mem::replace(&mut self.incr, kept).into_iter().rev() {
            self.history.insert(0, AofFile { kind: FileKind::History, ..file });
        }
    }

    /// Base and incremental files in the order of loading.
    pub fn parts(&self) -> impl Iterator<Item = &AofFile> {
        self.base.iter().chain(&self.incr)
    }

    /// Whether there is nothing to load.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.incr.is_empty()
    }
}

/// Where the manifest of `filename` stands.
pub fn manifest_path(dir: &Path, filename: &str) -> PathBuf {
    dir.join(format!("{filename}.manifest"))
}

/// Removes files under temporary names that a crash left in `dir`, as far as they belong to `filename`.
pub fn remove_leftovers(storage: &dyn Storage, dir: &Path, filename: &str) -> io::Result<()> {
    for path in storage.list(dir)? {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let ours = memchr_find(name, filename.as_bytes());
        if name.starts_with(b"temp-") && ours && folder_of(&path) == dir {
            storage.remove(&path)?;
        }
    }
    Ok(())
}

fn memchr_find(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|w| w == part)
}

/// Highest sequence number accepted: those to come count on from there.
const MAX_SEQ: i64 = 1 << 62;
fn parse_line(line: &[u8]) -> Result<AofFile, &'static str> {
    const FORMAT: &str = "Invalid AOF manifest file format";
    // Words stand apart by blanks. Other white space is where an end of line was damaged: two lines would be read as one.
    if line.trim_ascii().iter().any(u8::is_ascii_control) {
        return Err(FORMAT);
    }
    let words = split(line.trim_ascii()).ok_or(FORMAT)?;
    // More pairs may come in later versions; fewer cannot be right.
    if words.len() < 6 || !words.len().is_multiple_of(2) {
        return Err(FORMAT);
    }
    let (mut name, mut seq, mut kind) = (None, 0, None);
    for pair in words.chunks_exact(2) {
        let value = &pair[1];
        match pair[0].to_ascii_lowercase().as_slice() {
            b"file" => {
                if value.iter().any(|b| matches!(b, b'/' | b'\\')) {
                    return Err("File can't be a path, just a filename");
                }
                name = Some(value.clone());
            }
            b"seq" => {
                seq = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
            }
            b"type" => kind = value.first().copied(),
            _ => {}
        }
    }
    match (name, seq, kind) {
        (Some(name), seq, Some(kind)) if seq != 0 && seq <= MAX_SEQ && !name.is_empty() => {
            let kind = match kind {
                b'b' => FileKind::Base,
                b'h' => FileKind::History,
                b'i' => FileKind::Incr,
                _ => return Err("Unknown AOF file type"),
            };
            Ok(AofFile { name, seq, kind })
        }
        _ => Err(FORMAT),
    }
}

/// A name, in quotes where it needs them.
fn put_name(text: &mut Vec<u8>, name: &[u8]) {
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'\'');
    if name.iter().all(plain) {
        return text.extend_from_slice(name);
    }
    text.extend_from_slice(&quote(name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Memory;

    fn reason(text: &str) -> String {
        Manifest::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut m = Manifest::default();
        m.advance_base("a b\n.aof", true);
        m.add_incr("a b\n.aof");
        let text = m.to_bytes();
        assert_eq!(
            String::from_utf8_lossy(&text),
            "file \"a b\\n.aof.1.base.rdb\" seq 1 type b\nfile \"a b\\n.aof.1.incr.aof\" seq 1 type i\n"
        );
        assert_eq!(Manifest::parse(&text).unwrap(), m);
    }

    #[test]
    fn a_line_that_could_not_be_read_again_is_not_written() {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new());
        let mut m = Manifest::default();
        m.add_incr(&"\u{1}".repeat(250));
        assert_eq!(m.persist(&storage, Path::new("d"), "x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn rewrites_leave_history_in_the_order_of_redis() {
        let mut m =
            Manifest::parse(b"file x.5.base.rdb seq 5 type b\nfile x.1.incr.aof seq 1 type i\n").unwrap();
        for _ in 0..2 {
            m.add_incr("x");
            m.advance_base("x", true);
            m.retire_incr(true);
        }
        let text = String::from_utf8(m.to_bytes()).unwrap();
        assert_eq!(
            text,
            "file x.7.base.rdb seq 7 type b\nfile x.2.incr.aof seq 2 type h\nfile x.6.base.rdb seq 6 type h\n\
             file x.1.incr.aof seq 1 type h\nfile x.5.base.rdb seq 5 type h\nfile x.3.incr.aof seq 3 type i\n"
        );
    }

    #[test]
    fn sequences_go_on_and_comments_and_new_keys_are_left_aside() {
        let mut m = Manifest::parse(
            b"# made by hand\nFILE x.7.base.rdb SEQ 7 type b new thing\nfile x.3.incr.aof seq 3 type i\n",
        )
        .unwrap();
        assert_eq!(m.add_incr("x").name, b"x.4.incr.aof");
        assert_eq!(m.next_base_name("x", false), b"x.8.base.aof");
        m.retire_incr(false);
        assert!(m.incr.is_empty());
        assert_eq!(m.history.len(), 2);
    }

    #[test]
    fn errors_are_those_of_redis() {
        let base = "file x.1.base.rdb seq 1 type b\n";
        for (text, expected) in [
            (String::new(), "Found an empty AOF manifest"),
            (format!("{base}\n{base}"), "Invalid AOF manifest file format"),
            (format!("{base}{base}"), "Found duplicate base file information"),
            ("file x seq 1 type x\n".into(), "Unknown AOF file type"),
            ("filx x seq 1 type b\n".into(), "Invalid AOF manifest file format"),
            ("file x type b\n".into(), "Invalid AOF manifest file format"),
            ("file x seq 1 type b odd\n".into(), "Invalid AOF manifest file format"),
            ("file x seq 0 type b\n".into(), "Invalid AOF manifest file format"),
            (format!("file x seq {} type b\n", i64::MAX), "Invalid AOF manifest file format"),
            ("file ../x seq 1 type b\n".into(), "File can't be a path, just a filename"),
            ("file x seq 2 type i\nfile y seq 2 type i\n".into(), "Found a non-monotonic sequence number"),
            (format!("{}\n", base.trim().repeat(100)), "The AOF manifest file contains too long line"),
            (base.trim().into(), "The AOF manifest file contains too long line"),
        ] {
            assert_eq!(reason(&text), expected, "{text}");
        }
    }

    #[test]
    fn garbage_is_refused_without_a_panic() {
        let good = b"file \"a\\x20b\" seq 1 type b\nfile x.1.incr.aof seq 1 type i\n";
        for at in 0..good.len() {
            for byte in [0, b'\n', b'"', b'\\', 0xff] {
                let mut bad = good.to_vec();
                bad[at] = byte;
                let _ = Manifest::parse(&bad);
                let _ = Manifest::parse(&bad[..at]);
            }
        }
    }

    #[test]
    fn a_missing_manifest_is_an_empty_one_and_leftovers_go() {
        let storage = Memory::new();
        let dir = Path::new("d");
        assert!(Manifest::load(&storage, dir, "x").unwrap().is_empty());
        storage.write(Path::new("d/temp-1-2-x.manifest"), b"");
        storage.write(Path::new("d/temp-1-2-other"), b"");
        remove_leftovers(&storage, dir, "x").unwrap();
        assert_eq!(storage.list(dir).unwrap(), [PathBuf::from("d/temp-1-2-other")]);
    }
}
