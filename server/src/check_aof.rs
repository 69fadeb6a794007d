//! `sluice-server check-aof`, also when the program is called `redis-check-aof`: whether an append-only file is
//! whole, and cutting back one that is not.
//!
//! Output, questions and exit codes are those of redis-check-aof 7.0: people and scripts read them.

use sluice_persistence::aof::check::{Checked, Checker};
use sluice_persistence::aof::{AofFile, Manifest, ManifestError};
use sluice_persistence::rdb::source::FileSource;
use sluice_persistence::rdb::{RdbDecoder, RdbVisitor};
use sluice_persistence::storage::{Disk, FileReader, Storage, folder_of};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
pub(crate) struct CheckAof {
    fix: bool,
    until: Option<i64>,
    file: PathBuf,
}

/// Files smaller than this are checked before anybody could read a progress bar.
const PROGRESS_FROM: u64 = 64 << 20;
/// Longest line of a manifest.
const MANIFEST_LINE: usize = 1024;

impl CheckAof {
    /// Reads the arguments after the program's (or the subcommand's) name; an error is what to print.
    pub(crate) fn parse(program: &str, args: &[String]) -> Result<CheckAof, String> {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let (fix, until, file) = match words.as_slice() {
            [file] => (false, None, *file),
            ["--fix", file] => (true, None, *file),
            ["--truncate-to-timestamp", time, file] => {
                let time = time.parse().map_err(|_| "Invalid timestamp, aborting...".to_owned())?;
                (false, Some(time), *file)
            }
            _ => {
                return Err(format!(
                    "Usage: {program} [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>"
                ));
            }
        };
        Ok(CheckAof { fix, until, file: file.into() })
    }

    /// Checks; true where everything is whole, or is now.
    pub(crate) fn run(&self, out: &mut dyn Write, input: &mut dyn BufRead) -> bool {
        let storage = Disk;
        let mut run = Run { job: self, storage: &storage, checker: Checker::new(self.until), out, input };
        match run.everything() {
            Ok(()) => true,
            Err(text) => {
                let _ = writeln!(run.out, "{text}");
                false
            }
        }
    }
}

/// How one file turned out.
enum Verdict {
    Valid,
    Empty,
    Truncated,
    TruncatedToTime,
}

struct Run<'a> {
    job: &'a CheckAof,
    storage: &'a Disk,
    checker: Checker,
    out: &'a mut dyn Write,
    input: &'a mut dyn BufRead,
}

/// Prints a line; nobody to read it is no reason to stop.
macro_rules! say {
    ($run:expr, $($text:tt)*) => { drop(writeln!($run.out, $($text)*)) };
}

