//! The servers that are compared, and the options that make each take one way of full sync.

use crate::disk::{Disk, Limit};
use crate::error::{Error, Result};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `--transport` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Staged in an RDB file.
    Disk,
    /// Streamed to all replicas.
    Socket,
    /// Streamed by io_uring.
    IoUring,
    /// Sluice is not measured.
    None,
}

/// Whose options a program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Sluice,
    Redis,
}

/// A server program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) family: Family,
    /// For the report: "sluice", "redis 7.0.15".
    pub(crate) name: String,
}

/// One way of full sync of one server.
#[derive(Clone, Debug)]
pub(crate) struct Mode {
    /// For the report.
    pub(crate) name: &'static str,
    /// Options of the primary.
    pub(crate) options: Vec<String>,
}

impl Program {
    /// sluice-server: the named one, or the one beside this program.
    pub(crate) fn sluice(named: Option<&Path>) -> Result<Program> {
        let at = match named {
            Some(path) => find(path),
            None => beside_this_program(),
        };
        let Some(path) = at else {
            return Err(Error::MissingBinary {
                name: "sluice-server".into(),
                at: named.map(Path::to_owned).or_else(this_folder),
                hint: "build it with `cargo build --release -p sluice-server`, or name it with --bin PROGRAM"
                    .into(),
            });
        };
        Ok(Program { path, family: Family::Sluice, name: "sluice".into() })
    }

    /// Any server, its family told by its name.
    pub(crate) fn named(path: &Path, option: &str) -> Result<Program> {
        let found = find(path).ok_or_else(|| Error::MissingBinary {
            name: path.display().to_string(),
            at: None,
            hint: format!("install it or give {option} its path"),
        })?;
        let stem = found.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let name = stem.trim_end_matches("-server").to_owned();
        if name.contains("sluice") {
            return Ok(Program { path: found, family: Family::Sluice, name: "sluice".into() });
        }
        let name = match version(&found) {
            Some(version) => format!("{name} {version}"),
            None => name,
        };
        Ok(Program { path: found, family: Family::Redis, name })
    }

    /// The option that limits the rate of the server's own storage; none where it is not limited.
    pub(crate) fn throttle(&self, disk: &Disk) -> Vec<String> {
        match (self.family, disk) {
            (Family::Sluice, Disk::Scratch(Limit::MbPerSecond(rate))) => {
                words(&format!("storage-throttle-rate {}", u64::from(*rate) << 20))
            }
            _ => Vec::new(),
        }
    }
}

/// The ways of full sync of Sluice.
pub(crate) fn sluice_mode(transport: Transport, delay: u32) -> Option<Mode> {
    let (name, diskless) = match transport {
        Transport::Disk => ("disk", "no"),
        Transport::Socket => ("socket", "yes"),
        Transport::IoUring => ("io-uring", "yes"),
        Transport::None => return None,
    };
    let mut options = common(diskless, delay);
    options.extend(words(&format!("repl-transport {name}")));
    Some(Mode { name, options })
}

/// The ways of full sync of Redis and its kin.
pub(crate) fn redis_modes(delay: u32) -> [Mode; 2] {
    [("disk", "no"), ("diskless", "yes")]
        .map(|(name, diskless)| Mode { name, options: common(diskless, delay) })
}

fn common(diskless: &str, delay: u32) -> Vec<String> {
    // Random values do not compress; trying to would only slow down whoever tries.
    let options = ["repl-diskless-sync", diskless, "rdbcompression", "no", "repl-diskless-sync-delay"];
    let mut options = flags(&options);
    options.push(delay.to_string());
    options
}

/// Options of every replica: it loads from the socket, as it is empty.
pub(crate) fn replica_options() -> Vec<String> {
    flags(&["repl-diskless-load", "on-empty-db"])
}

/// Names and values in turn, as a command line has them.
fn flags(pairs: &[&str]) -> Vec<String> {
    pairs
        .iter()
        .enumerate()
        .map(|(i, w)| if i % 2 == 0 { format!("--{w}") } else { (*w).to_owned() })
        .collect()
}

/// "name value value" as a configuration file has it, as words of a command line.
pub(crate) fn words(option: &str) -> Vec<String> {
    let mut words = option.trim().trim_start_matches("--").split_whitespace();
    let name = words.next().map(|name| format!("--{name}"));
    name.into_iter().chain(words.map(str::to_owned)).collect()
}

fn this_folder() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}

/// Beside this program, or one folder up: a test program lies in `deps`.
fn beside_this_program() -> Option<PathBuf> {
    let folder = this_folder()?;
    [Some(folder.as_path()), folder.parent()]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("sluice-server"))
        .find(|path| path.is_file())
}

/// A program by its path, or by its name on the search path.
fn find(path: &Path) -> Option<PathBuf> {
    if path.components().count() > 1 {
        return path.is_file().then(|| std::path::absolute(path).ok())?;
    }
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs).map(|dir| dir.join(path)).find(|path| path.is_file())
}

/// What a server of the Redis family calls its version ("Redis server v=7.0.15 sha=...").
fn version(path: &Path) -> Option<String> {
    let out = Command::new(path).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_words_of_a_command_line() {
        assert_eq!(words("repl-backlog-size 1mb"), ["--repl-backlog-size", "1mb"]);
        assert_eq!(words("--save a b"), ["--save", "a", "b"]);
        assert_eq!(words(" "), Vec::<String>::new());
    }

    #[test]
    fn only_sluice_on_a_limited_disk_is_throttled() {
        let limited = Disk::Scratch(Limit::MbPerSecond(50));
        let program = |family| Program { path: "x".into(), family, name: "x".into() };
        assert_eq!(program(Family::Sluice).throttle(&limited), ["--storage-throttle-rate", "52428800"]);
        assert!(program(Family::Redis).throttle(&limited).is_empty());
        assert!(program(Family::Sluice).throttle(&Disk::Scratch(Limit::Unlimited)).is_empty());
    }

    #[test]
    fn a_missing_server_says_how_to_build_it() {
        let error = Program::sluice(Some(Path::new("/nowhere/sluice-server"))).unwrap_err().to_string();
        assert!(error.contains("cargo build --release -p sluice-server"), "{error}");
    }
}
