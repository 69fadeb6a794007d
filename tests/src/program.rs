//! The programs under test and their peers: where they are.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A server program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `sluice-server`, as the workspace built it.
    Sluice,
    /// The real redis-server.
    Redis,
}

impl Program {
    /// Its path, or its name on the search path.
    pub fn path(self) -> PathBuf {
        match self {
            Program::Sluice => sluice_server(),
            Program::Redis => "redis-server".into(),
        }
    }
}

/// The server to test: `SLUICE_SERVER`, or the one beside the test programs' folder.
///
/// # Panics
///
/// When there is none.
fn sluice_server() -> PathBuf {
    if let Some(path) = std::env::var_os("SLUICE_SERVER") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let found = test.ancestors().skip(1).take(3).map(|dir| dir.join("sluice-server")).find(|p| p.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no sluice-server near {}: build it with `cargo build -p sluice-server` (scripts/test does), \
             or name one in SLUICE_SERVER",
            test.display()
        )
    })
}

/// The Python with redis-py that scripts/install-peers made.
pub fn python() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let venv = test.ancestors().map(|dir| dir.join("venv/bin/python")).find(|p| p.is_file());
    venv.unwrap_or_else(|| "python3".into())
}

/// Whether the named peers run here; without them a test says so and returns, but never under CI.
///
/// # Panics
///
/// When one is missing and `CI=true`.
pub fn peers_here(programs: &[&str]) -> bool {
    let runs = |name: &&str| {
        let mut command = Command::new(name);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    let missing: Vec<_> = programs.iter().filter(|name| !runs(name)).collect();
    if missing.is_empty() {
        return true;
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{missing:?} missing: run scripts/install-peers");
    eprintln!("skipped: {missing:?} missing, scripts/install-peers installs them");
    false
}