impl Run<'_> {
    fn open(&self, path: &Path) -> Result<Box<dyn FileReader>, String> {
        self.storage.open(path).map_err(|e| {
            format!("Cannot open file {}: {}, aborting...", path.display(), crate::config::os_reason(&e))
        })
    }

    fn everything(&mut self) -> Result<(), String> {
        let path = &self.job.file;
        let file = self.open(path)?;
        if is_manifest(file.bytes()) {
            drop(file);
            return self.multi_part(path);
        }
        say!(self, "Start checking Old-Style AOF");
        let name = path.display().to_string();
        let verdict = self.file(&name, path, true, is_rdb(&*file))?;
        self.tell("AOF", &name, &verdict);
        Ok(())
    }

    fn multi_part(&mut self, path: &Path) -> Result<(), String> {
        say!(self, "Start checking Multi Part AOF");
        // Whoever repairs files that a server writes takes from under it what it is about to add to.
        let lock = path.with_extension("lock");
        let changes = self.job.fix || self.job.until.is_some();
        let _lock = match changes.then(|| self.storage.lock(&lock)) {
            Some(Err(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(format!("{} is in use by a server, aborting...", path.display()));
            }
            lock => lock,
        };
        let manifest = Manifest::load_file(self.storage, path).map_err(|e| {
            let mut text = "\n*** FATAL AOF MANIFEST FILE ERROR ***\n".to_owned();
            if let ManifestError::Invalid { line: Some((number, line)), .. } = &e {
                text += &format!("Reading the manifest file, at line {number}\n>>> '{line}'\n");
            }
            format!("{text}{e}")
        })?;
        let dir = folder_of(path);
        let last = manifest.parts().last().map(|f| f.name.clone());
        let is_last = |f: &AofFile| Some(&f.name) == last.as_ref();
        if let Some(base) = &manifest.base {
            let path = base.path(dir);
            let rdb = is_rdb(&*self.open(&path)?);
            say!(self, "Start to check BASE AOF ({} format).", if rdb { "RDB" } else { "RESP" });
            let verdict = self.file(&base.shown(), &path, is_last(base), rdb)?;
            self.tell("BASE AOF", &base.shown(), &verdict);
        }
        if !manifest.incr.is_empty() {
            say!(self, "Start to check INCR files.");
        }
        for incr in &manifest.incr {
            let verdict = self.file(&incr.shown(), &incr.path(dir), is_last(incr), false)?;
            self.tell("INCR AOF", &incr.shown(), &verdict);
        }
        say!(self, "All AOF files and manifest are valid");
        Ok(())
    }

    fn tell(&mut self, kind: &str, name: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Valid => say!(self, "{kind} {name} is valid"),
            Verdict::Empty => say!(self, "{kind} {name} is empty"),
            Verdict::Truncated => say!(self, "Successfully truncated AOF {name}"),
            Verdict::TruncatedToTime => {
                let time = self.job.until.unwrap_or_default();
                say!(self, "Successfully truncated AOF {name} to timestamp {time}");
            }
        }
    }

    fn file(&mut self, name: &str, path: &Path, last: bool, rdb: bool) -> Result<Verdict, String> {
        let file = self.open(path)?;
        if file.is_empty() {
            return Ok(Verdict::Empty);
        }
        let from = if rdb { self.preamble(&*file)? } else { 0 };
        let mut bar = Bar::new(name, file.len());
        let found = self.checker.check(name, file.bytes(), from as usize, &mut |at| bar.show(at));
        bar.end();
        drop(file);
        if let Some(at) = found.later {
            return self.truncate_to_time(path, at, last);
        }
        self.judge(name, path, last, &found)
    }

    fn preamble(&mut self, file: &dyn FileReader) -> Result<u64, String> {
        let mut decoder = RdbDecoder::with_checksum(FileSource::new(file), true);
        match decoder.run(&mut Unheeded) {
            Ok(()) => {
                say!(self, "RDB preamble is OK, proceeding with AOF tail...");
                Ok(decoder.offset())
            }
            Err(e) => Err(format!("{e}\nRDB preamble of AOF file is not sane, aborting.")),
        }
    }

    fn truncate_to_time(&mut self, path: &Path, at: u64, last: bool) -> Result<Verdict, String> {
        let (shown, time) = (path.display(), self.job.until.unwrap_or_default());
        if at == 0 {
            return Err(format!("AOF {shown} has nothing before timestamp {time}, aborting..."));
        }
        if !last {
            return Err(format!(
                "Failed to truncate AOF {shown} to timestamp {time} to offset {at} because it is not the last file.\n\
                 If you insist, please delete all files after this file according to the manifest file and delete \
                 the corresponding records in manifest file manually. Then re-run redis-check-aof."
            ));
        }
        match self.storage.truncate(path, at) {
            Ok(()) => Ok(Verdict::TruncatedToTime),
            Err(_) => Err(format!("Failed to truncate AOF {shown} to timestamp {time}")),
        }
    }

    fn judge(&mut self, name: &str, path: &Path, last: bool, found: &Checked) -> Result<Verdict, String> {
        if let Some(error) = &found.error {
            say!(self, "{error}");
        }
        let (size, good) = (found.size, found.ok_up_to);
        let diff = size - good;
        if diff == 0
            && let Some(time) = self.job.until
        {
            say!(self, "Truncate nothing in AOF {name} to timestamp {time}");
            return Ok(Verdict::Valid);
        }
        say!(
            self,
            "AOF analyzed: filename={name}, size={size}, ok_up_to={good}, ok_up_to_line={}, diff={diff}",
            found.line
        );
        if diff == 0 {
            return Ok(Verdict::Valid);
        }
        if !self.job.fix {
            return Err(format!("AOF {name} is not valid. Use the --fix option to try fixing it."));
        }
        if !last {
            return Err(format!("Failed to truncate AOF {name} because it is not the last file"));
        }
        say!(self, "This will shrink the AOF {name} from {size} bytes, with {diff} bytes, to {good} bytes");
        let _ = write!(self.out, "Continue? [y/N]: ");
        let _ = self.out.flush();
        let mut answer = String::new();
        let yes = self.input.read_line(&mut answer).is_ok() && answer.starts_with(['y', 'Y']);
        if !yes {
            return Err("Aborting...".into());
        }
        match self.storage.truncate(path, good) {
            Ok(()) => Ok(Verdict::Truncated),
            Err(_) => Err(format!("Failed to truncate AOF {name}")),
        }
    }
}

