//! What can go wrong in a measurement, each with what to do about it.

use std::path::PathBuf;

/// An error a person can act on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A server binary that is not where it should be.
    #[error("{name} not found{}; {hint}", at.as_ref().map(|p| format!(" at {}", p.display())).unwrap_or_default())]
    MissingBinary {
        /// What was looked for.
        name: String,
        /// Where, when one place was named.
        at: Option<PathBuf>,
        /// What to do next.
        hint: String,
    },
    /// A server that did not come up; its last words are included.
    #[error("{program} {what}; the end of its log:\n{log}")]
    Start {
        /// The program.
        program: String,
        /// "exited with ...", "did not answer PING within ...".
        what: String,
        /// The last lines it printed.
        log: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A server answered a command with an error, or with something that is not an answer.
    #[error("{command}: {reply}")]
    Reply {
        /// The command.
        command: String,
        /// What came back.
        reply: String,
    },
    /// Replicas that were not in sync when the time was up.
    #[error("{waiting} of {replicas} replicas not in sync after {seconds} s (--timeout)")]
    Timeout {
        /// How many were still waiting.
        waiting: usize,
        /// Of how many.
        replicas: usize,
        /// The limit.
        seconds: u64,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Usage(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Says what was being done when the system refused.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
