//! `sluice-server check-rdb`, also when the program is called `redis-check-rdb`: whether an RDB file is sound, and what
//! is in it.
//!
//! Output and exit codes are those of redis-check-rdb 7.0, and the numbers of keys by type; offsets of damage are those
//! of the damage, not of how far a buffer was read.

use crate::check_aof::Bar;
use sluice_persistence::rdb::RdbError;
use sluice_persistence::rdb::check::{CheckError, CheckNote, CheckReport, check, type_name};
use sluice_persistence::storage::{Disk, Storage};
use std::io::Write;
use std::path::Path;

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
pub(crate) enum CheckRdb {
    /// Check this file.
    File(String),
    /// Print the version.
    Version,
}

/// Offset and reason of an error, apart.
fn parts(error: &RdbError) -> (u64, String) {
    match error {
        RdbError::Truncated { end, .. } => (*end, format!("Unexpected EOF reading RDB file: {error}")),
        RdbError::Checksum { offset, .. } => (*offset, error.to_string()),
        RdbError::Corrupt { offset, reason } | RdbError::Refused { offset, reason } => {
            (*offset, reason.to_string())
        }
        RdbError::Unsupported { offset, .. } | RdbError::Io { offset, .. } => (*offset, error.to_string()),
    }
}

impl CheckRdb {
    /// Reads the arguments after the program's (or the subcommand's) name; an error is what to print.
    pub(crate) fn parse(program: &str, args: &[String]) -> Result<CheckRdb, String> {
        match args {
            [word] if word == "-v" || word == "--version" => Ok(CheckRdb::Version),
            [file] => Ok(CheckRdb::File(file.clone())),
            _ => Err(format!("Usage: {program} <rdb-file-name>")),
        }
    }

    /// Checks; true where the file is sound.
    pub(crate) fn run(&self, out: &mut dyn Write) -> bool {
        let CheckRdb::File(file) = self else {
            let _ = writeln!(out, "redis-check-rdb {}", crate::version::REDIS_VERSION);
            return true;
        };
        check_file(&Disk, Path::new(file), true, &mut |line| drop(writeln!(out, "{line}")))
    }
}

/// Checks a file and says line by line what was found; true where it is sound.
pub(crate) fn check_file(
    storage: &dyn Storage,
    path: &Path,
    progress: bool,
    say: &mut dyn FnMut(std::fmt::Arguments<'_>),
) -> bool {
    let name = path.display();
    let file = match storage.open(path) {
        Ok(file) => file,
        Err(e) => {
            say(format_args!("Cannot open file {name}: {}", crate::config::os_reason(&e)));
            return false;
        }
    };
    say(format_args!("[offset 0] Checking RDB file {name}"));
    let mut bar = Bar::new(&name.to_string(), if progress { file.len() } else { 0 });
    let (report, outcome) = check(&*file, &mut |at| bar.show(at), &mut |note| match note {
        CheckNote::Aux { offset, name, value } => {
            say(format_args!(
                "[offset {offset}] AUX FIELD {} = '{}'",
                name.escape_ascii(),
                value.escape_ascii()
            ));
        }
        CheckNote::Database { offset, db } => say(format_args!("[offset {offset}] Selecting DB ID {db}")),
        CheckNote::Function { offset } => say(format_args!("[offset {offset}] FUNCTION library")),
        CheckNote::ModuleAux { offset, name } => {
            say(format_args!("[offset {offset}] MODULE AUX for: {name}"))
        }
    });
    bar.end();
    let end = report.offset;
    match &outcome {
        Ok(()) => {
            if report.unsummed {
                say(format_args!(
                    "[offset {end}] RDB file was saved with checksum disabled: no check performed."
                ));
            } else {
                say(format_args!("[offset {end}] Checksum OK"));
            }
            say(format_args!("[offset {end}] \\o/ RDB looks OK! \\o/"));
        }
        Err(error) => describe(error, say),
    }
    counts(&report, say);
    outcome.is_ok()
}

fn describe(e: &CheckError, say: &mut dyn FnMut(std::fmt::Arguments<'_>)) {
    let (offset, reason) = parts(&e.error);
    say(format_args!("--- RDB ERROR DETECTED ---"));
    say(format_args!("[offset {offset}] {reason}"));
    say(format_args!("[additional info] While doing: {}", e.doing));
    if let Some(key) = &e.key {
        say(format_args!("[additional info] Reading key '{}'", key.escape_ascii()));
    }
    if let Some(byte) = e.value_type {
        say(format_args!("[additional info] Reading type {byte} ({})", type_name(byte)));
    }
}

fn counts(report: &CheckReport, say: &mut dyn FnMut(std::fmt::Arguments<'_>)) {
    say(format_args!("[info] {} keys read", report.keys));
    say(format_args!("[info] {} expires", report.expires));
    say(format_args!("[info] {} already expired", report.expired));
    for (byte, keys) in &report.types {
        say(format_args!("[info] {keys} keys of type {byte} ({})", type_name(*byte)));
    }
}