fn is_rdb(file: &dyn FileReader) -> bool {
    file.len() >= 8 && sluice_persistence::rdb::is_rdb(file.bytes())
}

/// A manifest has a line that begins with `file`. An AOF's lines are looked at only as far as one is long.
fn is_manifest(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    // A log or an RDB shows at once that it is none: only comments come before the first line of a manifest.
    while rest.first() == Some(&b'#') && !rest.starts_with(b"#TS:") {
        let end = rest.iter().take(MANIFEST_LINE).position(|b| *b == b'\n');
        rest = end.map_or(&[][..], |n| &rest[n + 1..]);
    }
    rest.starts_with(b"file")
}

/// Says how far a big file is, where somebody may be looking.
pub(crate) struct Bar {
    name: String,
    size: u64,
    shown: bool,
}

impl Bar {
    pub(crate) fn new(name: &str, size: u64) -> Bar {
        Bar { name: name.to_owned(), size, shown: size >= PROGRESS_FROM && std::io::stderr().is_terminal() }
    }

    pub(crate) fn show(&mut self, at: u64) {
        if self.shown {
            let percent = at * 100 / self.size.max(1);
            let bar = "#".repeat(percent as usize / 4);
            eprint!("\rChecking {}: [{bar:25}] {percent}%", self.name);
        }
    }

    pub(crate) fn end(&self) {
        if self.shown {
            eprintln!("\rChecking {}: [{}] 100%", self.name, "#".repeat(25));
        }
    }
}

/// Takes keys and does nothing with them: the decoder's checks are what is wanted.
struct Unheeded;

impl RdbVisitor for Unheeded {}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = b"*3\r\n$3\r\nset\r\n$3\r\nfoo\r\n$5\r\nhello\r\n";

    fn check(args: &[&str], file: &Path, answer: &str) -> (bool, String) {
        let words: Vec<String> =
            args.iter().map(|a| (*a).to_owned()).chain([file.display().to_string()]).collect();
        let job = CheckAof::parse("check-aof", &words).expect("arguments");
        let mut out = Vec::new();
        let good = job.run(&mut out, &mut answer.as_bytes());
        (good, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_torn_file_is_told_and_fixed_if_somebody_says_yes() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("x.aof");
        std::fs::write(&path, [SET, &SET[..10]].concat()).expect("write");
        let (good, text) = check(&[], &path, "");
        assert!(!good && text.contains("is not valid. Use the --fix option"), "{text}");
        let (good, text) = check(&["--fix"], &path, "n\n");
        assert!(!good && text.ends_with("Continue? [y/N]: Aborting...\n"), "{text}");
        let (good, text) = check(&["--fix"], &path, "y\n");
        assert!(good && text.contains("Successfully truncated AOF"), "{text}");
        assert_eq!(std::fs::read(&path).expect("read"), SET);
        assert!(check(&[], &path, "").0);
    }

    #[test]
    fn only_the_last_file_of_a_manifest_is_cut() {
        let dir = tempfile::tempdir().expect("folder");
        let manifest = dir.path().join("x.manifest");
        std::fs::write(&manifest, "file x.1.base.aof seq 1 type b\nfile x.1.incr.aof seq 1 type i\n")
            .expect("write");
        std::fs::write(dir.path().join("x.1.base.aof"), &SET[..9]).expect("write");
        std::fs::write(dir.path().join("x.1.incr.aof"), SET).expect("write");
        let (good, text) = check(&["--fix"], &manifest, "y\n");
        assert!(!good && text.contains("because it is not the last file"), "{text}");
        std::fs::write(dir.path().join("x.1.base.aof"), SET).expect("write");
        let (good, text) = check(&[], &manifest, "");
        assert!(good && text.ends_with("All AOF files and manifest are valid\n"), "{text}");
    }

    #[test]
    fn a_log_is_cut_back_to_a_time() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("x.aof");
        std::fs::write(&path, [b"#TS:5\r\n", SET, b"#TS:7\r\n", SET].concat()).expect("write");
        assert!(!check(&["--truncate-to-timestamp", "4"], &path, "").0);
        let (good, text) = check(&["--truncate-to-timestamp", "6"], &path, "");
        assert!(good && text.contains("to timestamp 6"), "{text}");
        assert_eq!(std::fs::read(&path).expect("read").len(), 7 + SET.len());
    }
}
